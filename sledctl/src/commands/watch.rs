//! `sledctl op watch`: a saga until its end, whatever happens to its coordinator meanwhile.
//!
//! ```text
//!   look ── not ended ──► show what changed ──► look …
//!    │  └── ended ─────► show it; exit code 0 only if it has succeeded
//!    ├── no answer ─────► say so once, look again after a second, for as long as allowed
//!    └── Ctrl-C ────────► the saga goes on
//! ```
//!
//! Only the very first look must be answered: a coordinator that never answered is more likely a wrong URL.

use super::{op::WatchArgs, op_lookup::find};
use crate::{
    app::App,
    failure::Failure,
    progress::Block,
    render::{self, failure::root_cause},
    talk::Talk,
};
use ids::SagaId;
use jiff::Timestamp;
use nexus_client::{
    ClientError, ErrorClass, OperatorClient,
    sagas::{SagaDetail, SagaWaitQuery},
};
use std::time::{Duration, Instant};

/// Seconds after which a saga that goes on is shown anew.
const LOOK_SECONDS: u32 = 1;

/// The pause before a coordinator that does not answer is asked again.
const AWAY_PAUSE: Duration = Duration::from_secs(1);

/// Watches the saga.
pub(super) async fn run(app: &App, args: &WatchArgs) -> Result<(), Failure> {
    let client = app.client()?;
    let id = find(&client, &args.saga).await?;
    let patience = Patience { limit: args.give_up_after.map(|seconds| Duration::from_secs(seconds.into())) };
    let detail = tokio::select! {
        // Asked first, so that Ctrl-C is listened for before the first call is made.
        biased;
        _ = tokio::signal::ctrl_c() => {
            let goes_on = format!("the saga goes on; sledctl op watch {id}");
            return Err(Failure::Interrupted { doing: "watching", goes_on });
        }
        detail = follow(&client, id, patience, Screen::new(app.talk)) => detail?,
    };
    app.emit(&detail, render::op::show)?;
    match render::op_watch::bad_end(&detail.saga) {
        Some(ended) => Err(Failure::SagaEnded { id, ended }),
        None => Ok(()),
    }
}

/// Looks and shows until it has ended.
async fn follow(
    client: &OperatorClient,
    id: SagaId,
    patience: Patience,
    mut screen: Screen,
) -> Result<SagaDetail, Failure> {
    let mut detail = client.saga(id, &SagaWaitQuery::default()).await?;
    loop {
        screen.show(&detail);
        if detail.saga.state.is_ended() {
            return Ok(detail);
        }
        let look = || look(client, id, LOOK_SECONDS);
        detail = patience.ask(look, |presence| screen.tell(&presence)).await?;
    }
}

/// Asks how a saga is at its end, or after so many seconds. A coordinator that does not wait is not asked more often.
pub(super) async fn look(
    client: &OperatorClient,
    id: SagaId,
    wait_seconds: u32,
) -> Result<SagaDetail, ClientError> {
    let asked = Instant::now();
    let detail = client.saga(id, &SagaWaitQuery { wait_seconds: Some(wait_seconds) }).await?;
    if !detail.saga.state.is_ended() {
        let rest = Duration::from_secs(u64::from(LOOK_SECONDS)).saturating_sub(asked.elapsed());
        tokio::time::sleep(rest).await;
    }
    Ok(detail)
}

/// How long a coordinator may be away.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// None: for ever.
    pub(super) limit: Option<Duration>,
}

/// What is to be known about a coordinator that is asked again and again.
#[derive(Debug)]
pub(super) enum Presence<'a> {
    /// It has stopped to answer.
    Away(&'a ClientError),
    /// It answers again, after so long.
    Back(Duration),
}

impl Patience {
    /// Asks until there is an answer; a refusal is one.
    pub(super) async fn ask<T>(
        self,
        ask: impl AsyncFn() -> Result<T, ClientError>,
        mut tell: impl FnMut(Presence<'_>),
    ) -> Result<T, Failure> {
        let mut away_since: Option<Instant> = None;
        loop {
            let source = match (ask().await, away_since) {
                (Err(error), _) if error.class() == ErrorClass::Unreachable => error,
                (answer, None) => return Ok(answer?),
                (answer, Some(since)) => {
                    tell(Presence::Back(since.elapsed()));
                    return Ok(answer?);
                }
            };
            let away = away_since.get_or_insert_with(|| {
                tell(Presence::Away(&source));
                Instant::now()
            });
            if self.limit.is_some_and(|limit| away.elapsed() >= limit) {
                return Err(Failure::CoordinatorAway { seconds: away.elapsed().as_secs(), source });
            }
            tokio::time::sleep(AWAY_PAUSE).await;
        }
    }
}

/// Where it is shown: a block in one place, or a line for each change.
struct Screen {
    talk: Talk,
    block: Option<Block>,
    shown: Option<SagaDetail>,
}

impl Screen {
    fn new(talk: Talk) -> Screen {
        Screen { talk, block: Block::new(talk), shown: None }
    }

    fn show(&mut self, detail: &SagaDetail) {
        let now = Timestamp::now();
        if let Some(block) = &self.block {
            block.draw(&render::op_watch::block(detail, self.talk.look(), now));
            return;
        }
        for line in render::op_watch::changes(self.shown.as_ref(), detail, now) {
            self.talk.progress(&line);
        }
        let attention = |detail: &SagaDetail| (detail.saga.state, detail.saga.attention.clone());
        if self.shown.as_ref().map(attention) != Some(attention(detail)) {
            self.talk.text(&render::op::advice(&detail.saga, &detail.nodes, self.talk.look(), now));
        }
        self.shown = Some(detail.clone());
    }

    fn tell(&self, presence: &Presence<'_>) {
        let words = match presence {
            Presence::Away(error) => {
                let cause =
                    error.problem().map_or_else(|| root_cause(*error), |problem| problem.detail.clone());
                format!(
                    "the coordinator does not answer ({cause}); the saga goes on once it is back, and so does this"
                )
            }
            Presence::Back(after) => {
                format!(
                    "the coordinator answers again, after {}",
                    render::words::duration(after.as_secs_f64())
                )
            }
        };
        match &self.block {
            Some(block) => block.say(|| self.talk.note(&words)),
            None => self.talk.note(&words),
        }
    }
}
