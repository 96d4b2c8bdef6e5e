//! One range of a copy: what differs is found, and copied.
//!
//! ```text
//!   digests of both ──same────────────────────────────────────────────────────► done
//!       │ differ                                                                  ▲
//!       ▼                                                                         │
//!   versions of both ──► runs that differ ──► read at the source ──► copied to the target
//!       └─ one version, two contents ──► what a third one has ─┘
//!
//!   where both are not behind the same position, or who was asked is lost: waiting, and digests again
//! ```
//!
//! What is read at the source is of the version that was looked at, or newer: of which it is, its checksum and its seal tell. Blocks that are
//! said to be newer are looked at and read once more, one behind the other: the stream has them for the target, too, but a member may say
//! anything. (If two writes have the same bytes, the older version is copied, and the newer one takes its place.)
//!
//! Blocks that the source has wrong are asked of others: [`crate::doubts`]. Where both have a block of one version and not of one content,
//! somebody has changed it with its checksum, and it is not yet said where: [`crate::forged`].

use crate::{
    copier::{Copier, Mode},
    copies::{apart, blocks_of, copies_of, first_block, first_healing, newer},
    doubts::Doubt,
    forged::{self, Verdict},
    pace::{Pace, RUNS_MAX},
    rules::Rule,
    sealing::Wrong,
    types::PeerId,
    upstairs::{Purpose, Upstairs},
};
use bytes::Bytes;
use region::{Held, What};
use region_wire::{BlockCopy, Blocks, Reply, Request};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Blocks that are the same, between others that are not, and are copied with them.
const GAP_MAX: u64 = 4;

/// A range, and how far it is.
#[derive(Debug)]
pub(crate) struct RangeCopy {
    pub(crate) blocks: Blocks,
    pub(crate) step: Step,
}

#[derive(Debug)]
pub(crate) enum Step {
    /// For its digests to be asked again.
    Waiting,
    Digests {
        of_source: Answer<u128>,
        of_target: Answer<u128>,
    },
    Looks {
        of_source: Answer<Vec<Held>>,
        of_target: Answer<Vec<Held>>,
    },
    /// Blocks of it are of one version and of two contents: a third one is asked, if there is one.
    Asking {
        of_source: Vec<Held>,
        of_target: Vec<Held>,
        asked: Option<(PeerId, u64)>,
    },
    Copying(Copying),
    Done,
}

/// What of a range differs, on its way.
#[derive(Debug)]
pub(crate) struct Copying {
    /// The first block of the range, and what the source has of it, block by block.
    first: u64,
    of_source: Vec<Held>,
    left: VecDeque<Blocks>,
    /// What was newer as it was read.
    newer: VecDeque<Blocks>,
    /// By the request that reads them.
    runs: BTreeMap<u64, Run>,
    /// What the target was told and has not answered.
    puts: BTreeMap<u64, Put>,
    /// Blocks of the target that are of the source's version, and are not what the source has.
    pub(crate) forged: BTreeSet<u64>,
    /// Blocks that the source has wrong.
    pub(crate) doubts: BTreeMap<u64, Doubt>,
}

/// What was asked, and what was answered.
#[derive(Debug)]
pub(crate) struct Answer<T> {
    id: u64,
    is: Option<T>,
}

/// What is read at the source.
#[derive(Debug)]
struct Run {
    blocks: Blocks,
    /// If the range's look at it is too old: another one, right before.
    look: Option<Answer<Vec<Held>>>,
}

/// What the target was told.
#[derive(Clone, Copy, Debug)]
struct Put {
    blocks: usize,
    /// Whether it mends them.
    is_mended: bool,
}

impl<T> Answer<T> {
    fn to(id: u64) -> Answer<T> {
        Answer { id, is: None }
    }
}

impl Step {
    /// These requests were asked of source and target.
    pub(crate) fn digests(of_source: u64, of_target: u64) -> Step {
        Step::Digests { of_source: Answer::to(of_source), of_target: Answer::to(of_target) }
    }

    fn knows(&self, id: u64) -> bool {
        match self {
            Step::Digests { of_source, of_target } => of_source.id == id || of_target.id == id,
            Step::Looks { of_source, of_target } => of_source.id == id || of_target.id == id,
            Step::Asking { asked, .. } => asked.is_some_and(|(_, asked)| asked == id),
            Step::Copying(copying) => copying.knows(id),
            Step::Waiting | Step::Done => false,
        }
    }
}

