//! Reading: from one full member, verified; from another one if the first is slow or wrong. What was wrong is healed by
//! [`crate::heals`].
//!
//! ```text
//!   piece ──ask──► one member ──right──► answered
//!                    │  └─ slow ──► ask another one, too
//!                    └─ wrong ──► ask another one ──right──► answered, and the first is healed
//!                                       └─ no full member has it right ──► an error; if only nobody has all of it, block by block
//! ```

use crate::{
    rules::Rule,
    sealing::Wrong,
    trouble::Trouble,
    types::{Action, Data, Holds, JobError, JobId, PeerId, Run},
    upstairs::{Purpose, Upstairs},
};
use bytes::Bytes;
use region::{Held, Position, What, checksum};
use region_wire::{Blocks, Haste, LOOK_MAX, Reply, Request};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// Bytes of a piece: small enough that several are on their way one behind the other.
const PIECE_BYTES: u64 = 256 << 10;

/// A member that takes longer is not waited for alone.
const HEDGE: Duration = Duration::from_millis(250);

/// Pieces of reads.
#[derive(Debug, Default)]
pub(crate) struct Reads {
    pieces: BTreeMap<u64, Piece>,
    next: u64,
    /// Those that nobody was there to be asked for.
    unasked: BTreeSet<u64>,
    turn: usize,
    /// What some read may have seen: who reads later sees it, too, wherever it reads.
    floor: Position,
}

/// What is wanted of blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    /// Their content.
    Content,
    /// Whether they have any.
    Look,
}

#[derive(Debug)]
struct Piece {
    job: JobId,
    wanted: Wanted,
    blocks: Blocks,
    /// Whoever is asked has at least this.
    behind: Position,
    asked: BTreeSet<PeerId>,
    asked_at: Duration,
    /// Those that gave wrong bytes, and of which blocks.
    wrong: BTreeMap<PeerId, BTreeSet<u64>>,
    /// Blocks that one of them had with its checksum, and that the volume's key does not open.
    wrong_seals: BTreeSet<u64>,
}

impl Reads {
    /// Its place may be somebody else's soon, who has given nothing wrong.
    pub(crate) fn forget_member(&mut self, peer: PeerId) {
        for piece in self.pieces.values_mut() {
            piece.wrong.remove(&peer);
        }
    }

    pub(crate) fn forget_all(&mut self) {
        *self = Reads { next: self.next, floor: self.floor, ..Reads::default() };
    }
}

impl Upstairs {
    pub(crate) fn begin_read(&mut self, job: JobId, first: u64, count: u64) {
        let per_piece = (PIECE_BYTES / self.config.geometry.block_size.bytes() as u64).max(1);
        let mut at = first;
        let mut pieces = 0;
        while at < first + count {
            let size = per_piece.min(first + count - at);
            let blocks = Blocks { first: at, count: u32::try_from(size).expect("a piece is small") };
            self.begin_piece(job, Wanted::Content, blocks);
            at += size;
            pieces += 1;
        }
        self.jobs.reads.insert(job, pieces);
    }

    /// Asked like a read, so it is as new as one. What does not fit one message is not told.
    pub(crate) fn begin_look(&mut self, job: JobId, first: u64, count: u64) {
        let count = u32::try_from(count.min(LOOK_MAX)).expect("a message is small");
        self.begin_piece(job, Wanted::Look, Blocks { first, count });
        self.jobs.reads.insert(job, 1);
    }

    fn begin_piece(&mut self, job: JobId, wanted: Wanted, blocks: Blocks) {
        let id = self.reads.next;
        self.reads.next += 1;
        let (behind, asked_at) = (self.jobs.acknowledged, self.now);
        let (asked, wrong, wrong_seals) = (BTreeSet::new(), BTreeMap::new(), BTreeSet::new());
        let piece = Piece { job, wanted, blocks, behind, asked, asked_at, wrong, wrong_seals };
        self.reads.pieces.insert(id, piece);
        self.reads.unasked.insert(id);
    }

    /// Asks for what was not asked for.
    pub(crate) fn ask_reads(&mut self) {
        for id in std::mem::take(&mut self.reads.unasked) {
            self.ask_read(id);
        }
    }

