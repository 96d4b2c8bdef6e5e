//! What a second signal does, in a process of its own, which it would end.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use daemon::stop::{self, Again};
use rustix::process::{Signal, getpid, kill_process};
use tokio::{
    signal::unix::{SignalKind, signal},
    task::yield_now,
};

#[tokio::test]
async fn who_ends_in_order_whatever_happens_is_not_ended_by_a_second_signal() {
    let mut arrived = signal(SignalKind::terminate()).unwrap();
    let mut stop = stop::watch_signals(Again::ChangesNothing).unwrap();
    for _ in 0..3 {
        kill_process(getpid(), Signal::TERM).unwrap();
        arrived.recv().await.unwrap();
        stop.wait_for(|stop| *stop).await.unwrap();
        // Whoever else waits for the signal has heard it, and acts.
        for _ in 0..10 {
            yield_now().await;
        }
    }
    assert!(*stop.borrow());
}
