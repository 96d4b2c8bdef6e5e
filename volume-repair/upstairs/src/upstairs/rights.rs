//! Who counts, and whether what was read may be told: only while nobody else may write.
//!
//! ```text
//!   answer ──► held ──two full members were heard of in the last 4 s──► told
//!                └──── ended ──► an error in its place: it may be old by now
//! ```

use crate::{
    peer::Peer,
    rules::Rule,
    types::{Action, JobError, PeerId},
    upstairs::{Phase, Upstairs},
};
use region::{List, Position};
use std::time::Duration;

/// An Upstairs that has not heard of two full members for so long answers nothing.
pub(crate) const SILENCE_MAX: Duration = Duration::from_secs(4);

impl Upstairs {
    /// The members that count: full in the list in force, and in the one that is to follow it.
    pub(crate) fn counting(&self) -> Vec<PeerId> {
        let is_in = |list: &List, peer: PeerId| list.full.contains(&self.peers[peer.0].member);
        let counts = |peer: &PeerId| {
            if self.peers[peer.0].is_gone {
                return false;
            }
            let is_full = is_in(&self.list, *peer) || !Rule::FillingNeverCounts.is_kept();
            is_full && self.pending.as_ref().is_none_or(|pending| is_in(&pending.list, *peer))
        };
        (0..self.peers.len()).map(PeerId).filter(counts).collect()
    }

    pub(crate) fn is_full(&self, peer: PeerId) -> bool {
        let known = &self.peers[peer.0];
        !known.is_gone && self.list.full.contains(&known.member)
    }

    /// What two of those that count have.
    pub(crate) fn two_have(&self, of: impl Fn(&Peer) -> Position) -> Position {
        let mut have: Vec<Position> = self.counting().iter().map(|peer| of(&self.peers[peer.0])).collect();
        have.sort_unstable();
        have.len().checked_sub(2).map_or(Position::NONE, |second| have[second])
    }

    /// Whether two full members were heard of lately: if not, somebody else may be writing.
    pub(crate) fn has_right(&self) -> bool {
        self.has_right_at(self.now)
    }

    /// Whether what follows from something that was read here may be told to a client now, long after it was read: not while a second
    /// full member is not heard of.
    ///
    /// # Errors
    /// If it does nothing more, and what was read may be old by now.
    pub fn may_answer(&self, now: Duration) -> Result<bool, JobError> {
        match self.phase {
            Phase::Ended(end) => Err(self.error_of(end)),
            _ => Ok(self.has_right_at(now)),
        }
    }

    pub(crate) fn is_heard(&self, now: Duration, peer: PeerId) -> bool {
        self.peers[peer.0].heard.is_some_and(|heard| now.saturating_sub(heard) <= SILENCE_MAX)
    }

    pub(crate) fn has_right_at(&self, now: Duration) -> bool {
        let full = (0..self.peers.len()).map(PeerId).filter(|peer| self.is_full(*peer));
        let needed = self.list.full.len().min(2);
        full.filter(|peer| self.is_heard(now, *peer)).count() >= needed || !Rule::SilenceStopsReads.is_kept()
    }

    /// An answer that is held while nobody is heard of.
    pub(crate) fn answer(&mut self, action: Action) {
        self.held.push(action);
    }

    pub(crate) fn release_held(&mut self) {
        if let Phase::Ended(end) = self.phase {
            // What was read before may be old by now.
            let error = self.error_of(end);
            for action in std::mem::take(&mut self.held) {
                if let Action::Done(id, result) = action {
                    self.actions.push(Action::Done(id, result.and(Err(error.clone()))));
                }
            }
        } else if !self.held.is_empty() && self.has_right() {
            self.actions.append(&mut self.held);
        }
    }
}
