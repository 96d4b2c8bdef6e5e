//! What clients have asked, from its beginning to its end.

use crate::{
    rules::Rule,
    status::JobsStatus,
    types::{Action, Job, JobError, JobId},
    upstairs::{End, Phase, Upstairs},
    window::Entry,
};
use bytes::Bytes;
use ids::SnapshotId;
use region::Position;
use region_wire::{Blocks, WRITE_BYTES_MAX, ZERO_MAX};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

/// Jobs that wait to be begun at most, before nothing more is to be asked.
const WAITING_MAX: usize = 256;

/// A job that is not begun.
#[derive(Debug)]
struct Waiting {
    id: JobId,
    job: Job,
    since: Duration,
}

/// Jobs that were asked and not answered.
#[derive(Debug, Default)]
pub(crate) struct Jobs {
    /// Not begun: there is no room, or nobody to ask.
    waiting: VecDeque<Waiting>,
    /// Writes, by the last of their positions.
    writes: VecDeque<(Position, JobId)>,
    /// Flushes, by the position that is to be durable.
    flushes: VecDeque<(Position, JobId)>,
    /// Reads, and how many of their pieces are missing.
    pub(crate) reads: BTreeMap<JobId, usize>,
    /// The last write that two have had at any time: what is read is not older.
    pub(crate) acknowledged: Position,
    /// Writes that are to be durable before they are done.
    durable: BTreeSet<JobId>,
    /// Those that are no client's, whatever they are: nothing gives way to them. Also some that have ended in this step.
    background: BTreeSet<JobId>,
    /// When a client asked the last one.
    pub(crate) asked_at: Duration,
}

impl Jobs {
    pub(crate) fn has_room(&self) -> bool {
        self.waiting.len() < WAITING_MAX
    }

    /// How many clients have asked and were not answered.
    pub(crate) fn under_way(&self) -> usize {
        let all = self.waiting.len() + self.writes.len() + self.flushes.len() + self.reads.len();
        if self.background.is_empty() {
            return all;
        }
        let waiting = self.waiting.iter().map(|waiting| &waiting.id);
        let written = self.writes.iter().chain(&self.flushes).map(|(_, id)| id);
        let all = waiting.chain(written).chain(self.reads.keys());
        all.filter(|id| !self.background.contains(id)).count()
    }

    /// These are told, or are about to be.
    pub(crate) fn note_ended(&mut self, actions: &[Action]) {
        if self.background.is_empty() {
            return;
        }
        for action in actions {
            if let Action::Done(id, _) = action {
                self.background.remove(id);
            }
        }
    }

    /// Nobody waits for this one any more, if it is a comparison: one that waits, or one that was begun.
    pub(crate) fn give_up_compare(&mut self, id: JobId, is_begun: bool) {
        let before = self.waiting.len();
        self.waiting.retain(|other| other.id != id || !matches!(other.job, Job::Compare { .. }));
        if is_begun || self.waiting.len() < before {
            self.background.remove(&id);
        }
    }

    /// Those that wait and are of this kind wait no longer.
    fn take_waiting(&mut self, is_it: impl Fn(&Job) -> bool) -> Vec<JobId> {
        let waiting = std::mem::take(&mut self.waiting);
        let (taken, left): (VecDeque<_>, VecDeque<_>) =
            waiting.into_iter().partition(|waiting| is_it(&waiting.job));
        self.waiting = left;
        taken.into_iter().map(|waiting| waiting.id).collect()
    }

    /// Of those that wait, snapshots that are to be taken or deleted and were asked for before this.
    pub(crate) fn take_late_snapshots(&mut self, before: Duration) -> Vec<(JobId, SnapshotId)> {
        let of = |waiting: &Waiting| match waiting.job {
            Job::Snapshot(snapshot) | Job::DeleteSnapshot(snapshot) if waiting.since <= before => {
                Some((waiting.id, snapshot))
            }
            _ => None,
        };
        let late = self.waiting.iter().filter_map(of).collect();
        self.waiting.retain(|waiting| of(waiting).is_none());
        late
    }

    pub(crate) fn status(&self) -> JobsStatus {
        JobsStatus {
            waiting: self.waiting.len() as u64,
            reads: self.reads.len() as u64,
            writes: self.writes.len() as u64,
            flushes: self.flushes.len() as u64,
            background: self.background.len() as u64,
        }
    }
}

impl Upstairs {
    pub(crate) fn submit_job(&mut self, id: JobId, job: Job, is_background: bool) {
        let size = self.config.geometry.block_size.bytes();
        let of_blocks = job.blocks(size);
        let (first, count) = of_blocks.unwrap_or_default();
        let blocks = self.config.geometry.blocks;
        let end = first.saturating_add(count);
        if end > blocks {
            self.act(Action::Done(id, Err(JobError::OutOfRange { first, end, blocks })));
        } else if of_blocks.is_some() && count == 0 {
            self.act(Action::Done(id, Ok(())));
        } else {
            self.count(&job, count * size as u64);
            if is_background || matches!(job, Job::Compare { .. }) {
                self.jobs.background.insert(id);
            } else {
                self.jobs.asked_at = self.now;
            }
            self.jobs.waiting.push_back(Waiting { id, job, since: self.now });
        }
    }

