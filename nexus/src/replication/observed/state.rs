//! Everything that is known, and how it changes. Pure: time is told by the caller.

use super::{
    refusals::Refusals,
    sled::{Answer, Question, SledObservation, Standing, backoff},
    transfer::{ActiveTransfer, Failure, TransferFailure},
};
use ids::{ArtifactHash, SledId};
use nexus_replication::{How, Transfer};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

/// A target and what it should get.
pub(super) type Pair = (SledId, ArtifactHash);

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) sleds: BTreeMap<SledId, SledObservation>,
    pub(super) transfers: BTreeMap<Pair, ActiveTransfer>,
    pub(super) failures: BTreeMap<Pair, Failure>,
    pub(super) sent_to: BTreeMap<ArtifactHash, BTreeSet<SledId>>,
    pub(super) refusals: Refusals,
}

impl State {
    /// The sled, also if nothing was known of it: for a heartbeat, and for a question to a sled in service. Whatever comes
    /// later (an answer, the end of a transfer) must not bring back a sled that was forgotten in between.
    pub(super) fn sled_mut(&mut self, sled: SledId) -> &mut SledObservation {
        self.sleds.entry(sled).or_default()
    }

    pub(super) fn end_question(&mut self, sled: SledId, question: Question, answer: Answer, now: Instant) {
        let Some(observation) = self.sleds.get_mut(&sled) else { return };
        if observation.end_question(question, answer, now) == Standing::Recovered {
            self.forgive(sled, now);
        }
    }

    pub(super) fn abandon_question(&mut self, sled: SledId) {
        if let Some(observation) = self.sleds.get_mut(&sled) {
            observation.abandon_question();
        }
    }

    pub(super) fn doubt(&mut self, sled: SledId, now: Instant) {
        if let Some(observation) = self.sleds.get_mut(&sled) {
            observation.doubt(now);
        }
    }

    /// A sled is back: what failed because of it, towards it or from it, need not wait any longer.
    fn forgive(&mut self, sled: SledId, now: Instant) {
        for ((target, _), failure) in &mut self.failures {
            if failure.failed_sources.remove(&sled) || *target == sled {
                failure.attempts = 0;
                failure.retry_at = now;
            }
        }
    }

    pub(super) fn forget_others(&mut self, sleds: &BTreeSet<SledId>, wanted: &BTreeSet<ArtifactHash>) {
        self.sleds.retain(|sled, _| sleds.contains(sled));
        self.failures.retain(|(sled, hash), _| sleds.contains(sled) && wanted.contains(hash));
        self.sent_to.retain(|hash, _| wanted.contains(hash));
    }

    pub(super) fn transfer_started(&mut self, pair: Pair, how: How, size: u64, now: Instant) -> bool {
        if self.transfers.contains_key(&pair) {
            return false;
        }
        self.transfers.insert(pair, ActiveTransfer::new(how, size, now));
        true
    }

    pub(super) fn transfer_ended(&mut self, pair: Pair, result: Result<u32, TransferFailure>, now: Instant) {
        let Some(active) = self.transfers.remove(&pair) else { return };
        let (target, hash) = pair;
        match result {
            Ok(copies) => {
                self.failures.remove(&pair);
                if matches!(active.how, How::Put) {
                    self.sent_to.entry(hash).or_default().insert(target);
                }
                if let Some(observation) = self.sleds.get_mut(&target) {
                    observation.arrived(hash, copies, now);
                }
            }
            Err(failure) => self.record_failure(pair, failure, now),
        }
    }

    fn record_failure(&mut self, pair: Pair, failure: TransferFailure, now: Instant) {
        // A source that did not deliver has to be asked as well: it may be dead, or not have the artifact any more.
        for source in &failure.failed_sources {
            self.doubt(*source, now);
        }
        if failure.ask_target {
            self.doubt(pair.0, now);
        }
        let entry = self.failures.entry(pair).or_insert_with(|| Failure {
            error: String::new(),
            attempts: 0,
            retry_at: now,
            failed_sources: BTreeSet::new(),
        });
        entry.attempts = entry.attempts.saturating_add(1);
        entry.retry_at = now + backoff(entry.attempts);
        entry.error = failure.error;
        entry.failed_sources.extend(failure.failed_sources);
    }

