//! One connection: its socket, and what waits to be sent on it. Whoever has something to send tries at once, without waiting; what the
//! socket does not take is sent by a thread of the connection's own, so that a peer that does not read keeps nobody else waiting.
//!
//! ```text
//!   put ──short──► first ────────────────────┐
//!    └──bulk, and what is behind it──► bulk ──┴─ one at a time ──► begun ──► socket
//! ```
//!
//! What is short goes before bulk of which nothing is sent yet: a client waits for a word that its write is applied, and a repair for the
//! next half MiB of a copy. They take turns, so that neither waits for ever.

use crate::member::beside::is_long;
use region_wire::{Outbox, Reply};
use rustix::{
    io::Errno,
    net::{SendAncillaryBuffer, SendFlags, sendmsg},
};
use std::{
    collections::VecDeque,
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
    /// What goes before everything of which nothing is sent yet.
    first: Outbox,
    /// The others, each by itself.
    bulk: VecDeque<Outbox>,
    /// Of which some may be sent.
    begun: Outbox,
    /// What goes first has gone first: bulk has a turn now.
    is_bulks_turn: bool,
    /// Bytes of all of these.
    bytes: usize,
    /// Nothing goes before anything else.
    keeps_order: bool,
    /// Somebody sends just now.
    is_sending: bool,
    /// Nothing more will be put there; the socket is closed when all is sent.
    is_ending: bool,
    /// The socket is of no use.
    is_closed: bool,
}

impl Out {
    fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    fn put(&mut self, reply: &Reply) {
        let is_bulk = match reply {
            Reply::Read { whats, .. } => is_long(whats.len()) && !self.keeps_order,
            // It says that what was to be read is.
            Reply::Pong { .. } => !self.bulk.is_empty(),
            _ => false,
        };
        let mut alone = Outbox::new();
        let into = if is_bulk { &mut alone } else { &mut self.first };
        let before = into.len();
        reply.encode(into);
        self.bytes += into.len() - before;
        if !alone.is_empty() {
            self.bulk.push_back(alone);
        }
    }

    /// What is sent next: all that goes first, and then one piece of bulk, or those who ask little after little would keep it waiting for ever.
    fn begin(&mut self) {
        if !self.begun.is_empty() {
            return;
        }
        let is_bulks_turn = std::mem::take(&mut self.is_bulks_turn) || self.first.is_empty();
        match self.bulk.pop_front_if(|_| is_bulks_turn) {
            Some(bulk) => self.begun = bulk,
            None => {
                self.is_bulks_turn = true;
                // The memory of what was sent is used again.
                std::mem::swap(&mut self.begun, &mut self.first);
            }
        }
    }

    fn sent(&mut self, count: usize) {
        self.begun.sent(count);
        self.bytes -= count;
    }

    /// What is sent next, to be sent by whoever takes it.
    fn take(&mut self) -> Outbox {
        self.begin();
        self.bytes -= self.begun.len();
        std::mem::take(&mut self.begun)
    }
}

impl Link {
    pub(crate) fn new(socket: TcpStream) -> io::Result<Link> {
        socket.set_nodelay(true)?;
        socket.set_write_timeout(Some(SEND_LIMIT))?;
        Ok(Link { socket, out: Mutex::default(), changed: Condvar::new() })
    }

    /// From now on all is sent as it was put: whoever reads a snapshot is answered in order.
    pub(crate) fn keep_order(&self) {
        self.out().keeps_order = true;
    }

