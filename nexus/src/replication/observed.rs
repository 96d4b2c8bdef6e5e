//! What is known about sleds and transfers: the one owner of it.
//!
//! One sled, as the coordinator sees it:
//!
//! ```text
//!                     answered                    refused
//!   Unknown ───────► Active ◄──────► Refusing ◄──────────── any
//!      │                │                │
//!      └── no answer ───┴── no answer ───┴──► Unreachable ── answered ──► Active
//! ```
//!
//! No state is terminal. Unreachable is not gone: what the sled held last is remembered, and a heartbeat makes the
//! coordinator ask again at once. A crash of the coordinator forgets all of this; the next life asks every sled.
//!
//! Methods are synchronous, short, and never call out.

use ids::{AgentEpoch, ArtifactHash, Generation, SledId};
use jiff::Timestamp;
use nexus_client::replication::TransferKind;
use nexus_replication::{Holdings, How, SledView, Transfer};
use sled_client::artifacts::{ArtifactsList, DatasetHealth};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};
use tokio::sync::watch;

/// A sled that has not been heard of for this long is offline: four heartbeats.
pub const HEARTBEAT_LIMIT: Duration = Duration::from_secs(4);

/// The first wait after a failed transfer or an unanswered question; doubles up to [`BACKOFF_MAX`].
const BACKOFF_MIN: Duration = Duration::from_millis(500);

/// The longest wait: a sled that comes back announces itself anyway.
const BACKOFF_MAX: Duration = Duration::from_secs(60);

/// A transfer that is slower than this is no reason for other sleds to wait for its target as a source.
const LAGGING_BYTES_PER_SECOND: u64 = 4 << 20;

/// No transfer lags before this.
const LAGGING_AFTER: Duration = Duration::from_secs(10);

/// What is known about sleds and transfers. Cheap to clone; every clone speaks of the same.
#[derive(Clone, Debug)]
pub struct Observed {
    state: Arc<Mutex<State>>,
    changed: Arc<watch::Sender<u64>>,
}

#[derive(Debug, Default)]
struct State {
    sleds: BTreeMap<SledId, SledObservation>,
    transfers: BTreeMap<(SledId, ArtifactHash), ActiveTransfer>,
    failures: BTreeMap<(SledId, ArtifactHash), Failure>,
    sent_to: BTreeMap<ArtifactHash, BTreeSet<SledId>>,
}

/// What is known about one sled.
#[derive(Clone, Debug, Default)]
pub struct SledObservation {
    /// What it said last.
    pub contact: Contact,
    /// What it holds, as of `observed_at` and the transfers that have ended since.
    pub holdings: Option<Holdings>,
    /// The generation that it follows.
    pub config_generation: Option<Generation>,
    /// When it answered last.
    pub observed_at: Option<Timestamp>,
    /// When it was heard of last (heartbeat), for people.
    pub heard_at: Option<Timestamp>,
    heard: Option<Instant>,
    /// The life and the revision that its last heartbeat told.
    told: Option<(AgentEpoch, u64)>,
    /// The life and the revision that the last answer reflects.
    seen: Option<(AgentEpoch, u64)>,
    asking: bool,
    ask_again: Option<Instant>,
    unanswered: u32,
    refused: Option<Generation>,
    /// Copies that transfers brought, and when: they are younger than an answer that was asked for before.
    arrived: BTreeMap<ArtifactHash, (u32, Instant)>,
}

/// What a sled said last.
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

/// A transfer under way.
#[derive(Clone, Debug)]
pub struct ActiveTransfer {
    /// How it travels.
    pub how: How,
    /// Bytes of the artifact.
    pub size: u64,
    /// Bytes received so far.
    pub bytes_done: u64,
    /// When it started, for people.
    pub started_at: Timestamp,
    started: Instant,
}

impl ActiveTransfer {
    /// How it travels, in a word.
    #[must_use]
    pub fn kind(&self) -> TransferKind {
        match self.how {
            How::Put => TransferKind::Put,
            How::Copy { .. } => TransferKind::Copy,
        }
    }