impl RangeCopy {
    pub(crate) fn is_done(&self) -> bool {
        match &self.step {
            Step::Done => true,
            Step::Copying(Copying { left, newer, runs, puts, doubts, .. }) => {
                left.is_empty() && newer.is_empty() && runs.is_empty() && puts.is_empty() && doubts.is_empty()
            }
            _ => false,
        }
    }

    pub(crate) fn copying(&mut self) -> Option<&mut Copying> {
        if let Step::Copying(copying) = &mut self.step { Some(copying) } else { None }
    }

    /// Whoever was asked will not answer.
    pub(crate) fn note_lost(&mut self, peer: PeerId) {
        match &mut self.step {
            Step::Copying(copying) => copying.doubts.values_mut().for_each(|doubt| doubt.note_lost(peer)),
            // It is looked at anew.
            Step::Asking { asked: Some((witness, _)), .. } if *witness == peer => self.step = Step::Waiting,
            _ => {}
        }
    }
}

impl Copying {
    fn knows(&self, id: u64) -> bool {
        let is_look = |run: &Run| run.look.as_ref().is_some_and(|look| look.id == id);
        self.runs.contains_key(&id) || self.puts.contains_key(&id) || self.runs.values().any(is_look)
    }

    /// Messages and blocks that are under way.
    fn under_way(&self) -> (usize, usize) {
        let asked: usize = self.runs.values().map(|run| run.blocks.count as usize).sum();
        let put: usize = self.puts.values().map(|put| put.blocks).sum();
        // What is in doubt is not to become much more than what is copied at a time.
        (self.runs.len() + self.puts.len() + self.doubts.len(), asked + put + self.doubts.len())
    }

    /// What the source had of a run of the range.
    fn looked(&self, run: Blocks) -> &[Held] {
        let at = usize::try_from(run.first - self.first).expect("a range is bounded");
        &self.of_source[at..at + run.count as usize]
    }

    /// Of how many blocks of a run the source had bytes.
    fn with_bytes(&self, run: Blocks) -> usize {
        let has_bytes = |held: &&Held| matches!(held.what, What::Bytes { .. });
        self.looked(run).iter().filter(has_bytes).count()
    }

    /// The next one, and whether it is to be looked at, too.
    fn next_run(&mut self, blocks_max: u32) -> Option<(Blocks, bool)> {
        let is_newer = !self.newer.is_empty();
        let all = if is_newer { &mut self.newer } else { &mut self.left };
        let first = all.front_mut()?;
        let blocks = Blocks { count: first.count.min(blocks_max), ..*first };
        if blocks.count == first.count {
            all.pop_front();
        } else {
            *first = Blocks { first: blocks.range().end, count: first.count - blocks.count };
        }
        Some((blocks, is_newer))
    }
}

impl Upstairs {
    /// The step of the range that begins at this block.
    fn step_at(&mut self, first: u64) -> Option<&mut Step> {
        let range = self.copier.as_mut()?.ranges.iter_mut().find(|range| range.blocks.first == first)?;
        Some(&mut range.step)
    }

    fn set_step(&mut self, range: Blocks, step: Step) {
        if let Some(there) = self.step_at(range.first) {
            *there = step;
        }
    }

