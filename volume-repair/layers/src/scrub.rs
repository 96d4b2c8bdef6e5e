//! The scrub: what lies under a volume is copied into its own region sets, in the background, until it needs no parent.
//!
//! ```text
//!            ┌──────────────────────────── a client's write has failed: again, from there on ─────────────────────────┐
//!            ▼                                                                                                        │
//!   start ─► flush ─► look at the own sets ─► read of the parent what nobody ever wrote ─► write it ─► … ─► flush ──► done
//!                        ▲     │ all is written        │ away, wrong: waits, and looks again    │
//!                        └─────┴───────────────────────┴────────────────────────────────────────┘
//! ```
//!
//! **Nothing that a client writes is written over.** Between the instant at which the scrub asks what nobody ever wrote and the one at which it hands its
//! own writes to the Upstairs, time goes by, and clients write. Of the blocks that it has asked about it keeps which ones are *taken*, and never writes
//! those. Let W be a client's write, or zeroing, of a block b, and S a write of the scrub that has b:
//!
//! | W was handed to the Upstairs | why W stays |
//! |---|---|
//! | before the look, and acknowledged before it | the look sees it (P3): b is not "never written" |
//! | before the look, and under way then | b is taken: [`Rule::WritesUnderWayStay`] |
//! | before the look, and failed | it may be in the stream, or not. A failed write makes the scrub flush before it looks again: a flush is behind all that is in the stream, so W is acknowledged, or never will be |
//! | between the look and S | b is taken: [`Rule::NewWritesStay`] |
//! | after S | it has the later position: the Upstairs numbers writes in the order in which they are handed to it |
//!
//! All of this is decided in one thread, where what clients ask is handed on: there is no instant between.
//!
//! **What is copied is right.** The parent's content never changes, whoever reads it and whenever. If this writer was fenced meanwhile, its members
//! take no write of it.
//!
//! **What is left out.** What nobody ever wrote in the parent, nor in what lies under that, stays what nobody ever wrote: it is zeros with the parent
//! and without it. What the parent has as zeros becomes the volume's own zeros.
//!
//! **Interrupted anywhere**, it begins again: what was copied is written, and is only looked at. Nothing is kept on disk for it. *Done* is known in
//! memory alone, and only after a flush. A block that was skipped, because it was taken by a write that failed later, is gone through again.
//!
//! **Clients first.** If they ask nothing, [`FAST`] is copied at a time. If they ask little at a time, it is [`GENTLE`], and then it rests, [`RESTS`] times as
//! long as that has taken. If they ask much at a time, nothing is copied but [`GENTLE`] every [`SHARE`], or it would never end.

mod taken;

use crate::{layered::Layered, places::Section, rules::Rule, status::ScrubStatus};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use taken::{Taken, Write, divide};
use upstairs::{Action, Data, Holds, Job, JobError, JobId, Run};

/// Jobs of the scrub have numbers from here on; those of clients are below.
const OWN: u64 = 1 << 63;

/// Bytes that are looked at together at most: bounds what is kept of which blocks are taken.
const LOOK: u64 = 16 << 20;

/// Bytes that are copied at a time while clients ask nothing; so much memory it takes.
const FAST: u64 = 2 << 20;

/// The same beside clients: what they write waits for no more than this.
const GENTLE: u64 = 256 << 10;

/// Beside clients it rests for so many times as long as a copy has taken: most of what they ask meets none.
const RESTS: u32 = 3;

/// How often something is copied while clients ask much: 2.5 MiB in a second, so that it ends.
const SHARE: Duration = Duration::from_millis(100);

/// Clients that have asked nothing for so long may ask nothing for longer.
const QUIET: Duration = Duration::from_millis(100);

/// So many jobs of clients at a time are many.
const MANY_JOBS: usize = 8;

/// Writes of one copy at most, where zeros and bytes take turns.
const WRITES_MAX: usize = 256;

/// Runs of blocks that are read of the parent for one copy at most.
const RUNS_MAX: usize = 64;

/// When a parent, or members, that have failed are asked again.
const RETRY: Duration = Duration::from_secs(2);

/// What is asked, and not answered for so long, is waited for.
const SLOW: Duration = Duration::from_secs(1);

