//! Threads and sockets around the members of a disk.
//!
//! | thread | how many | does |
//! |---|---|---|
//! | acceptor | one | accepts, up to [`CONNECTIONS_MAX`] connections |
//! | reader | one for each connection | reads requests, gives them to the member, sends what can be sent at once |
//! | sender | one for each connection | sends the rest |
//! | workers | two for each open region | syncs and checkpoints: one of each kind may be under way |
//! | clock | one | ticks the members, closes regions that nobody uses |
//!
//! The member is under a lock while it decides and while it writes; not while it syncs.

use crate::{
    disk::{Disk, DiskError},
    link::Link,
    member::{ConnectionId, Effect, Member, Work},
};
use ids::RegionId;
use region_wire::{Hello, Inbox, Refusal, Reply, Request, WireError};
use rustix::{
    buffer::spare_capacity,
    io::Errno,
    net::{RecvFlags, recv},
};
use std::{
    collections::BTreeMap,
    io,
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

/// Connections at a time: one for each of some hundreds of regions, and some that come again.
const CONNECTIONS_MAX: usize = 1_024;

/// Who says nothing for so long is gone. An Upstairs says something every second.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// How often members are ticked: what was written is durable a moment later also if nobody asks for it.
const TICK: Duration = Duration::from_millis(500);

/// A region to which nobody has been connected for so long is closed.
const UNUSED_MAX: Duration = Duration::from_secs(60);

/// Why a disk is not served.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// Its address is not to be had.
    #[error("cannot listen on {address}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No thread.
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
}

/// A disk that is served, until it is stopped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<thread::JoinHandle<()>>,
    clock: Option<thread::JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    disk: Disk,
    regions: Mutex<BTreeMap<RegionId, Arc<Served>>>,
    next_connection: AtomicU64,
    connections: AtomicUsize,
    is_stopping: AtomicBool,
    stopped: (Mutex<bool>, Condvar),
}

/// An open region.
#[derive(Debug)]
struct Served {
    state: Mutex<State>,
    /// Something that waited may go on.
    changed: Condvar,
    /// None once it is to be closed.
    work: Mutex<Option<[mpsc::Sender<Work>; 2]>>,
    workers: Mutex<Vec<thread::JoinHandle<()>>>,
}

#[derive(Debug)]
struct State {
    /// None once it was closed.
    member: Option<Member>,
    links: BTreeMap<ConnectionId, Arc<Link>>,
    /// Somebody waits for something to change.
    is_waited_for: bool,
    unused_since: Instant,
}

impl Server {
    /// Serves a disk.
    ///
    /// # Errors
    /// [`ServerError`].
    pub fn start(disk: Disk, address: SocketAddr) -> Result<Server, ServerError> {
        let listen = |source| ServerError::Listen { address, source };
        let listener = TcpListener::bind(address).map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let shared = Arc::new(Shared {
            disk,
            regions: Mutex::default(),
            next_connection: AtomicU64::new(1),
            connections: AtomicUsize::new(0),
            is_stopping: AtomicBool::new(false),
            stopped: (Mutex::new(false), Condvar::new()),
        });
        let acceptor = start("accept", {
            let shared = Arc::clone(&shared);
            move || shared.accept(&listener)
        })?;
        let clock = start("clock", {
            let shared = Arc::clone(&shared);
            move || shared.run_clock()
        })?;
        Ok(Server { address, shared, acceptor: Some(acceptor), clock: Some(clock) })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The disk that it serves.
    #[must_use]
    pub fn disk(&self) -> &Disk {
        &self.shared.disk
    }

    /// Ends all connections, and closes all regions in order.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.shared.is_stopping.store(true, Ordering::SeqCst);
        *lock(&self.shared.stopped.0) = true;
        self.shared.stopped.1.notify_all();
        // It waits in accept.
        drop(TcpStream::connect_timeout(&self.address, Duration::from_secs(1)));
        for thread in [self.acceptor.take(), self.clock.take()].into_iter().flatten() {
            // One that has panicked has said so.
            let _ = thread.join();
        }
        for (_, served) in std::mem::take(&mut *lock(&self.shared.regions)) {
            served.close();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.acceptor.is_some() {
            self.end();
        }
    }
}

impl Shared {
    fn accept(self: &Arc<Shared>, listener: &TcpListener) {
        while !self.is_stopping.load(Ordering::SeqCst) {
            let socket = match listener.accept() {
                Ok((socket, _)) => socket,
                Err(error) => {
                    tracing::warn!(%error, "a connection cannot be accepted");
                    // For lack of files, most likely: others will end.
                    let (stopped, changed) = &self.stopped;
                    drop(changed.wait_timeout(lock(stopped), TICK));
                    continue;
                }
            };
            if self.connections.fetch_add(1, Ordering::SeqCst) >= CONNECTIONS_MAX {
                self.connections.fetch_sub(1, Ordering::SeqCst);
                tracing::warn!(CONNECTIONS_MAX, "too many connections: one is refused");
                continue;
            }
            let shared = Arc::clone(self);
            let started = start("reader", move || {
                if let Err(error) = shared.serve(socket) {
                    tracing::debug!(%error, "a connection has ended");
                }
                shared.connections.fetch_sub(1, Ordering::SeqCst);
            });
            if let Err(error) = started {
                self.connections.fetch_sub(1, Ordering::SeqCst);
                tracing::error!(%error, "a connection cannot be served");
            }
        }
    }

