//! `sledctl op …`: operations, that is, sagas. Finding, watching and the demo have files of their own: `op_lookup.rs`,
//! `watch.rs` and `demo.rs`.

use super::{
    demo,
    op_lookup::{UNFINISHED_SHOWN, find, newest, unfinished_and_newest_ended},
    task::seconds,
    watch,
};
use crate::{
    app::App,
    cli::Format,
    confirm::{self, Question},
    failure::{Failure, Outcome},
    render,
};
use clap::{Args, Subcommand, ValueEnum};
use nexus_client::sagas::{
    Saga, SagaAbandon, SagaDetail, SagaEvent, SagaQuery, SagaSignal, SagaState, SagaWaitQuery,
};
use serde::Serialize;
use serde_json::Value;

/// What to do with operations.
#[derive(Debug, Subcommand)]
pub enum OpCommand {
    /// Lists the sagas that have not ended and the newest that have
    List(ListArgs),
    /// Shows a saga, its nodes, and what an operator can do about it
    Show(ShowArgs),
    /// Watches a saga until it has ended; exit code 1 if it has not succeeded
    Watch(WatchArgs),
    /// Begins no further node of a saga, and undoes those that have run
    Cancel(OpArgs),
    /// Tries the undos of a saga again that wait for an operator
    Retry(OpArgs),
    /// Gives up on undoing the rest of a saga; what it leaves behind is for people to remove
    Abandon(AbandonArgs),
    /// Gives a saga something that it waits for, or will; the first value of a name stays
    Signal(SignalArgs),
    /// Starts demo sagas, to try everything by hand
    Demo(DemoArgs),
}

/// Which sagas.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Only those in this state
    #[arg(long)]
    pub state: Option<State>,
    /// Only those of this kind, such as demo
    #[arg(long)]
    pub kind: Option<String>,
    /// The newest N that match, ended or not
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: Option<u32>,
    /// All that match
    #[arg(long, conflicts_with = "limit")]
    pub all: bool,
}

/// A saga's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum State {
    /// Nodes are done one after the other
    Running,
    /// What was done is undone
    Unwinding,
    /// It waits for a signal, a time, its store or a coordinator
    Waiting,
    /// An undo does not succeed: op retry or op abandon
    #[value(alias = "needs-attention")]
    NeedsAttention,
    /// Another coordinator owns it
    Elsewhere,
    /// A part of it cannot be read: op show says which
    Unreadable,
    /// Every node has succeeded
    Succeeded,
    /// A node has failed, and every effect is undone
    Failed,
    /// An operator has given up on undoing the rest
    Abandoned,
}

/// Which saga.
#[derive(Debug, Args)]
pub struct OpArgs {
    /// Its id, or the beginning of its id
    #[arg(value_name = "SAGA")]
    pub saga: String,
}

/// Which saga, and how much of it.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// Its id, or the beginning of its id
    #[arg(value_name = "SAGA")]
    pub saga: String,
    /// Show the last lines of its log, too
    #[arg(long)]
    pub events: bool,
}

/// Which saga, and how long to wait for whoever runs it.
#[derive(Debug, Args)]
pub struct WatchArgs {
    /// Its id, or the beginning of its id
    #[arg(value_name = "SAGA")]
    pub saga: String,
    /// How long the coordinator may be away: 90s, 30m, 2h, 1d [default: until Ctrl-C]
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    pub give_up_after: Option<u32>,
}

/// Which saga to give up, and why.
#[derive(Debug, Args)]
pub struct AbandonArgs {
    /// Its id, or the beginning of its id
    #[arg(value_name = "SAGA")]
    pub saga: String,
    /// Why, for those who find what it has left
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
}

/// Which saga, and what to tell it.
#[derive(Debug, Args)]
pub struct SignalArgs {
    /// Its id, or the beginning of its id
    #[arg(value_name = "SAGA")]
    pub saga: String,
    /// The signal's name
    pub name: String,
    /// What it says, as JSON
    #[arg(long, value_name = "JSON", value_parser = json, allow_hyphen_values = true)]
    pub value: Option<Value>,
}

