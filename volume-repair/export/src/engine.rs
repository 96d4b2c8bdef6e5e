//! The loop: wait, read all, decide, send all.

use crate::{client::Client, peer::Peer, socket::Socket};
use camino::{Utf8Path, Utf8PathBuf};
use mio::{
    Events, Interest, Poll, Token, Waker,
    net::{TcpListener, UnixListener},
};
use nbd_server::{BlockSize, Exports, Features};
use std::{
    collections::BTreeMap,
    fs, io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use upstairs::{Action, Config, Job, JobId, PeerId, Upstairs};

/// How often the Upstairs is told that time goes by.
const TICK: Duration = Duration::from_millis(250);

/// NBD clients at a time.
const CLIENTS_MAX: usize = 64;

/// Reads of one client in one turn.
const READS: usize = 16;

/// After so long an export that is to stop stops, whatever is under way.
const STOP_MAX: Duration = Duration::from_secs(10);

const WAKER: Token = Token(0);
const LISTENER: Token = Token(1);
/// Members have the tokens from here on, clients those behind them.
const PEERS: usize = 2;

/// Where clients come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A socket in the file system. Whatever has the name is replaced if nobody listens there.
    Unix(Utf8PathBuf),
    /// A port.
    Tcp(SocketAddr),
}

/// What is served.
#[derive(Debug)]
pub struct Volume {
    /// The region set, and the right to write it.
    pub config: Config,
    /// Where each of its members is served.
    pub members: Vec<SocketAddr>,
    /// What clients call it; may be empty.
    pub name: String,
}