/// Why nothing is scrubbed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScrubError {
    /// There is nothing to copy.
    #[error("nothing lies under the volume: there is no parent to copy from")]
    NoParent,
    /// Nothing can be copied into it.
    #[error(
        "the volume is read-only: a part of it is a file, a URL or a snapshot, and what lies under it cannot be copied in"
    )]
    ReadOnly,
}

/// The parent is still needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{} of {bytes} bytes may still be seen through to what lies under the volume: they would be lost; scrub it to the end first",
    .bytes - .bytes_done
)]
pub struct ParentNeeded {
    /// Bytes that are the volume's own for sure.
    pub bytes_done: u64,
    /// Bytes that the parent covers.
    pub bytes: u64,
}

/// How far a scrub is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScrubPhase {
    /// It was told to stop, and can be started again.
    Stopped,
    /// What clients have written before is made durable, so that it is seen.
    Preparing,
    /// What nobody ever wrote is looked for, and copied.
    Copying,
    /// All is copied, and is made durable.
    MakingDurable,
    /// All is the volume's own, durably: no parent is needed any more.
    Done,
    /// The volume does nothing more, and neither does this.
    Ended,
}

/// What a scrub waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScrubWait {
    /// The volume was not activated.
    Activation,
    /// Clients ask much, and come first; it has a share.
    Clients,
    /// The volume's own members.
    Members(String),
    /// What lies under the volume.
    Parent(String),
}

/// What is under way.
#[derive(Debug)]
enum Step {
    Resting,
    Flushing {
        job: JobId,
        is_last: bool,
    },
    Looking {
        job: JobId,
        first: u64,
        runs: Vec<Run>,
        taken: Taken,
    },
    /// Up to this block, of what nobody ever wrote.
    Reading {
        job: JobId,
        end: u64,
        data: Vec<(u64, Data)>,
        taken: Taken,
    },
    Writing {
        job: JobId,
        end: u64,
        bytes: u64,
        zeros: u64,
    },
    Done,
    Ended,
}

/// A scrub.
#[derive(Debug)]
pub(crate) struct Scrub {
    is_wanted: bool,
    step: Step,
    /// When the step began.
    since: Duration,
    /// When the last copy began.
    copied_at: Duration,
    /// Nothing is begun before.
    not_before: Duration,
    /// The next block that is looked at.
    cursor: u64,
    /// How many there are to look at: those that the parent covers.
    blocks: u64,
    /// The highest that the cursor was.
    reached: u64,
    /// A write of a client has failed, or may have before this began.
    is_to_flush: bool,
    /// From where on it is to look again.
    again_from: Option<u64>,
    copied: u64,
    zeroed: u64,
    trouble: Option<ScrubWait>,
}

impl Scrub {
    fn new(blocks: u64, now: Duration) -> Scrub {
        Scrub {
            is_wanted: true,
            step: Step::Resting,
            since: now,
            copied_at: now,
            not_before: Duration::ZERO,
            cursor: 0,
            blocks,
            reached: 0,
            is_to_flush: true,
            again_from: None,
            copied: 0,
            zeroed: 0,
            trouble: None,
        }
    }

    fn job(&self) -> Option<JobId> {
        match &self.step {
            Step::Flushing { job, .. }
            | Step::Looking { job, .. }
            | Step::Reading { job, .. }
            | Step::Writing { job, .. } => Some(*job),
            Step::Resting | Step::Done | Step::Ended => None,
        }
    }

    /// A client writes these blocks, from now on.
    pub(crate) fn note_write(&mut self, first: u64, count: u64) {
        if let Step::Looking { taken, .. } | Step::Reading { taken, .. } = &mut self.step
            && Rule::NewWritesStay.is_kept()
        {
            taken.take(first, count);
        }
    }

    /// A client's write has ended so that nobody knows whether it is done; it begins with this block.
    pub(crate) fn note_failed_write(&mut self, first: u64) {
        self.is_to_flush = true;
        self.again_from = Some(self.again_from.map_or(first, |from| from.min(first)));
    }

    fn rest(&mut self, now: Duration, length: Duration) {
        (self.step, self.since, self.not_before) = (Step::Resting, now, now + length);
    }
}

