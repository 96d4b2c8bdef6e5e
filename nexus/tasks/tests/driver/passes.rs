//! Passes: when one starts, how one ends, what is left to read of it, and how all of them stop.

use crate::stage::{
    PERIOD, Pass, SETTINGS, TRANSFER_ENDED, Worker, done, failed, gated, reasons, start, timed,
};
use futures::future::FutureExt;
use nexus_client::tasks::PassOutcome;
use nexus_tasks::{
    ActivateError, Activation, Activator, RECENT_PASSES_MAX, Reason, Settings, TaskFailure, TaskSet,
};
use serde_json::{Value, json};
use std::{sync::Arc, sync::Mutex, time::Duration};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

#[tokio::test(start_paused = true)]
async fn first_pass_runs_at_the_start() {
    let begin = Instant::now();
    let (pass, mut begins) = timed(done);
    let (_driver, _) = start(SETTINGS, pass);
    let (at, activation) = begins.recv().await.unwrap();
    assert_eq!(at, begin);
    assert_eq!(activation, Activation { iteration: 1, reasons: [Reason::Start].into() });
}

#[tokio::test(start_paused = true)]
async fn period_is_counted_from_the_end_of_the_pass() {
    let begin = Instant::now();
    let slow = || {
        async {
            tokio::time::sleep(Duration::from_secs(100)).await;
            Ok(Value::Null)
        }
        .boxed()
    };
    let (pass, mut begins) = timed(slow);
    let (_driver, _) = start(SETTINGS, pass);
    begins.recv().await.unwrap();
    let (at, activation) = begins.recv().await.unwrap();
    assert_eq!(at - begin, Duration::from_secs(160));
    assert_eq!(reasons(&activation), [Reason::Timer]);
}

#[tokio::test(start_paused = true)]
async fn activation_runs_a_pass_without_waiting_for_the_period() {
    let begin = Instant::now();
    let (pass, mut begins) = timed(done);
    let (_driver, activator) = start(SETTINGS, pass);
    begins.recv().await.unwrap();
    activator.activate(TRANSFER_ENDED);
    let (at, activation) = begins.recv().await.unwrap();
    assert_eq!((at, reasons(&activation)), (begin, vec![TRANSFER_ENDED]));
}

#[tokio::test(start_paused = true)]
async fn activations_during_a_pass_cause_exactly_one_further_pass_with_all_reasons() {
    let (pass, mut begins, gate) = gated();
    let (driver, activator) = start(SETTINGS, pass);
    begins.recv().await.unwrap();
    let begin = Instant::now();
    for _ in 0..10_000 {
        activator.activate(TRANSFER_ENDED);
        activator.activate(Reason::Operator);
    }
    assert!(begins.try_recv().is_err(), "the further pass starts only after the one that runs");
    gate.add_permits(2);
    let second = begins.recv().await.unwrap();
    assert_eq!(reasons(&second), [Reason::Operator, TRANSFER_ENDED]);
    assert_eq!(Instant::now(), begin);

    let third = begins.recv().await.unwrap();
    assert_eq!(Instant::now() - begin, PERIOD, "the next one is the timer's");
    assert_eq!(third, Activation { iteration: 3, reasons: [Reason::Timer].into() });
    assert_eq!(driver.task("worker").unwrap().last.unwrap().trigger, "operator, transfer_ended");
}

#[tokio::test(start_paused = true)]
async fn what_was_asked_before_the_start_is_answered_by_the_first_pass() {
    let activator = Activator::new();
    activator.activate(TRANSFER_ENDED);
    let (pass, mut begins) = timed(done);
    let mut tasks = TaskSet::new();
    tasks.add(Worker { name: "worker", pass }, SETTINGS, &activator);
    let begin = Instant::now();
    let _driver = tasks.start();
    let (_, first) = begins.recv().await.unwrap();
    assert_eq!(reasons(&first), [Reason::Start, TRANSFER_ENDED]);
    let (at, _) = begins.recv().await.unwrap();
    assert_eq!(at - begin, PERIOD);
}

