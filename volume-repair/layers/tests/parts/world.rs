//! A volume, its parts, its clients, and chance, which decides what happens next.

use crate::{
    history::{History, Instant, Mark},
    sites::{BLOCK, FromMember, Site, ToMember},
};
use bytes::Bytes;
use ids::RegionId;
use rand::{Rng, SeedableRng, rngs::StdRng};
use region::BlockSize;
use region_wire::Request;
use std::{collections::BTreeMap, time::Duration};
use upstairs::{Action, At, CopyCompared, Data, Holds, Job, JobError, JobId, PLACES, PeerId, Run};
use volume_layers::{
    Composition, Fetch, FetchError, Part, ScrubPhase, ScrubStatus, Source, Volume, VolumeStatus,
};

/// The bytes of a block with this content.
pub(crate) fn block(mark: Mark) -> Vec<u8> {
    mark.to_le_bytes().repeat(BLOCK / 8)
}

/// A part of a layer, outside of the volume.
pub(crate) enum Ground {
    Set(Site),
    /// None where nobody ever wrote, as in a snapshot.
    Source(Vec<Option<Mark>>),
}

impl Ground {
    pub(crate) fn blocks(&self) -> u64 {
        match self {
            Ground::Set(site) => site.blocks,
            Ground::Source(marks) => marks.len() as u64,
        }
    }
}

/// What a client has asked, and what it was told so far.
struct Asked {
    job: Job,
    began: Instant,
    marks: Vec<Mark>,
    read: BTreeMap<u64, Mark>,
    looked: Option<Vec<Run>>,
    /// Of each own set, what was acknowledged when a flush was asked for.
    acknowledged: Vec<At>,
}

/// Everything.
pub(crate) struct World {
    pub(crate) random: StdRng,
    pub(crate) volume: Volume,
    pub(crate) layers: Vec<Vec<Ground>>,
    history: History,
    pub(crate) now: Duration,
    step: Instant,
    next_job: u64,
    next_mark: Mark,
    asked: BTreeMap<JobId, Asked>,
    pub(crate) fetches: Vec<Fetch>,
    /// How often a source answers with an error, of 1000 times.
    pub(crate) errors: u32,
    pub(crate) failed: Vec<JobError>,
    /// A member of which nothing arrives, for the time being.
    pub(crate) mute: Option<usize>,
    /// The regions that have the snapshot that was taken last.
    pub(crate) snapshotted: Vec<RegionId>,
    pub(crate) compared: Vec<CopyCompared>,
    pub(crate) reads: u64,
    pub(crate) looks: u64,
    last_look: Vec<Run>,
}

impl World {
    /// A volume of these parts, which nobody has activated.
    pub(crate) fn new(seed: u64, layers: Vec<Vec<Ground>>, epoch: u32, initial: &[Mark]) -> World {
        let mut sizes = Vec::new();
        let parts = |layer: &Vec<Ground>| -> Vec<Part> {
            let part = |ground: &Ground| match ground {
                Ground::Set(site) => site.part(epoch),
                Ground::Source(marks) => {
                    sizes.push(marks.len() as u64);
                    Part::Source(Source::File { path: "/base.img".into() })
                }
            };
            layer.iter().map(part).collect()
        };
        let layers_of = layers.iter().map(parts).collect();
        let composition = Composition { block_size: BlockSize::B512, layers: layers_of };
        World {
            random: StdRng::seed_from_u64(seed),
            volume: Volume::new(composition, &sizes),
            layers,
            history: History::new(initial),
            now: Duration::ZERO,
            step: 1,
            next_job: 0,
            next_mark: 1_000_000 * u64::from(epoch),
            asked: BTreeMap::new(),
            fetches: Vec::new(),
            errors: 0,
            failed: Vec::new(),
            mute: None,
            snapshotted: Vec::new(),
            compared: Vec::new(),
            reads: 0,
            looks: 0,
            last_look: Vec::new(),
        }
    }

    pub(crate) fn activate(&mut self) {
        let actions = self.volume.activate(self.now);
        self.perform(actions);
    }

    /// The sites in the order in which their members are numbered.
    fn sites(&mut self) -> impl Iterator<Item = &mut Site> {
        self.layers.iter_mut().flatten().filter_map(|ground| match ground {
            Ground::Set(site) => Some(site),
            Ground::Source(_) => None,
        })
    }

    fn source(&self, number: usize) -> &[Option<Mark>] {
        let sources = self.layers.iter().flatten().filter_map(|ground| match ground {
            Ground::Set(_) => None,
            Ground::Source(marks) => Some(marks),
        });
        sources.into_iter().nth(number).expect("it is one of them")
    }

