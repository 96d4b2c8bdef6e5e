//! One Upstairs, and the client that uses it.

use crate::{
    climate::Climate,
    history::{Asked, History, Session, Stamp, Value},
    sled::{number_of, set},
    snapshots::{Snapshots, Wanted},
};
use bytes::Bytes;
use ids::{RegionId, SnapshotId};
use rand::{Rng, rngs::SmallRng};
use region::{Geometry, Member, Promotion};
use std::{collections::BTreeMap, time::Duration};
use upstairs::{
    Action, Config, CopyCompared, Data, Holds, Job, JobError, JobId, Limits, ListStatus, Members, Patience,
    PeerId, Run, Status, Upstairs,
};
use volume_seals::{Sealer, SealingSession, VolumeKey};

/// Jobs that the client has under way at most.
const JOBS: usize = 12;

/// Blocks of a job at most.
const BLOCKS: u64 = 6;

/// What most of a block is that a client writes.
pub(crate) const FILL: u8 = 0xa5;

/// An Upstairs with a client.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) upstairs: Upstairs,
    pub(crate) session: Session,
    pub(crate) is_alive: bool,
    /// Whether its client asks for more.
    pub(crate) is_busy: bool,
    /// Somebody has taken over, or it has failed for good.
    pub(crate) is_over: bool,
    /// It was told that acknowledged writes are lost, and rightly: whoever goes on begins anew.
    pub(crate) is_lost: bool,
    pub(crate) paused_until: Duration,
    /// Its connections, by peer.
    pub(crate) connections: BTreeMap<PeerId, u64>,
    /// Times that it has wanted to connect to each, or not any more: what comes of an earlier attempt is not heard.
    pub(crate) attempts: BTreeMap<PeerId, u64>,
    jobs: BTreeMap<JobId, Asking>,
    next_job: u64,
    next_number: u64,
    pub(crate) done: u64,
    /// The list in force, and how far each member was that is filled, when that was looked at last.
    filled: (Option<ListStatus>, BTreeMap<RegionId, u64>),
    /// Whether its client waits for members only so long, and how much it was told that it has waited for long enough.
    is_impatient: bool,
    pub(crate) given_up: u64,
    /// Times that it has compared copies.
    pub(crate) compared: u64,
    /// Snapshots that it has just been told to have.
    pub(crate) taken: Vec<Wanted>,
}

#[derive(Debug)]
enum Asking {
    Read(Asked, BTreeMap<u64, Value>),
    /// What of it is known without bytes.
    Look(Asked, BTreeMap<u64, Value>),
    Write(Stamp),
    /// A write that is to be durable, and what is durable with it.
    Durable(Stamp),
    /// How many writes it covers.
    Flush(usize),
    Snapshot(Box<Wanted>),
    DeleteSnapshot,
    /// Of how many blocks.
    Compare(u64),
}

fn content(stamp: Stamp, size: usize) -> Vec<u8> {
    let mut bytes = vec![FILL; size];
    bytes[..4].copy_from_slice(&stamp.session.epoch.to_le_bytes());
    bytes[4..12].copy_from_slice(&(stamp.session.writer as u64).to_le_bytes());
    bytes[12..20].copy_from_slice(&stamp.number.to_le_bytes());
    bytes
}

fn stamp_of(bytes: &[u8]) -> Option<Stamp> {
    let epoch = u32::from_le_bytes(bytes.get(..4)?.try_into().ok()?);
    let writer = usize::try_from(u64::from_le_bytes(bytes.get(4..12)?.try_into().ok()?)).ok()?;
    let number = u64::from_le_bytes(bytes.get(12..20)?.try_into().ok()?);
    let stamp = Stamp { session: Session { epoch, writer }, number };
    bytes[20..].iter().all(|byte| *byte == FILL).then_some(stamp)
}

impl Writer {
    pub(crate) fn new(
        number: usize,
        members: Members,
        geometry: Geometry,
        limits: Limits,
        patience: Patience,
        promotion: Promotion,
    ) -> Writer {
        let config = Config {
            set: set(),
            geometry,
            members,
            promotion,
            accepts_possible_loss: false,
            limits,
            patience,
            sealer: geometry.is_sealed.then(|| {
                let session = SealingSession::from_unique(promotion.session.as_u128());
                Sealer::new(&VolumeKey::from_bytes(&mut [7; 32]), set(), geometry.block_size, session)
            }),
        };
        Writer {
            upstairs: Upstairs::new(config),
            session: Session { epoch: promotion.epoch, writer: number },
            is_alive: true,
            is_busy: true,
            is_over: false,
            is_lost: false,
            paused_until: Duration::ZERO,
            connections: BTreeMap::new(),
            attempts: BTreeMap::new(),
            jobs: BTreeMap::new(),
            next_job: 0,
            next_number: 1,
            done: 0,
            filled: (None, BTreeMap::new()),
            is_impatient: patience.for_members.is_some(),
            given_up: 0,
            compared: 0,
            taken: Vec::new(),
        }
    }