    /// One connection, from its Hello to its end.
    fn serve(&self, socket: TcpStream) -> io::Result<()> {
        socket.set_read_timeout(Some(SILENCE_MAX))?;
        let link = Arc::new(Link::new(socket.try_clone()?)?);
        let mut requests = Requests { socket, inbox: Inbox::new() };
        let Some(first) = requests.next()? else { return Ok(()) };
        let [Request::Hello(hello)] = first[..] else {
            link.put(&Reply::Wrong(
                "the first message is Hello, and then its answer is waited for".to_owned(),
            ));
            link.end();
            link.flush();
            return Ok(());
        };
        let sender = start("sender", {
            let link = Arc::clone(&link);
            move || link.run_sender()
        });
        let sender = sender.map_err(io::Error::other)?;
        let ended = self.serve_region(&hello, &link, &mut requests);
        link.end();
        link.flush();
        link.close();
        // One that has panicked has said so.
        let _ = sender.join();
        ended
    }

    fn serve_region(&self, hello: &Hello, link: &Arc<Link>, requests: &mut Requests) -> io::Result<()> {
        let connection = ConnectionId(self.next_connection.fetch_add(1, Ordering::SeqCst));
        let served = loop {
            let served = match self.served(hello.region) {
                Ok(served) => served,
                Err(error) => {
                    tracing::warn!(region = %hello.region, error = &error as &dyn std::error::Error, "a region is not served");
                    link.put(&Reply::Refused(Refusal::NoRegion(in_words(&error))));
                    return Ok(());
                }
            };
            // It may have been closed in this moment.
            if served.connect(connection, link, hello) {
                break served;
            }
        };
        let ended = served.run(connection, link, requests);
        served.disconnect(connection);
        ended
    }

    /// The region, opened if it is not.
    fn served(&self, region: RegionId) -> Result<Arc<Served>, DiskError> {
        let mut regions = lock(&self.regions);
        if self.is_stopping.load(Ordering::SeqCst) {
            return Err(DiskError::NoRegion { region });
        }
        if let Some(served) = regions.get(&region) {
            return Ok(Arc::clone(served));
        }
        let served = Served::start(self.disk.open(region)?)
            .map_err(|source| DiskError::Machine { path: "/proc/self/task", source })?;
        regions.insert(region, Arc::clone(&served));
        Ok(served)
    }

    fn run_clock(&self) {
        let (stopped, changed) = &self.stopped;
        let mut is_stopped = lock(stopped);
        while !*is_stopped {
            (is_stopped, _) = changed.wait_timeout(is_stopped, TICK).unwrap_or_else(PoisonError::into_inner);
            let mut regions = lock(&self.regions);
            let all: Vec<_> = regions.iter().map(|(id, served)| (*id, Arc::clone(served))).collect();
            for (id, served) in all {
                if served.is_unused() {
                    regions.remove(&id);
                    served.close();
                } else {
                    served.tick();
                }
            }
        }
    }
}

impl Served {
    fn start(member: Member) -> io::Result<Arc<Served>> {
        let (syncs, sync) = mpsc::channel();
        let (checkpoints, checkpoint) = mpsc::channel();
        let state = State {
            member: Some(member),
            links: BTreeMap::new(),
            is_waited_for: false,
            unused_since: Instant::now(),
        };
        let served = Arc::new(Served {
            state: Mutex::new(state),
            changed: Condvar::new(),
            work: Mutex::new(Some([syncs, checkpoints])),
            workers: Mutex::default(),
        });
        for work in [sync, checkpoint] {
            let of = Arc::downgrade(&served);
            let run = move || {
                while let Ok(work) = work.recv() {
                    let work: Work = work;
                    let ended = work.run();
                    let Some(served) = of.upgrade() else { break };
                    served.with(|member| member.ended(ended));
                }
            };
            lock(&served.workers).push(start("work", run).map_err(io::Error::other)?);
        }
        Ok(served)
    }