/// Whether it is a job of the scrub.
pub(crate) fn is_own(id: JobId) -> bool {
    id.0 & OWN != 0
}

impl Layered {
    pub(crate) fn start_scrub(&mut self, now: Duration) -> Result<Vec<Action>, ScrubError> {
        self.now = now;
        if self.layers.len() == 1 {
            return Err(ScrubError::NoParent);
        }
        if self.is_read_only {
            return Err(ScrubError::ReadOnly);
        }
        let blocks = self.layers[1].covers(0, self.layers[0].blocks);
        match &mut self.scrub {
            Some(scrub) => scrub.is_wanted = true,
            None => self.scrub = Some(Box::new(Scrub::new(blocks, now))),
        }
        Ok(self.step())
    }

    /// What it has handed to the Upstairs is done; nothing more is.
    pub(crate) fn stop_scrub(&mut self, now: Duration) -> Vec<Action> {
        self.now = now;
        if let Some(scrub) = &mut self.scrub {
            scrub.is_wanted = false;
        }
        self.step()
    }

    /// Whether nothing of the volume is seen through to its parents any more that would be something else without them.
    pub(crate) fn may_drop_parents(&self) -> Result<(), ParentNeeded> {
        let (block, covered) = (self.block_bytes, || {
            self.layers.get(1).map_or(0, |layer| layer.covers(0, self.layers[0].blocks))
        });
        match &self.scrub {
            _ if self.layers.len() == 1 || !Rule::ParentsStayWhileNeeded.is_kept() => Ok(()),
            Some(scrub) if matches!(scrub.step, Step::Done) => Ok(()),
            Some(scrub) => {
                Err(ParentNeeded { bytes_done: scrub.reached * block, bytes: scrub.blocks * block })
            }
            None => Err(ParentNeeded { bytes_done: 0, bytes: covered() * block }),
        }
    }

    /// Hears what its jobs have said, and begins what is next. False if nothing has changed.
    pub(crate) fn go_on_scrubbing(&mut self) -> bool {
        let Some(mut scrub) = self.scrub.take() else { return false };
        let mut has_changed = false;
        while let Some(action) = self.said_to_scrub.pop_front() {
            has_changed = true;
            self.hear_for_scrub(&mut scrub, action);
        }
        if matches!(scrub.step, Step::Resting) && scrub.is_wanted {
            has_changed |= self.begin_step(&mut scrub);
        }
        self.scrub = Some(scrub);
        has_changed
    }

    fn hear_for_scrub(&mut self, scrub: &mut Scrub, action: Action) {
        let (Action::Looked(id, _) | Action::Read(id, ..) | Action::Done(id, _)) = &action else { return };
        if scrub.job() != Some(*id) {
            // Of a job that has failed.
            return;
        }
        match (action, &mut scrub.step) {
            (Action::Looked(_, told), Step::Looking { runs, .. }) => *runs = told,
            (Action::Read(_, first, read), Step::Reading { data, .. }) => data.push((first, read)),
            (Action::Done(_, Ok(())), _) => self.end_step(scrub),
            (Action::Done(_, Err(error)), _) => note_failure(scrub, self.now, &error),
            _ => {}
        }
    }

    /// What is done has worked.
    fn end_step(&mut self, scrub: &mut Scrub) {
        scrub.trouble = None;
        let step = std::mem::replace(&mut scrub.step, Step::Resting);
        scrub.since = self.now;
        match step {
            Step::Flushing { is_last, .. } => {
                let is_over = scrub.again_from.is_none() && !scrub.is_to_flush;
                if is_last && is_over {
                    scrub.step = Step::Done;
                }
            }
            Step::Looking { first, runs, taken, .. } => self.read_parent(scrub, first, &runs, taken),
            Step::Reading { end, data, taken, .. } if scrub.is_wanted => {
                self.write_copy(scrub, end, data, &taken);
            }
            // It was told to stop: what was read is forgotten.
            Step::Reading { .. } => {}
            Step::Writing { end, bytes, zeros, .. } => {
                (scrub.copied, scrub.zeroed) = (scrub.copied + bytes, scrub.zeroed + zeros);
                self.end_copy(scrub, end);
            }
            ended @ (Step::Resting | Step::Done | Step::Ended) => scrub.step = ended,
        }
    }

