//! All machines, and what happens to them, in the order of a clock that only this knows.

use crate::{
    audit::Audit,
    climate::Climate,
    events::Event,
    faults::Aimed,
    history::History,
    network::{Connection, delay, disk_delay},
    replacing::{Change, Request as MembersRequest},
    sled::Sled,
    snapshots::Snapshots,
    writer::Writer,
};
use downstairs::{ConnectionId, Effect, Work};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use region::{Geometry, Promotion};
use region_wire::{BlockCopy, Request};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use upstairs::Action;
use uuid::Uuid;

const UPSTAIRS_TICK: Duration = Duration::from_millis(250);
/// How often it is looked whether the newest Upstairs has the members that there are to be.
pub(crate) const APPLY: Duration = Duration::from_millis(1_000);

const DOWNSTAIRS_TICK: Duration = Duration::from_millis(500);

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
    pub(crate) next_connection: u64,
    /// Between which writer and which sled nothing gets through.
    pub(crate) blocked: BTreeSet<(usize, usize)>,
    pub(crate) history: History,
    pub(crate) snapshots: Snapshots,
    pub(crate) audit: Audit,
    pub(crate) has_faults: bool,
    /// What is sent to a sled on this connection arrives right before somebody else writes there.
    pub(crate) late: Option<u64>,
    /// Nothing goes wrong before.
    pub(crate) calm_until: Duration,
    pub(crate) faults: u64,
    pub(crate) aimed: Aimed,
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
            late: None,
            calm_until: Duration::ZERO,
            faults: 0,
            aimed: Aimed::default(),
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

    /// What is on its way to a sled on this connection, which is not on its way any more.
    pub(crate) fn take_sent(&mut self, connection: u64) -> Vec<Request> {
        let is_sent = |event: &Event| matches!(event, Event::ToSled(on, _) if *on == connection);
        let sent = self.queue.extract_if(.., |_, event| is_sent(event));
        sent.filter_map(|(_, event)| if let Event::ToSled(_, request) = event { Some(request) } else { None })
            .collect()
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
                if matches!(work, Work::Snapshot(_) | Work::LetGo(_)) {
                    self.aim_at_snapshot(sled);
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

    pub(crate) fn with_sled(
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
                Action::Compared(job, copies) => {
                    let may_lie = self.climate.has_liar;
                    self.writers[writer].found(job, &copies, may_lie)?;
                }
                Action::Snapshotted(job, regions) => self.writers[writer].snapshotted(job, &regions)?,
                Action::Done(job, result) => {
                    let World { writers, history, snapshots, now, .. } = self;
                    let is_flushed = writers[writer].end(job, result, (history, snapshots), *now)?;
                    for wanted in std::mem::take(&mut self.writers[writer].taken) {
                        self.note_snapshot(&wanted)?;
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
}
