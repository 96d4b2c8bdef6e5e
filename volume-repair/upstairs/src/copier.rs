//! Making one member have what another one has: range by range, only what differs. What becomes of a range: [`crate::ranges`].
//!
//! ```text
//!   blocks   |  made sure of  | range | range | range |        not looked at yet          |
//!                              └─ a few at a time, ──┘└─ writes of the stream are passed over, if the target is new
//!                                 side by side
//!
//!   behind the last range:   staging:    Commit: all of it is the target's content, at one instant
//!                            installing: something was copied? another round. Nothing? flush, and a list that has the target
//! ```
//!
//! Digests and versions are asked of both behind the same position of the stream. Whoever is interrupted begins again: what is the same
//! already costs one digest for each range.
//!
//! **Writes that are passed over.** A target that never had anything gets each block at least once, by the copy. A write onto blocks that
//! are still to be looked at is not sent to it before: the source has it by then, and the copy takes it along. It is told only that its
//! position in the stream goes on, so that "behind the same position" means what it did. As the first digest of a range is asked, the writes
//! onto it are sent from then on; what was passed over is before that, at the source, and not at the target, so the digests differ.

use crate::{
    pace::Pace,
    ranges::{RangeCopy, Step},
    rules::Rule,
    status::FillPhase,
    trouble::Trouble,
    types::PeerId,
    upstairs::{Phase, Purpose, Upstairs},
    window::Entry,
};
use region_wire::{Blocks, LOOK_MAX, Reply, Request};
use std::collections::BTreeSet;

/// Full members at most: of more, two that acknowledge need not meet two that are activated.
const FULL_MAX: usize = 3;

/// How what is copied becomes the target's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// All at once, at the end: the target is full.
    Stage,
    /// Bit by bit: it is not.
    Install,
}

/// A copy that is under way.
#[derive(Debug)]
pub(crate) struct Copier {
    pub(crate) source: PeerId,
    pub(crate) target: PeerId,
    pub(crate) mode: Mode,
    /// The first block of the next range.
    next: u64,
    /// Those before it that are not done, in their order.
    pub(crate) ranges: Vec<RangeCopy>,
    /// All ranges of the last round are done.
    ending: Option<Ending>,
    /// Whether this round has found anything to copy, and how many there were before.
    pub(crate) has_found: bool,
    rounds: u32,
    /// Blocks that nobody can mend.
    pub(crate) hopeless: BTreeSet<u64>,
}

/// What the target was asked in the end, and by which request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Flushing(u64),
    Committing(u64),
}

impl Copier {
    pub(crate) fn staging(source: PeerId, target: PeerId) -> Copier {
        Copier {
            source,
            target,
            mode: Mode::Stage,
            next: 0,
            ranges: Vec::new(),
            ending: None,
            has_found: false,
            rounds: 0,
            hopeless: BTreeSet::new(),
        }
    }

    fn installing(source: PeerId, target: PeerId) -> Copier {
        Copier { mode: Mode::Install, ..Copier::staging(source, target) }
    }

    /// Source and target.
    pub(crate) fn between(&self) -> (PeerId, PeerId) {
        (self.source, self.target)
    }

    pub(crate) fn is_staging(&self) -> bool {
        self.mode == Mode::Stage
    }

    /// What it does for its target, which is filled.
    pub(crate) fn fill_phase(&self) -> FillPhase {
        match (self.ending, self.rounds) {
            (Some(_), _) => FillPhase::MakingDurable,
            (None, 0) => FillPhase::Copying,
            (None, _) => FillPhase::Checking,
        }
    }

    /// Of this round: those before the first one that is not.
    pub(crate) fn blocks_done(&self) -> u64 {
        self.ranges.first().map_or(self.next, |range| range.blocks.first)
    }

    /// The range that a block is in.
    pub(crate) fn range_of(&mut self, block: u64) -> Option<&mut RangeCopy> {
        self.ranges.iter_mut().find(|range| range.blocks.range().contains(&block))
    }
}