    fn is_lagging(&self, now: Instant) -> bool {
        let expected = LAGGING_AFTER + Duration::from_secs(self.size / LAGGING_BYTES_PER_SECOND);
        now.duration_since(self.started) > expected
    }
}

#[derive(Clone, Debug)]
struct Failure {
    error: String,
    attempts: u32,
    retry_at: Instant,
    failed_sources: BTreeSet<SledId>,
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
    /// When the question was asked; what arrived later stays.
    pub asked: Instant,
    /// The config has to be put first: this life of the agent is new to us, or follows another generation.
    pub put_config: bool,
    wanted: Generation,
    told: Option<(AgentEpoch, u64)>,
}

impl Default for Observed {
    fn default() -> Self {
        Observed { state: Arc::default(), changed: Arc::new(watch::Sender::new(0)) }
    }
}

impl Observed {
    /// Tells when something has changed.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Takes a heartbeat in; true if the sled has to be asked because of it.
    pub fn heard_from(&self, sled: SledId, epoch: AgentEpoch, revision: u64) -> bool {
        let mut state = self.lock();
        let observation = state.sleds.entry(sled).or_default();
        observation.heard = Some(Instant::now());
        observation.heard_at = Some(Timestamp::now());
        observation.told = Some((epoch, revision));
        let news = observation.seen != observation.told || observation.contact != Contact::Active;
        if news && !matches!(observation.contact, Contact::Refusing(_)) {
            // It lives: whatever kept it from answering may be over.
            observation.ask_again = None;
        }
        news && observation.ask_again.is_none() && !observation.asking
    }

    /// Marks a sled as being asked, if it has to be; `everything` asks also those whose answer still stands.
    pub fn begin_question(&self, sled: SledId, wanted: Generation, everything: bool) -> Option<Question> {
        let now = Instant::now();
        let mut state = self.lock();
        let observation = state.sleds.entry(sled).or_default();
        if observation.asking {
            return None;
        }
        let follows = observation.config_generation == Some(wanted);
        let stands =
            observation.contact == Contact::Active && follows && observation.seen == observation.told;
        // A sled that refused waits with the set that it refused; a new set it is told at once.
        let waits = observation.ask_again.is_some_and(|time| time > now)
            && observation.refused.is_none_or(|refused| refused == wanted);
        if waits || (stands && !everything) {
            return None;
        }
        observation.asking = true;
        let new_life = observation.seen.map(|(epoch, _)| epoch) != observation.told.map(|(epoch, _)| epoch);
        let put_config = !follows || new_life || observation.contact != Contact::Active;
        Some(Question { asked: now, put_config, wanted, told: observation.told })
    }

    /// Takes an answer in.
    pub fn end_question(&self, sled: SledId, question: Question, answer: Answer) {
        let now = Instant::now();
        let mut state = self.lock();
        let observation = state.sleds.entry(sled).or_default();
        observation.asking = false;
        match answer {
            Answer::Holds(list) => {
                observation.contact = Contact::Active;
                observation.refused = None;
                observation.config_generation = Some(list.generation);
                observation.observed_at = Some(Timestamp::now());
                observation.seen = question.told;
                observation.unanswered = 0;
                observation.ask_again = None;
                observation.arrived.retain(|_, (_, when)| *when >= question.asked);
                observation.holdings = Some(holdings_of(&list, &observation.arrived));
            }
            Answer::Refuses(reason) => {
                observation.observed_at = Some(Timestamp::now());
                observation.unanswered = 0;
                observation.ask_again = Some(now + BACKOFF_MAX);
                observation.refused = Some(question.wanted);
                observation.seen = question.told;
                observation.contact = Contact::Refusing(reason);
            }
            Answer::None(reason) => {
                observation.unanswered = observation.unanswered.saturating_add(1);
                observation.refused = None;
                observation.ask_again = Some(now + backoff(observation.unanswered));
                observation.contact = Contact::Unreachable(reason);
            }
        }
        drop(state);
        self.bump();
    }

