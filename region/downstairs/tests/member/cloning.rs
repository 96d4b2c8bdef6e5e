//! Clones: a region that is filled from what others held at a snapshot, and is read when that is proven, and never before; whatever breaks
//! meanwhile. The machine is the one that runs over sockets; here its region is on a simulated disk, and its sources may lie.

use bytes::Bytes;
use camino::Utf8Path;
use downstairs::{
    CloneError, ConnectionId, Effect, Member, NotCloned, Phase, Rule, Sources, Target, Watch, clone_snapshot,
};
use durable_fs::{DiskFaults, FaultyDisk, SimDisk, SimMachine, Storage};
use ids::{RegionId, RegionSetId, SnapshotId};
use region::{
    BlockSize, Geometry, Identity, List, ListVersion, Member as Named, NewContent, NewRegion, Onto, Opening,
    Position, SEAL, TakingEnd, What, Write, checksum,
};
use region_wire::{
    Blocks, Expected, Haste, Hello, NotWelcome, PeerError, Refusal, Reply, Request, SnapshotWelcome,
};
use std::{collections::VecDeque, sync::Arc};
use uuid::Uuid;

const PATH: &str = "region";
const BLOCK: usize = 512;
/// Two ranges of a digest, and five leaves of a hash.
const BLOCKS: u64 = 9_000;

fn snapshot() -> SnapshotId {
    SnapshotId(Uuid::from_u128(60))
}

fn geometry(blocks: u64) -> Geometry {
    Geometry { block_size: BlockSize::B512, blocks, is_sealed: true }
}

fn at(epoch: u32, counter: u64) -> Position {
    Position { epoch, counter }
}

fn new_region(number: u128, blocks: u64) -> NewRegion {
    let region = RegionId(Uuid::from_u128(number));
    let full = vec![Named { region, incarnation: 7 }];
    let version = ListVersion { epoch: 0, number: 1 };
    let identity = Identity { region, set: RegionSetId(Uuid::from_u128(50)), geometry: geometry(blocks) };
    let list = List { version, base: Position::NONE, full };
    NewRegion { identity, incarnation: 7, list, salt: u64::try_from(number).expect("it is small") }
}

fn open(disk: &FaultyDisk<SimDisk>, boot: u128) -> Member {
    let opening = Opening { life: 1, boot: Uuid::from_u128(boot) };
    Member::new(region::open(Arc::new(disk.clone()), Utf8Path::new(PATH), opening).expect("it opens"))
}

/// A member on a disk of its own, one connection to it, and what was said on that.
struct Seat {
    machine: SimMachine,
    disk: FaultyDisk<SimDisk>,
    faults: DiskFaults,
    member: Member,
    said: VecDeque<Reply>,
    connection: ConnectionId,
    is_closed: bool,
    boots: u128,
}

impl Seat {
    fn new(make: impl FnOnce(&FaultyDisk<SimDisk>)) -> Seat {
        let (machine, faults) = (SimMachine::new(), DiskFaults::new());
        let disk = FaultyDisk::new(machine.add_disk(1 << 26), faults.clone());
        make(&disk);
        let member = open(&disk, 1);
        let (said, connection) = (VecDeque::new(), ConnectionId(1));
        Seat { machine, disk, faults, member, said, connection, is_closed: false, boots: 1 }
    }

    /// One that is to be a clone.
    fn clone_of(blocks: u64) -> Seat {
        Seat::new(|disk| {
            let new = NewRegion { list: List::default(), ..new_region(9, blocks) };
            region::create_clone(disk, Utf8Path::new(PATH), &new, snapshot()).expect("it is made");
        })
    }

