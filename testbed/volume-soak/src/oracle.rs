//! The book of one client: its blocks, what is under way, and what it asks next. What a block may hold is decided by `cell`, for each
//! block on its own: a request of several blocks is several. Pure: no socket, no clock.
//!
//! ```text
//!   next_request ──► under way ──answered──► cells: sent, acknowledged, seen
//!                        └───lose_connection──► cells: lost ──► every block is read before anything else is asked
//! ```

use crate::{
    block::{Seen, see},
    cell::{Cell, Content},
    request::{Counts, Request, What},
};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IteratorRandom};
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

/// Blocks of one request at most.
const BLOCKS_MAX: u32 = 16;

/// Blocks of one read when everything is read.
const SWEEP_BLOCKS: u64 = 64;

/// A block that holds what it should not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wrong {
    pub(crate) block: u64,
    pub(crate) what: String,
    pub(crate) history: String,
}

/// The book.
#[derive(Debug)]
pub(crate) struct Oracle {
    salt: u64,
    /// The first of its blocks.
    first: u64,
    cells: Vec<Cell>,
    random: StdRng,
    /// Goes on with everything that happens; numbers of requests are times.
    clock: u64,
    connection: u32,
    under_way: BTreeMap<u64, Request>,
    /// What is still to be asked of a reading of everything.
    sweep: Range<u64>,
    /// The reads of it that are under way.
    sweep_reads: BTreeSet<u64>,
    counts: Counts,
}

impl Oracle {
    /// Of so many blocks from this one on, which are all zeros.
    pub(crate) fn new(salt: u64, seed: u64, first: u64, blocks: u32) -> Oracle {
        Oracle {
            salt,
            first,
            cells: (0..blocks).map(|_| Cell::zeros()).collect(),
            random: StdRng::seed_from_u64(seed),
            clock: 0,
            connection: 1,
            under_way: BTreeMap::new(),
            sweep: 0..0,
            sweep_reads: BTreeSet::new(),
            counts: Counts::default(),
        }
    }