    fn count(&mut self, job: &Job, bytes: u64) {
        let totals = &mut self.totals;
        match job {
            Job::Read { .. } => {
                totals.reads += 1;
                totals.read_bytes += bytes;
            }
            Job::Write { .. } => {
                totals.writes += 1;
                totals.written_bytes += bytes;
            }
            Job::Zero { .. } => {
                totals.zeroings += 1;
                totals.zeroed_bytes += bytes;
            }
            Job::Flush => totals.flushes += 1,
            Job::Look { .. } | Job::Compare { .. } | Job::Snapshot(_) | Job::DeleteSnapshot(_) => {}
        }
    }

    /// Begins those for which there is room: those that change something in their order.
    pub(crate) fn begin_waiting_jobs(&mut self) {
        // A read need not wait for a write before it that was not acknowledged: they are concurrent.
        let mut left = VecDeque::new();
        while let Some(waiting) = self.jobs.waiting.pop_front() {
            if !waiting.job.is_reading() && (!left.is_empty() || !self.window.has_room()) {
                left.push_back(waiting);
                continue;
            }
            let Waiting { id, job, since } = waiting;
            match job {
                Job::Read { first, count } => self.begin_read(id, first, count),
                Job::Look { first, count } => self.begin_look(id, first, count),
                Job::Compare { first, count } => self.begin_compare(id, first, count),
                Job::Write { first, bytes, is_durable } => {
                    self.push_bytes(first, bytes);
                    self.note_written(id, is_durable);
                }
                Job::Zero { first, count, is_durable } => {
                    self.push_zeros(first, count);
                    self.note_written(id, is_durable);
                }
                Job::Flush => self.begin_flush(id),
                Job::Snapshot(snapshot) => self.begin_snapshot(id, snapshot, since),
                Job::DeleteSnapshot(snapshot) => self.begin_delete_snapshot(id, snapshot, since),
            }
        }
        self.jobs.waiting = left;
    }

    fn push_bytes(&mut self, mut first: u64, mut rest: Bytes) {
        while !rest.is_empty() {
            let bytes = rest.split_to(rest.len().min(WRITE_BYTES_MAX));
            let data = self.data_of(first, bytes);
            let count = data.checksums.len() as u64;
            self.window.push_write(|position| Entry::Write(position, data));
            first += count;
        }
    }

    fn push_zeros(&mut self, mut first: u64, mut left: u64) {
        while left > 0 {
            let count = left.min(ZERO_MAX);
            let blocks = Blocks { first, count: u32::try_from(count).expect("a zeroing is bounded") };
            self.window.push_write(|position| Entry::Zero(position, blocks));
            first += count;
            left -= count;
        }
    }

    fn note_written(&mut self, id: JobId, is_durable: bool) {
        self.jobs.writes.push_back((self.window.last, id));
        if is_durable {
            self.jobs.durable.insert(id);
            self.window.push_flush();
        }
    }

    fn begin_flush(&mut self, id: JobId) {
        self.jobs.flushes.push_back((self.newest(), id));
        self.window.push_flush();
    }

    /// Answers what is done.
    pub(crate) fn finish_jobs(&mut self) {
        self.give_up_waiting_snapshots();
        if !matches!(self.phase, Phase::Active) {
            return self.give_up_late_snapshots();
        }
        let mut applied = self.two_have(|peer| peer.applied);
        if !Rule::TwoHaveAWrite.is_kept() {
            applied = self.counting().iter().map(|peer| self.peers[peer.0].applied).max().unwrap_or(applied);
        }
        self.jobs.acknowledged = self.jobs.acknowledged.max(applied);
        while let Some((position, id)) = self.jobs.writes.front().copied()
            && position <= applied
        {
            self.jobs.writes.pop_front();
            if self.jobs.durable.remove(&id) {
                let behind = self.jobs.flushes.partition_point(|(other, _)| *other <= position);
                self.jobs.flushes.insert(behind, (position, id));
            } else {
                self.act(Action::Done(id, Ok(())));
            }
        }
        let mut durable = self.two_have(|peer| peer.durable);
        if !Rule::TwoHaveAFlush.is_kept() {
            durable = self.counting().iter().map(|peer| self.peers[peer.0].durable).max().unwrap_or(durable);
        }
        while let Some((position, id)) = self.jobs.flushes.front().copied()
            && position <= durable
        {
            self.jobs.flushes.pop_front();
            self.act(Action::Done(id, Ok(())));
        }
        self.finish_snapshots();
    }

    /// A member that was away may not have heard the flushes that are waited for.
    pub(crate) fn flush_again(&mut self) {
        if !self.jobs.flushes.is_empty() {
            self.window.push_flush();
        }
    }

