//! The saga engine: work of several steps that is done to its end or undone, whatever dies when.
//!
//! # The problem
//!
//! A saga makes effects in several places that no transaction covers. Each may fail, answer too late or not at all, and
//! the process may die between any two instants. steno executes graphs of such steps with a log; what it leaves open is
//! closed here: steps that panic, undos that fail, failures that may have left something behind, memory that grows,
//! status that waits for the database, and everything about who executes a saga and when it has ended.
//!
//! # The theory
//!
//! ```text
//!  kind (actions by name, plan) ──► definition (graph, digest)
//!                                        │
//!  start: claim ─► row durable ──────────┤             ┌───────────── SagaStore (port) ◄── fenced writes, retried
//!                                        ▼             │                                   until they are durable
//!  resume: listed, claimed, loaded ─► engine ─► a SEC of steno each ─► node_action ─► the kind's own code (Step)
//!                                        │             │                    │
//!                        completion: end durable,      └──► live: mirror ◄──┘      needs attention ◄─► operator
//!                        claim given back                     ▲
//!                                                           status
//! ```
//!
//! Three sentences carry it. *Before steno hears that a node has failed, what the node may have left is undone.* *An undo
//! never fails: it is tried until it succeeds, or until an operator has given up on it, durably.* *Whoever is fenced or
//! told to stop stops everywhere at once, writes nothing more, and leaves the log to whoever resumes it.*
//!
//! For people who add sagas: `docs/SAGAS.md`.
//!
//! # Reading order
//!
//! - What a kind is made of: [`kind`], [`plan`], [`policy`], [`fault`], [`step`]; `definition` makes a graph of it, and
//!   `registry` keeps the kinds.
//! - What is stored, and by whom: [`types`], [`ports`].
//! - One saga that runs: `live`, `persist`, `log_store`, `node_action`.
//! - All of them: [`engine`], `complete`; [`taking`]: from a plan of recovery to sagas that can be executed on; [`refusal`]: what it does not do, and what is known then.
//! - With the feature `testing`: `contract`, what every store must do, as one test; `testing`, a store in memory that dies,
//!   lies and stalls by script; `interpose`: who stands between the engine and a kind's own code.

mod complete;
#[cfg(feature = "testing")]
pub mod contract;
mod definition;
pub mod engine;
pub mod fault;
#[cfg(feature = "testing")]
pub mod interpose;
pub mod kind;
mod live;
mod log_store;
mod node_action;
mod persist;
pub mod plan;
pub mod policy;
pub mod ports;
pub mod refusal;
mod registry;
pub mod step;
pub mod taking;
#[cfg(feature = "testing")]
pub mod testing;
pub mod types;

pub use definition::{Definition, DefinitionError, NODES_MAX, WAYS_MAX};
pub use engine::{Buried, Engine};
pub use fault::{Cause, Failure, Fault};
pub use kind::{ActionSpec, Actions, SagaKind};
pub use live::{Blocked, LiveStatus, NodeStatus, Phase, Waits};
pub use plan::{Plan, PlanRefused, Stage};
pub use policy::{RetryPolicy, UndoPolicy};
pub use ports::{Created, SagaStore, StoreFault, Written};
pub use refusal::{ResumeError, StartError, SteerError};
pub use registry::{Kinds, KnownAction, RegisterError};
pub use step::{LookupError, Step};
pub use types::{Attention, EndState, Mark, NewSaga, NodeEvent, StoredSaga};
