//! What goes wrong, and that it stops.

use crate::{
    climate::Fault,
    events::Event,
    network::{Connection, delay},
    sled::{Lie, Sled},
    world::{Broken, World},
    writer::Writer,
};
use rand::Rng;
use region::Position;
use region_wire::Request;
use std::time::Duration;
use upstairs::PhaseName;

/// How much more likely it fails while a disk takes a snapshot or lets go of one than at other things that are made durable: there are so many
/// fewer of them.
const AT_SNAPSHOTS: f64 = 8.0;

/// That changes so much on the disk, or less: a checkpoint, and a file.
const SNAPSHOT_CHANGES: u64 = 40;

/// Times that the power failed in or right behind what was being made durable of these.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Aimed {
    /// Snapshots that were taken or deleted.
    pub(crate) snapshots: u64,
    /// Blocks that were healed, or filled behind the stream.
    pub(crate) heals: u64,
}

impl World {
    /// Whether something may go wrong now.
    fn may_fail(&self) -> bool {
        self.has_faults && self.now >= self.calm_until
    }

    pub(crate) fn start_sled(&mut self, sled: usize) -> Result<(), Broken> {
        self.sleds[sled].start()?;
        if self.sleds[sled].machine.is_off() { self.lose_power(sled) } else { Ok(()) }
    }

    pub(crate) fn lose_power(&mut self, sled: usize) -> Result<(), Broken> {
        let away = self.soon(self.climate.away);
        self.cut(sled, away)
    }

    /// The power of a sled fails, and comes back after so long.
    pub(crate) fn cut(&mut self, sled: usize, away: Duration) -> Result<(), Broken> {
        if self.climate.rotten == Some(sled) {
            return Ok(());
        }
        self.history.power_failed(sled, self.now);
        let seed = self.random.random();
        self.sleds[sled].lose_power(seed);
        self.lose_connections(sled);
        self.at(away, Event::Start(sled));
        Ok(())
    }

    /// The process of a sled is gone: the writers notice, or not before they ask.
    fn lose_connections(&mut self, sled: usize) {
        let of_sled = self
            .connections
            .iter()
            .filter(|(_, connection)| connection.sled == sled && !connection.is_closed);
        let ids: Vec<u64> = of_sled.map(|(id, _)| *id).collect();
        for id in ids {
            self.close(id);
            if self.random.random_bool(0.8) {
                let later = delay(&mut self.random);
                self.at(later, Event::ClosedAtWriter(id));
            }
        }
    }

    pub(crate) fn kill_sled(&mut self, sled: usize) {
        if self.sleds[sled].member.is_some() && self.climate.rotten != Some(sled) {
            let away = self.soon(self.climate.away);
            self.kill_sled_for(sled, away);
        }
    }

    /// The process of a sled is killed, and started again after so long.
    pub(crate) fn kill_sled_for(&mut self, sled: usize, away: Duration) {
        self.sleds[sled].kill();
        self.lose_connections(sled);
        self.at(away, Event::Start(sled));
    }

    pub(crate) fn kill_writer(&mut self, writer: usize) {
        self.writers[writer].is_alive = false;
        let ids: Vec<u64> = self.writers[writer].connections.values().copied().collect();
        for id in ids {
            self.end_connection(id);
        }
    }

    /// The writer has no use for it any more. What it has sent before may arrive, or not.
    pub(crate) fn end_connection(&mut self, id: u64) {
        let mut later = delay(&mut self.random);
        if self.random.random_bool(0.5) {
            self.close(id);
        } else if let Some(connection) = self.connections.get(&id) {
            later += connection.to_sled.saturating_sub(self.now);
        }
        self.at(later, Event::ClosedAtSled(id));
    }

    /// The power of a sled fails in or right behind what this makes durable, perhaps.
    pub(crate) fn aim(&mut self, sled: usize, request: &Request) {
        let is_of_snapshots = matches!(request, Request::Snapshot { .. } | Request::DeleteSnapshot { .. });
        let heals = matches!(request, Request::Stage { .. } | Request::Heal { .. });
        let is_aimed_at = is_of_snapshots
            || heals
            || matches!(
                request,
                Request::Promote(_)
                    | Request::SetList { .. }
                    | Request::Commit { .. }
                    | Request::Join(_)
                    | Request::Install { .. }
            )
            || (matches!(request, Request::Flush { .. }) && self.random.random_bool(0.1));
        let is_hit = is_aimed_at && self.may_fail() && self.climate.aimed > 0.0;
        if !is_hit || self.climate.rotten == Some(sled) || !self.random.random_bool(self.climate.aimed) {
            return;
        }
        self.faults += 1;
        self.aimed.snapshots += u64::from(is_of_snapshots);
        self.aimed.heals += u64::from(heals);
        if self.random.random_bool(0.5) {
            let machine = &self.sleds[sled].machine;
            machine.stop_after_changes(machine.changes() + self.random.random_range(0..12));
        } else {
            let (later, away) = (self.soon(3), self.soon(self.climate.away));
            self.at(later, Event::Cut(sled, away));
        }
    }

