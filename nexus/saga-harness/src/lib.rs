//! Proves saga kinds: whatever fails, dies, lies or comes between, at whatever point of a saga.
//!
//! # The problem
//!
//! The engine promises that a saga is done to its end or undone. It can keep that only if each action and undo keeps
//! rules that no compiler checks: idempotent by key, an undo that does not mind, no effect under an adoption that is
//! over. A kind that breaks one works in every test that its author thinks of, and leaks years later, when a coordinator
//! dies at one of fifty instants while somebody deletes the very thing.
//!
//! # The theory
//!
//! A saga is a sequence of writes and calls, each of which occurs once and has a name (`started:left`, `do:left`). So its
//! points can be enumerated, and what may happen at each is a short list. The harness runs all of it, with real steno,
//! the real engine and recovery's real passes:
//!
//! ```text
//!   Case: kind, params, world, operations           Report: counts, findings ── trace, line ──► replay of that line alone
//!     │                                                ▲
//!     ▼                                                │
//!   matrix ─► scenarios ─► conductor, one runtime each ─► judge: end = log = effects = what was told
//!     ▲                        │
//!     │                        ├─ life ─ engine ─┬─ wire: each write held, refused, lied about, died at ─► any SagaStore
//!     └─ what a run came to ───┘                 └─ calls: each action and undo told, repeated, held
//! ```
//!
//! Three things make a line mean the same each time. Points have names, not numbers. A run in memory has virtual time,
//! which passes only when nothing else can be done, so that a run that hangs is known at once, without a time limit. And
//! *held* is a barrier in the engine's own path: the write that is about to be made does not return.
//!
//! How to write a case, read a trace and replay it: `docs/SAGAS.md`, "Proving a saga".
//!
//! # Reading order
//!
//! - [`case`]: what an author gives. [`scenario`]: what a run goes through, as a line.
//! - `stage`: what all parts of a run share. `wire`, `calls`: the two doors that the script stands at.
//! - `life`, `conductor`: one run. `judge`: what must hold at its end.
//! - [`matrix`]: which scenarios there are. [`mod@prove`]: all of them. [`report`], [`mod@coverage`].
//! - [`backend`]: in memory, or any store. `databases`: the coordinator's.

pub mod backend;
mod calls;
pub mod case;
mod conductor;
pub mod coverage;
mod databases;
mod judge;
mod life;
pub mod matrix;
pub mod prove;
pub mod report;
pub mod scenario;
mod stage;
mod wire;

pub use backend::{Backend, Memory, Real, Session};
pub use case::{Case, Gap, Moment, Operation, Verdict, World};
pub use coverage::{Uncovered, assert_covered, coverage};
pub use matrix::Depth;
pub use prove::{find_first, prove, prove_only};
pub use report::{Finding, REPLAY_VARIABLE, Report};