    /// All before this block was copied, or is a client's.
    fn end_copy(&self, scrub: &mut Scrub, end: u64) {
        scrub.cursor = end;
        scrub.reached = scrub.reached.max(end);
        let took = self.now.saturating_sub(scrub.copied_at);
        let rest = if self.is_quiet() { Duration::ZERO } else { took * RESTS };
        scrub.rest(self.now, rest);
    }

    /// Whether something was begun.
    fn begin_step(&mut self, scrub: &mut Scrub) -> bool {
        if !self.is_activated || self.now < scrub.not_before || !self.has_room() {
            return false;
        }
        if scrub.is_to_flush && Rule::FailedWritesStay.is_kept() {
            scrub.is_to_flush = false;
            self.flush_for_scrub(scrub, false);
            return true;
        }
        scrub.is_to_flush = false;
        if let Some(from) = scrub.again_from.take().filter(|_| Rule::FailedWritesStay.is_kept()) {
            scrub.cursor = scrub.cursor.min(from);
        }
        if scrub.cursor >= scrub.blocks {
            self.flush_for_scrub(scrub, true);
            return true;
        }
        if self.clients() >= MANY_JOBS && self.now.saturating_sub(scrub.copied_at) < SHARE {
            return false;
        }
        let count = (LOOK / self.block_bytes).min(scrub.blocks - scrub.cursor);
        let section = self.layers[0].sections(scrub.cursor, count).next();
        let section = section.expect("the cursor is within the volume");
        let (first, count) = (section.first, section.count);
        let mut taken = Taken::new(first, count);
        if Rule::WritesUnderWayStay.is_kept() {
            let writes = self.pieces.values().filter(|piece| !is_own(piece.job));
            writes.filter_map(|piece| piece.writes).for_each(|(first, count)| taken.take(first, count));
        }
        scrub.copied_at = self.now;
        let job = self.begin_for_scrub(|layered, id| {
            layered.ask_set(id, 0, section, None, |first, count| Job::Look { first, count });
        });
        (scrub.step, scrub.since) = (Step::Looking { job, first, runs: Vec::new(), taken }, self.now);
        true
    }

    fn flush_for_scrub(&mut self, scrub: &mut Scrub, is_last: bool) {
        let job = self.begin_for_scrub(|layered, id| {
            let places = layered.layers[0].places.clone();
            for place in places {
                layered
                    .ask_set(id, 0, Section { place, first: place.first, count: 0 }, None, |_, _| Job::Flush);
            }
        });
        (scrub.step, scrub.since) = (Step::Flushing { job, is_last }, self.now);
    }

    /// It is known what nobody ever wrote: as much of that is read as is to be copied at a time.
    fn read_parent(&mut self, scrub: &mut Scrub, first: u64, runs: &[Run], taken: Taken) {
        let mut left = if self.is_quiet() { FAST } else { GENTLE } / self.block_bytes;
        let (mut at, mut never) = (first, Vec::new());
        for run in runs {
            if run.holds != Holds::Never {
                at += run.blocks;
                continue;
            }
            if left == 0 || never.len() == RUNS_MAX {
                break;
            }
            let count = run.blocks.min(left);
            never.push((at, count));
            (at, left) = (at + count, left - count);
            if count < run.blocks {
                break;
            }
        }
        if never.is_empty() {
            return self.end_copy(scrub, at);
        }
        let job = self.begin_for_scrub(|layered, id| {
            never.into_iter().for_each(|(first, count)| layered.begin_read(id, 1, first, count, None));
        });
        (scrub.step, scrub.since) = (Step::Reading { job, end: at, data: Vec::new(), taken }, self.now);
    }

