//! One sled, as the coordinator sees it: what it said last, and whether that still stands.
//!
//! ```text
//!                     answered                    refused
//!   Unknown ───────► Active ◄──────► Refusing ◄──────────── any
//!      │              ▲   │              │
//!      │     answered │   │ no answer    │
//!      │              │   ▼              │
//!      └─ no answer ─► Unreachable ◄─────┘ no answer
//! ```
//!
//! An active sled of which nothing was heard for [`HEARTBEAT_LIMIT`], neither heartbeat nor answer, is treated as
//! unreachable from that moment on, and asked: it may have been killed, paused or cut off without anybody noticing.
//!
//! No state is terminal. Unreachable is not gone: what the sled held last is remembered, and a heartbeat makes the
//! coordinator ask again at once. One that refused is left alone for a while, unless it says something new: another
//! life of its agent, other contents. A crash of the coordinator forgets all of this; the next life asks every sled.
//!
//! Pure: time is told by the caller.

use super::disks::Disks;
use ids::{AgentEpoch, ArtifactHash, Generation};
use nexus_client::sleds::SledLiveness;
use nexus_replication::{Holdings, SledView};
use sled_client::artifacts::{ArtifactsList, DatasetHealth};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// A sled of which nothing was heard for this long is offline: four heartbeats.
pub const HEARTBEAT_LIMIT: Duration = Duration::from_secs(4);

/// The first wait after a failed transfer or an unanswered question; doubles up to [`BACKOFF_MAX`].
const BACKOFF_MIN: Duration = Duration::from_millis(500);

/// The longest wait: a sled that comes back announces itself anyway.
const BACKOFF_MAX: Duration = Duration::from_secs(60);

/// How often a sled that verifies its copies is asked how far it is: its heartbeats do not tell.
const SCRUB_LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// What is known about one sled.
#[derive(Clone, Debug, Default)]
pub struct SledObservation {
    /// What it holds, as of `answered` and the transfers that have ended since.
    pub holdings: Option<Holdings>,
    /// What it says of its M.2s, as of `answered`.
    pub disks: Disks,
    /// The generation that it follows.
    pub config_generation: Option<Generation>,
    /// When it was heard of last (heartbeat).
    pub heard: Option<Instant>,
    /// When it answered last.
    pub answered: Option<Instant>,
    said: Contact,
    /// The life and the revision that its last heartbeat told.
    told: Option<(AgentEpoch, u64)>,
    /// The life and the revision that the last answer reflects.
    seen: Option<(AgentEpoch, u64)>,
    /// Since when there is reason to think that its last answer does not stand any more.
    doubted: Option<Instant>,
    asking: bool,
    ask_again: Option<Instant>,
    unanswered: u32,
    refused: Option<Generation>,
    /// Copies that transfers brought, and when: they are younger than an answer that was asked for before.
    arrived: BTreeMap<ArtifactHash, (u32, Instant)>,
}

/// Whether and how a sled takes part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Contact {
    /// Not asked yet.
    #[default]
    Unknown,
    /// It answers and follows the config.
    Active,
    /// It does not answer.
    Unreachable(String),
    /// It answers but does not take the config.
    Refusing(String),
}

/// What a sled answered.
#[derive(Debug)]
pub enum Answer {
    /// What it holds.
    Holds(ArtifactsList),
    /// Why it does not take the config.
    Refuses(String),
    /// Why there is no answer.
    None(String),
}

/// How a sled has to be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    /// The config has to be put first: this life of the agent is new to us, or follows another generation.
    pub put_config: bool,
    /// Whether an answer can be expected soon, so that it is worth waiting for.
    pub expected: bool,
    /// When the question was asked; what arrived later stays.
    asked: Instant,
    wanted: Generation,
    told: Option<(AgentEpoch, u64)>,
}

/// What an answer means for transfers that failed before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Nothing: the sled is as able or unable as it was.
    AsBefore,
    /// It is back, or more of its disks work: what failed is worth a try at once.
    Recovered,
}

