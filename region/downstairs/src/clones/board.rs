//! The clones that are being made: a thread for each, a few at work at a time, and what is told of them.
//!
//! ```text
//!   ordered ──► waiting: its turn ──► copying ──► proving ──► proven                     (its region says so from then on)
//!                  ▲                     └──────────┴── may pass: a pause ──┐
//!                  └────────────────────────────────────────────────────────┤
//!                                                       never: failed ◄─────┘           ordered again: it begins again
//! ```
//!
//! What was ordered is not kept: whoever orders it, orders it again when this process has ended.

use super::{CloneError, Watch, local::Local, machine::clone_snapshot, peers::Peers};
use crate::{
    content::in_hex,
    disk::DiskError,
    member::NotCloned,
    server::{Shared, in_words, start},
};
use ids::{RegionId, SnapshotId};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// Clones at work at a time: a disk has its guests to serve, and one source alone can give what it takes.
const AT_WORK_MAX: usize = 2;

/// Clones on the board at most: more than a disk takes within an hour.
const CLONES_MAX: usize = 64;

/// Bytes in a second, unless said: a half of what a disk writes that is not of the fastest.
const BYTES_PER_SECOND: u64 = 128 << 20;

/// Between two attempts. It doubles.
const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// A member that has the snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// Its region.
    pub region: RegionId,
    /// Which life of that id; any, unless said.
    #[serde(default)]
    pub incarnation: Option<u64>,
    /// Where it is served.
    pub address: SocketAddr,
}

/// What is being done for a clone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// What differs is copied.
    Copying,
    /// All of it is read back, here and there.
    Proving,
}

/// What has become of a clone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CloneState {
    /// It is to be one, and nobody makes it one.
    Idle,
    /// For its turn, or until it is tried again.
    Waiting,
    /// What differs is copied.
    Copying,
    /// All of it is read back, here and there.
    Proving,
    /// It is one, and anybody may read it.
    Proven,
    /// It will be none, unless somebody orders it again.
    Failed,
}

/// How far a clone is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CloneStatus {
    /// The region.
    pub region: RegionId,
    /// Of which snapshot.
    pub snapshot: SnapshotId,
    /// What has become of it.
    pub state: CloneState,
    /// Bytes of its blocks.
    pub size_bytes: u64,
    /// Those that are done in this phase; in a pause, of the one before it. Of one phase they never become fewer, also if it begins anew: what an
    /// attempt finds done was done by an earlier one.
    pub done_bytes: u64,
    /// Those that were copied since the process was started.
    pub copied_bytes: u64,
    /// What it waits for, or why it will be none.
    pub why: Option<String>,
    /// SHA-256 of its content, in hex, once that is proven.
    pub hash: Option<String>,
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Board {
    jobs: Mutex<BTreeMap<RegionId, Arc<Job>>>,
    at_work: Mutex<usize>,
}

/// There are as many as there may be.
#[derive(Debug)]
pub(crate) struct Full;

/// One of them.
#[derive(Debug)]
struct Job {
    state: Mutex<JobState>,
    changed: Condvar,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct JobState {
    status: CloneStatus,
    /// Of which the bytes are that are done.
    phase: Option<Phase>,
    sources: Vec<Source>,
    bytes_per_second: u64,
    is_stopping: bool,
    /// Its thread does nothing more.
    is_over: bool,
}

/// A job whose thread is at work.
struct Running(Arc<Job>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.state().is_over = true;
        self.0.changed.notify_all();
    }
}

/// A place among those at work.
struct Turn<'a>(&'a Board);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        *lock(&self.0.at_work) -= 1;
    }
}

impl Board {
    /// How far one is, if it was ordered.
    pub(crate) fn status(&self, region: RegionId) -> Option<CloneStatus> {
        lock(&self.jobs).get(&region).map(|job| job.state().status.clone())
    }

