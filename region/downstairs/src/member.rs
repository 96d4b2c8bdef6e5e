//! One region, served: what is done in which order, and what has to wait. Decides; touches no socket and no clock. Who may write it:
//! [`fencing`]; syncs and checkpoints: [`work`]; long reads: [`beside`].
//!
//! Requests of the promoted connection are done in their order. What cannot be done yet keeps those behind it waiting:
//!
//! ```text
//!              ┌── free data blocks wait for a sync ──► until it has ended ──┐
//!   doing ─────┼── the journal is full ──► until a checkpoint has ended ─────┼──► doing        (one that has no room: as below)
//!              └── the disk has no room, or an error ──► until it is tried again ──┘   (and Pings are answered meanwhile)
//!                              └── an error that stays ──► the region has failed: everybody is told, and closed
//! ```

pub(crate) mod beside;
mod cloning;
mod fencing;
mod work;

pub use beside::Asked;
pub use cloning::NotCloned;
pub use fencing::EPOCHS_AT_ONCE;
pub use work::{Ended, Work};

use crate::{queue::Queue, rules::Rule};
use beside::Beside;
use ids::SnapshotId;
use region::{CloneOf, Control, Failed, Geometry, Identity, Position, Promotion, Region, Staged};
use region_wire::{Haste, Hello, NotWelcome, Refusal, Reply, Request, VERSION, Welcome};
use std::collections::{BTreeMap, BTreeSet};

/// So many times a write that the disk refuses is tried again before the region has failed.
pub(crate) const TRIES: u32 = 3;

/// After so many ticks in which nothing was asked, a region writes a checkpoint, and keeps in memory no more than it must: a disk has
/// hundreds of regions that nobody uses just now.
const QUIET_TICKS: u32 = 4;

/// One connection, by a number that its server never gives again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

/// What is to be done outside.
#[derive(Debug)]
pub enum Effect {
    /// Send this.
    Send(ConnectionId, Reply),
    /// Close it, when what was sent before is on its way.
    Close(ConnectionId),
    /// Run this, and tell [`Member::ended`] what it ended with.
    Run(Work),
    /// Call [`Member::tick`] in a moment: something waits for the disk to be better.
    TryAgain,
}

/// What the first of the requests waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    Sync,
    Checkpoint,
    /// The end of a checkpoint, or of another snapshot.
    Snapshot,
    Disk,
}

/// Why the first of the requests is not done.
#[derive(Debug)]
pub(crate) enum NotDone {
    Wait(Wait),
    Failed(Failed),
    /// Whoever asks it has a mistake.
    Wrong(String),
}

impl From<Failed> for NotDone {
    fn from(failed: Failed) -> NotDone {
        NotDone::Failed(failed)
    }
}

/// A region that is served.
#[derive(Debug)]
pub struct Member {
    pub(crate) region: Region,
    pub(crate) connections: BTreeSet<ConnectionId>,
    /// Those of them that read a snapshot, and which.
    pub(crate) readers: BTreeMap<ConnectionId, SnapshotId>,
    /// Those that are of this process: they ask for snapshots, and write nothing.
    pub(crate) locals: BTreeSet<ConnectionId>,
    /// The one that was promoted last, if it is still there.
    pub(crate) active: Option<ConnectionId>,
    /// Those that were promoted before, and have not been told that they are not any more.
    fenced: BTreeSet<ConnectionId>,
    /// What the active one has asked and was not done yet.
    queue: Queue,
    waits: Option<Wait>,
    pub(crate) tries: u32,
    /// Why the disk has refused what waits for it, for its writer, and whether that one was told.
    pub(crate) refusal: Option<Reply>,
    is_refusal_told: bool,
    /// Flushes that no sync serves yet, and those that the one under way does.
    flushes: Vec<(ConnectionId, u64)>,
    served: Vec<(ConnectionId, u64)>,
    is_syncing: bool,
    wants_sync: bool,
    /// The last checkpoint found no room: none is begun for so many ticks. And for how many the next time, if that finds none, too.
    checkpoint_pause: u32,
    next_checkpoint_pause: u32,
    /// Bytes that were written since the last sync was begun, and those that it was begun for.
    pub(crate) unsynced: u64,
    being_synced: u64,
    /// Whether anything was asked since the last tick, and the ticks since then.
    pub(crate) was_used: bool,
    quiet_ticks: u32,
    /// Who wants the snapshot that is being taken, and the one that goes.
    pub(crate) taking: Option<(ConnectionId, u64, Position)>,
    pub(crate) letting_go: Option<(ConnectionId, u64)>,
    beside: Beside,
    /// The active connection's copies are to let others go first.
    is_filled_later: bool,
    /// What was staged for the active connection.
    pub(crate) staged: Staged,
    /// Whether the active connection is to be told how far the stream is applied.
    pub(crate) tells_applied: bool,
}

