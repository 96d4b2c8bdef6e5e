//! What a peer asks on one connection, in the order and the pieces in which it comes.

use region_wire::{Inbox, Request, WireError};
use rustix::{
    buffer::spare_capacity,
    io::Errno,
    net::{RecvFlags, recv},
};
use std::{
    io::{self, Read},
    net::TcpStream,
    time::{Duration, Instant},
};

/// Whoever has not said Hello after so long keeps no place of another one's.
const HELLO_MAX: Duration = Duration::from_secs(5);

/// Whoever was told the last may take so long to end it.
const LINGER_MAX: Duration = Duration::from_secs(2);

/// A frame that somebody begins with has so many bytes at most: as many as there is room for without asking who it is. A Hello has some 60.
const FIRST_BYTES_MAX: usize = 64 << 10;

/// What a peer asks.
pub(crate) struct Requests {
    socket: TcpStream,
    /// How long it may say nothing, once it has begun.
    silence_max: Duration,
    inbox: Inbox,
}

impl Requests {
    pub(crate) fn of(socket: TcpStream, silence_max: Duration) -> Requests {
        Requests { socket, silence_max, inbox: Inbox::new() }
    }

    /// What it begins with: soon, and short. Byte by byte is not soon.
    pub(crate) fn first(&mut self) -> io::Result<Option<Vec<Request>>> {
        let end = Instant::now() + HELLO_MAX;
        loop {
            let requests = self.arrived()?;
            if !requests.is_empty() {
                self.socket.set_read_timeout(Some(self.silence_max))?;
                return Ok(Some(requests));
            }
            if self.inbox.needed() > FIRST_BYTES_MAX {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "it begins with too long a message"));
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.socket.set_read_timeout(Some(left))?;
            if !self.wait()? {
                return Ok(None);
            }
        }
    }

    /// At least one, and all that have come with it. None at the end.
    pub(crate) fn next(&mut self) -> io::Result<Option<Vec<Request>>> {
        loop {
            let requests = self.arrived()?;
            if !requests.is_empty() {
                return Ok(Some(requests));
            }
            if !self.wait()? {
                return Ok(None);
            }
        }
    }

    /// Reads what more it says, and does nothing about it, until it ends: but not for long.
    pub(crate) fn linger(&mut self) {
        let (end, mut some) = (Instant::now() + LINGER_MAX, [0; 16 << 10]);
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() || self.socket.set_read_timeout(Some(left)).is_err() {
                return;
            }
            match self.socket.read(&mut some) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }

    /// Those that are there whole.
    fn arrived(&mut self) -> io::Result<Vec<Request>> {
        let wrong = |error: WireError| io::Error::new(io::ErrorKind::InvalidData, error);
        let mut requests = Vec::new();
        while let Some(frame) = self.inbox.next_frame().map_err(wrong)? {
            requests.push(Request::parse(frame).map_err(wrong)?);
        }
        Ok(requests)
    }

    /// Waits for more. Whether there will be any.
    fn wait(&mut self) -> io::Result<bool> {
        match recv(&self.socket, spare_capacity(self.inbox.fill()), RecvFlags::empty()) {
            Ok((count, _)) => Ok(count > 0),
            Err(Errno::INTR) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }
}
