//! A disk that is served, and who talks to it.

#![allow(dead_code, reason = "each test binary uses its part")]

use bytes::Bytes;
use downstairs::{Disk, Server};
use durable_fs::RealDisk;
use ids::{RegionId, RegionSetId, SnapshotId};
use region::{
    BlockSize, Geometry, Identity, List, ListVersion, Member, NewRegion, Position, Promotion, checksum,
};
use region_wire::{BlockData, Blocks, Haste, Hello, Inbox, Outbox, Reply, Request};
use std::{
    io::{ErrorKind, IoSlice, Read, Write},
    net::TcpStream,
    sync::Arc,
    time::Duration,
};
use uuid::Uuid;

pub(crate) const BLOCK: usize = 4_096;

pub(crate) fn set() -> RegionSetId {
    RegionSetId(Uuid::from_u128(50))
}

pub(crate) fn region(number: u128) -> RegionId {
    RegionId(Uuid::from_u128(number))
}

pub(crate) struct Served {
    pub(crate) directory: camino_tempfile::Utf8TempDir,
    pub(crate) server: Option<Server>,
}

impl Served {
    pub(crate) fn new(regions: u128) -> Served {
        Served::with_lists(regions, |_| List::default())
    }

    /// Of regions that are full, each alone.
    pub(crate) fn full(regions: u128) -> Served {
        let version = ListVersion { epoch: 0, number: 1 };
        let full = |number| vec![Member { region: region(number), incarnation: 1 }];
        Served::with_lists(regions, |number| List { version, base: Position::NONE, full: full(number) })
    }

    pub(crate) fn with_lists(regions: u128, list: impl Fn(u128) -> List) -> Served {
        let directory = camino_tempfile::tempdir().expect("there is room for a directory");
        let mut served = Served { directory, server: None };
        let disk = served.disk();
        for number in 1..=regions {
            let geometry = Geometry { block_size: BlockSize::B4096, blocks: 1_000, is_sealed: false };
            let identity = Identity { region: region(number), set: set(), geometry };
            let new = NewRegion { identity, incarnation: 1, list: list(number), salt: 3 };
            disk.create(&new).expect("it is made");
        }
        served.start();
        served
    }

    pub(crate) fn disk(&self) -> Disk {
        Disk::new(Arc::new(RealDisk::new(self.directory.path())))
    }

    pub(crate) fn start(&mut self) {
        let address = "127.0.0.1:0".parse().expect("it is an address");
        self.server = Some(Server::start(self.disk(), address).expect("it starts"));
    }

    pub(crate) fn stop(&mut self) {
        self.server.take().expect("it runs").stop();
    }

    pub(crate) fn connect(&self) -> Peer {
        let socket =
            TcpStream::connect(self.server.as_ref().expect("it runs").address()).expect("it accepts");
        socket.set_read_timeout(Some(Duration::from_secs(20))).expect("it can be set");
        Peer { socket, inbox: Inbox::new() }
    }

    pub(crate) fn promoted(&self, number: u128, epoch: u32) -> Peer {
        let mut peer = self.connect();
        peer.say(&[hello(number)]);
        assert!(matches!(peer.hear(), Some(Reply::Welcome(_))));
        let session = Uuid::from_u128(epoch.into());
        peer.say(&[Request::Promote(Promotion { epoch, session })]);
        assert!(matches!(peer.hear(), Some(Reply::Promoted(_))));
        peer
    }
}

pub(crate) fn hello(number: u128) -> Request {
    hello_of(number, None)
}

pub(crate) fn hello_of(number: u128, snapshot: Option<SnapshotId>) -> Request {
    Request::Hello(Hello::new(region(number), set(), snapshot))
}

pub(crate) fn write(counter: u64, first: u64, count: u64, fill: u8) -> Request {
    let bytes = Bytes::from(vec![fill; BLOCK * count as usize]);
    let checksums =
        bytes.chunks_exact(BLOCK).zip(first..).map(|(bytes, block)| checksum(block, bytes)).collect();
    Request::Write(Position { epoch: 1, counter }, BlockData { first, checksums, seals: Vec::new(), bytes })
}

pub(crate) fn read(id: u64, first: u64, count: u32) -> Request {
    Request::Read { id, blocks: Blocks { first, count }, haste: Haste::Client }
}

pub(crate) struct Peer {
    pub(crate) socket: TcpStream,
    pub(crate) inbox: Inbox,
}

impl Peer {
    pub(crate) fn say(&mut self, requests: &[Request]) {
        let mut out = Outbox::new();
        requests.iter().for_each(|request| request.encode(&mut out));
        while !out.is_empty() {
            let mut slices = [IoSlice::new(&[]); 16];
            let count = out.slices(&mut slices);
            let sent = self.socket.write_vectored(&slices[..count]).expect("it is sent");
            out.sent(sent);
        }
    }

    /// None if the connection has ended.
    pub(crate) fn hear(&mut self) -> Option<Reply> {
        loop {
            if let Some(frame) = self.inbox.next_frame().expect("it is a frame") {
                return Some(Reply::parse(frame).expect("it is a reply"));
            }
            let mut some = [0; 65_536];
            match self.socket.read(&mut some) {
                Ok(0) => return None,
                Ok(count) => self.inbox.fill().extend_from_slice(&some[..count]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("nothing comes: {error}"),
            }
        }
    }

    pub(crate) fn hear_read(&mut self) -> Vec<u8> {
        loop {
            match self.hear() {
                Some(Reply::Read { bytes, .. }) => return bytes.to_vec(),
                Some(Reply::Applied(_)) => {}
                other => panic!("{other:?} in place of what was read"),
            }
        }
    }
}
