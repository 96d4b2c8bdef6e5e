//! Sources over sockets: one question at a time. Owns how long each may take, and what of a source is its own.

use super::{Source, SourceError, Sources};
use crate::member::VERSION;
use ids::{RegionSetId, SnapshotId};
use region_wire::{Hello, Inbox, Outbox, Refusal, Reply, Request, SnapshotWelcome};
use rustix::{
    buffer::spare_capacity,
    io::Errno,
    net::{RecvFlags, recv},
};
use std::{
    io::{self, IoSlice, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

/// How long a source may take to accept a connection.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// How long one answer may take: one has 1 MiB at most.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// How often it is looked meanwhile whether it is to stop.
const LOOK: Duration = Duration::from_millis(200);

/// Slices of one system call.
const SLICES: usize = 64;

/// The members that a clone is made from.
pub(crate) struct Peers<'a> {
    pub(crate) set: RegionSetId,
    pub(crate) snapshot: SnapshotId,
    pub(crate) sources: Vec<Source>,
    pub(crate) connections: Vec<Option<Connection>>,
    pub(crate) is_to_stop: &'a dyn Fn() -> bool,
}

/// A connection to one.
pub(crate) struct Connection {
    socket: TcpStream,
    inbox: Inbox,
}

impl Sources for Peers<'_> {
    fn count(&self) -> usize {
        self.sources.len()
    }

    fn welcome(&mut self, source: usize) -> Result<SnapshotWelcome, SourceError> {
        self.connections[source] = None;
        let Source { region, incarnation: ours, address } = self.sources[source];
        let socket = TcpStream::connect_timeout(&address, CONNECT_MAX).map_err(SourceError::NotConnected)?;
        // Without it a question would wait for others; it goes on all the same.
        let _ = socket.set_nodelay(true);
        socket.set_read_timeout(Some(LOOK)).map_err(SourceError::NotConnected)?;
        socket.set_write_timeout(Some(ANSWER_MAX)).map_err(SourceError::NotConnected)?;
        self.connections[source] = Some(Connection { socket, inbox: Inbox::new() });
        let snapshot = Some(self.snapshot);
        let hello = Hello { version_min: VERSION, version_max: VERSION, region, set: self.set, snapshot };
        match self.ask(source, Request::Hello(hello))? {
            Reply::SnapshotWelcome(welcome) if ours.is_none_or(|ours| ours == welcome.incarnation) => {
                Ok(welcome)
            }
            Reply::SnapshotWelcome(welcome) => {
                let (theirs, ours) = (welcome.incarnation, ours.unwrap_or_default());
                Err(SourceError::OtherIncarnation { theirs, ours })
            }
            _ => Err(SourceError::Strange("it does not welcome who wants to read a snapshot")),
        }
    }

    fn ask(&mut self, source: usize, request: Request) -> Result<Reply, SourceError> {
        let is_to_stop = self.is_to_stop;
        let Some(connection) = &mut self.connections[source] else {
            return Err(SourceError::Broken(io::ErrorKind::NotConnected.into()));
        };
        let asked = connection.ask(&request, is_to_stop);
        if asked.is_err() {
            self.connections[source] = None;
        }
        asked
    }
}

impl Connection {
    fn ask(&mut self, request: &Request, is_to_stop: &dyn Fn() -> bool) -> Result<Reply, SourceError> {
        let mut out = Outbox::new();
        request.encode(&mut out);
        while !out.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let count = out.slices(&mut slices);
            let sent = self.socket.write_vectored(&slices[..count]).map_err(SourceError::Broken)?;
            out.sent(sent);
        }
        let end = Instant::now() + ANSWER_MAX;
        loop {
            if let Some(frame) = self.inbox.next_frame()? {
                return match Reply::parse(frame)? {
                    Reply::Refused(refusal) => Err(refused(refusal)),
                    Reply::Failed(why) | Reply::Wrong(why) => Err(SourceError::Refused(why)),
                    reply => Ok(reply),
                };
            }
            if is_to_stop() || Instant::now() >= end {
                return Err(SourceError::Silent(ANSWER_MAX));
            }
            match recv(&self.socket, spare_capacity(self.inbox.fill()), RecvFlags::empty()) {
                Ok((0, _)) => return Err(SourceError::Broken(io::ErrorKind::UnexpectedEof.into())),
                Ok(_) | Err(Errno::AGAIN | Errno::INTR) => {}
                Err(error) => return Err(SourceError::Broken(error.into())),
            }
        }
    }
}

fn refused(refusal: Refusal) -> SourceError {
    SourceError::Refused(match refusal {
        Refusal::NoSnapshot(why) => return SourceError::NoSnapshot(why),
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
