//! That processes run which outlive the agent: started, found again by its next life, started again when they end. Never ended here.
//!
//! **Problem.** A disk's regions are served, and volumes held, while the agent is replaced or dead. So it cannot know its processes as a parent
//! knows its children.
//!
//! **Theory.** Each process has a place, a directory that it alone may have, and is known by that place's lock ([`supervised_process`]).
//! Whoever looks at the place knows all that counts; nothing is remembered from one life of the agent to the next. What is to run in a place is a
//! [`Charge`]; one task looks after each.
//!
//! ```text
//!   not_looked
//!        │
//!        ▼
//!   ┌─► looks at the place ◄──────────────────────────────────────────────────┐
//!   │    │          │     │  │                                                │
//!   │ not now    nobody   │  somebody else has it                             │
//!   │    ▼       has it   │  held_elsewhere ──────────── PROBE ──────────────►│
//!   │  idle         │   ours has it                                           │
//!   │    │          ▼     ▼                                                   │
//!   └────┘         starting ──answers──► running                              │
//!  another look       │                     │                                 │
//!  is worth it        └──────── ended ──────┴───► backing_off ─── pause ─────►┘
//!                                                 (or it cannot be looked at)
//! ```
//!
//! Nothing is terminal. The agent's end moves nobody: the process goes on, and whoever looks next finds it. Only the task moves the standing. A
//! crash of the agent between the start of a process and anything else is as its end.
//!
//! - [`ports`]: what is asked of a charge. Those that there are: `disks::supervise`, `pantry::supervise`.
//! - [`state`]: how a process stands, and how long the pauses are. [`launch`]: how one is started. [`task`]: the loop.

pub mod launch;
pub mod ports;
pub mod state;
pub mod task;

pub use launch::Launch;
pub use ports::{Charge, Found};
pub use state::{Standing, State};
pub use task::Supervisor;
