//! What a plan is made into, and which plans are refused before steno sees them.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use nexus_saga_recovery::Claims;
use nexus_sagas::{
    Actions, DefinitionError, Engine, Kinds, Plan, PlanRefused, RegisterError, SagaKind, StartError,
    testing::Disk,
};
use std::sync::Arc;

/// Plans by number.
struct Odd;

impl SagaKind for Odd {
    const NAME: &'static str = "odd";
    const VERSION: u32 = 7;
    type Params = u32;
    type Tools = ();

    fn actions(actions: &mut Actions<Odd>) {
        actions.add("work", async |_| Ok(()));
    }

    fn plan(number: &u32, plan: &mut Plan) -> Result<(), PlanRefused> {
        match number {
            0 => {
                plan.node("first", "work");
                plan.constant("known", 5.into());
                plan.side_by_side(|stage| {
                    stage.node("left", "work");
                    stage.sub_saga("right", "first", |plan| plan.node("one", "work"));
                });
                plan.node("last", "work");
            }
            1 => plan.node("one", "play"),
            2 => {
                plan.node("one", "work");
                plan.node("one", "work");
            }
            3 => plan.side_by_side(|_| {}),
            4 => plan.side_by_side(|stage| {
                stage.node("one", "work");
                stage.node("two", "work");
            }),
            5 => plan.sub_saga("one", "nobody", |plan| plan.node("two", "work")),
            6 => (0..401).for_each(|node| plan.node(format!("n{node}"), "work")),
            7 => {
                for number in 0..7 {
                    plan.side_by_side(|stage| {
                        (0..4).for_each(|node| stage.node(format!("{number}-{node}"), "work"));
                    });
                    plan.node(format!("join-{number}"), "work");
                }
                plan.node("last", "work");
            }
            8 => {
                plan.node("start", "work");
                for number in 0..12 {
                    plan.sub_saga(format!("stage-{number}"), "start", |plan| {
                        plan.side_by_side(|stage| {
                            (0..4).for_each(|node| stage.node(format!("n{node}"), "work"));
                        });
                        plan.node("join", "work");
                    });
                }
                plan.node("last", "work");
            }
            9 => plan.node("a/b", "work"),
            _ => return Err(PlanRefused { words: "too odd".to_owned() }),
        }
        Ok(())
    }
}

async fn start(number: u32) -> Result<(String, String), DefinitionError> {
    let disk = Disk::new();
    let mut kinds = Kinds::new();
    kinds.add::<Odd>(Arc::new(())).unwrap();
    let shape = kinds.define("odd", &number.into()).map(|definition| definition.shape().to_owned());
    let engine = Engine::new(disk.store(), Claims::new(), kinds);
    match engine.start::<Odd>(&number).await {
        Ok(id) => {
            engine.wait(id).await.unwrap().unwrap();
            Ok((shape.unwrap(), disk.saga(id).unwrap().row.digest))
        }
        Err(StartError::Definition { source, .. }) => {
            assert_eq!(disk.ids().len(), 0, "nothing was created");
            assert_eq!(shape, Err(source.clone()));
            Err(source)
        }
        Err(other) => panic!("{other}"),
    }
}

#[tokio::test]
async fn the_digest_of_a_shape_stays_what_it_is() {
    let (shape, digest) = start(0).await.unwrap();
    assert_eq!(
        shape,
        "saga odd version 7\n\
         first stage 0 action work\n\
         known stage 1 constant\n\
         left stage 2 action work\n\
         right stage 2 sub-saga of first\n\
         right/one stage 0 action work\n\
         last stage 3 action work\n"
    );
    // Of rows in databases: a change of it makes sagas of earlier builds unrecoverable.
    assert_eq!(digest, "0f207e80d2c30b784e250d41c0c148c9502c64479cc274e8a4ed536b0ebc740d");
}

#[tokio::test]
async fn plans_that_steno_would_stumble_over_are_refused_with_the_reason() {
    let said = |error: Result<_, DefinitionError>| error.unwrap_err().to_string();
    assert_eq!(said(start(1).await), r#"node one is to do "play", which is no action of its kind"#);
    assert_eq!(said(start(2).await), "there are two nodes one");
    assert_eq!(said(start(3).await), "a stage of the saga has no nodes");
    assert!(said(start(4).await).starts_with("the saga ends in 2 nodes side by side"));
    assert!(said(start(5).await).contains(r#"are to come from "nobody", which is no node before it"#));
    assert_eq!(said(start(6).await), "401 nodes are too many: 400 at most");
    assert!(said(start(7).await).starts_with("the saga has 16384 ways through its parallel stages"));
    assert_eq!(said(start(9).await), r#""a/b" cannot be the name of a node"#);
    assert!(matches!(start(10).await, Err(DefinitionError::Refused { .. })));
}

#[tokio::test]
async fn wide_stages_within_sub_sagas_are_cheap_and_allowed() {
    start(8).await.unwrap();
}

#[test]
fn a_kind_is_registered_once() {
    let mut kinds = Kinds::new();
    kinds.add::<Odd>(Arc::new(())).unwrap();
    let again = kinds.add::<Odd>(Arc::new(())).map(|_| ());
    assert_eq!(again, Err(RegisterError::DuplicateKind { name: "odd" }));
}
