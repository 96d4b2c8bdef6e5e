//! Volumes: fio over NBD on subjects that run side by side. Owns the order of things: what is needed, the turns, what
//! happens between two runs, and that nothing is left.
//!
//! ```text
//!   start the subjects that are asked for ─► write each one's whole region through its socket
//!   for each job, N times:   look at the machine
//!                            for each subject:  run the job ─► flush, syncfs
//!   end all processes, remove the directory ─► members that are replaced (`repair`), by themselves
//!                                           ─► the memory of idle regions, by itself
//!   ending and removing: also after a failure, SIGINT, SIGTERM
//! ```
//!
//! **Turns.** What is compared runs within seconds of each other, because the machine drifts. Each round tells what the
//! machine could do just before it, and whether somebody else was at work: then its figures are worth little.
//!
//! **Between two runs** whoever ran is flushed through its socket, and then `syncfs` writes back whatever else is dirty, so
//! that each run begins without dirty pages and nobody's run pays for the writes of the one before. It is the same for
//! all. The page cache is not dropped: reads find it warm, for all alike, as the region was written through the socket
//! just before. Nobody's figure contains its last writeback; `randwrite_4k_fsync` shows what durability costs.
//!
//! **Filled** means written, through the socket, in pieces of 1 MiB. The size of the pieces matters: ext4 keeps what came in
//! large writes in large folios, and a write of 4 KiB into one of them costs the kernel 10 to 20 µs instead of 2. A raw
//! file that was filled in pieces of 64 KiB takes twice as many random writes; such a limit is not measured here.
//!
//! **Memory** of the machine should hold all files of all subjects; else reads measure the disk. A person is told if it
//! does not, and can leave a subject out.

mod fio;
mod idle;
mod jobs;
mod machine;
mod memory;
mod ours;
mod repair;
mod report;
mod server;
mod subject;

pub(super) use jobs::JOB_SECONDS;
pub(super) use report::{VolumeRow, table};
pub(super) use subject::Role;

use crate::workspace;
use anyhow::{Context, Result, bail, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use fio::Direction;
use jobs::{JOBS, Job};
use report::{Measured, Run, Side};
use std::{fs::File, process::Stdio};
use subject::{Subject, qemu_io};
use tokio::{
    process::Command,
    signal::unix::{SignalKind, signal},
};

/// What each subject serves.
const REGION_BYTES: u64 = 2 << 30;

/// Room that is left on the disk when all files have their full size.
const SPARE_BYTES: u64 = 1 << 30;

/// Share of the processors that others may use before a person is told.
const BUSY_SHARE: f64 = 0.10;

const GIB: f64 = (1_u64 << 30) as f64;

/// Programs that are needed, with an argument that makes them answer, and what is to be found in the answer.
const PROGRAMS: [(&str, &str, &str); 4] = [
    ("fio", "--enghelp", "nbd"),
    ("qemu-nbd", "--version", "qemu-nbd"),
    ("qemu-io", "--version", "qemu-io"),
    ("setpriv", "--help", "--pdeathsig"),
];

/// The same of what only members that are replaced need.
const REPAIR_PROGRAMS: [(&str, &str, &str); 2] =
    [("qemu-img", "--version", "qemu-img"), ("qemu-storage-daemon", "--version", "qemu-storage-daemon")];

/// What is asked for.
#[derive(Clone, Debug)]
pub(super) struct Order {
    /// Only these rows; all of them if none is named.
    pub(super) only: Vec<String>,
    /// Only these subjects; all of them if none is named.
    pub(super) roles: Vec<Role>,
    /// Rounds of each job.
    pub(super) samples: usize,
    /// Longest time of a job.
    pub(super) seconds: u32,
}

impl Order {
    /// Refuses rows and subjects that there are not.
    pub(super) fn check(&self) -> Result<()> {
        let names: Vec<&str> =
            JOBS.iter().map(|job| job.name).chain(repair::NAMES).chain([idle::NAME]).collect();
        if let Some(unknown) = self.only.iter().find(|name| !names.contains(&name.as_str())) {
            bail!("no row {unknown:?}; there are {}", names.join(", "));
        }
        Ok(())
    }

    fn wants(&self, row: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|one| one == row)
    }

    fn jobs(&self) -> Vec<Job> {
        JOBS.into_iter().filter(|job| self.wants(job.name)).collect()
    }

    /// In the order in which they take turns, whatever the order in which they were named.
    fn roles(&self) -> Vec<Role> {
        Role::ALL.into_iter().filter(|role| self.roles.is_empty() || self.roles.contains(role)).collect()
    }

    /// What is to be measured of replacing members.
    fn repairs(&self) -> repair::Repairs {
        let rows = repair::NAMES.into_iter().filter(|row| self.wants(row)).collect();
        let roles = self.roles().into_iter().filter(|role| repair::ROLES.contains(role)).collect();
        repair::Repairs { rows, roles, samples: self.samples, seconds: self.seconds }
    }

    /// Whether ours is among them, and the row of idle regions is asked for.
    fn wants_idle(&self) -> bool {
        self.wants(idle::NAME) && self.roles().iter().any(|role| *role > Role::Peer)
    }
}

