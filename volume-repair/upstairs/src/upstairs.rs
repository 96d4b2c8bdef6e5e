//! The machine: what it knows, and what each event makes of it. How it becomes active: [`activating`]; who counts, and when it may answer:
//! [`rights`]. Other parts of it: [`crate::jobs`], [`crate::reads`], [`crate::heals`], [`crate::comparing`], [`crate::lists`], [`crate::members`], [`crate::copier`],
//! [`crate::standstill`].
//!
//! ```text
//!   idle ──activate──► gathering ──two that hold everything──► bringing up ──all have the same──► listing ──kept by all──► active
//!                          ▲                                        │                               │                      │
//!                          └────── one of those is lost ────────────┴───────────────────────────────┘                      │
//!                          └────── a full member has lost what it had, and none can be spared ─────────────────────────────┘
//!   any ──somebody has a higher epoch──► ended, for good: fenced
//!   any ──all members together have lost what was acknowledged──► ended, for good: lost
//! ```

mod activating;
mod rights;

pub(crate) use rights::SILENCE_MAX;

use crate::{
    allowance::Allowance,
    comparing::Comparing,
    copier::Copier,
    heals::{HealId, Heals},
    jobs::Jobs,
    lists::Pending,
    peer::{Peer, State},
    reads::Reads,
    snapshots::Snapshotting,
    standstill::Standstill,
    status::Totals,
    trouble::Trouble,
    types::{Action, ActivateError, Config, Job, JobId, PeerId},
    window::Window,
};
use region::{List, ListVersion, Member, Position, Promotion};
use region_wire::{Reply, Request};
use std::{collections::BTreeMap, num::NonZeroU64, time::Duration};
use volume_seals::Sealer;

/// What an answer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A piece of a read.
    Read(u64),
    /// Part of healing.
    Heal(HealId),
    /// A piece that is compared.
    Compare(u64),
    /// Part of copying from member to member.
    Copy,
    /// A list.
    List,
    /// A flush of the stream.
    Flush,
    /// A snapshot.
    Snapshot,
    /// A ping, sent at this time.
    Ping(Duration),
}

/// How far it is.
#[derive(Debug)]
pub(crate) enum Phase {
    /// It was not activated.
    Idle,
    /// Since when two may be enough.
    Gathering(Option<Duration>),
    /// These are full and are to have the same; the first one has the most. The rest are brought up, one after the other.
    BringingUp(Vec<PeerId>),
    /// A list of them is to be kept by all of them.
    Listing(Vec<PeerId>),
    Active,
    /// Nothing more is done, and nothing more will be.
    Ended(End),
}

/// Why nothing more is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Somebody else may write.
    Fenced(Promotion),
    /// The power of two members or more was gone: what was acknowledged up to this write and not flushed may be, too. Whoever
    /// goes on has to know.
    Lost(Position),
}

/// The one writer of a region set.
#[derive(Debug)]
pub struct Upstairs {
    pub(crate) config: Config,
    pub(crate) phase: Phase,
    pub(crate) peers: Vec<Peer>,
    pub(crate) now: Duration,
    pub(crate) window: Window,
    /// The list in force, once it is active.
    pub(crate) list: List,
    pub(crate) pending: Option<Pending>,
    pub(crate) next_list: u32,
    /// When it was looked at last whether clients have to wait for room, and for how long they had to.
    pub(crate) pressed_at: Duration,
    pub(crate) pressed_for: Duration,
    pub(crate) jobs: Jobs,
    pub(crate) reads: Reads,
    pub(crate) heals: Heals,
    pub(crate) comparing: Comparing,
    pub(crate) snapshots: Vec<Snapshotting>,
    pub(crate) copier: Option<Copier>,
    pub(crate) allowance: Allowance,
    pub(crate) totals: Totals,
    purposes: BTreeMap<u64, (PeerId, Purpose)>,
    next_id: u64,
    actions: Vec<Action>,
    /// What was read while nobody was heard of.
    pub(crate) held: Vec<Action>,
    pub(crate) standstill: Option<Standstill>,
}

