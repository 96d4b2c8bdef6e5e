//! An encrypted volume whose members are changed by somebody who can make right checksums: no client reads it, and it is healed. Three real
//! members on simulated disks, whose messages arrive at once.

use bytes::Bytes;
use camino::Utf8Path;
use downstairs::{ConnectionId, Effect, Member};
use durable_fs::{SimDisk, SimMachine};
use ids::{RegionId, RegionSetId};
use region::{
    BlockSize, Geometry, Held, Identity, List, ListVersion, Member as Named, NewContent, NewRegion, Onto,
    Opening, Position, Promotion, SEAL, Seal, What, Write, checksum,
};
use region_wire::Request;
use std::{collections::VecDeque, time::Duration};
use upstairs::{Action, Config, Data, Job, JobError, JobId, Limits, PeerId, Upstairs};
use uuid::Uuid;
use volume_seals::{Sealer, SealingSession, VolumeKey};

const PATH: &str = "region";
const BLOCKS: u64 = 40;
const SIZE: usize = 512;
const GEOMETRY: Geometry = Geometry { block_size: BlockSize::B512, blocks: BLOCKS, is_sealed: true };

fn set() -> RegionSetId {
    RegionSetId(Uuid::from_u128(50))
}

fn named(number: usize) -> Named {
    Named { region: RegionId(Uuid::from_u128(number as u128 + 1)), incarnation: 7 }
}

/// Three members.
struct Trio(Vec<Member>);

impl Trio {
    fn new() -> Trio {
        let machine = SimMachine::new();
        let disks: Vec<SimDisk> = (0..3).map(|_| machine.add_disk(1 << 25)).collect();
        let full: Vec<Named> = (0..3).map(named).collect();
        let list = List { version: ListVersion { epoch: 0, number: 1 }, base: Position::NONE, full };
        let member = |(number, disk): (usize, &SimDisk)| {
            let identity = Identity { region: named(number).region, set: set(), geometry: GEOMETRY };
            let new = NewRegion { identity, incarnation: 7, list: list.clone(), salt: number as u64 };
            region::create(disk, Utf8Path::new(PATH), &new).expect("it is made");
            let opening = Opening { life: 1, boot: Uuid::nil() };
            Member::new(region::open(disk, Utf8Path::new(PATH), opening).expect("it opens"))
        };
        Trio(disks.iter().enumerate().map(member).collect())
    }

    fn held(&mut self, member: usize, block: u64) -> (Seal, Vec<u8>, Position) {
        let mut bytes = Vec::new();
        let held = self.0[member].region_mut().read(block..block + 1, &mut bytes).expect("it reads");
        let Held { version, what: What::Bytes { seal, .. } } = held[0] else { panic!("no bytes: {held:?}") };
        (seal, bytes, version)
    }

    /// Somebody changes a block of one member, and makes its checksum right.
    fn forge(&mut self, member: usize, block: u64, change: impl FnOnce(&mut Vec<u8>, &mut Seal)) {
        let (mut seal, mut bytes, version) = self.held(member, block);
        change(&mut bytes, &mut seal);
        let (checksums, seals) = ([checksum(block, &bytes)], [seal]);
        let content = NewContent::Bytes { bytes: &bytes, checksums: &checksums, seals: &seals };
        let write = Write { version, block, content, onto: Onto::Same };
        let region = self.0[member].region_mut();
        assert_eq!(region.write(region.applied(), &[write]).expect("it is written"), 1);
    }

    fn digests(&mut self) -> Vec<u128> {
        let all = self.0.iter_mut();
        all.map(|member| member.region_mut().digest(0..BLOCKS).expect("it reads")).collect()
    }
}

/// An Upstairs, and its connections to all three.
struct Writer {
    upstairs: Upstairs,
    epoch: u32,
    now: Duration,
    next_job: u64,
    parts: Vec<(u64, Data)>,
    done: Option<Result<(), JobError>>,
}

impl Writer {
    /// Of a session and a key; active when this returns.
    fn start(trio: &mut Trio, epoch: u32, key: u8) -> Writer {
        let session = SealingSession::from_unique(u128::from(epoch));
        let sealer = Sealer::new(&VolumeKey::from_bytes(&mut [key; 32]), set(), BlockSize::B512, session);
        let config = Config {
            set: set(),
            geometry: GEOMETRY,
            members: (0..3).map(named).collect(),
            promotion: Promotion { epoch, session: Uuid::from_u128(epoch.into()) },
            accepts_possible_loss: false,
            limits: Limits::default(),
            sealer: Some(sealer),
        };
        let upstairs = Upstairs::new(config);
        let (now, parts) = (Duration::ZERO, Vec::new());
        let mut writer = Writer { upstairs, epoch, now, next_job: 0, parts, done: None };
        let actions = writer.upstairs.activate(Duration::ZERO);
        writer.perform(trio, actions);
        writer.tick(trio);
        writer
    }

