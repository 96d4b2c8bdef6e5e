//! Healing: a block of a member that is not what it should be gets the right one of another member, of the same version.
//!
//! ```text
//!   wrong block ──► look and read at another member ──right──► Heal, of that version ──► taken
//!                        ▲                 │ wrong there, too
//!                        └── another one ──┴── none is left: given up, until it is read again
//! ```
//!
//! What is passed on is what the other member has: a sealed block is opened to see that it is right, and never sealed again.

use crate::{
    sealing::{Wrong, judge},
    trouble::Trouble,
    types::PeerId,
    upstairs::{Phase, Purpose, Upstairs},
};
use bytes::Bytes;
use region::{Held, Position, What};
use region_wire::{BlockCopy, BlockData, Blocks, Haste, Reply, Request};
use std::collections::{BTreeMap, BTreeSet};

/// Blocks that are healed at a time.
const HEALS_MAX: usize = 64;

/// A healing that is under way.
pub(crate) type HealId = u64;

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Heals {
    under_way: BTreeMap<HealId, Heal>,
    next: HealId,
}

/// One block of one member that is wrong.
#[derive(Debug)]
struct Heal {
    of: PeerId,
    from: PeerId,
    block: u64,
    version: Option<Position>,
    /// Those that have it wrong, too.
    wrong: BTreeSet<PeerId>,
    /// What it is to be, if two members agree on that: then it may be zeros, too, of which no checksum and no seal tells, and nothing else heals it.
    agreed: Option<Held>,
}

impl Heals {
    pub(crate) fn forget_all(&mut self) {
        self.under_way.clear();
    }

    /// Nobody heals this member any more, until what it has wrong is found again.
    pub(crate) fn give_up_of(&mut self, peer: PeerId) {
        self.under_way.retain(|_, heal| heal.of != peer);
    }

    /// Whether some of these blocks are healed now.
    pub(crate) fn are_under_way(&self, blocks: std::ops::Range<u64>) -> bool {
        self.under_way.values().any(|heal| blocks.contains(&heal.block))
    }
}

impl Upstairs {
    /// Heals blocks of a member: those that another one has right, of the same version.
    pub(crate) fn begin_heals(&mut self, of: PeerId, blocks: std::ops::Range<u64>) {
        for block in blocks {
            // One for which there is no place now is found again by the next read.
            self.begin_heal_of(of, None, block);
        }
    }

    /// Heals a block of a member: from this other one, and to nothing else than this, if two are known to have it. False if too many are healed
    /// now.
    pub(crate) fn begin_heal_of(&mut self, of: PeerId, agreed: Option<(PeerId, Held)>, block: u64) -> bool {
        let from = match agreed {
            Some((from, _)) => Some(from).filter(|from| self.peers[from.0].is_promoted()),
            None => self.heal_source(of, &BTreeSet::new()),
        };
        from.is_none_or(|from| self.begin_heal(of, from, block, agreed.map(|(_, held)| held)))
    }

    /// Whoever has most, but for those that have it wrong.
    fn heal_source(&self, of: PeerId, wrong: &BTreeSet<PeerId>) -> Option<PeerId> {
        let is_source = |peer: &PeerId| {
            // Before it is active nobody knows who else has them; and a version is one write, whoever has it.
            let may_have_them = self.is_full(*peer) || matches!(self.phase, Phase::BringingUp(_));
            *peer != of && !wrong.contains(peer) && may_have_them && self.peers[peer.0].is_promoted()
        };
        let sources = (0..self.peers.len()).map(PeerId).filter(is_source);
        sources.max_by_key(|peer| self.peers[peer.0].applied)
    }

    fn begin_heal(&mut self, of: PeerId, from: PeerId, block: u64, agreed: Option<Held>) -> bool {
        let heals = &mut self.heals;
        let is_known = heals.under_way.values().any(|heal| heal.of == of && heal.block == block);
        if is_known || heals.under_way.len() >= HEALS_MAX {
            return is_known;
        }
        let id = heals.next;
        heals.next += 1;
        let (version, wrong) = (None, BTreeSet::new());
        heals.under_way.insert(id, Heal { of, from, block, version, wrong, agreed });
        self.ask_heal_source(id, from, block);
        true
    }