    /// The power of a sled fails while its disk takes a snapshot, or lets go of one, perhaps: between any two changes.
    pub(crate) fn aim_at_snapshot(&mut self, sled: usize) {
        let likely = (self.climate.aimed * AT_SNAPSHOTS).min(1.0);
        if self.may_fail() && self.climate.rotten != Some(sled) && self.random.random_bool(likely) {
            self.faults += 1;
            self.aimed.snapshots += 1;
            let machine = &self.sleds[sled].machine;
            machine.stop_after_changes(machine.changes() + self.random.random_range(0..SNAPSHOT_CHANGES));
        }
    }

    /// The power of all sleds fails right behind a flush that was acknowledged, perhaps; and one of them stays away.
    pub(crate) fn aim_at_flush(&mut self) {
        if !self.may_fail() || !self.random.random_bool(self.climate.aimed_at_flushes) {
            return;
        }
        self.faults += 1;
        // The one with the fastest disk may be the only one that has it.
        let fastest = (0..self.sleds.len()).min_by_key(|sled| self.climate.slowness[*sled % 3]);
        let any = self.random.random_range(0..self.sleds.len());
        let last = fastest.filter(|_| self.random.random_bool(0.7)).unwrap_or(any);
        // Longer than anybody waits, and nothing else happens that would make them wait anew; or not so long.
        let is_long = self.random.random_bool(0.6);
        let longest = Duration::from_secs(if is_long { 33 } else { 6 });
        if is_long {
            self.calm_until = self.now + longest;
        }
        for sled in 0..self.sleds.len() {
            let later = if sled == last { longest } else { Duration::ZERO };
            let away = later + self.soon(1_000);
            self.at(Duration::ZERO, Event::Cut(sled, away));
        }
        if self.random.random_bool(0.9) {
            self.at(Duration::ZERO, Event::KillWriter(self.writers.len() - 1));
        }
    }

    pub(crate) fn fault(&mut self) -> Result<(), Broken> {
        let later = self.soon(self.climate.between_faults);
        self.at(later, Event::Fault);
        if !self.may_fail() {
            return Ok(());
        }
        self.faults += 1;
        let sled = self.request.wanted[self.random.random_range(0..3)];
        let newest = self.writers.len() - 1;
        match self.climate.fault(&mut self.random) {
            Fault::KillSled => self.kill_sled(sled),
            Fault::KillTwo => {
                self.others(sled).into_iter().for_each(|other| self.kill_sled(other));
            }
            Fault::KillAll => (0..self.sleds.len()).for_each(|sled| self.kill_sled(sled)),
            Fault::LosePower if self.climate.rotten != Some(sled) => {
                // At some operation of the disk, a little later.
                let machine = &self.sleds[sled].machine;
                machine.stop_after_changes(machine.changes() + self.random.random_range(0..40));
            }
            Fault::LosePower => {}
            Fault::LosePowerOfAll => {
                for sled in 0..self.sleds.len() {
                    self.lose_power(sled)?;
                }
            }
            Fault::FailSync if self.climate.rotten != Some(sled) => self.sleds[sled].faults.fail_next_sync(),
            Fault::FailSync => {}
            Fault::Full => {
                self.sleds[sled].faults.full_after(self.random.random_range(0..20));
                let later = self.soon(self.climate.away * 2);
                self.at(later, Event::MakeRoom(sled));
            }
            Fault::Break => self.break_one(),
            Fault::GoDark => {
                for connection in self.connections.values_mut().filter(|known| known.sled == sled) {
                    connection.is_dark = true;
                }
            }
            Fault::Block => {
                let later = self.soon(self.climate.away * 2);
                self.block(newest, sled, later);
            }
            Fault::PauseSled => self.sleds[sled].paused_until = self.now + self.soon(6_000),
            Fault::PauseWriter => self.writers[newest].paused_until = self.now + self.soon(12_000),
            Fault::KillWriter => {
                self.kill_writer(newest);
                let later = self.soon(2_000);
                self.at(later, Event::TakeOver);
            }
            Fault::TakeOver => self.add_writer(0)?,
            Fault::LowerWriter => {
                let lower = self.random.random_range(1..3);
                self.add_writer(lower)?;
            }
            Fault::TwoAtOnce => {
                self.lose_power(sled)?;
                self.kill_writer(newest);
                self.add_writer(0)?;
            }
            Fault::OneAfterAnother => self.one_after_another(newest, sled),
            Fault::ThreeInARow => self.three_in_a_row(newest, sled),
            Fault::Partition => self.partition(newest),
            Fault::Overtaken => self.overtaken(sled),
            Fault::Rot => self.rot()?,
            Fault::RotOfTheNewest => self.rot_of_the_newest(newest)?,
            Fault::Lie => self.lie(),
            Fault::Replace => self.replace(),
            Fault::Split => self.split(newest),
        }
        Ok(())
    }

