//! A connection of either kind, that never waits.

use mio::{
    Interest, Registry, Token,
    event::Source,
    net::{TcpStream, UnixStream},
};
use region_wire::Outbox;
use rustix::{
    buffer::spare_capacity,
    io::Errno,
    net::{RecvFlags, SendAncillaryBuffer, SendFlags, recv, sendmsg},
};
use std::{
    io::{self, IoSlice},
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

/// What came of reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Got {
    /// So many bytes.
    Some(usize),
    /// Nothing, for now.
    Nothing,
    /// Nothing, ever.
    End,
}

impl Socket {
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
        got(recv(self, spare_capacity(into), RecvFlags::DONTWAIT).map(|(count, _)| count))
    }

    /// Reads into these bytes.
    pub(crate) fn read(&self, into: &mut [u8]) -> io::Result<Got> {
        got(recv(self, into, RecvFlags::DONTWAIT).map(|(count, _)| count))
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

fn got(read: Result<usize, Errno>) -> io::Result<Got> {
    match read {
        Ok(0) => Ok(Got::End),
        Ok(count) => Ok(Got::Some(count)),
        Err(Errno::WOULDBLOCK | Errno::INTR) => Ok(Got::Nothing),
        Err(error) => Err(error.into()),
    }
}
