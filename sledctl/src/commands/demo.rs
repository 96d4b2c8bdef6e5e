//! `sledctl op demo`: many demo sagas with a bounded number of calls at once, and how they end.
//!
//! Two phases, so that waiting for ends does not slow the starting down. A call that fails is counted and the next one is
//! made: what is tried here is the coordinator, and it may well be killed meanwhile.

use super::{
    op::DemoArgs,
    watch::{Patience, Presence, look},
};
use crate::{
    app::App,
    cli::Format,
    failure::Failure,
    output,
    progress::{Counter, Display},
    render::{
        self,
        demo::{Ends, Summary},
    },
};
use futures::{StreamExt, stream};
use ids::SagaId;
use nexus_client::{
    ClientError, ErrorClass, OperatorClient,
    pages::Page,
    sagas::{DemoSaga, SagaState},
};
use serde::Serialize;
use std::{
    cell::Cell,
    time::{Duration, Instant},
};

/// The ids of more sagas are no reading.
const IDS_SHOWN_MAX: u32 = 20;

/// Seconds that one call waits for an end: fewer than a silent connection is kept.
const WAIT_SECONDS: u32 = 20;

/// What was started.
#[derive(Serialize)]
struct Started {
    id: SagaId,
    /// How it ended, if that was waited for and is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<SagaState>,
}

/// Starts the sagas.
pub(super) async fn run(app: &App, args: &DemoArgs) -> Result<(), Failure> {
    let mut run = DemoRun::new(app, args)?;
    // The phases keep what they know in `run`, so that it is printed whatever way they end.
    let interrupted = tokio::select! {
        // Asked first, so that Ctrl-C is listened for before the first call is made.
        biased;
        _ = tokio::signal::ctrl_c() => true,
        () = run.phases() => false,
    };
    let interrupted = interrupted.then(|| run.interrupted());
    let DemoRun { started, summary, mut failures, display, .. } = run;
    drop(display);
    print(app, args, started, &summary)?;
    match (interrupted, failures.take()) {
        (Some(interrupted), _) => Err(interrupted),
        (None, Some(first)) if summary.asked == 1 => Err(first),
        (None, Some(first)) => {
            Err(Failure::SomeCalls { failed: failures.number, calls: summary.asked, first: Box::new(first) })
        }
        (None, None) => Ok(()),
    }
}

fn print(app: &App, args: &DemoArgs, started: Vec<Started>, summary: &Summary) -> Result<(), Failure> {
    let stuck = started.iter().filter(|started| started.state == Some(SagaState::NeedsAttention));
    let stuck: Vec<SagaId> = stuck.map(|started| started.id).collect();
    if app.global.output == Format::Json {
        app.emit(&Page { items: started, next_page: None }, |_, _, _| String::new())?;
    } else if args.count > IDS_SHOWN_MAX {
        output::print(&render::demo::summary(summary, &app.look))?;
        say_what_to_type(app, &stuck, summary);
        return Ok(());
    } else {
        let ids: String = started.iter().map(|started| format!("{}\n", started.id)).collect();
        output::print(&ids)?;
    }
    app.talk.note(&render::demo::line(summary));
    say_what_to_type(app, &stuck, summary);
    Ok(())
}

/// For those that wait for an operator.
fn say_what_to_type(app: &App, stuck: &[SagaId], summary: &Summary) {
    let ends = summary.ends.as_ref().map(|ends| &ends.states);
    let number = ends.and_then(|states| states.get(&SagaState::NeedsAttention)).copied().unwrap_or_default();
    let words = match (number, stuck) {
        (0, _) => return,
        (1, [id]) => format!(
            "{id} needs attention: sledctl op show {id}; to try its undo again: sledctl op retry {id}; to give it up: sledctl op abandon {id} --reason TEXT"
        ),
        (number, _) => format!(
            "{number} need attention: sledctl op list --kind demo --state needs_attention; for each: sledctl op retry SAGA, or sledctl op abandon SAGA --reason TEXT"
        ),
    };
    app.talk.note(&words);
}

/// Calls that did not succeed.
#[derive(Default)]
struct Failures {
    number: u64,
    first: Option<Failure>,
}

impl Failures {
    fn add(&mut self, failure: Failure) {
        self.number += 1;
        self.first.get_or_insert(failure);
    }

    fn take(&mut self) -> Option<Failure> {
        self.first.take()
    }
}

/// One run, and what is known of it so far.
struct DemoRun {
    client: OperatorClient,
    demo: DemoSaga,
    concurrency: usize,
    wait: bool,
    patience: Patience,
    display: Display,
    began: Instant,
    started: Vec<Started>,
    summary: Summary,
    failures: Failures,
}

