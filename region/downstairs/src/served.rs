//! A region while it is open: its member, the connections to it, and the disk's work for it.
//!
//! ```text
//!   open ──connections come and go, work begins and ends──► closing: nothing more is begun ──work has ended──► closed
//! ```
//!
//! The member is under a lock while it decides and while it writes or reads; not while it syncs. Whoever reads a snapshot waits for his turn before he
//! waits for the lock, so whoever writes has one of them before him, however many they are. And whoever has the turn lets the lock go to one who
//! waits for it by then: the system's lock goes to whoever is there when it is free, and that would be the one who has just had it.

use crate::{
    disk::Disk,
    link::Link,
    member::{ConnectionId, Effect, Ended, Member, Work},
    requests::Requests,
    urgency::Later,
    workers::Workers,
};
use ids::RegionId;
use region_wire::{Hello, Reply, Request};
use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    time::{Duration, Instant},
};

/// Blocks that are asked for before it is looked whether their answers are taken, and before whoever waits for the region has it.
const BLOCKS_AT_ONCE: u64 = 1_024;

/// A region to which nobody has been connected for so long is closed.
const UNUSED_MAX: Duration = Duration::from_secs(60);

/// An open region.
#[derive(Debug)]
pub(crate) struct Served {
    state: Mutex<State>,
    /// Something that waited may go on.
    changed: Condvar,
    /// Of those who read snapshots.
    turn: Mutex<()>,
    /// The others who wait for the lock.
    waiting: AtomicUsize,
    workers: Arc<Workers>,
    disk: Disk,
}

#[derive(Debug)]
struct State {
    /// None once it was closed.
    member: Option<Member>,
    links: BTreeMap<ConnectionId, Arc<Link>>,
    /// Connections of this process: what is said to them.
    here: BTreeMap<ConnectionId, Sender<Reply>>,
    /// Somebody waits for something to change.
    is_waited_for: bool,
    /// How often somebody has had the lock who reads no snapshot.
    passed: u64,
    unused_since: Instant,
    /// Syncs and checkpoints that were begun and have not ended.
    under_way: usize,
    is_closing: bool,
}

/// Work that is under way until this is gone.
struct UnderWay(Arc<Served>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.under_way -= 1;
        if state.is_closing {
            self.0.changed.notify_all();
        }
    }
}

impl Served {
    pub(crate) fn new(member: Member, workers: Arc<Workers>, disk: Disk) -> Served {
        let state = State {
            member: Some(member),
            links: BTreeMap::new(),
            here: BTreeMap::new(),
            is_waited_for: false,
            passed: 0,
            unused_since: Instant::now(),
            under_way: 0,
            is_closing: false,
        };
        let (turn, waiting) = (Mutex::new(()), AtomicUsize::new(0));
        Served { state: Mutex::new(state), changed: Condvar::new(), turn, waiting, workers, disk }
    }

    /// False if the region was closed.
    pub(crate) fn connect(
        self: &Arc<Served>,
        connection: ConnectionId,
        link: &Arc<Link>,
        hello: &Hello,
    ) -> bool {
        let mut state = self.state();
        if state.member.is_none() {
            return false;
        }
        state.links.insert(connection, Arc::clone(link));
        drop(state);
        self.with(|member| member.connect(connection, hello));
        true
    }

    /// A connection of this process. None if the region is closed, or being closed.
    pub(crate) fn connect_here(&self, connection: ConnectionId) -> Option<Receiver<Reply>> {
        let mut state = self.state();
        if state.member.is_none() || state.is_closing {
            return None;
        }
        let (say, said) = channel();
        state.here.insert(connection, say);
        Some(said)
    }

    pub(crate) fn run(
        self: &Arc<Served>,
        connection: ConnectionId,
        link: &Link,
        requests: &mut Requests,
        reads_snapshot: bool,
    ) -> io::Result<()> {
        // A member that is filled lets those go first whose clients wait for them.
        let mut is_later: Option<Later> = None;
        loop {
            let Some(all) = requests.next()? else { return Ok(()) };
            let mut all = all.into_iter().peekable();
            while all.peek().is_some() {
                if !link.wait_for_room() {
                    return Ok(());
                }
                let some = answered_at_once(&mut all);
                if reads_snapshot {
                    // Nobody but those who go first is waited for with it, not even to take an answer.
                    let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
                    self.with_behind_others(|member| member.receive(connection, some));
                } else {
                    let mut is_filled_later = false;
                    self.with(|member| {
                        let effects = member.receive(connection, some);
                        is_filled_later = member.is_filled_later(connection);
                        effects
                    });
                    if !is_filled_later {
                        is_later = None;
                    } else if is_later.is_none() {
                        is_later = Later::from_now_on();
                    }
                }
                self.wait_while(|member| member.is_waiting(connection));
            }
        }
    }

    pub(crate) fn disconnect(self: &Arc<Served>, connection: ConnectionId) {
        self.with(|member| member.disconnect(connection));
        let mut state = self.state();
        state.links.remove(&connection);
        state.here.remove(&connection);
        state.unused_since = Instant::now();
    }