    /// False if the region was closed.
    fn connect(&self, connection: ConnectionId, link: &Arc<Link>, hello: &Hello) -> bool {
        let mut state = lock(&self.state);
        if state.member.is_none() {
            return false;
        }
        state.links.insert(connection, Arc::clone(link));
        drop(state);
        self.with(|member| member.connect(connection, hello));
        true
    }

    fn run(&self, connection: ConnectionId, link: &Link, requests: &mut Requests) -> io::Result<()> {
        while link.wait_for_room() {
            let Some(some) = requests.next()? else { return Ok(()) };
            self.with(|member| member.receive(connection, some));
            self.wait_while(|member| member.is_waiting(connection));
        }
        Ok(())
    }

    fn disconnect(&self, connection: ConnectionId) {
        self.with(|member| member.disconnect(connection));
        let mut state = lock(&self.state);
        state.links.remove(&connection);
        state.unused_since = Instant::now();
    }

    fn tick(&self) {
        self.with(Member::tick);
    }

    fn is_unused(&self) -> bool {
        let state = lock(&self.state);
        state.links.is_empty() && state.unused_since.elapsed() >= UNUSED_MAX
    }

    /// Closes the region in order. Whoever is connected hears no more. Whatever is under way on its file has ended on return: it may
    /// be opened again.
    fn close(&self) {
        lock(&self.state).links.values().for_each(|link| link.close());
        drop(lock(&self.work).take());
        for worker in std::mem::take(&mut *lock(&self.workers)) {
            // One that has panicked has said so.
            let _ = worker.join();
        }
        let mut state = lock(&self.state);
        let Some(mut member) = state.member.take() else { return };
        if let Err(error) = member.region_mut().settle() {
            tracing::warn!(%error, "a region is closed as it is");
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Lets the member decide, and does what it says.
    fn with(&self, act: impl FnOnce(&mut Member) -> Vec<Effect>) {
        let mut state = lock(&self.state);
        let State { member: Some(member), links, .. } = &mut *state else { return };
        let effects = act(member);
        let mut touched: Vec<Arc<Link>> = Vec::new();
        for effect in effects {
            let to = match &effect {
                Effect::Send(connection, _) | Effect::Close(connection) => links.get(connection),
                Effect::Run(_) | Effect::TryAgain => None,
            };
            // Replies get into the outbox under the lock, so that they keep their order.
            match (effect, to) {
                (Effect::Send(_, reply), Some(link)) => link.put(&reply),
                (Effect::Close(_), Some(link)) => link.end(),
                (Effect::Run(work), _) => self.run_work(work),
                // The clock ticks soon enough.
                (Effect::TryAgain, _) | (_, None) => {}
            }
            if let Some(link) = to
                && !touched.iter().any(|other| Arc::ptr_eq(other, link))
            {
                touched.push(Arc::clone(link));
            }
        }
        let is_waited_for = std::mem::take(&mut state.is_waited_for);
        drop(state);
        touched.iter().for_each(|link| link.flush());
        if is_waited_for {
            self.changed.notify_all();
        }
    }

    fn run_work(&self, work: Work) {
        // Of a region that is being closed nothing more is begun: closing it makes everything durable.
        let workers = lock(&self.work);
        let Some([syncs, checkpoints]) = workers.as_ref() else { return };
        let worker = if matches!(work, Work::Sync(_)) { syncs } else { checkpoints };
        worker.send(work).expect("a worker lives as long as its region");
    }

    fn wait_while(&self, waits: impl Fn(&Member) -> bool) {
        let mut state = lock(&self.state);
        while state.member.as_ref().is_some_and(&waits) {
            state.is_waited_for = true;
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// What a peer asks.
struct Requests {
    socket: TcpStream,
    inbox: Inbox,
}

impl Requests {
    /// At least one, and all that have come with it. None at the end.
    fn next(&mut self) -> io::Result<Option<Vec<Request>>> {
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

fn start(name: &str, run: impl FnOnce() + Send + 'static) -> Result<thread::JoinHandle<()>, ServerError> {
    thread::Builder::new().name(name.to_owned()).spawn(run).map_err(ServerError::Thread)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn in_words(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |words, cause| format!("{words}: {cause}"))
}