impl Upstairs {
    /// Begins with a member that is not full, or goes on where something has to be waited for.
    pub(crate) fn go_on_copying(&mut self) {
        if self.copier.is_none() && self.pending.is_none() && matches!(self.phase, Phase::Active) {
            self.begin_to_fill();
        }
        self.ask_doubts();
        let pace = self.pace();
        // What was in doubt may have been the last of its range.
        while self.copy_runs(pace) | self.go_on_with_ranges(pace) {}
    }

    fn begin_to_fill(&mut self) {
        let streams = |peer: &PeerId| self.peers[peer.0].is_streaming() && !self.peers[peer.0].is_condemned;
        let all = || (0..self.peers.len()).map(PeerId).filter(streams);
        let leaves = |peer: PeerId| self.is_full(peer) && self.peers[peer.0].is_leaving;
        let has_room = self.list.full.len() < FULL_MAX;
        let is_to_have = has_room || (0..self.peers.len()).map(PeerId).any(leaves);
        let target = all().find(|peer| {
            let known = &self.peers[peer.0];
            !self.is_full(*peer) && !known.is_leaving && is_to_have && (has_room || !known.is_ready)
        });
        // One that was wrong lately only if there is no other.
        let sources = all().filter(|peer| self.is_full(*peer));
        let source = sources.min_by_key(|peer| self.has_just_failed(*peer));
        let Some((target, source)) = target.zip(source) else { return };
        self.copier = Some(Copier::installing(source, target));
        if self.peers[target.0].is_ready {
            // It held everything when there was no room for it, and was sent everything since.
            self.end_with(target, |id| Request::Flush { id }, Ending::Flushing);
        }
    }

    fn end_with(&mut self, target: PeerId, request: impl FnOnce(u64) -> Request, ending: fn(u64) -> Ending) {
        let id = self.ask(target, Purpose::Copy, request);
        if let Some(copier) = &mut self.copier {
            copier.ending = Some(ending(id));
        }
    }

    /// Whether a block of it was found wrong and is not healed yet: another source is better.
    fn has_just_failed(&self, peer: PeerId) -> bool {
        self.peers[peer.0].wrong_blocks > self.peers[peer.0].healed_blocks
    }

    /// Whether both are where the stream is.
    pub(crate) fn are_at_the_same_position(&self, copier: &Copier) -> bool {
        let is_there = |peer: PeerId| self.peers[peer.0].sent == self.newest();
        copier.mode == Mode::Stage
            || (is_there(copier.source) && is_there(copier.target))
            || !Rule::SamePosition.is_kept()
    }

    /// Whether a write of the stream is still to be copied to a member, which is new, and need not be sent to it.
    pub(crate) fn passes_over(&self, peer: PeerId, entry: &Entry) -> bool {
        let known = &self.peers[peer.0];
        if !known.is_new || self.is_full(peer) {
            return false;
        }
        let looked_at = self.copier.as_ref().filter(|copier| copier.target == peer).map(|copier| copier.next);
        let made_sure = known.filled.max(looked_at.unwrap_or_default());
        entry
            .first_block()
            .is_some_and(|first| first >= made_sure || !Rule::PassedOverBeforeItIsLookedAt.is_kept())
    }

