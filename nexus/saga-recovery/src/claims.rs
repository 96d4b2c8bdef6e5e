//! What is executed here: one claim for each saga that this process executes, may execute, or is about to resume.
//!
//! ```text
//!   plan ──► resuming ──► adopted ──► resumed ─┐
//!                 │          │                 ▼
//!                 └──────────┴─► failed     running ──► finished   its row has ended, durably
//!                                  │           ▲   ├──► gave up    it was never executed and never will be
//!                                  ▼           │   └──► fenced     another adoption has it; its executor has stopped
//!                                gone       Claims::claim, before the INSERT
//! ```
//!
//! A claim that is dropped without a word stays for the life of the process. That is the safe side: whoever held it has
//! panicked, and what the executor makes of it nobody knows. It shows in the totals as running, and as missing. To be resuming is not yet
//! to execute; that is given back when it is dropped.

use crate::{SagaKey, Totals};
use ids::{AdoptionEpoch, SagaId};
use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// The claims of this process. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Claims {
    state: Arc<Mutex<State>>,
}

/// Who asks to be the executor of a saga has one already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlreadyClaimed {
    /// The adoption that it is executed under.
    pub epoch: AdoptionEpoch,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    held: BTreeMap<SagaId, Held>,
    /// Claims given back while a listing is under way; none if none is.
    waiting: Option<Vec<(SagaKey, Ending)>>,
    totals: Totals,
}

#[derive(Clone, Copy, Debug)]
struct Held {
    epoch: AdoptionEpoch,
    resuming: bool,
    /// Nobody here executes it, and nobody will: whoever held the claim has lost it.
    is_lost: bool,
}

/// Why a claim is given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Finished,
    GaveUp,
    Fenced,
    NotResumed,
    PutOff,
}

/// One saga that this process executes.
#[derive(Debug)]
#[must_use = "a claim that is dropped is never given back"]
pub struct Claim {
    claims: Claims,
    key: SagaKey,
    is_over: bool,
}

/// One saga that this process is about to adopt. Dropped without a word, it has failed: a pass that is cut off resumes
/// nothing of what it has not come to.
#[derive(Debug)]
pub struct Resuming {
    claims: Claims,
    key: SagaKey,
    is_over: bool,
}

/// One saga whose row has, durably, an adoption epoch of this process's own: whatever was on its way to the log under an
/// earlier one is there by now, or never will be. So the log may be loaded, and executed on from where it ends. Dropped
/// without a word, it has failed, and the next pass adopts it again.
#[derive(Debug)]
pub struct Adopted {
    resuming: Resuming,
}

impl Claims {
    /// None.
    #[must_use]
    pub fn new() -> Claims {
        Claims::default()
    }

    /// Claims a saga that is about to be created. To be called before its row can exist.
    ///
    /// # Errors
    /// The saga has an executor here.
    pub fn claim(&self, key: SagaKey) -> Result<Claim, AlreadyClaimed> {
        let mut state = self.lock();
        state.hold(key, false)?;
        state.totals.started += 1;
        drop(state);
        Ok(Claim { claims: self.clone(), key, is_over: false })
    }

    /// The totals, of one instant: they add up.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let state = self.lock();
        let resuming = state.held.values().filter(|held| held.resuming).count() as u64;
        let running = state.held.len() as u64 - resuming;
        Totals { running, resuming, ..state.totals }
    }

    /// The sagas that are executed here, by id, with those that are being resumed.
    #[must_use]
    pub fn held(&self) -> Vec<SagaKey> {
        self.lock().held.iter().map(|(&id, held)| SagaKey { id, epoch: held.epoch }).collect()
    }

    /// The sagas that are claimed here and that their executors have lost, by id. Every pass skips them, until the process
    /// ends.
    #[must_use]
    pub fn lost(&self) -> Vec<SagaId> {
        self.lock().held.iter().filter(|(_, held)| held.is_lost).map(|(&id, _)| id).collect()
    }

    /// Whether it is one of [those](Claims::lost).
    #[must_use]
    pub fn is_lost(&self, id: SagaId) -> bool {
        self.lock().held.get(&id).is_some_and(|held| held.is_lost)
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing here panics half way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Claims a saga that a plan has found to be nobody's.
    pub(crate) fn resume(&self, key: SagaKey) -> Result<Resuming, AlreadyClaimed> {
        self.lock().hold(key, true)?;
        Ok(Resuming { claims: self.clone(), key, is_over: false })
    }

    fn give_back(&self, key: SagaKey, ending: Ending) {
        let mut state = self.lock();
        match &mut state.waiting {
            Some(waiting) => waiting.push((key, ending)),
            None => state.remove(key, ending),
        }
    }
}

