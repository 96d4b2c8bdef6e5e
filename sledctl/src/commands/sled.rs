//! `sledctl sled …`.

use crate::{
    app::App,
    confirm::{self, Question},
    failure::{Failure, Outcome},
    render, resolve,
};
use clap::{Args, Subcommand, ValueEnum};
use nexus_client::{
    OperatorClient,
    sleds::{Scrub, Sled, SledLiveness, SledPolicy},
};
use std::time::{Duration, Instant};

/// How often a scrub that is waited for is looked at.
const LOOK_PERIOD: Duration = Duration::from_millis(500);

/// How long a scrub that was asked for may show neither as running nor as ended. The coordinator asks the sled every few
/// seconds.
const UNSEEN_MAX: Duration = Duration::from_secs(60);

/// What to do with sleds.
#[derive(Debug, Subcommand)]
pub enum SledCommand {
    /// Lists the sleds
    List,
    /// Shows a sled, and which artifacts it misses and why
    Show(SledArgs),
    /// Says what is wanted of a sled
    SetPolicy(SetPolicyArgs),
    /// Lets a sled verify every copy that it holds; sled show says how far it is
    Scrub(ScrubArgs),
}

/// Which sled.
#[derive(Debug, Args)]
pub struct SledArgs {
    /// Its name, its id, or the beginning of its id
    pub sled: String,
}

/// Which sled, and whether to see it through.
#[derive(Debug, Args)]
pub struct ScrubArgs {
    /// Its name, its id, or the beginning of its id
    pub sled: String,
    /// Return when it has ended, and say what it found
    #[arg(long)]
    pub wait: bool,
}

/// Which sled, and what is wanted of it.
#[derive(Debug, Args)]
pub struct SetPolicyArgs {
    /// Its name, its id, or the beginning of its id
    pub sled: String,
    /// What is wanted of it
    pub policy: Policy,
    /// For expunged, where nobody can be asked: the sled's name, once more
    #[arg(long, value_name = "NAME")]
    pub confirm: Option<String>,
}

/// What is wanted of a sled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Policy {
    /// It takes part in everything
    #[value(alias = "in-service")]
    InService,
    /// Nothing new is placed on it; artifacts still come to it
    #[value(alias = "no-provision")]
    NoProvision,
    /// It is gone for good and never contacted again; this cannot be undone
    Expunged,
}

/// Runs the command.
pub async fn run(app: &App, command: SledCommand) -> Result<Outcome, Failure> {
    match command {
        SledCommand::List => {
            let sleds = app.client()?.sleds().await?;
            app.emit_list(sleds, "no sled has registered yet", render::sled::list)?;
        }
        SledCommand::Show(args) => show(app, &args.sled).await?,
        SledCommand::SetPolicy(args) => set_policy(app, &args).await?,
        SledCommand::Scrub(args) => scrub(app, &args).await?,
    }
    Ok(Outcome::Done)
}

async fn show(app: &App, name: &str) -> Result<(), Failure> {
    let client = app.client()?;
    let sled = find(app, name).await?;
    let replication = client.replication().await?;
    app.emit(&sled, |sled, look, now| render::sled::show(sled, &replication, look, now))
}

async fn set_policy(app: &App, args: &SetPolicyArgs) -> Result<(), Failure> {
    let sled = find(app, &args.sled).await?;
    let policy = match args.policy {
        Policy::InService => SledPolicy::InService,
        Policy::NoProvision => SledPolicy::NoProvision,
        Policy::Expunged => SledPolicy::Expunged,
    };
    if policy == SledPolicy::Expunged && sled.policy != SledPolicy::Expunged {
        confirm_expunge(app, &sled, args.confirm.as_deref())?;
    }
    let client = app.client()?;
    let sled = client.sled_set_policy(sled.id, policy).await?;
    app.talk.note(&format!("{} is {} from now on", sled.name, render::sled::policy_word(sled.policy)));
    let replication = client.replication().await?;
    app.emit(&sled, |sled, look, now| render::sled::show(sled, &replication, look, now))
}

async fn scrub(app: &App, args: &ScrubArgs) -> Result<(), Failure> {
    let sled = find(app, &args.sled).await?;
    let client = app.client()?;
    let mut scrub = client.sled_scrub(sled.id).await?;
    if args.wait {
        scrub = wait_for_scrub(&client, &sled).await?;
        return app.emit(&scrub, render::sled::scrub_started);
    }
    app.emit(&scrub, render::sled::scrub_started)?;
    app.talk.note(&format!("it goes on by itself: sledctl sled show {}", sled.name));
    Ok(())
}

/// Waits for the end of the scrub that was asked for after `before` was seen. The end of an earlier one is not it; and an
/// agent that starts anew has forgotten it.
async fn wait_for_scrub(client: &OperatorClient, before: &Sled) -> Result<Scrub, Failure> {
    let mut unseen_since = Instant::now();
    loop {
        tokio::time::sleep(LOOK_PERIOD).await;
        let seen = client.sled(before.id).await?;
        if !seen.scrub.running && seen.scrub.finished_at > before.scrub.finished_at {
            return Ok(seen.scrub);
        }
        if seen.scrub.running {
            unseen_since = Instant::now();
        }
        let restarted = seen.agent_epoch != before.agent_epoch;
        if restarted || seen.liveness == SledLiveness::Offline || unseen_since.elapsed() > UNSEEN_MAX {
            return Err(Failure::ScrubLost { sled: seen.name });
        }
    }
}

/// Expunging has no `--yes`: the name is given twice, so that a wrong line in a script's list does no harm.
fn confirm_expunge(app: &App, sled: &Sled, confirmation: Option<&str>) -> Result<(), Failure> {
    match confirmation {
        Some(name) if name == sled.name => Ok(()),
        Some(_) => Err(Failure::Declined { expected: sled.name.clone() }),
        None => confirm::ask(
            &Question {
                what: &format!("expunging sled {} ({})", sled.name, sled.id),
                consequence: "It is never contacted again, and what only it holds is lost to the cluster.",
                expected: &sled.name,
                flag: &format!("--confirm {}", sled.name),
            },
            app,
        ),
    }
}

async fn find(app: &App, name: &str) -> Result<Sled, Failure> {
    let sleds = app.client()?.sleds().await?;
    Ok(resolve::sled(name, &sleds)?.clone())
}
