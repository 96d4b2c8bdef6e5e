//! Sagas, end to end, on real processes: one that was accepted ends exactly once, whatever is killed, stopped, cancelled
//! or full on the way, and an operator is told where it stands.
//!
//! The demo saga can be held at known places (a signal, a timer, an undo that does not succeed), so no test is lucky with
//! its timing. What counts as proof is what its nodes have left in files (`testbed::DemoEffects`).
//!
//! - [`scene`]: a coordinator, and demo sagas on it.
//! - [`acknowledged`]: what 202 promises. [`waiting`]: signals, timers, restarts and SIGTERM meanwhile.
//! - [`unwinding`]: failing, cancelling, undos that do not succeed. [`refused`]: words that are not taken.
//! - [`recovery`]: what nobody executes. [`retention`]: what ended long ago. [`pages`]: lists and logs.
//! - [`unreadable`]: spoilt rows, and rows of another coordinator.
//! - [`numbers`]: metrics. [`full_disk`]: no space under SQLite. [`silent_database`]: no answer from either database.
//! - [`on_postgres`]: the same on the other database; [`chosen_database`]: how.

#[path = "../chosen_database/mod.rs"]
mod chosen_database;
mod scene;

mod acknowledged;
mod full_disk;
mod numbers;
mod on_postgres;
mod pages;
mod recovery;
mod refused;
mod retention;
mod silent_database;
mod unreadable;
mod unwinding;
mod waiting;
