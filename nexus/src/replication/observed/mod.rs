//! What is known about sleds and transfers: the one owner of it.
//!
//! - [`sled`]: one sled: what it said last, and whether that still stands. [`disks`]: its M.2s. [`transfer`]: one
//!   transfer. [`refusals`]: registrations that were refused.
//! - [`state`](self): all of them, and how they change. [`clock`]: instants as times for people.
//! - [`under_way`]: questions and transfers that have begun, each of which ends even if its task is cut off.
//!
//! [`Observed`] is the handle: it locks, tells the time, and wakes those who wait for a change. Its methods are
//! synchronous, short, and never call out. All below it is told the time and reads no clock. It also keeps the last
//! plan, so that what operators are shown is what was decided. A crash of the coordinator forgets everything; the next
//! life asks.

pub mod clock;
pub mod disks;
mod refusals;
mod sled;
mod state;
mod transfer;
mod under_way;

pub use clock::Clock;
pub use refusals::{CLONE_HINT, Refusal, Refused, Refusing};
pub use sled::{Answer, Contact, HEARTBEAT_LIMIT, Question, SledObservation};
pub use transfer::{ActiveTransfer, TransferFailure};
pub use under_way::{Asking, Transferring};

use ids::{AgentEpoch, ArtifactHash, Generation, SledId};
use nexus_client::sleds::{M2, SledLiveness};
use nexus_replication::{How, Plan, SledView, Transfer};
use state::State;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard},
    time::Instant,
};
use tokio::sync::watch;

/// What is known about sleds and transfers. Cheap to clone; every clone speaks of the same.
#[derive(Clone, Debug)]
pub struct Observed {
    state: Arc<Mutex<State>>,
    changed: Arc<watch::Sender<u64>>,
    plan: Arc<watch::Sender<Option<Arc<Plan>>>>,
    listening_since: Instant,
}

impl Default for Observed {
    fn default() -> Self {
        Observed {
            state: Arc::default(),
            changed: Arc::new(watch::Sender::new(0)),
            plan: Arc::new(watch::Sender::new(None)),
            listening_since: Instant::now(),
        }
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
        self.lock().sled_mut(sled).heard(epoch, revision, Instant::now())
    }

    /// Takes note of a registration that was refused.
    pub fn registration_refused(&self, refusal: Refusal) {
        self.lock().refusals.refused(refusal, Instant::now());
    }

    /// Takes note of a registration, or a heartbeat, that was taken from a sled at this address.
    pub fn registration_accepted(&self, sled: SledId, peer: IpAddr) {
        self.lock().refusals.accepted(sled, peer);
    }

    /// Registrations that were refused lately, in the order of sleds.
    #[must_use]
    pub fn refusals(&self) -> Vec<Refusing> {
        self.lock().refusals.all(Instant::now())
    }

    /// Marks a sled as being asked, if it has to be; `everything` asks also those whose answer still stands.
    pub fn begin_question(&self, sled: SledId, wanted: Generation, everything: bool) -> Option<Asking> {
        let question = self.lock().sled_mut(sled).begin_question(wanted, everything, Instant::now())?;
        Some(Asking::new(self.clone(), sled, question))
    }

    /// Notes that there is reason to ask a sled again.
    pub fn doubt(&self, sled: SledId) {
        self.lock().doubt(sled, Instant::now());
    }

    /// Makes a pass's decisions known.
    pub fn publish_plan(&self, plan: Arc<Plan>) {
        self.plan.send_replace(Some(plan));
    }

    /// What the last pass decided, if it was for this generation.
    #[must_use]
    pub fn plan(&self, wanted: Generation) -> Option<Arc<Plan>> {
        self.plan.borrow().clone().filter(|plan| plan.generation == wanted)
    }

    /// Forgets sleds that are no longer in service, and what concerns artifacts that nobody wants any more.
    pub fn forget_others(&self, sleds: &BTreeSet<SledId>, wanted: &BTreeSet<ArtifactHash>) {
        self.lock().forget_others(sleds, wanted);
    }

