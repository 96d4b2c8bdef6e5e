//! Which values may be read: the promises of `docs/BLOCK.md`, as a checker of what clients were told.
//!
//! | promise | check |
//! |---|---|
//! | P1, P2, P3 | what is read is not older than the last write that was acknowledged when the read was asked for, and survives what has happened since |
//! | P3 | whoever reads twice never reads an older value the second time |
//! | P4 | of an epoch that is over, all blocks are read as of one instant |
//! | P5 | an Upstairs that was taken over from answers no reads 5 s later |
//! | P7 | what was written is not read as what nobody ever wrote |
//!
//! A block may be said to be unreadable, in the place of a value whose bytes have rotted, or were lost because they had: with the same
//! checks as if it were read.
//!
//! A write that was acknowledged survives if the power of at most one sled was gone since it was asked for; one that a flush was
//! acknowledged for survives anything. Bytes say which write they are from; zeros may be from any zeroing of their block that may be
//! read, and say which if only one may.

use region::Position;
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::{Bound, Range},
    time::Duration,
};

/// After so long an Upstairs that was taken over from is silent.
const FENCED_MAX: Duration = Duration::from_secs(5);

/// An Upstairs: its epoch, and which of those with the same one it is. Of these, one at most ever writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Session {
    pub(crate) epoch: u32,
    pub(crate) writer: usize,
}

/// Which write: whose, and its number among those that were asked for there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Stamp {
    pub(crate) session: Session,
    pub(crate) number: u64,
}

/// What a block was read as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Never,
    Zeros,
    Bytes(Stamp),
}

#[derive(Clone, Debug)]
struct Written {
    blocks: Range<u64>,
    is_zeros: bool,
    asked_at: Duration,
    is_acknowledged: bool,
}

/// A read that was asked for, and what it has to be at least, block by block.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    blocks: Range<u64>,
    at_least: Vec<Stamp>,
}

impl Asked {
    /// Its first block.
    pub(crate) fn first(&self) -> u64 {
        self.blocks.start
    }
}

/// One block: what was ever to be written to it.
#[derive(Debug, Default)]
struct Block {
    asked: BTreeSet<Stamp>,
    acknowledged: BTreeSet<Stamp>,
    /// What survives anything.
    flushed: Stamp,
    /// Who has read what last.
    seen: BTreeMap<Session, Stamp>,
}

/// The writes of one Upstairs that were acknowledged, in that order, and how many of them are known to be durable.
#[derive(Debug, Default)]
struct Acknowledged {
    stamps: Vec<Stamp>,
    flushed: usize,
}

/// All that clients have asked and were told.
#[derive(Debug, Default)]
pub(crate) struct History {
    writes: BTreeMap<Stamp, Written>,
    /// Those whose clients were told that they were not done in time: they may be done later, or never, though others behind them are.
    given_up: BTreeSet<Stamp>,
    blocks: BTreeMap<u64, Block>,
    /// Who has asked for writes.
    sessions: BTreeMap<Session, Acknowledged>,
    /// When the power of each sled failed last.
    power_failures: BTreeMap<usize, Duration>,
    /// Of epochs that are over: the write up to which they are read (at least), and the first one that is not.
    cuts: BTreeMap<Session, (u64, u64)>,
    /// When each epoch was first known to be the one that writes.
    first_done: BTreeMap<Session, Duration>,
    /// Values whose bytes have rotted somewhere, or were lost because they had.
    rotted: BTreeSet<(u64, Stamp)>,
    pub(crate) reads: u64,
    pub(crate) unreadable: u64,
}

impl History {
    pub(crate) fn write_asked(&mut self, stamp: Stamp, blocks: Range<u64>, is_zeros: bool, now: Duration) {
        for block in blocks.clone() {
            self.blocks.entry(block).or_default().asked.insert(stamp);
        }
        self.sessions.entry(stamp.session).or_default();
        let written = Written { blocks, is_zeros, asked_at: now, is_acknowledged: false };
        self.writes.insert(stamp, written);
    }

    pub(crate) fn write_done(&mut self, stamp: Stamp, now: Duration) {
        self.first_done.entry(stamp.session).or_insert(now);
        let Some(write) = self.writes.get_mut(&stamp) else { return };
        write.is_acknowledged = true;
        for block in write.blocks.clone() {
            self.blocks.entry(block).or_default().acknowledged.insert(stamp);
        }
        self.sessions.entry(stamp.session).or_default().stamps.push(stamp);
    }

    /// The last write to each block that this one has asked for.
    pub(crate) fn last_asked(&self, session: Session) -> BTreeMap<u64, u64> {
        let all = Stamp { session, number: 0 }..=Stamp { session, number: u64::MAX };
        let last = |block: &Block| block.asked.range(all.clone()).next_back().map(|stamp| stamp.number);
        self.blocks.iter().filter_map(|(block, known)| Some((*block, last(known)?))).collect()
    }

