//! What a Downstairs is asked on its own machine: a line of JSON, and one as the answer.

use crate::{
    clones::{CloneStatus, Source},
    control::connect,
};
use camino::{Utf8Path, Utf8PathBuf};
use ids::{RegionId, SnapshotId};
use serde::{Deserialize, Serialize};
use std::{
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};

/// How long an answer may take for which the disk has much to do: longer than a snapshot may, or the closing of a region.
pub const ANSWER_MAX: Duration = Duration::from_secs(30);

/// The same of the others: longer than a disk takes that spins up.
const LOOK_MAX: Duration = Duration::from_secs(12);

/// Bytes of an answer at most.
const LINE_MAX: u64 = 16 << 10;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case", deny_unknown_fields)]
pub enum Order {
    /// Make this region, which was made to be one, a clone.
    Clone {
        /// Which.
        region: RegionId,
        /// From where.
        sources: Vec<Source>,
        /// How fast it may be.
        #[serde(default)]
        bytes_per_second: Option<u64>,
    },
    /// How far is it?
    CloneStatus {
        /// Which.
        region: RegionId,
    },
    /// Do nothing more for this region, and close it if nobody is connected.
    Release {
        /// Which.
        region: RegionId,
    },
    /// Take a snapshot of a region that nobody writes.
    Snapshot {
        /// Which region.
        region: RegionId,
        /// The snapshot's name.
        snapshot: SnapshotId,
    },
    /// Delete one.
    DeleteSnapshot {
        /// Which region.
        region: RegionId,
        /// Which snapshot.
        snapshot: SnapshotId,
    },
}

impl Order {
    /// How long its answer may take.
    #[must_use]
    pub fn answer_max(&self) -> Duration {
        if self.is_slow() { ANSWER_MAX } else { LOOK_MAX }
    }

    /// Whether the disk has much to do for it: a region that is closed makes everything durable before. The others take a look at a file at most.
    #[must_use]
    pub fn is_slow(&self) -> bool {
        match self {
            Order::Snapshot { .. } | Order::DeleteSnapshot { .. } | Order::Release { .. } => true,
            Order::Clone { .. } | Order::CloneStatus { .. } => false,
        }
    }
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// How far a clone is.
    Clone(CloneStatus),
    /// It is done.
    Done,
    /// It is not.
    Refused {
        /// For programs. Stable.
        code: String,
        /// For people.
        words: String,
    },
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody serves the directory, or it has no socket.
    #[error("no Downstairs answers for {directory}")]
    NotThere {
        /// Which.
        directory: Utf8PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It said nothing, or garbage.
    #[error("the Downstairs of {directory} has not answered")]
    NoAnswer {
        /// Which.
        directory: Utf8PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Asks the Downstairs that serves a directory. Blocks, for as long as the [answer may take](Order::answer_max): also if that process does nothing.
/// Only the disk, on which the socket is, may keep it for longer.
///
/// # Errors
/// [`AskError`].
pub fn ask(directory: &Utf8Path, order: &Order) -> Result<Answer, AskError> {
    ask_within(directory, order, order.answer_max())
}

fn ask_within(directory: &Utf8Path, order: &Order, limit: Duration) -> Result<Answer, AskError> {
    let not_there = |source| AskError::NotThere { directory: directory.to_owned(), source };
    let no_answer = |source| AskError::NoAnswer { directory: directory.to_owned(), source };
    let end = Instant::now() + limit;
    let mut socket = match connect(directory, limit) {
        // It is there, and does nothing.
        Err(error) if error.kind() == io::ErrorKind::TimedOut => return Err(no_answer(error)),
        connected => connected.map_err(not_there)?,
    };
    let mut line = serde_json::to_vec(order).map_err(|error| no_answer(error.into()))?;
    line.push(b'\n');
    let mut answer = || {
        // There is room for a line where nobody has read one.
        socket.set_write_timeout(Some(left(end)?))?;
        socket.write_all(&line)?;
        let mut said = String::new();
        BufReader::new(Until { socket: &socket, end }.take(LINE_MAX)).read_line(&mut said)?;
        Ok(serde_json::from_str(&said)?)
    };
    answer().map_err(no_answer)
}

/// What is read of a socket until this instant.
struct Until<'a> {
    socket: &'a UnixStream,
    end: Instant,
}

impl Read for Until<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.socket.set_read_timeout(Some(left(self.end)?))?;
        self.socket.read(into)
    }
}

fn left(end: Instant) -> io::Result<Duration> {
    let left = end.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::socket_of;
    use rustix::{
        io::Errno,
        net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket, socket_with},
    };
    use std::{sync::mpsc::channel, thread};

    /// Far longer than it may take: hanging is the failure.
    const LIMIT: Duration = Duration::from_secs(20);

    const SOON: Duration = Duration::from_millis(300);

    /// Asks, and is told how that has failed, but not before this time.
    fn unanswered(directory: &Utf8Path) -> AskError {
        let (tell, told) = channel();
        let (directory, since) = (directory.to_owned(), Instant::now());
        thread::spawn(move || {
            let order = Order::CloneStatus { region: RegionId::generate() };
            let _ = tell.send(ask_within(&directory, &order, SOON));
        });
        let told = told.recv_timeout(LIMIT).expect("it gives up").expect_err("nobody answers");
        assert!(since.elapsed() >= SOON, "{told:?}");
        told
    }

    #[test]
    fn what_makes_something_durable_has_more_time_than_a_look() {
        let (region, snapshot) = (RegionId::generate(), SnapshotId::generate());
        for order in [
            Order::Release { region },
            Order::Snapshot { region, snapshot },
            Order::DeleteSnapshot { region, snapshot },
        ] {
            assert_eq!((order.is_slow(), order.answer_max()), (true, ANSWER_MAX), "{order:?}");
        }
        let looks = Order::CloneStatus { region };
        assert_eq!((looks.is_slow(), looks.answer_max()), (false, LOOK_MAX));
    }

    #[test]
    fn a_downstairs_that_does_nothing_keeps_nobody_longer_than_an_answer_may_take() {
        let directory = camino_tempfile::tempdir().expect("it is made");
        let order = Order::CloneStatus { region: RegionId::generate() };
        let nobody = ask_within(directory.path(), &order, LIMIT).expect_err("nobody is there");
        assert!(matches!(nobody, AskError::NotThere { .. }), "{nobody:?}");
        let stuck = socket(AddressFamily::UNIX, SocketType::STREAM, None).expect("there is one");
        let path = SocketAddrUnix::new(socket_of(directory.path()).as_str()).expect("it is short");
        bind(&stuck, &path).expect("it is free");
        listen(&stuck, 1).expect("it can");
        // Those that find room to be accepted, which nobody does, and then one that does not.
        let mut waiting = Vec::new();
        loop {
            let one = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::NONBLOCK, None);
            let one = one.expect("there is one");
            match rustix::net::connect(&one, &path) {
                Ok(()) => waiting.push(one),
                Err(full) => break assert_eq!(full, Errno::AGAIN),
            }
        }
        let refused = unanswered(directory.path());
        assert!(
            matches!(&refused, AskError::NoAnswer { source, .. } if source.kind() == io::ErrorKind::TimedOut)
        );
        // It is accepted, or would be, and hears nothing.
        waiting.clear();
        let accepted = rustix::net::accept(&stuck).expect("one has come");
        drop(accepted);
        let silent = unanswered(directory.path());
        assert!(matches!(silent, AskError::NoAnswer { .. }), "{silent:?}");
    }
}