#[tokio::test(start_paused = true)]
async fn waiting_for_a_pass_means_one_that_started_after_the_call() {
    let (pass, mut begins, gate) = gated();
    let (driver, _) = start(SETTINGS, pass);
    begins.recv().await.unwrap();
    let mut wait = Box::pin(driver.activate_and_wait("worker", Reason::Operator));
    assert!(futures::poll!(&mut wait).is_pending());

    gate.add_permits(1);
    assert_eq!(begins.recv().await.unwrap().iteration, 2);
    assert_eq!(driver.task("worker").unwrap().last.unwrap().iteration, 1);
    assert!(futures::poll!(&mut wait).is_pending(), "the pass that ran before the call does not answer it");

    gate.add_permits(1);
    let pass = wait.await.unwrap();
    assert_eq!((pass.iteration, pass.trigger.as_str(), pass.error), (2, "operator", None));
    assert_eq!(pass.report, json!("let through"));
}

#[tokio::test(start_paused = true)]
async fn caller_that_stops_waiting_takes_nothing_back() {
    let (pass, mut begins, gate) = gated();
    let (driver, _) = start(SETTINGS, pass);
    begins.recv().await.unwrap();
    {
        let wait = driver.activate_and_wait("worker", Reason::Operator);
        assert!(wait.now_or_never().is_none());
    }
    gate.add_permits(1);
    assert_eq!(reasons(&begins.recv().await.unwrap()), [Reason::Operator]);
}

#[tokio::test(start_paused = true)]
async fn failures_in_a_row_back_off_longer_and_longer_with_jitter() {
    let (pass, mut begins) = timed(failed);
    let (_driver, _) = start(SETTINGS, pass);
    let mut last = begins.recv().await.unwrap().0;
    let mut shares = Vec::new();
    for full in [1, 2, 4, 8, 8, 8, 8, 8, 8, 8].map(Duration::from_secs) {
        let (at, activation) = begins.recv().await.unwrap();
        assert_eq!(reasons(&activation), [Reason::Retry]);
        // The clock has whole milliseconds.
        let wait = at - last;
        assert!(wait + Duration::from_millis(1) >= full / 2, "{wait:?} is less than half of {full:?}");
        assert!(wait <= full + Duration::from_millis(1), "{wait:?} is more than {full:?}");
        shares.push((wait.as_secs_f64() / full.as_secs_f64() * 1e3).round());
        last = at;
    }
    shares.dedup();
    assert!(shares.len() > 1, "ten waits without jitter: {shares:?}");
}

#[tokio::test(start_paused = true)]
async fn activation_overrides_the_back_off() {
    let (pass, mut begins) = timed(failed);
    let (_driver, activator) = start(SETTINGS, pass);
    let (first, _) = begins.recv().await.unwrap();
    activator.activate(Reason::Operator);
    let (second, activation) = begins.recv().await.unwrap();
    assert_eq!((second, reasons(&activation)), (first, vec![Reason::Operator]));
}

