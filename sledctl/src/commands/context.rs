//! `sledctl context …`: named coordinators. Nobody is called.

use crate::{
    app::App,
    context_file::{self, Context, Contexts},
    failure::{Failure, Outcome},
    render::{
        self,
        context::{ConnectionView, ContextView},
    },
};
use clap::{Args, Subcommand};
use nexus_client::{ClientOptions, OperatorClient};
use std::{io, io::Read};

/// More than any token.
const TOKEN_BYTES_MAX: u64 = 4096;

/// What to do with contexts.
#[derive(Debug, Subcommand)]
pub enum ContextCommand {
    /// Lists the contexts
    List,
    /// Uses a context from now on
    Use(NameArgs),
    /// Shows a context; without a name, the connection in effect and where it comes from
    Show(ShowArgs),
    /// Adds or changes a context: stores what --url and --token-file say
    Set(SetArgs),
}

/// Which context.
#[derive(Debug, Args)]
pub struct NameArgs {
    /// Its name
    pub name: String,
}

/// Which context, if any.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// Its name
    pub name: Option<String>,
}

/// What to store.
#[derive(Debug, Args)]
pub struct SetArgs {
    /// Its name
    pub name: String,
    /// Read the token from standard input and store it in the context file
    #[arg(long)]
    pub token_stdin: bool,
}

/// Runs the command.
pub fn run(app: &App, command: ContextCommand) -> Result<Outcome, Failure> {
    match command {
        ContextCommand::List => list(app)?,
        ContextCommand::Use(args) => choose(app, &args.name)?,
        ContextCommand::Show(args) => show(app, args.name.as_deref())?,
        ContextCommand::Set(args) => set(app, &args)?,
    }
    Ok(Outcome::Done)
}

fn list(app: &App) -> Result<(), Failure> {
    let path = context_file::path_under(app.environment.config_home.as_deref())?;
    let contexts = Contexts::read(&path)?;
    let current = contexts.current.as_deref();
    let views = contexts
        .contexts
        .iter()
        .map(|(name, context)| ContextView::new(name, context, current == Some(name)))
        .collect();
    app.emit_list(views, &format!("no contexts in {path}"), |views, look, _| {
        render::context::list(views, look)
    })
}

fn choose(app: &App, name: &str) -> Result<(), Failure> {
    let path = context_file::path_under(app.environment.config_home.as_deref())?;
    let mut contexts = Contexts::read(&path)?;
    let url = contexts.get(name, &path)?.url.clone();
    contexts.current = Some(name.to_owned());
    contexts.write(&path)?;
    app.talk.note(&format!("context {name:?} is used from now on: {url}"));
    Ok(())
}

fn show(app: &App, name: Option<&str>) -> Result<(), Failure> {
    let Some(name) = name else {
        let view = ConnectionView::new(app.connection()?);
        return app.emit(&view, |view, look, _| render::context::effective(view, look));
    };
    let path = context_file::path_under(app.environment.config_home.as_deref())?;
    let contexts = Contexts::read(&path)?;
    let view = ContextView::new(name, contexts.get(name, &path)?, contexts.current.as_deref() == Some(name));
    app.emit(&view, |view, look, _| render::context::show(view, look))
}

/// What is not given keeps its value; a token of one kind replaces that of the other.
fn set(app: &App, args: &SetArgs) -> Result<(), Failure> {
    let path = context_file::path_under(app.environment.config_home.as_deref())?;
    let mut contexts = Contexts::read(&path)?;
    let known = contexts.contexts.get(&args.name).cloned();
    let url = app.global.url.clone().or_else(|| known.as_ref().map(|context| context.url.clone()));
    let Some(url) = url else {
        return Err(Failure::MissingOption {
            what: format!("context {:?} is new", args.name),
            option: "--url URL",
        });
    };
    OperatorClient::new(&url, &ClientOptions::default())?;
    let mut context =
        Context { url, ..known.unwrap_or(Context { url: String::new(), token: None, token_file: None }) };
    if let Some(token_file) = &app.global.token_file {
        context.token_file = Some(token_file.clone());
        context.token = None;
    }
    if args.token_stdin {
        context.token = Some(token_from_stdin()?);
        context.token_file = None;
    }
    contexts.contexts.insert(args.name.clone(), context);
    if contexts.contexts.len() == 1 {
        contexts.current = Some(args.name.clone());
    }
    contexts.write(&path)?;
    app.talk.note(&format!("context {:?} is stored in {path}", args.name));
    Ok(())
}

fn token_from_stdin() -> Result<String, Failure> {
    let mut text = String::new();
    io::stdin().take(TOKEN_BYTES_MAX).read_to_string(&mut text).map_err(Failure::Stdin)?;
    let token = text.trim();
    if token.is_empty() {
        return Err(Failure::Stdin(io::Error::new(io::ErrorKind::UnexpectedEof, "there is no token in it")));
    }
    Ok(token.to_owned())
}
