//! Which unfinished sagas nobody executes.
//!
//! # The problem
//!
//! A coordinator that starts finds rows of sagas that an earlier life left unfinished, and must execute them to their
//! ends. One that runs must find rows that came to it later: adopted from a dead coordinator, or created by an INSERT
//! whose answer was lost. At any time it executes sagas of its own, and to execute one of those a second time would
//! be a catastrophe. The database cannot tell the two apart: a row says *unfinished*, never *executed right now*.
//!
//! Inference does not answer it. "Missing from two listings, therefore finished" is wrong as soon as an INSERT takes
//! longer than two passes; then a saga that runs is taken for one that nobody runs:
//!
//! ```text
//!   creator:  announce X ─────────────────────────────── INSERT X commits ──── X runs ──────────────────────►
//!   passes:          list {} : X may be finished    list {} : X is finished, forgotten   list {X} : recover X (!)
//! ```
//!
//! # The theory
//!
//! Nothing is inferred. Whoever executes a saga *claims* it before its row can exist, and gives the claim back, in so
//! many words, after its row has ended or after it has renounced: it will never execute it. What remains is one race,
//! between a listing and the claims, and one rule for it:
//!
//! > **While a listing is under way, claims are added but none is taken away.** Whatever is listed and not claimed
//! > when the listing is at hand is executed by nobody.
//!
//! Why: let X be listed. Its row was unfinished at some instant of the listing. If this process executes X, it claimed
//! it before the row existed. If that claim was given back, then either before the listing began, and a row that had
//! ended then is not listed, nor is one whose creator had renounced claimed by anybody; or later, and then it is still
//! held. So X listed and unclaimed means that nobody here executes X.
//!
//! ```text
//!   claims        ── claim ──►  running  ── finished | gave up | fenced ──►  gone, at once;
//!   (`claims`)                     ▲                                         within a window: when it closes
//!                                  │ resumed
//!   one pass      Window::open ─► .list(…) ─► Listed ─► .plan(…) ─► Plan ─► adopt ─► load ─► execute on
//!   (`window`)    removals wait ────────────────────────────┘ removals happen
//! ```
//!
//! Claims speak of this process only. What of the lives before it, and of a process that should not be? A process that has
//! died may have a write on its way still, and one that was thought dead may go on. So **to resume is to adopt**: the
//! row's *adoption epoch* is raised by compare-and-set, durably, before the log is loaded. Every write of an executor is
//! refused unless the row has its epoch; so what an earlier one had on its way is in the log that is loaded, or nowhere, and
//! an earlier one that goes on is refused its next write, and stops.
//!
//! The two rules stand behind each other. Without the window a saga that ended a moment ago would be planned, and its
//! adoption refused: counted as a failure, though nothing failed. Without the adoption a dead life could write into a log
//! that was read.
//!
//! ```text
//!   dead life:   line begun … on its way ─────────────────────────────────► refused: not its epoch any more
//!   next life:                              list ─► adopt (2 → 3) ─► load ─► execute on, under 3
//! ```
//!
//! The order is enforced by types: a plan is only made of a listing, a listing only within a window, and a window that
//! is dropped anywhere lets the waiting removals happen; only an [`Adopted`] is executed, and only a [`Resuming`] becomes one.
//!
//! Claims are of a saga *and* its adoption epoch ([`SagaKey`]). A row that was adopted away and back while the earlier
//! executor still runs is not recovered before that one has been fenced and has said so.
//!
//! # What a crash leaves
//!
//! Nothing: claims are memory, and die with the executors that they speak of. A row that was adopted and not resumed is
//! listed again, and adopted again.
//!
//! # Reading order
//!
//! - [`types`]: sagas as a listing shows them. [`claims`]: what is executed here. [`window`]: one pass.
//! - [`setbacks`]: when a saga that could not be resumed is tried again. [`report`]: every number of it, and the rules
//!   that they obey.
//!
//! No clock, no I/O: who lists and resumes is the coordinator. The tests walk through every reachable state of this code
//! together with a model of the database.

pub mod claims;
pub mod report;
pub mod setbacks;
pub mod types;
pub mod window;

pub use claims::{Adopted, Claim, Claims, Resuming};
pub use report::{PassReport, RecoveryReport, Totals};
pub use setbacks::Setbacks;
pub use types::{SagaKey, UnfinishedSaga};
pub use window::{Deferral, Listed, Plan, PlanRules, Window};
