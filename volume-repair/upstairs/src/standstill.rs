//! How long clients wait for what does not go on, if not for ever.
//!
//! ```text
//!   goes on ──fewer than two full members there, or with room──► stands still ──as long as clients are to wait──► gives up
//!      ▲                                                              │                                               │
//!      └──────────────────────────── they are there again ────────────┴───────────────────────────────────────────────┘
//! ```
//!
//! What clients have asked when it gives up ends with an error, and so does at once whatever they ask until it goes on again. Nothing is
//! taken back: a write that was numbered stays in the stream, and members get it when they can. So it is like one whose answer was
//! lost: it may be done at any later time, but never after one that the client asked for later.

use crate::{
    types::JobError,
    upstairs::{Phase, Upstairs},
};
use std::time::Duration;

/// Why something stands still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lack {
    /// Fewer than two full members are there.
    Members,
    /// They are, but fewer than two have room on their disks.
    Room,
}

/// Something stands still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standstill {
    lack: Lack,
    since: Duration,
}

impl Upstairs {
    /// To be looked at with every tick.
    pub(crate) fn note_standstill(&mut self) {
        let since = self.now;
        self.standstill = self.lack().map(|lack| match self.standstill {
            Some(known) if known.lack == lack => known,
            _ => Standstill { lack, since },
        });
    }

    fn lack(&self) -> Option<Lack> {
        match self.phase {
            // Nobody said that it is to begin, or it answers with another error.
            Phase::Idle | Phase::Ended(_) => None,
            Phase::Gathering(_) | Phase::BringingUp(_) | Phase::Listing(_) => Some(Lack::Members),
            Phase::Active => {
                let counting = self.counting();
                let there = || counting.iter().filter(|peer| self.peers[peer.0].is_streaming());
                if there().count() < 2 || !self.has_right() {
                    Some(Lack::Members)
                } else if there().filter(|peer| !self.peers[peer.0].is_out_of_room()).count() < 2 {
                    Some(Lack::Room)
                } else {
                    None
                }
            }
        }
    }

    /// What clients are told that have waited for long enough, if they have.
    pub(crate) fn giving_up(&self, now: Duration) -> Option<JobError> {
        let Standstill { lack, since } = self.standstill?;
        let waited = now.saturating_sub(since);
        let patience = &self.config.patience;
        let (limit, error) = match lack {
            Lack::Members => (patience.for_members, JobError::TooFewMembers { waited }),
            Lack::Room => (patience.for_room, JobError::NoRoom { waited }),
        };
        // It may go on since the last tick.
        limit.filter(|limit| waited >= *limit && self.lack() == Some(lack)).map(|_| error)
    }

    /// Ends what clients have waited for long enough.
    pub(crate) fn give_up_jobs(&mut self) {
        let Some(error) = self.giving_up(self.now) else { return };
        self.end_writes(&error);
        if !matches!(self.phase, Phase::Active) || !self.has_right() {
            self.end_reads(&error);
        }
    }
}