    /// Begins, or goes on with other sources.
    pub(crate) fn order(
        &self,
        shared: &Arc<Shared>,
        idle: CloneStatus,
        sources: Vec<Source>,
        bytes_per_second: Option<u64>,
    ) -> Result<CloneStatus, Full> {
        let region = idle.region;
        let bytes_per_second = bytes_per_second.unwrap_or(BYTES_PER_SECOND).max(1);
        let mut jobs = lock(&self.jobs);
        if let Some(job) = jobs.get(&region).filter(|job| !job.state().is_over) {
            let mut state = job.state();
            (state.sources, state.bytes_per_second) = (sources, bytes_per_second);
            // It may be in a pause.
            job.changed.notify_all();
            return Ok(state.status.clone());
        }
        // Why one has failed is told until it is ordered again, or let go.
        let is_told = |state: &JobState| !state.is_over || state.status.state == CloneState::Failed;
        jobs.retain(|_, job| is_told(&job.state()));
        if jobs.values().filter(|job| !job.state().is_over).count() >= CLONES_MAX {
            return Err(Full);
        }
        let status = CloneStatus { state: CloneState::Waiting, ..idle };
        let job = Arc::new(Job::new(status, sources, bytes_per_second));
        jobs.insert(region, Arc::clone(&job));
        let (running, shared) = (Running(Arc::clone(&job)), Arc::clone(shared));
        match start("clone", move || running.0.run(&shared)) {
            Ok(thread) => *lock(&job.thread) = Some(thread),
            // Without its thread it is over already.
            Err(error) => job.fail(in_words(&error)),
        }
        Ok(job.state().status.clone())
    }

    /// Ends one; on return nothing more is done for it.
    pub(crate) fn stop(&self, region: RegionId) {
        let job = lock(&self.jobs).remove(&region);
        if let Some(job) = job {
            job.stop();
        }
    }

    /// Ends all of them.
    pub(crate) fn stop_all(&self) {
        let jobs = std::mem::take(&mut *lock(&self.jobs));
        jobs.values().for_each(|job| job.state().is_stopping = true);
        jobs.values().for_each(|job| job.stop());
    }
}

