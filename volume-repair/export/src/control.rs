//! The control socket of an export: who may write this file may look at the volume, activate it, and end it. Owns its threads and their
//! limits; what is asked goes to the loop, which never waits for it.
//!
//! | limit | |
//! |---|---|
//! | [`CONNECTIONS_MAX`] | connections at a time; another one is told that, and closed |
//! | [`LINE_MAX`] | bytes of a request |
//! | [`SILENCE_MAX`] | for a whole request, from the answer before it on; then the connection is closed |

use crate::{
    handle::{Handle, NoAnswer},
    listener::remove_if_nobody_listens,
    snapshots::SnapshotOrder,
    talk::{Answer, COMPARED_MAX, Refusal, RefusalCode, Request},
};
use camino::{Utf8Path, Utf8PathBuf};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{Mode, fchmod},
    net::{AddressFamily, Shutdown, SocketAddrUnix, SocketType, bind, listen, shutdown, socket},
};
use std::{
    fs, io,
    io::{Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel},
    },
    thread,
    time::{Duration, Instant},
};
use upstairs::{JobError, PhaseName};
use volume_repair::Holder;

/// Connections at a time: a live view, a script, and some to spare.
const CONNECTIONS_MAX: usize = 16;

/// Bytes of a request at most. The longest one has a construction request of as many parts as a volume may have: some 20 KiB.
const LINE_MAX: usize = 64 << 10;

/// How long a connection may go without a whole request. A live view asks every second.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// How long whoever asks may leave an answer unread.
const UNREAD_MAX: Duration = Duration::from_secs(5);

/// How long copies are waited for that are compared: members that are silent are given up sooner.
const COMPARE_PATIENCE: Duration = Duration::from_secs(20);

/// How often it is looked meanwhile whether whoever asked still waits.
const LOOK: Duration = Duration::from_millis(100);

/// Before somebody is accepted again, when that was not possible.
const RETRY: Duration = Duration::from_millis(100);

/// Why there is no control socket.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Its place is not to be had.
    #[error("cannot listen for orders on {path}: give another place with --control")]
    Listen {
        /// Which.
        path: Utf8PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No thread.
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
}

impl ControlError {
    /// A name for programs, which does not change.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            ControlError::Listen { .. } => "control_not_listening",
            ControlError::Thread(_) => "no_thread",
        }
    }
}

/// A control socket, while this lives.
#[derive(Debug)]
pub struct Control {
    path: Utf8PathBuf,
    listener: Arc<UnixListener>,
    /// The acceptor goes on until this is gone.
    goes_on: Option<Sender<()>>,
    acceptor: Option<thread::JoinHandle<()>>,
}

impl Control {
    /// Listens; only the user whose process this is may ask. A socket that nobody listens on any more is replaced.
    ///
    /// # Errors
    /// [`ControlError`].
    pub fn start(path: &Utf8Path, handle: Handle) -> Result<Control, ControlError> {
        let error = |source| ControlError::Listen { path: path.to_owned(), source };
        let listener = Arc::new(listen_for_owner(path).map_err(error)?);
        let (goes_on, ending) = channel();
        let accept = {
            let listener = Arc::clone(&listener);
            move || accept(&listener, &handle, &ending)
        };
        let acceptor = thread::Builder::new().name("control".to_owned()).spawn(accept);
        let acceptor = Some(acceptor.map_err(ControlError::Thread)?);
        Ok(Control { path: path.to_owned(), listener, goes_on: Some(goes_on), acceptor })
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        drop(self.goes_on.take());
        // It waits in accept, and this ends that.
        let _ = shutdown(&self.listener, Shutdown::Both);
        if let Some(acceptor) = self.acceptor.take() {
            // One that has panicked has said so.
            let _ = acceptor.join();
        }
        // Whoever comes later is told at once that nobody is there.
        let _ = fs::remove_file(&self.path);
    }
}