impl State {
    /// Starts to keep what is given back.
    pub(crate) fn open(&mut self) {
        assert!(self.waiting.is_none(), "one pass at a time");
        self.waiting = Some(Vec::new());
    }

    /// Lets what was given back go.
    pub(crate) fn close(&mut self) {
        for (key, ending) in self.waiting.take().into_iter().flatten() {
            self.remove(key, ending);
        }
    }

    /// Under which adoption the saga is executed here.
    pub(crate) fn epoch_of(&self, id: SagaId) -> Option<AdoptionEpoch> {
        self.held.get(&id).map(|held| held.epoch)
    }

    fn hold(&mut self, key: SagaKey, resuming: bool) -> Result<(), AlreadyClaimed> {
        match self.held.entry(key.id) {
            Entry::Occupied(held) => Err(AlreadyClaimed { epoch: held.get().epoch }),
            Entry::Vacant(free) => {
                free.insert(Held { epoch: key.epoch, resuming, is_lost: false });
                Ok(())
            }
        }
    }

    fn lose(&mut self, id: SagaId) {
        if let Some(held) = self.held.get_mut(&id) {
            held.is_lost = true;
        }
    }

    fn remove(&mut self, key: SagaKey, ending: Ending) {
        let removed = self.held.remove(&key.id);
        assert!(
            removed.is_some_and(|held| held.epoch == key.epoch),
            "the claim on {key} is given back once, and nobody else can hold it meanwhile"
        );
        match ending {
            Ending::Finished => self.totals.finished += 1,
            Ending::GaveUp => self.totals.given_up += 1,
            Ending::Fenced => self.totals.fenced += 1,
            Ending::NotResumed => self.totals.failures += 1,
            Ending::PutOff => {}
        }
    }
}

impl Claim {
    /// Which saga.
    #[must_use]
    pub fn key(&self) -> SagaKey {
        self.key
    }

    /// Its row has ended, durably, and its executor has let go of it.
    pub fn finished(self) {
        self.give_back(Ending::Finished);
    }

    /// It was not created, as far as is known, and will never be executed under this claim. If its row appears all the
    /// same, it is nobody's, and is recovered.
    pub fn gave_up(self) {
        self.give_back(Ending::GaveUp);
    }

    /// Another coordinator has adopted it, and its executor here has stopped.
    pub fn fenced(self) {
        self.give_back(Ending::Fenced);
    }

    /// Its executor has stopped because the process ends; the next life resumes it. It stays claimed here.
    pub fn stopped(mut self) {
        self.is_over = true;
    }

    /// Its executor says something of it that cannot be: a defect. It stays claimed here, and its row unfinished.
    pub fn contradicted(mut self) {
        self.is_over = true;
        let mut state = self.claims.lock();
        state.totals.bad_state += 1;
        state.lose(self.key.id);
    }

    fn give_back(mut self, ending: Ending) {
        self.is_over = true;
        self.claims.give_back(self.key, ending);
    }
}

impl Drop for Claim {
    /// Whoever held it has panicked, or has lost its executor.
    fn drop(&mut self) {
        if !self.is_over {
            let mut state = self.claims.lock();
            state.totals.missing += 1;
            state.lose(self.key.id);
        }
    }
}

