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
//!  Activator ──┐ asked     ┌─────────┐  pass starts   ┌─────────┐
//!  timer ──────┼──────────▶│ waiting ├───────────────▶│ running │──▶ watch: history, totals ──▶ operator
//!  back-off ───┘           └─────────┘◀───────────────┴─────────┘
//!                           pass ended: well, failed, panicked, over its time limit
//! ```
//!
//! (The full diagram is in `pass_loop`.) All requests before a pass starts are answered by that pass; a request while it
//! runs is answered by one further pass, because the running one may have looked already.
//!
//! # Adding a task
//!
//! Three places: its own file with its [`BackgroundTask`]; its [`Settings`] in the coordinator's config; one
//! [`TaskSet::add`].
//!
//! # Reading order
//!
//! - `task`: what a task is. `settings`: when it runs. `activator`: asking for a pass.
//! - `pass_loop`: the one loop. `status`: what it leaves to read; the types are those of the operator API. `driver`: the
//!   public face.

mod activator;
mod driver;
mod pass_loop;
mod settings;
mod status;
mod task;

pub use activator::Activator;
pub use driver::{ActivateError, Driver, StillRunning, TaskSet, UnknownTask};
pub use settings::{Backoff, Settings};
pub use status::RECENT_PASSES_MAX;
pub use task::{Activation, BackgroundTask, PassFuture, Reason, TaskFailure};
