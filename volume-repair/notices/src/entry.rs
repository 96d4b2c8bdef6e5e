//! What is to be told of one repair. Pure.
//!
//! ```text
//!   start:    untold ──put──► waiting ──taken──► told        (put again under a newer epoch: waiting)
//!   progress: none ──put──► waiting ──taken──► none          (put again: only the newest waits; a finish takes its place; bytes done stay known)
//!   finish:   untold ──put──► waiting ──taken──► told        (once)
//! ```
//! Finish told and no start waiting is the end: the entry leaves. Start and finish leave in no other way than by being told; only a start
//! of a newer epoch, which says the same and counts in its stead, takes the place of one that waits.

use nexus_client::repairs::{Repair, RepairFinish, RepairNotice, RepairProgress, RepairStart};
use serde::{Deserialize, Serialize};

/// Into so many steps a repair is divided, each of which is durable once it is done: so whoever goes on with it knows of all but the last
/// one, and the disk is asked for so many syncs at most.
const STEPS: u64 = 64;

/// What is to be told of one repair.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {
    pub(crate) repair: Repair,
    /// Bytes of which progress has told that they were done, as of the last time that this was made durable. Since format 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bytes_done: Option<u64>,
    start: Slot<RepairStart>,
    progress: Option<RepairProgress>,
    finish: Slot<RepairFinish>,
}

/// The one notice of a kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Slot<T> {
    Untold,
    Waiting(T),
    Told {
        /// Under which epoch.
        epoch: u32,
    },
}

/// What a notice is to an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fit {
    /// It is to be told.
    News,
    /// It says nothing that is not told, or waits to be told.
    Superfluous,
    /// The repair has ended, otherwise.
    HasEnded,
}

impl Entry {
    pub(crate) fn new(repair: Repair) -> Entry {
        Entry { repair, bytes_done: None, start: Slot::Untold, progress: None, finish: Slot::Untold }
    }

    /// What this notice, of this repair, is to it.
    pub(crate) fn fit(&self, notice: &RepairNotice) -> Fit {
        let has_ended = !matches!(self.finish, Slot::Untold);
        match (notice, &self.start, &self.finish) {
            (RepairNotice::Progress(_), ..) if has_ended => Fit::Superfluous,
            (RepairNotice::Progress(_), ..) => Fit::News,
            (RepairNotice::Start(_), ..) if has_ended => Fit::HasEnded,
            (RepairNotice::Start(new), Slot::Waiting(known), _) if known.stamp.epoch >= new.stamp.epoch => {
                Fit::Superfluous
            }
            (RepairNotice::Start(new), Slot::Told { epoch }, _) if *epoch >= new.stamp.epoch => {
                Fit::Superfluous
            }
            (RepairNotice::Start(_), ..) => Fit::News,
            (RepairNotice::Finish(_), _, Slot::Untold) => Fit::News,
            (RepairNotice::Finish(new), _, Slot::Waiting(known))
                if (known.outcome, known.interrupted_by) == (new.outcome, new.interrupted_by) =>
            {
                Fit::Superfluous
            }
            (RepairNotice::Finish(_), ..) => Fit::HasEnded,
        }
    }

    /// Has it told. Whether it is to be durable before.
    pub(crate) fn put(&mut self, notice: RepairNotice) -> bool {
        match notice {
            RepairNotice::Start(start) => self.start = Slot::Waiting(start),
            RepairNotice::Progress(progress) => {
                let done = progress.bytes_done;
                self.progress = Some(progress);
                let step = (self.repair.bytes / STEPS).max(1);
                if done < self.bytes_done.unwrap_or_default().saturating_add(step) {
                    return false;
                }
                self.bytes_done = Some(done);
            }
            RepairNotice::Finish(finish) => {
                self.progress = None;
                self.finish = Slot::Waiting(finish);
            }
        }
        true
    }

    /// Bytes of which it is known here that they were done.
    pub(crate) fn bytes_done(&self) -> u64 {
        let waiting = self.progress.as_ref().map(|progress| progress.bytes_done);
        waiting.max(self.bytes_done).unwrap_or_default()
    }

    /// It was told; whether that was what waits, and is no progress.
    pub(crate) fn told(&mut self, notice: &RepairNotice) -> bool {
        let sequence = notice.stamp().sequence;
        let epoch = notice.stamp().epoch;
        match notice {
            RepairNotice::Start(_) => tell(&mut self.start, |start| start.stamp.sequence == sequence, epoch),
            RepairNotice::Finish(_) => {
                tell(&mut self.finish, |finish| finish.stamp.sequence == sequence, epoch)
            }
            RepairNotice::Progress(_) => {
                // What was put meanwhile is newer, and stays.
                self.progress.take_if(|progress| progress.stamp.sequence == sequence);
                false
            }
        }
    }

    /// Whether nothing is left to tell, ever.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.finish, Slot::Told { .. }) && !matches!(self.start, Slot::Waiting(_))
    }

    /// Whether its end was not put.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.finish, Slot::Untold)
    }

    /// What waits to be told.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = RepairNotice> {
        let start = if let Slot::Waiting(start) = &self.start { Some(start) } else { None };
        let finish = if let Slot::Waiting(finish) = &self.finish { Some(finish) } else { None };
        let start = start.cloned().map(RepairNotice::Start);
        let progress = self.progress.clone().map(RepairNotice::Progress);
        start.into_iter().chain(progress).chain(finish.cloned().map(RepairNotice::Finish))
    }
}

fn tell<T>(slot: &mut Slot<T>, is_it: impl FnOnce(&T) -> bool, epoch: u32) -> bool {
    let waits = matches!(slot, Slot::Waiting(notice) if is_it(notice));
    if waits {
        *slot = Slot::Told { epoch };
    }
    waits
}
