//! One block of the book: what it may hold, and what each thing that happens to it makes of that. Pure.
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
//! was never acknowledged may be gone with the export, also if a read has seen it: what was acknowledged last is possible again.
//!
//! Times are those of the book: they go on with everything that happens, and the number of a request is the time of its sending.

use crate::request::What;
use std::{collections::VecDeque, fmt::Write};

/// What is kept of a block's past, for people.
const HISTORY_MAX: usize = 24;

/// What a block may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    Zeros,
    /// What this write put there.
    Write(u64),
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

/// A block.
#[derive(Debug)]
pub(crate) struct Cell {
    candidates: Vec<Candidate>,
    is_written: bool,
    /// Whether it is to stay as it is.
    is_held: bool,
    past: VecDeque<(u64, Past)>,
}

impl Cell {
    /// One that nobody ever wrote.
    pub(crate) fn zeros() -> Cell {
        let nothing = Candidate {
            content: Content::Zeros,
            request: 0,
            connection: 0,
            is_under_way: false,
            until: None,
        };
        Cell { candidates: vec![nothing], is_written: false, is_held: false, past: VecDeque::new() }
    }

    /// A request that changes it is sent, on this connection. The oldest one that is under way anywhere is `oldest`.
    pub(crate) fn sent(&mut self, what: What, number: u64, connection: u32, oldest: u64) {
        let content = if what == What::Write { Content::Write(number) } else { Content::Zeros };
        // Nobody who could have seen them is waited for any more.
        self.candidates.retain(|candidate| candidate.until.is_none_or(|until| until > oldest));
        self.candidates.push(Candidate {
            content,
            request: number,
            connection,
            is_under_way: true,
            until: None,
        });
        self.is_written = true;
        self.note(number, Past::Sent(what, number));
    }

    /// The request that changes it was answered.
    pub(crate) fn acknowledged(&mut self, number: u64, now: u64) {
        self.is_written = false;
        for candidate in &mut self.candidates {
            candidate.is_under_way = false;
            if candidate.request < number {
                candidate.until.get_or_insert(now);
            }
        }
        self.note(now, Past::Acknowledged(number));
    }

    /// The request that changes it will never be answered.
    pub(crate) fn lost(&mut self, number: u64, now: u64) {
        self.is_written = false;
        for candidate in &mut self.candidates {
            candidate.is_under_way = false;
            // Only a read that saw this very write can have put it out since.
            candidate.until = candidate.until.filter(|until| *until < number);
        }
        self.note(now, Past::Lost(number));
    }

    /// A read has seen this; none is a content of no write. The connection is the present one.
    ///
    /// # Errors
    /// What it may see, if not this. Nothing is changed.
    pub(crate) fn seen(
        &mut self,
        read: u64,
        content: Option<Content>,
        now: u64,
        connection: u32,
    ) -> Result<(), Vec<Content>> {
        let possible = |candidate: &Candidate| candidate.until.is_none_or(|until| until > read);
        let is_seen = |candidate: &Candidate| Some(candidate.content) == content;
        let request =
            self.candidates.iter().filter(|it| possible(it) && is_seen(it)).map(|it| it.request).min();
        let (Some(request), Some(content)) = (request, content) else {
            return Err(self.candidates.iter().filter(|it| possible(it)).map(|it| it.content).collect());
        };
        for candidate in &mut self.candidates {
            let is_decided_otherwise =
                candidate.connection < connection && !candidate.is_under_way && candidate.content != content;
            if candidate.request < request || (candidate.request > request && is_decided_otherwise) {
                candidate.until.get_or_insert(now);
            }
        }
        self.note(now, Past::Read(read, content));
        Ok(())
    }

    /// Whether it may be written now.
    pub(crate) fn is_free(&self) -> bool {
        !self.is_written && !self.is_held
    }

    pub(crate) fn is_held(&self) -> bool {
        self.is_held
    }

    /// Whether it is to stay as it is.
    pub(crate) fn set_held(&mut self, is_held: bool) {
        self.is_held = is_held;
    }

    /// What it holds, if only one thing is possible.
    pub(crate) fn settled(&self) -> Option<Content> {
        let mut live = self.live().map(|candidate| candidate.content);
        let first = live.next()?;
        live.all(|other| other == first).then_some(first)
    }

    /// The write that it is of, if it is of one, that one was decided, and no other one is under way.
    pub(crate) fn settled_write(&self) -> Option<u64> {
        match self.live().collect::<Vec<_>>()[..] {
            [Candidate { content: Content::Write(write), is_under_way: false, .. }] => Some(*write),
            _ => None,
        }
    }