impl DemoRun {
    fn new(app: &App, args: &DemoArgs) -> Result<DemoRun, Failure> {
        Ok(DemoRun {
            client: app.client()?,
            demo: DemoSaga {
                id: None,
                wait_for_signal: args.wait_for_signal,
                sleep_ms: args.sleep,
                fail_at: args.fail_at.clone(),
                stuck_at: args.stuck_at.clone(),
            },
            concurrency: args.concurrency.into(),
            wait: args.wait,
            patience: Patience {
                limit: args.give_up_after.map(|seconds| Duration::from_secs(seconds.into())),
            },
            display: Display::new(app.talk),
            began: Instant::now(),
            started: Vec::new(),
            summary: Summary { asked: args.count.into(), ..Summary::default() },
            failures: Failures::default(),
        })
    }

    async fn phases(&mut self) {
        self.start().await;
        if self.wait {
            self.wait_for_ends().await;
        }
    }

    /// Starts them all.
    async fn start(&mut self) {
        let (client, demo) = (self.client.clone(), self.demo.clone());
        let calls = stream::iter(0..self.summary.asked).map(|_| client.saga_demo(&demo));
        let mut answers = std::pin::pin!(calls.buffer_unordered(self.concurrency));
        while let Some(answer) = answers.next().await {
            self.take_in(answer.map(|accepted| accepted.id));
            self.summary.seconds = self.began.elapsed().as_secs_f64();
            let Summary { accepted, refused, unanswered, asked, .. } = self.summary;
            let note = match refused + unanswered {
                0 => String::new(),
                failed => format!("{failed} failed"),
            };
            let done = accepted + refused + unanswered;
            self.count("starting sagas", done, asked, Duration::ZERO, note);
        }
    }

    fn take_in(&mut self, answer: Result<SagaId, ClientError>) {
        match answer {
            Ok(id) => {
                self.summary.accepted += 1;
                self.started.push(Started { id, state: None });
            }
            // A coordinator that is too busy, or is on its way out, says so, and has not accepted it.
            Err(error) if error.class() != ErrorClass::Unreachable || error.problem().is_some() => {
                self.summary.refused += 1;
                self.failures.add(error.into());
            }
            Err(error) => {
                self.summary.unanswered += 1;
                self.failures.add(error.into());
            }
        }
    }

    /// Waits for the ends of all that were accepted, and counts them by state.
    async fn wait_for_ends(&mut self) {
        let (client, patience, began) = (self.client.clone(), self.patience, self.began.elapsed());
        let away = Cell::new(0_u64);
        let ids: Vec<SagaId> = self.started.iter().map(|started| started.id).collect();
        let calls = ids.iter().enumerate().map(|(place, id)| {
            let (client, away) = (&client, &away);
            async move { (place, end_of(client, *id, patience, away).await) }
        });
        let mut answers = std::pin::pin!(stream::iter(calls).buffer_unordered(self.concurrency));
        let mut ends = Ends::default();
        self.summary.ends = Some(ends.clone());
        while let Some((place, answer)) = answers.next().await {
            match answer {
                Ok(state) => {
                    self.started[place].state = Some(state);
                    *ends.states.entry(state).or_default() += 1;
                }
                Err(failure) => {
                    ends.unknown += 1;
                    self.failures.add(failure);
                }
            }
            ends.seconds = self.began.elapsed().as_secs_f64();
            let away = if away.get() > 0 { "; the coordinator does not answer" } else { "" };
            let note = format!("{}{away}", render::demo::states(&ends));
            let done = ends.states.values().sum::<u64>() + ends.unknown;
            self.count("waiting for ends", done, ids.len() as u64, began, note);
            self.summary.ends = Some(ends.clone());
        }
    }

    fn count(&mut self, doing: &'static str, done: u64, total: u64, started: Duration, note: String) {
        self.display.count(&Counter { doing, done, total, started, note }, self.began.elapsed());
    }

    /// What Ctrl-C leaves.
    fn interrupted(&self) -> Failure {
        let accepted = self.summary.accepted;
        let all_answered = accepted + self.summary.refused + self.summary.unanswered == self.summary.asked;
        let (doing, perhaps) = if all_answered {
            ("waiting for ends", String::new())
        } else {
            ("starting sagas", format!(" (and perhaps {} more)", self.concurrency))
        };
        let goes_on = format!("{accepted} were accepted{perhaps} and go on; see sledctl op list --kind demo");
        Failure::Interrupted { doing, goes_on }
    }
}

/// Waits for one end, or until it waits for an operator; counts itself among those to whom the coordinator does not answer.
async fn end_of(
    client: &OperatorClient,
    id: SagaId,
    patience: Patience,
    away: &Cell<u64>,
) -> Result<SagaState, Failure> {
    loop {
        let tell = |presence: Presence<'_>| match presence {
            Presence::Away(_) => away.set(away.get() + 1),
            Presence::Back(_) => away.set(away.get().saturating_sub(1)),
        };
        let detail = patience.ask(|| look(client, id, WAIT_SECONDS), tell).await?;
        // One that waits for an operator may do so for ever.
        if detail.saga.state.is_ended() || detail.saga.state == SagaState::NeedsAttention {
            return Ok(detail.saga.state);
        }
    }
}