    /// Forgets sleds that are no longer in service, and what concerns artifacts that nobody wants any more.
    pub fn forget_others(&self, sleds: &BTreeSet<SledId>, wanted: &BTreeSet<ArtifactHash>) {
        let mut state = self.lock();
        state.sleds.retain(|sled, _| sleds.contains(sled));
        state.failures.retain(|(sled, hash), _| sleds.contains(sled) && wanted.contains(hash));
        state.sent_to.retain(|hash, _| wanted.contains(hash));
    }

    /// What the planner is told about a sled.
    #[must_use]
    pub fn sled_view(&self, sled: SledId, wanted: Generation) -> SledView {
        let state = self.lock();
        let Some(observation) = state.sleds.get(&sled) else { return SledView::Unknown };
        let last = || observation.holdings.clone();
        match &observation.contact {
            Contact::Active if observation.config_generation == Some(wanted) => {
                last().map_or(SledView::Unknown, SledView::Ready)
            }
            Contact::Active | Contact::Unknown => SledView::Unknown,
            Contact::Unreachable(_) => SledView::Unreachable { last: last() },
            Contact::Refusing(_) => SledView::Refusing { last: last() },
        }
    }

    /// The transfers under way, as the planner counts them.
    #[must_use]
    pub fn in_flight(&self) -> Vec<Transfer> {
        let now = Instant::now();
        let state = self.lock();
        let transfer = |((target, hash), active): (&(SledId, ArtifactHash), &ActiveTransfer)| Transfer {
            hash: *hash,
            target: *target,
            how: active.how.clone(),
            lagging: active.is_lagging(now),
        };
        state.transfers.iter().map(transfer).collect()
    }

    /// Pairs that may not be tried yet, and the time at which the first of them may.
    #[must_use]
    pub fn backing_off(&self) -> (BTreeSet<(SledId, ArtifactHash)>, Option<Instant>) {
        let now = Instant::now();
        let state = self.lock();
        let waiting: Vec<_> = state.failures.iter().filter(|(_, failure)| failure.retry_at > now).collect();
        let next = waiting.iter().map(|(_, failure)| failure.retry_at).min();
        (waiting.into_iter().map(|(pair, _)| *pair).collect(), next)
    }

    /// When the first sled that did not answer may be asked again.
    #[must_use]
    pub fn next_question(&self) -> Option<Instant> {
        let state = self.lock();
        state
            .sleds
            .values()
            .filter(|observation| observation.contact != Contact::Active)
            .filter_map(|observation| observation.ask_again)
            .min()
    }

    /// By target and artifact, the sources that failed.
    #[must_use]
    pub fn failed_sources(&self) -> BTreeMap<(SledId, ArtifactHash), BTreeSet<SledId>> {
        let state = self.lock();
        let failures = state.failures.iter().filter(|(_, failure)| !failure.failed_sources.is_empty());
        failures.map(|(pair, failure)| (*pair, failure.failed_sources.clone())).collect()
    }

    /// By artifact, the sleds to which this coordinator has sent it.
    #[must_use]
    pub fn sent_to(&self) -> BTreeMap<ArtifactHash, BTreeSet<SledId>> {
        self.lock().sent_to.clone()
    }

    /// Records that a transfer starts; false if one of the same artifact to the same sled is under way.
    pub fn transfer_started(&self, target: SledId, hash: ArtifactHash, how: How, size: u64) -> bool {
        let mut state = self.lock();
        if state.transfers.contains_key(&(target, hash)) {
            return false;
        }
        let active = ActiveTransfer {
            how,
            size,
            bytes_done: 0,
            started_at: Timestamp::now(),
            started: Instant::now(),
        };
        state.transfers.insert((target, hash), active);
        true
    }

    /// Records how far a transfer is; never goes back.
    pub fn transfer_progress(&self, target: SledId, hash: ArtifactHash, bytes_done: u64) {
        if let Some(active) = self.lock().transfers.get_mut(&(target, hash)) {
            active.bytes_done = active.bytes_done.max(bytes_done);
        }
    }