impl SledObservation {
    /// Whether a heartbeat came within the limit, as far as that can be known by a coordinator that has listened since
    /// `listening_since`: until the limit has passed since then, silence means nothing.
    #[must_use]
    pub fn liveness(&self, listening_since: Instant, now: Instant) -> SledLiveness {
        let within_limit = |then: Instant| now.saturating_duration_since(then) < HEARTBEAT_LIMIT;
        match self.heard {
            Some(heard) if within_limit(heard) => SledLiveness::Online,
            None if within_limit(listening_since) => SledLiveness::Unknown,
            _ => SledLiveness::Offline,
        }
    }

    /// Whether and how it takes part now.
    #[must_use]
    pub fn contact(&self, now: Instant) -> Contact {
        match &self.said {
            Contact::Active if self.is_silent(now) => {
                let limit = HEARTBEAT_LIMIT.as_secs();
                Contact::Unreachable(format!("neither a heartbeat nor an answer came within {limit} s"))
            }
            said => said.clone(),
        }
    }

    /// Whether nothing was heard of it within the limit.
    pub(super) fn is_silent(&self, now: Instant) -> bool {
        self.sign_of_life().is_none_or(|sign| now.saturating_duration_since(sign) >= HEARTBEAT_LIMIT)
    }

    fn sign_of_life(&self) -> Option<Instant> {
        self.heard.max(self.answered)
    }

    /// Takes a heartbeat in; true if the sled has to be asked because of it.
    pub(super) fn heard(&mut self, epoch: AgentEpoch, revision: u64, now: Instant) -> bool {
        self.heard = Some(now);
        self.told = Some((epoch, revision));
        let has_news = self.seen != self.told;
        // It lives: whatever kept it from answering may be over. A refusal is not over by living on.
        if has_news || !matches!(self.said, Contact::Refusing(_)) {
            self.ask_again = None;
        }
        (has_news || self.said != Contact::Active) && self.ask_again.is_none() && !self.asking
    }

    /// Notes that something went wrong with the sled: it has to be asked whether its last answer still stands.
    pub(super) fn doubt(&mut self, now: Instant) {
        self.doubted = Some(now);
    }

    /// Marks the sled as being asked, if it has to be; `everything` asks also if its answer still stands.
    pub(super) fn begin_question(
        &mut self,
        wanted: Generation,
        everything: bool,
        now: Instant,
    ) -> Option<Question> {
        if self.asking {
            return None;
        }
        let follows = self.config_generation == Some(wanted);
        let is_active = self.contact(now) == Contact::Active;
        let scrubs = self.scrub_look_at().is_some_and(|time| time <= now);
        let stands = is_active && follows && self.seen == self.told && self.doubted.is_none() && !scrubs;
        // A sled that refused waits with the set that it refused; a new set it is told at once.
        let waits = self.ask_again.is_some_and(|time| time > now)
            && self.refused.is_none_or(|refused| refused == wanted);
        if waits || (stands && !everything) {
            return None;
        }
        self.asking = true;
        let new_life = life(self.seen) != life(self.told);
        let put_config = !follows || new_life || !is_active || self.doubted.is_some();
        let expected = !matches!(self.contact(now), Contact::Unreachable(_));
        Some(Question { put_config, expected, asked: now, wanted, told: self.told })
    }

    /// There will be no answer: nobody listens any more. The sled can be asked again.
    pub(super) fn abandon_question(&mut self) {
        self.asking = false;
    }

    /// Takes an answer in.
    pub(super) fn end_question(&mut self, question: Question, answer: Answer, now: Instant) -> Standing {
        self.asking = false;
        match answer {
            Answer::Holds(list) => return self.holds(question, &list, now),
            Answer::Refuses(reason) => {
                self.answered = Some(now);
                self.unanswered = 0;
                self.ask_again = Some(now + BACKOFF_MAX);
                self.refused = Some(question.wanted);
                self.seen = question.told;
                self.said = Contact::Refusing(reason);
            }
            Answer::None(reason) => {
                self.unanswered = self.unanswered.saturating_add(1);
                self.refused = None;
                self.ask_again = Some(now + backoff(self.unanswered));
                self.said = Contact::Unreachable(reason);
            }
        }
        Standing::AsBefore
    }

