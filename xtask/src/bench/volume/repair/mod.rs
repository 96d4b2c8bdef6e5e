//! Members that are replaced, and one that comes back: how long that takes, and what clients notice of it. Owns the order of rounds.
//!
//! ```text
//!   start ours and the peer ─► write all of each through its socket
//!   idle:       N times:  look at the machine ─► for each:  kill a member ─► replace it                   (repair_rate)
//!   paced:      N times:  … the same, while 100 reads and 100 writes are asked in a second     (repair_paced, repair_paced_p99)
//!   guest:      N times:  … the same, while 16 writes are always under way       (repair_guest_share, repair_guest_time)
//!   reconcile:  N times:  … a member that was away while 1 % was written comes back with its export   (reconcile)
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

pub(super) use rows::{RepairRow, page};

use super::{
    REGION_BYTES, fio, look,
    machine::{self, Machine},
    ours as volume_of_ours, settle,
    subject::{CHILDREN, Role, version},
};
use anyhow::{Context, Result, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use load::{Load, Requests, Seen, Window, now_ms};
use mirror::Quorum;
use ours::{Replaced, Returned};
use std::time::Duration;
use tokio::time::sleep;

/// The rows, as the outside contract names them.
pub(super) const NAMES: [&str; 6] = [
    "repair_rate",
    "repair_paced",
    "repair_paced_p99",
    "repair_guest_share",
    "repair_guest_time",
    "reconcile",
];

/// Who is measured.
pub(super) const ROLES: [Role; 2] = [Role::Peer, Role::Ours];

/// How long a load runs before anything is counted.
const SETTLING: Duration = Duration::from_secs(1);

/// How long a load goes on behind what is counted.
const TAIL: Duration = Duration::from_millis(500);

/// How long the peer's copy may take under load: it need not come to an end.
const PEER_LIMIT: Duration = Duration::from_secs(60);

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
}

/// All that was measured. What was not asked for has no rounds.
#[derive(Clone, Debug)]
struct Measured {
    idle: Rounds<Took>,
    paced: Rounds<Loaded>,
    guest: Rounds<Loaded>,
    reconcile: Rounds<Returned>,
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
        peer_version: version("qemu-nbd").await?,
    };
    for round in 1..=rounds(repairs.wants_idle()) {
        measured.idle.machine.push(look(dir).await?);
        for subject in &mut *subjects {
            let took = subject.idle().await?;
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
                let loaded = subject.loaded(load, repairs.seconds).await?;
                tell(load.name(), round, repairs, subject, &loaded.took);
                all.of(subject.role()).push(loaded);
            }
        }
    }
    for round in 1..=rounds(repairs.wants(&["reconcile"])) {
        measured.reconcile.machine.push(look(dir).await?);
        for subject in &mut *subjects {
            if let Some(returned) = subject.reconcile().await? {
                eprintln!("reconcile {round}/{}  ours: {:.2} s", repairs.samples, returned.seconds);
                measured.reconcile.ours.push(returned);
            }
        }
    }
    Ok(measured)
}

impl<T> Rounds<T> {
    fn of(&mut self, role: Role) -> &mut Vec<T> {
        if role == Role::Peer { &mut self.peer } else { &mut self.ours }
    }
}

fn tell(kind: &str, round: usize, repairs: &Repairs, subject: &Subject, took: &Took) {
    let end = if took.is_whole { "" } else { ", and has not come to its end" };
    let (role, seconds) = (subject.role().word(), took.seconds);
    eprintln!("replacing, {kind} {round}/{}  {role}: {seconds:.2} s{end}", repairs.samples);
}

/// Something that keeps three copies, one of which is lost and replaced.
struct Subject {
    /// All of its files.
    dir: Utf8PathBuf,
    kind: Kind,
}

enum Kind {
    Ours(Box<Replaced>),
    Peer(Box<Quorum>),
}