/// Measures what is asked for. `programs` has ours.
pub(super) async fn run(order: &Order, programs: &Utf8Path) -> Result<Vec<VolumeRow>> {
    check_programs(order).await?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    tokio::select! {
        // Processes end with whoever holds them, and files with their place.
        rows = rows(order, programs) => rows,
        _ = interrupt.recv() => bail!("interrupted; nothing is left"),
        _ = terminate.recv() => bail!("terminated; nothing is left"),
    }
}

async fn rows(order: &Order, programs: &Utf8Path) -> Result<Vec<VolumeRow>> {
    let dir = workspace::target_dir()?.join("bench").join("volume");
    let (jobs, roles) = (order.jobs(), order.roles());
    let mut rows = Vec::new();
    if !jobs.is_empty() {
        let bytes: u64 = roles.iter().map(|role| role.bytes()).sum();
        machine::warn_of_little_memory(bytes)?;
        let place = Place::create(dir.clone(), bytes)?;
        let subjects = subject::start_all(&place.dir, programs, &roles).await?;
        let measured = measure(&place.dir, &subjects, &jobs, order).await;
        let stopped = stop_all(subjects).await;
        // What went wrong first is what is told.
        let measured = measured?;
        stopped?;
        place.remove()?;
        rows.extend(measured.iter().flat_map(report::rows).map(|row| VolumeRow::Job(Box::new(row))));
        rows.extend(memory::rows(&measured).into_iter().map(|row| VolumeRow::Memory(Box::new(row))));
    }
    let repairs = order.repairs();
    if repairs.is_any() {
        let place = Place::create(dir.clone(), repairs.bytes())?;
        let measured = repair::run(&place.dir, programs, &repairs).await?;
        place.remove()?;
        rows.extend(measured.into_iter().map(|row| VolumeRow::Repair(Box::new(row))));
    }
    if order.wants_idle() {
        let place = Place::create(dir, idle::BYTES)?;
        rows.push(VolumeRow::Memory(Box::new(idle::run(&place, programs).await?)));
        place.remove()?;
    }
    Ok(rows)
}

async fn stop_all(subjects: Vec<Subject>) -> Result<()> {
    for subject in subjects {
        subject.stop().await?;
    }
    Ok(())
}

/// Says all that is missing at once.
async fn check_programs(order: &Order) -> Result<()> {
    let mut missing = Vec::new();
    let more = REPAIR_PROGRAMS.into_iter().filter(|_| order.repairs().is_any());
    for (program, argument, answer) in PROGRAMS.into_iter().chain(more) {
        let output = Command::new(program).arg(argument).stdin(Stdio::null()).output().await;
        let said = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        if !said.is_ok_and(|said| said.contains(answer)) {
            missing.push(format!("{program} (whose {argument} tells of {answer})"));
        }
    }
    // Where qemu-utils is older, qemu-storage-daemon is in another package.
    let install =
        "apt-get install --no-install-recommends fio qemu-utils util-linux (and qemu-system-common)";
    ensure!(missing.is_empty(), "missing: {}; on Debian: {install}", missing.join(", "));
    Ok(())
}

/// The directory of everything that is written.
struct Place {
    dir: Utf8PathBuf,
}

impl Place {
    /// An empty one, on a disk that has room for so many bytes of subjects.
    fn create(dir: Utf8PathBuf, bytes: u64) -> Result<Place> {
        let place = Place { dir };
        // A run that was killed has left it.
        place.remove()?;
        let dir = &place.dir;
        std::fs::create_dir_all(dir).with_context(|| format!("creating {dir}"))?;
        let disk = rustix::fs::statvfs(dir.as_str()).with_context(|| format!("asking for room at {dir}"))?;
        let (free, needed) = (disk.f_bavail * disk.f_frsize, bytes + machine::FILE_BYTES + SPARE_BYTES);
        ensure!(
            free >= needed,
            "{dir} has room for {:.1} GiB; {:.1} GiB are needed",
            free as f64 / GIB,
            needed as f64 / GIB
        );
        Ok(place)
    }

    fn remove(&self) -> Result<()> {
        match std::fs::remove_dir_all(&self.dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("removing {}", self.dir))
            }
            _ => Ok(()),
        }
    }
}

impl Drop for Place {
    /// Also after a start that failed.
    fn drop(&mut self) {
        let _ = self.remove();
    }
}

