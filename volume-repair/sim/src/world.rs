//! All machines, and what happens to them, in the order of a clock that only this knows.

use crate::{
    audit::Audit,
    climate::Climate,
    history::History,
    network::{Connection, delay, disk_delay},
    replacing::{Change, Plan, Request as MembersRequest},
    sled::{Sled, number_of},
    snapshots::Snapshots,
    writer::Writer,
};
use downstairs::{ConnectionId, Effect, Work};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use region::{Geometry, Held, Member, Position, Promotion, What};
use region_wire::{BlockCopy, Blocks, Reply, Request};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use upstairs::{Action, MemberState, PeerId};
use uuid::Uuid;

const UPSTAIRS_TICK: Duration = Duration::from_millis(250);
/// How often it is looked whether the newest Upstairs has the members that there are to be.
pub(crate) const APPLY: Duration = Duration::from_millis(1_000);

const DOWNSTAIRS_TICK: Duration = Duration::from_millis(500);

/// What happens at some time.
#[derive(Debug)]
pub(crate) enum Event {
    ToSled(u64, Request),
    ToWriter(u64, Reply),
    /// A writer that wants to connect hears how that went.
    Connected(usize, PeerId, u64),
    /// One end of a connection notices that it is closed.
    ClosedAtSled(u64),
    ClosedAtWriter(u64),
    /// The disk has done this, for the process of this life.
    Worked(usize, u64, Work),
    TickSled(usize),
    TickWriter(usize),
    Ask(usize),
    Start(usize),
    /// Something goes wrong.
    Fault,
    /// A new Upstairs is started, by whoever believes that the older one is gone.
    TakeOver,
    Unblock(usize, usize),
    /// The power of a sled fails, and comes back after so long.
    Cut(usize, Duration),
    Pause(usize, Duration),
    /// The newest Upstairs dies, if it is this one.
    KillWriter(usize),
    /// Somebody looks at a sled whose region has failed, and starts its process anew.
    Restart(usize),
    /// The disk of a sled has room again.
    MakeRoom(usize),
    /// Blocks that not all have rot on this sled.
    RotNewest(usize),
    /// Members are to be replaced.
    Plan(Plan),
    /// The Upstairs that has the volume is told which members there are to be.
    Apply,
}

/// Everything.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) random: SmallRng,
    pub(crate) now: Duration,
    queue: BTreeMap<(Duration, u64), Event>,
    next_event: u64,
    pub(crate) climate: Climate,
    pub(crate) geometry: Geometry,
    pub(crate) sleds: Vec<Sled>,
    pub(crate) writers: Vec<Writer>,
    pub(crate) connections: BTreeMap<u64, Connection>,
    next_connection: u64,
    /// Between which writer and which sled nothing gets through.
    pub(crate) blocked: BTreeSet<(usize, usize)>,
    pub(crate) history: History,
    pub(crate) snapshots: Snapshots,
    pub(crate) audit: Audit,
    pub(crate) has_faults: bool,
    /// Nothing goes wrong before.
    pub(crate) calm_until: Duration,
    pub(crate) faults: u64,
    /// Blocks of members that were lost.
    pub(crate) lost: u64,
    next_epoch: u32,
    /// The sleds of the members that there are to be, and how that is to change.
    pub(crate) request: MembersRequest,
    pub(crate) change: Option<Change>,
    pub(crate) replaced: u64,
    /// Which Upstairs has the volume in the end.
    pub(crate) last_writer: usize,
}

/// A promise that was broken, in words.
pub(crate) type Broken = String;

impl World {
    pub(crate) fn new(seed: u64) -> Result<World, Broken> {
        let mut random = SmallRng::seed_from_u64(seed);
        let climate = Climate::new(seed, &mut random);
        let Climate { block_size, blocks, is_sealed, .. } = climate;
        let geometry = Geometry { block_size, blocks, is_sealed };
        let sleds = (0..3).map(|number| Sled::new(number, 3, geometry, random.random())).collect();
        let mut world = World {
            random,
            now: Duration::ZERO,
            queue: BTreeMap::new(),
            next_event: 0,
            climate,
            geometry,
            sleds,
            writers: Vec::new(),
            connections: BTreeMap::new(),
            next_connection: 1,
            blocked: BTreeSet::new(),
            history: History::default(),
            snapshots: Snapshots::default(),
            audit: Audit::default(),
            has_faults: true,
            calm_until: Duration::ZERO,
            faults: 0,
            lost: 0,
            next_epoch: 1,
            request: MembersRequest::new(),
            change: None,
            replaced: 0,
            last_writer: 0,
        };
        for sled in 0..world.sleds.len() {
            world.start_sled(sled)?;
            world.tick_sled(sled);
        }
        world.add_writer(0)?;
        let soon = world.soon(3_000);
        world.at(soon, Event::Fault);
        if world.climate.replaces {
            world.at(APPLY, Event::Apply);
        }
        Ok(world)
    }

