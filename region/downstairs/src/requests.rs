//! What a peer asks on one connection, in the order and the pieces in which it comes.

use region_wire::{Inbox, Request, WireError};
use rustix::{
    buffer::spare_capacity,
    io::Errno,
    net::{RecvFlags, recv},
};
use std::{io, net::TcpStream};

/// What a peer asks.
pub(crate) struct Requests {
    socket: TcpStream,
    inbox: Inbox,
}

impl Requests {
    pub(crate) fn of(socket: TcpStream) -> Requests {
        Requests { socket, inbox: Inbox::new() }
    }

    /// At least one, and all that have come with it. None at the end.
    pub(crate) fn next(&mut self) -> io::Result<Option<Vec<Request>>> {
        let wrong = |error: WireError| io::Error::new(io::ErrorKind::InvalidData, error);
        loop {
            let mut requests = Vec::new();
            while let Some(frame) = self.inbox.next_frame().map_err(wrong)? {
                requests.push(Request::parse(frame).map_err(wrong)?);
            }
            if !requests.is_empty() {
                return Ok(Some(requests));
            }
            match recv(&self.socket, spare_capacity(self.inbox.fill()), RecvFlags::empty()) {
                Ok((0, _)) => return Ok(None),
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}