impl Resuming {
    /// Which saga, and the adoption under which it was listed.
    #[must_use]
    pub fn key(&self) -> SagaKey {
        self.key
    }

    /// Its row has moved, durably, from the epoch of [`key`](Resuming::key) to this one.
    ///
    /// # Panics
    /// If the epoch has not grown: then nothing was adopted.
    pub fn adopted(mut self, epoch: AdoptionEpoch) -> Adopted {
        assert!(epoch > self.key.epoch, "an adoption of {} has the epoch {epoch}", self.key);
        if let Some(held) = self.claims.lock().held.get_mut(&self.key.id) {
            held.epoch = epoch;
        }
        self.key.epoch = epoch;
        Adopted { resuming: self }
    }

    /// It could not be adopted, and nothing of it is executed.
    pub fn failed(self) {
        drop(self);
    }

    /// It was not tried: a later pass does.
    pub fn put_off(mut self) {
        self.is_over = true;
        self.claims.give_back(self.key, Ending::PutOff);
    }
}

impl Adopted {
    /// Which saga, and its new adoption.
    #[must_use]
    pub fn key(&self) -> SagaKey {
        self.resuming.key
    }

    /// Its log is loaded, and from now on it is executed. To be said before its first step.
    pub fn resumed(self) -> Claim {
        let mut resuming = self.resuming;
        resuming.is_over = true;
        let mut state = resuming.claims.lock();
        if let Some(held) = state.held.get_mut(&resuming.key.id) {
            held.resuming = false;
        }
        state.totals.recovered += 1;
        drop(state);
        Claim { claims: resuming.claims.clone(), key: resuming.key, is_over: false }
    }

    /// It could not be resumed, and nothing of it is executed.
    pub fn failed(self) {
        drop(self);
    }
}

impl Drop for Resuming {
    fn drop(&mut self) {
        if !self.is_over {
            self.claims.give_back(self.key, Ending::NotResumed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> SagaKey {
        SagaKey { id: SagaId::generate(), epoch: AdoptionEpoch(1) }
    }

    #[test]
    fn a_claim_that_is_dropped_stays_and_is_missing() {
        let claims = Claims::new();
        let (lost, wrong, left) = (key(), key(), key());
        drop(claims.claim(lost));
        claims.claim(wrong).unwrap().contradicted();
        claims.claim(left).unwrap().stopped();
        let totals = claims.totals();
        assert_eq!((totals.running, totals.missing, totals.bad_state), (3, 1, 1));
        let mut both = [lost.id, wrong.id];
        both.sort();
        assert_eq!(claims.lost(), both);
        assert!(claims.is_lost(lost.id) && !claims.is_lost(left.id));
        assert!(totals.add_up());
        assert_eq!(claims.claim(lost).unwrap_err().epoch, lost.epoch);
    }

    #[test]
    fn a_resuming_that_is_dropped_is_given_back() {
        let claims = Claims::new();
        let cut_off = key();
        drop(claims.resume(cut_off));
        claims.resume(cut_off).unwrap().put_off();
        assert_eq!((claims.totals().failures, claims.held().len()), (1, 0), "that is no failure");
        drop(claims.resume(cut_off).unwrap().adopted(AdoptionEpoch(2)));
        assert_eq!((claims.totals().failures, claims.held().len()), (2, 0));
        let adopted = claims.resume(cut_off).unwrap().adopted(AdoptionEpoch(3));
        assert_eq!(claims.held(), [SagaKey { epoch: AdoptionEpoch(3), ..cut_off }]);
        adopted.resumed().finished();
        let totals = claims.totals();
        assert_eq!((totals.recovered, totals.finished, totals.missing), (1, 1, 0));
    }

    #[test]
    #[should_panic(expected = "has the epoch")]
    fn an_adoption_that_raises_no_epoch_is_none() {
        let claims = Claims::new();
        let _ = claims.resume(key()).unwrap().adopted(AdoptionEpoch(1));
    }
}
