//! Random schedules of the [`World`], and what must come out of them: the four rules of the replication, that it ends,
//! and how often the coordinator sends.

use crate::{
    replay,
    world::{REPOSITORIES, SLEDS_MAX, World},
};
use proptest::{
    collection::vec,
    prelude::{Strategy, any, prop_oneof},
    sample::Index,
};

/// What can happen next. Indexes choose among what there is at that moment; an event that is not possible then does
/// nothing, so that any part of a schedule is a schedule, and a failing one can shrink.
#[derive(Clone, Debug)]
enum Event {
    AddRepository(Index),
    DeleteRepository(Index),
    AddSled,
    BeginPass,
    Ask(Index),
    EndPass,
    Finish(Index),
    SledDeletes(Index),
    // Faults.
    Fail(Index),
    Lag(Index),
    SledAway(Index),
    SledBack(Index),
    DatasetsFail(Index),
    LoseCopy(Index, u8),
    OtherCoordinatorConfigures(Index),
    RestartCoordinator,
    BackOffEnds,
}

fn index() -> impl Strategy<Value = Index> {
    any::<Index>()
}

fn growth() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => index().prop_map(Event::AddRepository),
        1 => proptest::strategy::Just(Event::AddSled),
        4 => proptest::strategy::Just(Event::BeginPass),
        4 => index().prop_map(Event::Ask),
        4 => proptest::strategy::Just(Event::EndPass),
        12 => index().prop_map(Event::Finish),
        3 => index().prop_map(Event::SledDeletes),
    ]
}

fn growth_and_deletes() -> impl Strategy<Value = Event> {
    prop_oneof![9 => growth(), 1 => index().prop_map(Event::DeleteRepository)]
}

fn anything() -> impl Strategy<Value = Event> {
    prop_oneof![
        28 => growth_and_deletes(),
        3 => index().prop_map(Event::Fail),
        1 => index().prop_map(Event::Lag),
        3 => index().prop_map(Event::SledAway),
        3 => index().prop_map(Event::SledBack),
        1 => index().prop_map(Event::DatasetsFail),
        2 => (index(), 0..6_u8).prop_map(|(sled, artifact)| Event::LoseCopy(sled, artifact)),
        3 => index().prop_map(Event::OtherCoordinatorConfigures),
        1 => proptest::strategy::Just(Event::RestartCoordinator),
        2 => proptest::strategy::Just(Event::BackOffEnds),
    ]
}

fn apply(world: &mut World, event: &Event) -> Result<(), String> {
    let sled = |index: &Index| index.index(world.sleds.len());
    let repository = |index: &Index| index.index(REPOSITORIES.len());
    match event {
        Event::AddRepository(which) => world.add_repository(repository(which)),
        Event::DeleteRepository(which) => world.delete_repository(repository(which)),
        Event::AddSled => world.add_sled(),
        Event::BeginPass => world.begin_pass(),
        Event::Ask(which) => world.ask(sled(which))?,
        Event::EndPass => world.end_pass()?,
        Event::Finish(_) | Event::Fail(_) | Event::Lag(_) if world.flights.is_empty() => {}
        Event::Finish(which) => world.finish(which.index(world.flights.len()), true)?,
        Event::Fail(which) => world.finish(which.index(world.flights.len()), false)?,
        Event::Lag(which) => world.lag(which.index(world.flights.len())),
        Event::SledDeletes(which) => world.sled_deletes(sled(which))?,
        Event::SledAway(which) => world.sled_goes_away(sled(which)),
        Event::SledBack(which) => {
            let sled = sled(which);
            world.sleds[sled].up = true;
            world.sleds[sled].writable = true;
        }
        Event::DatasetsFail(which) => {
            let sled = sled(which);
            world.sleds[sled].writable = false;
        }
        Event::LoseCopy(which, artifact) => world.lose_copy(sled(which), *artifact),
        Event::OtherCoordinatorConfigures(which) => world.other_coordinator_configures(sled(which)),
        Event::RestartCoordinator => world.restart(),
        Event::BackOffEnds => world.back_off_ends(),
    }
    world.check()
}

