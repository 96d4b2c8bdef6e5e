//! The book of one client: what each of its blocks may hold, what is under way, and what it asks next. Pure: no socket, no clock.
//!
//! ```text
//!              send write w                     w is acknowledged
//!   {.., v} ─────────────────► {.., v, w} ───────────────────────────► {w}
//!                                  │  ▲
//!                 connection lost  │  │ a read sees x: whatever was written before x is out; and of what was lost with an
//!                                  ▼  │ earlier connection, everything but x
//!                              {.., v, w}
//! ```
//!
//! A block has one write under way at most, so its writes have an order. A read may see whatever the block may have held at some
//! instant between its sending and its answer; and what a read has seen, every read that is sent later sees, or something newer. But what
//! was never acknowledged may be gone with the export, also if a read has seen it: what was acknowledged last is possible again. All of
//! that holds for each block; a request of several blocks is several.

use crate::block::{Seen, see};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IteratorRandom};
use serde::Serialize;
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt::Write,
    ops::{AddAssign, Range},
};

/// Blocks of one request at most.
const BLOCKS_MAX: u32 = 16;

/// What is kept of a block's past, for people.
const HISTORY_MAX: usize = 24;

/// Blocks of one read when everything is read.
const SWEEP_BLOCKS: u64 = 64;

/// A request, by a number that is never used again. A write's number is what its blocks say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) number: u64,
    pub(crate) what: What,
    /// Of the volume.
    pub(crate) first: u64,
    pub(crate) count: u32,
    /// Whether it is durable before it is answered.
    pub(crate) is_durable: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Read,
    Write,
    /// Zeros, which are not to become a hole.
    Zero,
    Trim,
    Flush,
}

impl What {
    fn changes(self) -> bool {
        matches!(self, What::Write | What::Zero | What::Trim)
    }
}

/// What was asked and answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Reads that were answered, and right.
    pub reads: u64,
    /// Writes that were acknowledged.
    pub writes: u64,
    /// Blocks of them.
    pub blocks_written: u64,
    /// Zeroings and trims that were acknowledged.
    pub zeroings: u64,
    /// Flushes that were acknowledged.
    pub flushes: u64,
    /// Blocks that were read and held against the book.
    pub blocks_checked: u64,
    /// Requests that were under way when the export was killed.
    pub lost_answers: u64,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Counts) {
        self.reads += other.reads;
        self.writes += other.writes;
        self.blocks_written += other.blocks_written;
        self.zeroings += other.zeroings;
        self.flushes += other.flushes;
        self.blocks_checked += other.blocks_checked;
        self.lost_answers += other.lost_answers;
    }
}

impl Counts {
    /// All that was answered.
    pub(crate) fn answered(&self) -> u64 {
        self.reads + self.writes + self.zeroings + self.flushes
    }
}

/// What a block may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    Zeros,
    /// What this write put there.
    Write(u64),
}

/// A block that holds what it should not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wrong {
    pub(crate) block: u64,
    pub(crate) what: String,
    pub(crate) history: String,
}

/// One of the things that a block may hold.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    content: Content,
    /// The request that puts it there; 0 for what was there first.
    request: u64,
    /// The connection on which it was sent.
    connection: u32,
    is_under_way: bool,
    /// The time from which on no read may be sent that sees it.
    until: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
enum Past {
    Sent(What, u64),
    Acknowledged(u64),
    Lost(u64),
    Read(u64, Content),
}