/// Why nothing is served.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// Where clients are to come is not to be had.
    #[error("cannot listen on {address:?}")]
    Listen {
        /// Where.
        address: Address,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The system refuses.
    #[error("the volume cannot be served")]
    System(#[source] io::Error),
    /// There can be no such export.
    #[error("the volume cannot be told to clients")]
    Export(#[source] nbd_server::ExportError),
}

/// What may be asked of an export from other threads.
#[derive(Clone, Debug)]
pub struct Handle {
    waker: Arc<Waker>,
    asked: Arc<Asked>,
}

#[derive(Debug, Default)]
struct Asked {
    activate: AtomicBool,
    stop: AtomicBool,
}

impl Handle {
    /// Begins to be the writer.
    pub fn activate(&self) {
        self.asked.activate.store(true, Ordering::SeqCst);
        self.wake();
    }

    /// Answers what is under way, and ends.
    pub fn stop(&self) {
        self.asked.stop.store(true, Ordering::SeqCst);
        self.wake();
    }

    fn wake(&self) {
        // The loop looks when it ticks, too.
        let _ = self.waker.wake();
    }
}

#[derive(Debug)]
enum Listener {
    Unix(UnixListener, Utf8PathBuf),
    Tcp(TcpListener),
}

/// A volume that is served.
#[derive(Debug)]
pub struct Export {
    poll: Poll,
    listener: Listener,
    exports: Arc<Exports>,
    handle: Handle,
    upstairs: Upstairs,
    block_size: u64,
    peers: Vec<Peer>,
    /// What was said of each member last, and of how many wrong seals.
    told: Vec<Option<String>>,
    told_seals: Vec<u64>,
    clients: BTreeMap<usize, Client>,
    next_client: usize,
    /// Whose jobs they are.
    jobs: BTreeMap<JobId, usize>,
    next_job: u64,
    started: Instant,
    next_tick: Duration,
}

impl Export {
    /// Listens. Nobody is answered before [`Export::run`], and no block before [`Handle::activate`].
    ///
    /// # Errors
    /// [`ExportError`].
    pub fn new(volume: Volume, address: Address) -> Result<Export, ExportError> {
        let poll = Poll::new().map_err(ExportError::System)?;
        let waker = Waker::new(poll.registry(), WAKER).map_err(ExportError::System)?;
        let exports = Arc::new(exports(&volume).map_err(ExportError::Export)?);
        let listener = listen(&poll, &address).map_err(|source| ExportError::Listen { address, source })?;
        let geometry = volume.config.geometry;
        let block_size = geometry.block_size.bytes();
        Ok(Export {
            poll,
            listener,
            exports,
            handle: Handle { waker: Arc::new(waker), asked: Arc::default() },
            upstairs: Upstairs::new(volume.config),
            block_size: block_size as u64,
            told: vec![None; volume.members.len()],
            told_seals: vec![0; volume.members.len()],
            peers: volume.members.into_iter().map(Peer::new).collect(),
            clients: BTreeMap::new(),
            next_client: 0,
            jobs: BTreeMap::new(),
            next_job: 0,
            started: Instant::now(),
            next_tick: Duration::ZERO,
        })
    }

    /// For other threads.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Serves until it is told to stop.
    ///
    /// # Errors
    /// If the system does not say what happens.
    pub fn run(mut self) -> Result<(), ExportError> {
        let mut events = Events::with_capacity(256);
        let (mut is_active, mut stop_at) = (false, None);
        loop {
            let now = self.now();
            let wait =
                if self.has_more_to_read() { Duration::ZERO } else { self.next_tick.saturating_sub(now) };
            match self.poll.poll(&mut events, Some(wait)) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                    return Err(ExportError::System(error));
                }
                _ => {}
            }
            self.note(&events);
            if self.handle.asked.activate.load(Ordering::SeqCst) && !is_active {
                is_active = true;
                let actions = self.upstairs.activate(self.now());
                self.perform(actions);
            }
            self.hear_peers();
            if stop_at.is_none() {
                self.hear_clients();
            }
            if self.now() >= self.next_tick {
                self.next_tick = self.now() + TICK;
                (0..self.peers.len()).map(PeerId).for_each(|peer| self.tell_trouble(peer));
                let actions = self.upstairs.tick(self.now());
                self.perform(actions);
            }
            self.send();
            if self.handle.asked.stop.load(Ordering::SeqCst) {
                let end = *stop_at.get_or_insert_with(|| self.now() + STOP_MAX);
                if self.jobs.is_empty() || self.now() >= end {
                    return Ok(());
                }
            }
        }
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn has_more_to_read(&self) -> bool {
        self.peers.iter().any(|peer| peer.is_readable)
            || (self.upstairs.has_room() && self.clients.values().any(Client::may_ask))
    }

    fn note(&mut self, events: &Events) {
        for event in events {
            let (is_readable, is_writable) = (event.is_readable() || event.is_error(), event.is_writable());
            match event.token() {
                WAKER => {}
                LISTENER => self.accept(),
                Token(token) if token - PEERS < self.peers.len() => {
                    let peer = token - PEERS;
                    if let Some(is_there) = self.peers[peer].note(is_readable, is_writable) {
                        let actions = self.upstairs.connected(self.now(), PeerId(peer), is_there);
                        self.perform(actions);
                    }
                }
                Token(token) => {
                    if let Some(client) = self.clients.get_mut(&(token - PEERS - self.peers.len())) {
                        client.note(is_readable, is_writable);
                    }
                }
            }
        }
    }

    fn accept(&mut self) {
        loop {
            let accepted = match &self.listener {
                Listener::Unix(listener, _) => listener.accept().map(|(socket, _)| Socket::Unix(socket)),
                Listener::Tcp(listener) => listener.accept().map(|(socket, _)| {
                    // Without it small answers would wait for others; it goes on all the same.
                    let _ = socket.set_nodelay(true);
                    Socket::Tcp(socket)
                }),
            };
            match accepted {
                Ok(socket) if self.clients.len() < CLIENTS_MAX => self.add_client(socket),
                Ok(_) => tracing::warn!(CLIENTS_MAX, "too many clients: one is refused"),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => {
                    tracing::warn!(%error, "a client cannot be accepted");
                    return;
                }
            }
        }
    }

    fn add_client(&mut self, socket: Socket) {
        let id = self.next_client;
        self.next_client += 1;
        let mut client = Client::new(socket, &self.exports, self.block_size);
        let token = Token(PEERS + self.peers.len() + id);
        match client.socket_mut().register(self.poll.registry(), token) {
            Ok(()) => drop(self.clients.insert(id, client)),
            Err(error) => tracing::warn!(%error, "a client cannot be served"),
        }
    }

    fn hear_peers(&mut self) {
        for peer in 0..self.peers.len() {
            if !self.peers[peer].is_readable {
                continue;
            }
            let actions = match self.peers[peer].receive() {
                Ok(replies) if replies.is_empty() => continue,
                Ok(replies) => self.upstairs.received(self.now(), PeerId(peer), replies),
                Err(error) => {
                    tracing::warn!(peer, %error, "the connection to a member is gone");
                    self.peers[peer].close();
                    self.upstairs.disconnected(self.now(), PeerId(peer))
                }
            };
            self.perform(actions);
        }
    }

    fn hear_clients(&mut self) {
        let ids: Vec<usize> = self.clients.keys().copied().collect();
        for id in ids {
            for _ in 0..READS {
                let Some(client) = self.clients.get_mut(&id) else { break };
                if !client.may_ask() || !self.upstairs.has_room() {
                    break;
                }
                match client.receive(&mut self.next_job) {
                    Ok(jobs) => self.submit(id, jobs),
                    Err(error) => {
                        tracing::info!(client = id, %error, "a client is gone");
                        self.clients.remove(&id);
                    }
                }
            }
        }
    }

    fn submit(&mut self, client: usize, jobs: Vec<(JobId, Job)>) {
        let now = self.now();
        for (id, job) in jobs {
            self.jobs.insert(id, client);
            let actions = self.upstairs.submit(now, id, job);
            self.perform(actions);
        }
    }

    fn perform(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Connect(peer) => {
                    let token = Token(PEERS + peer.0);
                    if let Err(error) = self.peers[peer.0].connect(self.poll.registry(), token) {
                        tracing::warn!(peer = peer.0, %error, "a member cannot be reached");
                        let actions = self.upstairs.connected(self.now(), peer, false);
                        self.perform(actions);
                    }
                }
                Action::Disconnect(peer) => {
                    self.tell_trouble(peer);
                    self.peers[peer.0].close();
                }
                Action::Send(peer, request) => self.peers[peer.0].put(&request),
                Action::Read(job, block, data) => {
                    let client = self.jobs.get(&job).and_then(|client| self.clients.get_mut(client));
                    if let Some(client) = client {
                        client.put_read(job, block, data);
                    }
                }
                Action::Done(job, result) => {
                    let client = self.jobs.remove(&job);
                    if let Some(client) = client.and_then(|client| self.clients.get_mut(&client)) {
                        client.end(job, result);
                    }
                }
            }
        }
    }

    /// Says why a member is of no use, once, and that it has blocks that were changed on purpose, when there are more.
    fn tell_trouble(&mut self, peer: PeerId) {
        let seals = self.upstairs.wrong_seals(peer);
        if self.told_seals[peer.0] != seals {
            self.told_seals[peer.0] = seals;
            tracing::error!(
                peer = peer.0,
                blocks = seals,
                "a member has blocks that the volume's key has not sealed"
            );
        }
        let why = self.upstairs.trouble(peer);
        if self.told[peer.0].as_deref() != why {
            self.told[peer.0] = why.map(str::to_owned);
            if let Some(why) = why {
                tracing::warn!(peer = peer.0, why, "a member is not of use");
            }
        }
    }

    fn send(&mut self) {
        for peer in 0..self.peers.len() {
            if let Err(error) = self.peers[peer].send() {
                tracing::warn!(peer, %error, "the connection to a member is gone");
                self.peers[peer].close();
                let actions = self.upstairs.disconnected(self.now(), PeerId(peer));
                self.perform(actions);
            }
        }
        self.clients.retain(|id, client| match client.send() {
            Ok(()) => !client.is_over(),
            Err(error) => {
                tracing::info!(client = id, %error, "a client is gone");
                false
            }
        });
    }
}