/// Faults stop; passes, transfers and deletes go on. Each round but the last few must bring at least one artifact to
/// one sled, so there is a bound.
fn settle(world: &mut World) -> Result<(), String> {
    for sled in &mut world.sleds {
        sled.up = true;
        sled.writable = true;
    }
    // One round ends what was in flight, one learns that it failed, one deletes, one looks.
    let rounds = world.sleds.len() * world.wanted().len() + 4;
    for _ in 0..rounds {
        if is_settled(world) {
            return is_idle(world);
        }
        world.back_off_ends();
        world.begin_pass();
        world.end_pass()?;
        while !world.flights.is_empty() {
            world.finish(0, true)?;
        }
        for sled in 0..world.sleds.len() {
            world.sled_deletes(sled)?;
        }
        world.check()?;
    }
    Err(format!("not settled after {rounds} rounds: {world:#?}"))
}

fn is_settled(world: &World) -> bool {
    let has_seen = world.last_plan.as_ref().is_some_and(|plan| plan.summary.fully_replicated);
    world.has_converged() && has_seen
}

/// With all well, a further pass does nothing, and staging is empty if there are sleds enough.
fn is_idle(world: &mut World) -> Result<(), String> {
    let before = world.sleds.iter().map(|sled| sled.files.clone()).collect::<Vec<_>>();
    // One pass may still be half-way, with an old view.
    for _ in 0..2 {
        world.begin_pass();
        world.end_pass()?;
    }
    let Some(plan) = &world.last_plan else { return Err("a pass leaves its plan".to_owned()) };
    let same = world.sleds.iter().map(|sled| &sled.files).eq(&before);
    let released = world.staged.is_empty() || world.sleds.len() < world.min_replication();
    if plan.start.is_empty() && plan.summary.fully_replicated && same && released {
        Ok(())
    } else {
        Err(format!("not idle with all well: {:?}, still staged: {:?}", plan.summary, world.staged))
    }
}

fn run(sleds: usize, min_replication: u32, events: &[Event]) -> Result<World, String> {
    let mut world = World::new(sleds, min_replication);
    for event in events {
        apply(&mut world, event)?;
    }
    Ok(world)
}

fn cluster() -> impl Strategy<Value = (usize, u32)> {
    (1..SLEDS_MAX, 1..4_u32)
}

#[test]
fn four_rules_hold_under_any_faults() {
    let schedules = (cluster(), vec(anything(), 0..120));
    replay::for_all("four_rules_hold_under_any_faults", &schedules, |((sleds, min_replication), events)| {
        let mut world = run(sleds, min_replication, &events)?;
        settle(&mut world)
    });
}

#[test]
fn without_faults_the_coordinator_sends_each_artifact_exactly_once() {
    let name = "without_faults_the_coordinator_sends_each_artifact_exactly_once";
    let schedules = (cluster(), vec(growth(), 0..120));
    replay::for_all(name, &schedules, |((sleds, min_replication), events)| {
        let mut world = run(sleds, min_replication, &events)?;
        settle(&mut world)?;
        let sent: Vec<usize> =
            world.wanted().iter().map(|hash| world.puts.get(hash).copied().unwrap_or(0)).collect();
        if sent.iter().all(|puts| *puts == 1) { Ok(()) } else { Err(format!("sent {:?}", world.puts)) }
    });
}

#[test]
fn with_deletes_the_coordinator_sends_each_artifact_at_most_min_replication_times() {
    let name = "with_deletes_the_coordinator_sends_each_artifact_at_most_min_replication_times";
    let schedules = (cluster(), vec(growth_and_deletes(), 0..120));
    replay::for_all(name, &schedules, |((sleds, min_replication), events)| {
        let mut world = run(sleds, min_replication, &events)?;
        settle(&mut world)?;
        let most = world.puts.values().max().copied().unwrap_or(0);
        if most <= world.min_replication() { Ok(()) } else { Err(format!("sent {:?}", world.puts)) }
    });
}

#[test]
fn deleted_repository_leaves_every_sled_and_shared_artifacts_stay() {
    let schedules = (cluster(), vec(anything(), 0..60), index());
    replay::for_all(
        "deleted_repository_leaves_every_sled_and_shared_artifacts_stay",
        &schedules,
        |((sleds, min_replication), events, which)| {
            let mut world = run(sleds, min_replication, &events)?;
            settle(&mut world)?;
            world.delete_repository(which.index(REPOSITORIES.len()));
            settle(&mut world)?;
            for repository in 0..REPOSITORIES.len() {
                world.delete_repository(repository);
            }
            settle(&mut world)?;
            // And what no repository references is not fetched again.
            let left: usize = world.sleds.iter().map(|sled| sled.files.len()).sum();
            if left == 0 { Ok(()) } else { Err(format!("{left} files are left")) }
        },
    );
}