    pub(crate) fn salt(&self) -> u64 {
        self.salt
    }

    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.under_way.is_empty() && !self.is_sweeping()
    }

    /// Every block is read before anything else is asked.
    pub(crate) fn begin_sweep(&mut self) {
        self.sweep = 0..self.cells.len() as u64;
    }

    pub(crate) fn is_sweeping(&self) -> bool {
        !self.sweep.is_empty() || !self.sweep_reads.is_empty()
    }

    /// What is asked next; none for now while everything is read, and, unless it `may_begin`, at all.
    pub(crate) fn next_request(&mut self, may_begin: bool) -> Option<Request> {
        if !self.sweep.is_empty() {
            let start = self.sweep.start;
            let end = self.sweep.end.min(start + SWEEP_BLOCKS);
            self.sweep.start = end;
            let request = self.send(What::Read, start, (end - start) as u32);
            self.sweep_reads.insert(request.number);
            return Some(request);
        }
        if self.is_sweeping() || !may_begin {
            return None;
        }
        Some(self.any_request())
    }

    fn any_request(&mut self) -> Request {
        let what = match self.random.random_range(0..100) {
            0..48 => What::Write,
            48..54 => What::Zero,
            54..58 => What::Trim,
            58..61 => What::Flush,
            _ => What::Read,
        };
        if what == What::Flush {
            return self.send(what, 0, 0);
        }
        if what == What::Read
            && self.random.random_ratio(1, 4)
            && let Some(held) = self.any_held()
        {
            return self.send(What::Read, held, 1);
        }
        let count = self.random.random_range(1..=BLOCKS_MAX).min(self.cells.len() as u32);
        let start = self.random.random_range(0..=self.cells.len() as u64 - u64::from(count));
        let cells = &self.cells[start as usize..][..count as usize];
        let is_free = cells.iter().all(Cell::is_free);
        // What cannot be written now can be read.
        let what = if is_free { what } else { What::Read };
        self.send(what, start, count)
    }

    fn any_held(&mut self) -> Option<u64> {
        let held = (0..).zip(&self.cells).filter(|(_, cell)| cell.is_held()).map(|(index, _)| index);
        held.choose(&mut self.random)
    }

    fn send(&mut self, what: What, start: u64, count: u32) -> Request {
        self.clock += 1;
        let number = self.clock;
        let is_durable = what.changes() && self.random.random_ratio(1, 10);
        let request = Request { number, what, first: self.first + start, count, is_durable };
        let oldest = self.under_way.keys().next().copied().unwrap_or(number);
        self.under_way.insert(number, request);
        if !what.changes() {
            return request;
        }
        let connection = self.connection;
        for cell in self.cells_of(request) {
            cell.sent(what, number, connection, oldest);
        }
        request
    }

    /// The request of this number, if it waits for an answer.
    pub(crate) fn under_way(&self, number: u64) -> Option<Request> {
        self.under_way.get(&number).copied()
    }

    /// It was answered; a read with these bytes.
    pub(crate) fn answered(&mut self, number: u64, bytes: &[u8]) -> Result<(), Wrong> {
        let request = self.under_way.remove(&number).expect("whoever tells has asked for the request");
        self.clock += 1;
        let now = self.clock;
        match request.what {
            What::Flush => self.counts.flushes += 1,
            What::Read => {
                self.sweep_reads.remove(&number);
                let size = bytes.len() / request.count as usize;
                for (block, bytes) in (request.first..).zip(bytes.chunks_exact(size)) {
                    self.check(block, number, bytes)?;
                }
                self.counts.reads += 1;
                self.counts.blocks_checked += u64::from(request.count);
            }
            What::Write | What::Zero | What::Trim => {
                for cell in self.cells_of(request) {
                    cell.acknowledged(number, now);
                }
                if request.what == What::Write {
                    self.counts.writes += 1;
                    self.counts.blocks_written += u64::from(request.count);
                } else {
                    self.counts.zeroings += 1;
                }
            }
        }
        Ok(())
    }

    /// The connection is gone, and with it the answers to what is under way. The next one begins with reading everything.
    pub(crate) fn lose_connection(&mut self) {
        self.clock += 1;
        let now = self.clock;
        self.connection += 1;
        self.counts.lost_answers += self.under_way.len() as u64;
        for request in std::mem::take(&mut self.under_way).into_values() {
            if !request.what.changes() {
                continue;
            }
            for cell in self.cells_of(request) {
                cell.lost(request.number, now);
            }
        }
        self.sweep_reads.clear();
        self.begin_sweep();
    }

    /// Some blocks, with the write that they are of, stay as they are until [`Oracle::release`].
    pub(crate) fn hold(&mut self, count: usize) -> Vec<(u64, u64)> {
        let all = (0..).zip(&self.cells).filter_map(|(index, cell)| Some((index, cell.settled_write()?)));
        let chosen = all.choose_multiple(&mut self.random, count);
        for (index, _) in &chosen {
            self.cells[*index as usize].set_held(true);
        }
        chosen.into_iter().map(|(index, write)| (self.first + index, write)).collect()
    }

    /// They may be written again.
    pub(crate) fn release(&mut self) {
        self.cells.iter_mut().for_each(|cell| cell.set_held(false));
    }

    /// What each block holds, when nothing is under way and everything was read; of those of which only one thing is possible.
    pub(crate) fn settled(&self) -> Vec<(u64, Content)> {
        (self.first..).zip(&self.cells).filter_map(|(block, cell)| Some((block, cell.settled()?))).collect()
    }

    /// What is known of a block, for people.
    pub(crate) fn history(&self, block: u64) -> String {
        let index = block.checked_sub(self.first).and_then(|index| usize::try_from(index).ok());
        index.and_then(|index| self.cells.get(index)).map(Cell::history).unwrap_or_default()
    }

    fn cells_of(&mut self, request: Request) -> &mut [Cell] {
        let start = (request.first - self.first) as usize;
        &mut self.cells[start..start + request.count as usize]
    }

    fn check(&mut self, block: u64, read: u64, bytes: &[u8]) -> Result<(), Wrong> {
        let (now, connection) = (self.clock, self.connection);
        let seen = see(bytes, self.salt, block);
        let cell = &mut self.cells[(block - self.first) as usize];
        let content = match seen {
            Seen::Zeros => Some(Content::Zeros),
            Seen::Write(number) => Some(Content::Write(number)),
            Seen::Wrong { .. } => None,
        };
        cell.seen(read, content, now, connection).map_err(|may| {
            let what = format!("read {read} sees {seen:?}; it may see {may:?}");
            Wrong { block, what, history: cell.history() }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::{BLOCK, fill};

    /// One block, 10.
    fn book() -> Oracle {
        Oracle::new(7, 1, 10, 1)
    }

    fn bytes(content: Content) -> Vec<u8> {
        let mut bytes = vec![0; BLOCK];
        if let Content::Write(write) = content {
            fill(&mut bytes, 7, 10, write);
        }
        bytes
    }

    fn write(book: &mut Oracle) -> u64 {
        book.send(What::Write, 0, 1).number
    }

    fn read(book: &mut Oracle, content: Content) -> Result<(), Wrong> {
        let read = book.send(What::Read, 0, 1).number;
        book.answered(read, &bytes(content))
    }

    #[test]
    fn what_was_acknowledged_is_what_is_read_and_a_wrong_block_comes_with_its_past() {
        let mut book = book();
        read(&mut book, Content::Zeros).unwrap();
        let first = write(&mut book);
        book.answered(first, &[]).unwrap();
        read(&mut book, Content::Write(first)).unwrap();
        let wrong = read(&mut book, Content::Zeros).unwrap_err();
        assert!(wrong.what.ends_with(&format!("sees Zeros; it may see [Write({first})]")), "{wrong:?}");
        assert!(wrong.history.contains(&format!("{first} is acknowledged")), "{wrong:?}");
        assert_eq!(book.settled(), [(10, Content::Write(first))]);
    }

    #[test]
    fn a_lost_connection_loses_its_answers_and_a_read_from_before_a_write_may_see_what_was_before() {
        let mut book = book();
        let early = book.send(What::Read, 0, 1).number;
        let first = write(&mut book);
        book.answered(first, &[]).unwrap();
        let second = write(&mut book);
        book.answered(second, &[]).unwrap();
        book.answered(early, &bytes(Content::Zeros)).unwrap();
        let lost = write(&mut book);
        book.lose_connection();
        assert_eq!(book.counts().lost_answers, 1);
        read(&mut book, Content::Write(second)).unwrap();
        read(&mut book, Content::Write(lost)).unwrap_err();
        assert!(book.history(10).contains(&format!("nobody knows of {lost}")), "{}", book.history(10));
        assert_eq!((book.history(9), book.history(11)), (String::new(), String::new()));
    }

    #[test]
    fn a_lost_connection_is_followed_by_a_reading_of_everything() {
        let mut book = Oracle::new(7, 1, 0, 100);
        book.lose_connection();
        let mut blocks = 0;
        let mut reads = Vec::new();
        while let Some(request) = book.next_request(true) {
            assert_eq!(request.what, What::Read);
            blocks += request.count;
            reads.push(request);
        }
        assert_eq!(blocks, 100);
        assert!(book.is_sweeping());
        for read in reads {
            book.answered(read.number, &vec![0; BLOCK * read.count as usize]).unwrap();
        }
        assert!(
            !book.is_sweeping() && book.next_request(false).is_none() && book.next_request(true).is_some()
        );
    }

    #[test]
    fn a_block_has_one_write_under_way_and_a_held_one_none() {
        let mut book = Oracle::new(7, 3, 0, 8);
        let first = book.send(What::Write, 0, 8).number;
        assert!(book.hold(8).is_empty(), "nothing is settled");
        let others: Vec<Request> = (0..100).filter_map(|_| book.next_request(true)).collect();
        assert!(others.iter().all(|request| !request.what.changes()));
        book.answered(first, &[]).unwrap();
        assert_eq!(book.hold(8).len(), 8);
        assert!((0..100).all(|_| !book.next_request(true).unwrap().what.changes()));
        book.release();
        assert!((0..100).any(|_| book.next_request(true).unwrap().what.changes()));
    }
}
