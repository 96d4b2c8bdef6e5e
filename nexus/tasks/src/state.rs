//! The state of one task: what it waits for, whether it runs, whether it may. Pure: every transition is given the
//! time.
//!
//! ```text
//!   start
//!     │              begin: asked for, or due             begin is refused while paused and after the stop
//!     ▼          ┌─────────────────────────────┐
//!  ┌─────────────┴┐                       ┌────▼────┐
//!  │   waiting    │◀────── end ───────────┤ running │
//!  └──────┬───────┘                       └────┬────┘
//!         │ stop                               │ stop (the pass was cut off)
//!         ▼                                    ▼
//!      stopped (terminal) ◀────────────────────┘
//! ```
//!
//! What is due is computed from the last end, never stored, so that a change of mind needs no repair:
//!
//! | last end | period counts | due | reason |
//! |---|---|---|---|
//! | none yet | either | at once | `start` |
//! | well | yes | end + period, less the jitter | `timer` |
//! | well | no | never: only a request begins a pass | |
//! | failed | yes | end + the shorter of back-off and period | `retry` |
//! | failed | no | end + back-off | `retry` |
//!
//! *Paused* is no phase: a pass that runs when the pause comes ends as it would, and what was asked for or fell due
//! meanwhile is one pass afterwards. A pause with an end is over when the time is there, whether or not anybody looks.
//!
//! Who moves it: `begin` and `end` its loop alone; pause, resume and periodic the driver. One state behind one lock, so
//! that no pass begins after a pause has been answered for. Nothing here is durable: a crash in any state means that the
//! next life starts with the first pass, not paused, and with the period counting as the config says.

use crate::{
    activator::{Activator, Ticket},
    history::{Ended, History},
    settings::Settings,
    task::{Activation, Reason, TaskFailure},
};
use jiff::Timestamp;
use nexus_client::tasks::{BackgroundTask, FinishedPass, PassOutcome, Pause, RunningPass};
use std::{collections::BTreeSet, time::Duration};
use tokio::time::Instant;

/// One task's state. Lives inside a `watch`, so that readers never wait for a pass.
#[derive(Debug)]
pub(crate) struct TaskState {
    name: &'static str,
    description: &'static str,
    /// What activates it besides people, events and time, in words.
    dependencies: Vec<String>,
    settings: Settings,
    periodic: bool,
    pause: Option<PauseUntil>,
    phase: Phase,
    iteration: u64,
    history: History,
}

#[derive(Debug)]
enum Phase {
    Waiting(Rest),
    Running(Running),
    Stopped,
}

/// From when a wait is counted, and the random share (0 to 1) that spreads it: drawn once for each wait, so that a
/// change of mind does not move it.
#[derive(Clone, Copy, Debug)]
struct Rest {
    since: Instant,
    share: f64,
}

#[derive(Debug)]
struct Running {
    pass: RunningPass,
    since: Instant,
    answers: Ticket,
}

#[derive(Clone, Debug)]
struct PauseUntil {
    pause: Pause,
    /// When it ends by itself, on the clock that the loop waits by.
    until: Option<Instant>,
}

/// A pass that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Due {
    pub(crate) at: Instant,
    pub(crate) reason: Reason,
}

/// What a loop that has no pass to run waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// A request, or the pass that is due.
    Open { due: Option<Due> },
    /// The end of the pause.
    Paused { until: Option<Instant> },
}

/// Why a request has no answer.
#[derive(Debug)]
pub(crate) enum Unanswered {
    /// The task is paused.
    Paused(Pause),
    /// The task has stopped.
    Stopped,
}

impl TaskState {
    pub(crate) fn new(
        name: &'static str,
        description: &'static str,
        dependencies: Vec<String>,
        settings: Settings,
        now: Instant,
    ) -> TaskState {
        TaskState {
            name,
            description,
            dependencies,
            settings,
            periodic: settings.periodic,
            pause: None,
            phase: Phase::Waiting(Rest { since: now, share: 0.0 }),
            iteration: 0,
            history: History::default(),
        }
    }

    /// What to wait for. Only asked while no pass runs.
    pub(crate) fn next(&self, now: Instant) -> Next {
        match self.pause_in_force(now) {
            Some(pause) => Next::Paused { until: pause.until },
            None => Next::Open { due: self.due() },
        }
    }

