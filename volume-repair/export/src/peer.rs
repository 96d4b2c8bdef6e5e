//! The connection to one member.

use crate::socket::{Got, Happened, Socket};
use mio::{Registry, Token};
use region_wire::{Inbox, Outbox, Reply, Request};
use std::{io, net::SocketAddr};

/// Bytes that are read from one member before others have their turn.
const TURN: usize = 4 << 20;

/// The connection to the member at some place, if there is one.
#[derive(Debug)]
pub(crate) struct Peer {
    socket: Option<Socket>,
    is_connected: bool,
    pub(crate) is_readable: bool,
    /// The other end has said its last.
    is_closed: bool,
    is_writable: bool,
    inbox: Inbox,
    outbox: Outbox,
}

impl Peer {
    pub(crate) fn new() -> Peer {
        Peer {
            socket: None,
            is_connected: false,
            is_readable: false,
            is_closed: false,
            is_writable: false,
            inbox: Inbox::new(),
            outbox: Outbox::new(),
        }
    }

    /// Begins to connect, from one address to another one.
    pub(crate) fn connect(
        &mut self,
        (from, to): (Option<SocketAddr>, SocketAddr),
        registry: &Registry,
        token: Token,
    ) -> io::Result<()> {
        self.close();
        let mut socket = Socket::connect(from, to)?;
        socket.register(registry, token)?;
        self.socket = Some(socket);
        Ok(())
    }

    pub(crate) fn close(&mut self) {
        *self = Peer::new();
    }

    /// Something has happened on its socket. Whether connecting has worked, if that was waited for.
    pub(crate) fn note(&mut self, event: Happened) -> Option<bool> {
        self.is_readable |= event.is_readable;
        self.is_closed |= event.is_closed;
        self.is_writable |= event.is_writable;
        let socket = self.socket.as_ref().filter(|_| !self.is_connected)?;
        let is_connected = socket.is_connected()?;
        self.is_connected = is_connected;
        if let Socket::Tcp(socket) = socket
            && is_connected
        {
            // Without it small messages would wait for others; it goes on all the same.
            let _ = socket.set_nodelay(true);
        }
        Some(is_connected)
    }

    pub(crate) fn put(&mut self, request: &Request) {
        request.encode(&mut self.outbox);
    }

    /// What has arrived, as far as it is this one's turn.
    pub(crate) fn receive(&mut self) -> io::Result<Vec<Reply>> {
        let invalid = |error| io::Error::new(io::ErrorKind::InvalidData, error);
        let (mut replies, mut read) = (Vec::new(), 0);
        let Some(socket) = &self.socket else { return Ok(replies) };
        while read < TURN && self.is_readable {
            let filling = self.inbox.fill();
            let there = filling.len();
            let got = socket.read_into(filling)?;
            read += filling.len() - there;
            match got {
                Got::Some => {}
                Got::Rest => self.is_readable = self.is_closed,
                Got::Nothing => {
                    self.is_readable = false;
                    break;
                }
                Got::End if replies.is_empty() => return Err(io::ErrorKind::UnexpectedEof.into()),
                // What came before is heard first.
                Got::End => break,
            }
            while let Some(frame) = self.inbox.next_frame().map_err(invalid)? {
                replies.push(Reply::parse(frame).map_err(invalid)?);
            }
        }
        Ok(replies)
    }

    pub(crate) fn send(&mut self) -> io::Result<()> {
        if let Some(socket) = self.socket.as_ref().filter(|_| self.is_connected && self.is_writable) {
            self.is_writable = socket.send(&mut self.outbox)?;
        }
        Ok(())
    }
}