    pub(crate) fn soon(&mut self, milliseconds: u64) -> Duration {
        Duration::from_micros(self.random.random_range(0..milliseconds * 1_000))
    }

    pub(crate) fn at(&mut self, later: Duration, event: Event) {
        self.next_event += 1;
        self.queue.insert((self.now + later, self.next_event), event);
    }

    /// The clock of a sled goes on.
    pub(crate) fn tick_sled(&mut self, sled: usize) {
        self.at(DOWNSTAIRS_TICK, Event::TickSled(sled));
    }

    /// Lets things happen until this time.
    pub(crate) fn run_until(&mut self, end: Duration) -> Result<(), Broken> {
        while let Some(entry) = self.queue.first_entry()
            && entry.key().0 <= end
        {
            let ((at, number), event) = entry.remove_entry();
            self.now = at;
            if let Some(until) = self.paused_until(&event)
                && until > at
            {
                self.keep_behind(&event, until);
                // By its own number: none of its connection that came later is before it.
                self.queue.insert((until, number), event);
                continue;
            }
            self.happen(event)?;
        }
        self.now = end;
        Ok(())
    }

    /// What is sent on a connection later, or is on its way, is not there before this, also if whoever is stopped goes on before he was to.
    fn keep_behind(&mut self, event: &Event, until: Duration) {
        let (Event::ToSled(connection, _)
        | Event::ClosedAtSled(connection)
        | Event::ToWriter(connection, _)
        | Event::ClosedAtWriter(connection)) = event
        else {
            return;
        };
        let is_to_sled = matches!(event, Event::ToSled(..) | Event::ClosedAtSled(_));
        if let Some(known) = self.connections.get_mut(connection) {
            let (last, held) = match is_to_sled {
                true => (&mut known.to_sled, &mut known.held_to_sled),
                false => (&mut known.to_writer, &mut known.held_to_writer),
            };
            *last = (*last).max(until);
            *held = (*held).max(until);
        }
    }

    /// Whoever is stopped does nothing until then.
    fn paused_until(&self, event: &Event) -> Option<Duration> {
        let of_writer = |writer: usize| self.writers.get(writer).map(|writer| writer.paused_until);
        match event {
            Event::ToSled(connection, _) | Event::ClosedAtSled(connection) => {
                let known = self.connections.get(connection)?;
                Some(self.sleds[known.sled].paused_until.max(known.held_to_sled))
            }
            Event::Worked(sled, _, _) | Event::TickSled(sled) => Some(self.sleds[*sled].paused_until),
            Event::ToWriter(connection, _) | Event::ClosedAtWriter(connection) => {
                let known = self.connections.get(connection)?;
                of_writer(known.writer).map(|until| until.max(known.held_to_writer))
            }
            Event::Connected(writer, _, _) | Event::TickWriter(writer) | Event::Ask(writer) => {
                of_writer(*writer)
            }
            Event::Start(_)
            | Event::Fault
            | Event::TakeOver
            | Event::Unblock(..)
            | Event::Cut(..)
            | Event::Pause(..)
            | Event::KillWriter(_)
            | Event::Restart(_)
            | Event::MakeRoom(_)
            | Event::RotNewest(_)
            | Event::Plan(_)
            | Event::Apply => None,
        }
    }