    fn perform(&mut self, actions: Vec<Action>) {
        self.step += 1;
        for action in actions {
            match action {
                Action::Connect(peer) => self.say(peer, ToMember::Connect),
                Action::Disconnect(peer) => {
                    self.seat(peer).from_member.clear();
                    self.say(peer, ToMember::Disconnect);
                }
                Action::Send(peer, request) => self.say(peer, ToMember::Request(request)),
                Action::Read(id, first, data) => self.note_read(id, first, &data),
                Action::Looked(id, runs) => {
                    let asked = self.asked.get_mut(&id).expect("it is under way");
                    assert!(asked.looked.replace(runs).is_none(), "told twice");
                }
                Action::Compared(_, copies) => self.compared = copies,
                Action::Snapshotted(_, regions) => self.snapshotted = regions,
                Action::Done(id, result) => self.note_done(id, result),
            }
        }
        self.fetches.extend(self.volume.take_fetches());
    }

    fn say(&mut self, peer: PeerId, what: ToMember) {
        self.seat(peer).to_member.push_back(what);
    }

    fn seat(&mut self, peer: PeerId) -> &mut crate::sites::Seat {
        let mut sites = self.sites();
        let site = sites.nth(peer.0 / PLACES).expect("it is a member of one of them");
        &mut site.members[peer.0 % PLACES]
    }

    fn note_read(&mut self, id: JobId, first: u64, data: &Data) {
        let asked = self.asked.get_mut(&id).expect("it is under way");
        let marks: Vec<Mark> = match data {
            Data::Zeros(count) | Data::Never(count) => {
                vec![0; usize::try_from(*count).expect("it is small")]
            }
            Data::Bytes(bytes) => bytes.chunks(BLOCK).map(mark_of).collect(),
        };
        assert!(!marks.is_empty(), "a part of a read is something");
        for (block, mark) in (first..).zip(marks) {
            assert!(asked.read.insert(block, mark).is_none(), "block {block} is told twice");
        }
    }

    fn note_done(&mut self, id: JobId, result: Result<(), JobError>) {
        let asked = self.asked.remove(&id).expect("a job is done once");
        if let Err(error) = result {
            // It may have been written, or not, from now on.
            return self.failed.push(error);
        }
        let time = (asked.began, self.step);
        match asked.job {
            Job::Read { first, count } => {
                self.reads += 1;
                assert_eq!(asked.read.len() as u64, count, "all blocks are told");
                for (block, mark) in asked.read {
                    assert!((first..first + count).contains(&block), "block {block} was not asked for");
                    assert!(
                        self.history.allows(block, mark, time),
                        "block {block} cannot have {mark} at {time:?}: {:?}",
                        self.history
                    );
                }
            }
            Job::Look { first, count } => {
                self.looks += 1;
                let runs = asked.looked.expect("something is told before it is done");
                let told: u64 = runs.iter().map(|run| run.blocks).sum();
                assert!((1..=count).contains(&told), "{told} blocks are told of {count}");
                self.last_look.clone_from(&runs);
                let mut at = first;
                for run in runs {
                    let zeros = run.holds != Holds::Bytes;
                    for block in at..at + run.blocks {
                        let allows = !zeros || self.history.allows(block, 0, time);
                        assert!(allows, "block {block} is no zeros at {time:?}: {run:?}");
                    }
                    at += run.blocks;
                }
            }
            Job::Write { first, .. } | Job::Zero { first, .. } => {
                for (block, mark) in (first..).zip(asked.marks) {
                    self.history.end(block, mark, asked.began, self.step);
                }
            }
            Job::Flush => self.check_flushed(&asked.acknowledged),
            Job::Compare { .. } | Job::Snapshot(_) | Job::DeleteSnapshot(_) => {}
        }
    }

    fn acknowledged(&self) -> Vec<At> {
        self.own_sets().iter().map(|(acknowledged, _)| *acknowledged).collect()
    }

    /// Of each own set, what was acknowledged, and what each member has durably.
    fn own_sets(&self) -> Vec<(At, Vec<At>)> {
        let own = self.layers[0].iter().filter(|ground| matches!(ground, Ground::Set(_))).count();
        let status = self.volume.status(self.now);
        let of = |set: &upstairs::Status| {
            (set.acknowledged, set.members.iter().map(|member| member.durable).collect())
        };
        status.sets().take(own).map(of).collect()
    }