/// A socket has the mode that its descriptor had when it got its name: at no time may others connect.
fn listen_for_owner(path: &Utf8Path) -> io::Result<UnixListener> {
    remove_if_nobody_listens(path)?;
    let listener = socket(AddressFamily::UNIX, SocketType::STREAM, None)?;
    fchmod(&listener, Mode::RUSR | Mode::WUSR)?;
    bind(&listener, &SocketAddrUnix::new(path.as_str())?)?;
    listen(&listener, 16)?;
    Ok(UnixListener::from(listener))
}

fn accept(listener: &UnixListener, handle: &Handle, ending: &Receiver<()>) {
    let connections = Arc::new(AtomicUsize::new(0));
    loop {
        let accepted = listener.accept();
        if ending.try_recv() == Err(TryRecvError::Disconnected) {
            return;
        }
        let socket = match accepted {
            Ok((socket, _)) => socket,
            Err(error) => {
                tracing::warn!(%error, "nobody can be accepted at the control socket");
                // For lack of files, most likely: others will end.
                match ending.recv_timeout(RETRY) {
                    Err(RecvTimeoutError::Timeout) => continue,
                    _ => return,
                }
            }
        };
        let one = Counted::new(&connections);
        if one.others >= CONNECTIONS_MAX {
            let refusal = Refusal::new(RefusalCode::Busy, format!("{CONNECTIONS_MAX} are connected already"));
            // Who does not hear it sees the end.
            let _ = say(&socket, &Answer::Refused(refusal));
            continue;
        }
        let handle = handle.clone();
        let serve = move || {
            let _one = one;
            if let Err(error) = serve(&socket, &handle) {
                tracing::debug!(%error, "a connection to the control socket has ended");
            }
        };
        if let Err(error) = thread::Builder::new().name("controlled".to_owned()).spawn(serve) {
            tracing::warn!(%error, "nobody can be served at the control socket");
        }
    }
}

/// One of the connections.
struct Counted {
    all: Arc<AtomicUsize>,
    others: usize,
}

impl Counted {
    fn new(all: &Arc<AtomicUsize>) -> Counted {
        Counted { others: all.fetch_add(1, Ordering::SeqCst), all: Arc::clone(all) }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.all.fetch_sub(1, Ordering::SeqCst);
    }
}

fn serve(socket: &UnixStream, handle: &Handle) -> io::Result<()> {
    let mut input = Vec::new();
    while let Some(line) = next_line(socket, &mut input)? {
        let Some(line) = line else {
            let refusal =
                Refusal::new(RefusalCode::LineTooLong, format!("a request has {LINE_MAX} bytes at most"));
            return say(socket, &Answer::Refused(refusal));
        };
        let request = serde_json::from_slice(&line);
        let is_stop = matches!(request, Ok(Request::Stop));
        let answer = match request {
            Ok(request) => obey(request, handle, socket).unwrap_or_else(Answer::Refused),
            Err(error) => {
                Answer::Refused(Refusal::new(RefusalCode::NotARequest, format!("not a request: {error}")))
            }
        };
        let said = say(socket, &answer);
        // Behind the answer: the process may have ended before it is said.
        if is_stop {
            handle.stop();
        }
        said?;
    }
    Ok(())
}

fn obey(request: Request, handle: &Handle, asker: &UnixStream) -> Result<Answer, Refusal> {
    match request {
        Request::Status => Ok(Answer::Status(handle.status()?)),
        Request::Activate { epoch } => {
            handle.activate_with(epoch)??;
            Ok(Answer::Done)
        }
        Request::Apply { volume } => Ok(Answer::Applied(handle.apply(&volume)?)),
        Request::Check { volume } => Ok(Answer::Applied(handle.change(*volume, true)??)),
        Request::Snapshot { id } => Ok(Answer::Snapshotted(handle.snapshot(SnapshotOrder::Take(id))??)),
        Request::DeleteSnapshot { id } => {
            handle.snapshot(SnapshotOrder::Delete(id))??;
            Ok(Answer::Done)
        }
        Request::Compare { first, count } => compare(handle, asker, first, count),
        Request::Scrub { order } => {
            handle.scrub(order)??;
            Ok(Answer::Done)
        }
        Request::SetRepairRate { bytes_per_second } => {
            handle.set_repair_rate(bytes_per_second)?;
            Ok(Answer::Done)
        }
        // Obeyed when it was answered.
        Request::Stop => Ok(Answer::Done),
    }
}