#[tokio::test(start_paused = true)]
async fn success_ends_the_back_off() {
    let mut passes = 0;
    let (pass, mut begins) = timed(move || {
        passes += 1;
        if passes == 1 { failed() } else { done() }
    });
    let (driver, _) = start(SETTINGS, pass);
    begins.recv().await.unwrap();
    let (second, _) = begins.recv().await.unwrap();
    let (third, activation) = begins.recv().await.unwrap();
    assert_eq!((third - second, reasons(&activation)), (PERIOD, vec![Reason::Timer]));
    let task = driver.task("worker").unwrap();
    assert_eq!((task.failed, task.failed_in_a_row), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn pass_over_its_time_limit_is_cancelled_and_recorded_as_failed() {
    let (dropped, was_dropped) = oneshot::channel::<()>();
    let mut dropped = Some(dropped);
    let settings = Settings { time_limit: Some(Duration::from_secs(5)), ..SETTINGS };
    let (driver, _) = start(settings, move |_| match dropped.take() {
        Some(held_while_it_runs) => async move {
            let _held_while_it_runs = held_while_it_runs;
            std::future::pending().await
        }
        .boxed(),
        None => done(),
    });
    let begin = Instant::now();
    assert!(was_dropped.await.is_err(), "the pass holds its end until it is cancelled");
    assert_eq!(begin.elapsed(), Duration::from_secs(5));

    driver.activate_and_wait("worker", Reason::Operator).await.unwrap();
    let task = driver.task("worker").unwrap();
    let [second, first] = &task.recent[..] else { panic!("two passes: {:?}", task.recent) };
    assert_eq!(first.error.as_deref(), Some("cut off after its time limit of 5s"));
    assert!((first.duration_seconds - 5.0).abs() < 0.01, "{first:?}");
    assert_eq!(second.error, None);
}

#[tokio::test(start_paused = true)]
async fn panic_is_recorded_as_a_failure_and_the_task_goes_on() {
    let (driver, _) = start(SETTINGS, |activation| match activation.iteration {
        1 => panic!("before the first await"),
        2 => async {
            tokio::task::yield_now().await;
            panic!("in pass {}", 2)
        }
        .boxed(),
        _ => done(),
    });
    driver.activate_and_wait("worker", Reason::Operator).await.unwrap();
    driver.activate_and_wait("worker", Reason::Operator).await.unwrap();
    driver.activate_and_wait("worker", Reason::Operator).await.unwrap();
    let task = driver.task("worker").unwrap();
    let errors: Vec<_> = task.recent.iter().rev().map(|pass| pass.error.as_deref()).collect();
    assert_eq!(errors, [Some("panicked: before the first await"), Some("panicked: in pass 2"), None]);
    assert_eq!((task.succeeded, task.failed), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn failure_shows_its_causes_and_what_was_done_before() {
    #[derive(Debug, thiserror::Error)]
    #[error("cannot list the sleds")]
    struct ListSleds(#[source] std::io::Error);

    let (driver, _) = start(SETTINGS, |_| {
        let failure = TaskFailure::new(ListSleds(std::io::Error::other("database is locked")));
        async { Err(failure.with_report(json!({"asked": 3}))) }.boxed()
    });
    let pass = driver.activate_and_wait("worker", Reason::Operator).await.unwrap();
    assert_eq!(pass.error.as_deref(), Some("cannot list the sleds: database is locked"));
    assert_eq!(pass.report, json!({"asked": 3}));
}

#[tokio::test(start_paused = true)]
async fn history_keeps_the_last_passes_and_totals_count_all() {
    let (driver, _) =
        start(SETTINGS, |activation| if activation.iteration % 2 == 0 { failed() } else { done() });
    let passes = u64::try_from(RECENT_PASSES_MAX).unwrap() + 50;
    while driver.task("worker").unwrap().last.is_none_or(|last| last.iteration < passes) {
        driver.activate_and_wait("worker", Reason::Operator).await.unwrap();
    }
    let task = driver.task("worker").unwrap();
    assert_eq!((task.succeeded, task.failed, task.failed_in_a_row), (passes / 2, passes / 2, 1));
    assert_eq!(task.recent.len(), RECENT_PASSES_MAX);
    assert!(task.recent.windows(2).all(|pair| pair[0].iteration == pair[1].iteration + 1), "newest first");
    assert_eq!(task.recent.first(), task.last.as_ref());
    assert!(driver.tasks()[0].recent.is_empty(), "the list of tasks leaves the history out");
}

#[tokio::test(start_paused = true)]
async fn status_is_readable_while_a_pass_runs() {
    let (pass, mut begins, _gate) = gated();
    let (driver, _) = start(SETTINGS, pass);
    begins.recv().await.unwrap();
    let task = driver.task("worker").unwrap();
    let running = task.running.unwrap();
    assert_eq!((running.iteration, running.trigger.as_str()), (1, "start"));
    assert_eq!((task.last, task.succeeded, task.period_seconds), (None, 0, 60.0));
    assert_eq!((task.name.as_str(), task.description.as_str()), ("worker", "does what the test says"));
}

#[tokio::test(start_paused = true)]
async fn task_that_hangs_does_not_hold_up_the_others() {
    let mut tasks = TaskSet::new();
    let hang = |_: &Activation| -> Pass { std::future::pending().boxed() };
    tasks.add(Worker { name: "hangs", pass: hang }, SETTINGS, &Activator::new());
    tasks.add(Worker { name: "works", pass: |_: &Activation| done() }, SETTINGS, &Activator::new());
    let driver = tasks.start();
    for _ in 0..10 {
        driver.activate_and_wait("works", Reason::Operator).await.unwrap();
    }
    assert_eq!(driver.task("hangs").unwrap().running.unwrap().iteration, 1);
}

#[tokio::test(start_paused = true)]
async fn shutdown_lets_the_running_pass_end_and_starts_no_other() {
    let begun = Arc::new(Mutex::new(0));
    let counter = Arc::clone(&begun);
    let (driver, activator) = start(SETTINGS, move |_| {
        *counter.lock().unwrap() += 1;
        async {
            tokio::time::sleep(Duration::from_secs(3)).await;
            Ok(json!("to the end"))
        }
        .boxed()
    });
    while driver.task("worker").unwrap().running.is_none() {
        tokio::task::yield_now().await;
    }
    activator.activate(Reason::Operator);
    let begin = Instant::now();
    driver.shutdown(Duration::from_secs(10)).await.unwrap();
    assert_eq!(begin.elapsed(), Duration::from_secs(3));
    assert_eq!(driver.task("worker").unwrap().last.unwrap().report, json!("to the end"));
    assert_eq!(*begun.lock().unwrap(), 1);

    let wait = driver.activate_and_wait("worker", Reason::Operator).await;
    assert!(matches!(wait, Err(ActivateError::Stopped { name: "worker" })), "{wait:?}");
    driver.shutdown(Duration::ZERO).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn shutdown_cuts_off_a_pass_over_its_limit_and_says_so() {
    let (pass, mut begins, _gate) = gated();
    let (driver, _) = start(SETTINGS, pass);
    begins.recv().await.unwrap();
    let begin = Instant::now();
    let (wait, stopped) = tokio::join!(
        driver.activate_and_wait("worker", Reason::Operator),
        driver.shutdown(Duration::from_secs(10)),
    );
    stopped.unwrap();
    assert_eq!(begin.elapsed(), Duration::from_secs(10));
    assert!(matches!(wait, Err(ActivateError::Stopped { .. })), "nobody waits for ever: {wait:?}");
    let task = driver.task("worker").unwrap();
    assert_eq!(task.running, None);
    assert_eq!(task.last.unwrap().error.as_deref(), Some("cut off because the coordinator stops"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutdown_names_the_task_that_blocks_its_thread() {
    let (release, released) = std::sync::mpsc::channel::<()>();
    let (begun, mut begins) = mpsc::unbounded_channel();
    let mut released = Some(released);
    let (driver, _) = start(SETTINGS, move |_| {
        begun.send(()).unwrap();
        let released = released.take().expect("one pass");
        async move {
            // What a task must not do.
            let _released = released.recv();
            Ok(Value::Null)
        }
        .boxed()
    });
    begins.recv().await.unwrap();
    let refused = driver.shutdown(Duration::ZERO).await.unwrap_err();
    assert_eq!(refused.names, ["worker"]);
    drop(release);
    driver.shutdown(Duration::ZERO).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn dropping_the_driver_stops_its_tasks() {
    let (pass, mut begins, _gate) = gated();
    let (driver, _) = start(SETTINGS, pass);
    begins.recv().await.unwrap();
    drop(driver);
    assert!(begins.recv().await.is_none(), "the task was dropped, and its end of the channel with it");
}

#[tokio::test(start_paused = true)]
async fn unknown_name_is_answered_with_the_known_ones() {
    let (driver, _) = start(SETTINGS, |_| done());
    let error = driver.activate("replicator", Reason::Operator).unwrap_err();
    assert_eq!(error.to_string(), r#"there is no background task "replicator"; there are: worker"#);
}

#[test]
#[should_panic(expected = "was added twice")]
fn name_of_another_task_is_refused_at_the_start() {
    let mut tasks = TaskSet::new();
    tasks.add(Worker { name: "worker", pass: |_: &Activation| done() }, SETTINGS, &Activator::new());
    tasks.add(Worker { name: "worker", pass: |_: &Activation| done() }, SETTINGS, &Activator::new());
}

#[test]
#[should_panic(expected = "has a task already")]
fn activator_of_another_task_is_refused_at_the_start() {
    let activator = Activator::new();
    let mut tasks = TaskSet::new();
    tasks.add(Worker { name: "first", pass: |_: &Activation| done() }, SETTINGS, &activator);
    tasks.add(Worker { name: "second", pass: |_: &Activation| done() }, SETTINGS, &activator);
}

#[tokio::test(start_paused = true)]
async fn who_waits_gets_the_pass_that_answers_though_later_ones_have_ended() {
    let (pass, mut begins, gate) = gated();
    let (driver, activator) = start(SETTINGS, pass);
    begins.recv().await.unwrap();
    let mut wait = Box::pin(driver.activate_and_wait("worker", Reason::Operator));
    assert!(futures::poll!(&mut wait).is_pending());
    gate.add_permits(4);
    for _ in 0..3 {
        begins.recv().await.unwrap();
        activator.activate(TRANSFER_ENDED);
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(driver.task("worker").unwrap().last.unwrap().iteration, 4);
    let pass = wait.await.unwrap();
    assert_eq!((pass.iteration, pass.trigger.as_str()), (2, "operator"));
}

#[tokio::test(start_paused = true)]
async fn period_is_shortened_by_jitter_and_never_lengthened() {
    let (pass, mut begins) = timed(done);
    let (_driver, _) = start(Settings { jitter_percent: 10, ..SETTINGS }, pass);
    let mut last = begins.recv().await.unwrap().0;
    let mut waits = Vec::new();
    for _ in 0..50 {
        let (at, _) = begins.recv().await.unwrap();
        waits.push(at - last);
        last = at;
    }
    // The clock has whole milliseconds.
    let millisecond = Duration::from_millis(1);
    assert!(waits.iter().all(|wait| (PERIOD * 9 / 10..=PERIOD + millisecond).contains(wait)), "{waits:?}");
    waits.dedup();
    assert!(waits.len() > 10, "{waits:?}");
}

#[tokio::test(start_paused = true)]
async fn pass_that_fails_for_ever_is_tried_no_later_than_each_period() {
    let period = Duration::from_secs(3);
    let (pass, mut begins) = timed(failed);
    let (_driver, _) = start(Settings { period, ..SETTINGS }, pass);
    let mut last = begins.recv().await.unwrap().0;
    for _ in 0..20 {
        let (at, activation) = begins.recv().await.unwrap();
        assert_eq!(reasons(&activation), [Reason::Retry]);
        assert!(at - last <= period + Duration::from_millis(1), "{:?}", at - last);
        last = at;
    }
}

#[tokio::test(start_paused = true)]
async fn next_pass_is_announced() {
    let (driver, _) = start(SETTINGS, |_| done());
    driver.activate_and_wait("worker", Reason::Operator).await.unwrap();
    let task = driver.task("worker").unwrap();
    let wait = task.next_at.unwrap().duration_since(task.last_success_at.unwrap()).as_secs_f64();
    assert!((wait - PERIOD.as_secs_f64()).abs() < 0.1, "{wait}");
}

#[tokio::test(start_paused = true)]
async fn figures_count_every_pass_by_the_way_it_ended() {
    let settings = Settings { time_limit: Some(Duration::from_secs(5)), ..SETTINGS };
    let (driver, _) = start(settings, |activation| match activation.iteration {
        1 => failed(),
        2 => panic!("at once"),
        3 => std::future::pending().boxed(),
        _ => done(),
    });
    for _ in 0..5 {
        driver.activate_and_wait("worker", Reason::Operator).await.unwrap();
    }
    let [figures] = &driver.figures()[..] else { panic!("one task") };
    let passes = figures.totals.passes();
    let counts = PassOutcome::ALL.map(|outcome| figures.totals.ended(outcome));
    assert_eq!(counts, [passes - 3, 1, 1, 1, 0]);
    assert_eq!((figures.failed_in_a_row, figures.running, figures.paused), (0, false, false));
    assert!(figures.last_success_at.is_some() && figures.last_pass_seconds.is_some());
    assert!(figures.totals.seconds() >= 5.0);
    let task = driver.task("worker").unwrap();
    assert_eq!((task.succeeded, task.failed, task.panicked, task.timed_out), (passes - 3, 3, 1, 1));
    let outcomes: Vec<_> = task.recent.iter().rev().take(4).map(|pass| pass.outcome).collect();
    let all = [PassOutcome::Failed, PassOutcome::Panicked, PassOutcome::TimedOut, PassOutcome::Succeeded];
    assert_eq!(outcomes, all);
}