    fn check_flushed(&self, acknowledged: &[At]) {
        for (wanted, (_, durable)) in acknowledged.iter().zip(self.own_sets()) {
            let have = durable.iter().filter(|durable| *durable >= wanted).count();
            assert!(have >= 2, "two have {wanted:?} durably: {durable:?}");
        }
    }

    /// A client asks this.
    pub(crate) fn submit(&mut self, job: Job) -> JobId {
        let (id, began) = (JobId(self.next_job), self.step);
        self.next_job += 1;
        let (first, marks) = match &job {
            Job::Write { first, bytes, .. } => (*first, bytes.chunks(BLOCK).map(mark_of).collect()),
            Job::Zero { first, count, .. } => {
                (*first, vec![0; usize::try_from(*count).expect("it is small")])
            }
            _ => (0, Vec::new()),
        };
        if !self.volume.is_read_only() {
            (first..).zip(&marks).for_each(|(block, mark)| self.history.begin(block, *mark, began));
        }
        let acknowledged = self.acknowledged();
        let (read, looked) = (BTreeMap::new(), None);
        self.asked.insert(id, Asked { job: job.clone(), began, marks, read, looked, acknowledged });
        let actions = self.volume.submit(self.now, id, job);
        self.perform(actions);
        id
    }

    /// Nobody waits for a comparison any more.
    pub(crate) fn give_up(&mut self, id: JobId) {
        self.asked.remove(&id).expect("it is under way");
        let actions = self.volume.give_up_compare(self.now, id);
        self.perform(actions);
    }

    pub(crate) fn is_under_way(&self, id: JobId) -> bool {
        self.asked.contains_key(&id)
    }

    /// Whether something of it was told.
    pub(crate) fn is_told(&self, id: JobId) -> bool {
        self.asked.get(&id).is_some_and(|asked| !asked.read.is_empty() || asked.looked.is_some())
    }

    /// What lies under is copied in, from now on.
    pub(crate) fn start_scrub(&mut self) -> bool {
        let started = self.volume.start_scrub(self.now).map(|actions| self.perform(actions));
        started.is_ok()
    }

    pub(crate) fn stop_scrub(&mut self) {
        let actions = self.volume.stop_scrub(self.now);
        self.perform(actions);
    }

    /// Nothing lies under it from now on, if that may be.
    pub(crate) fn drop_parents(&mut self) -> bool {
        let dropped = self.volume.drop_parents(self.now).map(|actions| self.perform(actions));
        dropped.is_ok()
    }

    pub(crate) fn scrub(&self) -> Option<ScrubStatus> {
        match self.volume.status(self.now) {
            VolumeStatus::Layers(status) => status.scrub,
            VolumeStatus::Upstairs(_) => None,
        }
    }

    /// Everything happens until all that lies under is copied.
    pub(crate) fn finish_scrub(&mut self) {
        for _ in 0..2_000 {
            while self.happen() {}
            if self.scrub().is_some_and(|scrub| scrub.phase == ScrubPhase::Done) {
                return;
            }
            self.tick();
        }
        panic!("after 500 s it is not copied: {:?}", self.scrub());
    }

