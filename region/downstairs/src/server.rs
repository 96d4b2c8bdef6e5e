//! Threads and sockets around the members of a disk.
//!
//! | thread | how many | does |
//! |---|---|---|
//! | acceptor | one | accepts, up to [`CONNECTIONS_MAX`] connections |
//! | reader | one for each connection | reads requests, gives them to the member, sends what can be sent at once; of a member that is filled, [later](crate::urgency) than others |
//! | sender | one for each connection | sends the rest |
//! | workers | as many as have something to do: [`crate::workers`] | syncs and checkpoints: of a region, one of each kind may be under way; long reads |
//! | clock | one | ticks the members, closes regions that nobody uses |

use crate::{
    clones::board::Board,
    disk::{Disk, DiskError},
    link::Link,
    member::ConnectionId,
    requests::Requests,
    served::Served,
    steward::Steward,
    workers::Workers,
};
use ids::RegionId;
use region_wire::{Hello, NotWelcome, Refusal, Reply, Request};
use std::{
    collections::BTreeMap,
    io,
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

/// Connections at a time: one for each of some hundreds of regions, and some that come again.
const CONNECTIONS_MAX: usize = 1_024;

/// Who says nothing for so long is gone. An Upstairs says something every second.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// How often members are ticked: what was written is durable a moment later also if nobody asks for it.
const TICK: Duration = Duration::from_millis(500);

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
    shared: Arc<Shared>,
    acceptor: Option<thread::JoinHandle<()>>,
    clock: Option<thread::JoinHandle<()>>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    pub(crate) disk: Disk,
    workers: Arc<Workers>,
    /// Each region has a lock of its own, so that one that is slow to open or to close keeps no other waiting.
    regions: Mutex<BTreeMap<RegionId, Arc<Place>>>,
    /// Clones that are being made.
    pub(crate) clones: Board,
    next_connection: AtomicU64,
    connections: AtomicUsize,
    is_stopping: AtomicBool,
    stopped: (Mutex<bool>, Condvar),
}

