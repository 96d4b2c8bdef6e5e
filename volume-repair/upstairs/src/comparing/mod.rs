//! Comparing copies: every full member that is there gives the same blocks. Each is checked by itself, and they are compared with each other.
//! A read asks one member; this is how what the others have is found to be right before it is needed.
//!
//! ```text
//!   piece ──look and read──► every full member that is there ──all have answered──► compared ──all right──► told
//!     ▲                          │ all of them are lost                               │ some are wrong: healed
//!     ├──────────────────────────┘                                                    ▼
//!     └────────────────────────── once more, as long as that has mended something ─ healing ──nothing more──► told what is left
//! ```
//!
//! All are asked behind the same write, the last one as the piece began, so whatever was written last before it each of them has. What
//! is wrong with the copies is said by [`votes`]. A block that is wrong gets that of another member, as for a read ([`crate::heals`]). Blocks of
//! which nobody can say who has them right stay as they are, and are told.
//!
//! It is done beside what clients do, in small pieces, and fewer of them while clients ask anything.

mod votes;

use crate::{
    rules::Rule,
    sealing::{Wrong, judge},
    types::{Action, CopyCompared, JobId, PeerId},
    upstairs::{Purpose, Upstairs},
};
use bytes::Bytes;
use ids::RegionId;
use region::{Held, Position, What};
use region_wire::{Blocks, Reply, Request};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use votes::{Copy, Findings, Odd, compare};

/// Bytes of a piece of one member.
const PIECE_BYTES: usize = 256 << 10;

/// Pieces at a time, while clients ask nothing and while they do.
const PIECES_FAST: usize = 8;
const PIECES_BESIDE_CLIENTS: usize = 1;

/// All that is compared.
#[derive(Debug, Default)]
pub(crate) struct Comparing {
    /// In the order in which they were asked.
    jobs: VecDeque<Comparison>,
    pieces: BTreeMap<u64, Piece>,
    next_piece: u64,
}

/// One job.
#[derive(Debug)]
struct Comparison {
    job: JobId,
    /// Blocks that no piece has yet.
    next: u64,
    end: u64,
    /// Pieces that are under way.
    open: usize,
    found: BTreeMap<RegionId, CopyCompared>,
}

#[derive(Debug)]
struct Piece {
    job: JobId,
    blocks: Blocks,
    /// Whoever is asked has at least this.
    behind: Position,
    copies: BTreeMap<PeerId, Asked>,
    /// What was found in whose copy, also if it is not there any more.
    found: BTreeMap<RegionId, FoundInCopy>,
    /// How many blocks of all of them were wrong when it was looked at last; none, if it was not.
    wrong_before: Option<usize>,
    /// What of it is healed, or is to be when there is a place for it; none, if nothing is.
    healing: Option<Vec<Odd>>,
}

/// What was found in a member's copy of a piece.
#[derive(Debug, Default)]
struct FoundInCopy {
    /// Blocks that were wrong at first, or later if those were more.
    wrong: usize,
    /// Those that were when it was looked at last.
    left: BTreeSet<u64>,
    /// Those that differed then.
    differing: BTreeSet<u64>,
}

/// What a member was asked for, and what of that it has given.
#[derive(Debug, Default)]
struct Asked {
    is_sent: bool,
    sent: Position,
    held: Option<Vec<Held>>,
    read: Option<(Vec<What>, BTreeMap<u64, Wrong>)>,
}

impl Comparing {
    /// Ends a job, whose blocks are asked for no more; false if it was not begun. What is being healed of them goes on.
    pub(crate) fn give_up(&mut self, job: JobId) -> bool {
        let before = self.jobs.len();
        self.jobs.retain(|comparison| comparison.job != job);
        self.pieces.retain(|_, piece| piece.job != job);
        self.jobs.len() < before
    }

    /// Nothing more is compared; the jobs that ended so.
    pub(crate) fn take_all(&mut self) -> Vec<JobId> {
        self.pieces.clear();
        std::mem::take(&mut self.jobs).into_iter().map(|comparison| comparison.job).collect()
    }
}

impl Upstairs {
    pub(crate) fn begin_compare(&mut self, job: JobId, first: u64, count: u64) {
        let (end, found) = (first + count, BTreeMap::new());
        self.comparing.jobs.push_back(Comparison { job, next: first, end, open: 0, found });
    }

    /// Asks for what was not asked for, as far as there is somebody to be asked.
    pub(crate) fn go_on_comparing(&mut self) {
        if self.comparing.jobs.is_empty() {
            return;
        }
        self.begin_pieces();
        self.let_go_of_the_full();
        let numbers: Vec<u64> = self.comparing.pieces.keys().copied().collect();
        for number in numbers {
            self.ask_again_if_healed(number);
            self.ask_copies(number);
        }
    }