    fn perform(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Send(to, reply) if to == self.connection => self.said.push_back(reply),
                Effect::Close(of) => self.is_closed |= of == self.connection,
                Effect::Run(work) => {
                    let more = self.member.ended(work.run());
                    self.perform(more);
                }
                Effect::Send(..) | Effect::TryAgain => {}
            }
        }
    }

    fn connect(&mut self, hello: &Hello) -> Reply {
        self.connection = ConnectionId(self.connection.0 + 1);
        (self.is_closed, self.said) = (false, VecDeque::new());
        let effects = self.member.connect(self.connection, hello);
        self.perform(effects);
        self.said.pop_front().expect("it answers")
    }

    fn hello(&self, of: Option<SnapshotId>) -> Hello {
        let Identity { region, set, .. } = self.member.region().identity();
        Hello::new(region, set, of)
    }

    fn ask_member(&mut self, request: Request) -> Option<Reply> {
        let effects = self.member.receive(self.connection, vec![request]);
        self.perform(effects);
        self.said.pop_front()
    }

    /// The process is killed, or the power fails; then the next one opens what is left.
    fn dies(&mut self, of_power: Option<u64>) {
        match of_power {
            Some(seed) => {
                self.machine.crash(seed);
                self.boots += 1;
            }
            None => self.machine.power_on(),
        }
        self.member = open(&self.disk, self.boots);
    }

    /// What a reader of the snapshot sees of all blocks; or why nothing.
    fn seen(&mut self) -> Result<Vec<(What, Vec<u8>)>, String> {
        match self.connect(&self.hello(Some(snapshot()))) {
            Reply::SnapshotWelcome(_) => {}
            Reply::Refused(Refusal::NoSnapshot(why)) => return Err(why),
            other => panic!("{other:?}"),
        }
        let (mut all, blocks) = (Vec::new(), self.member.region().identity().geometry.blocks);
        for first in (0..blocks).step_by(1_000) {
            let count = u32::try_from((blocks - first).min(1_000)).expect("few");
            match self.ask_member(Request::Read {
                id: 1,
                blocks: Blocks { first, count },
                haste: Haste::Client,
            }) {
                Some(Reply::Read { whats, bytes, .. }) => {
                    let mut bytes = bytes.chunks_exact(BLOCK);
                    all.extend(whats.into_iter().map(|what| match what {
                        What::Bytes { .. } => (what, bytes.next().expect("there are some").to_vec()),
                        what => (what, Vec::new()),
                    }));
                }
                other => panic!("{other:?}"),
            }
        }
        Ok(all)
    }
}

impl Target for Seat {
    fn snapshot(&self) -> Option<Position> {
        self.member.region().snapshots().find(|there| there.snapshot == snapshot()).map(|there| there.applied)
    }

    fn ask(&mut self, request: Request) -> Result<Reply, CloneError> {
        self.tell(request)?;
        for _ in 0..100 {
            while let Some(reply) = self.said.pop_front() {
                match reply {
                    Reply::Applied(_) | Reply::Waits { .. } => {}
                    Reply::Failed(why) => return Err(CloneError::Target { why, may_pass: true }),
                    reply => return Ok(reply),
                }
            }
            let effects = self.member.tick();
            self.perform(effects);
        }
        Err(CloneError::Target { why: "its disk refuses".to_owned(), may_pass: true })
    }

    fn tell(&mut self, request: Request) -> Result<(), CloneError> {
        let effects = self.member.receive(self.connection, vec![request]);
        self.perform(effects);
        Ok(())
    }

    fn forget_cache(&mut self) {
        self.member.region().drop_cache();
    }

    fn prove(&mut self, hash: [u8; 32]) -> Result<(), CloneError> {
        let proven = self.member.prove(hash);
        proven.map_err(|failed| CloneError::Target { why: failed.to_string(), may_pass: true })
    }
}

/// What a source does to what it says.
type Lie = fn(&Request, Reply) -> Result<Reply, PeerError>;

fn honest(_: &Request, reply: Reply) -> Result<Reply, PeerError> {
    Ok(reply)
}

/// Members that have the snapshot.
struct Members {
    all: Vec<(Seat, Lie)>,
    /// What was asked, and of whom.
    asked: Vec<(usize, Request)>,
}

impl Sources for Members {
    fn count(&self) -> usize {
        self.all.len()
    }

    fn welcome(&mut self, source: usize, geometry: Geometry) -> Result<SnapshotWelcome, PeerError> {
        let (seat, lie) = &mut self.all[source];
        let hello = seat.hello(Some(snapshot()));
        let said = lie(&Request::Hello(hello), seat.connect(&hello))?;
        said.welcomed(&Expected { geometry, incarnation: None })
    }

    fn ask(&mut self, source: usize, request: Request) -> Result<Reply, PeerError> {
        let (seat, lie) = &mut self.all[source];
        let reply = seat.ask_member(request.clone()).expect("it answers at once");
        let reply = lie(&request, reply);
        self.asked.push((source, request));
        reply
    }
}

