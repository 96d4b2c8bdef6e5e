//! Every reachable state of this crate's code together with a model of one saga, its row, its creator, a recovery task
//! and a second coordinator that may adopt the row and hand it back. Nothing is copied: the claims, the window and the
//! plan are the real ones, and only what is outside of them is modelled.
//!
//! A state is reached by running the steps that lead to it from the start, so nothing needs to be cloned; states that
//! look alike are visited once.

mod world;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use world::{Step, View, World};

/// All states that can be reached, each with the steps that lead to it first and the states that follow.
struct Explored {
    paths: BTreeMap<View, Vec<Step>>,
    next: BTreeMap<View, BTreeSet<View>>,
}

/// Walks through every state; the first that breaks a rule ends it, with the steps that lead there.
fn explore(make: impl Fn() -> World) -> Result<Explored, (String, Vec<Step>)> {
    let run = |steps: &[Step]| {
        let mut world = make();
        world.take_all(steps);
        world
    };
    let start = run(&[]).view();
    let mut explored =
        Explored { paths: BTreeMap::from([(start.clone(), Vec::new())]), next: BTreeMap::new() };
    let mut unvisited = VecDeque::from([start]);
    while let Some(view) = unvisited.pop_front() {
        let path = explored.paths[&view].clone();
        for step in run(&path).possible() {
            let steps: Vec<Step> = path.iter().copied().chain([step]).collect();
            let world = run(&steps);
            if let Some(broken) = world.broken_rule() {
                return Err((broken, steps));
            }
            let reached = world.view();
            explored.next.entry(view.clone()).or_default().insert(reached.clone());
            if !explored.paths.contains_key(&reached) {
                explored.paths.insert(reached.clone(), steps);
                unvisited.push_back(reached);
            }
        }
    }
    Ok(explored)
}

#[test]
fn no_saga_is_ever_executed_twice_or_after_its_end_and_the_totals_always_add_up() {
    let explored = explore(World::new).unwrap_or_else(|(broken, steps)| panic!("{broken}: {steps:?}"));
    assert!(explored.paths.len() > 400, "only {} states: the model has lost something", explored.paths.len());
}

#[test]
fn no_unfinished_saga_can_get_stuck() {
    let explored = explore(World::new).unwrap_or_else(|(broken, steps)| panic!("{broken}: {steps:?}"));
    // Backwards from where the row has ended or never came to be.
    let mut before: BTreeMap<&View, Vec<&View>> = BTreeMap::new();
    for (view, followers) in &explored.next {
        followers.iter().for_each(|follower| before.entry(follower).or_default().push(view));
    }
    let mut fine: BTreeSet<&View> = explored.paths.keys().filter(|view| view.is_settled()).collect();
    let mut unvisited: Vec<&View> = fine.iter().copied().collect();
    while let Some(view) = unvisited.pop() {
        for &earlier in before.get(view).into_iter().flatten() {
            if fine.insert(earlier) {
                unvisited.push(earlier);
            }
        }
    }
    let stuck = explored.paths.iter().find(|(view, _)| !fine.contains(view));
    assert!(stuck.is_none(), "nothing leads on from {stuck:?}");
}

#[test]
fn a_pass_that_listed_before_its_window_opened_would_be_caught() {
    let (broken, steps) = explore(World::that_lists_too_early).err().expect("the wrong order breaks a rule");
    assert!(broken.contains("has ended here"), "{broken}: {steps:?}");
}

#[test]
fn a_claim_made_only_after_the_row_would_be_caught() {
    let (broken, steps) = explore(World::that_claims_too_late).err().expect("the wrong order breaks a rule");
    assert!(broken.contains("has ended here"), "{broken}: {steps:?}");
    let mut world = World::that_claims_too_late();
    world.take_all(&[Step::Claim, Step::InsertCommits, Step::Open, Step::List, Step::Plan]);
    world.take_all(&[Step::Adopt, Step::Load, Step::Resume, Step::Start]);
    assert_eq!(world.broken_rule().as_deref(), Some("the saga is executed twice at once"));
}

#[test]
fn a_resumption_without_an_adoption_would_be_caught() {
    let (broken, steps) = explore(World::that_does_not_adopt).err().expect("a late write is not seen");
    assert!(broken.contains("after it was loaded"), "{broken}: {steps:?}");
}

#[test]
fn a_log_that_is_loaded_before_its_adoption_would_be_caught() {
    let (broken, steps) = explore(World::that_loads_too_early).err().expect("a late write is not seen");
    assert!(broken.contains("after it was loaded"), "{broken}: {steps:?}");
}

/// The trace by which a write of a dead life comes too late.
#[test]
fn a_write_of_a_dead_life_comes_before_the_log_is_loaded_or_is_refused() {
    let mut world = World::new();
    world.take_all(&[Step::Claim, Step::InsertCommits, Step::Start, Step::Crash]);
    world.take_all(&[Step::Open, Step::List, Step::Plan, Step::Adopt, Step::Load, Step::Resume]);
    world.take(Step::LateWrite);
    assert_eq!((world.executors(), world.broken_rule()), (1, None));
}

/// The trace by which "missing from two listings, therefore finished" recovers a saga that runs: the INSERT takes longer
/// than two passes.
#[test]
fn an_insert_that_is_slower_than_two_passes_is_no_reason_to_execute_twice() {
    let mut world = World::new();
    world.take(Step::Claim);
    for _ in 0..2 {
        world.take_all(&[Step::Open, Step::List, Step::Plan]);
    }
    world.take(Step::InsertCommits);
    world.take(Step::Start);
    world.take_all(&[Step::Open, Step::List, Step::Plan]);
    assert_eq!(world.broken_rule(), None);
    assert_eq!(world.executors(), 1, "it was recovered while it ran");
}

/// A creator whose INSERT was answered with an error gives up; the row appears all the same.
#[test]
fn a_row_that_appears_after_its_creator_gave_up_is_recovered_once() {
    let mut world = World::new();
    world.take_all(&[Step::Claim, Step::InsertIsAmbiguous, Step::InsertCommitsLate]);
    world.take_all(&[Step::Open, Step::List, Step::Plan, Step::Adopt, Step::Load, Step::Resume]);
    assert_eq!(world.executors(), 1);
    world.take_all(&[Step::Open, Step::List, Step::Plan]);
    assert_eq!((world.executors(), world.broken_rule()), (1, None));
}