    /// The sleds of the other members that there are to be.
    fn others(&self, sled: usize) -> Vec<usize> {
        self.request.wanted.iter().copied().filter(|other| *other != sled).collect()
    }

    /// In any order.
    fn two_others(&mut self, sled: usize) -> [usize; 2] {
        let others = self.others(sled);
        let first = self.random.random_range(0..2);
        [others[first], others[1 - first]]
    }

    fn break_one(&mut self) {
        let open = self.connections.iter().filter(|(_, known)| !known.is_closed);
        let open: Vec<u64> = open.map(|(id, _)| *id).collect();
        if let Some(id) = open.get(self.random.random_range(0..open.len().max(1))) {
            self.break_connection(*id);
        }
    }

    fn block(&mut self, writer: usize, sled: usize, time: Duration) {
        self.blocked.insert((writer, sled));
        self.at(time, Event::Unblock(writer, sled));
    }

    /// The first sled is left out and comes back; the second one stops; the third one loses its power, and the Upstairs dies with it.
    fn three_in_a_row(&mut self, writer: usize, first: usize) {
        let [second, third] = self.two_others(first);
        let back = Duration::from_millis(2_000) + self.soon(1_000);
        self.block(writer, first, back);
        let stops = back.saturating_sub(self.soon(400));
        let until = self.now + back + Duration::from_secs(5);
        self.at(stops, Event::Pause(second, until));
        let (end, away) = (back + Duration::from_millis(200) + self.soon(1_300), self.soon(2_000));
        self.at(end, Event::Cut(third, away));
        self.at(end, Event::KillWriter(writer));
    }

    /// What was acknowledged while the first one was away is on the second one, which loses it, and on the third one.
    fn one_after_another(&mut self, writer: usize, first: usize) {
        let [second, third] = self.two_others(first);
        let (end, away) = (self.soon(1_000), self.soon(500));
        self.at(Duration::ZERO, Event::Cut(first, end + away));
        self.at(end, Event::Cut(second, away));
        let until = self.now + end + Duration::from_secs(2) + self.soon(6_000);
        self.at(end, Event::Pause(third, until));
        self.at(end, Event::KillWriter(writer));
    }

    /// An Upstairs reaches one member and those that are to replace the others, and another one reaches these others.
    fn split(&mut self, writer: usize) {
        let first = self.random.random_range(0..3);
        let (stays, time) = (self.request.wanted[first], Duration::from_secs(4) + self.soon(10_000));
        for other in self.others(stays) {
            self.block(writer, other, time);
        }
        self.replace_all_but(first);
        let takes_over = self.soon(4_000);
        for sled in std::iter::once(stays).chain(self.sleds.len()..self.sleds.len() + 2) {
            self.block(writer + 1, sled, time);
        }
        self.at(takes_over, Event::TakeOver);
    }

    /// Nothing gets through to an Upstairs; another one takes over, and dies when the first one comes back.
    fn partition(&mut self, writer: usize) {
        let end = Duration::from_millis(1_500) + self.soon(4_000);
        for sled in 0..self.sleds.len() {
            self.block(writer, sled, end);
        }
        let takes_over = self.soon(1_000);
        self.at(takes_over, Event::TakeOver);
        let dies = end.saturating_sub(self.soon(1_000));
        self.at(dies, Event::KillWriter(writer + 1));
    }