    /// The pass that is due without anybody's asking, as the table above says.
    fn due(&self) -> Option<Due> {
        let Phase::Waiting(Rest { since, share }) = &self.phase else { return None };
        let after = |wait: Duration, reason| {
            // A wait beyond the clock's range never ends.
            Some(Due { at: since.checked_add(wait)?, reason })
        };
        match self.history.failed_in_a_row() {
            _ if self.iteration == 0 => after(Duration::ZERO, Reason::Start),
            0 if self.periodic => after(self.settings.wait_for_period(*share), Reason::Timer),
            0 => None,
            failed => after(self.settings.wait_for_retry(failed, *share, self.periodic), Reason::Retry),
        }
    }

    /// Begins a pass if one was asked for or is due, and may begin. Takes the requests: what is asked from here on needs a
    /// further pass, because this one may have looked already.
    pub(crate) fn begin(&mut self, now: Instant, activator: &Activator) -> Option<Activation> {
        let (Phase::Waiting(_), Next::Open { due }) = (&self.phase, self.next(now)) else { return None };
        let (asked, answers) = activator.take();
        let own = due.filter(|due| due.at <= now).map(|due| due.reason);
        let reasons: BTreeSet<Reason> = asked.into_iter().chain(own).collect();
        if reasons.is_empty() {
            return None;
        }
        self.iteration += 1;
        let activation = Activation { iteration: self.iteration, reasons };
        let pass = RunningPass {
            iteration: activation.iteration,
            trigger: activation.trigger(),
            started_at: Timestamp::now(),
        };
        self.phase = Phase::Running(Running { pass, since: now, answers });
        Some(activation)
    }

    /// Ends the pass that runs; `share` (0 to 1) spreads the wait that begins.
    pub(crate) fn end(&mut self, now: Instant, ended: Ended, share: f64) {
        let rest = Phase::Waiting(Rest { since: now, share });
        let Phase::Running(running) = std::mem::replace(&mut self.phase, rest) else {
            panic!("only a pass that runs can end: {:?}", self.name);
        };
        let Running { pass, since, answers } = running;
        self.history.add(pass, answers, now.saturating_duration_since(since), ended);
    }

    /// No pass begins from now on, in this life.
    pub(crate) fn stop(&mut self, now: Instant) {
        if matches!(self.phase, Phase::Running(_)) {
            let failure = TaskFailure::new("dropped while it ran");
            self.end(now, Ended::failed(PassOutcome::Stopped, failure), 0.0);
        }
        self.phase = Phase::Stopped;
    }

    /// No pass begins until the pause is over: after `limit`, or when somebody resumes the task. A further pause takes the
    /// place of the one before, but for the time since when.
    pub(crate) fn pause(&mut self, now: Instant, limit: Option<Duration>, reason: Option<String>) {
        let wall = Timestamp::now();
        let since = self.paused(now).map_or(wall, |pause| pause.since);
        let until = limit.and_then(|limit| Some((now.checked_add(limit)?, wall.checked_add(limit).ok()?)));
        let pause = Pause { since, until: until.map(|until| until.1), reason };
        self.pause = Some(PauseUntil { pause, until: until.map(|until| until.0) });
    }

    /// Passes may begin again. What it took away, if the task was paused.
    pub(crate) fn resume(&mut self, now: Instant) -> Option<Pause> {
        let pause = self.paused(now);
        self.pause = None;
        pause
    }

    /// Whether the period counts from now on. Whether that is another answer than before.
    pub(crate) fn set_periodic(&mut self, periodic: bool) -> bool {
        std::mem::replace(&mut self.periodic, periodic) != periodic
    }

    fn pause_in_force(&self, now: Instant) -> Option<&PauseUntil> {
        self.pause.as_ref().filter(|pause| pause.until.is_none_or(|until| now < until))
    }

    /// The pause in force.
    pub(crate) fn paused(&self, now: Instant) -> Option<Pause> {
        self.pause_in_force(now).map(|pause| pause.pause.clone())
    }

    pub(crate) fn is_stopped(&self) -> bool {
        matches!(self.phase, Phase::Stopped)
    }

