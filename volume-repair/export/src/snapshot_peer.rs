//! A connection to a member that is asked for blocks of a snapshot: one question at a time. Owns what an answer has to be like to count.

use bytes::Bytes;
use region::{Geometry, Member, Position, What};
use region_wire::{Blocks, Hello, Inbox, Outbox, Refusal, Reply, Request, WireError};
use std::{
    io::{self, IoSlice},
    net::SocketAddr,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use volume_layers::SetSnapshot;

/// The version of the protocol that is spoken.
const VERSION: u16 = 1;

/// How long a member may take to accept a connection.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// How long one answer may take: one has 512 KiB at most.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// How long a connection stays that nothing is asked on: shorter than members wait, which is 30 s.
const UNUSED_MAX: Duration = Duration::from_secs(10);

/// Why a member has not given what it was asked for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PeerError {
    #[error("it cannot be reached")]
    NotConnected(#[source] io::Error),
    #[error("its connection broke")]
    Broken(#[source] io::Error),
    #[error("it has not answered within {} s", .0.as_secs())]
    Silent(Duration),
    #[error("{0}")]
    NoSnapshot(String),
    #[error("it refuses: {0}")]
    Refused(String),
    #[error("what it says is no message")]
    Wire(#[from] WireError),
    #[error("it says what cannot be: {0}")]
    Strange(&'static str),
    #[error("its blocks are {theirs:?}, and should be {ours:?}")]
    OtherBlocks { theirs: Geometry, ours: Geometry },
    #[error("it is another region under the same id: its incarnation is {theirs}, and should be {ours}")]
    OtherIncarnation { theirs: u64, ours: u64 },
    #[error(
        "its snapshot of that name is another one: it is of position {theirs}, and that of others is of {ours}"
    )]
    OtherSnapshot { theirs: Position, ours: Position },
    #[error("block {0} is not what was written there")]
    WrongBlock(u64),
    #[error(
        "block {0} is not what the volume's key has sealed, and has its checksum: somebody has changed it"
    )]
    WrongSeal(u64),
    #[error("the bytes of block {0} were lost when it was to get them")]
    Lost(u64),
}

impl PeerError {
    /// Whether it may be otherwise in a moment.
    pub(crate) fn may_pass(&self) -> bool {
        matches!(self, PeerError::NotConnected(_) | PeerError::Broken(_) | PeerError::Silent(_))
    }
}

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
    /// Connects to a member, and says what is wanted. The position of what it has.
    pub(crate) async fn connect(
        of: &SetSnapshot,
        (member, address): (Member, SocketAddr),
    ) -> Result<(SnapshotPeer, Position), PeerError> {
        let socket = socket(address).await?;
        let mut peer = SnapshotPeer { socket, inbox: Inbox::new(), next_id: 0, used: Instant::now() };
        let hello = Hello {
            version_min: VERSION,
            version_max: VERSION,
            region: member.region,
            set: of.set,
            snapshot: Some(of.snapshot),
        };
        let Reply::SnapshotWelcome(welcome) = peer.ask(&Request::Hello(hello)).await? else {
            return Err(PeerError::Strange("it does not welcome who wants to read a snapshot"));
        };
        if welcome.geometry != of.geometry {
            return Err(PeerError::OtherBlocks { theirs: welcome.geometry, ours: of.geometry });
        }
        if welcome.incarnation != member.incarnation {
            let (theirs, ours) = (welcome.incarnation, member.incarnation);
            return Err(PeerError::OtherIncarnation { theirs, ours });
        }
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
        match self.ask(&Request::Read { id: asked, blocks }).await? {
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
        match reply {
            Reply::Refused(refusal) => Err(refused(refusal)),
            Reply::Failed(why) | Reply::Wrong(why) => Err(PeerError::Refused(why)),
            reply => Ok(reply),
        }
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

async fn socket(address: SocketAddr) -> Result<TcpStream, PeerError> {
    let connected = timeout(CONNECT_MAX, TcpStream::connect(address)).await;
    let socket = connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    let socket = socket.map_err(PeerError::NotConnected)?;
    // Without it a question would wait for others; it goes on all the same.
    let _ = socket.set_nodelay(true);
    Ok(socket)
}

fn refused(refusal: Refusal) -> PeerError {
    PeerError::Refused(match refusal {
        Refusal::NoSnapshot(why) => return PeerError::NoSnapshot(why),
        Refusal::NoRegion(why)
        | Refusal::OtherSet(why)
        | Refusal::NotOpened(why)
        | Refusal::ReadOnly(why)
        | Refusal::EpochTooHigh(why)
        | Refusal::List { why, .. } => why,
        Refusal::Version(min, max) => {
            format!("it speaks versions {min} to {max} of the protocol, and this speaks {VERSION}")
        }
        Refusal::Epoch(_) => "it wants an epoch, which nobody needs who only reads".to_owned(),
    })
}
