//! Runs a random test from a seed that a failure prints. The seed is fresh in every run, or `PROPTEST_RNG_SEED`;
//! `PROPTEST_CASES` sets how many cases.

use proptest::{
    strategy::Strategy,
    test_runner::{Config, RngSeed, TestCaseError, TestError, TestRunner},
};
use std::fmt::Debug;
use uuid::Uuid;

/// Cases per test: seconds in a developer build. A long run is `PROPTEST_CASES=100000 cargo test --release`.
const CASES: u32 = 256;

pub(crate) fn for_all<S: Strategy>(name: &str, inputs: &S, law: impl Fn(S::Value) -> Result<(), String>)
where
    S::Value: Debug,
{
    let default = Config::default();
    let seed = match default.rng_seed {
        RngSeed::Fixed(seed) => seed,
        RngSeed::Random => Uuid::new_v4().as_u64_pair().0,
    };
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { default.cases } else { CASES };
    let config = Config {
        rng_seed: RngSeed::Fixed(seed),
        cases,
        max_shrink_iters: 20_000,
        failure_persistence: None,
        ..default
    };
    let outcome = TestRunner::new(config).run(inputs, |input| law(input).map_err(TestCaseError::fail));
    match outcome {
        Ok(()) => {}
        Err(TestError::Fail(why, input)) => panic!(
            "{why}\nsmallest input that fails: {input:#?}\nreplay: PROPTEST_RNG_SEED={seed} PROPTEST_CASES={cases} \
             cargo test -p nexus-replication --test planner {name}"
        ),
        Err(TestError::Abort(why)) => panic!("{name} was given up: {why}"),
    }
}