    /// Forgets ranges that are done, and begins others. Whether there is more to do.
    fn go_on_with_ranges(&mut self, pace: Pace) -> bool {
        let Some(copier) = &mut self.copier else { return false };
        copier.ranges.retain(|range| !range.is_done());
        let (target, done) = (copier.target, copier.blocks_done());
        let filled = &mut self.peers[target.0].filled;
        *filled = (*filled).max(done);
        let Some(copier) = &self.copier else { return false };
        if copier.ending.is_some() || !self.are_at_the_same_position(copier) {
            return false;
        }
        let blocks = self.config.geometry.blocks;
        let (source, next) = (copier.source, copier.next);
        let again = copier.ranges.iter().position(|range| matches!(range.step, Step::Waiting));
        let range = match again {
            Some(at) => copier.ranges[at].blocks,
            None if next >= blocks && copier.ranges.is_empty() => return self.end_round(),
            None if next >= blocks || copier.ranges.len() >= pace.ranges => return false,
            None => {
                let count =
                    self.config.limits.range_blocks.min(pace.range).clamp(1, LOOK_MAX).min(blocks - next);
                Blocks { first: next, count: u32::try_from(count).expect("a range is bounded") }
            }
        };
        let of_source = self.ask(source, Purpose::Copy, |id| Request::Digest { id, blocks: range });
        let of_target = self.ask(target, Purpose::Copy, |id| Request::Digest { id, blocks: range });
        let Some(copier) = &mut self.copier else { return false };
        let step = Step::digests(of_source, of_target);
        match again {
            Some(at) => copier.ranges[at].step = step,
            None => {
                copier.ranges.push(RangeCopy { blocks: range, step });
                copier.next = range.range().end;
            }
        }
        true
    }

    /// Whether there is another round.
    fn end_round(&mut self) -> bool {
        let Some(copier) = &mut self.copier else { return false };
        let (source, target) = (copier.source, copier.target);
        let is_quiet = !copier.has_found || !Rule::FullAfterAQuietRound.is_kept();
        match copier.mode {
            Mode::Stage => {
                let applied = self.peers[source.0].applied;
                self.end_with(target, |id| Request::Commit { id, applied }, Ending::Committing);
                false
            }
            Mode::Install if is_quiet => {
                self.end_with(target, |id| Request::Flush { id }, Ending::Flushing);
                false
            }
            Mode::Install => {
                copier.next = 0;
                copier.has_found = false;
                copier.rounds += 1;
                true
            }
        }
    }

    /// The target has made durable what it was given: it may be full.
    pub(crate) fn note_copy_flushed(&mut self, peer: PeerId, id: u64) {
        let is_asked =
            |copier: &&Copier| copier.ending == Some(Ending::Flushing(id)) && copier.target == peer;
        if self.copier.as_ref().filter(is_asked).is_none() {
            return;
        }
        self.copier = None;
        if self.list.full.len() >= FULL_MAX {
            // What is written from now on it gets, as long as its connection lasts.
            self.peers[peer.0].is_ready = true;
        } else if self.pending.is_none() {
            let mut full = self.list.full.clone();
            full.push(self.peers[peer.0].member);
            let base = self.newest();
            self.begin_list(full, base);
        }
    }

    /// One of the two is gone, or somebody who was asked for what the source has wrong.
    pub(crate) fn note_copy_lost(&mut self, peer: PeerId) {
        for range in self.copier.iter_mut().flat_map(|copier| &mut copier.ranges) {
            range.note_lost(peer);
        }
        if self.copier.take_if(|copier| copier.source == peer || copier.target == peer).is_some() {
            self.forget_copy_asked();
        }
    }

    /// An answer to what was asked for a copy. What follows from it: [`Upstairs::go_on_copying`].
    pub(crate) fn note_copy(&mut self, peer: PeerId, id: u64, reply: Reply) {
        if self.note_doubt(peer, id, &reply) {
            return;
        }
        let Some(copier) = &mut self.copier else { return };
        match (copier.ending, &reply) {
            (Some(Ending::Committing(asked)), Reply::Taken { .. }) if asked == id => {
                let (source, target) = copier.between();
                self.copier = None;
                self.peers[target.0].applied = self.peers[source.0].applied;
            }
            (Some(Ending::Committing(asked)), _) if asked == id => self.lose_for_other_blocks(peer),
            _ => self.note_range(peer, id, reply),
        }
    }

    /// What was answered is not about what was asked.
    pub(crate) fn lose_for_other_blocks(&mut self, peer: PeerId) {
        self.lose(peer, Trouble::WrongAnswer("it answers other blocks than it was asked for"));
    }
}
