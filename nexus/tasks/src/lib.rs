//! The background-task driver: recurring work, when it runs, and what it has done.
//!
//! # The problem
//!
//! The coordinator brings the world to where the database wants it, again and again: replicate artifacts, clean up
//! uploads, later repair regions and recover sagas. Each of these needs the same things around it: run from time to
//! time and at once when something happened, never twice at the same time, back off when it fails, end when it hangs,
//! survive its own panic, show what it did, stop cleanly.
//!
//! # The theory: a pass takes no input
//!
//! An activation says *that* something happened, never what. The pass looks for itself. So
//!
//! - *constant work*: a hundred activations or one cost one pass, and nothing can queue up behind a slow one;
//! - *one path*: work that arrived through an event, work that a crash left behind and work whose event was lost are
//!   found in the same way. The recovery path is not the one that is never run;
//! - *an activation may get lost* (a crash), may come twice or late, and nothing is wrong: the timer covers it.
//!
//! ```text
//!  Activator ─────────────┐ asked    ┌─────────┐  begin   ┌─────────┐
//!  another task's end ────┤ for      │         ├─────────▶│         │
//!  a value that changes ──┴─────────▶│ waiting │          │ running │──▶ history, totals ──▶ operator, metrics
//!  period ─────┬────────────────────▶│         │◀─────────┤         │
//!  back-off ───┘ due                 └────▲────┘   end    └─────────┘
//!                                         │        well, failed, panicked, timed out, stopped
//!                          pause, resume, periodic on and off
//! ```
//!
//! (The full diagram, and the table of what is due when, are in `state`.) All requests before a pass starts are answered by
//! that pass; a request while it runs is answered by one further pass, because the running one may have looked already.
//!
//! The reasons for a pass are passed to it, for its report and for work that only some of them are worth (asking every sled,
//! say, is for a person and the timer). They are never instructions: a reason may be lost, and what it stood for is found
//! all the same.
//!
//! # Two ways to hold a task
//!
//! - *Periodic off* (config, or at run time): only the period is gone. A test, or somebody who looks for a fault, activates
//!   the task when it suits; events, dependencies and retries are as before.
//! - *Pause* (at run time): no pass starts, whoever asks. Requests wait, as one pass for the end of the pause; a person who
//!   asks for a pass is refused with the reason. A pause may have an end.
//!
//! Neither outlives the process: what is held back is often what repairs things, and a restart must not find it held back by
//! somebody who has gone home. The config is the place for what is to last.
//!
//! # Adding a task
//!
//! Three places: its own file with its [`BackgroundTask`]; its line in the coordinator's registry, with its [`Settings`] and
//! dependencies; its row in `docs/TASKS.md`. A test fails if one of them is missing.
//!
//! # Reading order
//!
//! - `task`: what a task is. `settings`: when it runs. `activator`: asking for a pass. `task_set`: adding tasks, dependencies.
//! - `state`: the state machine. `history`: what passes leave to read. `pass_loop`: the one loop. `driver`: the public face.

mod activator;
mod driver;
mod history;
mod pass_loop;
mod settings;
mod state;
mod task;
mod task_set;

pub use activator::Activator;
pub use driver::{ActivateError, Driver, Figures, StillRunning, UnknownTask};
pub use history::{DURATION_BOUNDS, RECENT_PASSES_MAX, Totals};
pub use settings::{Backoff, Settings};
pub use task::{Activation, BackgroundTask, PassFuture, Reason, TaskFailure};
pub use task_set::{Added, TaskSet};