    fn happen(&mut self, event: Event) -> Result<(), Broken> {
        match event {
            Event::ToSled(connection, request) => self.deliver_to_sled(connection, request),
            Event::ToWriter(connection, reply) => self.deliver_to_writer(connection, reply),
            Event::Connected(writer, peer, attempt) => self.connect(writer, peer, attempt),
            Event::Plan(plan) => self.plan(plan),
            Event::Apply => self.apply(),
            Event::ClosedAtSled(connection) => {
                let sled = self.connections[&connection].sled;
                self.close(connection);
                self.with_sled(sled, |member| member.disconnect(ConnectionId(connection)))
            }
            Event::ClosedAtWriter(connection) => {
                let Connection { writer, peer, .. } = self.connections[&connection];
                self.close(connection);
                if self.writers[writer].connections.get(&peer) == Some(&connection) {
                    self.writers[writer].connections.remove(&peer);
                    return self.with_writer(writer, |upstairs, now| upstairs.disconnected(now, peer));
                }
                Ok(())
            }
            Event::Worked(sled, life, work) => {
                if self.sleds[sled].life != life || self.sleds[sled].member.is_none() {
                    return Ok(());
                }
                let ended = work.run();
                self.with_sled(sled, |member| member.ended(ended))
            }
            Event::TickSled(sled) => {
                self.tick_sled(sled);
                self.with_sled(sled, downstairs::Member::tick)
            }
            Event::TickWriter(writer) => {
                if !self.writers[writer].is_alive {
                    return Ok(());
                }
                self.at(UPSTAIRS_TICK, Event::TickWriter(writer));
                if !self.has_faults && self.last_writer == writer && self.writers[writer].is_lost {
                    self.last_writer = self.writers.len();
                    return self.add_writer(0);
                }
                self.with_writer(writer, upstairs::Upstairs::tick)?;
                let now = self.now;
                self.writers[writer].check_progress(now)
            }
            Event::Ask(writer) => self.ask(writer),
            Event::Start(sled) => {
                if self.sleds[sled].member.is_none() {
                    self.start_sled(sled)
                } else {
                    Ok(())
                }
            }
            Event::Fault => self.fault(),
            Event::TakeOver if self.has_faults => self.add_writer(0),
            Event::Unblock(writer, sled) => {
                self.blocked.remove(&(writer, sled));
                Ok(())
            }
            Event::Cut(sled, away) if self.has_faults => self.cut(sled, away),
            Event::Pause(sled, until) if self.has_faults => {
                self.sleds[sled].paused_until = until;
                Ok(())
            }
            Event::KillWriter(writer) if self.has_faults && self.writers.len() == writer + 1 => {
                self.kill_writer(writer);
                self.add_writer(0)
            }
            Event::MakeRoom(sled) => {
                self.sleds[sled].faults.make_room();
                Ok(())
            }
            Event::Restart(sled) => {
                if self.sleds[sled].is_failed {
                    self.kill_sled(sled);
                }
                Ok(())
            }
            Event::RotNewest(sled) if self.has_faults => self.rot_newest(sled),
            Event::TakeOver
            | Event::Cut(..)
            | Event::Pause(..)
            | Event::KillWriter(_)
            | Event::RotNewest(_) => Ok(()),
        }
    }

    fn deliver_to_sled(&mut self, connection: u64, request: Request) -> Result<(), Broken> {
        if self.is_lost(connection) || self.connections[&connection].is_closed {
            return Ok(());
        }
        let sled = self.connections[&connection].sled;
        self.aim(sled, &request);
        self.with_sled(sled, |member| match request {
            Request::Hello(hello) => member.connect(ConnectionId(connection), &hello),
            request => member.receive(ConnectionId(connection), vec![request]),
        })
    }

    fn deliver_to_writer(&mut self, connection: u64, reply: Reply) -> Result<(), Broken> {
        let known = &self.connections[&connection];
        let (writer, peer) = (known.writer, known.peer);
        if self.is_lost(connection) || self.writers[writer].connections.get(&peer) != Some(&connection) {
            return Ok(());
        }
        self.with_writer(writer, |upstairs, now| upstairs.received(now, peer, vec![reply]))
    }

    /// Whether a message is lost. Then those behind it are, too: there are no gaps in a connection.
    fn is_lost(&mut self, connection: u64) -> bool {
        let Some(known) = self.connections.get_mut(&connection) else { return true };
        known.is_dark |= self.blocked.contains(&(known.writer, known.sled));
        known.is_dark
    }

    fn connect(&mut self, writer: usize, peer: PeerId, attempt: u64) -> Result<(), Broken> {
        let Some(sled) = self.writers[writer].sled_at(peer) else { return Ok(()) };
        if self.writers[writer].attempts.get(&peer) != Some(&attempt) {
            return Ok(());
        }
        let is_there = self.sleds[sled].member.is_some() && !self.blocked.contains(&(writer, sled));
        if is_there && self.writers[writer].is_alive {
            let id = self.next_connection;
            self.next_connection += 1;
            let connection = Connection {
                writer,
                sled,
                peer,
                is_dark: false,
                is_closed: false,
                to_sled: self.now,
                to_writer: self.now,
                held_to_sled: self.now,
                held_to_writer: self.now,
            };
            self.connections.insert(id, connection);
            self.writers[writer].connections.insert(peer, id);
        }
        self.with_writer(writer, |upstairs, now| upstairs.connected(now, peer, is_there))
    }