impl Members {
    fn bytes_read(&self) -> u64 {
        let read = |(_, request): &(usize, Request)| match request {
            Request::Read { blocks, .. } => u64::from(blocks.count) * BLOCK as u64,
            _ => 0,
        };
        self.asked.iter().map(read).sum()
    }
}

/// Never stops.
struct GoesOn;

impl Watch for GoesOn {
    fn at(&mut self, _: Phase, done: u64, _: u64) -> Result<(), CloneError> {
        assert!(done <= BLOCKS * BLOCK as u64);
        Ok(())
    }
}

fn fill_of(block: u64, counter: u64) -> Vec<u8> {
    [block, counter].into_iter().cycle().take(BLOCK / 8).flat_map(u64::to_le_bytes).collect()
}

fn write_blocks(member: &mut Member, version: Position, blocks: std::ops::Range<u64>) {
    let bytes: Vec<u8> = blocks.clone().flat_map(|block| fill_of(block, version.counter)).collect();
    let checksums: Vec<u64> =
        blocks.clone().zip(bytes.chunks_exact(BLOCK)).map(|(block, own)| checksum(block, own)).collect();
    let seals = vec![[version.counter as u8; SEAL]; checksums.len()];
    let content = NewContent::Bytes { bytes: &bytes, checksums: &checksums, seals: &seals };
    let write = Write { version, block: blocks.start, content, onto: Onto::Older };
    member.region_mut().write(version, &[write]).expect("there is room");
}

fn take_snapshot(member: &mut Member, id: SnapshotId) {
    let taking = member.region_mut().begin_snapshot(id).expect("it begins");
    let taken = member.region_mut().end_snapshot(taking.run()).expect("it goes on");
    assert!(matches!(taken, TakingEnd::Taken));
}

/// A member that has the snapshot: runs of bytes, of zeros, of what nobody wrote, of many versions; and has gone on since.
fn source(number: u128, blocks: u64, last: Position) -> Seat {
    let new = new_region(number, blocks);
    let mut seat = Seat::new(|disk| region::create(disk, Utf8Path::new(PATH), &new).expect("it is made"));
    let member = &mut seat.member;
    for counter in 1..30 {
        let first = counter * counter * 8 % (blocks - 40);
        write_blocks(member, at(3, counter), first..first + 40);
    }
    let zeros = Write { version: at(4, 1), block: 5, content: NewContent::Zeros(90), onto: Onto::Older };
    member.region_mut().write(at(4, 1), &[zeros]).expect("there is room");
    write_blocks(member, last, blocks - 30..blocks);
    take_snapshot(member, snapshot());
    write_blocks(member, at(9, 1), 0..100);
    seat
}

fn last() -> Position {
    at(4, 2)
}

fn members(count: usize, blocks: u64) -> Members {
    let all = (1..).take(count).map(|number| (source(number, blocks, last()), honest as Lie));
    Members { all: all.collect(), asked: Vec::new() }
}

fn attempt(target: &mut Seat, sources: &mut Members) -> Result<[u8; 32], CloneError> {
    target.connection = ConnectionId(target.connection.0 + 1);
    target.said.clear();
    let connection = target.connection;
    match target.member.begin_cloning(connection) {
        Ok(_) => {}
        Err(NotCloned::Proven(hash)) => return Ok(hash),
        Err(NotCloned::Failed(why)) => return Err(CloneError::Target { why, may_pass: true }),
        Err(other) => panic!("{other:?}"),
    }
    let geometry = target.member.region().identity().geometry;
    let made = clone_snapshot(snapshot(), geometry, target, sources, &mut GoesOn);
    let effects = target.member.disconnect(connection);
    target.perform(effects);
    made
}

fn refused(seat: &mut Seat) -> String {
    seat.seen().expect_err("nobody may read it")
}

fn a_clone_holds_what_its_source_held_and_is_read_when_that_is_proven() {
    let (mut target, mut sources) = (Seat::clone_of(BLOCKS), members(1, BLOCKS));
    assert!(refused(&mut target).contains("is being cloned"));
    let hash = attempt(&mut target, &mut sources).expect("it is made");
    let expected = sources.all[0].0.seen().expect("it is there");
    assert_eq!(target.seen().expect("it is proven"), expected);
    // Also in its next life; and what is said of it is what both have.
    target.dies(Some(1));
    assert_eq!(target.seen().expect("it is proven"), expected);
    let clone_of = target.member.region().control().clone_of.expect("it is one");
    assert_eq!(clone_of.proven, Some(hash));
    let mut again = Seat::clone_of(BLOCKS);
    assert_eq!(attempt(&mut again, &mut members(1, BLOCKS)).expect("it is made"), hash);
    // A clone is a source, too.
    sources.all = vec![(target, honest)];
    let mut third = Seat::clone_of(BLOCKS);
    assert_eq!(attempt(&mut third, &mut sources).expect("it is made"), hash);
    assert_eq!(third.seen().expect("it is proven"), expected);
}