    /// Its client waits no longer for it.
    pub(crate) fn given_up(&mut self, stamp: Stamp) {
        self.given_up.insert(stamp);
    }

    /// A flush is asked for: so many writes as were acknowledged until now will survive anything once it is done.
    pub(crate) fn flush_asked(&self, session: Session) -> usize {
        self.sessions.get(&session).map_or(0, |acknowledged| acknowledged.stamps.len())
    }

    pub(crate) fn flush_done(&mut self, session: Session, covered: usize, now: Duration) {
        self.first_done.entry(session).or_insert(now);
        let acknowledged = self.sessions.entry(session).or_default();
        if covered > acknowledged.flushed {
            let from = std::mem::replace(&mut acknowledged.flushed, covered);
            let newly: Vec<Stamp> = acknowledged.stamps[from..covered].into();
            newly.into_iter().for_each(|stamp| self.durable(stamp));
        }
    }

    /// One write that survives anything from now on.
    pub(crate) fn durable(&mut self, stamp: Stamp) {
        for block in self.writes[&stamp].blocks.clone() {
            let flushed = &mut self.blocks.entry(block).or_default().flushed;
            *flushed = (*flushed).max(stamp);
        }
    }

    pub(crate) fn power_failed(&mut self, sled: usize, now: Duration) {
        self.power_failures.insert(sled, now);
    }

    /// Whether a write that was asked for then may have been lost with the power.
    fn may_be_lost(&self, asked_at: Duration) -> bool {
        self.power_failures.values().filter(|at| **at >= asked_at).count() > 1
    }

    /// An Upstairs says that this write is lost. `counter` is its place in the stream.
    pub(crate) fn lost(&self, epoch: u32, counter: u64) -> Result<(), String> {
        let of_epoch = self.writes.iter().filter(|(stamp, _)| stamp.session.epoch == epoch);
        let mut asked = of_epoch
            .filter(|(stamp, _)| self.may_have_place(**stamp, counter))
            .map(|(_, write)| write.asked_at);
        if asked.any(|at| self.may_be_lost(at)) {
            return Ok(());
        }
        Err(format!(
            "write {counter} of epoch {epoch} is said to be lost, and two sleds had power all the time"
        ))
    }

    /// Whether this write may have this place in the stream: its number, but for those before it that were given up, which may have no
    /// place there.
    fn may_have_place(&self, stamp: Stamp, counter: u64) -> bool {
        let first = Stamp { session: stamp.session, number: 0 };
        let without = self.given_up.range(first..stamp).count() as u64;
        (stamp.number - without..=stamp.number).contains(&counter)
    }

    pub(crate) fn read_asked(&self, session: Session, blocks: Range<u64>) -> Asked {
        let at_least = blocks.clone().map(|block| self.least(session, block)).collect();
        Asked { blocks, at_least }
    }

    fn least(&self, session: Session, block: u64) -> Stamp {
        let Some(known) = self.blocks.get(&block) else { return Stamp::default() };
        let flushed = if known.flushed.session <= session { known.flushed } else { Stamp::default() };
        let seen = known.seen.get(&session).copied().unwrap_or_default();
        let acknowledged = known.acknowledged.range(..=Stamp { session, number: u64::MAX }).rev();
        let mut surviving = acknowledged.filter(|stamp| !self.may_be_lost(self.writes[stamp].asked_at));
        flushed.max(seen).max(surviving.next().copied().unwrap_or_default())
    }

    /// What was read. The power that failed meanwhile may have taken what had to be there when it was asked for.
    pub(crate) fn read_done(
        &mut self,
        session: Session,
        asked: &Asked,
        values: &BTreeMap<u64, Value>,
        now: Duration,
    ) -> Result<(), String> {
        let is_missing = |block: &u64| !values.contains_key(block);
        if let Some(block) = asked.blocks.clone().find(is_missing) {
            return Err(format!("block {block} was not answered"));
        }
        self.look_done(session, asked, values, now)
    }

    /// Something was said of some blocks: what is said has to be right.
    pub(crate) fn look_done(
        &mut self,
        session: Session,
        asked: &Asked,
        values: &BTreeMap<u64, Value>,
        now: Duration,
    ) -> Result<(), String> {
        self.reads += 1;
        self.first_done.entry(session).or_insert(now);
        let newer = self.first_done.range((Bound::Excluded(session), Bound::Unbounded)).next();
        if let Some((newer, at)) = newer
            && now > *at + FENCED_MAX
        {
            return Err(format!(
                "{session:?} answers a read at {now:?}, and {newer:?} was at work at {at:?}"
            ));
        }
        for (block, least) in asked.blocks.clone().zip(&asked.at_least) {
            if let Some(value) = values.get(&block) {
                self.check_value(session, block, *least, *value)?;
            }
        }
        Ok(())
    }

