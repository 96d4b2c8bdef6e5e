//! Which values may be read: the promises of `docs/BLOCK.md`, as a checker of what clients were told.
//!
//! | promise | check |
//! |---|---|
//! | P1, P2, P3 | what is read is not older than the last write that was acknowledged when the read was asked for, and survives what has happened since |
//! | P3 | whoever reads twice never reads an older value the second time |
//! | P4 | of an epoch that is over, all blocks are read as of one instant |
//! | P5 | an Upstairs that was taken over from answers no reads 5 s later |
//!
//! A write that was acknowledged survives if the power of at most one sled was gone since it was asked for; one that a flush was
//! acknowledged for survives anything.

use std::{collections::BTreeMap, ops::Bound, time::Duration};

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

#[derive(Clone, Debug)]
struct Written {
    blocks: std::ops::Range<u64>,
    asked_at: Duration,
    acknowledged_at: Option<Duration>,
}

/// A read that was asked for, and what it has to be at least.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    blocks: std::ops::Range<u64>,
    at_least: BTreeMap<u64, Stamp>,
}

/// All that clients have asked and were told.
#[derive(Debug, Default)]
pub(crate) struct History {
    writes: BTreeMap<Stamp, Written>,
    /// By block: what survives anything.
    flushed: BTreeMap<u64, Stamp>,
    /// When the power of which sled failed.
    power_failures: Vec<(Duration, usize)>,
    /// Who has read what last, by epoch and block.
    seen: BTreeMap<(Session, u64), Stamp>,
    /// Of epochs that are over: the write up to which they are read (at least), and the first one that is not.
    cuts: BTreeMap<Session, (u64, u64)>,
    /// When each epoch was first known to be the one that writes.
    first_done: BTreeMap<Session, Duration>,
    pub(crate) reads: u64,
}

impl History {
    pub(crate) fn write_asked(&mut self, stamp: Stamp, blocks: std::ops::Range<u64>, now: Duration) {
        self.writes.insert(stamp, Written { blocks, asked_at: now, acknowledged_at: None });
    }

    pub(crate) fn write_done(&mut self, stamp: Stamp, now: Duration) {
        self.first_done.entry(stamp.session).or_insert(now);
        if let Some(write) = self.writes.get_mut(&stamp) {
            write.acknowledged_at = Some(now);
        }
    }

    /// A flush is asked for: what was acknowledged until now will survive anything once it is done.
    pub(crate) fn flush_asked(&self, session: Session) -> Vec<Stamp> {
        of_session(&self.writes, session, 0)
            .filter(|(_, write)| write.acknowledged_at.is_some())
            .map(|(stamp, _)| *stamp)
            .collect()
    }

    pub(crate) fn flush_done(&mut self, session: Session, covered: &[Stamp], now: Duration) {
        self.first_done.entry(session).or_insert(now);
        for stamp in covered {
            for block in self.writes[stamp].blocks.clone() {
                let flushed = self.flushed.entry(block).or_default();
                *flushed = (*flushed).max(*stamp);
            }
        }
    }

    pub(crate) fn power_failed(&mut self, sled: usize, now: Duration) {
        self.power_failures.push((now, sled));
    }

    /// Whether a write that was asked for then may have been lost with the power.
    fn may_be_lost(&self, asked_at: Duration) -> bool {
        let mut sleds: Vec<usize> =
            self.power_failures.iter().filter(|(at, _)| *at >= asked_at).map(|(_, sled)| *sled).collect();
        sleds.sort_unstable();
        sleds.dedup();
        sleds.len() > 1
    }