#[test]
fn a_clone_holds_what_its_source_held_and_is_read_when_that_is_proven_and_never_before() {
    Rule::OnlyProvenIsRead.is_missed_by(a_clone_holds_what_its_source_held_and_is_read_when_that_is_proven);
}

#[test]
fn nobody_is_promoted_to_write_a_clone_and_only_one_fills_it() {
    let mut target = Seat::clone_of(100);
    let Reply::Refused(Refusal::Hello(NotWelcome::ReadOnly(why))) = target.connect(&target.hello(None))
    else {
        panic!("who?")
    };
    assert!(why.contains(&snapshot().to_string()) && target.is_closed, "{why}");
    assert!(target.member.begin_cloning(ConnectionId(80)).is_ok());
    assert_eq!(target.member.begin_cloning(ConnectionId(81)), Err(NotCloned::AtWork));
    let mut written = source(1, 2_500, last());
    assert_eq!(written.member.begin_cloning(ConnectionId(80)), Err(NotCloned::NoClone));
}

/// Power cuts and kills at each change that a clone makes to its disk; then it goes on, and ends the same.
#[test]
fn whatever_is_cut_off_at_whichever_point_is_not_read_and_is_made_whole_by_going_on() {
    let blocks = 2_500;
    let mut sources = members(1, blocks);
    let expected = sources.all[0].0.seen().expect("it is there");
    let hash = attempt(&mut Seat::clone_of(blocks), &mut sources).expect("it is made");
    let (mut cuts, mut resumed) = (0, 0);
    for of_power in [false, true] {
        for changes in 0.. {
            let mut target = Seat::clone_of(blocks);
            target.machine.stop_after_changes(target.machine.changes() + changes);
            let made = attempt(&mut target, &mut sources);
            if !target.machine.is_off() {
                assert_eq!(made.expect("nothing was cut off"), hash);
                break;
            }
            cuts += 1;
            target.dies(of_power.then_some(changes));
            let is_proven = target.member.region().control().clone_of.expect("it is one").proven;
            assert!(made.is_err() || is_proven == Some(hash), "{changes}: what was said is gone");
            match target.seen() {
                Ok(seen) => assert!(is_proven == Some(hash) && seen == expected, "{changes}"),
                Err(why) => assert!(is_proven.is_none() && why.contains("is being cloned"), "{why}"),
            }
            sources.asked.clear();
            assert_eq!(attempt(&mut target, &mut sources).expect("nothing is in the way"), hash);
            resumed += u32::from(sources.bytes_read() < 800 * BLOCK as u64);
            assert_eq!(target.seen().expect("it is proven"), expected, "{changes}");
        }
    }
    // What had been copied is not copied again; but for the last steps all is.
    assert!(cuts > 40 && resumed > 20, "{cuts} cuts, {resumed} gone on");
}

#[test]
fn a_disk_that_is_full_or_fails_for_a_while_costs_an_attempt_and_nothing_else() {
    let mut sources = members(1, BLOCKS);
    let mut target = Seat::clone_of(BLOCKS);
    target.faults.full_after(3);
    let error = attempt(&mut target, &mut sources).expect_err("the disk is full");
    assert!(error.may_pass(), "{error}");
    target.faults.heal();
    target.dies(None);
    target.faults.fail_next_sync();
    let error = attempt(&mut target, &mut sources).expect_err("a sync fails");
    assert!(error.may_pass(), "{error}");
    assert!(target.member.region().failed().is_some());
    target.faults.heal();
    target.dies(None);
    attempt(&mut target, &mut sources).expect("nothing is in the way");
    assert_eq!(target.seen(), sources.all[0].0.seen());
}

