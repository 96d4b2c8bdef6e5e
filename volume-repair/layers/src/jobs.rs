//! What clients have asked, from its beginning to its end: divided into pieces, which parts are asked, and put together again.
//!
//! ```text
//!   asked before it is active ──► waits ──activated──┐
//!   asked ───────────────────────────────────────────┴──► pieces under way ──all ended, nothing held──► done
//!                                                              └──────────────one failed──────────────► failed, at once
//! ```

use crate::{
    layered::Layered,
    looks::Look,
    places::{PartId, Section},
    rules::Rule,
    scrub::is_own,
    sources::Wanted,
};
use ids::RegionId;
use std::collections::BTreeMap;
use upstairs::{Action, CopyCompared, Data, Job, JobError, JobId};

/// A job that is under way.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    /// Pieces that have not ended.
    pub(crate) pieces: usize,
    /// Whether it reads or looks, and sees through to parents, which it does to its end.
    pub(crate) is_through: bool,
    /// Answers that are there and must not be told yet.
    pub(crate) held: usize,
    /// How far it is, if it looks.
    pub(crate) look: Option<Look>,
    /// The regions that have the snapshot that it takes.
    pub(crate) regions: Vec<RegionId>,
    /// What it has found, if it compares.
    pub(crate) compared: BTreeMap<RegionId, CopyCompared>,
}

/// What one part was asked for a job.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Piece {
    pub(crate) job: JobId,
    /// Of its part.
    pub(crate) layer: usize,
    /// The first block of its part in the layer.
    pub(crate) base: u64,
    /// The region set of the uppermost layer whose word it is that nobody ever wrote these blocks.
    pub(crate) guard: Option<usize>,
    /// Blocks that a source has not given yet.
    pub(crate) missing: u64,
    /// The blocks that it writes or zeroes, by their numbers in the layer: the first one, and how many.
    pub(crate) writes: Option<(u64, u64)>,
}

/// An answer that follows from the word of a region set, and may have come long after it.
#[derive(Debug)]
pub(crate) struct Held {
    guard: usize,
    job: JobId,
    action: Action,
}

impl Layered {
    /// Refuses what cannot be, and begins the rest, or lets it wait for the activation.
    pub(crate) fn submit_job(&mut self, id: JobId, job: Job) {
        assert!(!is_own(id), "clients have the numbers below those of the scrub");
        if !matches!(job, Job::Compare { .. }) {
            self.asked_at = self.now;
        }
        let of_blocks = job.blocks(usize::try_from(self.block_bytes).expect("a block is small"));
        let (first, count) = of_blocks.unwrap_or_default();
        let (end, blocks) = (first.saturating_add(count), self.layers[0].blocks);
        if end > blocks {
            self.act(Action::Done(id, Err(JobError::OutOfRange { first, end, blocks })));
        } else if self.is_read_only && job.writes() {
            self.act(Action::Done(id, Err(JobError::ReadOnly)));
        } else if of_blocks.is_some() && count == 0 {
            self.act(Action::Done(id, Ok(())));
        } else if self.is_activated {
            self.begin(id, job);
        } else {
            self.waiting.push_back((id, job));
        }
    }

    pub(crate) fn begin(&mut self, id: JobId, job: Job) {
        let is_through = !self.is_without_parents && matches!(job, Job::Read { .. } | Job::Look { .. });
        self.jobs.insert(id, Asked { is_through, ..Asked::default() });
        if matches!(job, Job::Compare { .. }) {
            self.comparing.insert(id);
        }
        match job {
            Job::Read { first, count } => self.begin_read(id, 0, first, count, None),
            Job::Look { first, count } => self.begin_look(id, first, count),
            Job::Write { .. } | Job::Zero { .. } => self.begin_write(id, job),
            Job::Compare { first, count } => {
                // Its own region sets: what lies under it is proven when it is cloned, and never changes.
                let sections: Vec<Section> = self.layers[0].sections(first, count).collect();
                for section in sections {
                    self.ask_set(id, 0, section, None, |first, count| Job::Compare { first, count });
                }
            }
            Job::Flush | Job::Snapshot(_) | Job::DeleteSnapshot(_) => {
                let places = self.layers[0].places.clone();
                let first_only = if Rule::FlushGoesToAll.is_kept() { places.len() } else { 1 };
                for place in places.into_iter().take(first_only) {
                    let section = Section { place, first: place.first, count: 0 };
                    self.ask_set(id, 0, section, None, |_, _| job.clone());
                }
            }
        }
        self.finish_if_done(id);
    }

