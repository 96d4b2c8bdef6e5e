//! Blocks that the source of a copy has wrong: those of another member are copied in their place. If nobody has them right, the target
//! is told that they are lost: it gets their versions, and the checksums (and seals) that they are to have, and no bytes.
//!
//! ```text
//!   wrong at the source ──► look and read at another member ──right, and the same write──► copied; the source is healed
//!                                ▲                  │ wrong, or an older write
//!                                └── the next one ──┤
//!                                                   ├── all were asked who are here, in the end the source again ──► lost
//!                                                   └── a full member is away, or was not sent that write yet ──► waits
//! ```
//!
//! So one block that nobody has keeps nobody from the rest; it is read as an error until it is written, or until somebody who comes
//! later has it right. Lost never takes the place of a block of the same version: whoever has bytes of it keeps them.

use crate::{
    copier::{Copier, Mode},
    ranges::{Copying, RangeCopy},
    rules::Rule,
    sealing::judge,
    types::PeerId,
    upstairs::{Phase, Purpose, Upstairs},
};
use bytes::Bytes;
use region::{Held, Position, What};
use region_wire::{BlockCopy, BlockData, Blocks, Reply, Request};
use std::collections::BTreeSet;

/// Blocks of one version that source and target both have wrong, each in its own way, at most: of more, a member is not filled.
const HOPELESS_MAX: usize = 65_536;

/// Blocks that are asked of others at a time.
const ASKED_MAX: usize = 16;

/// A block that the source has wrong.
#[derive(Debug)]
pub(crate) struct Doubt {
    /// What the source says that it is.
    held: Held,
    /// Those that do not have it right.
    asked: BTreeSet<PeerId>,
    asking: Option<Asking>,
}

/// One behind the other: the bytes are of this version.
#[derive(Debug)]
struct Asking {
    peer: PeerId,
    look: u64,
    read: u64,
    held: Option<Held>,
}

/// Somebody who may have it right.
#[derive(Clone, Copy, Debug)]
struct Other {
    peer: PeerId,
    tells_up_to: Option<Position>,
}

impl Other {
    /// Whether it answers behind that write.
    fn can_tell(&self, version: Position) -> bool {
        self.tells_up_to.is_some_and(|up_to| up_to >= version)
    }
}

impl Doubt {
    pub(crate) fn new(held: Held) -> Doubt {
        Doubt { held, asked: BTreeSet::new(), asking: None }
    }

    /// Whoever was asked will not answer.
    pub(crate) fn note_lost(&mut self, peer: PeerId) {
        self.asking.take_if(|asking| asking.peer == peer);
    }

    /// Those that were not asked.
    fn left<'a>(&'a self, others: &'a [Other]) -> impl Iterator<Item = &'a Other> {
        others.iter().filter(|other| !self.asked.contains(&other.peer))
    }

    /// Whether somebody can be asked now, or nobody is left to be asked. Otherwise it waits.
    fn goes_on(&self, others: &[Other]) -> bool {
        let mut left = self.left(others).peekable();
        let is_settled = left.peek().is_none() || !Rule::AllAreAskedBeforeLost.is_kept();
        is_settled || left.any(|other| other.can_tell(self.held.version))
    }

    fn is_asked_by(&self, id: u64) -> bool {
        self.asking.as_ref().is_some_and(|asking| asking.look == id || asking.read == id)
    }
}

