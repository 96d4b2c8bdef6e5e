//! Which coordinator is called with which token, and who said so.
//!
//! Each value is taken from the first place that has it, and remembers that place, so that an error can name it:
//!
//! | | 1 | 2 | 3 | 4 | 5 |
//! |---|---|---|---|---|---|
//! | URL | `--url` | `--context` | `SLEDCTL_URL` | current context | `http://127.0.0.1:12220` |
//! | token | `--token-file` | `--context` | `SLEDCTL_TOKEN` | `SLEDCTL_TOKEN_FILE` | current context |
//!
//! A context's token goes to that context's URL only: with another URL it is left out, because it was never meant
//! for whoever answers there.

use crate::{
    cli::GlobalOptions,
    context_file::{self, Context, ContextFileError, Contexts},
    environment::Environment,
};
use camino::{Utf8Path, Utf8PathBuf};
use std::{fmt, fs, io, io::Read};
use thiserror::Error;

/// Where a coordinator listens when nobody says anything else.
pub const DEFAULT_URL: &str = "http://127.0.0.1:12220";

/// A token is a line; a file beyond this is something else.
const TOKEN_BYTES_MAX: u64 = 4096;

/// The coordinator to call.
#[derive(Clone)]
pub struct Connection {
    /// Its operator API.
    pub url: String,
    /// Who said so.
    pub url_origin: UrlOrigin,
    /// The bearer token.
    pub token: Option<String>,
    /// Where it came from.
    pub token_origin: TokenOrigin,
}

/// Who said which URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UrlOrigin {
    /// `--url`.
    Flag,
    /// `SLEDCTL_URL`.
    Variable,
    /// A context.
    Context {
        /// Its name.
        name: String,
        /// The file it is in.
        path: Utf8PathBuf,
    },
    /// Nobody.
    Default,
}

/// Where the token came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenOrigin {
    /// There is none.
    None,
    /// `SLEDCTL_TOKEN`.
    Variable,
    /// A file: `--token-file`, `SLEDCTL_TOKEN_FILE` or a context's `token_file`.
    File(Utf8PathBuf),
    /// A context that holds it.
    Context(String),
}

impl fmt::Display for UrlOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UrlOrigin::Flag => f.write_str("--url"),
            UrlOrigin::Variable => f.write_str("SLEDCTL_URL"),
            UrlOrigin::Context { name, path } => write!(f, "context {name:?} in {path}"),
            UrlOrigin::Default => {
                f.write_str("the default, as neither --url, SLEDCTL_URL nor a context names one")
            }
        }
    }
}

impl fmt::Display for TokenOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TokenOrigin::None => f.write_str("nowhere: no token was given"),
            TokenOrigin::Variable => f.write_str("SLEDCTL_TOKEN"),
            TokenOrigin::File(path) => write!(f, "file {path}"),
            TokenOrigin::Context(name) => write!(f, "context {name:?}"),
        }
    }
}

