//! The machine: what it knows, and what each event makes of it. What clients ask is [`crate::jobs`]' and [`crate::looks`]'.

use crate::{
    jobs::{Asked, Held, Piece},
    places::{Layer, PartId},
    rules::Rule,
    scrub::{ParentNeeded, Scrub, is_own},
    sources::{Fetch, FetchError, FetchId, Queue, SourceId, Wanted, blocks_of, cut},
    status::{LayerStatus, LayersStatus, PartKind, PartStatus, SourceStatus},
};
use bytes::Bytes;
use region_wire::Reply;
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};
use upstairs::{
    Action, ActivateError, Data, Job, JobError, JobId, Members, MembersError, PLACES, PeerId, Upstairs,
};

/// Jobs that wait for the activation at most, before nothing more is to be asked.
const WAITING_MAX: usize = 256;

/// Pieces that are under way, and answers that are held, before nothing more is to be asked. One job more may have as many as it has blocks.
const PIECES_MAX: usize = 4_096;

/// A region set.
#[derive(Debug)]
pub(crate) struct Set {
    pub(crate) upstairs: Upstairs,
    pub(crate) layer: usize,
}

/// Layers of parts.
#[derive(Debug)]
pub(crate) struct Layered {
    pub(crate) block_bytes: u64,
    pub(crate) layers: Vec<Layer>,
    pub(crate) sets: Vec<Set>,
    pub(crate) queues: Vec<Queue>,
    /// Whether a part of the uppermost layer cannot be written.
    pub(crate) is_read_only: bool,
    pub(crate) is_activated: bool,
    pub(crate) now: Duration,
    pub(crate) waiting: VecDeque<(JobId, Job)>,
    pub(crate) jobs: BTreeMap<JobId, Asked>,
    /// Those of them that compare, to which nothing gives way.
    pub(crate) comparing: BTreeSet<JobId>,
    pub(crate) pieces: BTreeMap<u64, Piece>,
    pub(crate) next_piece: u64,
    pub(crate) held: VecDeque<Held>,
    /// What sets have said, and was not looked at.
    pub(crate) todo: VecDeque<(usize, Vec<Action>)>,
    actions: Vec<Action>,
    /// When a client has asked something last.
    pub(crate) asked_at: Duration,
    /// What is copied from the layers below, if something is.
    pub(crate) scrub: Option<Box<Scrub>>,
    pub(crate) said_to_scrub: VecDeque<Action>,
    pub(crate) next_own_job: u64,
    /// Nothing is seen through to the layers below any more. They go when nobody waits for them.
    pub(crate) is_without_parents: bool,
    fetches: Vec<Fetch>,
    next_fetch: u64,
    fetch_of: BTreeMap<FetchId, SourceId>,
}

impl Layered {
    pub(crate) fn new(block_bytes: u64) -> Layered {
        Layered {
            block_bytes,
            layers: Vec::new(),
            sets: Vec::new(),
            queues: Vec::new(),
            is_read_only: false,
            is_activated: false,
            now: Duration::ZERO,
            waiting: VecDeque::new(),
            jobs: BTreeMap::new(),
            comparing: BTreeSet::new(),
            pieces: BTreeMap::new(),
            next_piece: 0,
            held: VecDeque::new(),
            todo: VecDeque::new(),
            actions: Vec::new(),
            asked_at: Duration::ZERO,
            scrub: None,
            said_to_scrub: VecDeque::new(),
            next_own_job: 0,
            is_without_parents: false,
            fetches: Vec::new(),
            next_fetch: 0,
            fetch_of: BTreeMap::new(),
        }
    }

    /// Puts a layer under the others.
    pub(crate) fn add_layer(&mut self) {
        self.layers.push(Layer::default());
    }

    /// Puts a region set behind the other parts of the lowest layer.
    pub(crate) fn add_set(&mut self, upstairs: Upstairs, blocks: u64) {
        let (number, layer) = (self.sets.len(), self.layers.len() - 1);
        self.sets.push(Set { upstairs, layer });
        self.layers[layer].push(PartId::Set(number), blocks);
    }