    fn check_value(
        &mut self,
        session: Session,
        block: u64,
        least: Stamp,
        value: Value,
    ) -> Result<(), String> {
        let must_survive = self.survives(block, least);
        let (from, is_certain) = match value {
            Value::Never => (Stamp::default(), true),
            Value::Bytes(stamp) => (stamp, true),
            Value::Zeros => {
                self.zeroing(session, block, if must_survive { least } else { Stamp::default() })?
            }
        };
        if let Value::Bytes(stamp) = value {
            let write = self.writes.get(&stamp);
            let write = write.ok_or_else(|| format!("block {block} has {stamp:?}, which nobody wrote"))?;
            if !write.blocks.contains(&block) || write.is_zeros {
                return Err(format!("block {block} has what was written to {:?}", write.blocks));
            }
        }
        if from.session > session {
            return Err(format!("{session:?} reads {value:?} in block {block}"));
        }
        if from < least && must_survive {
            return Err(format!(
                "block {block} is read by {session:?} as {value:?} and has to be {least:?} at least"
            ));
        }
        self.blocks.entry(block).or_default().seen.insert(session, from);
        if is_certain { self.check_cut(session, block, from) } else { Ok(()) }
    }

    /// The bytes of this version of a block may be gone for good from now on.
    pub(crate) fn rotted(&mut self, block: u64, version: Position) {
        let known = self.blocks.get(&block);
        let is_it = |stamp: &&Stamp| {
            stamp.session.epoch == version.epoch && self.may_have_place(**stamp, version.counter)
        };
        let stamps = known.into_iter().flat_map(|known| known.asked.iter().filter(is_it));
        let stamps: Vec<(u64, Stamp)> = stamps.map(|stamp| (block, *stamp)).collect();
        self.rotted.extend(stamps);
    }

    /// A block of what was asked cannot be read: as if it had been read as a value that has rotted.
    pub(crate) fn unreadable(
        &mut self,
        session: Session,
        asked: &Asked,
        block: u64,
        now: Duration,
    ) -> Result<(), String> {
        self.unreadable += 1;
        self.look_done(session, asked, &BTreeMap::new(), now)?;
        let place = block.checked_sub(asked.first()).and_then(|place| usize::try_from(place).ok());
        let least = place.and_then(|place| asked.at_least.get(place));
        let least = *least.ok_or_else(|| format!("block {block} was not asked for, and cannot be read"))?;
        let from = if self.survives(block, least) { least } else { Stamp::default() };
        let mut may_be = self.rotted.range((block, from)..=(block, Stamp { session, number: u64::MAX }));
        let Some((_, first)) = may_be.next().copied() else {
            return Err(format!(
                "{session:?} cannot read block {block}, which has to be {from:?} at least, and no such bytes have rotted"
            ));
        };
        let is_certain = may_be.next().is_none();
        self.blocks.entry(block).or_default().seen.insert(session, first);
        if is_certain { self.check_cut(session, block, first) } else { Ok(()) }
    }

    fn survives(&self, block: u64, stamp: Stamp) -> bool {
        self.blocks.get(&block).is_some_and(|known| known.flushed >= stamp)
            || self.writes.get(&stamp).is_some_and(|write| !self.may_be_lost(write.asked_at))
    }

    /// The oldest zeroing that these zeros may be from, and whether it is the only one.
    fn zeroing(&self, session: Session, block: u64, least: Stamp) -> Result<(Stamp, bool), String> {
        let none = || format!("{session:?} reads zeros in block {block}, which has to be {least:?} at least");
        let known = self.blocks.get(&block).ok_or_else(none)?;
        let mut may_be = known
            .asked
            .range(least..=Stamp { session, number: u64::MAX })
            .filter(|stamp| self.writes[stamp].is_zeros);
        let first = *may_be.next().ok_or_else(none)?;
        Ok((first, may_be.next().is_none()))
    }

    /// All blocks are as of one instant of each epoch that is over.
    fn check_cut(&mut self, session: Session, block: u64, value: Stamp) -> Result<(), String> {
        let History { sessions, blocks, cuts, given_up, .. } = self;
        for (over, _) in sessions.range(value.session..session) {
            // What it shows of that epoch: everything up to the value, and nothing of this block behind it.
            let from = if *over == value.session { value.number } else { 0 };
            let (next, last) =
                (Stamp { session: *over, number: from + 1 }, Stamp { session: *over, number: u64::MAX });
            let mut all_behind =
                blocks.get(&block).into_iter().flat_map(|known| known.asked.range(next..=last));
            let first_behind = all_behind.find(|stamp| !given_up.contains(stamp));
            let first_missing = first_behind.map_or(u64::MAX, |stamp| stamp.number);
            let (least, first) = cuts.entry(*over).or_insert((0, u64::MAX));
            *least = (*least).max(from);
            *first = (*first).min(first_missing);
            if *least >= *first {
                return Err(format!(
                    "of {over:?}, write {least} is read and write {first} is not (block {block}, {session:?})"
                ));
            }
        }
        Ok(())
    }
}
