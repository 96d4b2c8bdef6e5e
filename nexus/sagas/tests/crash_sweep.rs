//! Five nodes with a parallel stage and a sub-saga; the coordinator dies before and after each write, in each of several
//! runs, and a new life resumes. Whatever dies when: the saga ends exactly once, and every effect is there or none.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod world;

use nexus_sagas::{
    EndState, SagaStore, StartError,
    testing::{Disk, Incident},
};
use world::{Behaviour, Five, Life, PATHS, World, soon, words};

/// A run that the sweep goes through: what its nodes are told, and how it is to end.
struct Run {
    what: &'static str,
    tell: fn(&World),
    succeeds: bool,
}

const RUNS: [Run; 5] = [
    Run { what: "all succeed", tell: |_| {}, succeeds: true },
    Run {
        what: "the last refuses, in whatever life",
        tell: |world| world.action("last", [Behaviour::Refuse; 9]),
        succeeds: false,
    },
    Run {
        what: "one of the stage leaves an effect that nobody knows of",
        tell: |world| world.action("right", [Behaviour::UnknownAfterEffect; 9]),
        succeeds: false,
    },
    Run {
        what: "the sub-saga fails and undos stumble",
        tell: |world| {
            world.action("inner/two", [Behaviour::PanicAfterEffect; 9]);
            world.undo("left", [Behaviour::Transient, Behaviour::Panic]);
            world.undo("inner/two", [Behaviour::Transient]);
        },
        succeeds: false,
    },
    Run {
        what: "all stumble once",
        tell: |world| PATHS.iter().for_each(|path| world.action(path, [Behaviour::UnknownAfterEffect])),
        succeeds: true,
    },
];

/// Lives, one after the other, until nothing is unfinished. Each dies at its write, if it comes to it.
async fn live_through(run: &Run, scripts: &[(u64, Incident)]) -> (bool, Disk) {
    let (world, disk) = (World::new(), Disk::new());
    (run.tell)(&world);
    let context = format!("{}, incidents {scripts:?}", run.what);
    let mut acknowledged = None;
    let mut died = false;
    for (number, script) in scripts.iter().map(|&script| vec![script]).chain([vec![]]).enumerate() {
        let life = Life::begin(disk.scripted(script), &world);
        let mut living = Box::pin(async {
            if number == 0 {
                acknowledged = life.engine.start::<Five>(&words()).await.ok();
            } else {
                life.recover().await;
            }
            life.idle().await;
        });
        soon(&context, async {
            tokio::select! {
                () = &mut living => {}
                () = life.store.died() => died = true,
            }
        })
        .await;
        drop(living);
        soon(&context, life.engine.die()).await;
    }
    check(run, &world, &disk, acknowledged, &context);
    (died, disk)
}

fn check(run: &Run, world: &World, disk: &Disk, acknowledged: Option<ids::SagaId>, context: &str) {
    assert_eq!(*world.overlaps.lock().unwrap(), [""; 0], "one executor per node: {context}");
    let ids = disk.ids();
    assert!(ids.len() <= 1, "{context}");
    assert!(acknowledged.is_none_or(|id| ids == [id]), "an acknowledged saga is there: {context}");
    let Some(&id) = ids.first() else {
        assert_eq!(world.effects(), [""; 0], "{context}");
        return;
    };
    let end = disk.saga(id).and_then(|saga| saga.end);
    match end {
        Some(EndState::Succeeded { .. }) if run.succeeds => {
            let all: Vec<_> = PATHS.iter().map(|path| format!("{id}/{path}")).collect();
            assert_eq!(world.effects(), all, "{context}");
        }
        Some(EndState::Failed { .. }) if !run.succeeds => {
            assert_eq!(world.effects(), [""; 0], "{context}");
        }
        other => panic!("{context}: ended as {other:?}"),
    }
}

#[tokio::test]
async fn dying_before_or_after_any_write_changes_nothing_but_time() {
    for run in &RUNS {
        for incident in [Incident::DieBefore, Incident::DieAfter] {
            let mut write = 1;
            // Until the first life ends without having come to that write.
            while live_through(run, &[(write, incident)]).await.0 {
                write += 1;
            }
            assert!(write > 8, "{}: {write} writes", run.what);
        }
    }
}

#[tokio::test]
async fn dying_again_while_resuming_changes_nothing_but_time() {
    for run in &RUNS {
        for first in (2..30).step_by(3) {
            for second in 1..8 {
                live_through(run, &[(first, Incident::DieAfter), (second, Incident::DieBefore)]).await;
            }
        }
    }
}

#[tokio::test]
async fn any_write_whose_answer_is_lost_changes_nothing_but_time() {
    for run in &RUNS {
        let undisturbed = log_of(&live_through(run, &[]).await.1);
        for incident in [Incident::NotDone, Incident::UnknownDone, Incident::UnknownNotDone] {
            // The first write's pauses are long, and it has tests of its own.
            for write in 2..32 {
                let (_, disk) = live_through(run, &[(write, incident)]).await;
                assert_eq!(log_of(&disk), undisturbed, "{}: {incident:?} at {write}", run.what);
            }
        }
    }
}

/// What the log says, in no order.
fn log_of(disk: &Disk) -> Vec<(u32, String)> {
    let events = disk.ids().into_iter().filter_map(|id| disk.saga(id)).flat_map(|saga| saga.events);
    let mut log: Vec<_> = events.map(|event| (event.node, event.event)).collect();
    log.sort();
    log
}

#[tokio::test]
async fn a_saga_that_was_never_created_leaves_nothing() {
    let (world, disk) = (World::new(), Disk::new());
    let life = Life::begin(disk.scripted((1..=5).map(|write| (write, Incident::NotDone))), &world);
    let refused = life.engine.start::<Five>(&words()).await;
    assert!(matches!(refused, Err(StartError::NotCreated { .. })), "{refused:?}");
    assert_eq!((disk.ids().len(), life.store.unfinished().await.unwrap().len()), (0, 0));
}