/// Where a region is while it is open. Locked while it is opened or closed.
type Place = Mutex<Option<Arc<Served>>>;

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
            address,
            disk,
            workers: Arc::new(Workers::start().map_err(ServerError::Thread)?),
            regions: Mutex::default(),
            clones: Board::default(),
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
        Ok(Server { shared, acceptor: Some(acceptor), clock: Some(clock) })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.shared.address
    }

    /// What is done with regions beside serving them.
    #[must_use]
    pub fn steward(&self) -> Steward {
        Steward::new(Arc::clone(&self.shared))
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
        drop(TcpStream::connect_timeout(&self.shared.address, Duration::from_secs(1)));
        for thread in [self.acceptor.take(), self.clock.take()].into_iter().flatten() {
            // One that has panicked has said so.
            let _ = thread.join();
        }
        self.shared.clones.stop_all();
        let places = std::mem::take(&mut *lock(&self.shared.regions));
        for served in places.into_values().filter_map(|place| lock(&place).take()) {
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
        let link = Arc::new(Link::new(socket.try_clone()?)?);
        let mut requests = Requests::of(socket, SILENCE_MAX);
        let Some(first) = requests.first()? else { return Ok(()) };
        let [Request::Hello(hello)] = first[..] else {
            link.put(&Reply::Wrong(
                "the first message is Hello, and then its answer is waited for".to_owned(),
            ));
            link.end();
            link.flush();
            requests.linger();
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
        if ended.is_ok() {
            requests.linger();
        }
        link.close();
        // One that has panicked has said so.
        let _ = sender.join();
        ended
    }

    fn serve_region(&self, hello: &Hello, link: &Arc<Link>, requests: &mut Requests) -> io::Result<()> {
        // What its fields mean in another version nobody knows here: no region is opened for it.
        if let Err(why) = hello.version() {
            link.put(&Reply::Refused(Refusal::Hello(why)));
            return Ok(());
        }
        if hello.snapshot.is_some() {
            link.keep_order();
        }
        let connection = self.next_connection();
        let served = loop {
            let served = match self.served(hello.region) {
                Ok(served) => served,
                Err(error) => {
                    tracing::warn!(region = %hello.region, error = &error as &dyn std::error::Error, "a region is not served");
                    let words = in_words(&error);
                    let is_there = !matches!(error, DiskError::NoRegion { .. });
                    let why =
                        if is_there { NotWelcome::NotOpened(words) } else { NotWelcome::NoRegion(words) };
                    link.put(&Reply::Refused(Refusal::Hello(why)));
                    return Ok(());
                }
            };
            // It may have been closed in this moment.
            if served.connect(connection, link, hello) {
                break served;
            }
        };
        let ended = served.run(connection, link, requests, hello.snapshot.is_some());
        served.disconnect(connection);
        ended
    }

    /// A number that no other connection has.
    pub(crate) fn next_connection(&self) -> ConnectionId {
        ConnectionId(self.next_connection.fetch_add(1, Ordering::SeqCst))
    }

    /// Waits for so long, or until all of it is stopped.
    pub(crate) fn pause(&self, time: Duration) {
        let (stopped, changed) = &self.stopped;
        let is_stopped = lock(stopped);
        if !*is_stopped {
            drop(changed.wait_timeout(is_stopped, time));
        }
    }

    /// Closes a region, if it is open and nobody is connected.
    pub(crate) fn release(&self, region: RegionId) {
        let place = lock(&self.regions).get(&region).cloned();
        let Some(place) = place else { return };
        let mut there = lock(&place);
        if let Some(served) = there.take_if(|served| served.is_alone()) {
            served.close();
        }
        drop(there);
        self.forget_if_empty(region, &place);
    }

    /// The region, opened if it is not.
    pub(crate) fn served(&self, region: RegionId) -> Result<Arc<Served>, DiskError> {
        let place = {
            let mut regions = lock(&self.regions);
            if self.is_stopping.load(Ordering::SeqCst) {
                return Err(DiskError::NoRegion { region });
            }
            Arc::clone(regions.entry(region).or_default())
        };
        let opened = self.open_in(&place, region);
        if opened.is_err() {
            self.forget_if_empty(region, &place);
        }
        opened
    }

    fn open_in(&self, place: &Place, region: RegionId) -> Result<Arc<Served>, DiskError> {
        let mut place = lock(place);
        if let Some(served) = &*place {
            return Ok(Arc::clone(served));
        }
        let served = Served::new(self.disk.open(region)?, Arc::clone(&self.workers), self.disk.clone());
        Ok(Arc::clone(place.insert(Arc::new(served))))
    }

    /// A place that nobody else knows, or will ever know, is gone if nothing is there.
    fn forget_if_empty(&self, region: RegionId, place: &Arc<Place>) {
        let mut regions = lock(&self.regions);
        let is_it = regions.get(&region).is_some_and(|there| Arc::ptr_eq(there, place));
        // Others get theirs under this lock.
        if is_it && Arc::strong_count(place) == 2 && lock(place).is_none() {
            regions.remove(&region);
        }
    }

    fn run_clock(&self) {
        let (stopped, changed) = &self.stopped;
        let mut is_stopped = lock(stopped);
        while !*is_stopped {
            (is_stopped, _) = changed.wait_timeout(is_stopped, TICK).unwrap_or_else(PoisonError::into_inner);
            drop(is_stopped);
            let all: Vec<_> =
                lock(&self.regions).iter().map(|(id, place)| (*id, Arc::clone(place))).collect();
            for (id, place) in all {
                // One that is being opened needs no clock yet.
                let Ok(mut there) = place.try_lock() else { continue };
                match there.as_ref().map(Arc::clone) {
                    Some(served) if !served.is_unused() => {
                        drop(there);
                        served.tick();
                    }
                    unused => {
                        *there = None;
                        unused.iter().for_each(|served| served.close());
                        drop(there);
                        self.forget_if_empty(id, &place);
                    }
                }
            }
            is_stopped = lock(stopped);
        }
    }
}

pub(crate) fn start(
    name: &str,
    run: impl FnOnce() + Send + 'static,
) -> Result<thread::JoinHandle<()>, ServerError> {
    thread::Builder::new().name(name.to_owned()).spawn(run).map_err(ServerError::Thread)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn in_words(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |words, cause| format!("{words}: {cause}"))
}