    fn holds(&mut self, question: Question, list: &ArtifactsList, now: Instant) -> Standing {
        let was_away = matches!(self.said, Contact::Unreachable(_) | Contact::Refusing(_));
        let new_life = life(self.seen) != life(question.told);
        let writable_before = self.holdings.as_ref().map_or(0, |holdings| holdings.datasets_writable);
        self.said = Contact::Active;
        self.refused = None;
        self.config_generation = Some(list.generation);
        self.answered = Some(now);
        self.seen = question.told;
        self.doubted = self.doubted.filter(|doubted| *doubted > question.asked);
        self.unanswered = 0;
        self.ask_again = None;
        self.arrived.retain(|_, (_, when)| *when >= question.asked);
        self.disks = Disks::of(list);
        let holdings = holdings_of(list, &self.arrived);
        let recovered = was_away || new_life || holdings.datasets_writable > writable_before;
        self.holdings = Some(holdings);
        if recovered { Standing::Recovered } else { Standing::AsBefore }
    }

    /// Takes note of copies that a transfer brought.
    pub(super) fn arrived(&mut self, hash: ArtifactHash, copies: u32, now: Instant) {
        self.arrived.insert(hash, (copies, now));
        if let Some(holdings) = &mut self.holdings {
            holdings.copies.insert(hash, copies);
        }
    }

    /// What the planner is told.
    pub(super) fn view(&self, wanted: Generation, now: Instant) -> SledView {
        let last = || self.holdings.clone();
        match self.contact(now) {
            Contact::Active if self.config_generation == Some(wanted) => {
                last().map_or(SledView::Unknown, SledView::Ready)
            }
            Contact::Active | Contact::Unknown => SledView::Unknown,
            Contact::Unreachable(_) => SledView::Unreachable { last: last() },
            Contact::Refusing(_) => SledView::Refusing { last: last() },
        }
    }

    /// Whether it takes part, follows the wanted generation and holds at least one verified copy of each of these.
    pub(super) fn holds_all(&self, hashes: &[ArtifactHash], wanted: Generation, now: Instant) -> bool {
        let holds =
            |hash| self.holdings.as_ref().and_then(|held| held.copies.get(hash)).is_some_and(|it| *it > 0);
        self.contact(now) == Contact::Active
            && self.config_generation == Some(wanted)
            && hashes.iter().all(holds)
    }

    /// When it has to be asked even if nothing happens. None while it is being asked: its answer is what happens next.
    pub(super) fn ask_at(&self) -> Option<Instant> {
        match self.said {
            _ if self.asking => None,
            Contact::Unknown => None,
            Contact::Active => {
                let silent_from = self.sign_of_life().map(|sign| sign + HEARTBEAT_LIMIT);
                silent_from.into_iter().chain(self.scrub_look_at()).min()
            }
            Contact::Unreachable(_) | Contact::Refusing(_) => self.ask_again,
        }
    }

    /// When it has to be asked how far it is with verifying its copies, if it does.
    fn scrub_look_at(&self) -> Option<Instant> {
        self.answered.filter(|_| self.disks.scrub.running).map(|answered| answered + SCRUB_LOOK_INTERVAL)
    }
}

fn life(of: Option<(AgentEpoch, u64)>) -> Option<AgentEpoch> {
    of.map(|(epoch, _)| epoch)
}

fn holdings_of(list: &ArtifactsList, arrived: &BTreeMap<ArtifactHash, (u32, Instant)>) -> Holdings {
    let mut copies: BTreeMap<ArtifactHash, u32> =
        list.list.iter().map(|(hash, listed)| (*hash, listed.copies)).collect();
    for (hash, (count, _)) in arrived {
        copies.insert(*hash, *count);
    }
    let writable = list.datasets.iter().filter(|dataset| dataset.health == DatasetHealth::Healthy).count();
    Holdings { copies, datasets_writable: u32::try_from(writable).unwrap_or(u32::MAX), depot_reachable: true }
}

/// How long to wait after so many failures in a row.
pub(super) fn backoff(attempts: u32) -> Duration {
    BACKOFF_MIN.saturating_mul(1 << attempts.saturating_sub(1).min(16)).min(BACKOFF_MAX)
}