    /// The sled at a place.
    pub(crate) fn sled_at(&self, place: PeerId) -> Option<usize> {
        self.upstairs.members().find(|(peer, _)| *peer == place).map(|(_, member)| number_of(member))
    }

    /// How far a member is that is filled never goes back, as long as the list is the same.
    pub(crate) fn check_progress(&mut self, now: Duration) -> Result<(), String> {
        let Status { list, members, .. } = self.upstairs.status(now);
        let filled: BTreeMap<RegionId, u64> =
            members.iter().filter_map(|member| Some((member.region, member.fill?.bytes_done))).collect();
        let (list_before, before) = std::mem::replace(&mut self.filled, (list.clone(), filled));
        let goes_back =
            |(region, was): (&RegionId, &u64)| self.filled.1.get(region).is_some_and(|is| is < was);
        if list_before == list && before.iter().any(goes_back) {
            return Err(format!("members were filled up to {before:?}, and are to {:?}", self.filled.1));
        }
        Ok(())
    }

    /// A new attempt to connect, or the end of one.
    pub(crate) fn next_attempt(&mut self, peer: PeerId) -> u64 {
        let attempt = self.attempts.entry(peer).or_default();
        *attempt += 1;
        *attempt
    }

    pub(crate) fn has_jobs(&self) -> bool {
        !self.jobs.is_empty()
    }

    /// The client asks something, perhaps.
    pub(crate) fn ask(
        &mut self,
        random: &mut SmallRng,
        (history, snapshots): (&mut History, &mut Snapshots),
        climate: &Climate,
        now: Duration,
    ) -> Vec<Action> {
        if self.jobs.len() >= JOBS || !self.is_busy || self.is_over || !self.upstairs.has_room() {
            return Vec::new();
        }
        let spot = climate.spots[random.random_range(0..climate.spots.len())].clone();
        let first = random.random_range(spot.clone());
        let count = random.random_range(1..=BLOCKS.min(spot.end - first));
        let id = JobId(self.next_job);
        self.next_job += 1;
        let size = climate.block_size.bytes();
        let may_take = climate.takes_snapshots && random.random_ratio(1, 30);
        let (asking, job) = match random.random_range(0..100) {
            0..30 if may_take => match snapshots.take() {
                Some(wanted) => (Asking::DeleteSnapshot, Job::DeleteSnapshot(wanted.id)),
                None => return Vec::new(),
            },
            30.. if may_take => {
                let wanted = self.wanted(snapshots.id_to_ask(random), history);
                snapshots.note_asked(wanted.clone());
                let job = Job::Snapshot(wanted.id);
                (Asking::Snapshot(Box::new(wanted)), job)
            }
            0..2 => (Asking::Compare(count), Job::Compare { first, count }),
            2..6 => {
                let asked = history.read_asked(self.session, first..first + count);
                (Asking::Look(asked, BTreeMap::new()), Job::Look { first, count })
            }
            6..45 => {
                let asked = history.read_asked(self.session, first..first + count);
                (Asking::Read(asked, BTreeMap::new()), Job::Read { first, count })
            }
            kind @ 45..90 => {
                let (stamp, is_zeros) = (self.next_stamp(), kind < 51);
                history.write_asked(stamp, first..first + count, is_zeros, now);
                let is_durable = random.random_bool(0.15);
                let asking = if is_durable { Asking::Durable(stamp) } else { Asking::Write(stamp) };
                let bytes = || Bytes::from(content(stamp, size).repeat(usize::try_from(count).unwrap_or(0)));
                let job = if is_zeros {
                    Job::Zero { first, count, is_durable }
                } else {
                    Job::Write { first, bytes: bytes(), is_durable }
                };
                (asking, job)
            }
            _ => (Asking::Flush(history.flush_asked(self.session)), Job::Flush),
        };
        self.jobs.insert(id, asking);
        self.upstairs.submit(now, id, job)
    }

    fn wanted(&self, id: SnapshotId, history: &History) -> Wanted {
        Wanted {
            id,
            session: self.session,
            last: history.last_asked(self.session),
            is_exact: !self.is_impatient,
            sleds: Vec::new(),
        }
    }

    /// These regions have the snapshot that a job has taken.
    pub(crate) fn snapshotted(&mut self, id: JobId, regions: &[RegionId]) -> Result<(), String> {
        let Some(Asking::Snapshot(wanted)) = self.jobs.get_mut(&id) else {
            return Err(format!("{id:?} takes no snapshot"));
        };
        wanted.sleds =
            regions.iter().map(|region| number_of(Member { region: *region, incarnation: 1 })).collect();
        Ok(())
    }

    fn next_stamp(&mut self) -> Stamp {
        let number = self.next_number;
        self.next_number += 1;
        Stamp { session: self.session, number }
    }