    /// The same of a source.
    pub(crate) fn add_source(&mut self, queue: Queue) {
        let layer = self.layers.len() - 1;
        self.is_read_only |= layer == 0;
        self.layers[layer].push(PartId::Source(self.queues.len()), queue.blocks);
        self.queues.push(queue);
    }

    pub(crate) fn act(&mut self, action: Action) {
        match &action {
            Action::Read(id, ..) | Action::Looked(id, _) | Action::Done(id, _) if is_own(*id) => {
                self.said_to_scrub.push_back(action);
            }
            _ => self.actions.push(action),
        }
    }

    /// How many layers a job sees, if it is under way. A set may have said that nobody ever wrote a block, and be heard when it was copied, and the
    /// parent given up: then that one is asked all the same.
    pub(crate) fn depth_of(&self, job: JobId) -> Option<usize> {
        let asked = self.jobs.get(&job)?;
        let is_late = !Rule::WhatWasBegunSeesThrough.is_kept() && self.is_without_parents;
        Some(if asked.is_through && !is_late { self.layers.len() } else { 1 })
    }

    /// From now on nothing lies under it.
    pub(crate) fn drop_parents(&mut self, now: Duration) -> Result<Vec<Action>, ParentNeeded> {
        self.now = now;
        self.may_drop_parents()?;
        self.is_without_parents = true;
        Ok(self.step())
    }

    /// What lies under it goes, when nobody waits for it any more.
    fn let_parents_go(&mut self) {
        if !self.is_without_parents || self.layers.len() == 1 {
            return;
        }
        let is_kept = Rule::WhatWasBegunSeesThrough.is_kept();
        let sees_through = is_kept && self.jobs.values().any(|asked| asked.is_through);
        if sees_through || self.pieces.values().any(|piece| piece.layer > 0) {
            return;
        }
        let own = self.sets.iter().filter(|set| set.layer == 0).count();
        for number in own..self.sets.len() {
            let places: Vec<PeerId> = self.sets[number].upstairs.members().map(|(place, _)| place).collect();
            places
                .into_iter()
                .for_each(|place| self.act(Action::Disconnect(PeerId(number * PLACES + place.0))));
        }
        self.sets.truncate(own);
        self.layers.truncate(1);
        // It can be written, so none of these is its own.
        self.queues.clear();
        self.fetches.clear();
        self.fetch_of.clear();
        self.scrub = None;
    }

    pub(crate) fn blocks_of(&self, bytes: &Bytes) -> u64 {
        bytes.len() as u64 / self.block_bytes
    }

    pub(crate) fn activate(&mut self, now: Duration) -> Vec<Action> {
        self.now = now;
        for set in 0..self.sets.len() {
            let actions = self.sets[set].upstairs.activate(now);
            self.todo.push_back((set, actions));
        }
        self.begin_waiting_jobs();
        self.step()
    }

    pub(crate) fn activate_with(&mut self, now: Duration, epoch: u32) -> Result<Vec<Action>, ActivateError> {
        self.now = now;
        if epoch == 0 {
            return Err(ActivateError::NoEpoch);
        }
        // Its own sets are all idle, with the same least epoch, or none is: if one refuses, nothing has changed.
        for set in (0..self.sets.len()).filter(|set| self.sets[*set].layer == 0).collect::<Vec<_>>() {
            let actions = self.sets[set].upstairs.activate_with(now, epoch)?;
            self.todo.push_back((set, actions));
        }
        Ok(self.activate(now))
    }

    fn begin_waiting_jobs(&mut self) {
        self.is_activated = true;
        for (id, job) in std::mem::take(&mut self.waiting) {
            self.begin(id, job);
        }
    }

    pub(crate) fn has_room(&self) -> bool {
        let waiting: usize = self.queues.iter().map(Queue::waiting).sum();
        self.waiting.len() < WAITING_MAX
            && self.pieces.len() + self.held.len() + waiting < PIECES_MAX
            && self.sets.iter().all(|set| set.upstairs.has_room())
    }