    /// Records a transfer's end: copies that the sled holds now, or why it has none.
    pub fn transfer_ended(&self, target: SledId, hash: ArtifactHash, result: Result<u32, TransferFailure>) {
        let now = Instant::now();
        let mut state = self.lock();
        let Some(active) = state.transfers.remove(&(target, hash)) else { return };
        match result {
            Ok(copies) => {
                state.failures.remove(&(target, hash));
                if matches!(active.how, How::Put) {
                    state.sent_to.entry(hash).or_default().insert(target);
                }
                let observation = state.sleds.entry(target).or_default();
                observation.arrived.insert(hash, (copies, now));
                if let Some(holdings) = &mut observation.holdings {
                    holdings.copies.insert(hash, copies);
                }
            }
            Err(failure) => state.record_failure(target, hash, failure, now),
        }
        drop(state);
        self.bump();
    }

    /// Everything that is known about a sled.
    #[must_use]
    pub fn sled(&self, sled: SledId) -> SledObservation {
        self.lock().sleds.get(&sled).cloned().unwrap_or_default()
    }

    /// The transfers to a sled, and why the last try of others failed.
    #[must_use]
    pub fn towards(
        &self,
        sled: SledId,
    ) -> (BTreeMap<ArtifactHash, ActiveTransfer>, BTreeMap<ArtifactHash, String>) {
        let state = self.lock();
        let of_sled = |pair: &(SledId, ArtifactHash)| pair.0 == sled;
        let transfers = state.transfers.iter().filter(|(pair, _)| of_sled(pair));
        let failures = state.failures.iter().filter(|(pair, _)| of_sled(pair));
        (
            transfers.map(|((_, hash), active)| (*hash, active.clone())).collect(),
            failures.map(|((_, hash), failure)| (*hash, failure.error.clone())).collect(),
        )
    }

    /// Sleds that follow the wanted generation and hold at least one verified copy of each of these artifacts.
    #[must_use]
    pub fn holders_of_all(&self, hashes: &[ArtifactHash], wanted: Generation) -> Vec<SledId> {
        let state = self.lock();
        let holds_all = |observation: &SledObservation| {
            observation.contact == Contact::Active
                && observation.config_generation == Some(wanted)
                && observation.holdings.as_ref().is_some_and(|holdings| {
                    hashes.iter().all(|hash| holdings.copies.get(hash).is_some_and(|copies| *copies > 0))
                })
        };
        state.sleds.iter().filter(|(_, observation)| holds_all(observation)).map(|(sled, _)| *sled).collect()
    }

    fn bump(&self) {
        self.changed.send_modify(|version| *version += 1);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no method panics while it holds the state")
    }
}

/// Why a transfer brought nothing.
#[derive(Clone, Debug)]
pub struct TransferFailure {
    /// Why, in words.
    pub error: String,
    /// Sources that did not deliver.
    pub failed_sources: BTreeSet<SledId>,
    /// The target itself did not answer, or does not follow the config any more: it has to be asked.
    pub ask_target: bool,
}

impl State {
    fn record_failure(&mut self, target: SledId, hash: ArtifactHash, failure: TransferFailure, now: Instant) {
        let entry = self.failures.entry((target, hash)).or_insert_with(|| Failure {
            error: String::new(),
            attempts: 0,
            retry_at: now,
            failed_sources: BTreeSet::new(),
        });
        entry.attempts = entry.attempts.saturating_add(1);
        entry.retry_at = now + backoff(entry.attempts);
        entry.error = failure.error;
        entry.failed_sources.extend(failure.failed_sources);
        if failure.ask_target {
            // What was seen does not stand any more; `seen` differs from `told` from now on.
            self.sleds.entry(target).or_default().seen = None;
        }
    }
}

impl SledObservation {
    /// Whether a heartbeat came within the limit.
    #[must_use]
    pub fn is_online(&self) -> bool {
        self.heard.is_some_and(|heard| heard.elapsed() < HEARTBEAT_LIMIT)
    }
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

fn backoff(attempts: u32) -> Duration {
    BACKOFF_MIN.saturating_mul(1 << attempts.saturating_sub(1).min(16)).min(BACKOFF_MAX)
}
