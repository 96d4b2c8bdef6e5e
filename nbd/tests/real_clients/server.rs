//! A small NBD server over the library: a unix socket, a TCP port, a thread for each connection, disks in memory. Owns sockets and
//! threads, and ends them when it is dropped.
//!
//! It is as awkward as the protocol allows: what came together is answered last request first, and reads where chunks are
//! allowed come in small chunks, last one first, zeroes as holes.

use crate::memory::MemoryDisk;
use bytes::{Bytes, BytesMut};
use camino::{Utf8Path, Utf8PathBuf};
use camino_tempfile::{Utf8TempDir, tempdir};
use nbd_server::{
    ErrorCode, Event, Export, Exports, Handshake, HandshakeProgress, PAYLOAD_BYTES_MAX_USUAL, ReadReply,
    Request, Transmission,
};
use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    os::unix::net::{UnixListener, UnixStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

/// Bytes that are read ahead.
const READ_AHEAD_BYTES: usize = 64 << 10;
/// Bytes of a chunk of a read at most, so that most reads have several.
const CHUNK_BYTES_MAX: u64 = 64 << 10;

/// A running server.
pub(crate) struct Server {
    shared: Arc<Shared>,
    directory: Utf8TempDir,
    tcp: SocketAddr,
    acceptors: Vec<JoinHandle<()>>,
}

struct Shared {
    exports: Arc<Exports>,
    disks: BTreeMap<String, MemoryDisk>,
    ending: AtomicBool,
    connections: Mutex<Vec<Connection>>,
    /// What was asked for, by name, and how often.
    seen: Mutex<BTreeMap<String, u64>>,
}

/// How to end a connection, and its thread.
struct Connection {
    end: Box<dyn Fn() + Send>,
    thread: JoinHandle<()>,
}

impl Server {
    /// Serves these exports, each with a disk of its own; the first one by name is also the default.
    pub(crate) fn start(exports: Vec<Export>) -> Self {
        let mut offer = Exports::new(PAYLOAD_BYTES_MAX_USUAL).unwrap();
        let disks = exports
            .iter()
            .map(|export| (export.name.clone(), MemoryDisk::new(export.size_bytes as usize)))
            .collect::<BTreeMap<_, _>>();
        for export in exports {
            offer.add(export).unwrap();
        }
        let first = disks.keys().next().unwrap();
        if !first.is_empty() {
            offer.set_default(first).unwrap();
        }
        let directory = tempdir().unwrap();
        let unix = UnixListener::bind(directory.path().join("nbd.socket")).unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let tcp_address = tcp.local_addr().unwrap();
        let shared = Arc::new(Shared {
            exports: Arc::new(offer),
            disks,
            ending: AtomicBool::new(false),
            connections: Mutex::default(),
            seen: Mutex::default(),
        });
        let (of_unix, of_tcp) = (Arc::clone(&shared), Arc::clone(&shared));
        let acceptors = vec![
            thread::spawn(move || {
                while let Some((stream, _)) = of_unix.going_on(unix.accept()) {
                    of_unix.take_on(&stream, UnixStream::try_clone, |stream| stream.shutdown(Shutdown::Both));
                }
            }),
            thread::spawn(move || {
                while let Some((stream, _)) = of_tcp.going_on(tcp.accept()) {
                    of_tcp.take_on(&stream, TcpStream::try_clone, |stream| stream.shutdown(Shutdown::Both));
                }
            }),
        ];
        Server { shared, directory, tcp: tcp_address, acceptors }
    }

    pub(crate) fn unix_uri(&self, export: &str) -> String {
        format!("nbd+unix:///{export}?socket={}", self.socket())
    }

    pub(crate) fn tcp_uri(&self, export: &str) -> String {
        format!("nbd://{}/{export}", self.tcp)
    }

    pub(crate) fn socket(&self) -> Utf8PathBuf {
        self.directory.path().join("nbd.socket")
    }

    /// For the files of a test.
    pub(crate) fn directory(&self) -> &Utf8Path {
        self.directory.path()
    }

    pub(crate) fn disk(&self, export: &str) -> &MemoryDisk {
        &self.shared.disks[export]
    }

    /// How often this was asked for: `read`, `write`, `write+fua`, … or `refused: …`, `broken: …`.
    pub(crate) fn seen(&self, what: &str) -> u64 {
        self.all_seen().get(what).copied().unwrap_or_default()
    }

    pub(crate) fn all_seen(&self) -> BTreeMap<String, u64> {
        self.shared.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.ending.store(true, Ordering::SeqCst);
        // Wakes the acceptors. If that fails, so does the test, here.
        drop(UnixStream::connect(self.socket()));
        drop(TcpStream::connect(self.tcp));
        for acceptor in self.acceptors.drain(..) {
            let _ = acceptor.join();
        }
        let connections =
            std::mem::take(&mut *self.shared.connections.lock().unwrap_or_else(PoisonError::into_inner));
        for connection in connections {
            (connection.end)();
            let _ = connection.thread.join();
        }
        let broken = self.all_seen().into_keys().find(|what| what.starts_with("broken"));
        assert!(broken.is_none() || thread::panicking(), "a real client broke the protocol: {broken:?}");
    }
}

impl Shared {
    fn going_on<T>(&self, accepted: io::Result<T>) -> Option<T> {
        let accepted = accepted.unwrap();
        (!self.ending.load(Ordering::SeqCst)).then_some(accepted)
    }

    fn take_on<S: Read + Write + Send + 'static>(
        self: &Arc<Self>,
        stream: &S,
        clone: fn(&S) -> io::Result<S>,
        shut: fn(&S) -> io::Result<()>,
    ) {
        let (mut served, kept) = (clone(stream).unwrap(), clone(stream).unwrap());
        let shared = Arc::clone(self);
        let thread = thread::spawn(move || {
            // A client that goes away is not the server's fault.
            let _ = shared.serve(&mut served);
            let _ = shut(&served);
        });
        let end = Box::new(move || drop(shut(&kept)));
        self.connections.lock().unwrap().push(Connection { end, thread });
    }

    fn note(&self, what: impl Into<String>) {
        *self.seen.lock().unwrap().entry(what.into()).or_default() += 1;
    }

    fn serve(&self, stream: &mut (impl Read + Write)) -> io::Result<()> {
        let (mut input, mut output) = (BytesMut::new(), BytesMut::new());
        let mut handshake = Handshake::start(Arc::clone(&self.exports), &mut output);
        let transmission = loop {
            let progress = match handshake.advance(&mut input, &mut output) {
                Ok(progress) => progress,
                Err(error) => {
                    self.note(format!("broken: {error}"));
                    return Ok(());
                }
            };
            stream.write_all(&output.split())?;
            handshake = match progress {
                HandshakeProgress::NeedMore { handshake, bytes } => {
                    if !fill(stream, &mut input, bytes)? {
                        return Ok(());
                    }
                    handshake
                }
                HandshakeProgress::Answered(handshake) => handshake,
                HandshakeProgress::Aborted => return Ok(()),
                HandshakeProgress::Chosen(transmission) => break transmission,
            };
        };
        self.transmit(stream, transmission, &mut input)
    }

    fn transmit(
        &self,
        stream: &mut (impl Read + Write),
        mut transmission: Transmission,
        input: &mut BytesMut,
    ) -> io::Result<()> {
        let disk = &self.disks[&transmission.export().name];
        let mut replies: Vec<Vec<Bytes>> = Vec::new();
        loop {
            match transmission.next_event(input) {
                Ok(Event::NeedMore { bytes }) => {
                    send_last_first(stream, &mut replies)?;
                    if !fill(stream, input, bytes)? {
                        return Ok(());
                    }
                }
                Ok(Event::Request(request)) => replies.push(self.answer(disk, request)),
                Ok(Event::Refused { refusal, reply }) => {
                    self.note(format!("refused: {refusal}"));
                    replies.push(vec![reply]);
                }
                Ok(Event::Disconnect) => return send_last_first(stream, &mut replies),
                Err(error) => {
                    self.note(format!("broken: {error}"));
                    return Ok(());
                }
            }
        }
    }

    fn answer(&self, disk: &MemoryDisk, request: Request) -> Vec<Bytes> {
        let with_fua = |what: &str, fua: bool| if fua { format!("{what}+fua") } else { what.to_owned() };
        let head = match request {
            Request::Read { offset, length, reply } => {
                self.note("read");
                return read(disk, offset, u64::from(length), reply);
            }
            Request::Write { offset, data, fua, reply } => {
                self.note(with_fua("write", fua));
                disk.write(offset, &data);
                reply.success()
            }
            Request::WriteZeroes { offset, length, fua, no_hole, fast, reply } => {
                self.note(with_fua(if fast { "fast zeroes" } else { "zeroes" }, fua));
                if fast && no_hole {
                    return vec![reply.not_fast()];
                }
                disk.zero(offset, u64::from(length), no_hole);
                reply.success()
            }
            Request::Trim { offset, length, fua, reply } => {
                self.note(with_fua("trim", fua));
                disk.zero(offset, u64::from(length), false);
                reply.success()
            }
            Request::Flush { reply } => {
                self.note("flush");
                reply.success()
            }
            Request::Cache { reply, .. } => {
                self.note("cache");
                reply.success()
            }
            Request::BlockStatus { offset, length, reply, .. } => {
                self.note("block status");
                return vec![reply.extents(disk.extents(offset, u64::from(length)))];
            }
        };
        vec![head.into()]
    }
}

