//! The depot, end to end, on real processes: an upload that was acknowledged reaches both M.2s of every sled, whatever
//! is killed, stopped, added, broken or confused on the way, and leaves again when nobody wants it any more.
//!
//! Every test is a claim about a cluster of its own. Moments are chosen by name (fault points), never by luck of
//! timing; waits are bounded and say what they saw last. What counts as proof is in [`proof`]: the sleds' own word,
//! and the bytes on their disks.
//!
//! - [`scene`]: a cluster, a publisher, small releases. [`proof`]: what is really there. [`deliveries`]: who sent what.
//! - [`coordinator_killed`], [`sled_killed`]: SIGKILL at a chosen instant.
//! - [`absent_sleds`]: away, late, new, stopped. [`peers`]: who does the copying.
//! - [`shared_artifacts`]: repositories come and go. [`concurrent_uploads`]: two at once. [`lost_artifacts`]: bytes that
//!   are nowhere.
//! - [`odd_uploads`]: what is unusual and fine, or changed under the upload.
//! - [`acknowledgement`]: what `?wait=replicated` promises.
//! - [`m2_faults`], [`m2_rot`]: disks that fail, fill up, stall, vanish; bytes that decay.
//! - [`on_postgres`]: the main cases on the other database; [`chosen_database`]: how.
//! - [`restarts`], [`rebuilt_sleds`], [`strange_sleds`]: who remembers what, and who is not obeyed.

#[path = "../chosen_database/mod.rs"]
mod chosen_database;
mod deliveries;
mod proof;
mod scene;

mod absent_sleds;
mod acknowledgement;
mod concurrent_uploads;
mod coordinator_killed;
mod lost_artifacts;
mod m2_faults;
mod m2_rot;
mod odd_uploads;
mod on_postgres;
mod peers;
mod rebuilt_sleds;
mod restarts;
mod shared_artifacts;
mod sled_killed;
mod strange_sleds;
