//! The outbox: what is put in, told, and left.
//!
//! What a crash leaves: all that was put and not told, and perhaps what was told last, which is then told again. Progress is kept
//! in memory, and is in the file only with every 64th part of the repair, or if something else was written after it: whoever fills a member tells
//! of it again in a moment, and a sync of the disk for each would cost more than it is worth. So whoever goes on with a repair does not begin at 0.

use crate::{
    entry::{Entry, Fit},
    ports::{Answer, Transport},
    retry::{REFUSED_PAUSE, Retry},
    store::{self, Content, OpenError},
};
use camino::Utf8PathBuf;
use durable_fs::{Storage, StorageError};
use ids::RepairId;
use nexus_client::repairs::{Repair, RepairNotice, RepairNoticeError};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use thiserror::Error;

/// Repairs of which something may be kept. Of a region set two members at most are filled at once; the rest is for what has ended while the
/// coordinator was away: a member that comes and goes every ten minutes makes as many in most of a day. Each is some 2 KiB of a
/// file that is written anew each time.
pub const REPAIRS_MAX: usize = 128;

/// Sequence numbers that are reserved at a time, so that the disk is asked once for so many notices of progress.
const RESERVED: u64 = 1_024;

/// Notices of one volume's Upstairs. One file, one owner.
#[derive(Debug)]
pub struct Outbox {
    storage: Arc<dyn Storage>,
    path: Utf8PathBuf,
    content: Content,
    /// The last sequence number that was given.
    given: u64,
    retry: Retry,
    /// Of those that were refused, by repair and sequence: until when each waits, and why.
    refused: BTreeMap<(RepairId, u64), (Duration, String)>,
}

/// What became of a notice that was put in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// It will be told.
    Kept,
    /// It says nothing that is not told or kept: nothing was changed.
    Superfluous,
}

/// A repair whose end was not put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenRepair {
    /// Which.
    pub repair: Repair,
    /// Bytes of which whoever had it has told that they were done. Of one that was killed all but a 64th part of the repair, or less.
    pub bytes_done: u64,
}

/// A notice that was not taken. Nothing has changed, and whoever has it may come again.
#[derive(Debug, Error)]
pub enum PutError {
    /// It cannot be true, so the coordinator would refuse it.
    #[error("the {notice} cannot be told")]
    Untrue {
        /// Which.
        notice: String,
        /// Why.
        #[source]
        source: RepairNoticeError,
    },
    /// The id is another repair's.
    #[error("the id {id} was given to another repair: each has its own")]
    OtherRepair {
        /// The id.
        id: RepairId,
    },
    /// It has ended, and is told so.
    #[error("repair {id} has ended: whoever fills the member again gives a new id")]
    HasEnded {
        /// The repair.
        id: RepairId,
    },
    /// There is no room for one more repair.
    #[error(
        "{REPAIRS_MAX} repairs wait to be told, and there is no room for another one: the coordinator does not take them; the repair itself is not \
         held up, and may be told when there is room"
    )]
    Full,
    /// It could not be made durable.
    #[error("cannot write the outbox of repair notices {path}")]
    Write {
        /// The file.
        path: Utf8PathBuf,
        /// Why.
        #[source]
        source: StorageError,
    },
}

/// What came of telling all that was due.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pass {
    /// Notices that were taken.
    pub taken: u64,
    /// That were refused.
    pub refused: u64,
    /// Whether nobody answered the last one.
    pub is_away: bool,
}

/// What an outbox holds, for people and programs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutboxStatus {
    /// Repairs of which something is kept.
    pub repairs: usize,
    /// At most.
    pub repairs_max: usize,
    /// Notices that wait to be told.
    pub waiting: usize,
    /// Why nobody is told at the moment.
    pub away: Option<String>,
    /// Those that were refused, and are tried again from time to time.
    pub refused: Vec<RefusedNotice>,
}

/// A notice that the coordinator does not take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedNotice {
    /// Of which repair.
    pub repair: RepairId,
    /// Which.
    pub sequence: u64,
    /// Why.
    pub words: String,
}

impl Outbox {
    /// Opens the one in this file, or begins it.
    ///
    /// # Errors
    /// [`OpenError`]; nothing has changed.
    pub fn open(storage: Arc<dyn Storage>, path: Utf8PathBuf) -> Result<Outbox, OpenError> {
        let content = store::read(&*storage, &path)?;
        let given = content.reserved;
        Ok(Outbox { storage, path, content, given, retry: Retry::default(), refused: BTreeMap::new() })
    }