    fn tick(&mut self, trio: &mut Trio) {
        self.now += Duration::from_millis(250);
        let actions = self.upstairs.tick(self.now);
        self.perform(trio, actions);
    }

    /// All that follows.
    fn perform(&mut self, trio: &mut Trio, actions: Vec<Action>) {
        let mut left = VecDeque::from(actions);
        while let Some(action) = left.pop_front() {
            let connection = ConnectionId(self.epoch.into());
            let (peer, effects) = match action {
                Action::Connect(peer) => {
                    left.extend(self.upstairs.connected(self.now, peer, true));
                    continue;
                }
                Action::Disconnect(peer) => (peer, trio.0[peer.0].disconnect(connection)),
                Action::Send(peer, Request::Hello(hello)) => {
                    (peer, trio.0[peer.0].connect(connection, &hello))
                }
                Action::Send(peer, request) => (peer, trio.0[peer.0].receive(connection, vec![request])),
                Action::Read(_, block, data) => {
                    self.parts.push((block, data));
                    continue;
                }
                Action::Looked(..) => continue,
                Action::Done(_, result) => {
                    self.done = Some(result);
                    continue;
                }
            };
            let mut effects = VecDeque::from(effects);
            while let Some(effect) = effects.pop_front() {
                match effect {
                    Effect::Send(to, reply) if to == connection => {
                        left.extend(self.upstairs.received(self.now, peer, vec![reply]));
                    }
                    Effect::Close(of) if of == connection => {
                        left.extend(self.upstairs.disconnected(self.now, peer));
                    }
                    Effect::Run(work) => effects.extend(trio.0[peer.0].ended(work.run())),
                    // Whoever was the writer before is not there any more.
                    Effect::Send(..) | Effect::Close(_) | Effect::TryAgain => {}
                }
            }
        }
    }

    fn job(&mut self, trio: &mut Trio, job: Job) -> Result<(), JobError> {
        let id = JobId(self.next_job);
        self.next_job += 1;
        self.parts.clear();
        let actions = self.upstairs.submit(self.now, id, job);
        self.perform(trio, actions);
        self.done.take().expect("all messages arrive at once")
    }

    fn write(&mut self, trio: &mut Trio, first: u64, fills: &[u8]) {
        let bytes: Bytes = fills.iter().flat_map(|fill| vec![*fill; SIZE]).collect();
        self.job(trio, Job::Write { first, bytes, is_durable: true }).expect("it is written");
    }

    fn read(&mut self, trio: &mut Trio, first: u64, count: u64) -> Result<Vec<u8>, JobError> {
        self.job(trio, Job::Read { first, count })?;
        let bytes = |(_, data): &(u64, Data)| match data {
            Data::Bytes(bytes) => bytes.to_vec(),
            Data::Zeros(count) | Data::Never(count) => vec![0; SIZE * usize::try_from(*count).expect("few")],
        };
        Ok(self.parts.iter().flat_map(bytes).collect())
    }

    fn wrong_seals(&self) -> [u64; 3] {
        std::array::from_fn(|peer| self.upstairs.wrong_seals(PeerId(peer)))
    }
}

#[test]
fn what_one_session_has_written_a_later_one_reads_and_no_member_can() {
    let mut trio = Trio::new();
    let mut first = Writer::start(&mut trio, 1, 7);
    first.write(&mut trio, 3, &[1, 2, 3]);
    first.job(&mut trio, Job::Zero { first: 4, count: 1, is_durable: false }).expect("they are written");
    drop(first);

    let mut second = Writer::start(&mut trio, 2, 7);
    second.write(&mut trio, 5, &[4]);
    let read = second.read(&mut trio, 2, 5).expect("it reads");
    let expected: Vec<u8> = [0, 1, 0, 4, 0].into_iter().flat_map(|fill| vec![fill; SIZE]).collect();
    assert_eq!(read, expected);
    for (member, block) in (0..3).flat_map(|member| [(member, 3), (member, 5)]) {
        let (_, bytes, _) = trio.held(member, block);
        let is_plain = bytes.windows(8).any(|eight| eight.iter().all(|byte| *byte == eight[0]));
        assert!(!is_plain, "block {block} of member {member}: {bytes:?}");
    }
    assert_eq!(second.wrong_seals(), [0; 3]);
}

