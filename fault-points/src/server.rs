//! The fault socket. Owns the listener, its file, and the reading and answering of lines; what a request means is the
//! board's and the disks' business.
//!
//! Opening: remove a socket that an earlier life left → bind → mode 0600 → listen. Nobody can connect before the mode
//! is right, since a bound socket refuses until it listens. A crash leaves a file that refuses connections; the next
//! start replaces it. Anything else than a socket in its place is left alone and is an error.

use crate::{
    address::SocketAddress,
    board::{Board, BoardInUse},
    protocol::{Answer, DiskFault, LINE_BYTES_MAX, Request},
};
use camino::{Utf8Path, Utf8PathBuf};
use serde_json::{Value, json};
use std::{
    fs, io,
    os::unix::fs::{FileTypeExt, PermissionsExt},
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixSocket, UnixStream},
    sync::Semaphore,
};

/// Connections that are served at once. Tests use a handful; the rest wait in the listen queue.
const CONNECTIONS_MAX: usize = 64;

/// Connections that the kernel keeps waiting.
const LISTEN_BACKLOG: u32 = 64;

/// Pause after a failed accept (out of file descriptors, mostly), so that the loop does not spin.
const ACCEPT_RETRY_PAUSE: Duration = Duration::from_millis(100);

/// What owns the disks that can be faulted.
pub trait DiskControl: Send + Sync {
    /// Makes `fault` true of `disk` from now on. Answers with what it did (which artifacts were corrupted), or why it
    /// could not, in words. May block: it is called where that is allowed.
    fn apply(&self, disk: &str, fault: &DiskFault) -> Result<Value, String>;
}

/// Opens the fault socket at `socket` and serves it until dropped. Only for a config with `[testing] faults = true`.
///
/// Fails if the socket cannot be opened. When the future is dropped, everybody who is held goes on.
pub async fn serve(socket: Utf8PathBuf, disks: Option<Arc<dyn DiskControl>>) -> io::Result<()> {
    let listener = open(&socket)?;
    let in_use = BoardInUse::begin();
    let board = in_use.board();
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    // Owned here, so that open connections end with the server.
    let mut connections = tokio::task::JoinSet::new();
    tracing::warn!(%socket, "fault socket is open: this process can be held and its disks be faulted");
    loop {
        let slot = slots.clone().acquire_owned().await.expect("the semaphore is never closed");
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, _)) => {
                let disks = disks.clone();
                connections.spawn(async move {
                    if let Err(error) = converse(stream, board, disks).await {
                        tracing::debug!(%error, "fault connection ended early");
                    }
                    drop(slot);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "fault socket could not accept a connection");
                tokio::time::sleep(ACCEPT_RETRY_PAUSE).await;
            }
        }
    }
}

fn open(socket: &Utf8Path) -> io::Result<UnixListener> {
    let address = SocketAddress::of(socket)?;
    match fs::symlink_metadata(socket) {
        Ok(found) if found.file_type().is_socket() => fs::remove_file(socket)?,
        Ok(_) => {
            let message = format!("{socket} is there and is not a socket");
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, message));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let unix = UnixSocket::new_stream()?;
    unix.bind(address.path())?;
    fs::set_permissions(socket, fs::Permissions::from_mode(0o600))?;
    unix.listen(LISTEN_BACKLOG)
}

/// Answers the requests of one connection, one after the other, until the client hangs up.
async fn converse(
    mut stream: UnixStream,
    board: &'static Board,
    disks: Option<Arc<dyn DiskControl>>,
) -> io::Result<()> {
    let (read, mut write) = stream.split();
    let mut read = BufReader::new(read);
    while let Some(line) = read_line(&mut read).await? {
        let answer = match line {
            Line::TooLong => Answer::Error(format!("a request has at most {LINE_BYTES_MAX} bytes")),
            Line::Whole(line) => match serde_json::from_slice(&line) {
                Err(error) => Answer::Error(format!("not a request: {error}")),
                Ok(request) => tokio::select! {
                    answer = act(request, board, disks.as_ref()) => answer,
                    // A client that hangs up while it waits is not waited for.
                    () = hung_up(&mut read) => return Ok(()),
                },
            },
        };
        let last = matches!(answer, Answer::Error(_));
        let mut bytes = serde_json::to_vec(&answer).expect("an answer is plain JSON");
        bytes.push(b'\n');
        write.write_all(&bytes).await?;
        // Where a wrong line ends is unknown, so nothing after it is believed.
        if last {
            return Ok(());
        }
    }
    Ok(())
}

async fn act(request: Request, board: &'static Board, disks: Option<&Arc<dyn DiskControl>>) -> Answer {
    let result = match request {
        Request::Hold { point, after } => board.hold(&point, after).map(|()| Value::Null),
        Request::WaitHeld { point } => board.wait_held(&point).await.map(|()| Value::Null),
        Request::Release { point } => board.release(&point).map(|held| json!(held)),
        Request::List => Ok(json!(board.list())),
        Request::Disk { disk, fault } => match disks.cloned() {
            None => Err("this process has no disks that can be faulted".to_owned()),
            Some(disks) => tokio::task::spawn_blocking(move || disks.apply(&disk, &fault))
                .await
                .unwrap_or_else(|error| Err(format!("applying the fault panicked: {error}"))),
        },
    };
    result.map_or_else(Answer::Error, Answer::Ok)
}

enum Line {
    Whole(Vec<u8>),
    TooLong,
}

/// The next line; none at the end of the stream.
async fn read_line(read: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<Line>> {
    let mut line = Vec::new();
    let read_bytes = read.take(LINE_BYTES_MAX as u64 + 1).read_until(b'\n', &mut line).await?;
    Ok(match read_bytes {
        0 => None,
        _ if line.len() > LINE_BYTES_MAX => Some(Line::TooLong),
        _ => Some(Line::Whole(line)),
    })
}

/// Returns when the client has closed its end. Never returns while it has sent another request already.
async fn hung_up(read: &mut (impl AsyncBufRead + Unpin)) {
    match read.fill_buf().await {
        Ok([]) | Err(_) => {}
        Ok(_) => std::future::pending().await,
    }
}
