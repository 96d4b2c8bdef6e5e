//! Holding a task: its period switched off, and pauses.

use crate::stage::{
    PERIOD, SETTINGS, TRANSFER_ENDED, done, failed, gated, passes_within, reasons, start, timed,
};
use nexus_tasks::{ActivateError, Reason, Settings};
use serde_json::json;
use std::time::Duration;
use tokio::time::Instant;

const NOT_PERIODIC: Settings = Settings { periodic: false, ..SETTINGS };
const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn period_that_is_switched_off_activates_nothing_after_the_first_pass() {
    let (pass, mut begins) = timed(done);
    let (driver, activator) = start(NOT_PERIODIC, pass);
    assert_eq!(passes_within(1000 * PERIOD, &mut begins).await.len(), 1, "the first pass and no other");
    let task = driver.task("worker").unwrap();
    assert_eq!((task.periodic, task.next_at), (false, None));

    activator.activate(TRANSFER_ENDED);
    let at = Instant::now();
    assert_eq!(passes_within(PERIOD, &mut begins).await, [(at, vec![TRANSFER_ENDED])]);
    assert_eq!(driver.activate_and_wait("worker", Reason::Operator).await.unwrap().report, json!("done"));
}

#[tokio::test(start_paused = true)]
async fn pass_that_failed_is_retried_though_the_period_is_switched_off() {
    let mut passes = 0;
    let (pass, mut begins) = timed(move || {
        passes += 1;
        if passes <= 2 { failed() } else { done() }
    });
    let (_driver, _) = start(NOT_PERIODIC, pass);
    let seen = passes_within(10 * PERIOD, &mut begins).await;
    let seen: Vec<_> = seen.into_iter().map(|(_, reasons)| reasons).collect();
    assert_eq!(seen, [[Reason::Start], [Reason::Retry], [Reason::Retry]]);
}

#[tokio::test(start_paused = true)]
async fn period_is_switched_at_run_time_and_counts_from_the_last_pass() {
    let begin = Instant::now();
    let (pass, mut begins) = timed(done);
    let (driver, _) = start(SETTINGS, pass);
    passes_within(SECOND, &mut begins).await;

    driver.set_periodic("worker", false).unwrap();
    assert_eq!(passes_within(PERIOD / 2, &mut begins).await, []);
    driver.set_periodic("worker", true).unwrap();
    let seen = passes_within(PERIOD / 2, &mut begins).await;
    assert_eq!(seen, [(begin + PERIOD, vec![Reason::Timer])], "as if it had never been off");

    driver.set_periodic("worker", false).unwrap();
    assert_eq!(passes_within(7 * PERIOD, &mut begins).await, []);
    driver.set_periodic("worker", true).unwrap();
    let at = Instant::now();
    let seen = passes_within(SECOND, &mut begins).await;
    assert_eq!(seen, [(at, vec![Reason::Timer])], "seven periods that are over are one pass, at once");
}

#[tokio::test(start_paused = true)]
async fn paused_task_starts_no_pass_and_makes_up_for_all_with_one() {
    let (pass, mut begins) = timed(done);
    let (driver, activator) = start(SETTINGS, pass);
    passes_within(SECOND, &mut begins).await;
    driver.pause("worker", None, Some("looking for a fault".into())).unwrap();
    for _ in 0..100 {
        activator.activate(TRANSFER_ENDED);
        assert_eq!(passes_within(PERIOD, &mut begins).await, []);
    }
    let task = driver.task("worker").unwrap();
    let pause = task.paused.unwrap();
    assert_eq!((pause.reason.as_deref(), pause.until), (Some("looking for a fault"), None));
    assert_eq!(task.next_at, None);

    driver.resume("worker").unwrap();
    let at = Instant::now();
    let seen = passes_within(SECOND, &mut begins).await;
    assert_eq!(seen, [(at, vec![Reason::Timer, TRANSFER_ENDED])]);
    assert_eq!(driver.task("worker").unwrap().paused, None);
}

#[tokio::test(start_paused = true)]
async fn resuming_a_task_that_missed_nothing_starts_nothing() {
    let begin = Instant::now();
    let (pass, mut begins) = timed(done);
    let (driver, _) = start(SETTINGS, pass);
    passes_within(SECOND, &mut begins).await;
    driver.pause("worker", None, None).unwrap();
    assert_eq!(passes_within(SECOND, &mut begins).await, []);
    driver.resume("worker").unwrap();
    driver.resume("worker").unwrap();
    assert_eq!(passes_within(PERIOD, &mut begins).await, [(begin + PERIOD, vec![Reason::Timer])]);
}

#[tokio::test(start_paused = true)]
async fn pause_before_the_first_pass_holds_that_back() {
    let (pass, mut begins) = timed(done);
    let (driver, _) = start(SETTINGS, pass);
    driver.pause("worker", None, None).unwrap();
    assert_eq!(passes_within(PERIOD, &mut begins).await, []);
    driver.resume("worker").unwrap();
    assert_eq!(passes_within(SECOND, &mut begins).await[0].1, [Reason::Start]);
}

#[tokio::test(start_paused = true)]
async fn pass_that_runs_goes_on_to_its_end_in_a_pause() {
    let (pass, mut begins, gate) = gated();
    let (driver, activator) = start(SETTINGS, pass);
    begins.recv().await.unwrap();
    driver.pause("worker", None, None).unwrap();
    activator.activate(TRANSFER_ENDED);
    gate.add_permits(10);
    tokio::time::sleep(PERIOD).await;
    let task = driver.task("worker").unwrap();
    assert_eq!((task.succeeded, task.running), (1, None));
    assert_eq!(task.last.unwrap().report, json!("let through"));
    assert!(begins.try_recv().is_err(), "the further pass waits for the end of the pause");
}