    fn begin_pieces(&mut self) {
        let limit = if self.are_clients_quiet() { PIECES_FAST } else { PIECES_BESIDE_CLIENTS };
        let per_piece = (PIECE_BYTES / self.config.geometry.block_size.bytes()).max(1) as u64;
        let comparing = &mut self.comparing;
        for comparison in &mut comparing.jobs {
            while comparison.next < comparison.end && comparing.pieces.len() < limit {
                let count = per_piece.min(comparison.end - comparison.next);
                let count = u32::try_from(count).expect("a piece is small");
                let piece = Piece {
                    job: comparison.job,
                    blocks: Blocks { first: comparison.next, count },
                    behind: Position::NONE,
                    copies: BTreeMap::new(),
                    found: BTreeMap::new(),
                    wrong_before: None,
                    healing: None,
                };
                comparison.next += u64::from(count);
                comparison.open += 1;
                comparing.pieces.insert(comparing.next_piece, piece);
                comparing.next_piece += 1;
            }
        }
    }

    /// What is asked of one that has no room waits behind what it has no room for: it is not waited for.
    fn let_go_of_the_full(&mut self) {
        for peer in (0..self.peers.len()).map(PeerId) {
            if self.peers[peer.0].is_out_of_room() {
                self.heals.give_up_of(peer);
                self.note_comparer_lost(peer);
            }
        }
    }

    fn ask_again_if_healed(&mut self, number: u64) {
        let Some(piece) = self.comparing.pieces.get_mut(&number) else { return };
        let Some(mut left) = piece.healing.take() else { return };
        let blocks = piece.blocks.range();
        left.retain(|odd| !self.begin_heal_of(odd.of, odd.right, odd.block));
        let is_healed = left.is_empty() && !self.heals.are_under_way(blocks);
        let Some(piece) = self.comparing.pieces.get_mut(&number) else { return };
        piece.healing = (!is_healed).then_some(left);
        if is_healed {
            piece.copies.clear();
        }
    }

    /// Asks each full member that is there, as soon as it was sent what the others have.
    fn ask_copies(&mut self, number: u64) {
        let newest = self.newest();
        let full = (0..self.peers.len()).map(PeerId);
        let full = full.filter(|peer| self.is_full(*peer) && self.peers[peer.0].is_streaming());
        let full = full.filter(|peer| !self.peers[peer.0].is_out_of_room());
        let enough = if Rule::EachCopyIsLookedAt.is_kept() { usize::MAX } else { 1 };
        let full: Vec<PeerId> = full.filter(|peer| !self.peers[peer.0].is_condemned).take(enough).collect();
        let Some(piece) = self.comparing.pieces.get_mut(&number) else { return };
        if piece.healing.is_some() {
            return;
        }
        if piece.copies.is_empty() {
            piece.behind = newest;
            piece.copies = full.into_iter().map(|peer| (peer, Asked::default())).collect();
        }
        let (blocks, behind) = (piece.blocks, piece.behind);
        let mut due = Vec::new();
        for (peer, asked) in &mut piece.copies {
            if !asked.is_sent && self.peers[peer.0].sent >= behind {
                asked.is_sent = true;
                due.push(*peer);
            }
        }
        let haste = self.haste_of_upkeep();
        for peer in due {
            self.peers[peer.0].reading += u64::from(blocks.count);
            self.ask(peer, Purpose::Compare(number), |id| Request::Look { id, blocks });
            self.ask(peer, Purpose::Compare(number), |id| Request::Read { id, blocks, haste });
        }
    }

    /// A member has answered.
    pub(crate) fn note_compared(&mut self, peer: PeerId, number: u64, reply: Reply) {
        if let Reply::Read { whats, .. } = &reply {
            let reading = &mut self.peers[peer.0].reading;
            *reading = reading.saturating_sub(whats.len() as u64);
        }
        let Some(piece) = self.comparing.pieces.get(&number) else { return };
        let (first, count) = (piece.blocks.first, piece.blocks.count as usize);
        let answer = match reply {
            Reply::Looked { held, .. } if held.len() == count => Some((Some(held), None)),
            Reply::Read { first: from, whats, bytes, .. } if from == first && whats.len() == count => {
                self.wrong_of(first, &whats, bytes).map(|wrong| (None, Some((whats, wrong))))
            }
            _ => None,
        };
        let Some((held, read)) = answer else { return self.lose_for_other_blocks(peer) };
        let sent = self.peers[peer.0].sent;
        let Some(piece) = self.comparing.pieces.get_mut(&number) else { return };
        // Whoever was let go of is not heard.
        let Some(asked) = piece.copies.get_mut(&peer) else { return };
        asked.sent = sent;
        asked.held = asked.held.take().or(held);
        asked.read = asked.read.take().or(read);
        self.compare_if_all_are_there(number);
    }