    /// What the planner is told about a sled.
    #[must_use]
    pub fn sled_view(&self, sled: SledId, wanted: Generation) -> SledView {
        let state = self.lock();
        state.sleds.get(&sled).map_or(SledView::Unknown, |sled| sled.view(wanted, Instant::now()))
    }

    /// Whether nothing was heard of a sled for so long that it counts as unreachable.
    #[must_use]
    pub fn is_silent(&self, sled: SledId) -> bool {
        self.lock().sleds.get(&sled).is_none_or(|sled| sled.is_silent(Instant::now()))
    }

    /// The transfers under way, as the planner counts them.
    #[must_use]
    pub fn in_flight(&self) -> Vec<Transfer> {
        self.lock().in_flight(Instant::now())
    }

    /// Pairs that may not be tried yet.
    #[must_use]
    pub fn backing_off(&self) -> BTreeSet<(SledId, ArtifactHash)> {
        self.lock().backing_off(Instant::now())
    }

    /// When there is something to do even if nothing happens: a back-off ends, a sled has to be asked, a transfer lags.
    /// In the past if it is due already.
    #[must_use]
    pub fn next_event(&self) -> Option<Instant> {
        self.lock().next_event(Instant::now())
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

    /// Records that a transfer starts; none if one of the same artifact to the same sled is under way.
    pub fn begin_transfer(
        &self,
        target: SledId,
        hash: ArtifactHash,
        how: How,
        size: u64,
    ) -> Option<Transferring> {
        let started = self.lock().transfer_started((target, hash), how, size, Instant::now());
        started.then(|| Transferring::new(self.clone(), target, hash))
    }

    /// Records how far a transfer is; never goes back.
    pub fn transfer_progress(&self, target: SledId, hash: ArtifactHash, bytes_done: u64) {
        if let Some(active) = self.lock().transfers.get_mut(&(target, hash)) {
            active.bytes_done = active.bytes_done.max(bytes_done);
        }
    }

    fn transfer_ended(&self, target: SledId, hash: ArtifactHash, result: Result<u32, TransferFailure>) {
        self.lock().transfer_ended((target, hash), result, Instant::now());
        self.bump();
    }

    fn question_ended(&self, sled: SledId, question: Question, answer: Answer) {
        self.lock().end_question(sled, question, answer, Instant::now());
        self.bump();
    }

    fn question_abandoned(&self, sled: SledId) {
        self.lock().abandon_question(sled);
        self.bump();
    }

    /// Everything that is known about a sled.
    #[must_use]
    pub fn sled(&self, sled: SledId) -> SledObservation {
        self.lock().sleds.get(&sled).cloned().unwrap_or_default()
    }

    /// Whether a sled has been heard of lately.
    #[must_use]
    pub fn liveness(&self, sled: SledId) -> SledLiveness {
        let now = Instant::now();
        let state = self.lock();
        let known = state.sleds.get(&sled);
        known.map_or_else(
            || SledObservation::default().liveness(self.listening_since, now),
            |sled| sled.liveness(self.listening_since, now),
        )
    }

    /// A sled's M.2s, as it said last.
    #[must_use]
    pub fn m2s(&self, sled: SledId) -> Vec<M2> {
        self.lock().sleds.get(&sled).map(|sled| sled.disks.m2s.clone()).unwrap_or_default()
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

    /// Sleds that take part, follow the wanted generation and hold at least one verified copy of each of these
    /// artifacts.
    #[must_use]
    pub fn holders_of_all(&self, hashes: &[ArtifactHash], wanted: Generation) -> Vec<SledId> {
        let now = Instant::now();
        let state = self.lock();
        let holders = state.sleds.iter().filter(|(_, sled)| sled.holds_all(hashes, wanted, now));
        holders.map(|(id, _)| *id).collect()
    }

    fn bump(&self) {
        self.changed.send_modify(|version| *version += 1);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no method panics while it holds the state")
    }
}