    /// Keeps a notice until it is told; start and finish are durable when this returns, and so is how far a repair is, but for a 64th part of it. It gets the next sequence number, whatever it had.
    ///
    /// # Errors
    /// [`PutError`]: it is not kept.
    pub fn put(&mut self, notice: RepairNotice) -> Result<Put, PutError> {
        let repair = *notice.repair();
        let given = self.given + 1;
        let notice = notice.with_sequence(given);
        if let Err(source) = notice.check() {
            return Err(PutError::Untrue { notice: notice.to_string(), source });
        }
        let at = self.content.entries.iter().position(|entry| entry.repair.id == repair.id);
        let is_progress = matches!(notice, RepairNotice::Progress(_));
        let mut content = self.content.clone();
        let entry = match at {
            Some(at) => &mut content.entries[at],
            // Of a repair whose start was not taken, or that was told to its end.
            None if is_progress => return Ok(Put::Superfluous),
            None if content.entries.len() >= REPAIRS_MAX => return Err(PutError::Full),
            None => {
                content.entries.push(Entry::new(repair));
                let last = content.entries.len() - 1;
                &mut content.entries[last]
            }
        };
        if entry.repair != repair {
            return Err(PutError::OtherRepair { id: repair.id });
        }
        let is_durable = match entry.fit(&notice) {
            Fit::News => entry.put(notice),
            Fit::Superfluous => return Ok(Put::Superfluous),
            Fit::HasEnded => return Err(PutError::HasEnded { id: repair.id }),
        };
        // A write that fails may have written it: the number is never given again.
        self.given = given;
        let is_out = given > content.reserved;
        if is_out {
            content.reserved = given + RESERVED - 1;
        }
        if is_out || is_durable {
            let written = store::write(&self.storage, &self.path, &content);
            written.map_err(|source| PutError::Write { path: self.path.clone(), source })?;
        }
        self.content = content;
        Ok(Put::Kept)
    }

    /// The oldest notice that is due. It stays until it is [answered](Outbox::answered).
    #[must_use]
    pub fn next(&self, now: Duration) -> Option<RepairNotice> {
        if now < self.retry.not_before() {
            return None;
        }
        let is_due = |notice: &RepairNotice| {
            let refused = self.refused.get(&(notice.repair().id, notice.stamp().sequence));
            refused.is_none_or(|(until, _)| *until <= now)
        };
        self.waiting().filter(is_due).min_by_key(|notice| notice.stamp().sequence)
    }

    /// When something is due next; none if nothing waits.
    #[must_use]
    pub fn next_at(&self) -> Option<Duration> {
        let at = |notice: RepairNotice| {
            let refused = self.refused.get(&(notice.repair().id, notice.stamp().sequence));
            refused.map_or(Duration::ZERO, |(until, _)| *until)
        };
        self.waiting().map(at).min().map(|at| at.max(self.retry.not_before()))
    }

    /// What came of sending it.
    ///
    /// # Errors
    /// It was taken, and that could not be written: it is not told again in this life, and may be in the next.
    pub fn answered(
        &mut self,
        now: Duration,
        notice: &RepairNotice,
        answer: Answer,
    ) -> Result<(), StorageError> {
        let key = (notice.repair().id, notice.stamp().sequence);
        match answer {
            Answer::Away(words) => self.retry.missed(now, words),
            Answer::Refused(words) => {
                self.retry.heard();
                if self.waiting().any(|waiting| waiting == *notice) {
                    self.refused.insert(key, (now.saturating_add(REFUSED_PAUSE), words));
                }
            }
            Answer::Taken => {
                self.retry.heard();
                let entry = self.content.entries.iter_mut().find(|entry| entry.repair.id == key.0);
                let is_to_be_kept = entry.is_some_and(|entry| entry.told(notice));
                self.content.entries.retain(|entry| !entry.is_over());
                self.forget_refusals();
                if is_to_be_kept {
                    return store::write(&self.storage, &self.path, &self.content);
                }
            }
        }
        Ok(())
    }

    /// Tells all that is due, oldest first, until nobody answers.
    ///
    /// # Errors
    /// As for [`Outbox::answered`].
    pub fn pass(&mut self, now: Duration, transport: &mut impl Transport) -> Result<Pass, StorageError> {
        let mut pass = Pass::default();
        while let Some(notice) = self.next(now) {
            let answer = transport.send(&notice);
            match &answer {
                Answer::Taken => pass.taken += 1,
                Answer::Refused(_) => pass.refused += 1,
                Answer::Away(_) => pass.is_away = true,
            }
            self.answered(now, &notice, answer)?;
        }
        Ok(pass)
    }

    /// Repairs whose end was not put: whoever begins anew goes on with them, or puts their end.
    pub fn open_repairs(&self) -> impl Iterator<Item = OpenRepair> {
        let open = self.content.entries.iter().filter(|entry| entry.is_open());
        open.map(|entry| OpenRepair { repair: entry.repair, bytes_done: entry.bytes_done() })
    }

    /// What it holds.
    #[must_use]
    pub fn status(&self) -> OutboxStatus {
        let refused = self.refused.iter().map(|(&(repair, sequence), (_, words))| RefusedNotice {
            repair,
            sequence,
            words: words.clone(),
        });
        OutboxStatus {
            repairs: self.content.entries.len(),
            repairs_max: REPAIRS_MAX,
            waiting: self.waiting().count(),
            away: self.retry.words().map(str::to_owned),
            refused: refused.collect(),
        }
    }

    fn waiting(&self) -> impl Iterator<Item = RepairNotice> {
        self.content.entries.iter().flat_map(Entry::waiting)
    }

    /// Of what does not wait any more.
    fn forget_refusals(&mut self) {
        let mut refused = std::mem::take(&mut self.refused);
        let waiting: Vec<(RepairId, u64)> =
            self.waiting().map(|notice| (notice.repair().id, notice.stamp().sequence)).collect();
        refused.retain(|key, _| waiting.contains(key));
        self.refused = refused;
    }
}
