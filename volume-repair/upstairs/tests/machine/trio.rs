//! Three real members on simulated disks, and more that may take their places; and an Upstairs whose messages arrive at once.

use bytes::Bytes;
use camino::Utf8Path;
use downstairs::{ConnectionId, Effect, Member};
use durable_fs::{DiskFaults, FaultyDisk, SimDisk, SimMachine};
use ids::{RegionId, RegionSetId};
use region::{
    BlockSize, Geometry, Held, Identity, List, ListVersion, Member as Named, NewContent, NewRegion, Onto,
    Opening, Position, Promotion, Seal, What, Write, checksum,
};
use region_wire::{Haste, Reply, Request};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};
use upstairs::{
    Action, Config, CopyCompared, Data, Job, JobError, JobId, Limits, Members, MembersError, Patience,
    PeerId, Upstairs,
};
use uuid::Uuid;
use volume_seals::{Sealer, SealingSession, VolumeKey};

const PATH: &str = "region";
pub(crate) const BLOCKS: u64 = 40;
pub(crate) const SIZE: usize = 512;

pub(crate) fn set() -> RegionSetId {
    RegionSetId(Uuid::from_u128(50))
}

pub(crate) fn named(number: usize) -> Named {
    Named { region: RegionId(Uuid::from_u128(number as u128 + 1)), incarnation: 7 }
}

/// Three members, and more.
pub(crate) struct Trio {
    geometry: Geometry,
    sleds: Vec<(SimMachine, SimDisk)>,
    pub(crate) members: Vec<Member>,
    pub(crate) faults: Vec<DiskFaults>,
    /// Those that are not reached.
    pub(crate) away: Vec<usize>,
    /// How much its writers do at a time.
    pub(crate) limits: Limits,
    /// Done once, when a member that is filled has taken a copy.
    pub(crate) behind_an_install: Option<fn(&mut Trio)>,
}

impl Trio {
    /// Of regions with or without seals.
    pub(crate) fn new(is_sealed: bool) -> Trio {
        let geometry = Geometry { block_size: BlockSize::B512, blocks: BLOCKS, is_sealed };
        let full: Vec<Named> = (0..3).map(named).collect();
        let list = List { version: ListVersion { epoch: 0, number: 1 }, base: Position::NONE, full };
        let (sleds, members, faults) = (Vec::new(), Vec::new(), Vec::new());
        let (away, limits) = (Vec::new(), Limits { range_blocks: BLOCKS, ..Limits::default() });
        let mut trio = Trio { geometry, sleds, members, faults, away, limits, behind_an_install: None };
        (0..3).for_each(|_| trio.add(list.clone()));
        trio
    }

    /// One more, which is full only if this list has it.
    pub(crate) fn add(&mut self, list: List) {
        let (number, machine) = (self.members.len(), SimMachine::new());
        let disk = machine.add_disk(1 << 25);
        let identity = Identity { region: named(number).region, set: set(), geometry: self.geometry };
        let new = NewRegion { identity, incarnation: 7, list, salt: number as u64 };
        region::create(&disk, Utf8Path::new(PATH), &new).expect("it is made");
        self.sleds.push((machine, disk));
        self.faults.push(DiskFaults::new());
        let member = self.open(number, 1);
        self.members.push(member);
    }

    fn open(&self, number: usize, boot: u128) -> Member {
        let disk = FaultyDisk::new(self.sleds[number].1.clone(), self.faults[number].clone());
        let opening = Opening { life: u64::try_from(boot).expect("few"), boot: Uuid::from_u128(boot) };
        Member::new(region::open(Arc::new(disk), Utf8Path::new(PATH), opening).expect("it opens"))
    }

    /// Its power fails, and it is there again, with what the seed has left of what was not durable.
    pub(crate) fn lose_power(&mut self, number: usize, seed: u64) {
        self.sleds[number].0.crash(seed);
        self.members[number] = self.open(number, 2);
    }

    pub(crate) fn held(&mut self, member: usize, block: u64) -> (Seal, Vec<u8>, Position) {
        let mut bytes = Vec::new();
        let held = self.members[member].region_mut().read(block..block + 1, &mut bytes).expect("it reads");
        let Held { version, what: What::Bytes { seal, .. } } = held[0] else { panic!("no bytes: {held:?}") };
        (seal, bytes, version)
    }