    /// What is known of it, for people: a line for each thing.
    pub(crate) fn history(&self) -> String {
        let mut text = String::new();
        for (time, past) in &self.past {
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
    use std::collections::BTreeSet;

    /// A block with a clock, a connection, and what is under way on it.
    struct Block {
        cell: Cell,
        clock: u64,
        connection: u32,
        under_way: BTreeSet<u64>,
    }

    impl Block {
        fn new() -> Block {
            Block { cell: Cell::zeros(), clock: 0, connection: 1, under_way: BTreeSet::new() }
        }

        fn send_read(&mut self) -> u64 {
            self.clock += 1;
            self.under_way.insert(self.clock);
            self.clock
        }

        fn write(&mut self) -> u64 {
            let number = self.send_read();
            let oldest = *self.under_way.first().unwrap();
            self.cell.sent(What::Write, number, self.connection, oldest);
            number
        }

        fn acknowledge(&mut self, number: u64) {
            self.clock += 1;
            self.under_way.remove(&number);
            self.cell.acknowledged(number, self.clock);
        }

        fn answer_read(&mut self, read: u64, content: Content) -> Result<(), Vec<Content>> {
            self.clock += 1;
            self.under_way.remove(&read);
            self.cell.seen(read, Some(content), self.clock, self.connection)
        }

        fn read(&mut self, content: Content) -> Result<(), Vec<Content>> {
            let read = self.send_read();
            self.answer_read(read, content)
        }

        /// Of what is under way only this changes the block.
        fn lose_connection(&mut self, write: Option<u64>) {
            self.clock += 1;
            self.connection += 1;
            self.under_way.clear();
            if let Some(write) = write {
                self.cell.lost(write, self.clock);
            }
        }
    }

    #[test]
    fn what_was_acknowledged_is_what_is_read() {
        let mut block = Block::new();
        block.read(Content::Zeros).unwrap();
        let first = block.write();
        assert!(!block.cell.is_free());
        block.acknowledge(first);
        assert!(block.cell.is_free());
        block.read(Content::Write(first)).unwrap();
        assert_eq!(block.read(Content::Zeros), Err(vec![Content::Write(first)]));
        assert_eq!(block.cell.settled(), Some(Content::Write(first)));
        assert_eq!(block.cell.settled_write(), Some(first));
    }

    #[test]
    fn a_write_under_way_may_be_seen_or_not_but_not_unseen_again() {
        let mut block = Block::new();
        let first = block.write();
        assert_eq!((block.cell.settled(), block.cell.settled_write()), (None, None));
        block.read(Content::Zeros).unwrap();
        let early = block.send_read();
        block.read(Content::Write(first)).unwrap();
        block.read(Content::Zeros).unwrap_err();
        // It was sent before anybody had seen it.
        block.answer_read(early, Content::Zeros).unwrap();
        block.acknowledge(first);
        block.read(Content::Write(first)).unwrap();
    }

    #[test]
    fn a_read_that_began_before_an_acknowledgement_may_see_what_was_before() {
        let mut block = Block::new();
        let early = block.send_read();
        let first = block.write();
        block.acknowledge(first);
        let second = block.write();
        block.acknowledge(second);
        block.answer_read(early, Content::Zeros).unwrap();
        block.read(Content::Write(first)).unwrap_err();
    }

    #[test]
    fn what_was_lost_with_a_connection_is_decided_by_the_first_read() {
        for is_there in [false, true] {
            let mut block = Block::new();
            let first = block.write();
            block.acknowledge(first);
            let lost = block.write();
            block.lose_connection(Some(lost));
            let (seen, other) = if is_there { (lost, first) } else { (first, lost) };
            block.read(Content::Write(seen)).unwrap();
            block.read(Content::Write(other)).unwrap_err();
        }
    }

    #[test]
    fn what_was_seen_and_never_acknowledged_may_be_gone_with_the_connection() {
        let mut block = Block::new();
        let first = block.write();
        block.acknowledge(first);
        let second = block.write();
        block.read(Content::Write(second)).unwrap();
        block.lose_connection(Some(second));
        block.read(Content::Zeros).unwrap_err();
        block.read(Content::Write(first)).unwrap();
        block.read(Content::Write(second)).unwrap_err();
    }

    #[test]
    fn acknowledged_writes_outlive_connections() {
        let mut block = Block::new();
        let first = block.write();
        block.acknowledge(first);
        block.lose_connection(None);
        block.read(Content::Zeros).unwrap_err();
    }

    #[test]
    fn a_content_of_no_write_is_never_right() {
        let mut block = Block::new();
        let read = block.send_read();
        assert_eq!(block.cell.seen(read, None, 9, 1), Err(vec![Content::Zeros]));
    }

    #[test]
    fn of_a_long_past_the_end_is_told() {
        let mut block = Block::new();
        for _ in 0..HISTORY_MAX {
            block.read(Content::Zeros).unwrap();
        }
        let write = block.write();
        block.lose_connection(Some(write));
        let history = block.cell.history();
        assert_eq!(history.lines().count(), HISTORY_MAX);
        assert!(
            history.ends_with(&format!("the connection is lost; nobody knows of {write}\n")),
            "{history}"
        );
        assert!(!history.contains(" read 1 "), "{history}");
    }
}