    pub(crate) fn read_asked(&self, session: Session, blocks: std::ops::Range<u64>) -> Asked {
        let mut at_least: BTreeMap<u64, Stamp> = BTreeMap::new();
        for block in blocks.clone() {
            let flushed = self.flushed.get(&block).copied().unwrap_or_default();
            if flushed.session <= session {
                at_least.insert(block, flushed);
            }
            if let Some(seen) = self.seen.get(&(session, block)) {
                let least = at_least.entry(block).or_default();
                *least = (*least).max(*seen);
            }
        }
        for (stamp, write) in self.writes.range(..=Stamp { session, number: u64::MAX }) {
            if write.acknowledged_at.is_none() || self.may_be_lost(write.asked_at) {
                continue;
            }
            for block in write.blocks.clone().filter(|block| blocks.contains(block)) {
                let least = at_least.entry(block).or_default();
                *least = (*least).max(*stamp);
            }
        }
        Asked { blocks, at_least }
    }

    /// What was read. The power that failed meanwhile may have taken what had to be there when it was asked for.
    pub(crate) fn read_done(
        &mut self,
        session: Session,
        asked: &Asked,
        values: &BTreeMap<u64, Stamp>,
        now: Duration,
    ) -> Result<(), String> {
        self.reads += 1;
        self.first_done.entry(session).or_insert(now);
        let newer = self
            .first_done
            .range((Bound::Excluded(session), Bound::Unbounded))
            .map(|(newer, at)| (*newer, *at))
            .next();
        if let Some((newer, at)) = newer
            && now > at + FENCED_MAX
        {
            return Err(format!(
                "{session:?} answers a read at {now:?}, and {newer:?} was at work at {at:?}"
            ));
        }
        for block in asked.blocks.clone() {
            let value =
                values.get(&block).copied().ok_or_else(|| format!("block {block} was not answered"))?;
            self.check_value(session, asked, block, value)?;
        }
        Ok(())
    }

    fn check_value(
        &mut self,
        session: Session,
        asked: &Asked,
        block: u64,
        value: Stamp,
    ) -> Result<(), String> {
        if value != Stamp::default() {
            let write = self.writes.get(&value);
            let write = write.ok_or_else(|| format!("block {block} has {value:?}, which nobody wrote"))?;
            if !write.blocks.contains(&block) {
                return Err(format!("block {block} has what was written to {:?}", write.blocks));
            }
        }
        if value.session > session {
            return Err(format!("{session:?} reads {value:?} in block {block}"));
        }
        let least = asked.at_least.get(&block).copied().unwrap_or_default();
        let survives = |stamp: Stamp| {
            self.flushed.get(&block).is_some_and(|flushed| *flushed >= stamp)
                || self.writes.get(&stamp).is_some_and(|write| !self.may_be_lost(write.asked_at))
        };
        if value < least && survives(least) {
            return Err(format!(
                "block {block} is read by {session:?} as {value:?} and has to be {least:?} at least"
            ));
        }
        self.seen.insert((session, block), value);
        self.check_cut(session, block, value)
    }

    /// All blocks are as of one instant of each epoch that is over.
    fn check_cut(&mut self, session: Session, block: u64, value: Stamp) -> Result<(), String> {
        let over: Vec<Session> =
            self.sessions().into_iter().filter(|over| (value.session..session).contains(over)).collect();
        for over in over {
            // What it shows of that epoch: everything up to the value, and nothing of this block behind it.
            let from = if over == value.session { value.number } else { 0 };
            let mut behind = of_session(&self.writes, over, from + 1);
            let behind = behind.find(|(_, write)| write.blocks.contains(&block));
            let first_missing = behind.map_or(u64::MAX, |(stamp, _)| stamp.number);
            let (least, first) = self.cuts.entry(over).or_insert((0, u64::MAX));
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

    fn sessions(&self) -> Vec<Session> {
        let mut sessions: Vec<Session> = self.writes.keys().map(|stamp| stamp.session).collect();
        sessions.dedup();
        sessions
    }
}

/// The writes of one Upstairs, from this number on.
fn of_session(
    writes: &BTreeMap<Stamp, Written>,
    session: Session,
    from: u64,
) -> impl Iterator<Item = (&Stamp, &Written)> {
    writes.range(Stamp { session, number: from }..=Stamp { session, number: u64::MAX })
}