    pub(crate) fn tick(self: &Arc<Served>) {
        self.with(Member::tick);
    }

    /// Whether it is to be closed. One that has failed is opened again by whoever comes next, which looks at what the disk has by then.
    pub(crate) fn is_unused(&self) -> bool {
        let state = self.state();
        let has_failed = state.member.as_ref().is_some_and(|member| member.region().failed().is_some());
        state.links.is_empty()
            && state.here.is_empty()
            && (has_failed || state.unused_since.elapsed() >= UNUSED_MAX)
    }

    /// Whether nobody is connected, of this process or another one.
    pub(crate) fn is_alone(&self) -> bool {
        let state = self.state();
        state.links.is_empty() && state.here.is_empty()
    }

    /// Closes the region in order. Whoever is connected hears no more. Whatever is under way on its file has ended on return: it may
    /// be opened again.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        state.links.values().for_each(|link| link.close());
        state.here.clear();
        state.is_closing = true;
        while state.under_way > 0 {
            state = self.wait(state);
        }
        let Some(mut member) = state.member.take() else { return };
        if let Err(error) = member.region_mut().settle() {
            tracing::warn!(%error, "a region is closed as it is");
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Lets the member decide, and does what it says.
    pub(crate) fn with(self: &Arc<Served>, act: impl FnOnce(&mut Member) -> Vec<Effect>) {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let mut state = self.state();
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        state.passed += 1;
        self.act(state, act);
    }

    /// The same, after one of those who wait for it already.
    fn with_behind_others(self: &Arc<Served>, act: impl FnOnce(&mut Member) -> Vec<Effect>) {
        let mut state = self.state();
        let passed = state.passed;
        while self.waiting.load(Ordering::SeqCst) > 0 && state.passed == passed && state.member.is_some() {
            state.is_waited_for = true;
            state = self.wait(state);
        }
        self.act(state, act);
    }

    fn act(
        self: &Arc<Served>,
        mut state: MutexGuard<'_, State>,
        act: impl FnOnce(&mut Member) -> Vec<Effect>,
    ) {
        let State { member: Some(member), links, here, under_way, is_closing, .. } = &mut *state else {
            return;
        };
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
                // Of a region that is being closed nothing more is begun: closing it makes everything durable.
                (Effect::Run(work), _) if !*is_closing => {
                    *under_way += 1;
                    self.run_work(member.region().identity().region, work);
                }
                (Effect::Run(_), _) => {}
                (Effect::Send(connection, reply), None) => {
                    if let Some(say) = here.get(&connection) {
                        // Whoever does not listen any more needs no answer.
                        let _ = say.send(reply);
                    }
                }
                (Effect::Close(connection), None) => drop(here.remove(&connection)),
                // The clock ticks soon enough.
                (Effect::TryAgain, _) => {}
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

    fn run_work(self: &Arc<Served>, region: RegionId, work: Work) {
        let under_way = UnderWay(Arc::clone(self));
        self.workers.run(Box::new(move || {
            let is_later = work.is_later().then(Later::from_now_on).flatten();
            let ended = match work {
                Work::Snapshot(taking) => Ended::Snapshot(under_way.0.disk.take_snapshot(region, *taking)),
                other => other.run(),
            };
            // Others wait for the member while it is told.
            drop(is_later);
            under_way.0.with(|member| member.ended(ended));
        }));
    }

    fn wait_while(&self, waits: impl Fn(&Member) -> bool) {
        let mut state = self.state();
        while state.member.as_ref().is_some_and(&waits) {
            state.is_waited_for = true;
            state = self.wait(state);
        }
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// So many of them that what is read for their answers is no more than that, or one that is alone more.
fn answered_at_once(requests: &mut std::iter::Peekable<std::vec::IntoIter<Request>>) -> Vec<Request> {
    let (mut some, mut blocks) = (Vec::new(), 0);
    let has_room = |blocks: u64, request: &Request| {
        blocks == 0 || blocks.saturating_add(blocks_asked(request)) <= BLOCKS_AT_ONCE
    };
    while let Some(request) = requests.next_if(|request| has_room(blocks, request)) {
        blocks = blocks.saturating_add(blocks_asked(&request));
        some.push(request);
    }
    some
}

/// Blocks that are looked up or read for its answer, however short that is.
fn blocks_asked(request: &Request) -> u64 {
    match request {
        Request::Read { blocks, .. }
        | Request::Look { blocks, .. }
        | Request::Digest { blocks, .. }
        | Request::Hash { blocks, .. } => blocks.count.into(),
        Request::Hello(_)
        | Request::Promote(_)
        | Request::SetList { .. }
        | Request::Join(_)
        | Request::Write(..)
        | Request::Zero(..)
        | Request::Pass(_)
        | Request::Flush { .. }
        | Request::Install { .. }
        | Request::Heal { .. }
        | Request::Stage { .. }
        | Request::Commit { .. }
        | Request::Ping { .. }
        | Request::Snapshot { .. }
        | Request::DeleteSnapshot { .. } => 0,
    }
}