/// How many demo sagas, and what they do.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// How many
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub count: u32,
    /// Calls at once at most
    #[arg(long, value_name = "C", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub concurrency: u16,
    /// Let each wait half way for: sledctl op signal SAGA proceed
    #[arg(long)]
    pub wait_for_signal: bool,
    /// Let each sleep half way, so many milliseconds
    #[arg(long, value_name = "MS", default_value_t = 0)]
    pub sleep: u64,
    /// A node that refuses, so that what was done before it is undone
    #[arg(long, value_name = "NODE")]
    pub fail_at: Option<String>,
    /// A node whose undo fails until an operator says: sledctl op retry SAGA
    #[arg(long, value_name = "NODE")]
    pub stuck_at: Option<String>,
    /// Wait until all have ended, and count how
    #[arg(long)]
    pub wait: bool,
    /// With --wait, how long the coordinator may be away: 90s, 30m, 2h, 1d [default: until Ctrl-C]
    #[arg(long, value_name = "TIME", value_parser = seconds, requires = "wait")]
    pub give_up_after: Option<u32>,
}

/// Runs the command.
pub async fn run(app: &App, command: OpCommand) -> Result<Outcome, Failure> {
    match command {
        OpCommand::List(args) => list(app, &args).await?,
        OpCommand::Show(args) => show(app, &args).await?,
        OpCommand::Watch(args) => watch::run(app, &args).await?,
        OpCommand::Cancel(args) => cancel(app, &args.saga).await?,
        OpCommand::Retry(args) => retry(app, &args.saga).await?,
        OpCommand::Abandon(args) => abandon(app, args).await?,
        OpCommand::Signal(args) => signal(app, args).await?,
        OpCommand::Demo(args) => demo::run(app, &args).await?,
    }
    Ok(Outcome::Done)
}

async fn list(app: &App, args: &ListArgs) -> Result<(), Failure> {
    let client = app.client()?;
    let state = args.state.map(State::on_the_wire);
    let query = SagaQuery { state, kind: args.kind.clone(), ..SagaQuery::default() };
    // A list for programs is all of it, as everywhere.
    let all = args.all || (app.global.output == Format::Json && args.limit.is_none());
    let (sagas, footer) = if all {
        (newest(&client, query, usize::MAX).await?.0, None)
    } else if args.limit.is_some() || args.state.is_some() {
        let limit = args.limit.unwrap_or(UNFINISHED_SHOWN);
        let (sagas, more) = newest(&client, query, limit as usize).await?;
        (sagas, more.then(|| format!("the newest {limit}; there are more: --limit N, --all")))
    } else {
        let (sagas, footer) = unfinished_and_newest_ended(&client, &query).await?;
        (sagas, Some(footer))
    };
    let nothing = sagas.is_empty();
    app.emit_list(sagas, "no such saga; to try one: sledctl op demo", |sagas, look, now| {
        let mut text = render::op::list(sagas, look, now);
        if let Some(footer) = footer.filter(|_| look.headers && !nothing) {
            text.push_str(&format!("{footer}\n"));
        }
        text
    })
}

/// A saga with its log, for programs.
#[derive(Serialize)]
struct WithEvents {
    #[serde(flatten)]
    detail: SagaDetail,
    events: Vec<SagaEvent>,
}

async fn show(app: &App, args: &ShowArgs) -> Result<(), Failure> {
    let client = app.client()?;
    let id = find(&client, &args.saga).await?;
    let detail = client.saga(id, &SagaWaitQuery::default()).await?;
    if !args.events {
        return app.emit(&detail, render::op::show);
    }
    let events = client.saga_events(id).await?;
    app.emit(&WithEvents { detail, events }, |both, look, now| {
        let mut text = render::op::show(&both.detail, look, now);
        text.push_str(&render::op::events(&both.events, look, now));
        text
    })
}