    pub(super) fn in_flight(&self, now: Instant) -> Vec<Transfer> {
        let transfer = |((target, hash), active): (&Pair, &ActiveTransfer)| Transfer {
            hash: *hash,
            target: *target,
            how: active.how.clone(),
            lagging: active.lags_from() <= now,
        };
        self.transfers.iter().map(transfer).collect()
    }

    pub(super) fn backing_off(&self, now: Instant) -> BTreeSet<Pair> {
        let waiting = self.failures.iter().filter(|(_, failure)| failure.retry_at > now);
        waiting.map(|(pair, _)| *pair).collect()
    }

    /// When there is something to do after `now` even if nothing happens; in the past if it is due already.
    pub(super) fn next_event(&self, now: Instant) -> Option<Instant> {
        let questions = self.sleds.values().filter_map(SledObservation::ask_at);
        let retries = self.failures.values().map(|failure| failure.retry_at).filter(|time| *time > now);
        let lags = self.transfers.values().map(ActiveTransfer::lags_from).filter(|time| *time > now);
        questions.chain(retries).chain(lags).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replication::observed::{Contact, HEARTBEAT_LIMIT};
    use ids::{AgentEpoch, Generation};
    use nexus_client::sleds::SledLiveness;
    use nexus_replication::SledView;
    use sled_client::artifacts::{ArtifactsList, DatasetHealth, DatasetStatus, ScrubStatus};
    use std::time::Duration;

    const HASH: ArtifactHash = ArtifactHash([1; 32]);
    const WANTED: Generation = Generation(7);
    const SECOND: Duration = Duration::from_secs(1);

    fn holds(health: [DatasetHealth; 2]) -> Answer {
        let dataset = |health| DatasetStatus {
            name: String::new(),
            dir: String::new(),
            capacity: 0,
            used: 0,
            health,
            reason: None,
            since: None,
        };
        Answer::Holds(ArtifactsList {
            generation: WANTED,
            list: BTreeMap::new(),
            datasets: health.map(dataset).into(),
            orphan_bytes: 0,
            trash_bytes: 0,
            unverified: 0,
            quarantined: Vec::new(),
            scrub: ScrubStatus::default(),
        })
    }

    fn sound() -> Answer {
        holds([DatasetHealth::Healthy; 2])
    }

    fn heard(state: &mut State, sled: SledId, epoch: u64, now: Instant) -> bool {
        state.sled_mut(sled).heard(AgentEpoch(epoch), 0, now)
    }

    fn asked(state: &mut State, sled: SledId, now: Instant) -> Option<Question> {
        state.sled_mut(sled).begin_question(WANTED, false, now)
    }

    fn answers(state: &mut State, sled: SledId, answer: Answer, now: Instant) {
        let question = asked(state, sled, now).expect("it has to be asked");
        state.end_question(sled, question, answer, now);
    }

    /// A sled that has registered and answered.
    fn active(state: &mut State, now: Instant) -> SledId {
        let sled = SledId::generate();
        assert!(heard(state, sled, 1, now));
        answers(state, sled, sound(), now);
        sled
    }

    fn fails(state: &mut State, target: SledId, sources: &[SledId], now: Instant) {
        assert!(state.transfer_started((target, HASH), How::Copy { sources: sources.into() }, 1, now));
        let failure = TransferFailure {
            error: "it broke".to_owned(),
            failed_sources: sources.iter().copied().collect(),
            ask_target: true,
        };
        state.transfer_ended((target, HASH), Err(failure), now);
    }

    fn contact(state: &State, sled: SledId, now: Instant) -> Contact {
        state.sleds[&sled].contact(now)
    }

    #[test]
    fn a_sled_that_falls_silent_is_unreachable_at_once_and_asked() {
        let (mut state, start) = (State::default(), Instant::now());
        let sled = active(&mut state, start);
        assert_eq!(asked(&mut state, sled, start), None, "its answer stands");
        assert_eq!(state.next_event(start), Some(start + HEARTBEAT_LIMIT));
        let almost = start + HEARTBEAT_LIMIT - SECOND;
        assert!(!heard(&mut state, sled, 1, almost), "there is nothing new");
        let late = almost + HEARTBEAT_LIMIT;
        assert_eq!(contact(&state, sled, late - SECOND), Contact::Active);
        assert!(matches!(contact(&state, sled, late), Contact::Unreachable(_)));
        assert!(matches!(state.sleds[&sled].view(WANTED, late), SledView::Unreachable { last: Some(_) }));
        assert!(!state.sleds[&sled].holds_all(&[], WANTED, late));
        let question = asked(&mut state, sled, late).expect("it has to be asked");
        assert!(!question.expected, "nobody should wait for it");
        state.end_question(sled, question, sound(), late);
        assert_eq!(contact(&state, sled, late), Contact::Active);
    }

    #[test]
    fn a_sled_that_is_being_asked_wakes_nobody_until_it_has_answered_or_not() {
        let (mut state, start) = (State::default(), Instant::now());
        let sled = active(&mut state, start);
        let late = start + HEARTBEAT_LIMIT;
        let question = asked(&mut state, sled, late).unwrap();
        assert_eq!(state.next_event(late), None);
        assert_eq!(asked(&mut state, sled, late), None, "one question at a time");
        state.end_question(sled, question, Answer::None("silence".to_owned()), late + 5 * SECOND);
        let again = state.next_event(late).expect("it is asked again");
        assert!(again > late + 5 * SECOND);
        let question = asked(&mut state, sled, again).unwrap();
        assert_eq!(state.next_event(again), None, "a time that has passed would wake the task over and over");
        state.end_question(sled, question, Answer::None("silence".to_owned()), again);
        assert!(state.next_event(again).unwrap() - again > again - (late + 5 * SECOND), "the waits grow");
    }

    #[test]
    fn an_unreachable_sled_is_asked_as_soon_as_it_is_heard() {
        let (mut state, start) = (State::default(), Instant::now());
        let sled = active(&mut state, start);
        let late = start + HEARTBEAT_LIMIT;
        answers(&mut state, sled, Answer::None("silence".to_owned()), late);
        assert_eq!(asked(&mut state, sled, late), None);
        assert!(heard(&mut state, sled, 1, late));
        assert!(asked(&mut state, sled, late).is_some());
    }

    #[test]
    fn a_sled_that_refused_is_left_alone_until_it_has_something_new_to_say() {
        let (mut state, start) = (State::default(), Instant::now());
        let sled = SledId::generate();
        assert!(heard(&mut state, sled, 1, start));
        answers(&mut state, sled, Answer::Refuses("another cluster".to_owned()), start);
        let later = start + 2 * SECOND;
        assert!(!heard(&mut state, sled, 1, later), "it lives on, and refuses as before");
        assert_eq!(asked(&mut state, sled, later), None);
        assert!(
            state.sled_mut(sled).begin_question(Generation(8), false, later).is_some(),
            "a new set it is told"
        );
        let mut state = State::default();
        assert!(heard(&mut state, sled, 1, start));
        answers(&mut state, sled, Answer::Refuses("another cluster".to_owned()), start);
        assert!(heard(&mut state, sled, 2, later), "it was restarted");
        assert!(asked(&mut state, sled, later).unwrap().put_config);
    }

    #[test]
    fn a_source_that_failed_is_asked_and_when_it_returns_its_targets_wait_no_longer() {
        let (mut state, start) = (State::default(), Instant::now());
        let (source, target) = (active(&mut state, start), active(&mut state, start));
        for _ in 0..5 {
            fails(&mut state, target, &[source], start);
        }
        answers(&mut state, source, Answer::None("connection refused".to_owned()), start);
        answers(&mut state, target, sound(), start);
        assert!(
            state.backing_off(start + 5 * SECOND).contains(&(target, HASH)),
            "the target's answer forgives nothing"
        );
        assert!(heard(&mut state, source, 2, start));
        answers(&mut state, source, sound(), start);
        assert!(state.backing_off(start).is_empty());
        assert!(state.failures[&(target, HASH)].failed_sources.is_empty());
    }

    #[test]
    fn a_target_that_answers_and_fails_again_backs_off_for_longer_each_time() {
        let (mut state, start) = (State::default(), Instant::now());
        let target = active(&mut state, start);
        let mut waits = Vec::new();
        for _ in 0..10 {
            fails(&mut state, target, &[], start);
            answers(&mut state, target, sound(), start);
            waits.push(state.failures[&(target, HASH)].retry_at - start);
        }
        assert!(waits.is_sorted() && waits[0] < SECOND && waits[9] == 60 * SECOND, "{waits:?}");
    }

    #[test]
    fn a_target_whose_disk_is_back_is_tried_at_once() {
        let (mut state, start) = (State::default(), Instant::now());
        let target = active(&mut state, start);
        fails(&mut state, target, &[], start);
        let failed = DatasetHealth::Failed;
        answers(&mut state, target, holds([failed, failed]), start);
        assert!(!state.backing_off(start).is_empty());
        state.sled_mut(target).heard(AgentEpoch(1), 1, start);
        answers(&mut state, target, holds([failed, DatasetHealth::Healthy]), start);
        assert!(state.backing_off(start).is_empty());
    }

    #[test]
    fn a_doubt_that_comes_up_while_the_sled_is_asked_is_not_answered_by_that() {
        let (mut state, start) = (State::default(), Instant::now());
        let sled = active(&mut state, start);
        state.sled_mut(sled).doubt(start);
        let question = asked(&mut state, sled, start).expect("there is a doubt");
        state.sled_mut(sled).doubt(start + SECOND);
        state.end_question(sled, question, sound(), start + SECOND);
        answers(&mut state, sled, sound(), start + SECOND);
        assert_eq!(asked(&mut state, sled, start + SECOND), None);
    }

    #[test]
    fn a_copy_that_arrives_while_its_sled_is_asked_is_not_forgotten() {
        let (mut state, start) = (State::default(), Instant::now());
        let sled = active(&mut state, start);
        state.transfer_started((sled, HASH), How::Put, 1, start);
        state.sled_mut(sled).doubt(start);
        let question = asked(&mut state, sled, start).unwrap();
        state.transfer_ended((sled, HASH), Ok(2), start + SECOND);
        state.end_question(sled, question, sound(), start + SECOND);
        assert!(state.sleds[&sled].holds_all(&[HASH], WANTED, start + SECOND));
        state.sled_mut(sled).doubt(start + 2 * SECOND);
        answers(&mut state, sled, sound(), start + 2 * SECOND);
        assert!(
            !state.sleds[&sled].holds_all(&[HASH], WANTED, start + 2 * SECOND),
            "it was asked after the arrival"
        );
    }

    #[test]
    fn silence_means_nothing_until_a_heartbeat_had_time_to_come() {
        let (mut state, start) = (State::default(), Instant::now());
        let (silent, alive) = (SledId::generate(), SledId::generate());
        state.sled_mut(silent);
        heard(&mut state, alive, 1, start);
        let liveness = |sled, now| state.sleds[&sled].liveness(start, now);
        assert_eq!(liveness(silent, start + HEARTBEAT_LIMIT - SECOND), SledLiveness::Unknown);
        assert_eq!(liveness(silent, start + HEARTBEAT_LIMIT), SledLiveness::Offline);
        assert_eq!(liveness(alive, start + SECOND), SledLiveness::Online);
        assert_eq!(liveness(alive, start + HEARTBEAT_LIMIT), SledLiveness::Offline);
    }

    #[test]
    fn a_sled_that_scrubs_is_asked_how_far_it_is_until_it_has_ended() {
        let (mut state, start) = (State::default(), Instant::now());
        let sled = active(&mut state, start);
        let scrubs = |running| {
            let Answer::Holds(mut list) = sound() else { unreachable!("a sound sled holds") };
            list.scrub.running = running;
            Answer::Holds(list)
        };
        state.doubt(sled, start);
        answers(&mut state, sled, scrubs(true), start);
        assert_eq!(asked(&mut state, sled, start), None, "it has just answered");
        let (mut now, before) = (start, start + 4 * SECOND);
        while now < before {
            now += SECOND;
            heard(&mut state, sled, 1, now);
            assert_eq!(asked(&mut state, sled, now), None, "not that often");
        }
        let due = state.next_event(now).expect("it is asked again");
        assert!(due > now && due - now <= SECOND, "although its heartbeats have no news");
        now = due;
        answers(&mut state, sled, scrubs(false), now);
        assert!(!state.sleds[&sled].disks.scrub.running);
        assert_eq!(asked(&mut state, sled, now), None);
    }

    #[test]
    fn a_transfer_that_lags_wakes_the_task_once() {
        let (mut state, start) = (State::default(), Instant::now());
        let target = SledId::generate();
        state.transfer_started((target, HASH), How::Put, 0, start);
        let lags = state.next_event(start).unwrap();
        assert!(!state.in_flight(lags - SECOND)[0].lagging);
        assert!(state.in_flight(lags)[0].lagging);
        assert_eq!(state.next_event(lags), None);
    }
}
