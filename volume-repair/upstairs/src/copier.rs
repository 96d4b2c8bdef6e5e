//! Making one member have what another one has: range by range, only what differs.
//!
//! ```text
//!   range ──► digests of both ──same──────────────────────────────► next range
//!                │ differ                                              ▲
//!                ▼                                                     │
//!             versions of both ──► runs that differ ──► look and read at the source ──► copy to the target
//!                     └─ one version, two contents ──► what a third one has ─┘
//!
//!   behind the last range:   staging:    Commit: all of it is the target's content, at one instant
//!                            installing: something was copied? another round. Nothing? flush, and a list that has the target
//! ```
//!
//! Blocks that the source has wrong are asked of others: [`crate::doubts`]. Where both have a block of one version and not of one content,
//! somebody has changed it with its checksum, and it is not yet said where: [`crate::forged`].
//!
//! Digests and versions are asked of both behind the same position of the stream. Whoever is interrupted begins again: what is the same
//! already costs one digest for each range.

use crate::{
    copies::{apart, blocks_of, copies_of, first_healing},
    doubts::Doubt,
    forged::{self, Verdict},
    pace::RUNS_MAX,
    rules::Rule,
    sealing::Wrong,
    status::FillPhase,
    trouble::Trouble,
    types::PeerId,
    upstairs::{Phase, Purpose, Upstairs},
};
use bytes::Bytes;
use region::{Held, What};
use region_wire::{BlockCopy, Blocks, LOOK_MAX, Reply, Request};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Full members at most: of more, two that acknowledge need not meet two that are activated.
const FULL_MAX: usize = 3;

/// Blocks that are the same, between others that are not, and are copied with them.
const GAP_MAX: u64 = 4;

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
    /// Whether this round has found anything to copy, and how many there were before.
    has_found: bool,
    rounds: u32,
    /// Blocks that nobody can mend.
    pub(crate) hopeless: BTreeSet<u64>,
    pub(crate) step: Step,
}

#[derive(Debug)]
pub(crate) enum Step {
    Ready,
    Digests {
        range: Blocks,
        of_source: Answer<u128>,
        of_target: Answer<u128>,
    },
    Looks {
        range: Blocks,
        of_source: Answer<Vec<Held>>,
        of_target: Answer<Vec<Held>>,
    },
    /// Blocks of the range are of one version and of two contents: a third one is asked, if there is one.
    Asking {
        range: Blocks,
        of_source: Vec<Held>,
        of_target: Vec<Held>,
        asked: Option<(PeerId, u64)>,
    },
    Copying {
        left: VecDeque<Blocks>,
        runs: BTreeMap<u64, Run>,
        /// What the target was told and has not answered.
        puts: BTreeMap<u64, Put>,
        /// Blocks of the target that are of the source's version, and are not what the source has.
        forged: BTreeSet<u64>,
        /// Blocks that the source has wrong.
        doubts: BTreeMap<u64, Doubt>,
    },
    Flushing(u64),
    Committing(u64),
}

impl Step {
    /// Whether this third one is asked.
    fn is_asked(&self, peer: PeerId) -> bool {
        matches!(self, Step::Asking { asked: Some((witness, _)), .. } if *witness == peer)
    }
}

/// What was asked, and what was answered.
#[derive(Debug)]
pub(crate) struct Answer<T> {
    id: u64,
    is: Option<T>,
}

/// One behind the other at the source: the bytes are of these versions.
#[derive(Debug)]
pub(crate) struct Run {
    blocks: Blocks,
    look: u64,
    held: Option<Vec<Held>>,
}

/// What the target was told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Put {
    blocks: usize,
    /// Whether it mends them.
    is_mended: bool,
}