    /// A part of what was read.
    pub(crate) fn read(&mut self, id: JobId, first: u64, data: &Data, size: usize) -> Result<(), String> {
        let Some(Asking::Read(_, values)) = self.jobs.get_mut(&id) else {
            return Err(format!("{id:?} was not to be read"));
        };
        match data {
            Data::Never(count) => {
                values.extend((first..first + count).map(|block| (block, Value::Never)));
            }
            Data::Zeros(count) => {
                values.extend((first..first + count).map(|block| (block, Value::Zeros)));
            }
            Data::Bytes(bytes) => {
                for (block, bytes) in (first..).zip(bytes.chunks_exact(size)) {
                    let stamp = stamp_of(bytes);
                    let stamp = stamp.ok_or_else(|| format!("block {block} has bytes that nobody wrote"))?;
                    values.insert(block, Value::Bytes(stamp));
                }
            }
        }
        Ok(())
    }

    /// The client has all that there is compared.
    pub(crate) fn compare_all(&mut self, blocks: u64, now: Duration) -> Vec<Action> {
        let id = JobId(self.next_job);
        self.next_job += 1;
        self.jobs.insert(id, Asking::Compare(blocks));
        self.upstairs.submit(now, id, Job::Compare { first: 0, count: blocks })
    }

    /// What a job has found that compares. Copies differ only if somebody says something else than he has.
    pub(crate) fn found(&mut self, id: JobId, copies: &[CopyCompared], may_lie: bool) -> Result<(), String> {
        let Some(Asking::Compare(count)) = self.jobs.get(&id) else {
            return Err(format!("{id:?} was not to compare"));
        };
        let may_be = |copy: &CopyCompared| {
            copy.blocks <= *count && copy.healed <= copy.wrong && (copy.differing == 0 || may_lie)
        };
        match copies.iter().all(may_be) {
            true => Ok(()),
            false => Err(format!("of {count} blocks there were found {copies:?}")),
        }
    }

    /// What a job has looked at. Of which write bytes are is not said.
    pub(crate) fn looked(&mut self, id: JobId, runs: &[Run]) -> Result<(), String> {
        let Some(Asking::Look(asked, values)) = self.jobs.get_mut(&id) else {
            return Err(format!("{id:?} was not to be looked at"));
        };
        let mut block = asked.first();
        for run in runs {
            let value = match run.holds {
                Holds::Never => Some(Value::Never),
                Holds::Zeros => Some(Value::Zeros),
                Holds::Bytes => None,
            };
            let blocks = block..block + run.blocks;
            values.extend(blocks.filter_map(|block| Some((block, value?))));
            block += run.blocks;
        }
        Ok(())
    }

    /// A job has ended. Whether it was one that makes something durable.
    pub(crate) fn end(
        &mut self,
        id: JobId,
        result: Result<(), JobError>,
        (history, snapshots): (&mut History, &mut Snapshots),
        now: Duration,
    ) -> Result<bool, String> {
        let asking = self.jobs.remove(&id).ok_or_else(|| format!("{id:?} ends twice"))?;
        match result {
            Ok(()) => self.done += 1,
            Err(JobError::Fenced { .. }) => {
                self.is_over = true;
                return Ok(false);
            }
            Err(JobError::Lost { position }) => {
                (self.is_over, self.is_lost) = (true, true);
                return history.lost(position.epoch, position.counter).map(|()| false);
            }
            // The clients of some climates do not wait for ever. Whatever it was makes no difference to what follows, but a write may.
            Err(JobError::TooFewMembers { .. } | JobError::NoRoom { .. }) if self.is_impatient => {
                self.given_up += 1;
                if let Asking::Write(stamp) | Asking::Durable(stamp) = asking {
                    history.given_up(stamp);
                }
                return Ok(false);
            }
            Err(JobError::Unreadable { block } | JobError::WrongSeal { block }) => {
                self.done += 1;
                let Asking::Read(asked, _) = asking else {
                    return Err(format!("{id:?} reads nothing, and cannot read block {block}"));
                };
                return history.unreadable(self.session, &asked, block, now).map(|()| false);
            }
            // It says why; others are taken.
            Err(JobError::Snapshot { .. }) => {
                snapshots.refused += 1;
                return Ok(false);
            }
            Err(error) => return Err(error.to_string()),
        }
        let makes_durable = matches!(asking, Asking::Durable(_) | Asking::Flush(_));
        match asking {
            Asking::Read(asked, values) => history.read_done(self.session, &asked, &values, now)?,
            Asking::Look(asked, values) => history.look_done(self.session, &asked, &values, now)?,
            Asking::Write(stamp) => history.write_done(stamp, now),
            Asking::Durable(stamp) => {
                history.write_done(stamp, now);
                history.durable(stamp);
            }
            Asking::Flush(covered) => history.flush_done(self.session, covered, now),
            Asking::Snapshot(wanted) => self.taken.push(*wanted),
            Asking::DeleteSnapshot => snapshots.deleted += 1,
            Asking::Compare(_) => self.compared += 1,
        }
        Ok(makes_durable)
    }
}