    /// Somebody changes a block of one member, and makes its checksum right.
    pub(crate) fn forge(&mut self, member: usize, block: u64, change: impl FnOnce(&mut Vec<u8>, &mut Seal)) {
        let (mut seal, mut bytes, version) = self.held(member, block);
        change(&mut bytes, &mut seal);
        let (checksums, seals) = ([checksum(block, &bytes)], [seal]);
        let seals = &seals[..usize::from(self.geometry.is_sealed)];
        let content = NewContent::Bytes { bytes: &bytes, checksums: &checksums, seals };
        let write = Write { version, block, content, onto: Onto::Same };
        let region = self.members[member].region_mut();
        assert_eq!(region.write(region.applied(), &[write]).expect("it is written"), 1);
    }

    pub(crate) fn digests(&mut self) -> Vec<u128> {
        let all = self.members.iter_mut();
        all.map(|member| member.region_mut().digest(0..BLOCKS).expect("it reads")).collect()
    }
}

/// An Upstairs, and its connections to all three.
pub(crate) struct Writer {
    pub(crate) upstairs: Upstairs,
    /// Which member each place was connected to last.
    places: BTreeMap<PeerId, usize>,
    epoch: u32,
    pub(crate) now: Duration,
    next_job: u64,
    parts: Vec<(u64, Data)>,
    /// The jobs that have ended and were not looked at.
    ended: BTreeMap<JobId, Result<(), JobError>>,
    /// The regions that have the snapshot that a job has taken.
    pub(crate) snapshots: BTreeMap<JobId, Vec<RegionId>>,
    /// What was found when members were compared last.
    compared: Vec<CopyCompared>,
    /// This member's connection is gone behind what it reads next.
    pub(crate) lost_behind_a_read: Option<usize>,
    /// What is sent to this member does not arrive, and is kept for it.
    pub(crate) slow: Option<usize>,
    on_its_way: VecDeque<Action>,
    /// Of all that was asked for copies.
    pub(crate) hastes: Vec<Haste>,
}

impl Writer {
    /// Of a session and a key, of which regions without seals need none; active when this returns.
    pub(crate) fn start(trio: &mut Trio, epoch: u32, key: u8) -> Writer {
        Writer::start_with(trio, epoch, key, Patience::default())
    }

    /// The same, for clients that do not wait for ever.
    pub(crate) fn start_with(trio: &mut Trio, epoch: u32, key: u8, patience: Patience) -> Writer {
        let mut writer = Writer::idle(trio, epoch, key, patience);
        let actions = writer.upstairs.activate(Duration::ZERO);
        writer.perform(trio, actions);
        writer.tick(trio);
        writer
    }

    /// The same, not activated.
    pub(crate) fn idle(trio: &Trio, epoch: u32, key: u8, patience: Patience) -> Writer {
        Writer::idle_of(Members::only((0..3).map(named).collect()), trio, epoch, key, patience, false)
    }

    /// One full member is enough for it.
    pub(crate) fn start_lossy(trio: &mut Trio, epoch: u32) -> Writer {
        Writer::start_lossy_of(Members::only((0..3).map(named).collect()), trio, epoch)
    }

    /// The same, of these members.
    pub(crate) fn start_lossy_of(members: Members, trio: &mut Trio, epoch: u32) -> Writer {
        let mut writer = Writer::idle_of(members, trio, epoch, 0, Patience::default(), true);
        let actions = writer.upstairs.activate(Duration::ZERO);
        writer.perform(trio, actions);
        writer.tick(trio);
        writer
    }

    /// Of these members; active, if they are enough.
    pub(crate) fn start_of(members: Members, trio: &mut Trio, epoch: u32) -> Writer {
        let mut writer = Writer::idle_of(members, trio, epoch, 0, Patience::default(), false);
        let actions = writer.upstairs.activate(Duration::ZERO);
        writer.perform(trio, actions);
        writer.tick(trio);
        writer
    }