    pub(crate) fn submit(&mut self, now: Duration, id: JobId, job: Job) -> Vec<Action> {
        self.now = now;
        self.submit_job(id, job);
        self.step()
    }

    pub(crate) fn give_up(&mut self, now: Duration, id: JobId) -> Vec<Action> {
        self.now = now;
        self.give_up_compare(id);
        self.step()
    }

    /// Something that a member does, told to the Upstairs that it is a member of.
    pub(crate) fn tell_upstairs(
        &mut self,
        now: Duration,
        peer: PeerId,
        tell: impl FnOnce(&mut Upstairs, PeerId) -> Vec<Action>,
    ) -> Vec<Action> {
        self.now = now;
        let (number, place) = divided(peer);
        // One of a set that lay under it, and does no more, is nobody's.
        if let Some(set) = self.sets.get_mut(number) {
            let actions = tell(&mut set.upstairs, place);
            self.todo.push_back((number, actions));
        }
        self.step()
    }

    pub(crate) fn received(&mut self, now: Duration, peer: PeerId, replies: Vec<Reply>) -> Vec<Action> {
        self.tell_upstairs(now, peer, |upstairs, place| upstairs.received(now, place, replies))
    }

    /// Of which Upstairs a member is, and its place there; none if it lay under the volume, and does no more.
    pub(crate) fn upstairs_of(&self, peer: PeerId) -> Option<(&Upstairs, PeerId)> {
        let (set, place) = divided(peer);
        Some((&self.sets.get(set)?.upstairs, place))
    }

    pub(crate) fn set_members(
        &mut self,
        now: Duration,
        set: usize,
        members: &Members,
    ) -> Result<Vec<Action>, MembersError> {
        self.now = now;
        let actions = self.sets[set].upstairs.set_members(now, members)?;
        self.todo.push_back((set, actions));
        Ok(self.step())
    }

    pub(crate) fn tick(&mut self, now: Duration) -> Vec<Action> {
        self.now = now;
        for (number, set) in self.sets.iter_mut().enumerate() {
            self.todo.push_back((number, set.upstairs.tick(now)));
        }
        self.step()
    }

    pub(crate) fn fetched(
        &mut self,
        now: Duration,
        id: FetchId,
        result: Result<Vec<Data>, FetchError>,
    ) -> Vec<Action> {
        self.now = now;
        let Some(source) = self.fetch_of.remove(&id) else { return self.step() };
        let queue = &mut self.queues[source.0];
        let Some(fetch) = queue.end(id) else { return self.step() };
        match result {
            Ok(all) => {
                let blocks: u64 = all.iter().map(|data| blocks_of(data, self.block_bytes)).sum();
                assert_eq!(blocks, fetch.count, "a fetch is answered with all of its blocks");
                queue.trouble = None;
                queue.fetches += 1;
                queue.fetched_bytes += blocks * self.block_bytes;
                for part in fetch.wanted {
                    let own = cut(&all, self.block_bytes, part.first - fetch.first, part.count);
                    self.note_fetched(part, own);
                }
            }
            Err(FetchError(why)) => {
                queue.failed += 1;
                queue.trouble = Some(why.clone());
                let source_name = queue.source.to_string();
                for part in fetch.wanted {
                    let Some(piece) = self.pieces.get(&part.piece) else { continue };
                    let block = piece.base + part.first;
                    let (source_name, why) = (source_name.clone(), why.clone());
                    self.fail(piece.job, JobError::NotFetched { block, source_name, why });
                }
            }
        }
        self.step()
    }

    fn note_fetched(&mut self, part: Wanted, own: Vec<(u64, Data)>) {
        let Some(piece) = self.pieces.get_mut(&part.piece) else { return };
        piece.missing -= part.count;
        let piece = *piece;
        for (behind, data) in own {
            // A source never changes: what it says that nobody wrote needs no right to be told.
            self.note_read(None, piece, piece.base + part.first + behind, data);
        }
        if piece.missing == 0 {
            self.end_piece(part.piece, Ok(()));
        }
    }

