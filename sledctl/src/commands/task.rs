//! `sledctl task …`: background tasks of the coordinator.

use crate::{
    app::App,
    failure::{Failure, Outcome},
    render,
};
use clap::{Args, Subcommand, ValueEnum};
use nexus_client::tasks::PauseQuery;
use std::time::Duration;

/// A pass that takes longer than this is reported as a time-out by the coordinator long before.
const PASS_MAX: Duration = Duration::from_secs(3600);

/// What to do with background tasks.
#[derive(Debug, Subcommand)]
pub enum TaskCommand {
    /// Lists the tasks
    List,
    /// Shows a task, its passes, and what the last one did
    Show(TaskArgs),
    /// Lets a task run now
    Activate(ActivateArgs),
    /// Lets no pass of a task start until it is resumed; one that runs goes on to its end
    Pause(PauseArgs),
    /// Lets a paused task run again; what it missed is one pass, at once
    Resume(TaskArgs),
    /// Says whether its period activates a task; everything else still does
    Periodic(PeriodicArgs),
}

/// Which task.
#[derive(Debug, Args)]
pub struct TaskArgs {
    /// Its name
    pub task: String,
}

/// Which task to run.
#[derive(Debug, Args)]
pub struct ActivateArgs {
    /// Its name
    pub task: String,
    /// Wait for the end of a pass that starts from now on
    #[arg(long)]
    pub wait: bool,
}

/// Which task to pause.
#[derive(Debug, Args)]
pub struct PauseArgs {
    /// Its name
    pub task: String,
    /// Resume it by itself after this time: 90s, 30m, 2h, 1d
    #[arg(long = "for", value_name = "TIME", value_parser = seconds)]
    pub for_seconds: Option<u32>,
    /// Why, for those who find it paused
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
}

/// Which task, and whether its period counts.
#[derive(Debug, Args)]
pub struct PeriodicArgs {
    /// Its name
    pub task: String,
    /// Whether its period activates it
    pub periodic: Switch,
}

/// On or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// It does
    On,
    /// It does not
    Off,
}

/// Runs the command.
pub async fn run(app: &App, command: TaskCommand) -> Result<Outcome, Failure> {
    match command {
        TaskCommand::List => {
            let tasks = app.client()?.tasks().await?;
            app.emit_list(tasks, "the coordinator runs no background task", render::task::list)?;
        }
        TaskCommand::Show(args) => {
            let task = app.client()?.task(&args.task).await?;
            app.emit(&task, render::task::show)?;
        }
        TaskCommand::Activate(args) => activate(app, &args).await?,
        TaskCommand::Pause(args) => pause(app, args).await?,
        TaskCommand::Resume(args) => {
            let task = app.client()?.task_resume(&args.task).await?;
            app.emit(&task, render::task::show)?;
        }
        TaskCommand::Periodic(args) => {
            let periodic = args.periodic == Switch::On;
            let task = app.client()?.task_set_periodic(&args.task, periodic).await?;
            app.talk.note("it holds until the coordinator restarts; its config is for what is to last");
            app.emit(&task, render::task::show)?;
        }
    }
    Ok(Outcome::Done)
}

async fn activate(app: &App, args: &ActivateArgs) -> Result<(), Failure> {
    let client = if args.wait { app.patient_client(PASS_MAX)? } else { app.client()? };
    let task = client.task_activate(&args.task, args.wait).await?;
    app.emit(&task, render::task::show)?;
    // A coordinator that is older says no more than which pass was the last.
    let pass = task.answer.or(task.last).filter(|_| args.wait);
    match pass.and_then(|pass| pass.error.map(|error| (pass.iteration, error))) {
        Some((iteration, error)) => Err(Failure::TaskPass { task: task.name, iteration, error }),
        None => Ok(()),
    }
}

async fn pause(app: &App, args: PauseArgs) -> Result<(), Failure> {
    let query = PauseQuery { for_seconds: args.for_seconds, reason: args.reason };
    let task = app.client()?.task_pause(&args.task, &query).await?;
    let ends = if args.for_seconds.is_some() { "its time is over" } else { "the coordinator restarts" };
    app.talk.note(&format!("{} is paused until {ends}, or: sledctl task resume {0}", task.name));
    app.emit(&task, render::task::show)
}

/// `90s`, `30m`, `2h`, `1d` in seconds.
pub(super) fn seconds(text: &str) -> Result<u32, String> {
    let wrong = || format!("{text:?} is no time; say 90s, 30m, 2h or 1d");
    let number = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = match &text[number.len()..] {
        "s" => 1,
        "m" | "min" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(wrong()),
    };
    let number: u32 = number.parse().map_err(|_| wrong())?;
    number.checked_mul(unit).filter(|seconds| *seconds > 0).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_with_their_unit_and_never_without() {
        let read = [("90s", 90), ("30m", 1800), ("30min", 1800), ("2h", 7200), ("1d", 86_400)];
        for (text, expected) in read {
            assert_eq!(seconds(text), Ok(expected), "{text}");
        }
        for text in ["", "5", "s", "0s", "-1s", "1.5h", "1 h", "5w", "99999999d", "5ß"] {
            assert!(seconds(text).unwrap_err().contains("90s, 30m, 2h or 1d"), "{text}");
        }
    }
}
