//! The sled's Pantry: the process that holds volumes with no VM, and who may ask it.
//!
//! **Problem.** A coordinator has a volume filled, exported or scrubbed by a sled; that takes hours, longer than an agent may live, and a
//! coordinator that was replaced must not end what its successor has begun.
//!
//! **Theory.** One process, `sled-agent pantry`, holds all volumes of the sled, and outlives the agent as each Downstairs does. The agent alone
//! asks it, at a socket that nobody else may open. Who may ask is the agent's: it checks tokens, and keeps for each volume, durably, the highest
//! right of a coordinator that it has heard of. What volumes and jobs do is the Pantry's own (`volume-repair/pantry`).
//!
//! ```text
//!   coordinator ──token, executor_epoch──► http::pantry ──► handle ──► records (<state_dir>/pantry.json)
//!                                                             │
//!                                                             └──unix socket──► sled-agent pantry ──► volumes
//!                                       supervision (a task) ── starts, finds again ──┘ (outlives the agent)
//! ```
//!
//! It is started by the first attachment, so that a sled that needs none has none.
//!
//! - [`records`]: what is remembered of each volume. [`handle`]: the calls. [`places`]: where volumes are exported over TCP. [`error`]: refusals.
//! - [`supervise`]: when the process is to run, and whether it does ([`supervision`](crate::supervision)). [`serve`]: that process's own side, and
//!   how it is ended by hand.

pub mod error;
pub mod handle;
pub mod places;
pub mod records;
pub mod serve;
mod supervise;

pub use error::PantryCallError;
pub use handle::Pantry;
pub use supervise::Process;
