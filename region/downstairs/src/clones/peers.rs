//! Sources over sockets: one question at a time. Owns how long each may take, and what of a source is its own.

use super::{Source, Sources};
use ids::{RegionSetId, SnapshotId};
use region::Geometry;
use region_wire::{
    Expected, Hello, Inbox, Outbox, PeerError, Reply, Request, SnapshotWelcome, outgoing, source_address,
};
use rustix::{
    buffer::spare_capacity,
    io::Errno,
    net::{
        RecvFlags, SocketFlags, connect as begin, recv,
        sockopt::{Timeout, set_socket_timeout},
    },
};
use std::{
    io::{self, IoSlice, Write},
    net::{IpAddr, SocketAddr, TcpStream},
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
    /// The address of this process, from which it connects.
    pub(crate) own: IpAddr,
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

    fn welcome(&mut self, source: usize, geometry: Geometry) -> Result<SnapshotWelcome, PeerError> {
        self.connections[source] = None;
        let Source { region, incarnation, address } = self.sources[source];
        let mut connection = Connection::open(self.own, address).map_err(PeerError::NotConnected)?;
        let hello = Hello::new(region, self.set, Some(self.snapshot));
        let reply = connection.ask(&Request::Hello(hello), self.is_to_stop)?;
        let welcome = reply.welcomed(&Expected { geometry, incarnation })?;
        self.connections[source] = Some(connection);
        Ok(welcome)
    }

    fn ask(&mut self, source: usize, request: Request) -> Result<Reply, PeerError> {
        let is_to_stop = self.is_to_stop;
        let Some(connection) = &mut self.connections[source] else {
            return Err(PeerError::Broken(io::ErrorKind::NotConnected.into()));
        };
        let asked = connection.ask(&request, is_to_stop);
        if asked.is_err() {
            self.connections[source] = None;
        }
        asked
    }
}

impl Connection {
    fn open(own: IpAddr, address: SocketAddr) -> io::Result<Connection> {
        let socket = connect(source_address(Some(own), address), address)?;
        // Without it a question would wait for others; it goes on all the same.
        let _ = socket.set_nodelay(true);
        socket.set_read_timeout(Some(LOOK))?;
        socket.set_write_timeout(Some(ANSWER_MAX))?;
        Ok(Connection { socket, inbox: Inbox::new() })
    }

    fn ask(&mut self, request: &Request, is_to_stop: &dyn Fn() -> bool) -> Result<Reply, PeerError> {
        let mut out = Outbox::new();
        request.encode(&mut out);
        while !out.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let count = out.slices(&mut slices);
            let sent = self.socket.write_vectored(&slices[..count]).map_err(PeerError::Broken)?;
            out.sent(sent);
        }
        let end = Instant::now() + ANSWER_MAX;
        loop {
            if let Some(frame) = self.inbox.next_frame()? {
                return Reply::parse(frame)?.answered();
            }
            if is_to_stop() || Instant::now() >= end {
                return Err(PeerError::Silent(ANSWER_MAX));
            }
            match recv(&self.socket, spare_capacity(self.inbox.fill()), RecvFlags::empty()) {
                Ok((0, _)) => return Err(PeerError::Broken(io::ErrorKind::UnexpectedEof.into())),
                Ok(_) | Err(Errno::AGAIN | Errno::INTR) => {}
                Err(error) => return Err(PeerError::Broken(error.into())),
            }
        }
    }
}

/// Connects from one address to another one, within [`CONNECT_MAX`].
fn connect(from: Option<SocketAddr>, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = outgoing(from, to, SocketFlags::empty())?;
    // On Linux connecting takes no longer than sending may.
    set_socket_timeout(&socket, Timeout::Send, Some(CONNECT_MAX))?;
    match begin(&socket, &to) {
        Err(Errno::INPROGRESS) => Err(io::ErrorKind::TimedOut.into()),
        begun => Ok(begun.map(|()| socket.into())?),
    }
}