async fn cancel(app: &App, name: &str) -> Result<(), Failure> {
    let client = app.client()?;
    let saga = client.saga_cancel(find(&client, name).await?).await?;
    app.emit(&saga, render::op::brief)?;
    let words =
        "no further node begins, what has run is undone; one whose last node has begun may still succeed";
    app.talk.note(&format!("{words}: sledctl op watch {}", saga.id));
    Ok(())
}

async fn retry(app: &App, name: &str) -> Result<(), Failure> {
    let client = app.client()?;
    let saga = client.saga_retry(find(&client, name).await?).await?;
    app.emit(&saga, render::op::brief)?;
    app.talk.note(&format!("its undos are tried again: sledctl op watch {}", saga.id));
    Ok(())
}

async fn abandon(app: &App, args: AbandonArgs) -> Result<(), Failure> {
    let client = app.client()?;
    let id = find(&client, &args.saga).await?;
    let detail = client.saga(id, &SagaWaitQuery::default()).await?;
    let left = render::op::left_behind(&detail.nodes).join(", ");
    let left = if left.is_empty() { "none that is known".to_owned() } else { left };
    // What is sure to be refused is not asked about: the coordinator says why.
    if !args.yes && may_be_abandoned(&detail.saga) {
        let question = Question {
            what: &format!("abandoning saga {id} ({})", detail.saga.kind),
            consequence: &format!("Nothing more of it is undone. What these nodes made stays: {left}."),
            expected: &id.to_string(),
            flag: "--yes",
        };
        confirm::ask(&question, app)?;
    }
    let saga = client.saga_abandon(id, &SagaAbandon { reason: args.reason }).await?;
    app.emit(&saga, render::op::brief)?;
    // Once it has ended it says so itself; until then, this is what was not undone when it was looked at.
    let left = if saga.not_undone.is_empty() { left } else { saga.not_undone.join(", ") };
    app.talk.note(&format!("saga {id} is given up; what these nodes made may stay: {left}"));
    Ok(())
}

/// Whether a coordinator may take it: an undo waits for an operator, or nobody executes it.
fn may_be_abandoned(saga: &Saga) -> bool {
    saga.state == SagaState::NeedsAttention || (!saga.executing && !saga.state.is_ended())
}

async fn signal(app: &App, args: SignalArgs) -> Result<(), Failure> {
    let client = app.client()?;
    let id = find(&client, &args.saga).await?;
    let signal = SagaSignal { name: args.name, value: args.value.unwrap_or_default() };
    let saga = client.saga_signal(id, &signal).await?;
    app.emit(&saga, |signalled, look, now| render::op::brief(&signalled.saga, look, now))?;
    if saga.kept {
        app.talk.note(&format!("signal {} is kept for it, now or later", signal.name));
    } else {
        app.talk.warning(&format!(
            "it had a signal {} before, with another value, which stays: sledctl op show {id}",
            signal.name
        ));
    }
    Ok(())
}

impl State {
    fn on_the_wire(self) -> SagaState {
        match self {
            State::Running => SagaState::Running,
            State::Unwinding => SagaState::Unwinding,
            State::Waiting => SagaState::Waiting,
            State::NeedsAttention => SagaState::NeedsAttention,
            State::Elsewhere => SagaState::Elsewhere,
            State::Unreadable => SagaState::Unreadable,
            State::Succeeded => SagaState::Succeeded,
            State::Failed => SagaState::Failed,
            State::Abandoned => SagaState::Abandoned,
        }
    }
}

/// A JSON value on the command line.
fn json(text: &str) -> Result<Value, String> {
    serde_json::from_str(text)
        .map_err(|error| format!("it is no JSON ({error}); text needs its quotes: '\"text\"'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_can_be_asked_for_by_its_word() {
        let words: Vec<_> = State::value_variants()
            .iter()
            .map(|state| (state.to_possible_value().unwrap().get_name().to_owned(), state.on_the_wire()))
            .collect();
        assert_eq!(words, SagaState::ALL.map(|state| (state.word().to_owned(), state)));
    }
}