impl Upstairs {
    /// Asks for blocks that the source has wrong, as far as there is somebody to be asked. Those that wait for somebody who is away take no place of
    /// those that need not.
    pub(crate) fn ask_doubts(&mut self) {
        let Some(&Copier { source, target, mode, .. }) = self.copier.as_ref() else { return };
        let has_doubts = |copier: &mut Copier| {
            let mut all = copier.ranges.iter_mut().filter_map(RangeCopy::copying);
            all.any(|copying| !copying.doubts.is_empty())
        };
        if !self.copier.as_mut().is_some_and(has_doubts) {
            return;
        }
        let others = self.others(source, target, mode);
        let ranges = self.copier.iter_mut().flat_map(|copier| &mut copier.ranges);
        let (mut under_way, mut next) = (0, Vec::new());
        for (block, doubt) in ranges.filter_map(RangeCopy::copying).flat_map(|copying| &copying.doubts) {
            match doubt.asking {
                Some(_) => under_way += 1,
                None if next.len() < ASKED_MAX && doubt.goes_on(&others) => next.push(*block),
                None => {}
            }
        }
        next.truncate(ASKED_MAX.saturating_sub(under_way));
        next.into_iter().for_each(|block| self.ask_doubt(block));
    }

    /// Who may have what the source has wrong, in the order in which they are asked.
    fn others(&self, source: PeerId, target: PeerId, mode: Mode) -> Vec<Other> {
        let mut others: Vec<PeerId> = (0..self.peers.len()).map(PeerId).collect();
        // What was wrong for a moment may be right now.
        others.sort_by_key(|peer| *peer == source);
        let may_have_it = |peer: &PeerId| {
            *peer != target && (self.peers[peer.0].is_promoted() || self.has_to_be_asked(*peer, mode))
        };
        others.retain(may_have_it);
        others.into_iter().map(|peer| Other { peer, tells_up_to: self.tells_up_to(peer) }).collect()
    }

    fn ask_doubt(&mut self, block: u64) {
        let Some(&Copier { source, target, mode, .. }) = self.copier.as_ref() else { return };
        let others = self.others(source, target, mode);
        let Some(doubt) = self.doubt(block).filter(|doubt| doubt.asking.is_none()) else { return };
        let version = doubt.held.version;
        let left: Vec<Other> = doubt.left(&others).copied().collect();
        if left.is_empty() || !Rule::AllAreAskedBeforeLost.is_kept() {
            if Rule::LostStopsNobody.is_kept() {
                self.put_lost(block);
            }
            return;
        }
        let told = left.into_iter().find(|other| other.can_tell(version));
        let Some(Other { peer, .. }) = told else { return };
        let blocks = Blocks { first: block, count: 1 };
        let haste = self.haste_of_upkeep();
        let look = self.ask(peer, Purpose::Copy, |id| Request::Look { id, blocks });
        let read = self.ask(peer, Purpose::Copy, |id| Request::Read { id, blocks, haste });
        if let Some(doubt) = self.doubt(block) {
            doubt.asking = Some(Asking { peer, look, read, held: None });
        }
    }

    /// Its place may be somebody else's soon, who was asked nothing.
    pub(crate) fn forget_who_was_asked(&mut self, peer: PeerId) {
        let ranges = self.copier.iter_mut().flat_map(|copier| &mut copier.ranges);
        for doubt in ranges.filter_map(RangeCopy::copying).flat_map(|copying| copying.doubts.values_mut()) {
            doubt.asked.remove(&peer);
        }
    }

    fn doubt(&mut self, block: u64) -> Option<&mut Doubt> {
        self.copying(block)?.doubts.get_mut(&block)
    }

    /// Whether nothing is lost before this one was asked, however long it is away. Who is not among those that are brought up is not
    /// full any more; what it has it keeps.
    pub(crate) fn has_to_be_asked(&self, peer: PeerId, mode: Mode) -> bool {
        match (&self.phase, mode) {
            (Phase::BringingUp(full), Mode::Stage) => full.contains(&peer),
            _ => self.is_full(peer),
        }
    }

    /// Up to which write it answers behind each; none, if it does not answer.
    fn tells_up_to(&self, peer: PeerId) -> Option<Position> {
        let known = &self.peers[peer.0];
        let newest = Position { epoch: u32::MAX, counter: u64::MAX };
        known.is_promoted().then(|| if known.is_streaming() { known.sent } else { newest })
    }

