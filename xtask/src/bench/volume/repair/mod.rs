//! Members that are replaced, one that comes back, and snapshots: how long that takes, and what clients notice of it. Owns the order of
//! rounds.
//!
//! ```text
//!   start ours and the peer ─► write all of each through its socket
//!   idle:       N times:  look at the machine ─► for each:  kill a member ─► replace it                   (repair_rate)
//!   paced:      N times:  … the same, while 100 reads and 100 writes are asked in a second     (repair_paced, repair_paced_p99)
//!   guest:      N times:  … the same, while 16 writes are always under way       (repair_guest_share, repair_guest_time)
//!   reconcile:  N times:  … a member that was away while 1 % was written comes back with its export   (reconcile)
//!   snapshots:  N times:  … all is written anew; ten snapshots, while 50 MiB are written in a second; the first and the last of them
//!               are read back, and have the SHA-256 that the volume had         (snapshot_pause, snapshot_pause_max)
//!   end all; the newest copy of each is compared with one that clients have written
//! ```
//!
//! Between any two of them whoever worked is flushed, and `syncfs` writes back what is dirty. The idle rounds run, too, where only rows
//! that are measured by them are asked for.
//!
//! The encrypted form of ours is not measured here, and there is no limit: one file has no members.

mod load;
mod mirror;
mod ours;
mod qmp;
mod rows;
mod state;
mod subject;
mod writer;
mod written;

pub(super) use rows::{RepairRow, page};

use super::{
    REGION_BYTES, look,
    machine::{self, Machine},
    ours as volume_of_ours,
    subject::{CHILDREN, Role, version},
};
use anyhow::{Context, Result};
use camino::Utf8Path;
use load::{Load, Seen, Window};
use ours::Returned;
use subject::Subject;

/// The rows, as the outside contract names them.
pub(super) const NAMES: [&str; 8] = [
    "repair_rate",
    "repair_paced",
    "repair_paced_p99",
    "repair_guest_share",
    "repair_guest_time",
    "reconcile",
    "snapshot_pause",
    "snapshot_pause_max",
];

/// Who is measured.
pub(super) const ROLES: [Role; 2] = [Role::Peer, Role::Ours];

/// What is asked for.
#[derive(Clone, Debug)]
pub(super) struct Repairs {
    /// Of [`NAMES`].
    pub(super) rows: Vec<&'static str>,
    /// Of [`ROLES`].
    pub(super) roles: Vec<Role>,
    /// Rounds.
    pub(super) samples: usize,
    /// How long clients are looked at while nothing happens, in seconds.
    pub(super) seconds: u32,
}

impl Repairs {
    /// Whether there is anything to do.
    pub(super) fn is_any(&self) -> bool {
        !self.rows.is_empty() && !self.roles.is_empty()
    }

    /// Bytes of disk: while a member is replaced there is one more.
    pub(super) fn bytes(&self) -> u64 {
        let one = |role: &Role| match role {
            Role::Ours => volume_of_ours::bytes(REGION_BYTES) / 3 * 4,
            _ => (CHILDREN as u64 + 1) * REGION_BYTES,
        };
        self.roles.iter().map(one).sum()
    }

    fn wants(&self, rows: &[&str]) -> bool {
        self.rows.iter().any(|row| rows.contains(row))
    }

    fn wants_idle(&self) -> bool {
        self.wants(&["repair_rate", "repair_paced", "repair_guest_time", "reconcile"])
    }
}

/// One replacement.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Took {
    /// From the request on.
    seconds: f64,
    /// Whether it came to its end; else this is how long it was waited for.
    is_whole: bool,
    window: Window,
}

/// One replacement under load: what clients saw just before, and meanwhile.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Loaded {
    took: Took,
    without: Seen,
    during: Seen,
}

/// One snapshot under load.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Pause {
    /// The longest request that was under way meanwhile.
    request_ms: f64,
    /// From the request for it until it was there.
    took_ms: f64,
}

/// Rounds of one kind.
#[derive(Clone, Debug)]
struct Rounds<T> {
    machine: Vec<Machine>,
    peer: Vec<T>,
    ours: Vec<T>,
}

impl<T> Rounds<T> {
    fn none() -> Rounds<T> {
        Rounds { machine: Vec::new(), peer: Vec::new(), ours: Vec::new() }
    }