    /// What clients are told about it.
    pub(crate) fn error_of(&self, end: End) -> JobError {
        match end {
            End::Fenced(by) => JobError::Fenced { by, ours: self.config.promotion.epoch },
            End::Lost(position) => JobError::Lost { position },
        }
    }

    /// Ends whatever makes or keeps something, with this error.
    pub(crate) fn end_writes(&mut self, error: &JobError) {
        let waiting = self.jobs.take_waiting(|job| !job.is_reading());
        let written = self.jobs.writes.drain(..).chain(self.jobs.flushes.drain(..)).map(|(_, id)| id);
        let snapshots = std::mem::take(&mut self.snapshots).into_iter().map(|asked| asked.job);
        let all: Vec<JobId> = waiting.into_iter().chain(written).chain(snapshots).collect();
        self.jobs.durable.clear();
        for id in all {
            self.act(Action::Done(id, Err(error.clone())));
        }
    }

    /// Ends whatever only looks, with this error. What is held of it is not answered.
    pub(crate) fn end_reads(&mut self, error: &JobError) {
        let held = std::mem::take(&mut self.held).into_iter();
        let answered =
            held.filter_map(|action| if let Action::Done(id, _) = action { Some(id) } else { None });
        let waiting = self.jobs.take_waiting(Job::is_reading);
        let begun = std::mem::take(&mut self.jobs.reads).into_keys();
        let compared = self.comparing.take_all();
        let all: Vec<JobId> = answered.chain(waiting).chain(begun).chain(compared).collect();
        self.reads.forget_all();
        self.peers.iter_mut().for_each(|peer| peer.reading = 0);
        for id in all {
            self.act(Action::Done(id, Err(error.clone())));
        }
    }

    /// Nothing more is done.
    pub(crate) fn fail_all(&mut self, end: End) {
        let error = self.error_of(end);
        let jobs = std::mem::take(&mut self.jobs);
        let waiting = jobs.waiting.into_iter().map(|waiting| waiting.id);
        let written = jobs.writes.into_iter().chain(jobs.flushes).map(|(_, id)| id);
        self.reads.forget_all();
        self.heals.forget_all();
        let snapshots = std::mem::take(&mut self.snapshots).into_iter().map(|asked| asked.job);
        let compared = self.comparing.take_all();
        for id in waiting.chain(written).chain(jobs.reads.into_keys()).chain(snapshots).chain(compared) {
            self.act(Action::Done(id, Err(error.clone())));
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{Config, Job, JobId, Limits, Members, Patience, Upstairs};
    use ids::{RegionId, RegionSetId};
    use region::{BlockSize, Geometry, Member, Promotion};
    use std::time::Duration;
    use uuid::Uuid;

    /// One that was activated long ago, and has nobody: what it is asked waits.
    fn alone() -> Upstairs {
        let member = |number| Member { region: RegionId(Uuid::from_u128(number)), incarnation: 1 };
        let mut upstairs = Upstairs::new(Config {
            set: RegionSetId(Uuid::from_u128(9)),
            geometry: Geometry { block_size: BlockSize::B512, blocks: 8, is_sealed: false },
            members: Members::only((1..=3).map(member).collect()),
            promotion: Promotion { epoch: 1, session: Uuid::from_u128(7) },
            accepts_possible_loss: false,
            limits: Limits::default(),
            patience: Patience::default(),
            sealer: None,
        });
        upstairs.activate(Duration::ZERO);
        upstairs.tick(LATER);
        upstairs
    }

    const LATER: Duration = Duration::from_secs(60);
    const READ: Job = Job::Read { first: 0, count: 1 };
    const COMPARE: Job = Job::Compare { first: 0, count: 1 };

    /// Whether somebody asks so much or so lately that a copy gives way, and how many jobs of the volume's own there are.
    fn gives_way(upstairs: &Upstairs) -> (bool, u64) {
        (!upstairs.are_clients_quiet(), upstairs.jobs.status().background)
    }

    #[test]
    fn a_copy_gives_way_to_clients_and_neither_to_comparisons_nor_to_what_the_volume_itself_asks() {
        let mut upstairs = alone();
        upstairs.submit(LATER, JobId(1), COMPARE);
        upstairs.submit_background(LATER, JobId(2), READ);
        upstairs.submit_background(LATER, JobId(3), Job::Flush);
        assert_eq!(gives_way(&upstairs), (false, 3));
        upstairs.submit(LATER, JobId(4), READ);
        assert_eq!(gives_way(&upstairs), (true, 3));
    }

    #[test]
    fn a_comparison_that_is_given_up_is_gone_and_nothing_else_is() {
        let mut upstairs = alone();
        upstairs.submit(LATER, JobId(1), COMPARE);
        upstairs.submit_background(LATER, JobId(2), READ);
        let said = [1, 2, 3].map(|id| upstairs.give_up_compare(LATER, JobId(id)));
        assert!(said.iter().all(Vec::is_empty), "{said:?}");
        assert_eq!((upstairs.jobs.status().waiting, upstairs.jobs.status().background), (1, 1));
    }
}