impl Subject {
    async fn start(dir: &Utf8Path, programs: &Utf8Path, role: Role) -> Result<Subject> {
        let dir = dir.join(if role == Role::Peer { "peer" } else { "ours" });
        std::fs::create_dir(&dir).with_context(|| format!("creating {dir}"))?;
        let kind = match role {
            Role::Peer => Kind::Peer(Box::new(Quorum::start(&dir).await?)),
            _ => Kind::Ours(Box::new(Replaced::start(&dir, programs).await?)),
        };
        Ok(Subject { dir, kind })
    }

    fn role(&self) -> Role {
        match &self.kind {
            Kind::Ours(_) => Role::Ours,
            Kind::Peer(_) => Role::Peer,
        }
    }

    fn socket(&self) -> &Utf8Path {
        match &self.kind {
            Kind::Ours(ours) => &ours.socket,
            Kind::Peer(peer) => &peer.socket,
        }
    }

    /// Writes all of it once: each block says where it is, and the rest of it is random.
    async fn fill(&self) -> Result<()> {
        let size = format!("--size={REGION_BYTES}");
        let args = ["--name=fill", "--rw=write", "--bs=1M", "--iodepth=8", &size];
        let content = ["--verify=crc32c", "--verify_interval=4k", "--do_verify=0", "--verify_state_save=0"];
        let args: Vec<String> = args.into_iter().chain(content).map(str::to_owned).collect();
        let filled = fio::run(&self.dir, self.socket(), &args, fio::Direction::Write).await;
        filled.with_context(|| format!("filling {}", self.role().word())).map(drop)
    }

    async fn settle(&self) -> Result<()> {
        settle(&self.dir, self.socket(), self.role()).await
    }

    async fn lose(&mut self) -> Result<()> {
        match &mut self.kind {
            Kind::Ours(ours) => ours.lose().await,
            Kind::Peer(peer) => peer.lose().await,
        }
    }

    /// Afterwards all members are there, and have everything.
    async fn finish(&mut self) -> Result<()> {
        match &mut self.kind {
            Kind::Ours(ours) => ours.wait_whole().await?,
            Kind::Peer(peer) => peer.finish().await?,
        }
        self.settle().await
    }

    async fn replace(&mut self) -> Result<Took> {
        match &mut self.kind {
            Kind::Ours(ours) => ours.replace().await,
            Kind::Peer(peer) => peer.replace(PEER_LIMIT).await,
        }
    }

    /// Nobody else asks anything.
    async fn idle(&mut self) -> Result<Took> {
        self.lose().await?;
        let took = self.replace().await?;
        self.finish().await?;
        Ok(took)
    }

    /// Clients go on.
    async fn loaded(&mut self, load: Load, seconds: u32) -> Result<Loaded> {
        let run = fio::start_logged(&self.dir, self.socket(), load.name(), load.jobs(), &load.fio_args())?;
        // The measurement itself: this much time is passed over, and that much is looked at.
        sleep(SETTLING).await;
        let from_ms = now_ms()?;
        sleep(Duration::from_secs(seconds.into())).await;
        let without = Window::since(from_ms)?;
        self.lose().await?;
        let took = self.replace().await?;
        // What was asked before the end of the replacement is answered, and counted by how long it took.
        sleep(TAIL).await;
        let requests = Requests::of(&run.end().await?)?;
        self.finish().await?;
        let (without, during) = (requests.seen_in(without)?, requests.seen_in(took.window)?);
        if load == Load::Paced {
            let all = [&without, &during].map(|seen| seen.read_p99_us.and(seen.write_p99_us));
            ensure!(all.iter().all(Option::is_some), "the load had no reads, or no writes: {all:?}");
        }
        Ok(Loaded { took, without, during })
    }

    /// A member comes back; none where nothing is known of what it lacks.
    async fn reconcile(&mut self) -> Result<Option<Returned>> {
        let Kind::Ours(ours) = &mut self.kind else { return Ok(None) };
        let returned = ours.reconcile().await?;
        self.settle().await?;
        Ok(Some(returned))
    }

    async fn stop_and_compare(self) -> Result<()> {
        let role = self.role().word();
        let ended = match self.kind {
            Kind::Ours(ours) => ours.stop_and_compare().await,
            Kind::Peer(peer) => peer.stop_and_compare().await,
        };
        ended.with_context(|| format!("ending {role}"))
    }
}
