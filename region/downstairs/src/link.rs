//! One connection: its socket, and what waits to be sent on it. Whoever has something to send tries at once, without waiting; what the
//! socket does not take is sent by a thread of the connection's own, so that a peer that does not read keeps nobody else waiting.

use region_wire::{Outbox, Reply};
use rustix::{
    io::Errno,
    net::{SendAncillaryBuffer, SendFlags, sendmsg},
};
use std::{
    io::{self, IoSlice},
    net::{Shutdown, TcpStream},
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// Nothing more is read from a connection while so many bytes wait to be sent on it.
const WAITING_MAX: usize = 8 << 20;

/// Slices of one system call.
const SLICES: usize = 64;

/// A peer that takes nothing for so long is gone.
const SEND_LIMIT: Duration = Duration::from_secs(30);

/// A connection.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) socket: TcpStream,
    out: Mutex<Out>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Out {
    outbox: Outbox,
    /// Somebody sends just now.
    is_sending: bool,
    /// Nothing more will be put there; the socket is closed when all is sent.
    is_ending: bool,
    /// The socket is of no use.
    is_closed: bool,
}

impl Link {
    pub(crate) fn new(socket: TcpStream) -> io::Result<Link> {
        socket.set_nodelay(true)?;
        socket.set_write_timeout(Some(SEND_LIMIT))?;
        Ok(Link { socket, out: Mutex::default(), changed: Condvar::new() })
    }

    /// Puts a reply behind those that wait. Sends nothing.
    pub(crate) fn put(&self, reply: &Reply) {
        let mut out = self.out();
        if !out.is_ending && !out.is_closed {
            reply.encode(&mut out.outbox);
        }
    }

    /// Nothing more will come.
    pub(crate) fn end(&self) {
        self.out().is_ending = true;
    }

    /// Closes it at once.
    pub(crate) fn close(&self) {
        self.out().is_closed = true;
        // It may be closed already.
        let _ = self.socket.shutdown(Shutdown::Both);
        self.changed.notify_all();
    }

    /// Sends what the socket takes at once. The rest is the sending thread's.
    pub(crate) fn flush(&self) {
        let mut out = self.out();
        if !out.is_sending {
            let done = self.send(&mut out, SendFlags::DONTWAIT);
            self.close_if(&mut out, &done);
        }
        if !out.outbox.is_empty() || out.is_ending {
            self.changed.notify_all();
        }
    }

    /// Waits until so little waits that more may be asked. False if the connection is closed.
    pub(crate) fn wait_for_room(&self) -> bool {
        let mut out = self.out();
        while out.outbox.len() > WAITING_MAX && !out.is_closed {
            out = self.changed.wait(out).unwrap_or_else(PoisonError::into_inner);
        }
        !out.is_closed
    }

    /// Sends what the socket did not take at once, until the connection is closed.
    pub(crate) fn run_sender(&self) {
        let mut out = self.out();
        while !out.is_closed {
            if out.outbox.is_empty() {
                out = self.changed.wait(out).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            // While this waits for the socket, others may put more there.
            out.is_sending = true;
            let mut piece = std::mem::take(&mut out.outbox);
            drop(out);
            let sent = self.send_all(&mut piece);
            out = self.out();
            out.is_sending = false;
            self.close_if(&mut out, &sent);
            self.changed.notify_all();
        }
    }

    fn close_if(&self, out: &mut Out, done: &io::Result<()>) {
        let is_all_sent = out.is_ending && out.outbox.is_empty() && !out.is_sending;
        if done.is_err() || is_all_sent {
            out.is_closed = true;
            // A peer that has more to say is to read the last words all the same: what is said to a socket that nobody reads takes them
            // back. It may be closed already.
            let _ = self.socket.shutdown(if done.is_err() { Shutdown::Both } else { Shutdown::Write });
        }
    }

    fn send(&self, out: &mut Out, flags: SendFlags) -> io::Result<()> {
        while !out.outbox.is_empty() {
            match self.send_some(&out.outbox, flags) {
                Ok(count) => out.outbox.sent(count),
                Err(Errno::WOULDBLOCK) => break,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn send_all(&self, outbox: &mut Outbox) -> io::Result<()> {
        while !outbox.is_empty() {
            match self.send_some(outbox, SendFlags::empty()) {
                Ok(count) => outbox.sent(count),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn send_some(&self, outbox: &Outbox, flags: SendFlags) -> Result<usize, Errno> {
        let mut slices = [IoSlice::new(&[]); SLICES];
        let count = outbox.slices(&mut slices);
        sendmsg(
            &self.socket,
            &slices[..count],
            &mut SendAncillaryBuffer::default(),
            flags | SendFlags::NOSIGNAL,
        )
    }

    fn out(&self) -> MutexGuard<'_, Out> {
        self.out.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