impl Upstairs {
    /// Of these members. Does nothing before it is activated.
    ///
    /// # Panics
    /// If its regions are sealed and it has no sealer for them, or the other way round.
    #[must_use]
    pub fn new(config: Config) -> Upstairs {
        let geometry = config.geometry;
        let is_for_them = |sealer: &Sealer| sealer.is_for(config.set, geometry.block_size);
        assert_eq!(
            geometry.is_sealed,
            config.sealer.is_some(),
            "sealed regions, and only they, have a sealer"
        );
        assert!(config.sealer.as_ref().is_none_or(is_for_them), "the sealer is that of the region set");
        let members = &config.members;
        let is_leaving = |member: &Member| !members.wanted.contains(member);
        let peers = members.all().map(|member| Peer::new(*member, is_leaving(member))).collect();
        Upstairs {
            window: Window::new(config.promotion.epoch, config.limits),
            allowance: Allowance::new(config.limits.repair_rate),
            config,
            phase: Phase::Idle,
            peers,
            now: Duration::ZERO,
            list: List::default(),
            pending: None,
            next_list: 1,
            pressed_at: Duration::ZERO,
            pressed_for: Duration::ZERO,
            jobs: Jobs::default(),
            reads: Reads::default(),
            heals: Heals::default(),
            comparing: Comparing::default(),
            snapshots: Vec::new(),
            copier: None,
            totals: Totals::default(),
            purposes: BTreeMap::new(),
            next_id: 1,
            actions: Vec::new(),
            held: Vec::new(),
            standstill: None,
        }
    }

    /// From now on members are filled with so many bytes in a second at most, or as fast as it goes. What is being copied goes on.
    pub fn set_repair_rate(&mut self, rate: Option<NonZeroU64>) {
        self.allowance.set_rate(rate);
    }

    /// With how many bytes in a second members are filled at most, if that was said.
    #[must_use]
    pub fn repair_rate(&self) -> Option<NonZeroU64> {
        self.allowance.rate()
    }

    /// Why a member is not of use, or was not last time.
    #[must_use]
    pub fn trouble(&self, peer: PeerId) -> Option<&Trouble> {
        self.peers.get(peer.0)?.trouble.as_ref()
    }

    /// Blocks of a member that had their checksums, and that the volume's key has not sealed.
    #[must_use]
    pub fn wrong_seals(&self, peer: PeerId) -> u64 {
        self.peers.get(peer.0).map_or(0, |peer| peer.wrong_seals)
    }

    /// Whether it was told to look for its members.
    #[must_use]
    pub fn is_activated(&self) -> bool {
        !matches!(self.phase, Phase::Idle)
    }

    /// Begins to look for its members.
    pub fn activate(&mut self, now: Duration) -> Vec<Action> {
        self.now = now;
        if matches!(self.phase, Phase::Idle) {
            self.phase = Phase::Gathering(None);
        }
        self.step()
    }

    /// The same, with a right that was not known when it was made. With the same one a second time nothing happens.
    ///
    /// # Errors
    /// [`ActivateError`]; nothing has changed.
    pub fn activate_with(&mut self, now: Duration, epoch: u32) -> Result<Vec<Action>, ActivateError> {
        let ours = self.config.promotion.epoch;
        match self.phase {
            _ if epoch == 0 => Err(ActivateError::NoEpoch),
            Phase::Idle if epoch < ours => Err(ActivateError::Lower { epoch, least: ours }),
            Phase::Idle => {
                self.config.promotion.epoch = epoch;
                self.window = Window::new(epoch, self.config.limits);
                Ok(self.activate(now))
            }
            Phase::Ended(end) => Err(ActivateError::Ended { source: self.error_of(end) }),
            _ if epoch != ours => Err(ActivateError::Other { epoch, ours }),
            _ => Ok(Vec::new()),
        }
    }

