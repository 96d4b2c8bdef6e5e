//! A connection of either kind, that never waits.

use mio::{
    Interest, Registry, Token,
    event::{Event, Source},
    net::{TcpStream, UnixStream},
};
use region_wire::{Outbox, outgoing};
use rustix::{
    buffer::spare_capacity,
    io::Errno,
    net::{RecvFlags, SendAncillaryBuffer, SendFlags, SocketFlags, connect, recv, sendmsg},
};
use std::{
    io::{self, IoSlice},
    net::SocketAddr,
    os::fd::{AsFd, BorrowedFd},
};

/// Slices of one system call.
const SLICES: usize = 64;

/// A connection.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// What an event says of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Happened {
    pub(crate) is_readable: bool,
    /// Behind what can be read nothing more will come. Not told again.
    pub(crate) is_closed: bool,
    pub(crate) is_writable: bool,
}

impl Happened {
    pub(crate) fn of(event: &Event) -> Happened {
        let is_closed = event.is_read_closed() || event.is_error();
        let is_readable = event.is_readable() || is_closed;
        Happened { is_readable, is_closed, is_writable: event.is_writable() }
    }
}

/// What came of reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Got {
    /// All that there was room for.
    Some,
    /// All that had arrived: what comes later is told as an event, but for an end that was told already.
    Rest,
    /// Nothing, for now.
    Nothing,
    /// Nothing, ever.
    End,
}

impl Socket {
    /// Begins to connect. What comes of it is told as an event.
    pub(crate) fn connect(from: Option<SocketAddr>, to: SocketAddr) -> io::Result<Socket> {
        let socket = outgoing(from, to, SocketFlags::NONBLOCK)?;
        match connect(&socket, &to) {
            Ok(()) | Err(Errno::INPROGRESS) => Ok(Socket::Tcp(TcpStream::from_std(socket.into()))),
            Err(error) => Err(error.into()),
        }
    }

    pub(crate) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        self.source().register(registry, token, Interest::READABLE | Interest::WRITABLE)
    }

    fn source(&mut self) -> &mut dyn Source {
        match self {
            Socket::Tcp(socket) => socket,
            Socket::Unix(socket) => socket,
        }
    }

    /// Whether connecting has worked. None if that is not known yet.
    pub(crate) fn is_connected(&self) -> Option<bool> {
        let Socket::Tcp(socket) = self else { return Some(true) };
        match (socket.take_error(), socket.peer_addr()) {
            (Ok(None), Ok(_)) => Some(true),
            (Ok(None), Err(error)) if error.kind() == io::ErrorKind::NotConnected => None,
            _ => Some(false),
        }
    }

    /// Reads into the room that the vector has, behind what is there.
    pub(crate) fn read_into(&self, into: &mut Vec<u8>) -> io::Result<Got> {
        let room = into.capacity() - into.len();
        match recv(self, spare_capacity(into), RecvFlags::DONTWAIT) {
            Ok((0, _)) => Ok(Got::End),
            Ok((count, _)) if count < room => Ok(Got::Rest),
            Ok(_) => Ok(Got::Some),
            Err(Errno::WOULDBLOCK | Errno::INTR) => Ok(Got::Nothing),
            Err(error) => Err(error.into()),
        }
    }

    /// Sends what it takes. Whether it takes more.
    pub(crate) fn send(&self, outbox: &mut Outbox) -> io::Result<bool> {
        while !outbox.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let count = outbox.slices(&mut slices);
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            match sendmsg(self, &slices[..count], &mut SendAncillaryBuffer::default(), flags) {
                Ok(sent) => outbox.sent(sent),
                Err(Errno::WOULDBLOCK) => return Ok(false),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Socket::Tcp(socket) => socket.as_fd(),
            Socket::Unix(socket) => socket.as_fd(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn an_address_that_the_machine_has_no_more_keeps_nobody_from_connecting() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        // Of those that are for documents, and nobody's.
        let gone = "192.0.2.1:0".parse().unwrap();
        for (from, comes_from) in [(gone, "127.0.0.1"), ("127.0.0.2:0".parse().unwrap(), "127.0.0.2")] {
            let _socket = Socket::connect(Some(from), listener.local_addr().unwrap()).unwrap();
            assert_eq!(listener.accept().unwrap().1.ip().to_string(), comes_from);
        }
    }
}