/// One bit of the file of this member's region, in the bytes of this block.
fn rot(seat: &mut Seat, block: u64) {
    let mut bytes = Vec::new();
    seat.member.region_mut().read_snapshot(snapshot(), block..block + 1, &mut bytes).expect("it is read");
    let file = seat.disk.open_in_place(Utf8Path::new(PATH)).expect("it is there");
    let mut all = vec![0; usize::try_from(file.size().expect("it has one")).expect("it is small")];
    file.read_exact_at(0, &mut all).expect("it is read");
    let found: Vec<usize> =
        all.windows(BLOCK).enumerate().filter(|(_, own)| *own == bytes).map(|(at, _)| at).collect();
    let [place] = found[..] else { panic!("{found:?}") };
    seat.disk.inner().flip_bit(Utf8Path::new(PATH), place as u64 + 9).expect("it is there");
}

#[test]
fn what_one_source_has_wrong_another_gives_and_what_none_has_is_told_by_its_block() {
    let block = BLOCKS - 7;
    let mut sources = members(2, BLOCKS);
    rot(&mut sources.all[0].0, block);
    let mut target = Seat::clone_of(BLOCKS);
    attempt(&mut target, &mut sources).expect("the other has it right");
    let read_from_second =
        sources.asked.iter().filter(|(from, request)| *from == 1 && matches!(request, Request::Read { .. }));
    assert_eq!(read_from_second.count(), 1, "of the other one only what was wrong");
    let mut alone = Members { all: vec![sources.all.remove(0)], asked: Vec::new() };
    let mut target = Seat::clone_of(BLOCKS);
    let error = attempt(&mut target, &mut alone).expect_err("nobody has it right");
    assert!(error.to_string().contains(&format!("block {block} is not what was written there")), "{error}");
    assert!(!error.may_pass());
    refused(&mut target);
    // Everything else is there: only that is missing.
    sources.asked.clear();
    attempt(&mut target, &mut sources).expect("the other has it right");
    assert_eq!(sources.bytes_read(), BLOCK as u64);
}

#[test]
fn what_the_disk_of_the_clone_changes_before_it_is_proven_is_noticed() {
    let mut sources = members(1, BLOCKS);
    let mut target = Seat::clone_of(BLOCKS);
    // The source breaks off when all is copied, and before any of it is proven.
    sources.all[0].1 = |request, reply| match request {
        Request::Hash { .. } => Err(PeerError::Silent(std::time::Duration::ZERO)),
        _ => Ok(reply),
    };
    assert!(attempt(&mut target, &mut sources).expect_err("it breaks off").may_pass());
    assert!(refused(&mut target).contains("is being cloned"));
    rot(&mut target, BLOCKS - 3);
    sources.all[0].1 = honest;
    let error = attempt(&mut target, &mut sources).expect_err("a block is rotten");
    assert!(matches!(error, CloneError::Rotten(block) if block == BLOCKS - 3), "{error}");
    refused(&mut target);
}

/// A source that says of one block, in all that it says but its hash, that it holds something else; with a right checksum.
fn says_another_content(request: &Request, reply: Reply) -> Result<Reply, PeerError> {
    let (block, own) = (BLOCKS - 5, vec![9; BLOCK]);
    let lie = What::Bytes { checksum: checksum(block, &own), seal: [1; SEAL] };
    let at = |blocks: &Blocks| blocks.range().contains(&block).then(|| (block - blocks.first) as usize);
    Ok(match (request, reply) {
        (Request::Digest { blocks, .. }, Reply::Digested { id, digest }) if at(blocks).is_some() => {
            Reply::Digested { id, digest: digest ^ 1 }
        }
        (Request::Look { blocks, .. }, Reply::Looked { id, mut held }) => {
            if let Some(at) = at(blocks) {
                held[at].what = lie;
            }
            Reply::Looked { id, held }
        }
        (Request::Read { blocks, .. }, Reply::Read { id, first, mut whats, bytes }) => {
            let mut bytes = bytes.to_vec();
            if let Some(at) = at(blocks) {
                whats[at] = lie;
                bytes[at * BLOCK..(at + 1) * BLOCK].copy_from_slice(&own);
            }
            Reply::Read { id, first, whats, bytes: Bytes::from(bytes) }
        }
        (_, reply) => reply,
    })
}