    /// Whether more may be asked: otherwise what is asked waits, here.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.jobs.has_room()
    }

    /// A client asks something.
    pub fn submit(&mut self, now: Duration, id: JobId, job: Job) -> Vec<Action> {
        self.now = now;
        self.submit_job(id, job, false);
        self.step()
    }

    /// The volume itself asks something: it gives way to clients, and what is copied from member to member does not give way to it. So it is of all
    /// that compares.
    pub fn submit_background(&mut self, now: Duration, id: JobId, job: Job) -> Vec<Action> {
        self.now = now;
        self.submit_job(id, job, true);
        self.step()
    }

    /// Nobody waits for this job any more: if it compares, it ends, and nothing is said of it. Whatever else was asked goes to its end.
    pub fn give_up_compare(&mut self, now: Duration, id: JobId) -> Vec<Action> {
        self.now = now;
        let is_told = |action: &Action| matches!(action, Action::Compared(job, _) if *job == id);
        let is_held = self.held.iter().any(is_told);
        if is_held {
            self.held
                .retain(|action| !is_told(action) && !matches!(action, Action::Done(job, _) if *job == id));
        }
        let is_begun = self.comparing.give_up(id) || is_held;
        self.jobs.give_up_compare(id, is_begun);
        self.step()
    }

    /// A connection that was asked for is there, or is not.
    pub fn connected(&mut self, now: Duration, peer: PeerId, is_there: bool) -> Vec<Action> {
        self.now = now;
        if self.peers[peer.0].state == State::Connecting {
            if is_there {
                self.greet(peer);
            } else {
                self.lose(peer, Trouble::Unreachable);
            }
        }
        self.step()
    }

    /// A connection is gone.
    pub fn disconnected(&mut self, now: Duration, peer: PeerId) -> Vec<Action> {
        self.now = now;
        if !matches!(self.peers[peer.0].state, State::Away(_)) {
            self.lose(peer, Trouble::Disconnected);
        }
        self.step()
    }

    /// A member says something.
    pub fn received(&mut self, now: Duration, peer: PeerId, replies: Vec<Reply>) -> Vec<Action> {
        self.now = now;
        for reply in replies {
            // What comes from a connection that was given up is not heard.
            if matches!(self.peers[peer.0].state, State::Away(_) | State::Connecting) {
                break;
            }
            self.hear(peer, reply);
        }
        self.step()
    }

    /// Time has gone by. To be called every quarter of a second or so.
    pub fn tick(&mut self, now: Duration) -> Vec<Action> {
        self.now = now;
        if matches!(self.phase, Phase::Idle | Phase::Ended(_)) {
            return self.step();
        }
        for peer in (0..self.peers.len()).map(PeerId) {
            self.tick_peer(peer);
        }
        self.hedge_reads();
        self.note_standstill();
        self.step()
    }

    /// What follows from what has changed, and all that is to be done.
    pub(crate) fn step(&mut self) -> Vec<Action> {
        if let Phase::Ended(end) = self.phase {
            self.fail_all(end);
        } else {
            self.go_on_activating();
            self.give_up_jobs();
            if matches!(self.phase, Phase::Active) {
                self.note_who_is_away();
                self.stream_to_all();
                self.make_room_in_list();
                self.go_on_listing();
                self.let_go();
                self.go_on_copying();
                self.begin_waiting_jobs();
                self.send_stream();
                self.ask_reads();
                self.go_on_comparing();
            }
            self.finish_jobs();
        }
        self.release_held();
        self.jobs.note_ended(&self.actions);
        std::mem::take(&mut self.actions)
    }

    fn hear(&mut self, peer: PeerId, reply: Reply) {
        if is_in_order(&reply) {
            self.peers[peer.0].trouble = None;
        }
        match reply {
            Reply::Welcome(welcome) => self.promote(peer, &welcome),
            Reply::SnapshotWelcome(_) => self.lose(peer, Trouble::WrongAnswer("it welcomes to a snapshot")),
            Reply::Hashed { .. } => self.lose(peer, Trouble::WrongAnswer("it tells a hash of a snapshot")),
            Reply::Promoted(promoted) => self.note_promoted(peer, promoted),
            Reply::Refused(refusal) => self.note_refused(peer, refusal),
            Reply::Fenced(by) => self.note_fenced(peer, by),
            Reply::Failed(why) => {
                self.peers[peer.0].is_condemned = true;
                self.lose(peer, Trouble::Failed(why));
            }
            Reply::Wrong(what) => self.lose(peer, Trouble::Refused(what)),
            Reply::Applied(position) if position > self.peers[peer.0].sent => {
                self.lose(peer, Trouble::WrongAnswer("it has applied what it was never sent"));
            }
            Reply::Applied(position) => self.peers[peer.0].note_applied(position),
            Reply::Waits { is_full: true, why } => self.note_waits(peer, Trouble::NoRoom(why)),
            Reply::Waits { is_full: false, why } => self.note_waits(peer, Trouble::DiskError(why)),
            Reply::Flushed { id, durable } => {
                self.take_purpose(id);
                let known = &mut self.peers[peer.0].durable;
                *known = (*known).max(durable);
                self.note_copy_flushed(peer, id);
            }
            Reply::Pong { id } => {
                if let Some((from, Purpose::Ping(sent))) = self.take_purpose(id)
                    && from == peer
                {
                    self.peers[peer.0].heard = Some(sent);
                    self.peers[peer.0].pinged = None;
                }
            }
            Reply::ListKept { id } => {
                if self.take_purpose(id).is_some() {
                    self.note_list_kept(peer, id);
                }
            }
            Reply::Read { id, .. }
            | Reply::Looked { id, .. }
            | Reply::Digested { id, .. }
            | Reply::Taken { id, .. } => match self.take_purpose(id) {
                Some((from, Purpose::Read(piece))) if from == peer => self.note_read(peer, piece, reply),
                Some((from, Purpose::Heal(heal))) if from == peer => self.note_heal(peer, heal, reply),
                Some((from, Purpose::Compare(piece))) if from == peer => {
                    self.note_compared(peer, piece, reply);
                }
                Some((from, Purpose::Copy)) if from == peer => self.note_copy(peer, id, reply),
                _ => {}
            },
            Reply::Snapshotted { id, applied } => self.note_snapshot(peer, id, Ok(Some(applied))),
            Reply::SnapshotDeleted { id } => self.note_snapshot(peer, id, Ok(None)),
            Reply::SnapshotRefused { id, why } => self.note_snapshot(peer, id, Err(why)),
        }
    }

    pub(crate) fn take_purpose(&mut self, id: u64) -> Option<(PeerId, Purpose)> {
        self.purposes.remove(&id)
    }

    /// Asks a member something that is answered.
    pub(crate) fn ask(
        &mut self,
        peer: PeerId,
        purpose: Purpose,
        request: impl FnOnce(u64) -> Request,
    ) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.purposes.insert(id, (peer, purpose));
        self.act(Action::Send(peer, request(id)));
        id
    }

    pub(crate) fn act(&mut self, action: Action) {
        self.actions.push(action);
    }

    /// Answers to a copy that was given up are not those that the next one waits for.
    pub(crate) fn forget_copy_asked(&mut self) {
        self.purposes.retain(|_, (_, purpose)| *purpose != Purpose::Copy);
    }

    /// What this member was asked will not be answered.
    pub(crate) fn forget_asked(&mut self, peer: PeerId) -> Vec<Purpose> {
        let all = std::mem::take(&mut self.purposes);
        let (lost, kept): (Vec<_>, Vec<_>) = all.into_iter().partition(|(_, (of, _))| *of == peer);
        self.purposes = kept.into_iter().collect();
        lost.into_iter().map(|(_, (_, purpose))| purpose).collect()
    }

    /// Sends each member what it is to be sent next.
    pub(crate) fn send_stream(&mut self) {
        for peer in (0..self.peers.len()).map(PeerId) {
            let limits = self.config.limits;
            while self.peers[peer.0].is_streaming() && self.peers[peer.0].has_room(&limits) {
                self.ask_snapshots(peer);
                let number = self.peers[peer.0].next;
                let Some(entry) = self.window.get(number) else { break };
                if entry.is_flush() {
                    self.peers[peer.0].next += 1;
                    self.ask(peer, Purpose::Flush, |id| Request::Flush { id });
                } else {
                    let position = entry.position();
                    let (bytes, request) = match self.passes_over(peer, entry) {
                        true => (0, Request::Pass(position)),
                        false => (entry.bytes(), entry.request()),
                    };
                    self.peers[peer.0].next += 1;
                    self.peers[peer.0].note_sent(position, bytes);
                    self.act(Action::Send(peer, request));
                }
            }
            self.ask_snapshots(peer);
        }
    }

    /// A version that is newer than any that this one has made.
    pub(crate) fn next_list_version(&mut self) -> ListVersion {
        let number = self.next_list;
        self.next_list += 1;
        ListVersion { epoch: self.config.promotion.epoch, number }
    }
}

/// Whether it is answered behind all that was asked before: then nothing of that waits any more.
fn is_in_order(reply: &Reply) -> bool {
    match reply {
        Reply::Applied(_)
        | Reply::ListKept { .. }
        | Reply::Read { .. }
        | Reply::Looked { .. }
        | Reply::Digested { .. }
        | Reply::Taken { .. } => true,
        Reply::Welcome(_)
        | Reply::SnapshotWelcome(_)
        | Reply::Hashed { .. }
        | Reply::Promoted(_)
        | Reply::Refused(_)
        | Reply::Flushed { .. }
        | Reply::Pong { .. }
        | Reply::Snapshotted { .. }
        | Reply::SnapshotRefused { .. }
        | Reply::SnapshotDeleted { .. }
        | Reply::Fenced(_)
        | Reply::Waits { .. }
        | Reply::Failed(_)
        | Reply::Wrong(_) => false,
    }
}