    fn ask_read(&mut self, id: u64) {
        let Some(piece) = self.reads.pieces.get(&id) else { return };
        let (blocks, wanted) = (piece.blocks, piece.wanted);
        let is_source = |peer: &PeerId| {
            let known = &self.peers[peer.0];
            known.is_streaming()
                && (self.is_full(*peer) || !Rule::FillingIsNoSource.is_kept())
                && known.sent >= piece.behind.max(self.reads.floor)
                && !piece.asked.contains(peer)
                && !piece.wrong.contains_key(peer)
        };
        let count = self.peers.len();
        let turn = self.reads.turn;
        let sources = (0..count).map(|offset| PeerId((turn + offset) % count)).filter(is_source);
        // What is asked of one that has no room waits behind what it has no room for.
        let burden = |peer: &PeerId| (self.peers[peer.0].is_out_of_room(), self.peers[peer.0].reading);
        let Some(peer) = sources.min_by_key(burden) else {
            if self.reads.pieces[&id].asked.is_empty() {
                self.reads.unasked.insert(id);
                self.give_up_piece_if_all_wrong(id);
            }
            return;
        };
        self.reads.turn = peer.0 + 1;
        self.reads.floor = self.reads.floor.max(self.peers[peer.0].sent);
        self.peers[peer.0].reading += u64::from(blocks.count);
        let now = self.now;
        if let Some(piece) = self.reads.pieces.get_mut(&id) {
            self.totals.hedged_reads += u64::from(!piece.asked.is_empty());
            piece.asked.insert(peer);
            piece.asked_at = now;
        }
        self.ask(peer, Purpose::Read(id), |id| match wanted {
            Wanted::Content => Request::Read { id, blocks, haste: Haste::Client },
            Wanted::Look => Request::Look { id, blocks },
        });
    }

    /// Who is slow is not waited for alone.
    pub(crate) fn hedge_reads(&mut self) {
        let now = self.now;
        let is_slow = |piece: &Piece| {
            !piece.asked.is_empty() && now.saturating_sub(piece.asked_at) >= HEDGE && piece.asked.len() < 3
        };
        let slow: Vec<u64> =
            self.reads.pieces.iter().filter(|(_, piece)| is_slow(piece)).map(|(id, _)| *id).collect();
        for id in slow {
            self.ask_read(id);
        }
    }

    pub(crate) fn note_read(&mut self, peer: PeerId, id: u64, reply: Reply) {
        let wanted = self.reads.pieces.get(&id).map(|piece| piece.wanted);
        let (first, whats, bytes) = match (reply, wanted) {
            (Reply::Looked { held, .. }, Some(Wanted::Look)) => return self.note_look(peer, id, &held),
            (Reply::Read { first, whats, bytes, .. }, Some(Wanted::Content)) => (first, whats, bytes),
            // Another one was faster.
            (_, None) => return,
            (_, Some(_)) => {
                self.note_not_read(peer, id);
                return self.lose(peer, Trouble::WrongAnswer("it answers something else than it was asked"));
            }
        };
        let Some(piece) = self.reads.pieces.get_mut(&id) else { return };
        piece.asked.remove(&peer);
        let blocks = piece.blocks;
        self.peers[peer.0].reading = self.peers[peer.0].reading.saturating_sub(blocks.count.into());
        let size = self.config.geometry.block_size.bytes();
        let is_whole = first == blocks.first && whats.len() == blocks.count as usize;
        let Some(data) = is_whole.then(|| parts(first, &whats, bytes, size)).flatten() else {
            self.note_not_read(peer, id);
            return self.lose(peer, Trouble::WrongAnswer("it answers other blocks than it was asked for"));
        };
        let (parts, wrong) = data;
        if !wrong.is_empty() && Rule::ReadsAreChecked.is_kept() {
            return self.note_wrong(peer, id, Wrong::Bytes, wrong);
        }
        match self.open_parts(first, &whats, parts) {
            Ok(parts) => self.answer_piece(id, parts),
            Err(wrong) => self.note_wrong(peer, id, Wrong::Seal, wrong),
        }
    }

    /// A member has given wrong blocks. Another one is asked, and the first one is healed.
    fn note_wrong(&mut self, peer: PeerId, id: u64, why: Wrong, wrong: Vec<u64>) {
        self.peers[peer.0].note_wrong(why, wrong.len() as u64);
        if let Some(piece) = self.reads.pieces.get_mut(&id) {
            piece.wrong.entry(peer).or_default().extend(&wrong);
            if why == Wrong::Seal {
                piece.wrong_seals.extend(&wrong);
            }
            if piece.asked.is_empty() {
                self.reads.unasked.insert(id);
            }
        }
        for block in wrong {
            self.begin_heals(peer, block..block + 1);
        }
        self.give_up_piece_if_all_wrong(id);
    }

    fn note_look(&mut self, peer: PeerId, id: u64, held: &[Held]) {
        let Some(piece) = self.reads.pieces.get_mut(&id) else { return };
        piece.asked.remove(&peer);
        let (job, count) = (piece.job, piece.blocks.count);
        self.peers[peer.0].reading = self.peers[peer.0].reading.saturating_sub(count.into());
        if held.len() != count as usize {
            self.note_not_read(peer, id);
            return self.lose(peer, Trouble::WrongAnswer("it answers other blocks than it was asked for"));
        }
        self.answer(Action::Looked(job, runs(held)));
        self.answer_piece(id, Vec::new());
    }

    fn answer_piece(&mut self, id: u64, parts: Vec<(u64, Data)>) {
        let Some(piece) = self.take_piece(id) else { return };
        let Some(left) = self.jobs.reads.get_mut(&piece.job) else { return };
        *left -= 1;
        let is_done = *left == 0;
        for (block, data) in parts {
            self.answer(Action::Read(piece.job, block, data));
        }
        if is_done {
            self.jobs.reads.remove(&piece.job);
            self.answer(Action::Done(piece.job, Ok(())));
        }
    }