/// Fills all subjects, and gives them turns.
async fn measure(dir: &Utf8Path, subjects: &[Subject], jobs: &[Job], order: &Order) -> Result<Vec<Measured>> {
    for subject in subjects {
        eprintln!("filling {}: {}", subject.role.word(), subject.what);
        fill(dir, subject).await?;
        settle(dir, &subject.socket, subject.role).await?;
    }
    let mut all = Vec::new();
    for job in jobs {
        let sides = subjects.iter().map(Side::of).collect();
        let mut measured = Measured { job: *job, seconds: order.seconds, sides, machine: Vec::new() };
        for round in 1..=order.samples {
            measured.machine.push(look(dir).await?);
            for (subject, side) in subjects.iter().zip(&mut measured.sides) {
                let run = run_once(dir, subject, *job, order.seconds).await;
                let run = run.with_context(|| format!("{} on {}", job.name, subject.role.word()))?;
                let (figure, unit) = (report::figure(*job, &run.counted), job.unit());
                let role = subject.role.word();
                eprintln!("{} {round}/{}  {role}: {figure:.0} {unit}", job.name, order.samples);
                side.runs.push(run);
                settle(dir, &subject.socket, subject.role).await?;
            }
        }
        all.push(measured);
    }
    Ok(all)
}

/// Writes the whole region once.
async fn fill(dir: &Utf8Path, subject: &Subject) -> Result<()> {
    let size = format!("--size={REGION_BYTES}");
    let args = ["--name=fill", "--rw=write", "--bs=1M", "--iodepth=8", &size].map(str::to_owned);
    let filled = fio::run(dir, &subject.socket, &args, Direction::Write).await;
    filled.with_context(|| format!("filling {}", subject.role.word())).map(drop)
}

/// Lets nothing of a run be left for the next one.
async fn settle(dir: &Utf8Path, socket: &Utf8Path, role: Role) -> Result<()> {
    let flushed = qemu_io(socket, &["flush"]).await;
    flushed.with_context(|| format!("flushing {}", role.word()))?;
    let dir = dir.to_owned();
    let synced = tokio::task::spawn_blocking(move || {
        let opened = File::open(&dir).with_context(|| format!("opening {dir}"))?;
        rustix::fs::syncfs(opened).with_context(|| format!("syncing the file system of {dir}"))
    });
    synced.await.context("syncing")?
}

async fn look(dir: &Utf8Path) -> Result<machine::Machine> {
    let look = machine::look(dir.join("disk")).await?;
    if look.busy_share > BUSY_SHARE {
        eprintln!(
            "somebody else uses {:.0} % of the processors: these figures are worth little",
            look.busy_share * 100.0
        );
    }
    Ok(look)
}

async fn run_once(dir: &Utf8Path, subject: &Subject, job: Job, seconds: u32) -> Result<Run> {
    for server in &subject.servers {
        server.forget_highest_memory()?;
    }
    let before = subject.cpu_seconds()?;
    let counted = fio::run(dir, &subject.socket, &job.fio_args(seconds), job.direction()).await?;
    let cpu_seconds = subject.cpu_seconds()? - before;
    let memory =
        subject.servers.iter().map(|server| Ok((server.name().to_owned(), server.highest_memory_mib()?)));
    Ok(Run { counted, cpu_seconds, memory_mib: memory.collect::<Result<_>>()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(only: &[&str], roles: &[Role]) -> Order {
        let only = only.iter().map(|row| (*row).to_owned()).collect();
        Order { only, roles: roles.to_vec(), samples: 3, seconds: JOB_SECONDS }
    }

    #[test]
    fn only_rows_that_there_are_can_be_asked_for() {
        assert!(order(&[], &[]).check().is_ok());
        assert!(order(&["seqread_1m_qd8", "randwrite_4k_fsync", "idle_regions_memory"], &[]).check().is_ok());
        let error = order(&["seqread_1m_qd9"], &[]).check().unwrap_err().to_string();
        assert!(error.starts_with("no row \"seqread_1m_qd9\"; there are seqwrite_1m_qd1,"), "{error}");
    }

    #[test]
    fn subjects_take_turns_in_one_order_however_they_are_named() {
        assert_eq!(order(&[], &[Role::Ours, Role::Limit]).roles(), [Role::Limit, Role::Ours]);
        assert_eq!(order(&[], &[]).roles(), Role::ALL);
    }

    #[test]
    fn repairs_are_of_the_peer_and_of_ours_where_they_are_asked_for() {
        let all = order(&[], &[]).repairs();
        assert!(all.is_any() && all.rows == repair::NAMES && all.roles == [Role::Peer, Role::Ours]);
        let one = order(&["reconcile"], &[Role::Ours, Role::Limit]).repairs();
        assert!(one.is_any() && one.rows == ["reconcile"] && one.roles == [Role::Ours]);
        assert!(!order(&["seqread_1m_qd8"], &[]).repairs().is_any());
        assert!(!order(&[], &[Role::Limit, Role::OursEncrypted]).repairs().is_any());
        assert!(order(&["repair_rate"], &[]).jobs().is_empty());
    }

    #[test]
    fn idle_regions_are_measured_where_ours_is() {
        assert!(order(&[], &[]).wants_idle() && order(&["idle_regions_memory"], &[]).wants_idle());
        assert!(!order(&[], &[Role::Limit, Role::Peer]).wants_idle());
        assert!(!order(&["seqread_1m_qd8"], &[]).wants_idle());
        assert!(order(&["idle_regions_memory"], &[]).jobs().is_empty());
    }
}
