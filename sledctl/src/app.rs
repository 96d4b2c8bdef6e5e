//! What every command is given: options, surroundings, the connection, and the two ways to speak.

use crate::{
    cli::{Cli, Command, Format, GlobalOptions},
    commands,
    connection::{self, Connection},
    environment::Environment,
    failure::{Failure, Outcome},
    output,
    render::{self, Look},
    talk::Talk,
};
use jiff::Timestamp;
use nexus_client::{ClientOptions, OperatorClient, pages::Page};
use serde::Serialize;
use std::{sync::OnceLock, time::Duration};

/// One run of the program.
pub struct App {
    /// Options that hold for every command.
    pub global: GlobalOptions,
    /// The surroundings.
    pub environment: Environment,
    /// How standard output looks.
    pub look: Look,
    /// Standard error.
    pub talk: Talk,
    /// Decided when it is first needed: `version` works beside a broken context file.
    connection: OnceLock<Connection>,
}

/// Runs the command and says what went wrong, if something did. Gives the exit code.
pub async fn run(cli: Cli, environment: Environment) -> u8 {
    let app = App::new(cli.global, environment);
    match dispatch(&app, cli.command).await {
        Ok(outcome) => outcome.exit_code(),
        Err(failure) => {
            app.talk.text(&render::failure::failure(&failure, app.connection.get(), app.talk.look()));
            failure.exit_code()
        }
    }
}

async fn dispatch(app: &App, command: Command) -> Result<Outcome, Failure> {
    match command {
        Command::Status => commands::status::run(app).await,
        Command::Sled(command) => commands::sled::run(app, command).await,
        Command::Repo(command) => commands::repo::run(app, command).await,
        Command::TrustRoot(command) => commands::trust_root::run(app, command).await,
        Command::Artifact(command) => commands::artifact::run(app, command).await,
        Command::Task(command) => commands::task::run(app, command).await,
        Command::Op(command) => commands::op::run(app, command).await,
        Command::Context(command) => commands::context::run(app, command),
        Command::Completion(args) => commands::completion::run(&args),
        Command::Version => commands::version::run(app),
    }
}

impl App {
    /// A run with these options in these surroundings.
    #[must_use]
    pub fn new(global: GlobalOptions, environment: Environment) -> App {
        let look = environment.look(&global);
        let talk = Talk::new(environment.look_of_talk(&global), environment.stderr_is_terminal);
        App { global, environment, look, talk, connection: OnceLock::new() }
    }

    /// Whom to call.
    pub fn connection(&self) -> Result<&Connection, Failure> {
        if let Some(known) = self.connection.get() {
            return Ok(known);
        }
        let found = connection::resolve(&self.global, &self.environment)?;
        Ok(self.connection.get_or_init(|| found))
    }

    /// A client of the coordinator for calls that are answered at once.
    pub fn client(&self) -> Result<OperatorClient, Failure> {
        self.client_with(None)
    }

    /// A client of the coordinator that lets it be silent for `silence_max`.
    pub fn patient_client(&self, silence_max: Duration) -> Result<OperatorClient, Failure> {
        self.client_with(Some(silence_max))
    }

    fn client_with(&self, read_idle_timeout: Option<Duration>) -> Result<OperatorClient, Failure> {
        let connection = self.connection()?;
        let options =
            ClientOptions { token: connection.token.clone(), source_address: None, read_idle_timeout };
        Ok(OperatorClient::new(&connection.url, &options)?)
    }

    /// Prints one API object: as it is, or as text.
    pub fn emit<T: Serialize>(
        &self,
        object: &T,
        text: impl FnOnce(&T, &Look, Timestamp) -> String,
    ) -> Result<(), Failure> {
        match self.global.output {
            Format::Json => {
                let mut json = serde_json::to_string_pretty(object).map_err(Failure::Json)?;
                json.push('\n');
                output::print(&json)
            }
            Format::Table | Format::Wide => output::print(&text(object, &self.look, Timestamp::now())),
        }
    }

    /// Prints a list: as the one page that the API would answer if pages had no limit, or as rows. `nothing` is said
    /// where there are none.
    pub fn emit_list<T: Serialize>(
        &self,
        items: Vec<T>,
        nothing: &str,
        rows: impl FnOnce(&[T], &Look, Timestamp) -> String,
    ) -> Result<(), Failure> {
        let page = Page { items, next_page: None };
        if page.items.is_empty() && self.global.output != Format::Json {
            self.talk.note(nothing);
        }
        self.emit(&page, |page, look, now| rows(&page.items, look, now))
    }
}