/// Why no coordinator can be called.
#[derive(Debug, Error)]
pub enum ConnectionError {
    /// The context file cannot be used.
    #[error(transparent)]
    ContextFile(#[from] ContextFileError),
    /// The token's file cannot be read.
    #[error("the token file {path} could not be read")]
    TokenFile {
        /// Which file.
        path: Utf8PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What was found is not a token.
    #[error("the token from {origin} is {reason}")]
    Token {
        /// Where it came from.
        origin: TokenOrigin,
        /// What is wrong with it.
        reason: &'static str,
    },
}

/// Decides whom to call.
pub fn resolve(global: &GlobalOptions, environment: &Environment) -> Result<Connection, ConnectionError> {
    let context = chosen_context(global, environment)?;
    let (url, url_origin) = choose_url(global, environment, context.as_ref());
    let (token, token_origin) = choose_token(global, environment, context.as_ref(), &url_origin)?;
    Ok(Connection { url, url_origin, token, token_origin })
}

/// The context that applies.
struct Chosen {
    name: String,
    path: Utf8PathBuf,
    context: Context,
    /// Named by `--context`, not merely current.
    by_flag: bool,
}

/// The context named by flag, else the current one; the file is read only when it can matter.
fn chosen_context(
    global: &GlobalOptions,
    environment: &Environment,
) -> Result<Option<Chosen>, ConnectionError> {
    let by_flag = global.context.is_some();
    if !by_flag && (global.url.is_some() || environment.url.is_some()) {
        return Ok(None);
    }
    let path = match context_file::path_under(environment.config_home.as_deref()) {
        Ok(path) => path,
        Err(ContextFileError::NoHome) if !by_flag => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let contexts = Contexts::read(&path)?;
    let Some(name) = global.context.clone().or_else(|| contexts.current.clone()) else { return Ok(None) };
    let context = contexts.get(&name, &path)?.clone();
    Ok(Some(Chosen { name, path, context, by_flag }))
}

fn choose_url(
    global: &GlobalOptions,
    environment: &Environment,
    context: Option<&Chosen>,
) -> (String, UrlOrigin) {
    if let Some(url) = &global.url {
        return (url.clone(), UrlOrigin::Flag);
    }
    // Without --context, a context was only looked for because SLEDCTL_URL is not set.
    if let Some(chosen) = context {
        let origin = UrlOrigin::Context { name: chosen.name.clone(), path: chosen.path.clone() };
        return (chosen.context.url.clone(), origin);
    }
    match &environment.url {
        Some(url) => (url.clone(), UrlOrigin::Variable),
        None => (DEFAULT_URL.to_owned(), UrlOrigin::Default),
    }
}

fn choose_token(
    global: &GlobalOptions,
    environment: &Environment,
    context: Option<&Chosen>,
    url_origin: &UrlOrigin,
) -> Result<(Option<String>, TokenOrigin), ConnectionError> {
    let context = context.filter(|_| matches!(url_origin, UrlOrigin::Context { .. }));
    if let Some(path) = &global.token_file {
        return token_of_file(path);
    }
    if let Some(found) = context.filter(|chosen| chosen.by_flag).map(token_of_context).transpose()?.flatten()
    {
        return Ok(found);
    }
    if let Some(token) = &environment.token {
        return checked(token, TokenOrigin::Variable);
    }
    if let Some(path) = &environment.token_file {
        return token_of_file(path);
    }
    Ok(context.map(token_of_context).transpose()?.flatten().unwrap_or((None, TokenOrigin::None)))
}

/// A token with its origin.
type Found = (Option<String>, TokenOrigin);

fn token_of_context(chosen: &Chosen) -> Result<Option<Found>, ConnectionError> {
    if let Some(token) = &chosen.context.token {
        return checked(token, TokenOrigin::Context(chosen.name.clone())).map(Some);
    }
    chosen.context.token_file.as_deref().map(token_of_file).transpose()
}

fn token_of_file(path: &Utf8Path) -> Result<Found, ConnectionError> {
    let failed = |source| ConnectionError::TokenFile { path: path.to_owned(), source };
    let mut text = String::new();
    let file = fs::File::open(path).map_err(failed)?;
    file.take(TOKEN_BYTES_MAX + 1).read_to_string(&mut text).map_err(failed)?;
    checked(&text, TokenOrigin::File(path.to_owned()))
}

/// A token that can stand in a header.
fn checked(text: &str, origin: TokenOrigin) -> Result<Found, ConnectionError> {
    let token = text.trim();
    let reason = if token.is_empty() {
        "empty"
    } else if token.len() as u64 > TOKEN_BYTES_MAX {
        "longer than a token can be (4096 bytes)"
    } else if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        "not a token: it holds spaces, line breaks or other characters that no token has"
    } else {
        return Ok((Some(token.to_owned()), origin));
    };
    Err(ConnectionError::Token { origin, reason })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{ColorWhen, Format};
    use std::collections::BTreeMap;

    fn global() -> GlobalOptions {
        GlobalOptions {
            url: None,
            token_file: None,
            context: None,
            output: Format::Table,
            no_headers: false,
            color: ColorWhen::Auto,
        }
    }

    /// A home with contexts `lab` (current) and `rack`, each with a token of its own.
    fn home() -> (camino_tempfile::Utf8TempDir, Environment) {
        let dir = camino_tempfile::tempdir().unwrap();
        let context = |name: &str| Context {
            url: format!("http://{name}:12220"),
            token: Some(format!("{name}-token")),
            token_file: None,
        };
        let contexts =
            BTreeMap::from([("lab".to_owned(), context("lab")), ("rack".to_owned(), context("rack"))]);
        let path = context_file::path_under(Some(dir.path())).unwrap();
        Contexts { current: Some("lab".into()), contexts }.write(&path).unwrap();
        let environment = Environment { config_home: Some(dir.path().to_owned()), ..Environment::default() };
        (dir, environment)
    }

    #[test]
    fn nothing_said_means_the_default_url_and_no_token() {
        let found = resolve(&global(), &Environment::default()).unwrap();
        assert_eq!((found.url.as_str(), found.url_origin), (DEFAULT_URL, UrlOrigin::Default));
        assert_eq!((found.token, found.token_origin), (None, TokenOrigin::None));
    }

    #[test]
    fn each_place_beats_those_behind_it() {
        let (_dir, mut environment) = home();
        let current = resolve(&global(), &environment).unwrap();
        assert_eq!(current.url, "http://lab:12220");
        assert_eq!(current.token.as_deref(), Some("lab-token"));

        environment.url = Some("http://variable".into());
        environment.token = Some("variable-token".into());
        let variable = resolve(&global(), &environment).unwrap();
        assert_eq!((variable.url.as_str(), variable.url_origin), ("http://variable", UrlOrigin::Variable));
        assert_eq!(variable.token.as_deref(), Some("variable-token"));

        let named = GlobalOptions { context: Some("rack".into()), ..global() };
        let rack = resolve(&named, &environment).unwrap();
        assert_eq!(rack.url, "http://rack:12220");
        assert_eq!(rack.token.as_deref(), Some("rack-token"));

        let flag = GlobalOptions { url: Some("http://flag".into()), ..named };
        let flagged = resolve(&flag, &environment).unwrap();
        assert_eq!((flagged.url.as_str(), flagged.url_origin), ("http://flag", UrlOrigin::Flag));
        assert_eq!(flagged.token_origin, TokenOrigin::Variable);
    }

    #[test]
    fn token_of_a_context_is_not_sent_to_another_url() {
        let (_dir, environment) = home();
        let flag =
            GlobalOptions { url: Some("http://stranger".into()), context: Some("lab".into()), ..global() };
        assert_eq!(resolve(&flag, &environment).unwrap().token, None);
    }

    #[test]
    fn unusable_tokens_are_refused_with_their_origin() {
        for bad in [" \n", "two words", "tok\u{e9}n"] {
            let environment = Environment { token: Some(bad.into()), ..Environment::default() };
            let error = resolve(&global(), &environment).err().expect("a token that no header can carry");
            assert!(error.to_string().starts_with("the token from SLEDCTL_TOKEN is "), "{error}");
        }
    }

    #[test]
    fn broken_context_file_does_not_matter_when_the_url_is_given() {
        let (dir, environment) = home();
        fs::write(dir.path().join("sledctl/contexts.toml"), "nonsense").unwrap();
        assert!(resolve(&global(), &environment).is_err());
        let flag = GlobalOptions { url: Some("http://flag".into()), ..global() };
        assert_eq!(resolve(&flag, &environment).unwrap().url, "http://flag");
    }
}
