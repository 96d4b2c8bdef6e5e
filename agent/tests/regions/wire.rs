//! Somebody who writes a region, and somebody who reads a snapshot of one; as a Downstairs hears them.

use bytes::Bytes;
use ids::{RegionId, RegionSetId, SnapshotId};
use region::{Position, Promotion, checksum};
use region_wire::{BlockData, Blocks, Haste, Hello, Inbox, Outbox, Reply, Request};
use std::{
    io::{IoSlice, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};
use uuid::Uuid;

/// Bytes of a block.
pub(crate) const BLOCK: usize = 4_096;

/// Far longer than any answer takes: hanging is the failure.
const LIMIT: Duration = Duration::from_secs(60);

/// A connection, on which each question has one answer.
pub(crate) struct Peer {
    socket: TcpStream,
    inbox: Inbox,
}

impl Peer {
    fn connect(address: SocketAddr, hello: Hello) -> (Peer, Reply) {
        let socket = TcpStream::connect(address).unwrap();
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        let mut peer = Peer { socket, inbox: Inbox::new() };
        let said = peer.ask(&Request::Hello(hello));
        (peer, said)
    }

    /// Who may write, and nobody else.
    pub(crate) fn writer(address: SocketAddr, region: RegionId, set: RegionSetId, epoch: u32) -> Peer {
        let (mut peer, said) = Peer::connect(address, Hello::new(region, set, None));
        assert!(matches!(said, Reply::Welcome(_)), "{said:?}");
        let said = peer.ask(&Request::Promote(Promotion { epoch, session: Uuid::from_u128(1) }));
        assert!(matches!(said, Reply::Promoted(_)), "{said:?}");
        peer
    }

    /// What a block holds at a snapshot; or what is said in its place.
    pub(crate) fn read_snapshot(
        address: SocketAddr,
        (region, set, snapshot): (RegionId, RegionSetId, SnapshotId),
        block: u64,
    ) -> Result<Bytes, Reply> {
        let (mut peer, said) = Peer::connect(address, Hello::new(region, set, Some(snapshot)));
        let Reply::SnapshotWelcome(_) = said else { return Err(said) };
        match peer.ask(&Request::Read {
            id: 1,
            blocks: Blocks { first: block, count: 1 },
            haste: Haste::Client,
        }) {
            Reply::Read { bytes, .. } => Ok(bytes),
            other => Err(other),
        }
    }

    /// So many blocks from this one on, all of one byte, as the next write of its epoch.
    pub(crate) fn write(&mut self, at: Position, first: u64, count: u64, fill: u8) {
        assert_eq!(self.try_write(at, first, count, fill), Reply::Applied(at));
    }

    /// The same; what is said to it first.
    pub(crate) fn try_write(&mut self, at: Position, first: u64, count: u64, fill: u8) -> Reply {
        let bytes = Bytes::from(vec![fill; BLOCK * usize::try_from(count).unwrap()]);
        let checksums =
            (first..).zip(bytes.chunks_exact(BLOCK)).map(|(block, own)| checksum(block, own)).collect();
        let data = BlockData { first, checksums, seals: Vec::new(), bytes };
        self.ask(&Request::Write(at, data))
    }

    fn ask(&mut self, request: &Request) -> Reply {
        let mut out = Outbox::new();
        request.encode(&mut out);
        while !out.is_empty() {
            let mut slices = [IoSlice::new(&[]); 4];
            let count = out.slices(&mut slices);
            let sent = self.socket.write_vectored(&slices[..count]).unwrap();
            out.sent(sent);
        }
        self.hear()
    }

    /// What is said next.
    pub(crate) fn hear(&mut self) -> Reply {
        loop {
            if let Some(frame) = self.inbox.next_frame().unwrap() {
                return Reply::parse(frame).unwrap();
            }
            let mut some = [0; 65_536];
            let count = self.socket.read(&mut some).unwrap();
            assert!(count > 0, "the connection has ended");
            self.inbox.fill().extend_from_slice(&some[..count]);
        }
    }
}
