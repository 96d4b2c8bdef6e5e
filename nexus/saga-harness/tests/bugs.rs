//! Each planted bug is found, and by the scenario that is there for it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod yard;

use nexus_saga_harness::{Depth, Memory, find_first, prove_only};
use yard::{Bug, house};

/// The kind with a bug is found: first by that scenario, in these words, and by each of the others.
fn found_by(bug: Bug, first: &str, words: &str, also: &[&str]) {
    let case = house(bug);
    let name = format!("house/{}", format!("{bug:?}").to_lowercase());
    let finding = find_first(&case, &Memory, Depth::Full).unwrap_or_else(|| panic!("{bug:?} is not found"));
    assert_eq!(finding.scenario, format!("{name}: {first}"), "{finding}");
    assert!(finding.words.contains(words), "{finding}");
    for line in also {
        let report = prove_only(&case, &Memory, &format!("{name}: {line}"));
        assert_eq!(report.findings.len(), 1, "{line} finds nothing");
    }
}

#[test]
fn an_undo_that_is_not_idempotent_is_found_by_running_it_twice() {
    found_by(
        Bug::UndoNotIdempotent,
        "told do:east unknown_before always",
        "is there -1 times",
        &["told do:done unknown_after always + told undo:east twice 1"],
    );
}

#[test]
fn an_effect_without_its_key_is_found_by_running_the_action_twice() {
    found_by(
        Bug::EffectWithoutKey,
        "told do:east unknown_after always",
        "is there 3 times",
        &["told do:east twice 1"],
    );
}

#[test]
fn an_undo_that_relies_on_the_output_of_its_own_node_is_found_where_there_is_none() {
    found_by(
        Bug::UndoReliesOnOutput,
        "told do:east unknown_before always",
        "needs attention",
        &["told do:east unknown_before always"],
    );
}

#[test]
fn an_undo_that_takes_a_missing_output_for_a_missing_effect_is_found_by_a_lost_answer() {
    found_by(
        Bug::DoubtIsTakenForNothing,
        "told do:east unknown_after always",
        "is there",
        &["told do:east unknown_after always"],
    );
}

#[test]
fn a_forgotten_undo_is_found_by_any_later_failure() {
    found_by(
        Bug::ForgottenUndo,
        "told do:east unknown_after always",
        "is there",
        &["told do:done refused always"],
    );
}

#[test]
fn nodes_side_by_side_that_need_an_order_are_found_by_a_failure_of_the_one_that_is_needed() {
    found_by(
        Bug::WrongOrder,
        "told do:west refused always",
        "a roof without walls",
        &["told do:west transient 1"],
    );
}

#[test]
fn an_action_that_does_not_tell_its_adoption_is_found_by_an_executor_that_was_fenced_meanwhile() {
    found_by(
        Bug::ExecutesAfterFence,
        "run adopt at do:roof @1 + told do:roof refused always @2",
        "the executor that was fenced has changed effects",
        &[],
    );
}

#[test]
fn a_plan_that_depends_on_the_time_is_found_by_any_recovery() {
    found_by(Bug::TimeDependentPlan, "store created die_after @1", "this build makes", &[]);
}

#[test]
fn an_undo_that_relies_on_the_memory_of_its_process_is_found_by_a_death_before_it() {
    found_by(
        Bug::RemembersInMemory,
        "run cancel at started:west @1 + store started:west die_after @1",
        "is there",
        &["told do:done unknown_after always + store undo_started:paid die_after @1"],
    );
}

#[test]
fn an_undo_that_minds_a_deletion_is_found_by_an_operation_while_it_unwinds() {
    found_by(
        Bug::MindsDeletion,
        "told do:east unknown_before always",
        "needs attention",
        &["told do:done unknown_after always + run demolish_east at undo_started:east @1"],
    );
}

#[test]
fn sagas_that_share_a_name_are_found_by_the_same_saga_run_in_between() {
    found_by(
        Bug::SharedName,
        "run same_again at started:draft @1",
        "effects are missing",
        &["run same_again at started:roof @1"],
    );
}

#[test]
fn an_action_that_takes_its_own_effect_for_anothers_is_found_by_a_lost_answer() {
    found_by(
        Bug::RefusesWhatIsThere,
        "told do:east unknown_after 1",
        "does not end as its nodes were told",
        &["told do:east twice 1"],
    );
}

#[test]
fn an_undo_that_never_succeeds_is_found_as_soon_as_it_is_needed() {
    found_by(
        Bug::UndoNeverSucceeds,
        "told do:garden/gate unknown_before always",
        "needs attention",
        &["told do:done refused always"],
    );
}