    /// It will not answer, or is somebody else from now on: nothing of it is waited for, or told.
    pub(crate) fn note_comparer_lost(&mut self, peer: PeerId) {
        let pieces = self.comparing.pieces.iter_mut();
        let had: Vec<u64> =
            pieces.filter_map(|(number, piece)| piece.copies.remove(&peer).map(|_| *number)).collect();
        had.into_iter().for_each(|number| self.compare_if_all_are_there(number));
    }

    /// Blocks that are not what they should be, by themselves. None if the bytes are not those of the blocks.
    fn wrong_of(&mut self, first: u64, whats: &[What], mut bytes: Bytes) -> Option<BTreeMap<u64, Wrong>> {
        let size = self.config.geometry.block_size.bytes();
        let mut wrong = BTreeMap::new();
        for (block, what) in (first..).zip(whats) {
            match what {
                What::Bytes { checksum, seal } => {
                    if bytes.len() < size {
                        return None;
                    }
                    let own = bytes.split_to(size);
                    if let Err(why) = judge(&mut self.config.sealer, block, &own, *checksum, seal) {
                        wrong.insert(block, why);
                    }
                }
                What::Lost { .. } => drop(wrong.insert(block, Wrong::Bytes)),
                What::Never | What::Zeros => {}
            }
        }
        bytes.is_empty().then_some(wrong)
    }

    fn compare_if_all_are_there(&mut self, number: u64) {
        let Some(piece) = self.comparing.pieces.get_mut(&number) else { return };
        let is_there = |asked: &Asked| asked.held.is_some() && asked.read.is_some();
        if piece.healing.is_some() || piece.copies.is_empty() || !piece.copies.values().all(is_there) {
            return;
        }
        let copies = std::mem::take(&mut piece.copies).into_iter().filter_map(|(peer, asked)| {
            let (held, (whats, wrong), sent) = (asked.held?, asked.read?, asked.sent);
            Some((peer, Copy { held, whats, wrong, sent }))
        });
        let copies: BTreeMap<PeerId, Copy> = copies.collect();
        let findings = compare(piece.blocks, piece.behind, &copies);
        let left = findings.odd.len();
        let before = piece.wrong_before.replace(left);
        let mends = left > 0 && before.is_none_or(|before| left < before);
        piece.healing = mends.then(|| findings.odd.clone());
        for peer in copies.keys() {
            piece.found.entry(self.peers[peer.0].member.region).or_default().note(*peer, &findings);
        }
        if before.is_none() {
            for Odd { of, block, .. } in &findings.odd {
                let why = copies[of].wrong.get(block).copied().unwrap_or(Wrong::Bytes);
                self.peers[of.0].note_wrong(why, 1);
            }
        }
        if !mends {
            self.end_compared(number, copies.keys().copied());
        }
    }

    /// These were there to the end. What was found in others before they were lost is told, too: nobody has mended it, for all that is known.
    fn end_compared(&mut self, number: u64, to_the_end: impl Iterator<Item = PeerId>) {
        let Some(piece) = self.comparing.pieces.remove(&number) else { return };
        let all = &mut self.comparing.jobs;
        let Some(at) = all.iter().position(|comparison| comparison.job == piece.job) else { return };
        let comparison = &mut all[at];
        comparison.open -= 1;
        let told = &mut comparison.found;
        for peer in self.peers.iter().filter(|peer| !peer.is_gone && !peer.is_leaving) {
            // Also one that was not there.
            let region = peer.member.region;
            told.entry(region).or_insert_with(|| CopyCompared::new(region));
        }
        for peer in to_the_end {
            let region = self.peers[peer.0].member.region;
            let blocks = u64::from(piece.blocks.count);
            told.entry(region).or_insert_with(|| CopyCompared::new(region)).blocks += blocks;
        }
        for (region, found) in piece.found {
            told.entry(region).or_insert_with(|| CopyCompared::new(region)).add(&found.told(region));
        }
        if comparison.open == 0 && comparison.next == comparison.end {
            let Some(Comparison { job, found, .. }) = all.remove(at) else { return };
            self.answer(Action::Compared(job, found.into_values().collect()));
            self.answer(Action::Done(job, Ok(())));
        }
    }
}

impl FoundInCopy {
    /// It was looked at once more.
    fn note(&mut self, peer: PeerId, findings: &Findings) {
        self.left = findings.odd.iter().filter(|odd| odd.of == peer).map(|odd| odd.block).collect();
        let differing = findings.differing.iter().filter(|(of, _)| *of == peer);
        self.differing = differing.map(|(_, block)| *block).collect();
        self.wrong = self.wrong.max(self.left.len());
    }

    fn told(&self, region: RegionId) -> CopyCompared {
        CopyCompared {
            wrong: self.wrong as u64,
            healed: (self.wrong - self.left.len()) as u64,
            differing: self.differing.len() as u64,
            first_left: self.left.first().into_iter().chain(self.differing.first()).min().copied(),
            ..CopyCompared::new(region)
        }
    }
}