#[test]
fn a_block_that_was_changed_with_its_checksum_is_read_from_another_member_and_healed() {
    let changes: [fn(&mut Vec<u8>, &mut Seal); 3] = [
        |bytes, _| bytes[17] ^= 1,
        |_, seal| seal[0] ^= 1,
        |bytes, seal| (*bytes, *seal) = (vec![0; SIZE], [0; SEAL]),
    ];
    for change in changes {
        let mut trio = Trio::new();
        let mut writer = Writer::start(&mut trio, 1, 7);
        writer.write(&mut trio, 5, &[1, 2, 3]);
        let before = trio.digests();
        trio.forge(1, 6, change);
        assert_ne!(trio.digests(), before);
        for _ in 0..3 {
            assert_eq!(writer.read(&mut trio, 6, 1), Ok(vec![2; SIZE]));
        }
        assert_eq!(
            writer.wrong_seals(),
            [0, 1, 0],
            "each member was read, and the second one was wrong once"
        );
        assert_eq!(trio.digests(), before);
    }
}

#[test]
fn what_two_members_have_wrong_is_healed_from_the_third() {
    for right in 0..3 {
        let mut trio = Trio::new();
        let mut writer = Writer::start(&mut trio, 1, 7);
        writer.write(&mut trio, 5, &[1, 2, 3]);
        let before = trio.digests();
        for member in (0..3).filter(|member| *member != right) {
            trio.forge(member, 6, |bytes, _| bytes[17] ^= 1);
        }
        for _ in 0..3 {
            assert_eq!(writer.read(&mut trio, 6, 1), Ok(vec![2; SIZE]));
        }
        assert_eq!(writer.wrong_seals()[right], 0);
        assert_eq!(trio.digests(), before);
    }
}

#[test]
fn another_block_in_the_place_of_one_is_noticed_and_an_older_content_of_it_cannot_be() {
    let mut trio = Trio::new();
    let mut writer = Writer::start(&mut trio, 1, 7);
    writer.write(&mut trio, 5, &[1, 2, 3]);
    let (other_seal, other, _) = trio.held(0, 7);
    let (older_seal, older, _) = trio.held(0, 5);
    writer.write(&mut trio, 5, &[9, 9, 9]);
    for member in 0..3 {
        let other = other.clone();
        trio.forge(member, 6, |bytes, seal| (*bytes, *seal) = (other, other_seal));
        let older = older.clone();
        trio.forge(member, 5, |bytes, seal| (*bytes, *seal) = (older, older_seal));
    }
    assert_eq!(writer.read(&mut trio, 6, 1), Err(JobError::WrongSeal { block: 6 }));
    // As docs/BLOCK.md says: all members together can lie about the past.
    assert_eq!(writer.read(&mut trio, 5, 1), Ok(vec![1; SIZE]));
}

#[test]
fn a_block_that_nobody_has_right_is_an_error_of_its_own_and_is_left_as_it_is() {
    let mut trio = Trio::new();
    let mut writer = Writer::start(&mut trio, 1, 7);
    writer.write(&mut trio, 5, &[1, 2, 3]);
    for member in 0..3 {
        trio.forge(member, 6, |bytes, _| bytes[member] ^= 1);
    }
    let before = trio.digests();
    let error = writer.read(&mut trio, 5, 3).expect_err("nobody has it");
    assert_eq!(error, JobError::WrongSeal { block: 6 });
    assert_eq!(error.to_string(), "no member has block 6 as it was sealed with the key of the volume");
    assert_eq!(trio.digests(), before);
    assert_eq!(writer.read(&mut trio, 5, 1), Ok(vec![1; SIZE]));
    assert!(writer.wrong_seals().iter().all(|wrong| *wrong > 0), "{:?}", writer.wrong_seals());
}

#[test]
fn with_another_key_nothing_is_read_and_nothing_is_changed() {
    let mut trio = Trio::new();
    Writer::start(&mut trio, 1, 7).write(&mut trio, 5, &[1, 2, 3]);
    let before = trio.digests();
    let mut other = Writer::start(&mut trio, 2, 8);
    assert_eq!(other.read(&mut trio, 5, 1), Err(JobError::WrongSeal { block: 5 }));
    assert_eq!(other.read(&mut trio, 1, 1), Ok(vec![0; SIZE]), "what nobody wrote needs no key");
    assert_eq!(trio.digests(), before);
    let mut right = Writer::start(&mut trio, 3, 7);
    assert_eq!(right.read(&mut trio, 5, 1), Ok(vec![1; SIZE]));
}

