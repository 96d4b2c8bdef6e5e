//! The loop: wait, read all, decide, send all.

use crate::{
    client::Client,
    handle::{Handle, Order},
    listener::{Address, Listener},
    notices::{Notices, NoticesError, NoticesOrder},
    peer::Peer,
    repairs::{Moment, Repairs},
    scrubs::ScrubOrder,
    snapshots::{SnapshotOrder, SnapshotResult, Snapshots},
    socket::{Happened, Socket},
    sources::{Fetched, SourceError, Sources},
    status::ExportStatus,
    watch::Watch,
};
use ids::VolumeId;
use jiff::Timestamp;
use mio::{Events, Poll, Token, Waker};
use nbd_server::{Access, BlockSize, Exports, Features};
use region::Member;
use region_wire::{Request, source_address};
use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender},
    },
    thread,
    time::{Duration, Instant},
};
use upstairs::{Action, Job, JobError, JobId, PeerId, Trouble};
use volume_layers::{Composition, FetchError, ScrubError, SourceId, Volume};
use volume_repair::{Applied, ChangeError, ConstructionRequest, Executor};

/// How often the volume is told that time goes by.
const TICK: Duration = Duration::from_millis(250);

/// While so many bytes are kept for all clients together, only those ask for whom nothing is kept, and with twice as many nobody.
const HELD_MAX: usize = 64 << 20;

/// NBD clients at a time.
const CLIENTS_MAX: usize = 64;

/// Reads of one client in one turn.
const READS: usize = 16;

/// Who is not done with shaking hands after so long does not keep the place of another client.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);

/// That a member has more wrong seals is said no more often.
const SEALS_TOLD: Duration = Duration::from_secs(60);

/// After so long an export that is to stop stops, whatever is under way.
const STOP_MAX: Duration = Duration::from_secs(10);

const WAKER: Token = Token(0);
const LISTENER: Token = Token(1);
/// Members have the tokens from here on, clients those behind them.
const PEERS: usize = 2;

/// What is served.
#[derive(Debug)]
pub struct Offer {
    /// What the volume is made of.
    pub composition: Composition,
    /// The request that says so; without one its members stay as they are.
    pub request: Option<ConstructionRequest>,
    /// What clients call it; may be empty.
    pub name: String,
    /// The address that connections to members leave from; without one the system chooses.
    pub source_address: Option<IpAddr>,
}

/// Why nothing is served.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// Where clients are to come is not to be had.
    #[error("cannot listen on {address}")]
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
    /// A file or a URL that it is made of is not to be had, or of no use.
    #[error("a part of the volume is not there")]
    Source(#[source] SourceError),
    /// There can be no such export.
    #[error("the volume cannot be told to clients")]
    Export(#[source] nbd_server::ExportError),
}

impl ExportError {
    /// A name for programs, which does not change.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            ExportError::Listen { .. } => "volume_not_listening",
            ExportError::System(_) => "volume_not_served",
            ExportError::Source(error) => error.code(),
            ExportError::Export(_) => "volume_not_told",
        }
    }
}

/// A volume that is served.
#[derive(Debug)]
pub struct Export {
    poll: Poll,
    listener: Listener,
    exports: Arc<Exports>,
    /// Somebody may be waiting to be accepted, who was not for lack of files, most likely. Nobody tells of him again.
    is_to_accept: bool,
    handle: Handle,
    orders: Receiver<Order>,
    is_stopping: bool,
    volume: Volume,
    /// By which request it runs.
    executor: Option<Executor>,
    block_size: u64,
    /// Where members are served.
    addresses: BTreeMap<Member, SocketAddr>,
    /// And from where they are come to.
    source_address: Option<IpAddr>,
    /// The connections to members, by their places.
    peers: Vec<Peer>,
    /// What was said of the member at each place last, and of how many wrong seals.
    told: Vec<Option<Trouble>>,
    told_seals: Vec<(u64, Duration)>,
    /// Files and URLs, if the volume has any; and what was said of each of them last.
    sources: Option<Sources>,
    told_sources: BTreeMap<SourceId, FetchError>,
    clients: BTreeMap<usize, Client>,
    next_client: usize,
    /// Whose jobs they are.
    jobs: BTreeMap<JobId, usize>,
    snapshots: Snapshots,
    repairs: Repairs,
    /// Who is told of them, if somebody is.
    notices: Option<Notices>,
    /// Somebody was told a list, or that it is filled.
    is_to_look: bool,
    next_job: u64,
    started: Instant,
    next_tick: Duration,
}