impl Copier {
    pub(crate) fn staging(source: PeerId, target: PeerId) -> Copier {
        Copier {
            source,
            target,
            mode: Mode::Stage,
            next: 0,
            has_found: false,
            rounds: 0,
            hopeless: BTreeSet::new(),
            step: Step::Ready,
        }
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
        match (&self.step, self.rounds) {
            (Step::Flushing(_) | Step::Committing(_), _) => FillPhase::MakingDurable,
            (_, 0) => FillPhase::Copying,
            _ => FillPhase::Checking,
        }
    }

    /// Of this round.
    pub(crate) fn blocks_done(&self) -> u64 {
        self.next
    }

    fn installing(source: PeerId, target: PeerId) -> Copier {
        Copier { mode: Mode::Install, ..Copier::staging(source, target) }
    }
}

impl Upstairs {
    /// Begins with a member that is not full, or goes on where something has to be waited for.
    pub(crate) fn go_on_copying(&mut self) {
        if self.copier.is_none() && self.pending.is_none() && matches!(self.phase, Phase::Active) {
            let streams =
                |peer: &PeerId| self.peers[peer.0].is_streaming() && !self.peers[peer.0].is_condemned;
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
            self.copier = target.zip(source).map(|(target, source)| Copier::installing(source, target));
            if let Some(target) =
                target.filter(|target| self.copier.is_some() && self.peers[target.0].is_ready)
            {
                // It held everything when there was no room for it, and was sent everything since.
                let id = self.ask(target, Purpose::Copy, |id| Request::Flush { id });
                self.set_step(Step::Flushing(id));
            }
        }
        if let Some(Copier { step: Step::Ready, .. }) = self.copier {
            self.copy_next_range();
        }
        self.ask_doubts();
        // What was in doubt may have been the last of its range.
        self.copy_runs();
    }

    /// Whether a block of it was found wrong and is not healed yet: another source is better.
    fn has_just_failed(&self, peer: PeerId) -> bool {
        self.peers[peer.0].wrong_blocks > self.peers[peer.0].healed_blocks
    }

    /// Whether both are where the stream is.
    fn are_at_the_same_position(&self, copier: &Copier) -> bool {
        let is_there = |peer: PeerId| self.peers[peer.0].sent == self.newest();
        copier.mode == Mode::Stage
            || (is_there(copier.source) && is_there(copier.target))
            || !Rule::SamePosition.is_kept()
    }

    fn copy_next_range(&mut self) {
        let Some(copier) = &self.copier else { return };
        let (source, target, next) = (copier.source, copier.target, copier.next);
        let blocks = self.config.geometry.blocks;
        let filled = &mut self.peers[target.0].filled;
        *filled = (*filled).max(next);
        if next >= blocks {
            return self.end_round();
        }
        if !self.are_at_the_same_position(copier) {
            return;
        }
        let count = u32::try_from(LOOK_MAX.min(blocks - next)).expect("a range is bounded");
        let range = Blocks { first: next, count };
        let of_source = self.ask(source, Purpose::Copy, |id| Request::Digest { id, blocks: range });
        let of_target = self.ask(target, Purpose::Copy, |id| Request::Digest { id, blocks: range });
        let answer = |id| Answer { id, is: None };
        self.set_step(Step::Digests { range, of_source: answer(of_source), of_target: answer(of_target) });
    }

    fn set_step(&mut self, step: Step) {
        if let Some(copier) = &mut self.copier {
            copier.step = step;
        }
    }

    fn end_round(&mut self) {
        let Some(copier) = &mut self.copier else { return };
        let (source, target) = (copier.source, copier.target);
        let is_quiet = !copier.has_found || !Rule::FullAfterAQuietRound.is_kept();
        match copier.mode {
            Mode::Stage => {
                let applied = self.peers[source.0].applied;
                let id = self.ask(target, Purpose::Copy, |id| Request::Commit { id, applied });
                self.set_step(Step::Committing(id));
            }
            Mode::Install if is_quiet => {
                let id = self.ask(target, Purpose::Copy, |id| Request::Flush { id });
                self.set_step(Step::Flushing(id));
            }
            Mode::Install => {
                copier.next = 0;
                copier.has_found = false;
                copier.rounds += 1;
                self.copy_next_range();
            }
        }
    }