    /// Nobody is waited for any more that was asked for it.
    fn take_piece(&mut self, id: u64) -> Option<Piece> {
        let piece = self.reads.pieces.remove(&id)?;
        self.reads.unasked.remove(&id);
        for peer in &piece.asked {
            let reading = &mut self.peers[peer.0].reading;
            *reading = reading.saturating_sub(piece.blocks.count.into());
        }
        Some(piece)
    }

    /// Nobody has all of it right: then there is a block that nobody has right, or it is asked for block by block.
    fn give_up_piece_if_all_wrong(&mut self, id: u64) {
        let Some(piece) = self.reads.pieces.get(&id) else { return };
        let full = || (0..self.peers.len()).map(PeerId).filter(|peer| self.is_full(*peer));
        let is_wrong =
            |peer: PeerId, block: &u64| piece.wrong.get(&peer).is_some_and(|blocks| blocks.contains(block));
        if !full().all(|peer| piece.wrong.contains_key(&peer)) {
            return;
        }
        let nobodys = piece.blocks.range().find(|block| full().all(|peer| is_wrong(peer, block)));
        let error = match nobodys {
            Some(block) if piece.wrong_seals.contains(&block) => JobError::WrongSeal { block },
            Some(block) => JobError::Unreadable { block },
            None => return self.split_piece(id),
        };
        self.totals.unreadable_reads += 1;
        let job = piece.job;
        let is_of_it = |(_, piece): &(&u64, &Piece)| piece.job == job;
        let all: Vec<u64> = self.reads.pieces.iter().filter(is_of_it).map(|(id, _)| *id).collect();
        all.into_iter().for_each(|id| drop(self.take_piece(id)));
        if self.jobs.reads.remove(&job).is_some() {
            self.answer(Action::Done(job, Err(error)));
        }
    }

    /// Of each block somebody may have the right bytes, and nobody has those of all.
    fn split_piece(&mut self, id: u64) {
        let Some(Piece { job, wanted, blocks, .. }) = self.take_piece(id) else { return };
        if let Some(left) = self.jobs.reads.get_mut(&job) {
            *left += blocks.count as usize - 1;
        }
        blocks.range().for_each(|first| self.begin_piece(job, wanted, Blocks { first, count: 1 }));
    }

    /// It will not answer.
    pub(crate) fn note_not_read(&mut self, peer: PeerId, id: u64) {
        if let Some(piece) = self.reads.pieces.get_mut(&id) {
            piece.asked.remove(&peer);
            if piece.asked.is_empty() {
                self.reads.unasked.insert(id);
            }
        }
    }
}

/// What was read in parts, and the blocks that are wrong. None if the bytes are not those of the blocks.
#[expect(clippy::type_complexity, reason = "two lists that are made in one walk")]
fn parts(first: u64, whats: &[What], mut bytes: Bytes, size: usize) -> Option<(Vec<(u64, Data)>, Vec<u64>)> {
    let is_bytes = |what: &What| matches!(what, What::Bytes { .. });
    if bytes.len() != whats.iter().filter(|what| is_bytes(what)).count() * size {
        return None;
    }
    let mut wrong = Vec::new();
    let mut parts: Vec<(u64, Data)> = Vec::new();
    let mut at = 0;
    while at < whats.len() {
        let block = first + at as u64;
        let is_alike = |what: &&What| std::mem::discriminant(*what) == std::mem::discriminant(&whats[at]);
        let run = whats[at..].iter().take_while(is_alike).count();
        let data = match whats[at] {
            What::Never => Data::Never(run as u64),
            What::Zeros => Data::Zeros(run as u64),
            What::Lost { .. } => {
                wrong.extend(block..block + run as u64);
                Data::Zeros(run as u64)
            }
            What::Bytes { .. } => {
                let part = bytes.split_to(run * size);
                let blocks = (block..).zip(part.chunks_exact(size)).zip(&whats[at..at + run]);
                wrong.extend(blocks.filter_map(|((block, bytes), what)| {
                    let is_right =
                        matches!(what, What::Bytes { checksum: kept, .. } if checksum(block, bytes) == *kept);
                    (!is_right).then_some(block)
                }));
                Data::Bytes(part)
            }
        };
        parts.push((block, data));
        at += run;
    }
    Some((parts, wrong))
}

/// What blocks hold, as whoever asks for it is told.
fn runs(held: &[Held]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for held in held {
        let holds = match held.what {
            What::Never => Holds::Never,
            What::Zeros => Holds::Zeros,
            // Its bytes are an error: neither a hole nor zeros.
            What::Bytes { .. } | What::Lost { .. } => Holds::Bytes,
        };
        match runs.last_mut() {
            Some(last) if last.holds == holds => last.blocks += 1,
            _ => runs.push(Run { blocks: 1, holds }),
        }
    }
    runs
}