impl Job {
    fn new(status: CloneStatus, sources: Vec<Source>, bytes_per_second: u64) -> Job {
        let (phase, is_stopping, is_over) = (None, false, false);
        let state = JobState { status, phase, sources, bytes_per_second, is_stopping, is_over };
        Job { state: Mutex::new(state), changed: Condvar::new(), thread: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, JobState> {
        lock(&self.state)
    }

    fn stop(&self) {
        self.state().is_stopping = true;
        self.changed.notify_all();
        if let Some(thread) = lock(&self.thread).take() {
            // One that has panicked has said so.
            let _ = thread.join();
        }
    }

    fn fail(&self, why: String) {
        let mut state = self.state();
        (state.status.state, state.status.why) = (CloneState::Failed, Some(why));
    }

    fn run(&self, shared: &Arc<Shared>) {
        let mut pause = PAUSE_MIN;
        while let Some(turn) = self.wait_for_turn(&shared.clones) {
            let made = self.attempt(shared);
            drop(turn);
            let (region, addresses) = {
                let state = self.state();
                let addresses: Vec<SocketAddr> = state.sources.iter().map(|source| source.address).collect();
                (state.status.region, addresses)
            };
            match made {
                Ok(hash) => {
                    let hash = in_hex(&hash);
                    tracing::info!(%region, hash, "a clone is made and proven");
                    let mut state = self.state();
                    let status = &mut state.status;
                    (status.state, status.hash, status.why) = (CloneState::Proven, Some(hash), None);
                    return;
                }
                Err(CloneError::Stopped) => return,
                Err(_) if self.state().is_stopping => return,
                Err(error) if error.may_pass() => {
                    let why = error.words(&addresses);
                    tracing::warn!(%region, why, "a clone waits, and is tried again");
                    let mut state = self.state();
                    (state.status.state, state.status.why) = (CloneState::Waiting, Some(why));
                    drop(self.changed.wait_timeout(state, pause));
                    pause = (pause * 2).min(PAUSE_MAX);
                }
                Err(error) => {
                    let why = error.words(&addresses);
                    tracing::error!(%region, why, "a clone cannot be made");
                    return self.fail(why);
                }
            }
        }
    }

    /// None if it is to stop.
    fn wait_for_turn<'a>(&self, board: &'a Board) -> Option<Turn<'a>> {
        let mut state = self.state();
        while !state.is_stopping {
            let mut at_work = lock(&board.at_work);
            if *at_work < AT_WORK_MAX {
                *at_work += 1;
                return Some(Turn(board));
            }
            drop(at_work);
            state.status.state = CloneState::Waiting;
            let waited = self.changed.wait_timeout(state, PAUSE_MIN);
            (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
        None
    }

    fn attempt(&self, shared: &Arc<Shared>) -> Result<[u8; 32], CloneError> {
        let (region, sources) = {
            let state = self.state();
            (state.status.region, state.sources.clone())
        };
        let connection = shared.next_connection();
        let (served, said) = loop {
            let served = shared.served(region).map_err(|error| not_opened(&error))?;
            // It may have been closed in this moment.
            if let Some(said) = served.connect_here(connection) {
                break (served, said);
            }
        };
        let mut begun = None;
        served.with(|member| {
            let identity = member.region().identity();
            begun = Some(member.begin_cloning(connection).map(|(of, at)| (identity, of, at)));
            Vec::new()
        });
        let made = match begun {
            None => Err(CloneError::Target { why: "it was closed".to_owned(), may_pass: true }),
            Some(Err(NotCloned::Proven(hash))) => Ok(hash),
            Some(Err(error)) => {
                let may_pass = matches!(error, NotCloned::AtWork | NotCloned::Failed(_));
                Err(CloneError::Target { why: error.to_string(), may_pass })
            }
            Some(Ok((identity, of, at))) => {
                let is_to_stop = || self.state().is_stopping;
                let waits = |why: String| self.state().status.why = Some(why);
                let mut target = Local {
                    served: Arc::clone(&served),
                    connection,
                    said,
                    snapshot: at,
                    is_to_stop: &is_to_stop,
                    waits: &waits,
                };
                let connections = sources.iter().map(|_| None).collect();
                let mut peers = Peers {
                    set: identity.set,
                    snapshot: of,
                    sources,
                    connections,
                    own: shared.address.ip(),
                    is_to_stop: &is_to_stop,
                };
                let mut watch = Pace { job: self, next: Instant::now() };
                clone_snapshot(of, identity.geometry, &mut target, &mut peers, &mut watch)
            }
        };
        served.disconnect(connection);
        made
    }
}

fn not_opened(error: &DiskError) -> CloneError {
    let may_pass = matches!(error, DiskError::Storage(_) | DiskError::Machine { .. });
    CloneError::Target { why: in_words(error), may_pass }
}

/// How far one is, and how fast it may be.
struct Pace<'a> {
    job: &'a Job,
    /// When the next bytes may be moved.
    next: Instant,
}

impl Watch for Pace<'_> {
    fn at(&mut self, phase: Phase, done: u64, moved: u64) -> Result<(), CloneError> {
        let mut state = self.job.state();
        let is_same = state.phase.replace(phase) == Some(phase);
        let status = &mut state.status;
        let (now, copied) = match phase {
            Phase::Copying => (CloneState::Copying, moved),
            Phase::Proving => (CloneState::Proving, 0),
        };
        // A second source, and a second attempt, begins at the first block, and finds what the first one gave.
        status.done_bytes = if is_same { done.max(status.done_bytes) } else { done };
        (status.state, status.why) = (now, None);
        status.copied_bytes += copied;
        let takes = Duration::from_secs_f64(moved as f64 / state.bytes_per_second as f64);
        self.next = self.next.max(Instant::now()) + takes;
        loop {
            if state.is_stopping {
                return Err(CloneError::Stopped);
            }
            let early = self.next.saturating_duration_since(Instant::now());
            if early.is_zero() {
                return Ok(());
            }
            let waited = self.job.changed.wait_timeout(state, early);
            (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_done_in_a_phase_never_shrinks_also_if_it_begins_anew_after_a_pause() {
        let (region, snapshot) = (RegionId::generate(), SnapshotId::generate());
        let status = CloneStatus {
            region,
            snapshot,
            state: CloneState::Waiting,
            size_bytes: 1 << 20,
            done_bytes: 0,
            copied_bytes: 0,
            why: None,
            hash: None,
        };
        let job = Job::new(status, Vec::new(), u64::MAX);
        let steps = [
            (Phase::Copying, 400, 400),
            (Phase::Copying, 100, 400),
            (Phase::Copying, 500, 500),
            (Phase::Proving, 200, 200),
            (Phase::Proving, 0, 200),
            // The source has another snapshot of that name: all is copied anew.
            (Phase::Copying, 100, 100),
        ];
        for (phase, done, told) in steps {
            let mut attempt = Pace { job: &job, next: Instant::now() };
            attempt.at(phase, done, 1).expect("nobody stops it");
            assert_eq!(job.state().status.done_bytes, told, "{phase:?}");
            // It fails, and is tried again.
            job.state().status.state = CloneState::Waiting;
            assert_eq!(job.state().status.done_bytes, told);
        }
        assert_eq!(job.state().status.copied_bytes, 4);
    }
}