    /// Both ends notice, sooner or later.
    pub(crate) fn break_connection(&mut self, id: u64) {
        let (at_sled, at_writer) = (delay(&mut self.random), delay(&mut self.random));
        self.close(id);
        self.at(at_sled, Event::ClosedAtSled(id));
        self.at(at_writer, Event::ClosedAtWriter(id));
    }

    pub(crate) fn close(&mut self, id: u64) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.is_closed = true;
        }
    }

    fn with_sled(
        &mut self,
        sled: usize,
        act: impl FnOnce(&mut downstairs::Member) -> Vec<Effect>,
    ) -> Result<(), Broken> {
        let Some(member) = &mut self.sleds[sled].member else { return Ok(()) };
        let before = member.region().applied();
        let effects = act(member);
        let has_applied = member.region().applied() != before;
        if self.sleds[sled].machine.is_off() {
            return self.lose_power(sled);
        }
        self.note_failed(sled);
        if has_applied {
            self.compare_full(sled)?;
        }
        let life = self.sleds[sled].life;
        for effect in effects {
            match effect {
                Effect::Send(connection, reply) => self.send_to_writer(connection.0, reply),
                Effect::Close(connection) => {
                    // Behind what was sent before.
                    let known = &self.connections[&connection.0];
                    let later = known.to_writer.saturating_sub(self.now) + delay(&mut self.random);
                    self.at(later, Event::ClosedAtWriter(connection.0));
                }
                Effect::Run(work) => {
                    let later = self.climate.slow(sled, disk_delay(&mut self.random));
                    self.at(later, Event::Worked(sled, life, work));
                }
                Effect::TryAgain => {}
            }
        }
        Ok(())
    }

    /// What a disk has forgotten may be gone, as if the power had failed.
    fn note_failed(&mut self, sled: usize) {
        let failed =
            self.sleds[sled].member.as_ref().is_some_and(|member| member.region().failed().is_some());
        if failed && !self.sleds[sled].is_failed {
            self.sleds[sled].is_failed = true;
            self.history.power_failed(sled, self.now);
            let later = self.soon(2_000);
            self.at(later, Event::Restart(sled));
        }
    }

    fn send_to_writer(&mut self, id: u64, mut reply: Reply) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        self.sleds[connection.sled].falsify(&mut reply, self.geometry.block_size.bytes());
        let later = self.climate.far(connection.sled, delay(&mut self.random));
        connection.to_writer = connection.to_writer.max(self.now + later);
        let later = connection.to_writer.saturating_sub(self.now);
        self.at(later, Event::ToWriter(id, reply));
    }

    pub(crate) fn with_writer(
        &mut self,
        writer: usize,
        act: impl FnOnce(&mut upstairs::Upstairs, Duration) -> Vec<Action>,
    ) -> Result<(), Broken> {
        if !self.writers[writer].is_alive {
            return Ok(());
        }
        let actions = act(&mut self.writers[writer].upstairs, self.now);
        self.perform(writer, actions)
    }

    pub(crate) fn perform(&mut self, writer: usize, actions: Vec<Action>) -> Result<(), Broken> {
        let size = self.geometry.block_size.bytes();
        for action in actions {
            match action {
                Action::Connect(peer) => {
                    let (later, attempt) = (delay(&mut self.random), self.writers[writer].next_attempt(peer));
                    self.at(later, Event::Connected(writer, peer, attempt));
                }
                Action::Disconnect(peer) => {
                    self.writers[writer].next_attempt(peer);
                    if let Some(id) = self.writers[writer].connections.remove(&peer) {
                        self.end_connection(id);
                    }
                }
                Action::Send(peer, request) => {
                    if self.geometry.is_sealed {
                        self.audit.sent(&request, size)?;
                    }
                    if let Request::Stage { copy: BlockCopy::Lost(version, data), .. }
                    | Request::Install { copy: BlockCopy::Lost(version, data), .. } = &request
                    {
                        self.note_lost(writer, peer, *version, data.blocks())?;
                    }
                    let Some(id) = self.writers[writer].connections.get(&peer).copied() else { continue };
                    let delay = delay(&mut self.random);
                    if let Some(connection) = self.connections.get_mut(&id) {
                        let later = self.climate.far(connection.sled, delay);
                        connection.to_sled = connection.to_sled.max(self.now + later);
                        let later = connection.to_sled.saturating_sub(self.now);
                        self.at(later, Event::ToSled(id, request));
                    }
                }
                Action::Read(job, first, data) => self.writers[writer].read(job, first, &data, size)?,
                Action::Looked(job, runs) => self.writers[writer].looked(job, &runs)?,
                Action::Snapshotted(job, regions) => self.writers[writer].snapshotted(job, &regions)?,
                Action::Done(job, result) => {
                    let World { writers, history, snapshots, now, .. } = self;
                    let is_flushed = writers[writer].end(job, result, (history, snapshots), *now)?;
                    for wanted in std::mem::take(&mut self.writers[writer].taken) {
                        self.note_snapshot(wanted)?;
                    }
                    if is_flushed {
                        self.aim_at_flush();
                    }
                }
            }
        }
        Ok(())
    }

    fn ask(&mut self, writer: usize) -> Result<(), Broken> {
        if !self.writers[writer].is_alive || self.writers[writer].is_over {
            return Ok(());
        }
        let later = Duration::from_micros(self.random.random_range(100..self.climate.between_jobs));
        self.at(later, Event::Ask(writer));
        let World { writers, random, history, snapshots, climate, now, .. } = self;
        let actions = writers[writer].ask(random, (history, snapshots), climate, *now);
        self.perform(writer, actions)
    }

    /// A new Upstairs, with the next epoch, or one that is lower by so much.
    pub(crate) fn add_writer(&mut self, lower: u32) -> Result<(), Broken> {
        let epoch = self.next_epoch.saturating_sub(lower).max(1);
        if lower == 0 {
            self.next_epoch += 1;
        }
        let session = self.random.random();
        self.writers.push(Writer::new(
            self.writers.len(),
            self.request.members(),
            self.geometry,
            self.climate.limits,
            self.climate.patience,
            Promotion { epoch, session: Uuid::from_u128(session) },
        ));
        let writer = self.writers.len() - 1;
        self.at(UPSTAIRS_TICK, Event::TickWriter(writer));
        self.at(Duration::ZERO, Event::Ask(writer));
        self.with_writer(writer, upstairs::Upstairs::activate)
    }

    /// A member is told that blocks are lost: then nobody who is there has the right bytes of that write, but for one who says something
    /// else than he has.
    fn note_lost(
        &mut self,
        writer: usize,
        target: PeerId,
        version: Position,
        blocks: Blocks,
    ) -> Result<(), Broken> {
        let status = self.writers[writer].upstairs.status(self.now);
        let target = self.writers[writer].sled_at(target);
        for block in blocks.range() {
            self.lost += 1;
            self.history.rotted(block, version);
            for member in &status.members {
                let sled = number_of(Member { region: member.region, incarnation: member.incarnation });
                let is_there = matches!(member.state, MemberState::Told | MemberState::Streaming);
                let may_lie = self.climate.has_liar && self.climate.liar == sled;
                if Some(sled) == target || !is_there || may_lie {
                    continue;
                }
                if self.sleds[sled].right_block(block).is_some_and(|(there, _)| there == version) {
                    return Err(format!(
                        "block {block} of member {target:?} is lost, and member {sled} has {version} of it"
                    ));
                }
            }
        }
        Ok(())
    }

    /// Whether what two members hold differs in nothing but what a third one has said of bytes that are lost.
    pub(crate) fn differ_by_lies(&mut self, one: usize, other: usize) -> bool {
        let (Some(ours), Some(theirs)) = (self.sleds[one].held(), self.sleds[other].held()) else {
            return false;
        };
        let is_lost = |held: &Held| matches!(held.what, What::Lost { .. });
        let is_same = |(ours, theirs): (&Held, &Held)| {
            ours.version == theirs.version
                && (ours.what.as_written() == theirs.what.as_written() || is_lost(ours) || is_lost(theirs))
        };
        self.climate.has_liar && ours.iter().zip(&theirs).all(is_same)
    }

    /// P6: whoever is full and has applied as much as another one that is full has the same.
    fn compare_full(&mut self, sled: usize) -> Result<(), Broken> {
        let is_cheap = self.geometry.blocks < 100 || self.random.random_bool(0.002);
        let applied_if_full = |sled: &Sled| {
            let region = sled.member.as_ref()?.region();
            region.is_full().then(|| region.applied())
        };
        let Some(applied) = applied_if_full(&self.sleds[sled]).filter(|_| is_cheap) else { return Ok(()) };
        for other in 0..self.sleds.len() {
            if other == sled || applied_if_full(&self.sleds[other]) != Some(applied) {
                continue;
            }
            let (Some(ours), Some(theirs)) = (self.sleds[sled].digest(), self.sleds[other].digest()) else {
                continue;
            };
            if ours != theirs && !self.differ_by_lies(sled, other) {
                return Err(format!(
                    "members {sled} and {other} are full, have applied {applied}, and differ"
                ));
            }
        }
        Ok(())
    }
}
