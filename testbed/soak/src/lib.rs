//! The soak: sagas under load and SIGKILL for a long time, and the proof that none was lost, forgotten or run twice.
//!
//! # The problem
//!
//! Each promise of sagas has tests that kill at a known place. That no *unknown* place breaks them is only seen by doing
//! it often: thousands of sagas, at random instants, on a real coordinator.
//!
//! # The theory
//!
//! Whoever is acknowledged keeps a book of its own. When all is over, four books have to say the same:
//!
//! ```text
//!   clients ── POST … 202 ──► ledger: id, how it was to end ────────┐
//!       └── wait for the end ──► state as the API tells it ─────────┤
//!   nodes ── a line per execution ──► witness, judged by its rules ─┼──► findings: none
//!   recovery ── its report: started, recovered, finished ───────────┤
//!   database, after a clean stop ── rows, event log ────────────────┘
//! ```
//!
//! - Run A, [`creation`]: clients create sagas while recovery is activated in a tight loop. It must find none of them.
//! - Run B, [`kills`]: the coordinator is killed at random instants, also while it starts.
//!
//! In reading order: [`order`]: what is wanted. [`site`]: the coordinator that it is done to. [`ledger`]: what was
//! acknowledged, and what was found wrong. [`client`]: one client, who never gives up. `run`: what every run has. [`creation`], [`kills`]: the runs.
//! [`recovery`]: what the coordinator's recovery reports. [`audit`]: the database afterwards. [`report`]: what is told.
//!
//! Which executions are right is `testbed::DemoEffects`' to say; the command line is `xtask`'s.

mod audit;
mod client;
mod creation;
mod kills;
mod ledger;
mod order;
mod recovery;
mod report;
mod run;
mod site;

pub use audit::{Audit, EventCounts, RowCounts};
pub use creation::{CreationReport, run_creation};
pub use kills::{KillReport, run_kills};
pub use ledger::Finding;
pub use order::{CreationOrder, KillOrder, Progress, SoakSite};
pub use recovery::RecoveryTotals;
pub use report::SoakReport;