    /// The target has made durable what it was given: it may be full.
    pub(crate) fn note_copy_flushed(&mut self, peer: PeerId, id: u64) {
        let Some(Copier { step: Step::Flushing(asked), target, .. }) = &self.copier else { return };
        if *asked != id || *target != peer {
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
        match self.copier.as_mut().map(|copier| &mut copier.step) {
            Some(Step::Copying { doubts, .. }) => {
                doubts.values_mut().for_each(|doubt| doubt.note_lost(peer));
            }
            // The range is looked at anew.
            Some(step) if step.is_asked(peer) => *step = Step::Ready,
            _ => {}
        }
        if self.copier.take_if(|copier| copier.source == peer || copier.target == peer).is_some() {
            self.forget_copy_asked();
        }
    }

    pub(crate) fn note_copy(&mut self, peer: PeerId, id: u64, reply: Reply) {
        if self.note_doubt(peer, id, &reply) {
            return self.copy_runs();
        }
        let Some(copier) = &mut self.copier else { return };
        match (&mut copier.step, reply) {
            (Step::Digests { range, of_source, of_target }, Reply::Digested { digest, .. }) => {
                let range = *range;
                for answer in [&mut *of_source, &mut *of_target] {
                    if answer.id == id {
                        answer.is = Some(digest);
                    }
                }
                if let (Some(source), Some(target)) = (of_source.is, of_target.is) {
                    self.compare_digests(range, source == target);
                }
            }
            (Step::Looks { range, of_source, of_target }, Reply::Looked { held, .. }) => {
                let range = *range;
                let answer = match id {
                    id if id == of_source.id => of_source,
                    id if id == of_target.id => of_target,
                    _ => return,
                };
                if held.len() != range.count as usize {
                    return self
                        .lose(peer, Trouble::WrongAnswer("it answers other blocks than it was asked for"));
                }
                answer.is = Some(held);
                self.compare_versions(range);
            }
            (Step::Asking { range, asked, .. }, Reply::Looked { held, .. }) if *asked == Some((peer, id)) => {
                if held.len() != range.count as usize {
                    return self
                        .lose(peer, Trouble::WrongAnswer("it answers other blocks than it was asked for"));
                }
                self.settle_range(Some(&held));
            }
            (Step::Copying { runs, .. }, Reply::Looked { held, .. }) => {
                if let Some(run) = runs.values_mut().find(|run| run.look == id) {
                    run.held = Some(held);
                }
            }
            (Step::Copying { runs, .. }, Reply::Read { bytes, whats, .. }) => {
                let Some(run) = runs.remove(&id) else { return };
                self.put_run(&run, &whats, bytes);
            }
            (Step::Copying { puts, .. }, Reply::Taken { blocks, .. }) => {
                let target = copier.target;
                if puts.remove(&id).is_some_and(|put| put.is_mended) {
                    self.peers[target.0].wrong_blocks += blocks;
                    self.peers[target.0].healed_blocks += blocks;
                }
                self.copy_runs();
            }
            (Step::Committing(asked), Reply::Taken { .. }) if *asked == id => {
                let (source, target) = (copier.source, copier.target);
                self.copier = None;
                self.peers[target.0].applied = self.peers[source.0].applied;
            }
            // What an earlier copy has asked, that ended when one of its two was lost.
            _ => {}
        }
    }

    fn compare_digests(&mut self, range: Blocks, are_same: bool) {
        let Some(copier) = &mut self.copier else { return };
        if are_same {
            copier.next = range.range().end;
            copier.step = Step::Ready;
            return self.copy_next_range();
        }
        if !self.copier.as_ref().is_some_and(|copier| self.are_at_the_same_position(copier)) {
            // Asked again when both are where the stream is.
            return self.set_step(Step::Ready);
        }
        let Some(Copier { source, target, .. }) = self.copier else { return };
        let of_source = self.ask(source, Purpose::Copy, |id| Request::Look { id, blocks: range });
        let of_target = self.ask(target, Purpose::Copy, |id| Request::Look { id, blocks: range });
        let answer = |id| Answer { id, is: None };
        self.set_step(Step::Looks { range, of_source: answer(of_source), of_target: answer(of_target) });
    }

    fn compare_versions(&mut self, range: Blocks) {
        let Some(Copier { source, target, mode, hopeless, step, .. }) = &mut self.copier else { return };
        let Step::Looks { of_source, of_target, .. } = step else { return };
        if of_source.is.is_none() || of_target.is.is_none() {
            return;
        }
        let (of_source, of_target) = (of_source.is.take(), of_target.is.take());
        let (of_source, of_target) = (of_source.unwrap_or_default(), of_target.unwrap_or_default());
        let pairs = range.range().zip(of_source.iter().zip(&of_target));
        let is_contested =
            pairs.into_iter().any(|(block, (a, b))| forged::are_two(a, b) && !hopeless.contains(&block));
        let (source, target, mode) = (*source, *target, *mode);
        let witness = if is_contested { self.witness(source, target, mode) } else { None };
        let asked = witness.map(|witness| {
            (witness, self.ask(witness, Purpose::Copy, |id| Request::Look { id, blocks: range }))
        });
        self.set_step(Step::Asking { range, of_source, of_target, asked });
        if asked.is_none() {
            self.settle_range(None);
        }
    }

    /// What of a range is copied, and what is mended.
    fn settle_range(&mut self, of_witness: Option<&[Held]>) {
        let Some(copier) = &mut self.copier else { return };
        let Step::Asking { range, of_source, of_target, .. } =
            std::mem::replace(&mut copier.step, Step::Ready)
        else {
            return;
        };
        let (mut left, mut forged): (VecDeque<Blocks>, _) = (VecDeque::new(), BTreeSet::new());
        let mut wrong_at_source = Vec::new();
        for (at, block) in range.range().enumerate() {
            let (source, target) = (&of_source[at], &of_target[at]);
            let is_forged = forged::are_two(source, target);
            // Bytes that one of them has wrong, or lost, are healed by whoever reads them.
            let is_same =
                source.version == target.version && source.what.as_written() == target.what.as_written();
            if is_same || (is_forged && copier.hopeless.contains(&block)) {
                continue;
            }
            if is_forged {
                let third = of_witness.map(|held| &held[at]);
                match forged::verdict(copier.mode, source, target, third) {
                    Verdict::Target => {}
                    Verdict::Source => {
                        wrong_at_source.push(block);
                        continue;
                    }
                    Verdict::Nobody => continue,
                }
            }
            let is_like_the_last = block > 0 && forged.contains(&(block - 1)) == is_forged;
            if is_forged {
                forged.insert(block);
            }
            match left.back_mut() {
                Some(last) if last.range().end == block && is_like_the_last => last.count += 1,
                // Those between are the same already, and a message more costs more than they do.
                Some(last) if !is_forged && is_near(last, block, &forged) => {
                    last.count = u32::try_from(block + 1 - last.first).expect("a range is bounded");
                }
                _ => left.push_back(Blocks { first: block, count: 1 }),
            }
        }
        copier.next = range.range().end;
        copier.has_found |= !left.is_empty();
        let (source, runs, puts, doubts) = (copier.source, BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        copier.step = Step::Copying { left, runs, puts, forged, doubts };
        self.peers[source.0].note_wrong(Wrong::Bytes, wrong_at_source.len() as u64);
        wrong_at_source.into_iter().for_each(|block| self.begin_heals(source, block..block + 1));
        self.copy_runs();
    }

    /// Asks for the next runs; ends the range when all is put.
    fn copy_runs(&mut self) {
        let (pace, size) = (self.pace(), self.config.geometry.block_size.bytes());
        let blocks_max = u32::try_from(pace.run / size).unwrap_or(1);
        loop {
            let Some(Copier { source, step: Step::Copying { left, runs, puts, doubts, .. }, .. }) =
                &mut self.copier
            else {
                return;
            };
            if left.is_empty() && runs.is_empty() && puts.is_empty() && doubts.is_empty() {
                self.set_step(Step::Ready);
                return self.copy_next_range();
            }
            // What is in doubt is not to become much more than what is copied at a time.
            let asked: usize = runs.values().map(|run| run.blocks.count as usize).sum();
            let put: usize = puts.values().map(|put| put.blocks).sum();
            let (all, bytes) = (runs.len() + puts.len() + doubts.len(), (asked + put + doubts.len()) * size);
            if all >= RUNS_MAX || (all > 0 && bytes >= pace.under_way) {
                return;
            }
            let (source, Some(first)) = (*source, left.front_mut()) else { return };
            let blocks = Blocks { count: first.count.min(blocks_max), ..*first };
            if blocks.count == first.count {
                left.pop_front();
            } else {
                *first = Blocks { first: blocks.range().end, count: first.count - blocks.count };
            }
            let look = self.ask(source, Purpose::Copy, |id| Request::Look { id, blocks });
            let read = self.ask(source, Purpose::Copy, |id| Request::Read { id, blocks });
            if let Some(Copier { step: Step::Copying { runs, .. }, .. }) = &mut self.copier {
                runs.insert(read, Run { blocks, look, held: None });
            }
        }
    }

    fn put_run(&mut self, run: &Run, whats: &[What], bytes: Bytes) {
        let Some(Copier { source, .. }) = self.copier else { return };
        let size = self.config.geometry.block_size.bytes();
        let Some(held) = run.held.as_ref().filter(|held| held.len() == whats.len()) else {
            return self.lose(source, Trouble::WrongAnswer("it answers other blocks than it was asked for"));
        };
        let copies = copies_of(run.blocks.first, held, bytes, size, &mut self.config.sealer);
        let Some((copies, wrong)) = copies else {
            return self.lose(source, Trouble::WrongAnswer("it answers other blocks than it was asked for"));
        };
        copies.into_iter().for_each(|copy| self.put_copy(copy));
        for (block, held, why) in wrong {
            self.peers[source.0].note_wrong(why, 1);
            if let Some(Copier { step: Step::Copying { doubts, .. }, .. }) = &mut self.copier {
                doubts.insert(block, Doubt::new(held));
            }
        }
        self.ask_doubts();
        self.copy_runs();
    }

    /// The target is to have this, too.
    pub(crate) fn put_copy(&mut self, copy: BlockCopy) {
        let Some(Copier { target, mode, step: Step::Copying { forged, .. }, .. }) = &self.copier else {
            return;
        };
        // What is lost heals nothing.
        let is_mended = first_healing(&copy).is_some_and(|block| forged.contains(&block));
        if let (true, BlockCopy::Mixed(versions, data)) = (is_mended, &copy) {
            return apart(versions, data).into_iter().for_each(|copy| self.put_copy(copy));
        }
        let (target, mode, blocks) = (*target, *mode, blocks_of(&copy));
        let id = self.ask(target, Purpose::Copy, |id| match mode {
            _ if is_mended => Request::Heal { id, copy },
            Mode::Stage => Request::Stage { id, copy },
            Mode::Install => Request::Install { id, copy },
        });
        if let Some(Copier { step: Step::Copying { puts, .. }, .. }) = &mut self.copier {
            puts.insert(id, Put { blocks, is_mended });
        }
    }
}

/// Whether so few blocks are between that they are copied, too.
fn is_near(last: &Blocks, block: u64, forged: &BTreeSet<u64>) -> bool {
    let end = last.range().end;
    block - end <= GAP_MAX && !forged.contains(&(end - 1))
}