    /// A job of the volume itself, which is nobody's.
    pub(crate) fn begin_own(&mut self, id: JobId) {
        self.jobs.insert(id, Asked { is_through: true, ..Asked::default() });
    }

    /// Hands a write, or a zeroing, to the sets that have its blocks. Nothing else is done.
    pub(crate) fn begin_write(&mut self, id: JobId, job: Job) {
        match job {
            Job::Write { first, mut bytes, is_durable } => {
                let sections: Vec<Section> = self.layers[0].sections(first, self.blocks_of(&bytes)).collect();
                for section in sections {
                    let own = usize::try_from(section.count * self.block_bytes).expect("it is in memory");
                    let bytes = bytes.split_to(own);
                    self.ask_set(id, 0, section, None, |first, _| Job::Write { first, bytes, is_durable });
                }
            }
            Job::Zero { first, count, is_durable } => {
                let sections: Vec<Section> = self.layers[0].sections(first, count).collect();
                for section in sections {
                    self.ask_set(id, 0, section, None, |first, count| Job::Zero { first, count, is_durable });
                }
            }
            _ => {}
        }
    }

    /// Asks the parts of a layer for the content of these blocks, all of which it has.
    pub(crate) fn begin_read(
        &mut self,
        id: JobId,
        layer: usize,
        first: u64,
        count: u64,
        guard: Option<usize>,
    ) {
        let sections: Vec<Section> = self.layers[layer].sections(first, count).collect();
        for section in sections {
            match section.place.part {
                PartId::Set(_) => {
                    self.ask_set(id, layer, section, guard, |first, count| Job::Read { first, count });
                }
                PartId::Source(source) => {
                    let piece = self.add_piece(id, layer, section, guard, section.count);
                    let first = section.first - section.place.first;
                    self.queues[source].push(Wanted { piece, first, count: section.count });
                }
            }
        }
    }

    /// Asks the region set of a section, if it is one.
    pub(crate) fn ask_set(
        &mut self,
        id: JobId,
        layer: usize,
        section: Section,
        guard: Option<usize>,
        job: impl FnOnce(u64, u64) -> Job,
    ) {
        let PartId::Set(set) = section.place.part else { return };
        let piece = self.add_piece(id, layer, section, guard, 0);
        let job = job(section.first - section.place.first, section.count);
        if matches!(job, Job::Write { .. } | Job::Zero { .. }) {
            let writes = (section.first, section.count);
            self.pieces.get_mut(&piece).expect("it was added just now").writes = Some(writes);
            if let Some(scrub) = self.scrub.as_mut().filter(|_| !is_own(id)) {
                scrub.note_write(writes.0, writes.1);
            }
        }
        let (upstairs, piece) = (&mut self.sets[set].upstairs, JobId(piece));
        let actions = match is_own(id) {
            true => upstairs.submit_background(self.now, piece, job),
            false => upstairs.submit(self.now, piece, job),
        };
        self.todo.push_back((set, actions));
    }

    fn add_piece(
        &mut self,
        job: JobId,
        layer: usize,
        section: Section,
        guard: Option<usize>,
        missing: u64,
    ) -> u64 {
        let number = self.next_piece;
        self.next_piece += 1;
        let base = section.place.first;
        self.pieces.insert(number, Piece { job, layer, base, guard, missing, writes: None });
        if let Some(asked) = self.jobs.get_mut(&job) {
            asked.pieces += 1;
        }
        number
    }

    /// A region set, or a source, has said what some blocks of a piece hold, by their numbers in the layer. What nobody ever wrote there is
    /// looked for in the layer below.
    pub(crate) fn note_read(&mut self, set: Option<usize>, piece: Piece, first: u64, data: Data) {
        let Some(depth) = self.depth_of(piece.job) else { return };
        let never = match data {
            Data::Never(count) => Some(count),
            Data::Zeros(count) if !Rule::ZeroedCovers.is_kept() => Some(count),
            _ => None,
        };
        let lower = piece.layer + 1;
        let (Some(count), true) = (never, lower < depth) else {
            return self.tell(piece.guard, piece.job, Action::Read(piece.job, first, data));
        };
        let mut covered = self.layers[lower].covers(first, count);
        if !Rule::ParentIsSeenToItsEnd.is_kept() && covered < count {
            covered = covered.saturating_sub(1);
        }
        if covered > 0 {
            self.begin_read(piece.job, lower, first, covered, piece.guard.or(set));
        }
        if covered < count {
            let rest = Action::Read(piece.job, first + covered, Data::Never(count - covered));
            self.tell(piece.guard, piece.job, rest);
        }
    }