    fn idle_of(
        members: Members,
        trio: &Trio,
        epoch: u32,
        key: u8,
        patience: Patience,
        accepts_possible_loss: bool,
    ) -> Writer {
        let session = SealingSession::from_unique(u128::from(epoch));
        let key = VolumeKey::from_bytes(&mut [key; 32]);
        let config = Config {
            set: set(),
            geometry: trio.geometry,
            members,
            promotion: Promotion { epoch, session: Uuid::from_u128(epoch.into()) },
            accepts_possible_loss,
            limits: trio.limits,
            patience,
            sealer: trio.geometry.is_sealed.then(|| Sealer::new(&key, set(), BlockSize::B512, session)),
        };
        let upstairs = Upstairs::new(config);
        let (now, parts) = (Duration::ZERO, Vec::new());
        let places = BTreeMap::new();
        let (ended, snapshots) = (BTreeMap::new(), BTreeMap::new());
        let compared = Vec::new();
        let (lost_behind_a_read, slow, on_its_way) = (None, None, VecDeque::new());
        Writer {
            upstairs,
            places,
            epoch,
            now,
            next_job: 0,
            parts,
            ended,
            snapshots,
            compared,
            lost_behind_a_read,
            slow,
            on_its_way,
            hastes: Vec::new(),
        }
    }

    pub(crate) fn tick(&mut self, trio: &mut Trio) {
        self.now += Duration::from_millis(250);
        let actions = self.upstairs.tick(self.now);
        self.perform(trio, actions);
    }

    /// The members' clocks tick.
    pub(crate) fn tick_members(&mut self, trio: &mut Trio) {
        for (peer, member) in self.places.clone() {
            let effects = trio.members[member].tick();
            let actions = self.carry(trio, peer, effects);
            self.perform(trio, actions);
        }
    }

    /// All that follows.
    fn perform(&mut self, trio: &mut Trio, actions: Vec<Action>) {
        let mut left = VecDeque::from(actions);
        while let Some(action) = left.pop_front() {
            let connection = ConnectionId(self.epoch.into());
            let (peer, effects) = match action {
                Action::Compared(_, copies) => {
                    self.compared = copies;
                    continue;
                }
                Action::Snapshotted(job, regions) => {
                    self.snapshots.insert(job, regions);
                    continue;
                }
                Action::Connect(peer) => {
                    let member = self.member_at(peer);
                    self.places.insert(peer, member);
                    let is_there = !trio.away.contains(&member);
                    left.extend(self.upstairs.connected(self.now, peer, is_there));
                    continue;
                }
                // Its answers get lost, or nothing gets there at all.
                Action::Send(peer, _) if trio.away.contains(&self.places[&peer]) => continue,
                Action::Send(peer, _) if self.slow == Some(self.places[&peer]) => {
                    self.on_its_way.push_back(action);
                    continue;
                }
                Action::Disconnect(peer) => match self.places.get(&peer) {
                    Some(member) => (peer, trio.members[*member].disconnect(connection)),
                    None => continue,
                },
                Action::Send(peer, Request::Hello(hello)) => {
                    (peer, trio.members[self.places[&peer]].connect(connection, &hello))
                }
                Action::Send(peer, request) => {
                    let is_install = matches!(request, Request::Install { .. });
                    if let Request::Install { haste, .. } | Request::Read { haste, .. } = request {
                        self.hastes.push(haste);
                    }
                    let effects = trio.members[self.places[&peer]].receive(connection, vec![request]);
                    if let Some(act) = trio.behind_an_install.take_if(|_| is_install) {
                        act(trio);
                    }
                    (peer, effects)
                }
                Action::Read(_, block, data) => {
                    self.parts.push((block, data));
                    continue;
                }
                Action::Looked(..) => continue,
                Action::Done(id, result) => {
                    self.ended.insert(id, result);
                    continue;
                }
            };
            left.extend(self.carry(trio, peer, effects));
        }
    }

    /// What a member says gets to the Upstairs; what that answers is left to do.
    fn carry(&mut self, trio: &mut Trio, peer: PeerId, effects: Vec<Effect>) -> Vec<Action> {
        let connection = ConnectionId(self.epoch.into());
        let (mut effects, mut actions) = (VecDeque::from(effects), Vec::new());
        while let Some(effect) = effects.pop_front() {
            match effect {
                Effect::Send(to, reply) if to == connection => {
                    let is_read = matches!(reply, Reply::Read { .. });
                    actions.extend(self.upstairs.received(self.now, peer, vec![reply]));
                    let member = self.places[&peer];
                    if self.lost_behind_a_read.take_if(|lost| is_read && *lost == member).is_some() {
                        actions.extend(self.upstairs.disconnected(self.now, peer));
                    }
                }
                Effect::Close(of) if of == connection => {
                    actions.extend(self.upstairs.disconnected(self.now, peer));
                }
                Effect::Run(work) => effects.extend(trio.members[self.places[&peer]].ended(work.run())),
                // Whoever was the writer before is not there any more.
                Effect::Send(..) | Effect::Close(_) | Effect::TryAgain => {}
            }
        }
        actions
    }

