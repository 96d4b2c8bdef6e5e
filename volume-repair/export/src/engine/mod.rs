//! The loop: wait, read all, decide, send all. Below it, [`orders`]: what other threads ask; [`doors`]: which of them is about doors.

mod doors;
mod orders;

use crate::{
    clients::Clients,
    closing::Closing,
    handle::{Handle, Order},
    listener::{Address, Listener},
    notices::{Notices, NoticesError, NoticesOrder},
    offer::{ExportError, Offer, exports},
    peer::Peer,
    repairs::Repairs,
    scrubs::ScrubOrder,
    socket::Happened,
    sources::{Fetched, Sources},
    waiting::Waiting,
    watch::Watch,
};
use ids::{RegionId, VolumeId};
use jiff::Timestamp;
use mio::{Events, Poll, Token, Waker};
use region::Member;
use region_wire::{Request, source_address};
use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, mpsc::Receiver},
    thread,
    time::{Duration, Instant},
};
use upstairs::{Action, CopyCompared, PeerId, Trouble};
use volume_layers::{FetchError, ScrubError, SourceId, Volume};
use volume_repair::Executor;

/// How often the volume is told that time goes by.
const TICK: Duration = Duration::from_millis(250);

/// Reads of one client in one turn.
const READS: usize = 16;

/// That a member has more wrong seals is said no more often.
const SEALS_TOLD: Duration = Duration::from_secs(60);

/// After so long an export that is to stop stops, whatever is under way.
const STOP_MAX: Duration = Duration::from_secs(10);

const WAKER: Token = Token(0);
/// Members have the tokens from here on, doors and clients those behind them.
const PEERS: usize = 1;

/// A volume that is served.
#[derive(Debug)]
pub struct Export {
    poll: Poll,
    handle: Handle,
    orders: Receiver<Order>,
    is_stopping: bool,
    volume: Volume,
    /// By which request it runs.
    executor: Option<Executor>,
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
    clients: Clients,
    /// Doors that are being closed: as many as there are at most.
    closing: Vec<Closing>,
    snapshots: Waiting<RegionId>,
    comparisons: Waiting<CopyCompared>,
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
        let exports = exports(&volume, block_size, &name).map_err(ExportError::Export)?;
        let places = volume.places();
        let clients = Listener::bind(&address).and_then(|listener| {
            Clients::new(listener, exports, block_size, Token(PEERS + places), poll.registry())
        });
        let clients = clients.map_err(|source| ExportError::Listen { address, source })?;
        let (handle, orders) = Handle::new(waker);
        Ok(Export {
            poll,
            handle,
            orders,
            is_stopping: false,
            volume,
            executor: request.map(Executor::new),
            addresses,
            source_address,
            told: vec![None; places],
            told_seals: vec![(0, Duration::ZERO); places],
            peers: std::iter::repeat_with(Peer::new).take(places).collect(),
            sources,
            told_sources: BTreeMap::new(),
            clients,
            closing: Vec::new(),
            snapshots: Waiting::default(),
            comparisons: Waiting::default(),
            repairs: Repairs::new(),
            notices: None,
            is_to_look: false,
            next_job: 0,
            started: Instant::now(),
            next_tick: Duration::ZERO,
        })
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
                self.clients.note_use(self.now());
                self.clients.end_slow_handshakes(self.now());
                self.clients.accept_late(self.now(), self.poll.registry());
                let actions = self.volume.tick(self.now());
                self.perform(actions);
                self.is_to_look = true;
            }
            if std::mem::take(&mut self.is_to_look) {
                self.look_at_repairs();
            }
            self.fetch();
            self.send();
            if self.look_at_closing() {
                self.send();
            }
            if self.handle.is_to_stop() {
                self.is_stopping = true;
                let end = *stop_at.get_or_insert_with(|| self.now() + STOP_MAX);
                if self.clients.are_idle() || self.now() >= end {
                    self.repairs.stop(Timestamp::now());
                    self.tell();
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
            || (!self.is_stopping && self.clients.may_ask(self.volume.has_room()))
    }

    fn note(&mut self, events: &Events) {
        for event in events {
            let happened = Happened::of(event);
            match event.token() {
                WAKER => {}
                Token(token) if token - PEERS < self.peers.len() => {
                    let peer = token - PEERS;
                    if let Some(is_there) = self.peers[peer].note(happened) {
                        let actions = self.volume.connected(self.now(), PeerId(peer), is_there);
                        self.perform(actions);
                    }
                }
                token => self.clients.note(token, happened, self.now(), self.poll.registry()),
            }
        }
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

    fn hear_clients(&mut self) {
        let mut held = self.clients.held();
        for id in self.clients.ids() {
            for _ in 0..READS {
                let has_room = self.volume.has_room();
                let Some(jobs) = self.clients.receive(id, &mut self.next_job, has_room, &mut held) else {
                    break;
                };
                let now = self.now();
                for (job, what) in jobs {
                    let actions = self.volume.submit(now, job, what);
                    self.perform(actions);
                }
            }
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
                Action::Read(job, block, data) => self.clients.put_read(job, block, data),
                Action::Looked(job, runs) => self.clients.put_look(job, &runs),
                Action::Snapshotted(job, regions) => self.snapshots.note(job, regions),
                Action::Compared(job, copies) => self.comparisons.note(job, copies),
                Action::Done(job, result) => {
                    self.snapshots.end(job, &result);
                    self.comparisons.end(job, &result);
                    self.closing.iter_mut().for_each(|closing| closing.end(job, &result));
                    self.clients.end(job, result);
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
        self.clients.send();
    }
}