    /// An answer about one of the ranges.
    pub(crate) fn note_range(&mut self, peer: PeerId, id: u64, reply: Reply) {
        let Some(copier) = &mut self.copier else { return };
        let target = copier.target;
        // What an earlier copy has asked, that ended when one of its two was lost, none of them knows.
        let Some(range) = copier.ranges.iter_mut().find(|range| range.step.knows(id)) else { return };
        let blocks = range.blocks;
        match (&mut range.step, reply) {
            (Step::Digests { of_source, of_target }, Reply::Digested { digest, .. }) => {
                let answer = if of_source.id == id { &mut *of_source } else { &mut *of_target };
                answer.is = Some(digest);
                if let (Some(source), Some(target)) = (of_source.is, of_target.is) {
                    self.compare_digests(blocks, source == target);
                }
            }
            (Step::Looks { .. } | Step::Asking { .. }, Reply::Looked { held, .. })
                if held.len() != blocks.count as usize =>
            {
                self.lose_for_other_blocks(peer);
            }
            (Step::Looks { of_source, of_target }, Reply::Looked { held, .. }) => {
                let answer = if of_source.id == id { &mut *of_source } else { &mut *of_target };
                answer.is = Some(held);
                if of_source.is.is_some() && of_target.is.is_some() {
                    let (source, target) = (of_source.is.take(), of_target.is.take());
                    self.compare_versions(blocks, source.unwrap_or_default(), target.unwrap_or_default());
                }
            }
            (Step::Asking { of_source, of_target, .. }, Reply::Looked { held, .. }) => {
                let (of_source, of_target) = (std::mem::take(of_source), std::mem::take(of_target));
                self.settle_range(blocks, of_source, &of_target, Some(&held));
            }
            (Step::Copying(Copying { runs, .. }), Reply::Looked { held, .. }) => {
                match runs.values_mut().filter_map(|run| run.look.as_mut()).find(|look| look.id == id) {
                    Some(look) => look.is = Some(held),
                    None => self.lose_for_other_blocks(peer),
                }
            }
            (Step::Copying(Copying { runs, .. }), Reply::Read { bytes, whats, .. }) => {
                match runs.remove(&id) {
                    Some(run) => self.put_run(run, &whats, bytes),
                    None => self.lose_for_other_blocks(peer),
                }
            }
            (Step::Copying(Copying { puts, .. }), Reply::Taken { blocks, .. }) => match puts.remove(&id) {
                Some(put) if put.is_mended => {
                    self.peers[target.0].wrong_blocks += blocks;
                    self.peers[target.0].healed_blocks += blocks;
                }
                Some(_) => {}
                None => self.lose_for_other_blocks(peer),
            },
            _ => self.lose_for_other_blocks(peer),
        }
    }

    fn compare_digests(&mut self, range: Blocks, are_same: bool) {
        let Some(copier) = &self.copier else { return };
        if are_same {
            return self.set_step(range, Step::Done);
        }
        if !self.are_at_the_same_position(copier) {
            return self.set_step(range, Step::Waiting);
        }
        let (source, target) = copier.between();
        let of_source = self.ask(source, Purpose::Copy, |id| Request::Look { id, blocks: range });
        let of_target = self.ask(target, Purpose::Copy, |id| Request::Look { id, blocks: range });
        let step = Step::Looks { of_source: Answer::to(of_source), of_target: Answer::to(of_target) };
        self.set_step(range, step);
    }

    fn compare_versions(&mut self, range: Blocks, of_source: Vec<Held>, of_target: Vec<Held>) {
        let Some(Copier { source, target, mode, hopeless, .. }) = &self.copier else { return };
        let (source, target, mode) = (*source, *target, *mode);
        let mut pairs = range.range().zip(of_source.iter().zip(&of_target));
        let is_contested = pairs.any(|(block, (a, b))| forged::are_two(a, b) && !hopeless.contains(&block));
        match self.witness(source, target, mode).filter(|_| is_contested) {
            Some(witness) => {
                let asked = self.ask(witness, Purpose::Copy, |id| Request::Look { id, blocks: range });
                let asked = Some((witness, asked));
                self.set_step(range, Step::Asking { of_source, of_target, asked });
            }
            None => self.settle_range(range, of_source, &of_target, None),
        }
    }

    /// What of a range is copied, and what is mended.
    fn settle_range(
        &mut self,
        range: Blocks,
        of_source: Vec<Held>,
        of_target: &[Held],
        of_witness: Option<&[Held]>,
    ) {
        let Some(copier) = &mut self.copier else { return };
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
        copier.has_found |= !left.is_empty();
        let source = copier.source;
        let (runs, puts, doubts) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let newer = VecDeque::new();
        let copying = Copying { first: range.first, of_source, left, newer, runs, puts, forged, doubts };
        self.set_step(range, Step::Copying(copying));
        self.peers[source.0].note_wrong(Wrong::Bytes, wrong_at_source.len() as u64);
        wrong_at_source.into_iter().for_each(|block| self.begin_heals(source, block..block + 1));
    }