    /// What became of a request; none while its pass has not ended but still may.
    pub(crate) fn answer(&self, request: Ticket, now: Instant) -> Option<Result<FinishedPass, Unanswered>> {
        if let Some(pass) = self.history.answer(request) {
            return Some(Ok(pass.clone()));
        }
        match &self.phase {
            Phase::Running(running) if running.answers >= request => None,
            Phase::Stopped => Some(Err(Unanswered::Stopped)),
            Phase::Waiting(_) | Phase::Running(_) => self.paused(now).map(|it| Err(Unanswered::Paused(it))),
        }
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    pub(crate) fn is_running(&self) -> bool {
        matches!(self.phase, Phase::Running(_))
    }

    pub(crate) fn history(&self) -> &History {
        &self.history
    }

    /// What an operator sees, with all passes that are kept or without any but the last.
    pub(crate) fn to_wire(&self, now: Instant, with_recent: bool) -> BackgroundTask {
        let totals = self.history.totals();
        let running = match &self.phase {
            Phase::Running(running) => Some(running.pass.clone()),
            Phase::Waiting(_) | Phase::Stopped => None,
        };
        BackgroundTask {
            name: self.name.to_owned(),
            description: self.description.to_owned(),
            period_seconds: self.settings.period.as_secs_f64(),
            periodic: self.periodic,
            time_limit_seconds: self.settings.time_limit.map(|limit| limit.as_secs_f64()),
            dependencies: self.dependencies.clone(),
            paused: self.paused(now),
            next_at: self.next_at(now),
            running,
            last: self.history.last().cloned(),
            last_success_at: self.history.last_success_at(),
            succeeded: totals.ended(PassOutcome::Succeeded),
            failed: totals.failed(),
            panicked: totals.ended(PassOutcome::Panicked),
            timed_out: totals.ended(PassOutcome::TimedOut),
            failed_in_a_row: self.history.failed_in_a_row(),
            recent: if with_recent { self.history.recent().cloned().collect() } else { Vec::new() },
            answer: None,
        }
    }

    /// When the next pass begins if nobody asks: when it is due, but not before the end of a pause.
    fn next_at(&self, now: Instant) -> Option<Timestamp> {
        let due = self.due()?.at;
        let at = match self.next(now) {
            Next::Open { .. } => due,
            Next::Paused { until } => due.max(until?),
        };
        Timestamp::now().checked_add(at.saturating_duration_since(now)).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Backoff;
    use proptest::prelude::*;
    use serde_json::Value;

    const SECOND: Duration = Duration::from_secs(1);
    const SETTINGS: Settings = Settings {
        jitter_percent: 0,
        backoff: Backoff { first: SECOND, max: Duration::from_secs(8) },
        ..Settings::every(Duration::from_secs(3))
    };

    /// What may happen to a task.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        Ask,
        Begin,
        End { well: bool },
        Pause { seconds: Option<u64> },
        Resume,
        Periodic(bool),
        Wait { seconds: u64 },
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            2 => Just(Step::Ask),
            4 => Just(Step::Begin),
            4 => any::<bool>().prop_map(|well| Step::End { well }),
            1 => proptest::option::of(1..5_u64).prop_map(|seconds| Step::Pause { seconds }),
            1 => Just(Step::Resume),
            1 => any::<bool>().prop_map(Step::Periodic),
            3 => (1..4_u64).prop_map(|seconds| Step::Wait { seconds }),
        ];
        proptest::collection::vec(step, 0..80)
    }

    /// What is to be expected, in seconds since the start, told in the plainest way.
    #[derive(Debug, Default)]
    struct Model {
        now: u64,
        paused_until: Option<u64>,
        not_periodic: bool,
        running: bool,
        passes: u64,
        last_end: u64,
        failed_in_a_row: usize,
        /// For each request the pass that answers it, once that has begun.
        requests: Vec<Option<u64>>,
        /// The last pass that has ended.
        ended: u64,
    }

    impl Model {
        /// Waits after a failure with the longest share: 1, 2, 4, 8 seconds, but no longer than the period.
        fn due(&self) -> bool {
            let retry = [1, 2, 4, 8][self.failed_in_a_row.clamp(1, 4) - 1];
            match (self.passes, self.failed_in_a_row, self.not_periodic) {
                (0, _, _) => true,
                (_, 0, true) => false,
                (_, 0, false) => self.now >= self.last_end + 3,
                (_, _, true) => self.now >= self.last_end + retry,
                (_, _, false) => self.now >= self.last_end + retry.min(3),
            }
        }

