//! Runs the scenarios of a case, several at a time, each on a runtime of its own: when a run is over, whatever is left of
//! its coordinators is gone with it.

use crate::{
    backend::Backend,
    case::{Case, World},
    conductor::{Outcome, Run},
    judge::Reference,
    matrix::{Base, Depth, Matrix},
    report::{Finding, REPLAY_VARIABLE, Report},
    scenario::Scenario,
};
use ids::SagaId;
use std::{
    collections::BTreeSet,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};
use uuid::Uuid;

/// Virtual time without an event after which a run is said to hang. Pauses are zero; signals are looked for each 200 ms,
/// timers may take minutes.
const STILL_VIRTUAL: Duration = Duration::from_secs(3_600);
/// Real time of a run at most, where time is real: thousands of times what one takes.
const RUN_REAL_MAX: Duration = Duration::from_secs(60);
/// Ids of a run: as many sagas as it may ever have.
const IDS_OF_A_RUN: u64 = 1 << 16;

/// Runs of a scenario that is replayed and finds nothing. Which of several nodes side by side goes first is steno's
/// choice, by chance in a few cases.
const REPLAYS: u32 = 20;

struct Prover<'p, W: World> {
    case: &'p Case<W>,
    backend: &'p dyn Backend,
    /// Upper half of all saga ids of this proof; 0 where runs share nothing.
    nonce: u64,
    reference: Option<Reference>,
    done: BTreeSet<Scenario>,
    report: Report,
    /// Whether the first finding is enough.
    first_only: bool,
}

/// Proves a case: runs every scenario of that depth, or the one that [`REPLAY_VARIABLE`] names.
///
/// # Panics
/// The variable names no scenario, or no runtime can be made.
pub fn prove<W: World>(case: &Case<W>, backend: &dyn Backend, depth: Depth) -> Report {
    let name = case.full_name();
    let replay = std::env::var(REPLAY_VARIABLE)
        .ok()
        .map(|line| line.parse::<Scenario>().unwrap_or_else(|error| panic!("{REPLAY_VARIABLE}: {error}")));
    let begun = Instant::now();
    let mut prover = Prover::new(case, backend, replay.is_some());
    match replay {
        Some(scenario) if scenario.case == name => prover.replay(&scenario),
        Some(_) => {}
        None => prover.everything(&Matrix::of(case, &name, depth)),
    }
    prover.report.seconds = begun.elapsed().as_secs_f64();
    prover.report
}

/// Runs scenarios until one finds something, simple ones first.
///
/// # Panics
/// No runtime can be made.
pub fn find_first<W: World>(case: &Case<W>, backend: &dyn Backend, depth: Depth) -> Option<Finding> {
    let mut prover = Prover::new(case, backend, false);
    prover.first_only = true;
    prover.everything(&Matrix::of(case, &case.full_name(), depth));
    prover.report.findings.into_iter().next()
}

/// Runs one scenario, with the one without incidents before it.
///
/// # Panics
/// The line names no scenario of this case.
pub fn prove_only<W: World>(case: &Case<W>, backend: &dyn Backend, line: &str) -> Report {
    let scenario: Scenario = line.parse().expect("the line names a scenario");
    assert_eq!(scenario.case, case.full_name(), "the line names a scenario of this case");
    let mut prover = Prover::new(case, backend, true);
    prover.replay(&scenario);
    prover.report
}