    /// An answer about such a block, perhaps. Whether it was one.
    pub(crate) fn note_doubt(&mut self, peer: PeerId, id: u64, reply: &Reply) -> bool {
        let ranges = self.copier.iter_mut().flat_map(|copier| &mut copier.ranges);
        let mut all = ranges.filter_map(RangeCopy::copying).flat_map(|copying| &mut copying.doubts);
        let Some((block, doubt)) = all.find(|(_, doubt)| doubt.is_asked_by(id)) else { return false };
        let (block, Some(asking)) = (*block, &mut doubt.asking) else { return false };
        match reply {
            Reply::Looked { held, .. } if held.len() == 1 => asking.held = Some(held[0]),
            Reply::Read { bytes, .. } if asking.held.is_some() => {
                let told = asking.held.take();
                doubt.asking = None;
                let wanted = doubt.held.version;
                if let Some(told) = told {
                    self.resolve(block, wanted, peer, told, bytes.clone());
                }
            }
            _ => self.lose_for_other_blocks(peer),
        }
        true
    }

    /// Somebody has told what it has of a block that the source has wrong.
    fn resolve(&mut self, block: u64, wanted: Position, peer: PeerId, told: Held, bytes: Bytes) {
        let Some(Copier { source, mode, .. }) = self.copier else { return };
        // A member that has a prefix with that write in it is right about the block, also if another one says another version.
        let has_prefix = self.has_to_be_asked(peer, mode) && self.peers[peer.0].applied >= wanted;
        let copy = self.right_copy(block, peer, told, bytes);
        match copy.filter(|_| told.version == wanted || has_prefix) {
            Some(copy) => {
                self.put_copy(copy);
                self.end_doubt(block);
                if peer != source {
                    self.begin_heals(source, block..block + 1);
                }
            }
            None => {
                if let Some(doubt) = self.doubt(block) {
                    doubt.asked.insert(peer);
                }
                self.ask_doubt(block);
            }
        }
    }

    fn right_copy(&mut self, block: u64, peer: PeerId, told: Held, bytes: Bytes) -> Option<BlockCopy> {
        let blocks = Blocks { first: block, count: 1 };
        match told.what {
            What::Never => Some(BlockCopy::Never(blocks)),
            What::Zeros => Some(BlockCopy::Zeros(told.version, blocks)),
            What::Lost { .. } => None,
            What::Bytes { .. } if bytes.len() != self.config.geometry.block_size.bytes() => {
                self.lose_for_other_blocks(peer);
                None
            }
            What::Bytes { checksum, seal } => {
                if let Err(wrong) = judge(&mut self.config.sealer, block, &bytes, checksum, &seal) {
                    self.peers[peer.0].note_wrong(wrong, 1);
                    return None;
                }
                let seals = if self.config.geometry.is_sealed { vec![seal] } else { Vec::new() };
                let data = BlockData { first: block, checksums: vec![checksum], seals, bytes };
                Some(BlockCopy::Bytes(told.version, data))
            }
        }
    }

    /// Nobody has it right.
    fn put_lost(&mut self, block: u64) {
        let Some(Held { version, what }) = self.doubt(block).map(|doubt| doubt.held) else { return };
        if self.copying(block).is_some_and(|copying| copying.forged.contains(&block)) {
            // What the target has of it may be right, and is no worse: nothing takes its place.
            if let Some(Copier { hopeless, .. }) = &mut self.copier
                && hopeless.len() < HOPELESS_MAX
            {
                hopeless.insert(block);
            }
        } else if let What::Bytes { checksum, seal } = what.as_written() {
            let seals = if self.config.geometry.is_sealed { vec![seal] } else { Vec::new() };
            let data = BlockData { first: block, checksums: vec![checksum], seals, bytes: Bytes::new() };
            self.totals.lost_blocks += 1;
            self.put_copy(BlockCopy::Lost(version, data));
        }
        self.end_doubt(block);
    }

    fn end_doubt(&mut self, block: u64) {
        if let Some(Copying { doubts, .. }) = self.copying(block) {
            doubts.remove(&block);
        }
        self.ask_doubts();
    }
}