    /// Puts a reply behind those of its kind that wait. Sends nothing.
    pub(crate) fn put(&self, reply: &Reply) {
        let mut out = self.out();
        if !out.is_ending && !out.is_closed {
            out.put(reply);
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
        if !out.is_empty() || out.is_ending {
            self.changed.notify_all();
        }
    }

    /// Waits until so little waits that more may be asked. False if the connection is closed.
    pub(crate) fn wait_for_room(&self) -> bool {
        let mut out = self.out();
        while out.bytes > WAITING_MAX && !out.is_closed {
            out = self.changed.wait(out).unwrap_or_else(PoisonError::into_inner);
        }
        !out.is_closed
    }

    /// Sends what the socket did not take at once, until the connection is closed.
    pub(crate) fn run_sender(&self) {
        let mut out = self.out();
        while !out.is_closed {
            if out.is_empty() {
                out = self.changed.wait(out).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            // While this waits for the socket, others may put more there.
            out.is_sending = true;
            let mut piece = out.take();
            drop(out);
            let sent = self.send_all(&mut piece);
            out = self.out();
            out.is_sending = false;
            self.close_if(&mut out, &sent);
            self.changed.notify_all();
        }
    }

    fn close_if(&self, out: &mut Out, done: &io::Result<()>) {
        let is_all_sent = out.is_ending && out.is_empty() && !out.is_sending;
        if done.is_err() || is_all_sent {
            out.is_closed = true;
            // A peer that has more to say is to read the last words all the same: what is said to a socket that nobody reads takes them
            // back. It may be closed already.
            let _ = self.socket.shutdown(if done.is_err() { Shutdown::Both } else { Shutdown::Write });
        }
    }

    fn send(&self, out: &mut Out, flags: SendFlags) -> io::Result<()> {
        while !out.is_empty() {
            out.begin();
            match self.send_some(&out.begun, flags) {
                Ok(count) => out.sent(count),
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

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use region::What;
    use region_wire::Inbox;
    use std::{io::Read, net::TcpListener, sync::Arc, thread};

    /// Far longer than it may take: hanging is the failure.
    const LIMIT: Duration = Duration::from_secs(20);

    /// Blocks of a long read: of a size that a socket takes few of at once.
    const BLOCKS: usize = 256;

    fn read(id: u64, blocks: usize) -> Reply {
        let whats = vec![What::Bytes { checksum: 7, seal: [0; 40] }; blocks];
        Reply::Read { id, first: 0, whats, bytes: Bytes::from(vec![7; blocks * 4_096]) }
    }

    fn id_of(reply: &Reply) -> u64 {
        match reply {
            Reply::Read { id, .. } | Reply::Pong { id } | Reply::Flushed { id, .. } => *id,
            other => panic!("{other:?}"),
        }
    }

    /// The ids of so many replies, in the order in which they come.
    fn heard(mut far: TcpStream, count: usize) -> Vec<u64> {
        far.set_read_timeout(Some(LIMIT)).expect("it can");
        let (mut inbox, mut ids) = (Inbox::new(), Vec::new());
        let mut some = vec![0; 1 << 20];
        while ids.len() < count {
            let got = far.read(&mut some).expect("more comes");
            assert!(got > 0, "it has ended after {ids:?}");
            inbox.fill().extend_from_slice(&some[..got]);
            while let Some(frame) = inbox.next_frame().expect("it is one") {
                ids.push(id_of(&Reply::parse(frame).expect("it is one")));
            }
        }
        ids
    }

    #[test]
    fn bulk_waits_for_one_turn_of_short_words_however_many_come() {
        let mut out = Out::default();
        out.put(&read(1, BLOCKS));
        out.put(&read(2, BLOCKS));
        let mut sent = Vec::new();
        for _ in 0..4 {
            // There is always another one.
            out.put(&read(100, 1));
            out.begin();
            let count = out.begun.len();
            sent.push(count > BLOCKS * 4_096);
            out.sent(count);
        }
        assert_eq!(sent, [false, true, false, true]);
    }

    #[test]
    fn a_short_word_goes_before_bulk_that_waits_and_a_pong_behind_it() {
        const LONG: u64 = 32;
        let listener = TcpListener::bind("127.0.0.1:0").expect("there is an address");
        let near = TcpStream::connect(listener.local_addr().expect("it has one")).expect("it listens");
        let far = listener.accept().expect("one has come").0;
        let link = Arc::new(Link::new(near).expect("it is one"));
        link.put(&Reply::Pong { id: 100 });
        (0..LONG).for_each(|id| link.put(&read(id, BLOCKS)));
        // What the system takes at once is less than all of that.
        link.flush();
        assert!(!link.out().bulk.is_empty());
        link.put(&read(200, 1));
        link.put(&Reply::Pong { id: 300 });
        link.put(&read(400, 1));
        let sender = thread::spawn({
            let link = Arc::clone(&link);
            move || link.run_sender()
        });
        let ids = heard(far, 36);
        link.close();
        sender.join().expect("it ends");
        let at = |id: u64| ids.iter().position(|heard| *heard == id).expect("it has come");
        let long: Vec<u64> = ids.iter().copied().filter(|id| *id < LONG).collect();
        assert_eq!(long, (0..LONG).collect::<Vec<_>>(), "those of a kind keep their order");
        assert_eq!((at(100), at(400)), (0, at(200) + 1), "{ids:?}");
        assert!(at(200) < at(LONG - 1), "a short word has waited for all of the bulk: {ids:?}");
        assert_eq!(at(300), 35, "a Pong has come before what was read before it: {ids:?}");
        assert_eq!(link.out().bytes, 0);
    }
}
