//! Dependencies: a task that runs after another, and one that runs when a value changes.

use crate::stage::{Begins, PERIOD, Pass, SETTINGS, Worker, done, failed, passes_within, start, timed};
use nexus_tasks::{Activation, Activator, Driver, Reason, Settings, TaskSet};
use std::time::Duration;
use tokio::{sync::watch, time::Instant};

const SECOND: Duration = Duration::from_secs(1);
/// Only requests and dependencies start a pass.
const ASKED_ONLY: Settings = Settings { periodic: false, ..SETTINGS };

/// `planner` runs after `collector`; `executor` runs after `planner`.
fn chain(
    collector_pass: impl FnMut(&Activation) -> Pass + Send + 'static,
) -> (Driver, Activator, Begins, Begins) {
    let [collector, planner, executor] = [(); 3].map(|()| Activator::new());
    let (planner_pass, planned) = timed(done);
    let (executor_pass, executed) = timed(done);
    let mut tasks = TaskSet::new();
    // The one that depends first: the order of adding does not matter.
    tasks.add(Worker { name: "executor", pass: executor_pass }, ASKED_ONLY, &executor).after(&planner);
    tasks.add(Worker { name: "planner", pass: planner_pass }, ASKED_ONLY, &planner).after(&collector);
    tasks.add(Worker { name: "collector", pass: collector_pass }, ASKED_ONLY, &collector);
    (tasks.start(), collector, planned, executed)
}

#[tokio::test(start_paused = true)]
async fn pass_of_a_task_is_followed_by_passes_of_those_that_depend_on_it() {
    let (driver, collector, mut planned, mut executed) = chain(|_| done());
    passes_within(SECOND, &mut planned).await;
    passes_within(SECOND, &mut executed).await;
    for _ in 0..3 {
        let at = Instant::now();
        collector.activate(Reason::Operator);
        assert_eq!(passes_within(SECOND, &mut planned).await, [(at, vec![Reason::After("collector")])]);
        let seen = passes_within(Duration::ZERO, &mut executed).await;
        assert_eq!(seen, [(at, vec![Reason::After("planner")])]);
    }
    assert_eq!(driver.task("planner").unwrap().dependencies, ["after collector"]);
    assert_eq!(driver.task("planner").unwrap().last.unwrap().trigger, "after collector");
    assert!(driver.task("collector").unwrap().dependencies.is_empty());
}

#[tokio::test(start_paused = true)]
async fn pass_that_failed_is_followed_too() {
    let (_driver, collector, mut planned, _) = chain(|activation| match activation.iteration {
        1 => done(),
        2 => failed(),
        3 => panic!("at once"),
        _ => Box::pin(std::future::pending()),
    });
    passes_within(SECOND, &mut planned).await;
    collector.activate(Reason::Operator);
    let seen = passes_within(Duration::from_millis(100), &mut planned).await;
    assert_eq!(seen.len(), 1, "it failed");
    let seen = passes_within(2 * SECOND, &mut planned).await;
    assert_eq!(seen.len(), 1, "it panicked");
}

#[test]
#[should_panic(expected = "run after each other in a circle: first, second, third")]
fn circle_is_refused_at_the_start() {
    let activators = [(); 4].map(|()| Activator::new());
    let mut tasks = TaskSet::new();
    for (index, name) in ["first", "second", "third"].into_iter().enumerate() {
        let worker = Worker { name, pass: |_: &Activation| done() };
        tasks.add(worker, SETTINGS, &activators[index]).after(&activators[(index + 1) % 3]);
    }
    let worker = Worker { name: "innocent", pass: |_: &Activation| done() };
    tasks.add(worker, SETTINGS, &activators[3]);
    let _driver = tasks.start();
}

#[test]
#[should_panic(expected = r#""worker" runs after one that was not added"#)]
fn predecessor_that_was_not_added_is_refused_at_the_start() {
    let mut tasks = TaskSet::new();
    let worker = Worker { name: "worker", pass: |_: &Activation| done() };
    tasks.add(worker, SETTINGS, &Activator::new()).after(&Activator::new());
    let _driver = tasks.start();
}

/// A driver with one task that depends on the value.
fn watching(value: watch::Receiver<u32>, settings: Settings) -> (Driver, Begins) {
    let (pass, begins) = timed(done);
    let mut tasks = TaskSet::new();
    tasks.add(Worker { name: "worker", pass }, settings, &Activator::new()).when_changed("inventory", value);
    (tasks.start(), begins)
}

#[tokio::test(start_paused = true)]
async fn change_of_a_value_starts_a_pass_and_many_at_once_start_one() {
    let (value, receiver) = watch::channel(0);
    value.send_replace(1);
    let (driver, mut begins) = watching(receiver, ASKED_ONLY);
    let start = Instant::now();
    let seen = passes_within(SECOND, &mut begins).await;
    assert_eq!(seen, [(start, vec![Reason::Start])], "what was there before is no change");
    for _ in 0..3 {
        let at = Instant::now();
        for number in 0..1000 {
            value.send_replace(number);
        }
        let seen = passes_within(SECOND, &mut begins).await;
        assert_eq!(seen, [(at, vec![Reason::Changed("inventory")])]);
    }
    assert_eq!(driver.task("worker").unwrap().dependencies, ["changed inventory"]);
}

#[tokio::test(start_paused = true)]
async fn value_that_nobody_can_change_any_more_starts_nothing() {
    let begin = Instant::now();
    let (value, receiver) = watch::channel(0);
    let (_driver, mut begins) = watching(receiver, SETTINGS);
    passes_within(SECOND, &mut begins).await;
    value.send_replace(1);
    drop(value);
    let seen = passes_within(10 * PERIOD, &mut begins).await;
    let (last_change, timers) = seen.split_first().unwrap();
    assert_eq!(last_change, &(begin + SECOND, vec![Reason::Changed("inventory")]), "the last change counts");
    assert!(timers.iter().all(|(_, reasons)| *reasons == [Reason::Timer]), "{timers:?}");
    assert_eq!(timers.len(), 9, "a period after the last change, and so on");
}

#[tokio::test(start_paused = true)]
async fn value_that_was_never_changeable_starts_nothing() {
    let (value, receiver) = watch::channel(0);
    drop(value);
    let (_driver, mut begins) = watching(receiver, ASKED_ONLY);
    // Counted before the clock moves: it never would if something span.
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    assert_eq!(begins.len(), 1, "something spins");
    assert_eq!(passes_within(10 * PERIOD, &mut begins).await.len(), 1, "the first pass and no other");
}

#[tokio::test(start_paused = true)]
async fn dependency_in_a_pause_is_one_pass_afterwards() {
    let (driver, collector, mut planned, _) = chain(|_| done());
    passes_within(SECOND, &mut planned).await;
    driver.pause("planner", None, None).unwrap();
    for _ in 0..5 {
        collector.activate(Reason::Operator);
        assert_eq!(passes_within(SECOND, &mut planned).await, []);
    }
    driver.resume("planner").unwrap();
    let at = Instant::now();
    assert_eq!(passes_within(SECOND, &mut planned).await, [(at, vec![Reason::After("collector")])]);
}

#[tokio::test(start_paused = true)]
async fn end_of_the_driver_ends_the_watching_of_values() {
    let (value, receiver) = watch::channel(0);
    let (driver, begins) = watching(receiver, SETTINGS);
    drop(driver);
    drop(begins);
    value.closed().await;
    let (driver, _) = start(SETTINGS, |_| done());
    driver.shutdown(Duration::ZERO).await.unwrap();
}
