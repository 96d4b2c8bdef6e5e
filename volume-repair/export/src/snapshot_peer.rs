//! A connection to a member that is asked for blocks of a snapshot: one question at a time. Owns what an answer has to be like to count.

use bytes::Bytes;
use region::{Member, Position, What};
use region_wire::{
    Blocks, Expected, Haste, Hello, Inbox, Outbox, PeerError, Reply, Request, outgoing, source_address,
};
use rustix::net::SocketFlags;
use std::{
    io::{self, IoSlice},
    net::{self, IpAddr, SocketAddr},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::timeout,
};
use volume_layers::SetSnapshot;

/// How long a member may take to accept a connection.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// How long one answer may take: one has 512 KiB at most.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// How long a connection stays that nothing is asked on: shorter than members wait, which is 30 s.
const UNUSED_MAX: Duration = Duration::from_secs(10);

/// What a member says of some blocks: what each of them is, and the bytes of those that have some.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) whats: Vec<What>,
    pub(crate) bytes: Bytes,
}

/// A connection.
#[derive(Debug)]
pub(crate) struct SnapshotPeer {
    socket: TcpStream,
    inbox: Inbox,
    next_id: u64,
    used: Instant,
}

impl SnapshotPeer {
    /// Connects to a member, from this address, and says what is wanted. The position of what it has.
    pub(crate) async fn connect(
        of: &SetSnapshot,
        (member, address): (Member, SocketAddr),
        own: Option<IpAddr>,
    ) -> Result<(SnapshotPeer, Position), PeerError> {
        let socket = socket(source_address(own, address), address).await?;
        let mut peer = SnapshotPeer { socket, inbox: Inbox::new(), next_id: 0, used: Instant::now() };
        let hello = Hello::new(member.region, of.set, Some(of.snapshot));
        let expected = Expected { geometry: of.geometry, incarnation: Some(member.incarnation) };
        let welcome = peer.ask(&Request::Hello(hello)).await?.welcomed(&expected)?;
        Ok((peer, welcome.applied))
    }

    /// Whether the member most likely still knows it.
    pub(crate) fn is_fresh(&self) -> bool {
        self.used.elapsed() < UNUSED_MAX
    }

    /// What some blocks held. Nothing of it was checked but that there is as much as was asked for.
    pub(crate) async fn read(&mut self, blocks: Blocks) -> Result<Told, PeerError> {
        self.next_id += 1;
        let asked = self.next_id;
        match self.ask(&Request::Read { id: asked, blocks, haste: Haste::Client }).await? {
            Reply::Read { id, first, whats, bytes }
                if id == asked && first == blocks.first && whats.len() == blocks.count as usize =>
            {
                Ok(Told { whats, bytes })
            }
            _ => Err(PeerError::Strange("it answers something else than it was asked")),
        }
    }

    async fn ask(&mut self, request: &Request) -> Result<Reply, PeerError> {
        let answer = timeout(ANSWER_MAX, self.exchange(request)).await;
        let reply = answer.map_err(|_| PeerError::Silent(ANSWER_MAX))??;
        self.used = Instant::now();
        reply.answered()
    }

    async fn exchange(&mut self, request: &Request) -> Result<Reply, PeerError> {
        let mut out = Outbox::new();
        request.encode(&mut out);
        while !out.is_empty() {
            let mut slices = [IoSlice::new(&[]); 2];
            let count = out.slices(&mut slices);
            let sent = self.socket.write_vectored(&slices[..count]).await.map_err(PeerError::Broken)?;
            out.sent(sent);
        }
        loop {
            if let Some(frame) = self.inbox.next_frame()? {
                return Ok(Reply::parse(frame)?);
            }
            let got = self.socket.read_buf(self.inbox.fill()).await.map_err(PeerError::Broken)?;
            if got == 0 {
                return Err(PeerError::Broken(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }
}

pub(crate) async fn socket(from: Option<SocketAddr>, to: SocketAddr) -> Result<TcpStream, PeerError> {
    let connected = timeout(CONNECT_MAX, connect(from, to)).await;
    let socket = connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    let socket = socket.map_err(PeerError::NotConnected)?;
    // Without it a question would wait for others; it goes on all the same.
    let _ = socket.set_nodelay(true);
    Ok(socket)
}

async fn connect(from: Option<SocketAddr>, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = net::TcpStream::from(outgoing(from, to, SocketFlags::NONBLOCK)?);
    TcpSocket::from_std_stream(socket).connect(to).await
}