impl<'p, W: World> Prover<'p, W> {
    fn new(case: &'p Case<W>, backend: &'p dyn Backend, is_replay: bool) -> Prover<'p, W> {
        let report = Report {
            case: case.full_name(),
            kind: case.kind.to_owned(),
            version: case.version,
            backend: backend.name().to_owned(),
            scenarios: 0,
            executions: 0,
            writes: 0,
            seconds: 0.0,
            executed: BTreeSet::new(),
            findings: Vec::new(),
            is_replay,
        };
        let nonce = if backend.is_within_the_run() { 0 } else { Uuid::new_v4().as_u64_pair().0 };
        Prover { case, backend, nonce, reference: None, done: BTreeSet::new(), report, first_only: false }
    }

    fn everything(&mut self, matrix: &Matrix<'_>) {
        let Some(nothing) = self.undisturbed(matrix.nothing()) else { return };
        self.run(&matrix.first(&nothing.observed));
        let bases = matrix.bases(&nothing.observed);
        let unwinding: Vec<_> = bases.iter().map(|base| base.scenario.clone()).collect();
        let outcomes = self.run(&unwinding);
        if self.is_enough() {
            return;
        }
        let last = bases.iter().rposition(|base| base.is_full);
        let mut next = Vec::new();
        for (number, (base, outcome)) in bases.iter().zip(&outcomes).enumerate() {
            next.extend(matrix.of_base(base, Some(number) == last, &outcome.observed));
        }
        self.run(&next);
        self.die_twice(matrix, &matrix.nothing(), &nothing);
        if let Some(last) = last {
            let Base { scenario, .. } = &bases[last];
            self.die_twice(matrix, scenario, &outcomes[last]);
        }
    }

    fn is_enough(&self) -> bool {
        self.first_only && !self.report.findings.is_empty()
    }

    fn die_twice(&mut self, matrix: &Matrix<'_>, base: &Scenario, outcome: &Outcome) {
        let once = matrix.deaths(base, &outcome.observed);
        let died = self.run(&once);
        let again =
            once.iter().zip(&died).flat_map(|(once, died)| matrix.second_deaths(once, &died.observed));
        self.run(&again.collect::<Vec<_>>());
    }

    /// Runs one scenario until it finds something, or often enough, and prints its last trace.
    fn replay(&mut self, scenario: &Scenario) {
        let nothing = Scenario { case: scenario.case.clone(), incidents: Vec::new() };
        if self.undisturbed(nothing).is_none() {
            return;
        }
        for run in 1..=REPLAYS {
            let outcome = self.run_kept(std::slice::from_ref(scenario), true).pop();
            let outcome = outcome.filter(|outcome| outcome.found.is_some() || run == REPLAYS);
            let Some(outcome) = outcome else { continue };
            println!("{scenario}");
            outcome.trace.iter().for_each(|line| println!("  {line}"));
            return;
        }
    }

    /// The run without incidents; none if something is wrong with it, because then everything is.
    fn undisturbed(&mut self, nothing: Scenario) -> Option<Outcome> {
        let outcome = self.run(&[nothing]).pop()?;
        let mut reference = outcome.reference.clone();
        let attempts = |called: &crate::stage::Called| (called.call.clone(), called.attempts_max);
        reference.attempts = outcome.observed.calls.iter().map(attempts).collect();
        self.reference = Some(reference);
        self.report.findings.is_empty().then_some(outcome)
    }

    /// The outcomes, in the order of the scenarios.
    fn run(&mut self, scenarios: &[Scenario]) -> Vec<Outcome> {
        self.run_kept(scenarios, false)
    }

    /// `keep`: the traces also of runs in which nothing was found.
    fn run_kept(&mut self, scenarios: &[Scenario], keep: bool) -> Vec<Outcome> {
        let next = AtomicUsize::new(0);
        let enough = AtomicBool::new(self.is_enough());
        let outcomes = Mutex::new(Vec::new());
        let threads = self.backend.runs_at_a_time().clamp(1, scenarios.len().max(1));
        thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        let Some(scenario) = scenarios.get(number) else { return };
                        if self.first_only && enough.load(Ordering::Relaxed) {
                            return;
                        }
                        let outcome = self.run_one(scenario, keep);
                        enough.fetch_or(outcome.found.is_some(), Ordering::Relaxed);
                        outcomes.lock().unwrap_or_else(PoisonError::into_inner).push((number, outcome));
                    }
                });
            }
        });
        let mut outcomes = outcomes.into_inner().unwrap_or_else(PoisonError::into_inner);
        outcomes.sort_by_key(|(number, _)| *number);
        let outcomes: Vec<_> = outcomes.into_iter().map(|(_, outcome)| outcome).collect();
        for (scenario, outcome) in scenarios.iter().zip(&outcomes) {
            self.account(scenario, outcome);
        }
        outcomes
    }

    fn account(&mut self, scenario: &Scenario, outcome: &Outcome) {
        let report = &mut self.report;
        // The same may be asked for in two ways, and a replay asks for it again and again.
        if self.done.insert(scenario.clone()) {
            report.scenarios += 1;
        } else if !report.is_replay {
            return;
        }
        report.executions += outcome.observed.executions;
        report.writes += outcome.observed.writes_in_all;
        report.executed.extend(outcome.observed.executed.iter().cloned());
        if let Some(words) = &outcome.found {
            let (words, trace) = (words.clone(), outcome.trace.clone());
            report.findings.push(Finding { scenario: scenario.to_string(), words, trace });
        }
    }

    fn run_one(&self, scenario: &Scenario, keep: bool) -> Outcome {
        /// Where runs share a store, no two have one saga.
        static RUNS: AtomicU64 = AtomicU64::new(0);
        let within = self.backend.is_within_the_run();
        let run = if within { 0 } else { RUNS.fetch_add(1, Ordering::Relaxed) };
        let low = run.wrapping_mul(IDS_OF_A_RUN) + 1;
        let session = self.backend.session();
        let run = Run {
            case: self.case,
            scenario,
            session: &*session,
            reference: self.reference.as_ref(),
            saga: SagaId(Uuid::from_u64_pair(self.nonce, low)),
            time_limit: if within { STILL_VIRTUAL } else { RUN_REAL_MAX },
            keep,
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(within)
            .build()
            .expect("a runtime without I/O is made of memory alone");
        runtime.block_on(run.conduct())
    }
}