/// A comparison ends with the wait for it: if whoever asked goes, nobody's members are asked for nothing.
fn compare(handle: &Handle, asker: &UnixStream, first: u64, count: u64) -> Result<Answer, Refusal> {
    let refused = |words: String| Refusal::new(RefusalCode::NotCompared, words);
    let status = handle.status()?;
    if status.volume.phase() != PhaseName::Active {
        let words = "the volume does not read and write: `volume look` says what it waits for";
        return Err(Refusal::new(RefusalCode::VolumeNotActive, words));
    }
    if count.saturating_mul(status.volume.block_bytes().into()) > COMPARED_MAX {
        return Err(refused(format!(
            "{count} blocks are more than {COMPARED_MAX} bytes: ask for fewer at once"
        )));
    }
    let (compared, end) = (handle.compare(first, count)?, Instant::now() + COMPARE_PATIENCE);
    let mut told = None;
    while told.is_none() && Instant::now() < end && !has_hung_up(asker) {
        told = compared.wait(LOOK)?;
    }
    match told {
        Some(Ok(copies)) => Ok(Answer::Compared(copies)),
        Some(Err(error @ (JobError::Fenced { .. } | JobError::Lost { .. }))) => Err(error.into()),
        Some(Err(error)) => Err(refused(error.to_string())),
        None => Err(NoAnswer::Late(COMPARE_PATIENCE).into()),
    }
}

/// Whether nobody reads what is said here. Who says nothing more may still wait for an answer.
fn has_hung_up(asker: &UnixStream) -> bool {
    let mut asker = [PollFd::new(asker, PollFlags::empty())];
    poll(&mut asker, Some(&Timespec::default())).is_ok() && asker[0].revents().contains(PollFlags::HUP)
}

fn say(mut socket: &UnixStream, answer: &Answer) -> io::Result<()> {
    socket.set_write_timeout(Some(UNREAD_MAX))?;
    let mut line = serde_json::to_vec(answer).map_err(io::Error::other)?;
    line.push(b'\n');
    socket.write_all(&line)
}

/// The next line without its end; inside, none if it is too long. None at the end of what is said.
#[expect(clippy::option_option, reason = "the end of all, and the end of a line's patience, are two things")]
fn next_line(mut socket: &UnixStream, input: &mut Vec<u8>) -> io::Result<Option<Option<Vec<u8>>>> {
    let deadline = Instant::now() + SILENCE_MAX;
    loop {
        if let Some(end) = input.iter().position(|byte| *byte == b'\n') {
            let rest = input.split_off(end + 1);
            let mut line = std::mem::replace(input, rest);
            line.pop();
            return Ok(Some((line.len() <= LINE_MAX).then_some(line)));
        }
        if input.len() > LINE_MAX {
            return Ok(Some(None));
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        socket.set_read_timeout(Some(left))?;
        let mut some = [0; 1024];
        match socket.read(&mut some) {
            Ok(0) => return Ok(None),
            Ok(count) => input.extend_from_slice(&some[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_says_nothing_more_may_still_wait_and_who_has_gone_does_not() {
        let (asker, socket) = UnixStream::pair().unwrap();
        assert!(!has_hung_up(&socket));
        asker.shutdown(std::net::Shutdown::Write).unwrap();
        assert!(!has_hung_up(&socket));
        drop(asker);
        assert!(has_hung_up(&socket));
    }
}