    fn of(&mut self, role: Role) -> &mut Vec<T> {
        if role == Role::Peer { &mut self.peer } else { &mut self.ours }
    }
}

/// All that was measured. What was not asked for has no rounds.
#[derive(Clone, Debug)]
struct Measured {
    idle: Rounds<Took>,
    paced: Rounds<Loaded>,
    guest: Rounds<Loaded>,
    reconcile: Rounds<Returned>,
    snapshots: Rounds<Pause>,
    peer_version: String,
}

/// Measures what is asked for. `programs` has ours.
pub(super) async fn run(dir: &Utf8Path, programs: &Utf8Path, repairs: &Repairs) -> Result<Vec<RepairRow>> {
    machine::warn_of_little_memory(repairs.bytes())?;
    let mut subjects = Vec::new();
    for role in &repairs.roles {
        eprintln!("filling {}: a member of it will be replaced", role.word());
        let subject = Subject::start(dir, programs, *role).await?;
        subject.fill().await?;
        subject.settle().await?;
        subjects.push(subject);
    }
    let measured = measure(dir, &mut subjects, repairs).await?;
    for subject in subjects {
        subject.stop_and_compare().await?;
    }
    Ok(rows::rows(&measured, &repairs.rows))
}

async fn measure(dir: &Utf8Path, subjects: &mut [Subject], repairs: &Repairs) -> Result<Measured> {
    let rounds = |is_wanted: bool| if is_wanted { repairs.samples } else { 0 };
    let mut measured = Measured {
        idle: Rounds::none(),
        paced: Rounds::none(),
        guest: Rounds::none(),
        reconcile: Rounds::none(),
        snapshots: Rounds::none(),
        peer_version: version("qemu-nbd").await?,
    };
    for round in 1..=rounds(repairs.wants_idle()) {
        measured.idle.machine.push(look(dir).await?);
        for subject in &mut *subjects {
            let took = subject.idle().await.with_context(|| doing("idle", subject))?;
            tell("idle", round, repairs, subject, &took);
            measured.idle.of(subject.role()).push(took);
        }
    }
    for (load, wanted) in [
        (Load::Paced, ["repair_paced", "repair_paced_p99"]),
        (Load::Guest, ["repair_guest_share", "repair_guest_time"]),
    ] {
        for round in 1..=rounds(repairs.wants(&wanted)) {
            let all = if load == Load::Paced { &mut measured.paced } else { &mut measured.guest };
            all.machine.push(look(dir).await?);
            for subject in &mut *subjects {
                let loaded = subject.loaded(load, repairs.seconds).await;
                let loaded = loaded.with_context(|| doing(load.name(), subject))?;
                tell(load.name(), round, repairs, subject, &loaded.took);
                all.of(subject.role()).push(loaded);
            }
        }
    }
    for round in 1..=rounds(repairs.wants(&["reconcile"])) {
        measured.reconcile.machine.push(look(dir).await?);
        for subject in &mut *subjects {
            let returned = subject.reconcile().await.with_context(|| doing("reconcile", subject))?;
            if let Some(returned) = returned {
                eprintln!("reconcile {round}/{}  ours: {:.2} s", repairs.samples, returned.seconds);
                measured.reconcile.ours.push(returned);
            }
        }
    }
    for round in 1..=rounds(repairs.wants(&["snapshot_pause", "snapshot_pause_max"])) {
        measured.snapshots.machine.push(look(dir).await?);
        for subject in &mut *subjects {
            let pauses = subject.snapshots().await.with_context(|| doing("snapshots", subject))?;
            let longest = pauses.iter().map(|pause| pause.request_ms).fold(0.0, f64::max);
            if !pauses.is_empty() {
                eprintln!("snapshots {round}/{}  ours: the longest pause {longest:.1} ms", repairs.samples);
            }
            measured.snapshots.of(subject.role()).extend(pauses);
        }
    }
    Ok(measured)
}

/// What was being done when it failed.
fn doing(kind: &str, subject: &Subject) -> String {
    format!("{kind}, {}", subject.role().word())
}

fn tell(kind: &str, round: usize, repairs: &Repairs, subject: &Subject, took: &Took) {
    let end = if took.is_whole { "" } else { ", and has not come to its end" };
    let (role, seconds) = (subject.role().word(), took.seconds);
    eprintln!("replacing, {kind} {round}/{}  {role}: {seconds:.2} s{end}", repairs.samples);
}