    /// What an Upstairs sends gets to this sled alone, and not before somebody else writes there.
    fn overtaken(&mut self, sled: usize) {
        let (time, now) = (Duration::from_secs(4), self.now);
        let writes =
            |writer: &Writer| writer.is_alive && writer.upstairs.status(now).phase == PhaseName::Active;
        let Some(writer) = self.writers.iter().rposition(writes) else { return };
        let is_theirs = |known: &Connection| (known.writer, known.sled) == (writer, sled) && !known.is_closed;
        let mut newest_first = self.connections.iter().rev();
        let Some(late) = newest_first.find_map(|(id, known)| is_theirs(known).then_some(*id)) else { return };
        for other in self.others(sled) {
            self.block(writer, other, time);
        }
        self.hold_to_sled(late, self.now + time);
        self.hold_to_writer(late, self.now + time);
        self.late = Some(late);
        self.calm_until = self.now + Duration::from_secs(1);
        let takes_over = Duration::from_millis(50) + self.soon(300);
        self.at(takes_over, Event::TakeOver);
    }

    fn rot(&mut self) -> Result<(), Broken> {
        let Some(sled) = self.climate.rotten else { return Ok(()) };
        // What only one member has, nobody can give back if it is changed.
        let applied = |sled: &Sled| sled.member.as_ref().map(|member| member.region().applied());
        let is_full = |sled: &Sled| sled.member.as_ref().is_some_and(|member| member.region().is_full());
        let ours = applied(&self.sleds[sled]);
        let mut others = (0..self.sleds.len()).filter(|other| *other != sled).map(|other| &self.sleds[other]);
        if !others.all(|other| is_full(other) && applied(other) >= ours) {
            return Ok(());
        }
        let part: f64 = self.random.random();
        self.sleds[sled].rot(part, self.geometry)
    }

    /// The Upstairs dies, and perhaps the power of the other sleds fails; what only some have rots before the next one begins.
    fn rot_of_the_newest(&mut self, writer: usize) -> Result<(), Broken> {
        let Some(rotten) = self.climate.rotten else { return Ok(()) };
        self.kill_writer(writer);
        for sled in (0..self.sleds.len()).filter(|sled| *sled != rotten) {
            if self.random.random_bool(0.3) {
                self.lose_power(sled)?;
            }
        }
        let rots = self.soon(1_000);
        self.at(rots, Event::RotNewest(rotten));
        let takes_over = rots + self.soon(1_000);
        self.at(takes_over, Event::TakeOver);
        Ok(())
    }

    /// Some of the blocks rot that another one has not, or has as they were before.
    pub(crate) fn rot_newest(&mut self, sled: usize) -> Result<(), Broken> {
        let others = (0..self.sleds.len()).filter(|other| *other != sled);
        let applied = others.filter_map(|other| Some(self.sleds[other].member.as_ref()?.region().applied()));
        let least = applied.min().unwrap_or(Position::NONE);
        let newest: Vec<(u64, Position)> =
            self.sleds[sled].versions().into_iter().filter(|(_, version)| *version > least).collect();
        for (block, version) in newest {
            if self.random.random_bool(0.4) && self.sleds[sled].rot_block(block, self.geometry)? {
                self.history.rotted(block, version);
            }
        }
        Ok(())
    }

    fn lie(&mut self) {
        let lie = if self.random.random_bool(0.5) { Lie::Bytes } else { Lie::Seals };
        let of_liar = &mut self.sleds[self.climate.liar].lie;
        *of_liar = if of_liar.is_none() { Some(lie) } else { None };
    }

    /// Nothing goes wrong from now on: everybody runs, and one Upstairs has the volume: the newest, if it is sure that there is one, or a
    /// new one.
    pub(crate) fn heal(&mut self) -> Result<(), Broken> {
        self.has_faults = false;
        self.climate.slowness = [1; 3];
        self.climate.distance = [1; 3];
        self.blocked.clear();
        for sled in &mut self.sleds {
            sled.lie = None;
            sled.faults.heal();
        }
        for connection in self.connections.values_mut() {
            connection.is_dark |= connection.is_closed;
        }
        for sled in 0..self.sleds.len() {
            if self.sleds[sled].machine.is_off() {
                self.lose_power(sled)?;
            }
            self.sleds[sled].machine.stop_after_changes(u64::MAX);
        }
        // Whoever is stopped goes on when it would have: what waits for it is not to be overtaken.
        let highest = self.writers.iter().map(|writer| writer.session.epoch).max().unwrap_or(0);
        let mut newest = (0..).zip(&self.writers).filter(|(_, writer)| writer.session.epoch == highest);
        let one = newest.next().filter(|(_, writer)| writer.is_alive && !writer.is_over);
        let goes_on = one.map(|(number, _)| number).filter(|_| newest.next().is_none());
        match goes_on {
            Some(writer) if self.random.random_bool(0.5) => {
                self.last_writer = writer;
                Ok(())
            }
            _ => {
                self.last_writer = self.writers.len();
                self.add_writer(0)
            }
        }
    }
}