impl Export {
    /// Opens the files and URLs that it is made of, and listens. Nobody is answered before [`Export::run`], and no block before
    /// [`Handle::activate`].
    ///
    /// # Errors
    /// [`ExportError`].
    pub fn new(offer: Offer, address: Address) -> Result<Export, ExportError> {
        let Offer { composition, request, name, source_address } = offer;
        let poll = Poll::new().map_err(ExportError::System)?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER).map_err(ExportError::System)?);
        let block_size = composition.block_size.bytes() as u64;
        let (addresses, parts) = (composition.addresses(), composition.sources());
        let opened = match parts.is_empty() {
            true => None,
            false => {
                let opened = Sources::open(parts, block_size, source_address, Arc::clone(&waker));
                Some(opened.map_err(ExportError::Source)?)
            }
        };
        let (sources, source_blocks) = opened.unzip();
        let volume = Volume::new(composition, &source_blocks.unwrap_or_default());
        let exports = Arc::new(exports(&volume, block_size, &name).map_err(ExportError::Export)?);
        let listener = Listener::bind(&address).and_then(|mut listener| {
            listener.register(poll.registry(), LISTENER)?;
            Ok(listener)
        });
        let listener = listener.map_err(|source| ExportError::Listen { address, source })?;
        let (handle, orders) = Handle::new(waker);
        let places = volume.places();
        Ok(Export {
            poll,
            listener,
            exports,
            is_to_accept: false,
            handle,
            orders,
            is_stopping: false,
            volume,
            block_size,
            executor: request.map(Executor::new),
            addresses,
            source_address,
            told: vec![None; places],
            told_seals: vec![(0, Duration::ZERO); places],
            peers: std::iter::repeat_with(Peer::new).take(places).collect(),
            sources,
            told_sources: BTreeMap::new(),
            clients: BTreeMap::new(),
            next_client: 0,
            jobs: BTreeMap::new(),
            snapshots: Snapshots::default(),
            repairs: Repairs::new(),
            notices: None,
            is_to_look: false,
            next_job: 0,
            started: Instant::now(),
            next_tick: Duration::ZERO,
        })
    }

    /// Offers the volume under this name, too, by which clients may only read it.
    ///
    /// # Errors
    /// If there can be no such export.
    pub fn offer_read_only(&mut self, name: &str) -> Result<(), ExportError> {
        let mut exports = Exports::clone(&self.exports);
        let own = exports.iter().next().expect("the volume is offered").as_ref().clone();
        let read_only = nbd_server::Export { name: name.to_owned(), access: Access::ReadOnly, ..own };
        exports.add(read_only).map_err(ExportError::Export)?;
        self.exports = Arc::new(exports);
        Ok(())
    }

    /// Has the coordinator told of repairs, and of what an earlier export has left to be told.
    ///
    /// # Errors
    /// [`NoticesError`]; nobody is told.
    pub fn tell_of_repairs(&mut self, order: NoticesOrder) -> Result<(), NoticesError> {
        let executor = self.executor.as_ref().ok_or(NoticesError::NoVolume)?;
        let volume = VolumeId(executor.request().id);
        let (notices, open) = Notices::start(order, volume, self.handle.notices())?;
        self.repairs.tell(open);
        self.notices = Some(notices);
        Ok(())
    }

    /// Has what lies under the volume copied into it, from the activation on.
    ///
    /// # Errors
    /// [`ScrubError`]: there is nothing to copy, or nothing to copy it to.
    pub fn start_scrub(&mut self) -> Result<(), ScrubError> {
        self.scrub(ScrubOrder::Start)
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
        let (mut events, mut watch) = (Events::with_capacity(256), Watch::default());
        let (mut is_active, mut stop_at) = (false, None);
        loop {
            let now = self.now();
            let wait =
                if self.has_more_to_read() { Duration::ZERO } else { self.next_tick.saturating_sub(now) };
            watch.wait(&mut self.poll, &mut events, wait).map_err(ExportError::System)?;
            self.note(&events);
            if self.handle.is_to_activate() && !is_active {
                is_active = true;
                let actions = self.volume.activate(self.now());
                self.perform(actions);
            }
            self.obey();
            self.hear_peers();
            self.hear_sources();
            if stop_at.is_none() {
                self.hear_clients();
            }
            if self.now() >= self.next_tick {
                self.next_tick = self.now() + TICK;
                (0..self.peers.len()).map(PeerId).for_each(|peer| self.tell_trouble(peer));
                self.end_slow_handshakes();
                if self.is_to_accept {
                    self.accept();
                }
                let actions = self.volume.tick(self.now());
                self.perform(actions);
                self.is_to_look = true;
            }
            if std::mem::take(&mut self.is_to_look) {
                self.look_at_repairs();
            }
            self.fetch();
            self.send();
            if self.handle.is_to_stop() {
                self.is_stopping = true;
                let end = *stop_at.get_or_insert_with(|| self.now() + STOP_MAX);
                let is_said = self.clients.values().all(Client::is_idle);
                if (self.jobs.is_empty() && is_said) || self.now() >= end {
                    self.repairs.stop(Timestamp::now());
                    self.tell();
                    return Ok(());
                }
            }
        }
    }

    /// Does what other threads ask. An answer that nobody waits for any more goes nowhere.
    fn obey(&mut self) {
        while let Ok(order) = self.orders.try_recv() {
            match order {
                Order::Status(answer) => {
                    // So that it says the same of members and of their repairs.
                    self.look_at_repairs();
                    drop(answer.try_send(Box::new(self.status())));
                }
                Order::Apply { request, is_check, answer } => {
                    let applied = self.apply(*request, is_check);
                    drop(answer.try_send(applied));
                }
                Order::Snapshot(order, answer) => self.snapshot(order, answer),
                Order::Scrub(order, answer) => drop(answer.try_send(self.scrub(order))),
                Order::Activate(epoch, answer) => {
                    let activated = self.volume.activate_with(self.now(), epoch);
                    let told = activated.map(|actions| self.perform(actions));
                    drop(answer.try_send(told));
                }
            }
        }
    }

    fn snapshot(&mut self, order: SnapshotOrder, answer: SyncSender<SnapshotResult>) {
        let (SnapshotOrder::Take(snapshot) | SnapshotOrder::Delete(snapshot)) = order;
        if !self.volume.is_activated() {
            let why = "the volume was not activated: nobody knows who has what was written".to_owned();
            return drop(answer.try_send(Err(JobError::Snapshot { snapshot, why })));
        }
        let id = JobId(self.next_job);
        self.next_job += 1;
        self.snapshots.begin(id, answer);
        let job = match order {
            SnapshotOrder::Take(snapshot) => Job::Snapshot(snapshot),
            SnapshotOrder::Delete(snapshot) => Job::DeleteSnapshot(snapshot),
        };
        let actions = self.volume.submit(self.now(), id, job);
        self.perform(actions);
    }

    fn scrub(&mut self, order: ScrubOrder) -> Result<(), ScrubError> {
        let now = self.now();
        let actions = match order {
            ScrubOrder::Start => self.volume.start_scrub(now)?,
            ScrubOrder::Stop => self.volume.stop_scrub(now),
        };
        tracing::info!(?order, "the copying of what lies under the volume is started, or stopped");
        self.perform(actions);
        Ok(())
    }

    /// Applies a newer request, or says whether it would.
    fn apply(&mut self, request: ConstructionRequest, is_check: bool) -> Result<Applied, ChangeError> {
        let now = self.now();
        let Some(executor) = &mut self.executor else { return Ok(Applied::Missing) };
        if is_check {
            return executor.check(now, &self.volume, &request);
        }
        let before = executor.request().clone();
        let (applied, actions) = executor.apply(now, &mut self.volume, request)?;
        self.repairs.note_request(&before, executor.request());
        // Those that leave are in it, too, as long as they are needed; and so are those of a parent that is read for the last time.
        match before.layers().count() == executor.request().layers().count() {
            true => self.addresses = executor.addresses(),
            false => self.addresses.extend(executor.addresses()),
        }
        if let Some(sources) = &self.sources {
            executor.readers_members().for_each(|(source, members)| sources.set_members(source, members));
        }
        if applied == Applied::Started {
            tracing::info!(version = executor.request().config_version, "the volume runs by a newer request");
        }
        self.perform(actions);
        Ok(applied)
    }

    /// Which members are filled, by what the volume believes now.
    fn look_at_repairs(&mut self) {
        if let Some(executor) = &self.executor {
            let volume = self.volume.status(self.now());
            self.repairs.look(Timestamp::now(), executor.request(), &volume);
            self.tell();
        }
    }

    /// Hands over what the coordinator is to be told. What does not go now goes later.
    fn tell(&mut self) {
        let (Some(notices), moment) = (&self.notices, Moment { now: self.now(), at: Timestamp::now() })
        else {
            return;
        };
        while let Some(notice) = self.repairs.next_notice(moment)
            && notices.take(notice.clone())
        {
            self.repairs.note_taken(&notice, moment.now);
        }
    }

    fn status(&self) -> ExportStatus {
        let mut volume = self.volume.status(self.now());
        volume.set_addresses(&self.addresses);
        ExportStatus {
            pid: std::process::id(),
            listen: self.listener.address().to_string(),
            running_ms: u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            clients: self.clients.len() as u64,
            is_stopping: self.is_stopping,
            repairs: self.repairs.status(),
            notices: None,
            volume,
        }
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn has_more_to_read(&self) -> bool {
        let (held, has_room) = (self.held(), self.volume.has_room());
        self.peers.iter().any(|peer| peer.is_readable)
            || (!self.is_stopping && self.clients.values().any(|client| may_ask(client, held, has_room)))
    }

    fn note(&mut self, events: &Events) {
        for event in events {
            let happened = Happened::of(event);
            match event.token() {
                WAKER => {}
                LISTENER => self.accept(),
                Token(token) if token - PEERS < self.peers.len() => {
                    let peer = token - PEERS;
                    if let Some(is_there) = self.peers[peer].note(happened) {
                        let actions = self.volume.connected(self.now(), PeerId(peer), is_there);
                        self.perform(actions);
                    }
                }
                Token(token) => {
                    if let Some(client) = self.clients.get_mut(&(token - PEERS - self.peers.len())) {
                        client.note(happened);
                    }
                }
            }
        }
    }

    fn accept(&mut self) {
        loop {
            match self.listener.accept() {
                Ok(socket) if self.clients.len() < CLIENTS_MAX => self.add_client(socket),
                Ok(_) => tracing::warn!(CLIENTS_MAX, "too many clients: one is refused"),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.is_to_accept = false;
                    return;
                }
                Err(error) => {
                    if !self.is_to_accept {
                        tracing::warn!(%error, "clients cannot be accepted, and are as soon as possible");
                    }
                    self.is_to_accept = true;
                    return;
                }
            }
        }
    }

    fn add_client(&mut self, socket: Socket) {
        let id = self.next_client;
        self.next_client += 1;
        let mut client = Client::new(socket, &self.exports, self.block_size, self.now());
        let token = Token(PEERS + self.peers.len() + id);
        match client.socket_mut().register(self.poll.registry(), token) {
            Ok(()) => drop(self.clients.insert(id, client)),
            Err(error) => tracing::warn!(%error, "a client cannot be served"),
        }
    }

    fn end_slow_handshakes(&mut self) {
        let now = self.now();
        self.clients.retain(|id, client| {
            let is_slow = client.is_shaking_hands() && now.saturating_sub(client.since) >= HANDSHAKE_MAX;
            if is_slow {
                tracing::info!(client = id, ?HANDSHAKE_MAX, "a client has not shaken hands in time");
            }
            !is_slow
        });
    }

    fn hear_peers(&mut self) {
        for peer in 0..self.peers.len() {
            if !self.peers[peer].is_readable {
                continue;
            }
            let actions = match self.peers[peer].receive() {
                Ok(replies) if replies.is_empty() => continue,
                Ok(replies) => self.volume.received(self.now(), PeerId(peer), replies),
                Err(error) => {
                    tracing::warn!(region = self.region_at(PeerId(peer)), %error, "the connection to a member is gone");
                    self.peers[peer].close();
                    self.volume.disconnected(self.now(), PeerId(peer))
                }
            };
            self.perform(actions);
        }
    }

    /// What files and URLs have given. What was said of one is said once, until it is something else.
    fn hear_sources(&mut self) {
        while let Some(fetched) = self.sources.as_ref().and_then(Sources::next) {
            let Fetched { id, source, result } = fetched;
            match &result {
                Ok(_) => {
                    if self.told_sources.remove(&source).is_some() {
                        tracing::info!(source = source.0, "a part of the volume can be read again");
                    }
                }
                Err(error) if self.told_sources.get(&source) != Some(error) => {
                    self.told_sources.insert(source, error.clone());
                    let name = self.volume.source_name(source);
                    tracing::warn!(source = source.0, name, %error, "a part of the volume cannot be read");
                }
                Err(_) => {}
            }
            let actions = self.volume.fetched(self.now(), id, result);
            self.perform(actions);
        }
    }

    fn fetch(&mut self) {
        if let Some(sources) = self.sources.take_if(|_| !self.volume.has_sources()) {
            // What lay under the volume is not needed any more. To close it may take as long as its disk does.
            drop(thread::Builder::new().name("closing".to_owned()).spawn(move || drop(sources)));
        }
        if let Some(sources) = &self.sources {
            self.volume.take_fetches().into_iter().for_each(|fetch| sources.fetch(fetch));
        }
    }

    /// Bytes that are kept for all clients.
    fn held(&self) -> usize {
        self.clients.values().map(Client::held).sum()
    }

    fn hear_clients(&mut self) {
        let ids: Vec<usize> = self.clients.keys().copied().collect();
        let mut held = self.held();
        for id in ids {
            for _ in 0..READS {
                let (has_room, client) = (self.volume.has_room(), self.clients.get_mut(&id));
                let Some(client) = client.filter(|client| may_ask(client, held, has_room)) else { break };
                let before = client.held();
                match client.receive(&mut self.next_job, has_room) {
                    Ok(jobs) => {
                        held = (held + client.held()).saturating_sub(before);
                        self.submit(id, jobs);
                    }
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
            let actions = self.volume.submit(now, id, job);
            self.perform(actions);
        }
    }

    fn perform(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Connect(peer) => {
                    if let Err(error) = self.connect(peer) {
                        tracing::warn!(region = self.region_at(peer), %error, "a member cannot be reached");
                        let actions = self.volume.connected(self.now(), peer, false);
                        self.perform(actions);
                    }
                }
                Action::Disconnect(peer) => {
                    self.tell_trouble(peer);
                    self.peers[peer.0].close();
                }
                Action::Send(peer, request) => {
                    // A member is full, or is no more, only by a list.
                    self.is_to_look |= matches!(request, Request::SetList { .. } | Request::Join(_));
                    self.peers[peer.0].put(&request);
                }
                Action::Read(job, block, data) => {
                    let client = self.jobs.get(&job).and_then(|client| self.clients.get_mut(client));
                    if let Some(client) = client {
                        client.put_read(job, block, data);
                    }
                }
                Action::Looked(job, runs) => {
                    let client = self.jobs.get(&job).and_then(|client| self.clients.get_mut(client));
                    if let Some(client) = client {
                        client.put_look(job, &runs);
                    }
                }
                Action::Snapshotted(job, regions) => self.snapshots.note_taken(job, regions),
                Action::Done(job, result) => {
                    self.snapshots.end(job, &result);
                    let client = self.jobs.remove(&job);
                    if let Some(client) = client.and_then(|client| self.clients.get_mut(&client)) {
                        client.end(job, result);
                    }
                }
            }
        }
    }

    fn connect(&mut self, peer: PeerId) -> io::Result<()> {
        let address = self.volume.member_at(peer).and_then(|member| self.addresses.get(&member));
        let address = *address.ok_or(io::ErrorKind::AddrNotAvailable)?;
        let from = source_address(self.source_address, address);
        self.peers[peer.0].connect((from, address), self.poll.registry(), Token(PEERS + peer.0))
    }

    /// For people.
    fn region_at(&self, peer: PeerId) -> String {
        self.volume.member_at(peer).map(|member| member.region.to_string()).unwrap_or_default()
    }

    /// Says why a member is of no use, once, and that it has blocks that were changed on purpose, when there are more.
    fn tell_trouble(&mut self, peer: PeerId) {
        if self.volume.member_at(peer).is_none() {
            // Whoever was there is no member any more.
            (self.told[peer.0], self.told_seals[peer.0]) = (None, (0, Duration::ZERO));
            return;
        }
        let (seals, now) = (self.volume.wrong_seals(peer), self.now());
        let (told, told_at) = self.told_seals[peer.0];
        if seals > told && (told == 0 || now.saturating_sub(told_at) >= SEALS_TOLD) {
            self.told_seals[peer.0] = (seals, now);
            tracing::error!(
                region = self.region_at(peer),
                blocks = seals,
                "a member has blocks that the volume's key has not sealed"
            );
        }
        let why = self.volume.trouble(peer);
        if self.told[peer.0].as_ref() != why {
            self.told[peer.0] = why.cloned();
            if let Some(why) = why {
                let code = why.code();
                tracing::warn!(region = self.region_at(peer), %why, ?code, "a member is not of use");
            }
        }
    }

    fn send(&mut self) {
        for peer in 0..self.peers.len() {
            if let Err(error) = self.peers[peer].send() {
                tracing::warn!(region = self.region_at(PeerId(peer)), %error, "the connection to a member is gone");
                self.peers[peer].close();
                let actions = self.volume.disconnected(self.now(), PeerId(peer));
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

/// Whether a client may ask more, while so much is kept for all of them, and the volume has room for more or not. For shaking hands there is
/// always room: who comes is told what there is, however long others wait.
fn may_ask(client: &Client, held: usize, has_room: bool) -> bool {
    if client.is_shaking_hands() || !has_room {
        return client.is_shaking_hands() && client.may_ask();
    }
    let is_free = held < HELD_MAX || (client.is_idle() && held < 2 * HELD_MAX);
    client.may_ask() && (is_free || client.is_taking())
}

fn exports(volume: &Volume, block_size: u64, name: &str) -> Result<Exports, nbd_server::ExportError> {
    let size = volume.blocks().saturating_mul(block_size);
    let block_size = u32::try_from(block_size).expect("a block is small");
    let mut export = nbd_server::Export::new(name, size, BlockSize::of(block_size));
    export.features = Features::all();
    if volume.is_read_only() {
        export.access = Access::ReadOnly;
    }
    let mut exports = Exports::new(nbd_server::PAYLOAD_BYTES_MAX_USUAL)?;
    exports.add(export)?;
    if !name.is_empty() {
        exports.set_default(name)?;
    }
    Ok(exports)
}
