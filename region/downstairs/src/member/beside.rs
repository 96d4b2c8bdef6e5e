//! Long reads, which are made beside the member's turns: writes go on meanwhile. Owns which are, and what waits for them.
//!
//! ```text
//!   Read ──short, many are under way, a copy's without clients──► read in its turn ─────────────────────────► answered
//!     └──long──► looked up in its turn ──► read by a worker ──► checked in a later turn ──► answered   (nobody asks any more: dropped)
//!   Ping ──no read is under way──► answered
//!     └──some are──► answered when the last of those has been     (a disk that gives nothing back is not alive)
//! ```
//!
//! Beside clients, a repair asks its source for long reads, one behind the other. Made in turns, they would take as much of the time of the one thread that
//! takes turns as the disk gives, and the source's clients would wait for it.

use crate::{
    member::{ConnectionId, Effect, Member, NotDone},
    rules::Rule,
    stream::read_reply,
};
use region::{Failed, ReadBeside};
use region_wire::{Blocks, Haste, Reply};
use std::collections::{BTreeMap, VecDeque};

/// Reads of fewer blocks are made at once: sooner than anybody else is asked to. What is of one block is of the moment of its turn.
const BLOCKS_MIN: usize = 8;

/// So many are under way at most; each has a thread.
const READS_MAX: usize = 16;

/// And none is begun while those that are under way have so many bytes.
const BYTES_MAX: usize = 8 << 20;

/// Pings that wait at most, before nothing more is read of who sends them.
const PINGS_MAX: usize = 1_024;

/// Whether a read of so many blocks may be answered behind what was asked later.
pub(crate) fn is_long(blocks: usize) -> bool {
    blocks >= BLOCKS_MIN
}

/// Who has asked a read, and which of those that are under way it is.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    by: ConnectionId,
    id: u64,
    number: u64,
    haste: Haste,
}

impl Asked {
    /// Whether others go first.
    pub(crate) fn is_later(self) -> bool {
        self.haste == Haste::Later
    }
}

/// Reads that are under way beside.
#[derive(Debug, Default)]
pub(crate) struct Beside {
    next: u64,
    /// The bytes of each.
    under_way: BTreeMap<u64, usize>,
    /// Pings of the active connection, each with the number of the first read that it does not wait for.
    pings: VecDeque<(u64, u64)>,
}

impl Beside {
    fn has_room(&self) -> bool {
        self.under_way.len() < READS_MAX && self.under_way.values().sum::<usize>() < BYTES_MAX
    }

    fn begin(&mut self, bytes: usize) -> u64 {
        let number = self.next;
        self.next += 1;
        self.under_way.insert(number, bytes);
        number
    }

    /// The Pings that wait for nothing more.
    fn end(&mut self, number: u64) -> Vec<u64> {
        self.under_way.remove(&number);
        let oldest = self.under_way.keys().next().copied().unwrap_or(self.next);
        std::iter::from_fn(|| self.pings.pop_front_if(|(_, behind)| *behind <= oldest))
            .map(|(id, _)| id)
            .collect()
    }

    /// Whether more may come.
    pub(crate) fn takes_pings(&self) -> bool {
        self.pings.len() < PINGS_MAX
    }

    /// Whoever was active is not any more.
    pub(crate) fn forget_pings(&mut self) {
        self.pings.clear();
    }
}

impl Member {
    /// Answers a read of the active connection, or has it made beside.
    pub(crate) fn read_or_begin(
        &mut self,
        (by, id): (ConnectionId, u64),
        (blocks, haste): (Blocks, Haste),
        effects: &mut Vec<Effect>,
    ) -> Result<(), NotDone> {
        let is_in_turn = !is_long(blocks.count as usize) || haste == Haste::Alone;
        if is_in_turn || !self.beside.has_room() {
            effects.push(Effect::Send(by, self.read(id, blocks)?));
            return Ok(());
        }
        self.check_read(blocks).map_err(NotDone::Wrong)?;
        let reading = self.region.begin_read(blocks.range())?;
        let number = self.beside.begin(reading.bytes());
        let asked = Asked { by, id, number, haste };
        effects.push(Effect::Run(super::Work::Read(asked, Box::new(reading))));
        Ok(())
    }

    /// Whoever has been fenced meanwhile, or has gone, is answered nothing.
    pub(crate) fn end_read(
        &mut self,
        Asked { by, id, number, .. }: Asked,
        read: ReadBeside,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Failed> {
        let pings = self.beside.end(number);
        let Some(active) = self.active else { return Ok(()) };
        if active == by {
            let blocks = read.blocks();
            let (held, bytes) = self.region.end_read(read)?;
            effects.push(Effect::Send(by, read_reply(id, blocks.start, held, bytes)));
        }
        effects.extend(pings.into_iter().map(|id| Effect::Send(active, Reply::Pong { id })));
        Ok(())
    }

    /// Answers a Ping of the active connection, behind what it has asked to be read.
    pub(crate) fn pong(&mut self, active: ConnectionId, id: u64, effects: &mut Vec<Effect>) {
        if self.beside.under_way.is_empty() || !Rule::PongIsBehindReads.is_kept() {
            effects.push(Effect::Send(active, Reply::Pong { id }));
        } else {
            self.beside.pings.push_back((id, self.beside.next));
        }
    }
}