fn a_source_that_says_two_things_of_a_block_makes_no_clone() {
    let mut sources = members(1, BLOCKS);
    sources.all[0].1 = says_another_content;
    let mut target = Seat::clone_of(BLOCKS);
    let error = attempt(&mut target, &mut sources).expect_err("it is another content");
    let CloneError::Unequal { first, last } = error else { panic!("{error}") };
    assert!((first..=last).contains(&(BLOCKS - 5)) && last == BLOCKS - 1, "{error}");
    assert!(refused(&mut target).contains("is being cloned"));
}

#[test]
fn a_source_that_lies_of_a_block_is_noticed_by_its_own_hash_and_the_part_is_told() {
    Rule::HashesAreCompared.is_missed_by(a_source_that_says_two_things_of_a_block_makes_no_clone);
}

#[test]
fn what_cannot_be_is_believed_of_nobody() {
    let lies: [(Lie, &str); 6] = [
        (
            |request, reply| match reply {
                Reply::Looked { id, .. } if matches!(request, Request::Look { .. }) => {
                    Ok(Reply::Looked { id, held: Vec::new() })
                }
                reply => Ok(reply),
            },
            "something else than it was asked",
        ),
        (
            |_, reply| match reply {
                Reply::Read { id, first, whats, bytes } => {
                    Ok(Reply::Read { id, first, whats, bytes: bytes.slice(1..) })
                }
                reply => Ok(reply),
            },
            "something else than it was asked",
        ),
        (
            |_, reply| match reply {
                Reply::Read { id, first, mut whats, bytes } => {
                    whats[0] = What::Zeros;
                    Ok(Reply::Read { id, first, whats, bytes })
                }
                reply => Ok(reply),
            },
            "two things of one block",
        ),
        (
            |_, reply| match reply {
                Reply::Looked { id, mut held } => {
                    held[0].what = What::Never;
                    held[0].version = at(1, 1);
                    Ok(Reply::Looked { id, held })
                }
                reply => Ok(reply),
            },
            "that nobody wrote has a version",
        ),
        (
            |_, reply| match reply {
                Reply::SnapshotWelcome(welcome) => {
                    let geometry = Geometry { blocks: BLOCKS + 1, ..welcome.geometry };
                    Ok(Reply::SnapshotWelcome(SnapshotWelcome { geometry, ..welcome }))
                }
                reply => Ok(reply),
            },
            "its blocks are",
        ),
        (
            |request, reply| match request {
                Request::Read { .. } => Err(PeerError::NoSnapshot("it was deleted".to_owned())),
                _ => Ok(reply),
            },
            "it was deleted",
        ),
    ];
    for (lie, words) in lies {
        let mut sources = members(1, BLOCKS);
        sources.all[0].1 = lie;
        let mut target = Seat::clone_of(BLOCKS);
        let error = attempt(&mut target, &mut sources).expect_err("it lies");
        assert!(error.to_string().contains(words) && !error.may_pass(), "{words}: {error}");
        refused(&mut target);
        // And who is honest makes it whole.
        sources.all[0].1 = honest;
        attempt(&mut target, &mut sources).expect("nothing is in the way");
        assert_eq!(target.seen(), sources.all[0].0.seen());
    }
}

#[test]
fn of_two_snapshots_of_one_name_only_one_is_taken_and_a_later_one_replaces_what_was_not_proven() {
    let (mut first, mut second) = (members(1, BLOCKS), members(2, BLOCKS));
    second.all = vec![(source(3, BLOCKS, at(4, 9)), honest)];
    // All of the first is copied, and none of it proven.
    first.all[0].1 = |request, reply| match request {
        Request::Hash { .. } => Err(PeerError::NoSnapshot("it was deleted".to_owned())),
        _ => Ok(reply),
    };
    let mut target = Seat::clone_of(BLOCKS);
    attempt(&mut target, &mut first).expect_err("it is deleted there");
    assert_eq!(Target::snapshot(&target), Some(last()));
    attempt(&mut target, &mut second).expect("nothing is in the way");
    assert_eq!(Target::snapshot(&target), Some(at(4, 9)));
    assert_eq!(target.seen(), second.all[0].0.seen());
    // Beside each other, the one that answers first counts.
    first.all[0].1 = honest;
    first.all.append(&mut second.all);
    let mut target = Seat::clone_of(BLOCKS);
    attempt(&mut target, &mut first).expect("the first one has it");
    assert!(first.asked.iter().all(|(from, _)| *from == 0));
    assert_eq!(target.seen(), first.all[0].0.seen());
}