impl Drop for Export {
    fn drop(&mut self) {
        if let Listener::Unix(_, path) = &self.listener {
            // Whoever comes later is told at once that nobody is there.
            let _ = fs::remove_file(path);
        }
    }
}

fn exports(volume: &Volume) -> Result<Exports, nbd_server::ExportError> {
    let geometry = volume.config.geometry;
    let block_size = u32::try_from(geometry.block_size.bytes()).expect("a block is small");
    let size = geometry.blocks * u64::from(block_size);
    let mut export = nbd_server::Export::new(volume.name.clone(), size, BlockSize::of(block_size));
    export.features = Features { fast_zero: true, block_status: false, ..Features::all() };
    let mut exports = Exports::new(nbd_server::PAYLOAD_BYTES_MAX_USUAL)?;
    exports.add(export)?;
    if !volume.name.is_empty() {
        exports.set_default(&volume.name)?;
    }
    Ok(exports)
}

fn listen(poll: &Poll, address: &Address) -> io::Result<Listener> {
    match address {
        Address::Unix(path) => {
            remove_if_nobody_listens(path)?;
            let mut listener = UnixListener::bind(path)?;
            poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
            Ok(Listener::Unix(listener, path.clone()))
        }
        Address::Tcp(address) => {
            let mut listener = TcpListener::bind(*address)?;
            poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
            Ok(Listener::Tcp(listener))
        }
    }
}

/// What a killed process has left.
fn remove_if_nobody_listens(path: &Utf8Path) -> io::Result<()> {
    match std::os::unix::net::UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        _ => Ok(()),
    }
}