    /// What follows from what has changed, and all that is to be done.
    pub(crate) fn step(&mut self) -> Vec<Action> {
        loop {
            while let Some((set, actions)) = self.todo.pop_front() {
                for action in actions {
                    self.hear(set, action);
                }
            }
            self.release_held();
            if !self.go_on_scrubbing() {
                break;
            }
        }
        self.let_parents_go();
        self.begin_fetches();
        std::mem::take(&mut self.actions)
    }

    fn hear(&mut self, set: usize, action: Action) {
        let renumbered = |peer: PeerId| PeerId(set * PLACES + peer.0);
        match action {
            Action::Connect(peer) => self.act(Action::Connect(renumbered(peer))),
            Action::Disconnect(peer) => self.act(Action::Disconnect(renumbered(peer))),
            Action::Send(peer, request) => self.act(Action::Send(renumbered(peer), request)),
            Action::Read(JobId(number), block, data) => {
                if let Some(piece) = self.pieces.get(&number).copied() {
                    self.note_read(Some(set), piece, piece.base + block, data);
                }
            }
            Action::Looked(JobId(number), runs) => {
                if let Some(piece) = self.pieces.get(&number).copied() {
                    self.note_looked(set, piece, runs);
                }
            }
            Action::Snapshotted(JobId(number), regions) => self.note_snapshotted(number, regions),
            Action::Compared(JobId(number), copies) => self.note_compared(number, copies),
            Action::Done(JobId(number), result) => self.end_piece(number, result),
        }
    }

    fn begin_fetches(&mut self) {
        let pieces = &self.pieces;
        for (number, queue) in self.queues.iter_mut().enumerate() {
            while let Some((first, count)) =
                queue.begin(FetchId(self.next_fetch), |piece| pieces.contains_key(&piece))
            {
                let (id, source) = (FetchId(self.next_fetch), SourceId(number));
                self.next_fetch += 1;
                self.fetch_of.insert(id, source);
                self.fetches.push(Fetch { id, source, first, count });
            }
        }
    }

    pub(crate) fn take_fetches(&mut self) -> Vec<Fetch> {
        std::mem::take(&mut self.fetches)
    }

    pub(crate) fn status(&self, now: Duration) -> LayersStatus {
        let kind = |part: PartId| match part {
            PartId::Set(set) => PartKind::RegionSet(Box::new(self.sets[set].upstairs.status(now))),
            PartId::Source(source) => self.source_kind(&self.queues[source]),
        };
        let layer = |layer: &Layer| LayerStatus {
            blocks: layer.blocks,
            parts: layer
                .places
                .iter()
                .map(|place| PartStatus {
                    first_block: place.first,
                    blocks: place.blocks,
                    kind: kind(place.part),
                })
                .collect(),
        };
        LayersStatus {
            block_bytes: u32::try_from(self.block_bytes).expect("a block is small"),
            blocks: self.layers[0].blocks,
            is_read_only: self.is_read_only,
            is_activated: self.is_activated,
            jobs_waiting: self.waiting.len() as u64,
            jobs_under_way: self.under_way() as u64,
            scrub: self.scrub_status(),
            layers: self.layers.iter().map(layer).collect(),
        }
    }

    fn source_kind(&self, queue: &Queue) -> PartKind {
        let status = SourceStatus {
            name: queue.source.to_string(),
            fetches: queue.fetches,
            fetched_bytes: queue.fetched_bytes,
            failed: queue.failed,
            waiting: queue.waiting() as u64,
            under_way: queue.under_way() as u64,
            trouble: queue.trouble.clone(),
        };
        match queue.source {
            crate::Source::File { .. } => PartKind::File(status),
            crate::Source::Url { .. } => PartKind::Url(status),
            crate::Source::Snapshot(_) => PartKind::Snapshot(status),
        }
    }
}

/// Which set a member of the volume is in, and its place there.
pub(crate) fn divided(peer: PeerId) -> (usize, PeerId) {
    (peer.0 / PLACES, PeerId(peer.0 % PLACES))
}
