//! A kind that keeps the rules passes everything; a line replays its run; what is not covered is named.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod yard;

use nexus_saga_harness::{Depth, Memory, REPLAY_VARIABLE, coverage, prove, prove_only};
use nexus_sagas::{Actions, Kinds, Plan, PlanRefused, SagaKind};
use std::{collections::BTreeSet, sync::Arc};
use yard::{Bug, Crew, House, house};

/// Registered, and nobody has proven it.
struct Forgotten;

impl SagaKind for Forgotten {
    const NAME: &'static str = "forgotten";
    const VERSION: u32 = 1;
    type Params = ();
    type Tools = ();

    fn actions(actions: &mut Actions<Forgotten>) {
        actions.add("nothing", async |_| Ok(()));
    }

    fn plan((): &(), plan: &mut Plan) -> Result<(), PlanRefused> {
        plan.node("one", "nothing");
        Ok(())
    }
}

#[test]
fn a_kind_that_keeps_the_rules_passes_everything() {
    let report = prove(&house(Bug::None), &Memory, Depth::Full);
    println!("{report}");
    report.assert_proven();
    if report.is_replay {
        return;
    }
    assert!(report.scenarios > 1_500, "{report}");
    // An action that only a bug uses is named, and so is its kind's neighbour without a case.
    let mut kinds = Kinds::new();
    kinds.add::<House>(Arc::<Crew>::default()).unwrap().add::<Forgotten>(Arc::new(())).unwrap();
    let uncovered = coverage(&kinds, std::slice::from_ref(&report)).unwrap_err();
    assert_eq!(
        uncovered.missing,
        [
            "  kind forgotten version 1 has no case: add one, see docs/SAGAS.md",
            "  kind house: no case has run the action build_for_good",
        ]
    );
    let mut older = report;
    older.version -= 1;
    let uncovered = coverage(&kinds, &[older]).unwrap_err();
    assert_eq!(uncovered.missing[1], "  kind house version 3 has no case: add one, see docs/SAGAS.md");
}

#[test]
fn a_line_replays_its_run_to_the_letter() {
    let lines = [
        "house/undonotidempotent: told do:done unknown_after always + store failed:done die_after @1",
        "house/undonotidempotent: told do:east unknown_before always + run adopt at undo_started:west @1",
        "house/undonotidempotent: told do:west unknown_before always + run same_again at failed:west @1",
    ];
    for line in lines {
        let traces: BTreeSet<_> = (0..40)
            .map(|_| {
                let report = prove_only(&house(Bug::UndoNotIdempotent), &Memory, line);
                report.findings.into_iter().map(|finding| finding.trace).collect::<Vec<_>>()
            })
            .collect();
        assert_eq!(traces.len(), 1, "{traces:#?}");
    }
}

#[test]
fn a_finding_tells_what_was_found_and_how_to_see_it_again() {
    let line = "house/effectwithoutkey: told do:east twice 1";
    let report = prove_only(&house(Bug::EffectWithoutKey), &Memory, line);
    let account = report.account();
    for part in [
        "house/effectwithoutkey version 3 on memory: 2 scenarios",
        "found:    the effect of east of saga 1 is there 2 times (before started:roof)",
        "scenario: house/effectwithoutkey: told do:east twice 1\n",
        "\n  life 1  saga 1  do:east (attempt 1): done\n",
        "\n  FOUND: the effect of east of saga 1 is there 2 times",
        "replay:   BOBSLED_SAGA_REPLAY='house/effectwithoutkey: told do:east twice 1' cargo test",
    ] {
        assert!(account.contains(part), "{part:?} is not in:\n{account}");
    }
}

#[test]
fn an_operation_that_does_not_end_while_the_saga_is_held_is_found_at_once() {
    let stuck =
        nexus_saga_harness::Operation::new("wait_for_the_saga", async |gap: nexus_saga_harness::Gap<_>| {
            drop(gap.engine().wait(gap.saga()).await);
            Ok(())
        });
    let case = house(Bug::None).operation(stuck);
    let report = prove_only(&case, &Memory, "house/none: run wait_for_the_saga at started:roof @1");
    assert!(report.findings[0].words.starts_with("nothing moves any more; life 1"), "{}", report.account());
}

#[test]
fn the_variable_of_a_trace_runs_that_scenario_alone_and_shows_it() {
    let replay = |line: &str| {
        let this = std::env::current_exe().unwrap();
        let test = ["a_kind_that_keeps_the_rules_passes_everything", "--exact", "--nocapture"];
        let output = std::process::Command::new(this).args(test).env(REPLAY_VARIABLE, line).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let shown = replay("house/none: told do:roof refused always + run cancel at undo_started:west @1");
    assert!(shown.contains("held at undo_started:west: cancel\n"), "{shown}");
    assert!(shown.contains("house/none version 3 on memory: 2 scenarios"), "{shown}");
    let another = replay("house/another: nothing");
    assert!(another.contains("house/none version 3 on memory: 0 scenarios"), "{another}");
    assert!(replay("house/none: what").contains("FAILED"), "a line that names nothing is refused");
}