    fn ask_heal_source(&mut self, heal: HealId, from: PeerId, block: u64) {
        let blocks = Blocks { first: block, count: 1 };
        // One behind the other, with no write between them: of the same version.
        self.ask(from, Purpose::Heal(heal), |id| Request::Look { id, blocks });
        self.ask(from, Purpose::Heal(heal), |id| Request::Read { id, blocks, haste: Haste::Client });
    }

    pub(crate) fn note_heal(&mut self, peer: PeerId, heal: HealId, reply: Reply) {
        let Some(known) = self.heals.under_way.get_mut(&heal) else { return };
        match reply {
            Reply::Looked { held, .. } if held.len() == 1 && peer == known.from => {
                known.version = Some(held[0].version);
            }
            Reply::Read { whats, bytes, .. } if whats.len() == 1 && peer == known.from => {
                self.heal_with(heal, whats[0], bytes);
            }
            // What was found there is of another version.
            Reply::Taken { blocks: 0, .. } if peer == known.of => self.heal_from_another(heal),
            Reply::Taken { blocks, .. } if peer == known.of => {
                self.peers[peer.0].healed_blocks += blocks;
                self.heals.under_way.remove(&heal);
            }
            _ => self.give_up_heal(heal),
        }
    }

    fn heal_with(&mut self, heal: HealId, what: What, bytes: Bytes) {
        let Some(known) = self.heals.under_way.get(&heal) else { return };
        let (of, from, block, version) = (known.of, known.from, known.block, known.version);
        let is_it = |agreed: Held| Some(agreed.version) == version && agreed.what == what.as_written();
        if !known.agreed.is_none_or(is_it) {
            // It was written since, or this one says something else by now.
            return self.give_up_heal(heal);
        }
        let (checksum, seal) = match what {
            What::Bytes { checksum, seal } => (checksum, seal),
            What::Lost { .. } => return self.heal_from_another(heal),
            What::Zeros if known.agreed.is_some() => return self.heal_with_zeros(heal),
            What::Never | What::Zeros => return self.give_up_heal(heal),
        };
        if bytes.len() != self.config.geometry.block_size.bytes() {
            self.give_up_heal(heal);
            return self.lose(from, Trouble::WrongAnswer("it answers other blocks than it was asked for"));
        }
        if let Err(wrong) = judge(&mut self.config.sealer, block, &bytes, checksum, &seal) {
            self.peers[from.0].note_wrong(wrong, 1);
            return self.heal_from_another(heal);
        }
        let Some(version) = version.filter(|_| self.peers[of.0].is_promoted()) else {
            return self.give_up_heal(heal);
        };
        let seals = if self.config.geometry.is_sealed { vec![seal] } else { Vec::new() };
        let data = BlockData { first: block, checksums: vec![checksum], seals, bytes };
        let copy = BlockCopy::Bytes(version, data);
        self.ask(of, Purpose::Heal(heal), |id| Request::Heal { id, copy });
    }

    fn heal_with_zeros(&mut self, heal: HealId) {
        let Some(Heal { of, block, version, .. }) = self.heals.under_way.get(&heal) else { return };
        let (of, blocks) = (*of, Blocks { first: *block, count: 1 });
        match version.filter(|_| self.peers[of.0].is_promoted()) {
            Some(version) => {
                let copy = BlockCopy::Zeros(version, blocks);
                self.ask(of, Purpose::Heal(heal), |id| Request::Heal { id, copy });
            }
            None => self.give_up_heal(heal),
        }
    }

    /// The one that was asked has it wrong, too.
    fn heal_from_another(&mut self, heal: HealId) {
        let Some(mut known) = self.heals.under_way.remove(&heal) else { return };
        known.wrong.insert(known.from);
        if let Some(from) = self.heal_source(known.of, &known.wrong) {
            let block = known.block;
            self.heals.under_way.insert(heal, Heal { from, version: None, ..known });
            self.ask_heal_source(heal, from, block);
        }
    }

    /// The next read of it begins anew.
    pub(crate) fn give_up_heal(&mut self, heal: HealId) {
        self.heals.under_way.remove(&heal);
    }
}

impl crate::peer::Peer {
    /// So many blocks of it were not what they should be.
    pub(crate) fn note_wrong(&mut self, wrong: Wrong, blocks: u64) {
        self.wrong_blocks += blocks;
        if wrong == Wrong::Seal {
            self.wrong_seals += blocks;
        }
    }
}