    /// Asks for the next run, the first of the first range that has one, if the pace allows another one. Whether there is more to do.
    pub(crate) fn copy_runs(&mut self, pace: Pace) -> bool {
        let size = self.config.geometry.block_size.bytes();
        let blocks_max = u32::try_from(pace.run / size).unwrap_or(1);
        let Some(copier) = &mut self.copier else { return false };
        let source = copier.source;
        let all = copier.ranges.iter_mut().filter_map(RangeCopy::copying);
        let (messages, blocks) = all.fold((0, 0), |(messages, blocks), copying| {
            let (more_messages, more_blocks) = copying.under_way();
            (messages + more_messages, blocks + more_blocks)
        });
        if messages >= RUNS_MAX || (messages > 0 && blocks * size >= pace.under_way) {
            return false;
        }
        let is_limited = copier.mode == Mode::Install;
        if is_limited && !self.allowance.may_go_on(self.now) {
            return false;
        }
        let next = copier.ranges.iter_mut().find_map(|range| {
            let all = range.blocks;
            let copying = range.copying()?;
            let (blocks, is_newer) = copying.next_run(blocks_max)?;
            Some((all, blocks, is_newer, copying.with_bytes(blocks)))
        });
        let Some((range, blocks, is_newer, with_bytes)) = next else { return false };
        if is_limited {
            self.allowance.take(with_bytes * size);
        }
        let haste = self.haste_of_upkeep();
        let look = is_newer.then(|| self.ask(source, Purpose::Copy, |id| Request::Look { id, blocks }));
        let read = self.ask(source, Purpose::Copy, |id| Request::Read { id, blocks, haste });
        if let Some(Step::Copying(Copying { runs, .. })) = self.step_at(range.first) {
            runs.insert(read, Run { blocks, look: look.map(Answer::to) });
        }
        true
    }

    fn put_run(&mut self, run: Run, whats: &[What], bytes: Bytes) {
        let Some(Copier { source, .. }) = self.copier else { return };
        let (size, blocks) = (self.config.geometry.block_size.bytes(), run.blocks);
        let (held, newer) = match run.look {
            Some(look) => (look.is, Vec::new()),
            None => {
                let Some(copying) = self.copying(blocks.first) else { return };
                let looked = copying.looked(blocks);
                let read = looked.iter().zip(whats).map(|(held, what)| Held { what: *what, ..*held });
                (Some(read.collect()), newer(looked, whats))
            }
        };
        let held =
            held.filter(|held: &Vec<Held>| held.len() == blocks.count as usize && held.len() == whats.len());
        let read = held
            .and_then(|held| copies_of(blocks.first, &held, &newer, bytes, size, &mut self.config.sealer));
        let Some((copies, wrong)) = read else {
            return self.lose_for_other_blocks(source);
        };
        copies.into_iter().for_each(|copy| self.put_copy(copy));
        for (block, held, why) in wrong {
            self.peers[source.0].note_wrong(why, 1);
            if let Some(copying) = self.copying(block) {
                copying.doubts.insert(block, Doubt::new(held));
            }
        }
        if Rule::NewerIsLookedAtAgain.is_kept()
            && let Some(copying) = self.copying(blocks.first)
        {
            let again = newer.into_iter().map(|at| Blocks { first: blocks.first + at as u64, count: 1 });
            copying.newer.extend(again);
        }
    }

    /// What is on its way of the range that a block is in.
    pub(crate) fn copying(&mut self, block: u64) -> Option<&mut Copying> {
        self.copier.as_mut()?.range_of(block)?.copying()
    }

    /// The target is to have this, too.
    pub(crate) fn put_copy(&mut self, copy: BlockCopy) {
        let Some((target, mode)) = self.copier.as_ref().map(|copier| (copier.target, copier.mode)) else {
            return;
        };
        let first = first_block(&copy);
        let Some(Copying { forged, .. }) = self.copying(first) else { return };
        // What is lost heals nothing.
        let is_mended = first_healing(&copy).is_some_and(|block| forged.contains(&block));
        if let (true, BlockCopy::Mixed(versions, data)) = (is_mended, &copy) {
            return apart(versions, data).into_iter().for_each(|copy| self.put_copy(copy));
        }
        let (blocks, haste) = (blocks_of(&copy), self.haste_of_upkeep());
        let id = self.ask(target, Purpose::Copy, |id| match mode {
            _ if is_mended => Request::Heal { id, copy },
            Mode::Stage => Request::Stage { id, copy },
            Mode::Install => Request::Install { id, copy, haste },
        });
        if let Some(Copying { puts, .. }) = self.copying(first) {
            puts.insert(id, Put { blocks, is_mended });
        }
    }
}

/// Whether so few blocks are between that they are copied, too.
fn is_near(last: &Blocks, block: u64, forged: &BTreeSet<u64>) -> bool {
    let end = last.range().end;
    block - end <= GAP_MAX && !forged.contains(&(end - 1))
}
