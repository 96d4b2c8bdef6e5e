//! `sledctl task …`: background tasks of the coordinator.

use crate::{
    app::App,
    failure::{Failure, Outcome},
    render,
};
use clap::{Args, Subcommand};
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
    }
    Ok(Outcome::Done)
}

async fn activate(app: &App, args: &ActivateArgs) -> Result<(), Failure> {
    let client = if args.wait { app.patient_client(PASS_MAX)? } else { app.client()? };
    let task = client.task_activate(&args.task, args.wait).await?;
    app.emit(&task, render::task::show)?;
    let last = task.last.filter(|_| args.wait);
    match last.and_then(|pass| pass.error.map(|error| (pass.iteration, error))) {
        Some((iteration, error)) => Err(Failure::TaskPass { task: task.name, iteration, error }),
        None => Ok(()),
    }
}