    /// The parent's content is there: what of it is not taken is handed to the own sets, now.
    fn write_copy(&mut self, scrub: &mut Scrub, mut end: u64, mut data: Vec<(u64, Data)>, taken: &Taken) {
        data.sort_unstable_by_key(|(first, _)| *first);
        let mut writes = Vec::new();
        for (first, data) in &data {
            divide(*first, data, self.block_bytes, taken, &mut writes);
        }
        if let Some(Write::Bytes(first, _) | Write::Zeros(first, _)) = writes.get(WRITES_MAX) {
            end = *first;
            writes.truncate(WRITES_MAX);
        }
        if writes.is_empty() {
            return self.end_copy(scrub, end);
        }
        let (mut bytes, mut zeros) = (0, 0);
        let job = self.begin_for_scrub(|layered, id| {
            for write in writes {
                let job = match write {
                    Write::Bytes(first, data) => {
                        bytes += data.len() as u64;
                        Job::Write { first, bytes: data, is_durable: false }
                    }
                    Write::Zeros(first, count) => {
                        zeros += count * layered.block_bytes;
                        Job::Zero { first, count, is_durable: false }
                    }
                };
                layered.begin_write(id, job);
            }
        });
        (scrub.step, scrub.since) = (Step::Writing { job, end, bytes, zeros }, self.now);
    }

    /// Begins a job of the scrub.
    fn begin_for_scrub(&mut self, ask: impl FnOnce(&mut Layered, JobId)) -> JobId {
        let id = JobId(OWN | self.next_own_job);
        self.next_own_job += 1;
        self.begin_own(id);
        ask(self, id);
        self.finish_if_done(id);
        id
    }

    /// Whether clients ask nothing, and have not for a while.
    fn is_quiet(&self) -> bool {
        self.clients() == 0 && self.now.saturating_sub(self.asked_at) >= QUIET
    }

    /// Jobs of clients that wait or are under way. Who only compares is none: that gives way to them itself.
    fn clients(&self) -> usize {
        self.waiting.len() + self.under_way() - self.comparing.len()
    }

    /// Jobs that were begun, but for the scrub's own.
    pub(crate) fn under_way(&self) -> usize {
        self.jobs.len() - self.jobs.last_key_value().map_or(0, |(id, _)| usize::from(is_own(*id)))
    }

    pub(crate) fn scrub_status(&self) -> Option<ScrubStatus> {
        let scrub = self.scrub.as_ref()?;
        let phase = match scrub.step {
            Step::Done => ScrubPhase::Done,
            Step::Ended => ScrubPhase::Ended,
            _ if !scrub.is_wanted => ScrubPhase::Stopped,
            Step::Flushing { is_last: true, .. } => ScrubPhase::MakingDurable,
            Step::Flushing { .. } => ScrubPhase::Preparing,
            _ if scrub.is_to_flush => ScrubPhase::Preparing,
            _ => ScrubPhase::Copying,
        };
        Some(ScrubStatus {
            phase,
            bytes_done: scrub.reached * self.block_bytes,
            bytes: scrub.blocks * self.block_bytes,
            copied_bytes: scrub.copied,
            zeroed_bytes: scrub.zeroed,
            waits: self.scrub_wait(scrub),
        })
    }

    fn scrub_wait(&self, scrub: &Scrub) -> Option<ScrubWait> {
        let is_slow = self.now.saturating_sub(scrub.since) >= SLOW;
        let silent = || "it has not answered yet".to_owned();
        match &scrub.step {
            Step::Done | Step::Ended => scrub.trouble.clone(),
            _ if !scrub.is_wanted => None,
            _ if !self.is_activated => Some(ScrubWait::Activation),
            Step::Resting if scrub.trouble.is_some() => scrub.trouble.clone(),
            Step::Resting => (self.clients() >= MANY_JOBS).then_some(ScrubWait::Clients),
            Step::Reading { .. } if is_slow => Some(ScrubWait::Parent(silent())),
            _ if is_slow => Some(ScrubWait::Members("they have not answered yet".to_owned())),
            _ => None,
        }
    }
}

/// What is done has not worked: it is tried again, unless the volume has ended.
fn note_failure(scrub: &mut Scrub, now: Duration, error: &JobError) {
    let words = error.to_string();
    let of_parent = matches!(scrub.step, Step::Reading { .. });
    scrub.trouble = Some(if of_parent { ScrubWait::Parent(words) } else { ScrubWait::Members(words) });
    scrub.is_to_flush |= matches!(scrub.step, Step::Flushing { .. });
    scrub.rest(now, RETRY);
    if !of_parent && matches!(error, JobError::Fenced { .. } | JobError::Lost { .. }) {
        scrub.step = Step::Ended;
    }
}