#[tokio::test(start_paused = true)]
async fn pause_with_an_end_ends_by_itself() {
    let (pass, mut begins) = timed(done);
    let (driver, activator) = start(SETTINGS, pass);
    passes_within(SECOND, &mut begins).await;
    let at = Instant::now();
    driver.pause("worker", Some(30 * SECOND), None).unwrap();
    activator.activate(TRANSFER_ENDED);
    let task = driver.task("worker").unwrap();
    let pause = task.paused.unwrap();
    let length = pause.until.unwrap().duration_since(pause.since).as_secs_f64();
    assert!((length - 30.0).abs() < 0.1, "{pause:?}");
    assert_eq!(passes_within(31 * SECOND, &mut begins).await, [(at + 30 * SECOND, vec![TRANSFER_ENDED])]);
    assert_eq!(driver.task("worker").unwrap().paused, None);
    driver.activate("worker", Reason::Operator).unwrap();
}

#[tokio::test(start_paused = true)]
async fn pause_that_is_repeated_has_the_later_end_and_reason_and_the_first_beginning() {
    let (pass, mut begins) = timed(done);
    let (driver, activator) = start(SETTINGS, pass);
    passes_within(SECOND, &mut begins).await;
    driver.pause("worker", Some(5 * SECOND), Some("for now".into())).unwrap();
    let first = driver.task("worker").unwrap().paused.unwrap();
    driver.pause("worker", None, Some("for long".into())).unwrap();
    activator.activate(TRANSFER_ENDED);
    assert_eq!(passes_within(PERIOD, &mut begins).await, [], "the first end no longer counts");
    let pause = driver.task("worker").unwrap().paused.unwrap();
    assert_eq!((pause.since, pause.reason.as_deref()), (first.since, Some("for long")));
    driver.pause("worker", Some(SECOND), None).unwrap();
    assert_eq!(passes_within(2 * SECOND, &mut begins).await.len(), 1, "an earlier end counts as well");
}

#[tokio::test(start_paused = true)]
async fn person_who_asks_a_paused_task_is_refused_and_nothing_was_asked_for() {
    let (pass, mut begins) = timed(done);
    let (driver, _) = start(NOT_PERIODIC, pass);
    passes_within(SECOND, &mut begins).await;
    driver.pause("worker", None, Some("looking for a fault".into())).unwrap();
    let refused = driver.activate("worker", Reason::Operator).unwrap_err();
    assert!(matches!(refused, ActivateError::Paused { name: "worker", .. }), "{refused:?}");
    let since = driver.task("worker").unwrap().paused.unwrap().since;
    let words = format!("background task \"worker\" is paused since {since:.0} (looking for a fault)");
    assert_eq!(refused.to_string(), words);
    let refused = driver.activate_and_wait("worker", Reason::Operator).await.unwrap_err();
    assert!(matches!(refused, ActivateError::Paused { .. }), "{refused:?}");
    driver.resume("worker").unwrap();
    assert_eq!(passes_within(PERIOD, &mut begins).await, []);
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_pass_is_told_when_a_pause_holds_it_back() {
    let (pass, mut begins, gate) = gated();
    let (driver, _) = start(NOT_PERIODIC, pass);
    begins.recv().await.unwrap();
    let mut wait = Box::pin(driver.activate_and_wait("worker", Reason::Operator));
    assert!(futures::poll!(&mut wait).is_pending());
    driver.pause("worker", None, None).unwrap();
    let refused = tokio::time::timeout(SECOND, wait).await.expect("it is told at once").unwrap_err();
    assert!(matches!(refused, ActivateError::PausedMeanwhile { name: "worker", .. }), "{refused:?}");

    gate.add_permits(2);
    driver.resume("worker").unwrap();
    assert_eq!(reasons(&begins.recv().await.unwrap()), [Reason::Operator], "it runs all the same, later");
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_pass_that_runs_already_gets_its_result_in_spite_of_a_pause() {
    let (pass, mut begins, gate) = gated();
    let (driver, _) = start(NOT_PERIODIC, pass);
    begins.recv().await.unwrap();
    let mut wait = Box::pin(driver.activate_and_wait("worker", Reason::Operator));
    assert!(futures::poll!(&mut wait).is_pending());
    gate.add_permits(1);
    assert_eq!(begins.recv().await.unwrap().iteration, 2);
    driver.pause("worker", None, None).unwrap();
    assert!(futures::poll!(&mut wait).is_pending());
    gate.add_permits(1);
    assert_eq!(wait.await.unwrap().iteration, 2);
}

#[tokio::test(start_paused = true)]
async fn paused_task_stops_at_once() {
    let (pass, mut begins) = timed(done);
    let (driver, _) = start(SETTINGS, pass);
    passes_within(SECOND, &mut begins).await;
    driver.pause("worker", None, None).unwrap();
    let begin = Instant::now();
    driver.shutdown(10 * SECOND).await.unwrap();
    assert_eq!(begin.elapsed(), Duration::ZERO);
    let refused = driver.activate("worker", Reason::Operator).unwrap_err();
    assert!(matches!(refused, ActivateError::Stopped { .. }), "{refused:?}");
}
