//! Region sets: their members, each on a simulated disk, and the messages that are on their way to and from them.

use camino::Utf8Path;
use downstairs::{ConnectionId, Effect, Member};
use durable_fs::SimMachine;
use ids::{RegionId, RegionSetId};
use region::{
    BlockSize, Geometry, Identity, List, ListVersion, Member as Named, NewContent, NewRegion, Onto, Opening,
    Position, Promotion, Write, checksum,
};
use region_wire::{Reply, Request};
use std::{collections::VecDeque, net::SocketAddr, sync::Arc};
use upstairs::{Config, Limits, Patience};
use uuid::Uuid;
use volume_layers::Part;

pub(crate) const BLOCK: usize = 512;
const PATH: &str = "region";

/// A region set: three members.
pub(crate) struct Site {
    number: u128,
    pub(crate) blocks: u64,
    /// How long clients wait for members, and how much is kept for those.
    pub(crate) patience: Patience,
    pub(crate) limits: Limits,
    pub(crate) members: Vec<Seat>,
}

/// A member, and its connection.
pub(crate) struct Seat {
    member: Member,
    connection: ConnectionId,
    /// Whether its process is not there.
    pub(crate) is_away: bool,
    pub(crate) to_member: VecDeque<ToMember>,
    pub(crate) from_member: VecDeque<FromMember>,
}

pub(crate) enum ToMember {
    Connect,
    Request(Request),
    Disconnect,
}

#[derive(Debug)]
pub(crate) enum FromMember {
    Connected(bool),
    Reply(Reply),
    Disconnected,
}

impl Site {
    pub(crate) fn new(number: u128, blocks: u64) -> Site {
        let machine = SimMachine::new();
        let geometry = Geometry { block_size: BlockSize::B512, blocks, is_sealed: false };
        let full: Vec<Named> = (0..3).map(|place| named(number, place)).collect();
        let list = List { version: ListVersion { epoch: 0, number: 1 }, base: Position::NONE, full };
        let seat = |place: u128| {
            let disk = machine.add_disk(1 << 25);
            let identity = Identity { region: named(number, place).region, set: set(number), geometry };
            let salt = u64::try_from(place).expect("it is small");
            let new = NewRegion { identity, incarnation: 7, list: list.clone(), salt };
            region::create(&disk, Utf8Path::new(PATH), &new).expect("it is made");
            let opening = Opening { life: 1, boot: Uuid::nil() };
            Seat {
                member: Member::new(
                    region::open(Arc::new(disk), Utf8Path::new(PATH), opening).expect("it opens"),
                ),
                connection: ConnectionId(0),
                is_away: false,
                to_member: VecDeque::new(),
                from_member: VecDeque::new(),
            }
        };
        let (patience, limits) = (Patience::default(), Limits::default());
        Site { number, blocks, patience, limits, members: (0..3).map(seat).collect() }
    }

    /// It, as a part of a volume.
    pub(crate) fn part(&self, epoch: u32) -> Part {
        let config = Box::new(self.config(epoch));
        Part::RegionSet { config, members: vec![SocketAddr::from(([127, 0, 0, 1], 1)); 3] }
    }

    pub(crate) fn config(&self, epoch: u32) -> Config {
        Config {
            set: set(self.number),
            geometry: Geometry { block_size: BlockSize::B512, blocks: self.blocks, is_sealed: false },
            members: upstairs::Members::only((0..3).map(|place| named(self.number, place)).collect()),
            promotion: Promotion { epoch, session: Uuid::from_u128(epoch.into()) },
            accepts_possible_loss: false,
            limits: self.limits,
            patience: self.patience,
            sealer: None,
        }
    }

    /// What was on its way to the last writer, and from it, is gone with it.
    pub(crate) fn change_hands(&mut self) {
        self.members.iter_mut().for_each(Seat::end);
    }
}

impl Seat {
    pub(crate) fn says(&mut self, what: FromMember) {
        self.from_member.push_back(what);
    }

    /// Its connection, and what is on its way on it, is gone.
    pub(crate) fn end(&mut self) {
        let _ = self.member.disconnect(self.connection);
        self.to_member.clear();
        self.from_member.clear();
    }

    pub(crate) fn region(&self) -> RegionId {
        self.member.region().identity().region
    }

    /// Somebody writes bytes in place of what it has of a block, of the same version, with their checksum.
    pub(crate) fn overwrite(&mut self, block: u64, bytes: &[u8; BLOCK]) {
        let region = self.member.region_mut();
        let version = region.look(block..block + 1).expect("it is looked at")[0].version;
        let checksums = [checksum(block, bytes)];
        let content = NewContent::Bytes { bytes, checksums: &checksums, seals: &[] };
        let write = Write { version, block, content, onto: Onto::Same };
        assert_eq!(region.write(region.applied(), &[write]).expect("it is written"), 1);
    }

    /// Hears the next thing that was said to it.
    pub(crate) fn hear(&mut self) {
        let effects = match self.to_member.pop_front() {
            None => return,
            Some(ToMember::Connect) => {
                if self.is_away {
                    return self.says(FromMember::Connected(false));
                }
                self.connection = ConnectionId(self.connection.0 + 1);
                return self.says(FromMember::Connected(true));
            }
            // Nobody is there.
            Some(_) if self.is_away => return,
            Some(ToMember::Disconnect) => self.member.disconnect(self.connection),
            Some(ToMember::Request(Request::Hello(hello))) => self.member.connect(self.connection, &hello),
            Some(ToMember::Request(request)) => self.member.receive(self.connection, vec![request]),
        };
        let mut effects = VecDeque::from(effects);
        while let Some(effect) = effects.pop_front() {
            match effect {
                Effect::Send(to, reply) if to == self.connection => self.says(FromMember::Reply(reply)),
                Effect::Close(of) if of == self.connection => self.says(FromMember::Disconnected),
                Effect::Run(work) => effects.extend(self.member.ended(work.run())),
                // The last writer is not there any more.
                Effect::Send(..) | Effect::Close(_) | Effect::TryAgain => {}
            }
        }
    }
}

fn set(number: u128) -> RegionSetId {
    RegionSetId(Uuid::from_u128(1_000 + number))
}

fn named(number: u128, place: u128) -> Named {
    Named { region: RegionId(Uuid::from_u128(number * 10 + place + 1)), incarnation: 7 }
}