    /// So much time goes by, and whatever was begun happens.
    pub(crate) fn settle_for(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            while self.happen() {}
            self.tick();
        }
    }

    /// A member's process is gone, with all that is on its way to it and from it; or it is back.
    pub(crate) fn turn(&mut self, peer: usize) {
        let seat = self.seat(PeerId(peer));
        seat.is_away = !seat.is_away;
        if seat.is_away {
            seat.end();
            self.say_as_member(peer, FromMember::Disconnected);
        }
    }

    /// All are there.
    pub(crate) fn turn_all_back(&mut self) {
        self.sites().flat_map(|site| &mut site.members).for_each(|seat| seat.is_away = false);
    }

    pub(crate) fn submit_any(&mut self) {
        let blocks = self.volume.blocks();
        let first = self.random.random_range(0..blocks);
        let count = self.random.random_range(1..=(blocks - first).min(30));
        let is_durable = self.random.random_bool(0.2);
        let job = match self.random.random_range(0..10) {
            0..4 => Job::Read { first, count },
            4 => Job::Look { first, count },
            5..7 => Job::Write { first, bytes: self.new_blocks(count), is_durable },
            7..9 => Job::Zero { first, count, is_durable },
            _ => Job::Flush,
        };
        self.submit(job);
    }

    fn new_blocks(&mut self, count: u64) -> Bytes {
        let next = self.next_mark;
        self.next_mark += count;
        (next..next + count).flat_map(block).collect::<Vec<u8>>().into()
    }

    /// Something happens. False if nothing is left that could, but for time.
    pub(crate) fn happen(&mut self) -> bool {
        let seats: Vec<(usize, bool, bool)> = self
            .sites()
            .enumerate()
            .flat_map(|(number, site)| (number * PLACES..).zip(&site.members))
            .map(|(peer, seat)| (peer, !seat.to_member.is_empty(), !seat.from_member.is_empty()))
            .collect();
        let to = seats.iter().filter(|(_, to, _)| *to).map(|(peer, ..)| (*peer, true));
        let from = seats
            .iter()
            .filter(|(peer, _, from)| *from && Some(*peer) != self.mute)
            .map(|(peer, ..)| (*peer, false));
        let messages: Vec<(usize, bool)> = to.chain(from).collect();
        let choices = messages.len() + self.fetches.len();
        if choices == 0 {
            return false;
        }
        let choice = self.random.random_range(0..choices);
        match messages.get(choice) {
            Some((peer, true)) => self.seat(PeerId(*peer)).hear(),
            Some((peer, false)) => self.deliver(PeerId(*peer)),
            None => self.answer_fetch(choice - messages.len()),
        }
        true
    }

    /// The same, but no source answers.
    pub(crate) fn happen_but_fetch(&mut self) -> bool {
        let fetches = std::mem::take(&mut self.fetches);
        let happened = self.happen();
        self.fetches.splice(0..0, fetches);
        happened
    }

    /// The member that is asked for blocks, and has not heard it.
    pub(crate) fn asked_for_blocks(&mut self) -> usize {
        let is_read = |what: &ToMember| matches!(what, ToMember::Request(Request::Read { .. }));
        let mut seats =
            self.sites().enumerate().flat_map(|(number, site)| (number * PLACES..).zip(&site.members));
        let asked = seats.find(|(_, seat)| seat.to_member.iter().any(is_read));
        asked.expect("somebody is asked").0
    }

    /// A member says this, now.
    pub(crate) fn say_as_member(&mut self, peer: usize, what: FromMember) {
        self.seat(PeerId(peer)).from_member.push_front(what);
        self.deliver(PeerId(peer));
    }

    /// What is told of these blocks, in words.
    pub(crate) fn look(&mut self, first: u64, count: u64) -> Vec<String> {
        self.submit(Job::Look { first, count });
        self.settle();
        let told = self.last_look.iter();
        told.map(|run| format!("{} {:?}", run.blocks, run.holds)).collect()
    }

    fn deliver(&mut self, peer: PeerId) {
        let Some(said) = self.seat(peer).from_member.pop_front() else { return };
        let actions = match said {
            FromMember::Connected(is_there) => self.volume.connected(self.now, peer, is_there),
            FromMember::Reply(reply) => self.volume.received(self.now, peer, vec![reply]),
            FromMember::Disconnected => self.volume.disconnected(self.now, peer),
        };
        self.perform(actions);
    }

    pub(crate) fn answer_fetch(&mut self, choice: usize) {
        let fetch = self.fetches.swap_remove(choice);
        let marks = self.source(fetch.source.0);
        let range = usize::try_from(fetch.first).expect("small")
            ..usize::try_from(fetch.first + fetch.count).expect("small");
        let all = marks[range].iter().map(|mark| match mark {
            // Zeros may be said without their bytes.
            Some(0) if fetch.id.0.is_multiple_of(2) => Data::Zeros(1),
            Some(mark) => Data::Bytes(block(*mark).into()),
            None => Data::Never(1),
        });
        let all = all.collect();
        let fails = self.random.random_range(0..1_000) < self.errors;
        let result = if fails { Err(FetchError("it is broken".to_owned())) } else { Ok(all) };
        let actions = self.volume.fetched(self.now, fetch.id, result);
        self.perform(actions);
    }

    pub(crate) fn tick(&mut self) {
        self.now += Duration::from_millis(250);
        let actions = self.volume.tick(self.now);
        self.perform(actions);
    }

    /// Everything happens that was begun.
    pub(crate) fn settle(&mut self) {
        for _ in 0..200 {
            while self.happen() {}
            if self.asked.is_empty() {
                return;
            }
            self.tick();
        }
        let left: Vec<&Job> = self.asked.values().map(|asked| &asked.job).collect();
        panic!("after 50 s these are not answered: {left:?}; {:?}", self.volume.status(self.now));
    }
}

fn mark_of(bytes: &[u8]) -> Mark {
    let mark = Mark::from_le_bytes(bytes[..8].try_into().expect("a block is larger"));
    assert_eq!(bytes, block(mark), "a block is one block");
    mark
}