        fn begins(&self) -> bool {
            let paused = self.paused_until.is_some_and(|until| self.now < until);
            !self.running && !paused && (self.due() || self.requests.contains(&None))
        }
    }

    fn apply(step: Step, model: &mut Model, state: &mut TaskState, activator: &Activator, start: Instant) {
        let now = start + Duration::from_secs(model.now);
        match step {
            Step::Ask => {
                let _ticket = activator.request(Reason::Operator);
                model.requests.push(None);
            }
            Step::Begin => {
                let expected = model.begins();
                let begun = state.begin(now, activator);
                assert_eq!(begun.is_some(), expected, "{model:?}");
                if let Some(activation) = begun {
                    model.passes += 1;
                    model.running = true;
                    model.requests.iter_mut().filter(|pass| pass.is_none()).for_each(|pass| {
                        *pass = Some(model.passes);
                    });
                    assert_eq!(activation.iteration, model.passes);
                    assert!(!activation.reasons.is_empty());
                }
            }
            Step::End { well } if model.running => {
                let result = if well { Ok(Value::Null) } else { Err(TaskFailure::new("out of luck")) };
                state.end(now, Ended::by_itself(result), 1.0);
                model.running = false;
                model.ended = model.passes;
                model.last_end = model.now;
                model.failed_in_a_row = if well { 0 } else { model.failed_in_a_row + 1 };
            }
            Step::End { .. } => {}
            Step::Pause { seconds } => {
                state.pause(now, seconds.map(Duration::from_secs), None);
                model.paused_until = Some(seconds.map_or(u64::MAX, |seconds| model.now + seconds));
            }
            Step::Resume => {
                let paused = model.paused_until.take().is_some_and(|until| model.now < until);
                assert_eq!(state.resume(now).is_some(), paused);
            }
            Step::Periodic(periodic) => {
                assert_eq!(state.set_periodic(periodic), model.not_periodic == periodic);
                model.not_periodic = !periodic;
            }
            Step::Wait { seconds } => model.now += seconds,
        }
    }

    proptest! {
        #[test]
        fn passes_begin_exactly_when_the_model_says_and_every_request_gets_its_pass(steps in steps()) {
            let start = Instant::now();
            let activator = Activator::new();
            let mut state = TaskState::new("worker", "", Vec::new(), SETTINGS, start);
            let mut model = Model::default();
            for step in steps {
                apply(step, &mut model, &mut state, &activator, start);
                let now = start + Duration::from_secs(model.now);
                for (index, pass) in model.requests.iter().enumerate() {
                    let ticket = Ticket::of(index as u64 + 1);
                    let ended = pass.filter(|pass| *pass <= model.ended);
                    let answered = state.answer(ticket, now).and_then(Result::ok);
                    prop_assert_eq!(answered.map(|pass| pass.iteration), ended);
                }
                let totals = state.history().totals();
                prop_assert_eq!(totals.passes() + u64::from(model.running), model.passes);
                prop_assert_eq!(state.is_running(), model.running);
            }
        }
    }

    #[test]
    fn stop_is_the_end_for_passes_and_for_requests() {
        let now = Instant::now();
        let activator = Activator::new();
        let mut state = TaskState::new("worker", "", Vec::new(), SETTINGS, now);
        state.begin(now, &activator).unwrap();
        let request = activator.request(Reason::Operator);
        assert!(state.answer(request, now).is_none());
        state.stop(now);
        assert_eq!(state.history().last().unwrap().outcome, PassOutcome::Stopped);
        assert!(matches!(state.answer(request, now), Some(Err(Unanswered::Stopped))));
        assert!(state.begin(now + Duration::from_secs(99), &activator).is_none());
    }

    #[test]
    fn pause_longer_than_the_clock_goes_has_no_end() {
        let now = Instant::now();
        let mut state = TaskState::new("worker", "", Vec::new(), SETTINGS, now);
        state.pause(now, Some(Duration::MAX), None);
        assert_eq!(state.next(now), Next::Paused { until: None });
    }
}