impl Member {
    /// Of a region that was opened.
    #[must_use]
    pub fn new(region: Region) -> Member {
        Member {
            region,
            connections: BTreeSet::new(),
            readers: BTreeMap::new(),
            locals: BTreeSet::new(),
            active: None,
            fenced: BTreeSet::new(),
            queue: Queue::default(),
            waits: None,
            tries: 0,
            refusal: None,
            is_refusal_told: false,
            flushes: Vec::new(),
            served: Vec::new(),
            is_syncing: false,
            wants_sync: false,
            checkpoint_pause: 0,
            next_checkpoint_pause: 1,
            unsynced: 0,
            being_synced: 0,
            was_used: false,
            quiet_ticks: 0,
            taking: None,
            letting_go: None,
            beside: Beside::default(),
            is_filled_later: false,
            staged: Staged::default(),
            tells_applied: false,
        }
    }

    /// The region.
    #[must_use]
    pub fn region(&self) -> &Region {
        &self.region
    }

    /// The region, for whoever looks at it beside the server: nobody must be connected.
    pub fn region_mut(&mut self) -> &mut Region {
        &mut self.region
    }

    /// Whether anybody is connected.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        !self.connections.is_empty()
    }

    /// Whether nothing more is to be read from this connection for now: what it has asked waits.
    #[must_use]
    pub fn is_waiting(&self, connection: ConnectionId) -> bool {
        let waits = match self.waits {
            // That may last, and it is to be heard that its writer is there.
            Some(_) if self.waits_for_disk() => !self.queue.has_room(),
            waits => waits.is_some(),
        };
        self.active == Some(connection) && (waits || !self.beside.takes_pings())
    }

    /// Whether this connection's Upstairs fills it while clients ask others: no client waits for what it is asked.
    pub(crate) fn is_filled_later(&self, connection: ConnectionId) -> bool {
        self.is_filled_later && self.active == Some(connection) && !self.region.is_full()
    }

    /// Somebody is there, and has said Hello.
    pub fn connect(&mut self, connection: ConnectionId, hello: &Hello) -> Vec<Effect> {
        if let Err(why) = self.check(hello) {
            let refused = Reply::Refused(Refusal::Hello(why));
            return vec![Effect::Send(connection, refused), Effect::Close(connection)];
        }
        if let Some(failed) = self.region.failed() {
            let failed = Reply::Failed(failed.to_string());
            return vec![Effect::Send(connection, failed), Effect::Close(connection)];
        }
        if let Some(snapshot) = hello.snapshot {
            return self.connect_reader(connection, snapshot);
        }
        self.connections.insert(connection);
        let control = self.region.control();
        let welcome = Welcome {
            version: VERSION,
            geometry: self.geometry(),
            incarnation: control.incarnation,
            promoted: control.promoted,
        };
        vec![Effect::Send(connection, Reply::Welcome(welcome))]
    }

    fn check(&self, hello: &Hello) -> Result<(), NotWelcome> {
        hello.version()?;
        let Identity { region, set, .. } = self.region.identity();
        if hello.region != region {
            return Err(NotWelcome::NoRegion(format!("here is region {region}")));
        }
        if hello.set != set {
            return Err(NotWelcome::OtherSet(format!("region {region} is a member of set {set}")));
        }
        match self.region.control().clone_of {
            Some(CloneOf { snapshot, .. }) if hello.snapshot.is_none() => Err(NotWelcome::ReadOnly(format!(
                "region {region} is read-only, a clone of snapshot {snapshot}: nobody may write it"
            ))),
            _ => Ok(()),
        }
    }

    /// What it has asked. To be given in the order in which it came.
    pub fn receive(&mut self, connection: ConnectionId, requests: Vec<Request>) -> Vec<Effect> {
        let mut effects = Vec::new();
        for request in requests {
            if !self.connections.contains(&connection) {
                break;
            }
            if let Some(snapshot) = self.readers.get(&connection).copied() {
                self.answer_reader(connection, snapshot, &request, &mut effects);
                continue;
            }
            match request {
                Request::Promote(promotion) if self.queue.is_empty() || self.active != Some(connection) => {
                    self.promote(connection, promotion, &mut effects);
                }
                // Whatever waits for the disk: this one is still its writer's.
                Request::Ping { id } if self.acts(connection) && self.waits_for_disk() => {
                    self.pong(connection, id, &mut effects);
                }
                request if self.acts(connection) => self.queue.push(request),
                Request::Ping { id } => effects.push(Effect::Send(connection, Reply::Pong { id })),
                _ if self.fenced.contains(&connection) => {
                    let promoted = self.region.control().promoted;
                    self.end(connection, Reply::Fenced(promoted), &mut effects);
                }
                _ => self.end(connection, Reply::Wrong("it was not promoted".to_owned()), &mut effects),
            }
        }
        self.go_on(&mut effects);
        effects
    }

    /// It is gone. Who may write stays who may write.
    pub fn disconnect(&mut self, connection: ConnectionId) -> Vec<Effect> {
        if !Rule::PromotionOutlivesConnections.is_kept() {
            let control = Control { promoted: Promotion::default(), ..self.region.control().clone() };
            let _ = self.region.set_control(control);
        }
        let mut effects = Vec::new();
        self.forget(connection);
        self.go_on(&mut effects);
        effects
    }

    /// Work has ended.
    pub fn ended(&mut self, ended: Ended) -> Vec<Effect> {
        let mut effects = Vec::new();
        let result = match ended {
            Ended::Sync(synced) => self.end_sync(synced, &mut effects),
            Ended::Checkpoint(checkpointed) => self.end_checkpoint(checkpointed, &mut effects),
            Ended::Snapshot(taken) => self.end_snapshot(taken, &mut effects),
            Ended::LetGo(gone) => self.end_letting_go(gone, &mut effects),
            Ended::Read(asked, read) => self.end_read(asked, *read, &mut effects),
        };
        if let Err(failed) = result {
            self.fail(&failed, &mut effects);
        }
        self.go_on(&mut effects);
        effects
    }

    /// A moment has gone: what waits for the disk is tried again, and what was written lately is made durable.
    pub fn tick(&mut self) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.stop_waiting_for(Wait::Disk);
        self.checkpoint_pause = self.checkpoint_pause.saturating_sub(1);
        self.wants_sync |= self.unsynced > 0;
        self.let_go_again(&mut effects);
        let was_used = std::mem::take(&mut self.was_used) || self.waits.is_some();
        self.quiet_ticks = if was_used { 0 } else { self.quiet_ticks.saturating_add(1) };
        self.go_on(&mut effects);
        if self.is_quiet() {
            self.region.rest();
        }
        effects
    }

    /// Whether nothing was asked for a while.
    fn is_quiet(&self) -> bool {
        self.quiet_ticks >= QUIET_TICKS && !self.was_used
    }

    pub(crate) fn geometry(&self) -> Geometry {
        self.region.identity().geometry
    }

    /// Whether what this connection asks is done.
    fn acts(&self, connection: ConnectionId) -> bool {
        let was_promoted = self.fenced.contains(&connection);
        self.active == Some(connection) || (was_promoted && !Rule::OnlyThePromotedActs.is_kept())
    }

    /// Does what can be done.
    fn go_on(&mut self, effects: &mut Vec<Effect>) {
        while self.waits.is_none() && self.region.failed().is_none() {
            let Some(request) = self.queue.take() else { break };
            match self.act(request, effects) {
                Ok(()) => {
                    self.tries = 0;
                    self.is_refusal_told = false;
                }
                Err(NotDone::Wait(wait)) => {
                    self.waits = Some(wait);
                    self.wants_sync |= wait == Wait::Sync;
                    if wait == Wait::Disk {
                        self.wait_for_disk(effects);
                    }
                }
                Err(NotDone::Failed(failed)) => self.fail(&failed, effects),
                Err(NotDone::Wrong(what)) => {
                    if let Some(active) = self.active {
                        self.tell_applied(effects);
                        self.end(active, Reply::Wrong(what), effects);
                    }
                }
            }
        }
        self.tell_applied(effects);
        if let Err(failed) = self.begin_work(effects) {
            self.fail(&failed, effects);
        }
    }

    /// Whether what it has been asked waits for the disk to be better: also for a checkpoint, when the one before it has found no room.
    fn waits_for_disk(&self) -> bool {
        match self.waits {
            Some(Wait::Disk) => true,
            Some(Wait::Checkpoint) => self.is_refusal_told,
            _ => false,
        }
    }

    /// Its writer is told why, and that it is there: that may last.
    fn wait_for_disk(&mut self, effects: &mut Vec<Effect>) {
        self.waits = Some(Wait::Disk);
        self.tell_refusal(effects);
        if let Some(active) = self.active {
            self.queue.take_pings().into_iter().for_each(|id| self.pong(active, id, effects));
        }
        effects.push(Effect::TryAgain);
    }

    /// Puts back what could not be done yet.
    pub(crate) fn put_back(&mut self, request: Request) {
        self.queue.put_back(request);
    }

    /// The next request, if it is of the kind that is looked for.
    pub(crate) fn next_if(&mut self, is_it: impl Fn(&Request) -> bool) -> Option<Request> {
        self.queue.take_if(is_it)
    }

    fn act(&mut self, request: Request, effects: &mut Vec<Effect>) -> Result<(), NotDone> {
        let Some(active) = self.active else { return Ok(()) };
        self.was_used |= !matches!(request, Request::Ping { .. });
        let mut answer = |reply| effects.push(Effect::Send(active, reply));
        match request {
            Request::Write(..) | Request::Zero(..) | Request::Pass(_) => self.write_stream(request)?,
            Request::Flush { id } => self.flushes.push((active, id)),
            Request::Read { id, blocks, haste } => {
                self.read_or_begin((active, id), (blocks, haste), effects)?;
            }
            Request::Look { id, blocks } => answer(self.look(id, blocks)?),
            Request::Digest { id, blocks } => answer(self.digest(id, blocks)?),
            Request::Hash { id, blocks } => answer(self.hash_of_clone(id, blocks)?),
            Request::Install { id, ref copy, haste } => {
                self.is_filled_later = haste == Haste::Later;
                answer(self.install(id, copy, &request)?);
            }
            Request::Heal { id, ref copy } => answer(self.heal(id, copy, &request)?),
            Request::Stage { id, ref copy } => answer(self.stage(id, copy, &request)?),
            Request::Commit { id, applied } => answer(self.commit(id, applied)?),
            Request::SetList { id, list } => answer(self.set_list(id, list)?),
            Request::Join(position) => self.join(position)?,
            Request::Ping { id } => self.pong(active, id, effects),
            Request::Snapshot { id, snapshot, at } => self.snapshot(active, (id, snapshot, at), effects)?,
            Request::DeleteSnapshot { id, snapshot } => {
                self.delete_snapshot(active, (id, snapshot), effects)?;
            }
            Request::Promote(promotion) => self.promote(active, promotion, effects),
            Request::Hello(_) => return Err(NotDone::Wrong("Hello is said once".to_owned())),
        }
        Ok(())
    }

    /// Told once, however often it is tried again.
    fn tell_refusal(&mut self, effects: &mut Vec<Effect>) {
        let Some(refusal) = self.refusal.take().filter(|_| !self.is_refusal_told) else { return };
        if let Some(active) = self.active {
            self.tell_applied(effects);
            effects.push(Effect::Send(active, refusal));
            self.is_refusal_told = true;
        }
    }

    /// Told once for many writes.
    fn tell_applied(&mut self, effects: &mut Vec<Effect>) {
        if std::mem::take(&mut self.tells_applied)
            && let Some(active) = self.active
        {
            effects.push(Effect::Send(active, Reply::Applied(self.region.applied())));
        }
    }

    fn stop_waiting_for(&mut self, wait: Wait) {
        if self.waits == Some(wait) {
            self.waits = None;
        }
    }

    /// The region is of no use any more.
    pub(crate) fn fail(&mut self, failed: &Failed, effects: &mut Vec<Effect>) {
        for connection in self.connections.clone() {
            self.end(connection, Reply::Failed(failed.to_string()), effects);
        }
    }

    /// The last that it hears.
    pub(crate) fn end(&mut self, connection: ConnectionId, reply: Reply, effects: &mut Vec<Effect>) {
        effects.push(Effect::Send(connection, reply));
        effects.push(Effect::Close(connection));
        self.forget(connection);
    }

    fn forget(&mut self, connection: ConnectionId) {
        self.connections.remove(&connection);
        self.readers.remove(&connection);
        self.locals.remove(&connection);
        self.fenced.remove(&connection);
        if self.active == Some(connection) {
            self.active = None;
            self.forget_work();
        }
    }

    /// What the connection had asked that was active until now is not done any more.
    fn forget_work(&mut self) {
        self.queue.clear();
        self.waits = None;
        self.tries = 0;
        self.refusal = None;
        self.is_refusal_told = false;
        self.flushes.clear();
        self.served.clear();
        self.beside.forget_pings();
        self.is_filled_later = false;
        self.taking.take_if(|(asker, ..)| !self.locals.contains(asker));
        self.letting_go.take_if(|(asker, _)| !self.locals.contains(asker));
        self.tells_applied = false;
        let staged = std::mem::take(&mut self.staged);
        self.region.discard(staged);
    }

    /// The position that the next write of the stream has, of a writer of this epoch.
    pub(crate) fn is_next(&self, position: Position) -> bool {
        let applied = self.region.applied();
        let first = Position { epoch: position.epoch, counter: 1 };
        position == if applied.epoch == position.epoch { applied.next() } else { first }
    }
}