fn read(disk: &MemoryDisk, offset: u64, length: u64, reply: ReadReply) -> Vec<Bytes> {
    let mut chunks = match reply.in_chunks() {
        Ok(chunks) => chunks,
        Err(reply) => {
            return match disk.read(offset, length) {
                Ok(data) => vec![reply.whole().into(), data.into()],
                Err(_) => vec![reply.error(ErrorCode::Io, "a bad block")],
            };
        }
    };
    let mut pieces = Vec::new();
    let mut start = offset;
    for extent in disk.extents(offset, length) {
        let end = start + extent.length;
        while start < end {
            let length = (end - start).min(CHUNK_BYTES_MAX);
            pieces.push((start, length, extent.zero));
            start += length;
        }
    }
    let mut sent = Vec::new();
    for (start, length, zero) in pieces.into_iter().rev() {
        match disk.read(start, length) {
            Ok(_) if zero => sent.push(chunks.hole(start, length as u32).into()),
            Ok(data) => sent.extend([chunks.data(start, length as u32).into(), data.into()]),
            Err(bad) => sent.push(chunks.error_at(bad, ErrorCode::Io, "a bad block")),
        }
    }
    sent.push(chunks.done().into());
    sent
}

/// Reads at least so many bytes more; false if the client is gone.
fn fill(stream: &mut impl Read, input: &mut BytesMut, bytes: usize) -> io::Result<bool> {
    let wanted = input.len() + bytes;
    while input.len() < wanted {
        let start = input.len();
        input.resize(wanted.max(start + READ_AHEAD_BYTES), 0);
        let read = stream.read(&mut input[start..]);
        input.truncate(start + *read.as_ref().unwrap_or(&0));
        if read? == 0 {
            return Ok(false);
        }
    }
    Ok(true)
}

fn send_last_first(stream: &mut impl Write, replies: &mut Vec<Vec<Bytes>>) -> io::Result<()> {
    while let Some(reply) = replies.pop() {
        for part in reply {
            stream.write_all(&part)?;
        }
    }
    Ok(())
}
