//! A member on a simulated disk, and connections to it.

use bytes::Bytes;
use camino::Utf8Path;
use downstairs::{ConnectionId, Effect, Ended, Member, Work};
use durable_fs::{DiskFaults, FaultyDisk, SimDisk, SimMachine};
use ids::{RegionId, RegionSetId};
use region::{
    BlockSize, Geometry, Identity, List, ListVersion, Member as Named, NewRegion, Opening, Position,
    Promotion, checksum,
};
use region_wire::{BlockData, Blocks, Haste, Hello, Reply, Request};
use std::{collections::BTreeMap, sync::Arc};
use uuid::Uuid;

pub(crate) const BLOCK: usize = 512;
pub(crate) const BLOCKS: u64 = 100;
const PATH: &str = "region";

/// The members of its set: this one is the first.
pub(crate) fn named(number: u128) -> Named {
    Named { region: RegionId(Uuid::from_u128(number)), incarnation: 7 }
}

pub(crate) fn list(epoch: u32, number: u32, members: &[u128]) -> List {
    let full = members.iter().map(|number| named(*number)).collect();
    List { version: ListVersion { epoch, number }, base: Position::NONE, full }
}

pub(crate) fn promotion(epoch: u32, session: u128) -> Promotion {
    Promotion { epoch, session: Uuid::from_u128(session) }
}

pub(crate) fn at(epoch: u32, counter: u64) -> Position {
    Position { epoch, counter }
}

pub(crate) fn bytes(fill: u8) -> Bytes {
    Bytes::from(vec![fill; BLOCK])
}

pub(crate) fn data(first: u64, fill: u8) -> BlockData {
    let bytes = bytes(fill);
    BlockData { first, checksums: vec![checksum(first, &bytes)], seals: Vec::new(), bytes }
}

pub(crate) fn write(epoch: u32, counter: u64, block: u64, fill: u8) -> Request {
    Request::Write(at(epoch, counter), data(block, fill))
}

pub(crate) fn read(block: u64) -> Request {
    Request::Read { id: 99, blocks: Blocks { first: block, count: 1 }, haste: Haste::Client }
}

/// A member, and what it has said.
pub(crate) struct Desk {
    pub(crate) machine: SimMachine,
    pub(crate) disk: FaultyDisk<SimDisk>,
    pub(crate) faults: DiskFaults,
    pub(crate) member: Member,
    next: u64,
    said: BTreeMap<ConnectionId, Vec<Reply>>,
    pub(crate) closed: Vec<ConnectionId>,
    /// Work that was begun and not run.
    pub(crate) work: Vec<Work>,
    /// Whether work is run as soon as it is begun.
    pub(crate) runs_work: bool,
}

impl Desk {
    /// Of a new region: full, with two others.
    pub(crate) fn new() -> Desk {
        Desk::with_list(list(0, 1, &[1, 2, 3]))
    }

    pub(crate) fn with_list(list: List) -> Desk {
        let machine = SimMachine::new();
        let faults = DiskFaults::new();
        let disk = FaultyDisk::new(machine.add_disk(1 << 24), faults.clone());
        let geometry = Geometry { block_size: BlockSize::B512, blocks: BLOCKS, is_sealed: false };
        let identity = Identity { region: named(1).region, set: RegionSetId(Uuid::from_u128(50)), geometry };
        let new = NewRegion { identity, incarnation: 7, list, salt: 3 };
        region::create(&disk, Utf8Path::new(PATH), &new).expect("it is made");
        let member = open(&disk);
        Desk {
            machine,
            disk,
            faults,
            member,
            next: 0,
            said: BTreeMap::new(),
            closed: Vec::new(),
            work: Vec::new(),
            runs_work: true,
        }
    }

    pub(crate) fn hello() -> Hello {
        Hello::new(named(1).region, RegionSetId(Uuid::from_u128(50)), None)
    }

