//! What nobody executes is found and executed, exactly; its report adds up, and it may run at any time.

use crate::scene::Scene;
use nexus_client::{sagas::DemoSaga, tasks::PassOutcome};
use serde_json::Value;
use std::cell::Cell;

pub(crate) fn number(report: &Value, pointer: &str) -> u64 {
    report.pointer(pointer).and_then(Value::as_u64).unwrap_or_else(|| panic!("{pointer} in {report}"))
}

/// Both rules of the report.
pub(crate) fn adds_up(report: &Value) {
    let pass = |name: &str| number(report, &format!("/last_pass/{name}"));
    let decided =
        ["recovered", "failed", "skipped", "deferred", "waiting_for_version", "unreadable"].map(pass);
    assert_eq!(pass("found"), decided.iter().sum::<u64>(), "{report}");
    let total = |name: &str| number(report, &format!("/totals/{name}"));
    let begun = total("started") + total("recovered");
    let left = ["finished", "given_up", "fenced", "running"].map(total);
    assert_eq!(begun, left.iter().sum::<u64>(), "{report}");
    assert_eq!((total("missing"), total("bad_state")), (0, 0), "{report}");
}

#[tokio::test]
pub(crate) async fn the_next_life_recovers_each_unfinished_saga_once_and_counts_it() {
    let scene = Scene::start().await;
    let ended = scene.begin(DemoSaga::default()).await;
    scene.ended(ended).await;
    let mut waiting = Vec::new();
    for _ in 0..5 {
        waiting.push(scene.begin_waiting(DemoSaga::default()).await);
    }
    scene.kill_and_restart().await;
    for id in &waiting {
        scene.waits_for(*id, "the signal proceed").await;
    }
    let report = scene.pass("saga_recovery").await.report;
    adds_up(&report);
    assert_eq!(number(&report, "/totals/recovered"), 5, "{report}");
    assert_eq!(number(&report, "/totals/started"), 0, "{report}");
    assert_eq!(number(&report, "/totals/running"), 5, "{report}");
    assert_eq!(number(&report, "/last_pass/skipped"), 5, "{report}");
    let recent: Vec<&str> = report["recent_recoveries"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|recent| recent.pointer("/saga/id").and_then(Value::as_str))
        .collect();
    let mut wanted: Vec<String> = waiting.iter().map(ToString::to_string).collect();
    wanted.sort();
    let mut recent: Vec<String> = recent.into_iter().map(str::to_owned).collect();
    recent.sort();
    assert_eq!(recent, wanted);
    for id in &waiting {
        scene.proceed(*id).await;
        scene.succeeds_with_every_node_once(*id).await;
    }
    let report = scene.pass("saga_recovery").await.report;
    adds_up(&report);
    assert_eq!(
        (number(&report, "/totals/finished"), number(&report, "/last_pass/found")),
        (5, 0),
        "{report}"
    );
}

#[tokio::test]
pub(crate) async fn activated_again_and_again_while_sagas_run_it_recovers_none() {
    let scene = Scene::start().await;
    let operator = &scene.operator;
    let passes = Cell::new(0);
    let begin = async {
        let clients = (0..4).map(async |_| {
            let mut ids = Vec::new();
            // However fast they are begun, some passes come between.
            while ids.len() < 10 || passes.get() < 4 {
                ids.push(operator.saga_demo(&DemoSaga::default()).await.expect("it is accepted").id);
            }
            ids
        });
        futures::future::join_all(clients).await.concat()
    };
    tokio::pin!(begin);
    let ids = loop {
        tokio::select! {
            ids = &mut begin => break ids,
            pass = scene.pass("saga_recovery") => {
                assert_eq!(pass.outcome, PassOutcome::Succeeded, "{pass:?}");
                adds_up(&pass.report);
                assert_eq!(number(&pass.report, "/totals/recovered"), 0, "{}", pass.report);
                passes.set(passes.get() + 1);
            }
        }
    };
    for id in &ids {
        scene.succeeds_with_every_node_once(*id).await;
    }
    let report = scene.pass("saga_recovery").await.report;
    adds_up(&report);
    let begun = ids.len() as u64;
    assert!(begun >= 40, "{begun}");
    assert_eq!(number(&report, "/totals/started"), begun, "{report}");
    assert_eq!(number(&report, "/totals/finished"), begun, "{report}");
}