/// Writes a block of one member alone, behind all that it has: with right checksums, and sealed by nobody.
fn write_alone(trio: &mut Trio, member: usize, block: u64) {
    let (bytes, seals) = ([block as u8; SIZE], [[3; SEAL]]);
    let checksums = [checksum(block, &bytes)];
    let region = trio.0[member].region_mut();
    let version = region.applied().next();
    let content = NewContent::Bytes { bytes: &bytes, checksums: &checksums, seals: &seals };
    let write = Write { version, block, content, onto: Onto::Older };
    assert_eq!(region.write(version, &[write]).expect("it is written"), 1);
}

#[test]
fn a_block_that_only_the_longest_member_has_and_has_wrong_stops_nobody() {
    for longest in 0..3 {
        let mut trio = Trio::new();
        Writer::start(&mut trio, 1, 7).write(&mut trio, 5, &[1, 2, 3]);
        write_alone(&mut trio, longest, 6);
        let mut writer = Writer::start(&mut trio, 2, 7);
        assert_eq!(writer.upstairs.status(writer.now).totals.lost_blocks, 2);
        // What was there before is not given back as if it were the newest.
        assert_eq!(writer.read(&mut trio, 5, 3), Err(JobError::WrongSeal { block: 6 }));
        assert_eq!(writer.read(&mut trio, 5, 1), Ok(vec![1; SIZE]));
        assert_eq!(writer.read(&mut trio, 7, 1), Ok(vec![3; SIZE]));
        assert_eq!(writer.upstairs.status(writer.now).totals.unreadable_reads, 1);
        let digests = trio.digests();
        assert!(digests.iter().all(|digest| *digest == digests[0]), "members that are full are the same");
        let lost = trio.0.iter().map(|member| member.region().lost_blocks());
        assert_eq!(lost.sum::<u64>(), 2, "whoever has bytes keeps them");

        writer.write(&mut trio, 6, &[9]);
        assert_eq!(writer.read(&mut trio, 6, 1), Ok(vec![9; SIZE]));
        assert!(trio.0.iter().all(|member| member.region().lost_blocks() == 0));
    }
}

#[test]
fn bytes_that_are_right_again_heal_those_for_whom_they_were_lost() {
    let mut trio = Trio::new();
    Writer::start(&mut trio, 1, 7).write(&mut trio, 5, &[1, 2, 3]);
    let (seal, right, version) = trio.held(1, 6);
    for member in 0..3 {
        let checksums = [checksum(6, &right)];
        let region = trio.0[member].region_mut();
        let content = NewContent::Lost { checksums: &checksums, seals: &[seal] };
        let write = Write { version, block: 6, content, onto: Onto::Same };
        assert_eq!(region.write(region.applied(), &[write]).expect("it is written"), 1);
    }
    let mut writer = Writer::start(&mut trio, 2, 7);
    assert_eq!(writer.read(&mut trio, 6, 1), Err(JobError::Unreadable { block: 6 }));
    let (checksums, seals) = ([checksum(6, &right)], [seal]);
    let content = NewContent::Bytes { bytes: &right, checksums: &checksums, seals: &seals };
    let region = trio.0[1].region_mut();
    region
        .write(region.applied(), &[Write { version, block: 6, content, onto: Onto::Same }])
        .expect("it is written");
    for _ in 0..3 {
        assert_eq!(writer.read(&mut trio, 6, 1), Ok(vec![2; SIZE]));
    }
    assert!(trio.0.iter().all(|member| member.region().lost_blocks() == 0), "all of them are healed");
}

#[test]
fn a_read_of_blocks_that_each_somebody_else_has_right_is_answered() {
    let mut trio = Trio::new();
    let mut writer = Writer::start(&mut trio, 1, 7);
    writer.write(&mut trio, 5, &[1, 2, 3]);
    for member in 0..3 {
        trio.forge(member, 5 + member as u64, |bytes, _| bytes[17] ^= 1);
    }
    let expected: Vec<u8> = [1, 2, 3].into_iter().flat_map(|fill| vec![fill; SIZE]).collect();
    let read = writer.read(&mut trio, 5, 3);
    assert_eq!(read, Ok(expected));
}
