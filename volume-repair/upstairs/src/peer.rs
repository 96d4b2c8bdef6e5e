//! One member, as the Upstairs sees it.
//!
//! ```text
//!   away ──time──► connecting ──► greeting ──Welcome──► promoting ──Promoted──► told ──► streaming
//!    ▲                 │             │                     │                     │           │
//!    └─────────────────┴─────────────┴──── broken, refused, failed, silent ──────┴───────────┘
//! ```
//!
//! *Told* has said what it has, and waits until it is decided what that is worth. *Streaming* gets every write: as a full member from where
//! it is, as another one from now on.

use crate::{trouble::Trouble, types::Limits};
use region::{Member, Position};
use region_wire::Promoted;
use std::{collections::VecDeque, time::Duration};

/// Where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Until this time.
    Away(Duration),
    Connecting,
    Greeting,
    Promoting,
    Told,
    Streaming,
}

/// A power cut may have taken something from a full member, and it streams again.
#[derive(Debug)]
pub(crate) struct Suspicion {
    /// When it has applied this, it has all that it ever had.
    pub(crate) until: Position,
    /// The request by which it is told so.
    pub(crate) asked: Option<u64>,
}

/// A member.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) member: Member,
    pub(crate) state: State,
    /// What it said when it was promoted.
    pub(crate) told: Option<Promoted>,
    /// What it is known to have, and to have durably.
    pub(crate) applied: Position,
    pub(crate) durable: Position,
    /// The number of the next entry of the window that it is to be sent, and the last write that it was sent.
    pub(crate) next: u64,
    pub(crate) sent: Position,
    in_flight: VecDeque<(Position, usize)>,
    in_flight_bytes: usize,
    /// Blocks that it was asked for and has not given yet.
    pub(crate) reading: u64,
    /// When the ping was sent that it answered last.
    pub(crate) heard: Option<Duration>,
    pub(crate) pinged: Option<Duration>,
    /// Whether what it has is not what it should have: it has to be filled before it is full again.
    pub(crate) is_condemned: bool,
    /// Whether it is not to be a member any more, and still is.
    pub(crate) is_leaving: bool,
    /// Whether it was one: then this place is free.
    pub(crate) is_gone: bool,
    /// Whether it is left out as soon as that can be, for a new member.
    pub(crate) makes_room: bool,
    /// Whether it had nothing when it came, and was not full since.
    pub(crate) is_new: bool,
    /// Whether it is not full, holds everything, and waits for room in the list.
    pub(crate) is_ready: bool,
    /// If a power cut may have taken something from it.
    pub(crate) suspicion: Option<Suspicion>,
    /// Why it is not of use, if it is not.
    pub(crate) trouble: Option<Trouble>,
    /// Blocks, from the first on, of which it was made sure that it has them, since it is to be filled. Never less than before.
    pub(crate) filled: u64,
    /// Blocks that it had wrong.
    pub(crate) wrong_blocks: u64,
    /// Those of them that had their checksums, and were not sealed by the volume's key.
    pub(crate) wrong_seals: u64,
    pub(crate) healed_blocks: u64,
}

impl Peer {
    pub(crate) fn new(member: Member, is_leaving: bool) -> Peer {
        Peer {
            member,
            state: State::Away(Duration::ZERO),
            told: None,
            applied: Position::NONE,
            durable: Position::NONE,
            next: 0,
            sent: Position::NONE,
            in_flight: VecDeque::new(),
            in_flight_bytes: 0,
            reading: 0,
            heard: None,
            pinged: None,
            is_condemned: false,
            is_leaving,
            is_gone: false,
            makes_room: false,
            is_new: false,
            is_ready: false,
            suspicion: None,
            trouble: None,
            filled: 0,
            wrong_blocks: 0,
            wrong_seals: 0,
            healed_blocks: 0,
        }
    }

    pub(crate) fn is_streaming(&self) -> bool {
        self.state == State::Streaming
    }

    /// Whether it does what it is asked.
    pub(crate) fn is_promoted(&self) -> bool {
        matches!(self.state, State::Told | State::Streaming)
    }

    /// It gets the stream from this entry on.
    pub(crate) fn stream_from(&mut self, next: u64, applied: Position) {
        self.state = State::Streaming;
        self.next = next;
        self.applied = applied;
        self.sent = applied;
        self.in_flight.clear();
        self.in_flight_bytes = 0;
    }

    pub(crate) fn has_room(&self, limits: &Limits) -> bool {
        self.in_flight_bytes < limits.in_flight_bytes && self.in_flight.len() < limits.in_flight_entries
    }

    /// It was sent this write.
    pub(crate) fn note_sent(&mut self, position: Position, bytes: usize) {
        self.sent = position;
        self.in_flight.push_back((position, bytes));
        self.in_flight_bytes += bytes;
    }

    /// Whether what it was sent waits for room on its disk.
    pub(crate) fn is_out_of_room(&self) -> bool {
        matches!(self.trouble, Some(Trouble::NoRoom(_)))
    }

    /// It has applied this.
    pub(crate) fn note_applied(&mut self, position: Position) {
        self.applied = self.applied.max(position);
        while let Some((first, bytes)) = self.in_flight.front()
            && *first <= position
        {
            self.in_flight_bytes -= bytes;
            self.in_flight.pop_front();
        }
    }

    /// It has, durably, all that it ever had.
    pub(crate) fn trust(&mut self) {
        self.suspicion = None;
        if let Some(told) = &mut self.told {
            told.is_suspect = false;
        }
    }

    /// The connection is gone.
    pub(crate) fn lose(&mut self, until: Duration) {
        self.state = State::Away(until);
        self.told = None;
        self.is_ready = false;
        self.suspicion = None;
        self.in_flight.clear();
        self.in_flight_bytes = 0;
        self.reading = 0;
        self.pinged = None;
    }
}