#[derive(Debug)]
struct Cell {
    candidates: Vec<Candidate>,
    is_written: bool,
    /// Whether it is to stay as it is.
    is_held: bool,
    past: VecDeque<(u64, Past)>,
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
        let nothing = Candidate {
            content: Content::Zeros,
            request: 0,
            connection: 0,
            is_under_way: false,
            until: None,
        };
        let cell =
            |_| Cell { candidates: vec![nothing], is_written: false, is_held: false, past: VecDeque::new() };
        Oracle {
            salt,
            first,
            cells: (0..blocks).map(cell).collect(),
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

    /// Connections that were lost so far.
    pub(crate) fn connections_lost(&self) -> u32 {
        self.connection - 1
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
        let is_free = cells.iter().all(|cell| !cell.is_written && !cell.is_held);
        // What cannot be written now can be read.
        let what = if is_free { what } else { What::Read };
        self.send(what, start, count)
    }

    fn any_held(&mut self) -> Option<u64> {
        let held = (0..).zip(&self.cells).filter(|(_, cell)| cell.is_held).map(|(index, _)| index);
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
        let content = if what == What::Write { Content::Write(number) } else { Content::Zeros };
        let connection = self.connection;
        for cell in &mut self.cells[start as usize..][..count as usize] {
            // Nobody who could have seen them is waited for any more.
            cell.candidates.retain(|candidate| candidate.until.is_none_or(|until| until > oldest));
            cell.candidates.push(Candidate {
                content,
                request: number,
                connection,
                is_under_way: true,
                until: None,
            });
            cell.is_written = true;
            cell.note(number, Past::Sent(what, number));
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
                    cell.is_written = false;
                    for candidate in &mut cell.candidates {
                        candidate.is_under_way = false;
                        if candidate.request < number {
                            candidate.until.get_or_insert(now);
                        }
                    }
                    cell.note(now, Past::Acknowledged(number));
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
                cell.is_written = false;
                for candidate in &mut cell.candidates {
                    candidate.is_under_way = false;
                    // Only a read that saw this very write can have put it out since.
                    candidate.until = candidate.until.filter(|until| *until < request.number);
                }
                cell.note(now, Past::Lost(request.number));
            }
        }
        self.sweep_reads.clear();
        self.begin_sweep();
    }

    /// Some blocks, with the write that they are of, stay as they are until [`Oracle::release`].
    pub(crate) fn hold(&mut self, count: usize) -> Vec<(u64, u64)> {
        let settled = |cell: &Cell| match cell.live().collect::<Vec<_>>()[..] {
            [Candidate { content: Content::Write(write), is_under_way: false, .. }] => Some(*write),
            _ => None,
        };
        let all = (0..self.cells.len()).filter_map(|index| Some((index, settled(&self.cells[index])?)));
        let chosen = all.choose_multiple(&mut self.random, count);
        for (index, _) in &chosen {
            self.cells[*index].is_held = true;
        }
        chosen.into_iter().map(|(index, write)| (self.first + index as u64, write)).collect()
    }

    /// They may be written again.
    pub(crate) fn release(&mut self) {
        self.cells.iter_mut().for_each(|cell| cell.is_held = false);
    }

    /// What each block holds, when nothing is under way and everything was read; of those of which only one thing is possible.
    pub(crate) fn settled(&self) -> Vec<(u64, Content)> {
        let content = |cell: &Cell| {
            let mut live = cell.live().map(|candidate| candidate.content);
            let first = live.next()?;
            live.all(|other| other == first).then_some(first)
        };
        (self.first..).zip(&self.cells).filter_map(|(block, cell)| Some((block, content(cell)?))).collect()
    }

