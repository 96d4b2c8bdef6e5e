//! A kind that keeps the rules passes everything; the harness is deterministic; a line replays its run.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod yard;

use nexus_saga_harness::{Depth, Memory, prove};
use yard::{Bug, house};

#[test]
fn a_kind_that_keeps_the_rules_passes_everything() {
    let report = prove(&house(Bug::None), &Memory, Depth::Full);
    println!("{report}");
    report.assert_proven();
}