    /// All that is on its way arrives, in its order.
    pub(crate) fn arrive(&mut self, trio: &mut Trio) {
        self.slow = None;
        let arrives = self.on_its_way.drain(..).collect();
        self.perform(trio, arrives);
    }

    /// The connection of a member breaks, and it hears of it.
    pub(crate) fn lose_connection(&mut self, trio: &mut Trio, member: usize) {
        let place = self.upstairs.members().find(|(_, known)| *known == named(member));
        let (peer, _) = place.expect("it is a member");
        let _ = trio.members[member].disconnect(ConnectionId(self.epoch.into()));
        let actions = self.upstairs.disconnected(self.now, peer);
        self.perform(trio, actions);
    }

    fn member_at(&self, place: PeerId) -> usize {
        let mut members = self.upstairs.members();
        let (_, member) = members.find(|(peer, _)| *peer == place).expect("who is connected to is a member");
        usize::try_from(member.region.0.as_u128() - 1).expect("few")
    }

    /// There are to be these members.
    pub(crate) fn set_members(&mut self, trio: &mut Trio, members: &Members) -> Result<(), MembersError> {
        let actions = self.upstairs.set_members(self.now, members)?;
        self.perform(trio, actions);
        Ok(())
    }

    /// Asks something.
    pub(crate) fn ask(&mut self, trio: &mut Trio, job: Job) -> JobId {
        let id = JobId(self.next_job);
        self.next_job += 1;
        let actions = self.upstairs.submit(self.now, id, job);
        self.perform(trio, actions);
        id
    }

    /// How it has ended, if it has.
    pub(crate) fn end_of(&mut self, id: JobId) -> Option<Result<(), JobError>> {
        self.ended.remove(&id)
    }

    /// How it ends, if it does within a minute, and after how long.
    pub(crate) fn wait_for(
        &mut self,
        trio: &mut Trio,
        id: JobId,
    ) -> (Option<Result<(), JobError>>, Duration) {
        let begun = self.now;
        let mut end = self.end_of(id);
        while end.is_none() && self.now < begun + Duration::from_secs(60) {
            self.tick(trio);
            end = self.end_of(id);
        }
        (end, self.now - begun)
    }

    pub(crate) fn job(&mut self, trio: &mut Trio, job: Job) -> Result<(), JobError> {
        self.parts.clear();
        let id = self.ask(trio, job);
        self.end_of(id).expect("all messages arrive at once")
    }

    pub(crate) fn write(&mut self, trio: &mut Trio, first: u64, fills: &[u8]) {
        let bytes: Bytes = fills.iter().flat_map(|fill| vec![*fill; SIZE]).collect();
        self.job(trio, Job::Write { first, bytes, is_durable: true }).expect("it is written");
    }

    pub(crate) fn read(&mut self, trio: &mut Trio, first: u64, count: u64) -> Result<Vec<u8>, JobError> {
        self.job(trio, Job::Read { first, count })?;
        let bytes = |(_, data): &(u64, Data)| match data {
            Data::Bytes(bytes) => bytes.to_vec(),
            Data::Zeros(count) | Data::Never(count) => vec![0; SIZE * usize::try_from(*count).expect("few")],
        };
        Ok(self.parts.iter().flat_map(bytes).collect())
    }

    /// What every member has of these blocks, by their numbers; none of those that were not looked at.
    pub(crate) fn compare(
        &mut self,
        trio: &mut Trio,
        first: u64,
        count: u64,
    ) -> BTreeMap<usize, CopyCompared> {
        self.compared.clear();
        self.job(trio, Job::Compare { first, count }).expect("they are compared");
        let number = |copy: &CopyCompared| usize::try_from(copy.region.0.as_u128() - 1).expect("few");
        self.compared.drain(..).map(|copy| (number(&copy), copy)).collect()
    }

    pub(crate) fn wrong_seals(&self) -> [u64; 3] {
        std::array::from_fn(|peer| self.upstairs.wrong_seals(PeerId(peer)))
    }
}