    /// What is known of a block, for people.
    pub(crate) fn history(&self, block: u64) -> String {
        let Some(cell) = block.checked_sub(self.first).and_then(|index| self.cells.get(index as usize))
        else {
            return String::new();
        };
        let mut text = String::new();
        for (time, past) in &cell.past {
            // Writing to a string does not fail.
            let _ = match past {
                Past::Sent(what, number) => writeln!(text, "{time:>8} {what:?} {number} is sent"),
                Past::Acknowledged(number) => writeln!(text, "{time:>8} {number} is acknowledged"),
                Past::Lost(number) => {
                    writeln!(text, "{time:>8} the connection is lost; nobody knows of {number}")
                }
                Past::Read(number, content) => writeln!(text, "{time:>8} read {number} sees {content:?}"),
            };
        }
        text
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
        let possible = |candidate: &Candidate| candidate.until.is_none_or(|until| until > read);
        let is_seen = |candidate: &Candidate| Some(candidate.content) == content;
        let request =
            cell.candidates.iter().filter(|it| possible(it) && is_seen(it)).map(|it| it.request).min();
        let (Some(request), Some(content)) = (request, content) else {
            let may: Vec<Content> =
                cell.candidates.iter().filter(|it| possible(it)).map(|it| it.content).collect();
            let what = format!("read {read} sees {seen:?}; it may see {may:?}");
            return Err(Wrong { block, what, history: self.history(block) });
        };
        for candidate in &mut cell.candidates {
            let is_decided_otherwise =
                candidate.connection < connection && !candidate.is_under_way && candidate.content != content;
            if candidate.request < request || (candidate.request > request && is_decided_otherwise) {
                candidate.until.get_or_insert(now);
            }
        }
        cell.note(now, Past::Read(read, content));
        Ok(())
    }
}

impl Cell {
    /// What a read that is sent now may see.
    fn live(&self) -> impl Iterator<Item = &Candidate> {
        self.candidates.iter().filter(|candidate| candidate.until.is_none())
    }

    fn note(&mut self, time: u64, past: Past) {
        if self.past.len() == HISTORY_MAX {
            self.past.pop_front();
        }
        self.past.push_back((time, past));
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
    fn what_was_acknowledged_is_what_is_read() {
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
    fn a_write_under_way_may_be_seen_or_not_but_not_unseen_again() {
        let mut book = book();
        let first = write(&mut book);
        read(&mut book, Content::Zeros).unwrap();
        let early = book.send(What::Read, 0, 1).number;
        read(&mut book, Content::Write(first)).unwrap();
        read(&mut book, Content::Zeros).unwrap_err();
        // It was sent before anybody had seen it.
        book.answered(early, &bytes(Content::Zeros)).unwrap();
        book.answered(first, &[]).unwrap();
        read(&mut book, Content::Write(first)).unwrap();
    }

    #[test]
    fn a_read_that_began_before_an_acknowledgement_may_see_what_was_before() {
        let mut book = book();
        let early = book.send(What::Read, 0, 1).number;
        let first = write(&mut book);
        book.answered(first, &[]).unwrap();
        let second = write(&mut book);
        book.answered(second, &[]).unwrap();
        book.answered(early, &bytes(Content::Zeros)).unwrap();
        read(&mut book, Content::Write(first)).unwrap_err();
    }

    #[test]
    fn what_was_lost_with_a_connection_is_decided_by_the_first_read() {
        for is_there in [false, true] {
            let mut book = book();
            let first = write(&mut book);
            book.answered(first, &[]).unwrap();
            let lost = write(&mut book);
            book.lose_connection();
            let (seen, other) = if is_there { (lost, first) } else { (first, lost) };
            read(&mut book, Content::Write(seen)).unwrap();
            read(&mut book, Content::Write(other)).unwrap_err();
            assert_eq!(book.counts().lost_answers, 1);
        }
    }

    #[test]
    fn what_was_seen_and_never_acknowledged_may_be_gone_with_the_connection() {
        let mut book = book();
        let first = write(&mut book);
        book.answered(first, &[]).unwrap();
        let second = write(&mut book);
        read(&mut book, Content::Write(second)).unwrap();
        book.lose_connection();
        read(&mut book, Content::Zeros).unwrap_err();
        read(&mut book, Content::Write(first)).unwrap();
        read(&mut book, Content::Write(second)).unwrap_err();
    }

    #[test]
    fn acknowledged_writes_outlive_connections() {
        let mut book = book();
        let first = write(&mut book);
        book.answered(first, &[]).unwrap();
        book.lose_connection();
        read(&mut book, Content::Zeros).unwrap_err();
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
