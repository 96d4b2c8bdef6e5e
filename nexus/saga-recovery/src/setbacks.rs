//! When a saga that could not be resumed is tried again: after a second, then after twice as long each time, up to a
//! minute. No number of failures ends it: what cannot be resumed today may be resumed once its cause is mended, and
//! giving a saga up is a person's decision.

use crate::{Deferral, Plan};
use ids::SagaId;
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// After the first failure.
const FIRST_PAUSE: SignedDuration = SignedDuration::from_secs(1);

/// After many.
const PAUSE_MAX: SignedDuration = SignedDuration::from_secs(60);

/// What has failed, and when to try again.
#[derive(Clone, Debug, Default)]
pub struct Setbacks {
    of: BTreeMap<SagaId, Setback>,
}

#[derive(Clone, Copy, Debug)]
struct Setback {
    failures: u32,
    until: Timestamp,
}

impl Setbacks {
    /// Notes a failure.
    pub fn failed(&mut self, id: SagaId, now: Timestamp) {
        let failures = self.of.get(&id).map_or(0, |setback| setback.failures).saturating_add(1);
        let doublings = (failures - 1).min(PAUSE_MAX.as_secs().ilog2() + 1);
        let pause = (FIRST_PAUSE * 2i32.pow(doublings)).min(PAUSE_MAX);
        let until = now.saturating_add(pause).expect("a duration that is not zoned");
        self.of.insert(id, Setback { failures, until });
    }

    /// Forgets a saga that was resumed, or that is to be tried at once; whether it had failed before.
    pub fn forget(&mut self, id: SagaId) -> bool {
        self.of.remove(&id).is_some()
    }

    /// Forgets all but what this plan tries, or puts off and will try: the rest has ended, is executed, is another
    /// coordinator's or waits for a version. No pause brings any of that nearer.
    pub fn keep_only(&mut self, plan: &Plan) {
        let put_off = plan.deferred.iter().filter(|(_, why)| *why != Deferral::EarlierAdoptionRuns);
        let tried: BTreeSet<SagaId> = plan.resume.iter().map(|(saga, _)| saga.key.id).collect();
        let tried = &tried | &put_off.map(|(key, _)| key.id).collect();
        self.of.retain(|id, _| tried.contains(id));
    }

    /// Until when the saga is not to be tried again; none if it may be tried now.
    #[must_use]
    pub fn until(&self, id: SagaId, now: Timestamp) -> Option<Timestamp> {
        self.of.get(&id).map(|setback| setback.until).filter(|&until| until > now)
    }

    /// When the first of those that were not to be tried at this time may be tried again. To be asked for the time of the
    /// last plan: whatever could have been tried then was, and is no reason for another pass.
    #[must_use]
    pub fn next(&self, planned: Timestamp) -> Option<Timestamp> {
        self.of.values().map(|setback| setback.until).filter(|&until| until > planned).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Claims, PlanRules, SagaKey, UnfinishedSaga, Window};
    use ids::AdoptionEpoch;
    use std::{
        pin::pin,
        task::{Context, Poll, Waker},
    };
    use uuid::Uuid;

    const SAGA: SagaId = SagaId(Uuid::from_u128(1));
    const START: Timestamp = Timestamp::UNIX_EPOCH;

    fn second(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// A plan of a listing of these, of which all are of a known version or none.
    fn plan(
        claims: &Claims,
        setbacks: &Setbacks,
        listed: &[SagaId],
        is_capable: bool,
        now: Timestamp,
    ) -> Plan {
        let epoch = AdoptionEpoch(2);
        let saga = |id| UnfinishedSaga { key: SagaKey { id, epoch }, kind: "demo".to_owned(), version: 1 };
        let sagas: Vec<_> = listed.iter().copied().map(saga).collect();
        let listing = pin!(Window::open(claims).list(async || Ok::<_, ()>(sagas)));
        let Poll::Ready(Ok(listed)) = listing.poll(&mut Context::from_waker(Waker::noop())) else {
            panic!("nothing is waited for")
        };
        listed.plan(&PlanRules { is_capable: &|_| is_capable, setbacks, resumed_max: 10, now })
    }

    #[test]
    fn pauses_double_up_to_a_minute_and_start_again_after_a_success() {
        let mut setbacks = Setbacks::default();
        let mut pauses = Vec::new();
        for _ in 0..40 {
            setbacks.failed(SAGA, START);
            let until = setbacks.until(SAGA, START).expect("it has just failed");
            pauses.push(until.as_second());
            assert_eq!(setbacks.until(SAGA, until), None, "the pause is over at its end");
        }
        assert_eq!(pauses[..8], [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(pauses.last(), Some(&60));
        assert!(setbacks.forget(SAGA) && !setbacks.forget(SAGA));
        assert_eq!(setbacks.next(START), None);
        setbacks.failed(SAGA, START);
        assert_eq!(setbacks.next(START), Some(second(1)));
    }

    #[test]
    fn what_could_have_been_tried_in_the_last_plan_asks_for_no_other_pass() {
        let mut setbacks = Setbacks::default();
        setbacks.failed(SAGA, START);
        setbacks.failed(SagaId(Uuid::from_u128(2)), second(10));
        assert_eq!(setbacks.next(START), Some(second(1)));
        assert_eq!(setbacks.next(second(1)), Some(second(11)));
        assert_eq!(setbacks.next(second(11)), None);
    }

    #[test]
    fn what_is_not_to_be_tried_any_more_is_forgotten() {
        let failed_once = || {
            let mut setbacks = Setbacks::default();
            setbacks.failed(SAGA, START);
            setbacks
        };
        let kept = |claims: &Claims, listed: &[SagaId], is_capable, now| {
            let mut setbacks = failed_once();
            let plan = plan(claims, &setbacks, listed, is_capable, now);
            setbacks.keep_only(&plan);
            setbacks.forget(SAGA)
        };
        let free = Claims::new();
        assert!(kept(&free, &[SAGA], true, START), "it is put off");
        assert!(kept(&free, &[SAGA], true, second(1)), "it is tried, and may fail again");
        assert!(!kept(&free, &[], true, START), "it is not listed");
        assert!(!kept(&free, &[SAGA], false, second(1)), "it waits for a version");
        for epoch in [1, 2] {
            let claims = Claims::new();
            let _running = claims.claim(SagaKey { id: SAGA, epoch: AdoptionEpoch(epoch) }).unwrap();
            assert!(!kept(&claims, &[SAGA], true, second(1)), "it has an executor, of adoption {epoch}");
        }
    }
}
