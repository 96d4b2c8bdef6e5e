//! The socket by which a Downstairs is asked for more than blocks, by processes of its own user on its own machine: `downstairs.control` in the
//! directory that it serves. What is asked there tells it where to connect to, so it is not asked over the network. One request for each connection.

use crate::{
    steward::{Steward, StewardError},
    talk::{Answer, Order},
};
use camino::{Utf8Path, Utf8PathBuf};
use rustix::{
    fs::{CWD, Mode, OFlags, fchmod, openat},
    io::{Errno, retry_on_intr},
    net::{
        self, AddressFamily, Shutdown, SocketAddrUnix, SocketFlags, SocketType, bind, listen, shutdown,
        socket, socket_with,
        sockopt::{Timeout, set_socket_timeout},
    },
};
use std::{
    fs,
    io::{self, BufRead, BufReader, Read, Write},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::net::{UnixListener, UnixStream},
    },
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

/// Its name.
const NAME: &str = "downstairs.control";

/// Requests at a time: an agent, and some people. Another one waits to be accepted.
const AT_ONCE: usize = 16;

/// Bytes of a request at most.
const LINE_MAX: u64 = 16 << 10;

/// How long a request, and the taking of its answer, may take.
const LINE_TIME_MAX: Duration = Duration::from_secs(5);

/// The control socket, while this lives.
#[derive(Debug)]
pub struct Control {
    path: Utf8PathBuf,
    listener: Arc<UnixListener>,
    is_stopping: Arc<AtomicBool>,
    acceptor: Option<JoinHandle<()>>,
}

/// Where the socket of a directory is.
#[must_use]
pub fn socket_of(directory: &Utf8Path) -> Utf8PathBuf {
    directory.join(NAME)
}

impl Control {
    /// Listens. Whoever serves the directory is alone: what a killed one has left is replaced.
    ///
    /// # Errors
    /// If the place is not to be had, or no thread.
    pub fn start(directory: &Utf8Path, steward: Steward) -> io::Result<Control> {
        match fs::remove_file(socket_of(directory)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            removed => removed?,
        }
        let listener = socket(AddressFamily::UNIX, SocketType::STREAM, None)?;
        // It has the mode that its descriptor had when it got its name: at no time may others connect.
        fchmod(&listener, Mode::RUSR | Mode::WUSR)?;
        let (_open, path) = short(directory)?;
        bind(&listener, &SocketAddrUnix::new(path.as_str())?)?;
        listen(&listener, 16)?;
        let listener = Arc::new(UnixListener::from(listener));
        let is_stopping = Arc::new(AtomicBool::new(false));
        let stopping = Arc::clone(&is_stopping);
        let accept = {
            let listener = Arc::clone(&listener);
            move || accept(&listener, &steward, &stopping)
        };
        let acceptor = Some(thread::Builder::new().name("control".to_owned()).spawn(accept)?);
        Ok(Control { path: socket_of(directory), listener, is_stopping, acceptor })
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.is_stopping.store(true, Ordering::SeqCst);
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

/// Connects to the one of a directory, within this time. A Downstairs that does nothing accepts nobody, and only so many wait to be accepted:
/// whoever comes then waits before he is connected.
///
/// # Errors
/// [`io::ErrorKind::TimedOut`] after that time; whatever else is in the way.
pub(crate) fn connect(directory: &Utf8Path, within: Duration) -> io::Result<UnixStream> {
    let (_open, path) = short(directory)?;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    // This is how long a socket of this family waits there, too. Not blocking at all would be refused at once, and there is nothing to poll for.
    set_socket_timeout(&socket, Timeout::Send, Some(within))?;
    let address = SocketAddrUnix::new(path.as_str())?;
    match retry_on_intr(|| net::connect(&socket, &address)) {
        Err(Errno::AGAIN) => Err(io::Error::new(io::ErrorKind::TimedOut, "it accepts nobody")),
        Err(error) => Err(error.into()),
        Ok(()) => Ok(socket.into()),
    }
}

/// A name of the socket that is short enough for one, however long that of the directory is; as long as that is held open.
fn short(directory: &Utf8Path) -> io::Result<(OwnedFd, String)> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let open = openat(CWD, directory.as_std_path(), flags, Mode::empty())?;
    let path = format!("/proc/self/fd/{}/{NAME}", open.as_raw_fd());
    Ok((open, path))
}

fn accept(listener: &UnixListener, steward: &Steward, is_stopping: &AtomicBool) {
    let at_work = Arc::new(AtomicUsize::new(0));
    for socket in listener.incoming() {
        if is_stopping.load(Ordering::SeqCst) {
            return;
        }
        let Ok(socket) = socket else { continue };
        if at_work.fetch_add(1, Ordering::SeqCst) >= AT_ONCE {
            at_work.fetch_sub(1, Ordering::SeqCst);
            let words = format!("{AT_ONCE} are asking already: ask again");
            // Who does not hear it sees the end.
            let _ = say(&socket, &refused("busy", words));
            continue;
        }
        let (steward, here) = (steward.clone(), Arc::clone(&at_work));
        let serve = move || {
            if let Err(error) = serve(&socket, &steward) {
                tracing::debug!(%error, "a connection to the control socket has ended");
            }
            here.fetch_sub(1, Ordering::SeqCst);
        };
        if let Err(error) = thread::Builder::new().name("controlled".to_owned()).spawn(serve) {
            at_work.fetch_sub(1, Ordering::SeqCst);
            tracing::warn!(%error, "nobody can be served at the control socket");
        }
    }
}

fn serve(socket: &UnixStream, steward: &Steward) -> io::Result<()> {
    socket.set_read_timeout(Some(LINE_TIME_MAX))?;
    socket.set_write_timeout(Some(LINE_TIME_MAX))?;
    let mut line = Vec::new();
    BufReader::new(socket.take(LINE_MAX)).read_until(b'\n', &mut line)?;
    let answer = match serde_json::from_slice(&line) {
        Ok(order) => obey(order, steward).unwrap_or_else(|error| refused(error.code(), error.to_string())),
        Err(error) => refused("not_a_request", format!("not a request: {error}")),
    };
    say(socket, &answer)
}

fn obey(order: Order, steward: &Steward) -> Result<Answer, StewardError> {
    match order {
        Order::Clone { region, sources, bytes_per_second } => {
            steward.order_clone(region, sources, bytes_per_second).map(Answer::Clone)
        }
        Order::CloneStatus { region } => steward.clone_status(region).map(Answer::Clone),
        Order::Release { region } => {
            steward.release(region);
            Ok(Answer::Done)
        }
        Order::Snapshot { region, snapshot } => steward.snapshot(region, snapshot).map(|()| Answer::Done),
        Order::DeleteSnapshot { region, snapshot } => {
            steward.delete_snapshot(region, snapshot).map(|()| Answer::Done)
        }
    }
}

fn refused(code: &str, words: String) -> Answer {
    Answer::Refused { code: code.to_owned(), words }
}

fn say(mut socket: &UnixStream, answer: &Answer) -> io::Result<()> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    socket.write_all(&line)
}