    /// A piece has ended.
    pub(crate) fn end_piece(&mut self, number: u64, result: Result<(), JobError>) {
        let Some(piece) = self.pieces.remove(&number) else { return };
        if let Err(error) = result {
            if let (Some((first, _)), Some(scrub), false) = (piece.writes, &mut self.scrub, is_own(piece.job))
            {
                scrub.note_failed_write(first);
            }
            return self.fail(piece.job, error);
        }
        if let Some(asked) = self.jobs.get_mut(&piece.job) {
            asked.pieces -= 1;
            self.finish_if_done(piece.job);
        }
    }

    pub(crate) fn finish_if_done(&mut self, id: JobId) {
        if self.jobs.get(&id).is_some_and(|asked| asked.pieces == 0 && asked.held == 0) {
            let Asked { regions, compared, .. } = self.jobs.remove(&id).unwrap_or_default();
            self.comparing.remove(&id);
            if !compared.is_empty() {
                self.act(Action::Compared(id, compared.into_values().collect()));
            }
            if !regions.is_empty() {
                self.act(Action::Snapshotted(id, regions));
            }
            self.act(Action::Done(id, Ok(())));
        }
    }

    /// A region set has a snapshot, in these regions. All sets were asked at the same moment, so it is one of the whole volume.
    pub(crate) fn note_snapshotted(&mut self, piece: u64, mut regions: Vec<RegionId>) {
        let job = self.pieces.get(&piece).map(|piece| piece.job);
        if let Some(asked) = job.and_then(|job| self.jobs.get_mut(&job)) {
            asked.regions.append(&mut regions);
        }
    }

    /// A region set has compared its members' blocks.
    pub(crate) fn note_compared(&mut self, piece: u64, copies: Vec<CopyCompared>) {
        let Some(Piece { job, base, .. }) = self.pieces.get(&piece).copied() else { return };
        let Some(asked) = self.jobs.get_mut(&job) else { return };
        for copy in copies {
            let first_left = copy.first_left.map(|block| base + block);
            let known = asked.compared.entry(copy.region).or_insert_with(|| CopyCompared::new(copy.region));
            known.add(&CopyCompared { first_left, ..copy });
        }
    }

    /// Ends a job. What its parts say later goes nowhere.
    pub(crate) fn fail(&mut self, id: JobId, error: JobError) {
        if self.jobs.remove(&id).is_some() {
            self.comparing.remove(&id);
            self.pieces.retain(|_, piece| piece.job != id || piece.missing == 0);
            self.act(Action::Done(id, Err(error)));
        }
    }

    /// Nobody waits for this job any more: if it compares, it ends, and nothing is said of it.
    pub(crate) fn give_up_compare(&mut self, id: JobId) {
        self.waiting.retain(|(other, job)| *other != id || !matches!(job, Job::Compare { .. }));
        if !self.comparing.remove(&id) {
            return;
        }
        self.jobs.remove(&id);
        let own: Vec<u64> =
            self.pieces.iter().filter(|(_, piece)| piece.job == id).map(|(number, _)| *number).collect();
        for number in own {
            self.pieces.remove(&number);
            // It is one set's; the others do not know it.
            for set in 0..self.sets.len() {
                let actions = self.sets[set].upstairs.give_up_compare(self.now, JobId(number));
                self.todo.push_back((set, actions));
            }
        }
    }

    /// Tells a client a part of an answer: now, or when whoever it follows from has the right.
    pub(crate) fn tell(&mut self, guard: Option<usize>, job: JobId, action: Action) {
        let guard = guard.filter(|_| Rule::LateAnswersNeedTheRight.is_kept());
        match (guard, self.jobs.get_mut(&job)) {
            (_, None) => {}
            (None, Some(_)) => self.act(action),
            (Some(guard), Some(asked)) => {
                asked.held += 1;
                self.held.push_back(Held { guard, job, action });
            }
        }
    }

    /// Tells what may be told by now, and gives up what never may.
    pub(crate) fn release_held(&mut self) {
        if self.held.is_empty() {
            return;
        }
        let may: Vec<Result<bool, JobError>> =
            self.sets.iter().map(|set| set.upstairs.may_answer(self.now)).collect();
        for held in std::mem::take(&mut self.held) {
            let Some(asked) = self.jobs.get_mut(&held.job) else { continue };
            match &may[held.guard] {
                Ok(true) => {
                    asked.held -= 1;
                    self.act(held.action);
                    self.finish_if_done(held.job);
                }
                Ok(false) => self.held.push_back(held),
                Err(error) => self.fail(held.job, error.clone()),
            }
        }
    }
}