    /// Somebody who has said Hello.
    pub(crate) fn connect(&mut self) -> ConnectionId {
        let (connection, said) = self.try_connect(&Desk::hello());
        assert!(matches!(said[..], [Reply::Welcome(_)]), "{said:?}");
        connection
    }

    pub(crate) fn try_connect(&mut self, hello: &Hello) -> (ConnectionId, Vec<Reply>) {
        self.next += 1;
        let connection = ConnectionId(self.next);
        let effects = self.member.connect(connection, hello);
        self.perform(effects);
        (connection, self.heard(connection))
    }

    /// Somebody who may write.
    pub(crate) fn promoted(&mut self, promotion: Promotion) -> ConnectionId {
        let connection = self.connect();
        let said = self.ask(connection, Request::Promote(promotion));
        assert!(matches!(said[..], [Reply::Promoted(_)]), "{said:?}");
        connection
    }

    /// What it is told from one request on.
    pub(crate) fn ask(&mut self, connection: ConnectionId, request: Request) -> Vec<Reply> {
        self.ask_all(connection, vec![request])
    }

    pub(crate) fn ask_all(&mut self, connection: ConnectionId, requests: Vec<Request>) -> Vec<Reply> {
        let effects = self.member.receive(connection, requests);
        self.perform(effects);
        self.heard(connection)
    }

    pub(crate) fn disconnect(&mut self, connection: ConnectionId) {
        let effects = self.member.disconnect(connection);
        self.perform(effects);
    }

    pub(crate) fn tick(&mut self) {
        let effects = self.member.tick();
        self.perform(effects);
    }

    /// Runs what was begun.
    pub(crate) fn work(&mut self) {
        for work in std::mem::take(&mut self.work) {
            self.end(work.run());
        }
    }

    pub(crate) fn end(&mut self, ended: Ended) {
        let effects = self.member.ended(ended);
        self.perform(effects);
    }

    /// What it was told and was not looked at.
    pub(crate) fn heard(&mut self, connection: ConnectionId) -> Vec<Reply> {
        self.said.remove(&connection).unwrap_or_default()
    }

    /// The power fails, and a new process opens what is left.
    pub(crate) fn lose_power(&mut self, seed: u64) {
        self.machine.crash(seed);
        self.member = open(&self.disk);
        self.work.clear();
    }

    /// The same, of a machine that says that it was started anew.
    pub(crate) fn lose_power_and_boot(&mut self, seed: u64) {
        self.machine.crash(seed);
        self.restart_in_boot(seed);
    }

    /// The process is killed, and a new one opens the region in this boot of the machine.
    pub(crate) fn restart_in_boot(&mut self, boot: u64) {
        self.machine.power_on();
        let opening = Opening { life: 2, boot: Uuid::from_u128(boot.into()) };
        let opened =
            region::open(Arc::new(self.disk.clone()), Utf8Path::new(PATH), opening).expect("it opens");
        self.member = Member::new(opened);
        self.work.clear();
    }

    /// The process is killed, and a new one opens the region.
    pub(crate) fn restart(&mut self) {
        self.machine.power_on();
        self.member = open(&self.disk);
        self.work.clear();
    }

    pub(crate) fn fill_of(&mut self, block: u64) -> Option<u8> {
        let mut bytes = Vec::new();
        self.member.region_mut().read(block..block + 1, &mut bytes).expect("it can be read");
        bytes.first().copied()
    }

    fn perform(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Send(connection, reply) => self.said.entry(connection).or_default().push(reply),
                Effect::Close(connection) => self.closed.push(connection),
                Effect::Run(work) => self.work.push(work),
                Effect::TryAgain => {}
            }
        }
        if self.runs_work {
            self.work();
        }
    }
}

fn open(disk: &FaultyDisk<SimDisk>) -> Member {
    let opening = Opening { life: 1, boot: Uuid::nil() };
    Member::new(region::open(Arc::new(disk.clone()), Utf8Path::new(PATH), opening).expect("it opens"))
}
