//! What operators have said of sagas that nobody executes: given up, and why. Only a pass of recovery can do it, because only
//! there is it certain that nobody executes them.
//!
//! ```text
//!   give_up ──► said ──► a pass decides: ended as abandoned, gone on with, has ended or is not here ──► forgotten
//!                 ▲                   │
//!                 └───────────────────┘ not now: the store did not take it, the pass did not come to it
//! ```
//!
//! What was said stays until a pass has decided about that saga, also when nobody waits for it any more. It dies with the
//! process.

use ids::SagaId;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// What has been said and not been decided. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct GivenUp {
    said: Arc<Mutex<Said>>,
}

/// What a pass finds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// Which, and why.
    pub reasons: BTreeMap<SagaId, String>,
    /// Those of them that somebody has asked for since the last pass looked: they are tried now, whatever they waited for.
    pub asked_for: BTreeSet<SagaId>,
}

impl GivenUp {
    /// An operator gives a saga up, for this reason. What was said first stays.
    pub fn give_up(&self, id: SagaId, reason: &str) {
        let mut said = self.lock();
        said.reasons.entry(id).or_insert_with(|| reason.to_owned());
        said.asked_for.insert(id);
    }

    /// Whether a pass has yet to decide about this saga.
    #[must_use]
    pub fn is_undecided(&self, id: SagaId) -> bool {
        self.lock().reasons.contains_key(&id)
    }

    /// What was said, for a pass that begins. It has to tell what of it it has [decided](GivenUp::decided).
    #[must_use]
    pub fn said(&self) -> Said {
        let mut said = self.lock();
        Said { reasons: said.reasons.clone(), asked_for: std::mem::take(&mut said.asked_for) }
    }

    /// A pass has decided about these.
    pub fn decided(&self, ids: impl Iterator<Item = SagaId>) {
        let mut said = self.lock();
        for id in ids {
            said.reasons.remove(&id);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_first_stays_until_a_pass_has_decided() {
        let (given_up, id) = (GivenUp::default(), SagaId::generate());
        given_up.give_up(id, "it burned down");
        let first = given_up.said();
        given_up.give_up(id, "another one says so too");
        assert_eq!(first.reasons[&id], "it burned down");
        let second = given_up.said();
        assert_eq!((&second.reasons, second.asked_for.len()), (&first.reasons, 1));
        assert!(given_up.said().asked_for.is_empty(), "nobody has asked for it again");
        assert!(given_up.is_undecided(id));
        given_up.decided([id].into_iter());
        assert!(!given_up.is_undecided(id));
    }
}
