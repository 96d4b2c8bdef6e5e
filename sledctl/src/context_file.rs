//! The context file: named coordinators, for people who have more than one.
//!
//! `$XDG_CONFIG_HOME/sledctl/contexts.toml` (else `~/.config/sledctl/contexts.toml`), mode 0600 because it may hold
//! tokens; a file that others can read is refused, not warned about.
//!
//! ```toml
//! current = "lab"
//!
//! [contexts.lab]
//! url = "http://10.0.0.1:12220"
//! token_file = "/home/ana/.lab-token"    # or: token = "…"
//! ```
//!
//! Written only by `sledctl context set|use`, by people, and by what deploys them. A write goes: temporary file beside
//! it (0600) → fsync → rename → fsync of the folder. A crash before the rename leaves the old file and at worst a
//! temporary one named `.contexts-*`, which nothing reads; after it, the new file. Comments are not kept by a write.

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fmt, fs, io,
    io::{Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt},
};
use thiserror::Error;

/// The mode bits that let others in.
const MODE_OTHERS: u32 = 0o077;

/// More than anybody's list of clusters; a file beyond this is not a context file.
const FILE_BYTES_MAX: u64 = 256 * 1024;

/// All contexts of a person.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contexts {
    /// The context that is used when none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<String>,
    /// The contexts, by name.
    #[serde(default)]
    pub contexts: BTreeMap<String, Context>,
}

/// One coordinator and how to be let in.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Context {
    /// The coordinator's operator API.
    pub url: String,
    /// The token itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// A file that holds the token; read at each call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_file: Option<Utf8PathBuf>,
}

/// The token never reaches a log or a message.
impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("url", &self.url)
            .field("token", &self.token.as_ref().map(|_| "…"))
            .field("token_file", &self.token_file)
            .finish()
    }
}

/// Why the context file cannot be used.
#[derive(Debug, Error)]
pub enum ContextFileError {
    /// There is no home to look in.
    #[error("neither XDG_CONFIG_HOME nor HOME says where the context file is")]
    NoHome,
    /// It cannot be read.
    #[error("the context file {path} could not be read")]
    Read {
        /// Where it is.
        path: Utf8PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Others can read it.
    #[error("the context file {path} has mode {mode:04o}: others can read it, and it may hold tokens")]
    Mode {
        /// Where it is.
        path: Utf8PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It is not what a context file looks like.
    #[error("{path}:{line}:{column}: {reason}")]
    Parse {
        /// Where it is.
        path: Utf8PathBuf,
        /// The line, from 1.
        line: usize,
        /// The column, from 1, in characters.
        column: usize,
        /// What is wrong there.
        reason: String,
    },
    /// A context has both kinds of token.
    #[error("{path}: context {name:?} has both token and token_file")]
    TwoTokens {
        /// Where it is.
        path: Utf8PathBuf,
        /// The context.
        name: String,
    },
    /// It names no such context.
    #[error("{path} has no context {name:?}; it has: {}", list(known))]
    Unknown {
        /// Where it is.
        path: Utf8PathBuf,
        /// What was asked for.
        name: String,
        /// What it has.
        known: Vec<String>,
    },
    /// It cannot be written.
    #[error("the context file {path} could not be written: {step}")]
    Write {
        /// Where it is.
        path: Utf8PathBuf,
        /// The step that failed.
        step: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl ContextFileError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            ContextFileError::NoHome => {
                Some("set HOME, or do without contexts: --url and SLEDCTL_TOKEN".to_owned())
            }
            ContextFileError::Mode { path, .. } => Some(format!("chmod 600 {path}")),
            ContextFileError::Parse { .. } => Some(
                "known keys: current, contexts.NAME.url, contexts.NAME.token, contexts.NAME.token_file"
                    .to_owned(),
            ),
            ContextFileError::TwoTokens { .. } => Some("keep one of them".to_owned()),
            ContextFileError::Unknown { .. } => {
                Some("sledctl context set NAME --url URL adds one".to_owned())
            }
            ContextFileError::Read { .. } | ContextFileError::Write { .. } => None,
        }
    }
}

/// Where the context file is, under the folder of people's configuration.
pub fn path_under(config_home: Option<&Utf8Path>) -> Result<Utf8PathBuf, ContextFileError> {
    Ok(config_home.ok_or(ContextFileError::NoHome)?.join("sledctl").join("contexts.toml"))
}

impl Contexts {
    /// Reads the file; a file that is not there holds no contexts.
    pub fn read(path: &Utf8Path) -> Result<Contexts, ContextFileError> {
        let failed = |source| ContextFileError::Read { path: path.to_owned(), source };
        let file = match fs::File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Contexts::default()),
            Err(error) => return Err(failed(error)),
        };
        let metadata = file.metadata().map_err(failed)?;
        if !metadata.is_file() {
            return Err(failed(io::Error::other("it is not a regular file")));
        }
        let mode = metadata.mode() & 0o7777;
        if mode & MODE_OTHERS != 0 {
            return Err(ContextFileError::Mode { path: path.to_owned(), mode });
        }
        let mut text = String::new();
        file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(failed)?;
        if text.len() as u64 > FILE_BYTES_MAX {
            return Err(failed(io::Error::other(format!("it is longer than {FILE_BYTES_MAX} bytes"))));
        }
        Contexts::parse(&text, path)
    }

    /// Understands the file's text.
    pub fn parse(text: &str, path: &Utf8Path) -> Result<Contexts, ContextFileError> {
        let contexts: Contexts = toml::from_str(text).map_err(|error| {
            let (line, column) = position(text, error.span().map_or(0, |span| span.start));
            let reason = error.message().to_owned();
            ContextFileError::Parse { path: path.to_owned(), line, column, reason }
        })?;
        for (name, context) in &contexts.contexts {
            if context.token.is_some() && context.token_file.is_some() {
                return Err(ContextFileError::TwoTokens { path: path.to_owned(), name: name.clone() });
            }
        }
        Ok(contexts)
    }

    /// The context of this name.
    pub fn get(&self, name: &str, path: &Utf8Path) -> Result<&Context, ContextFileError> {
        self.contexts.get(name).ok_or_else(|| ContextFileError::Unknown {
            path: path.to_owned(),
            name: name.to_owned(),
            known: self.contexts.keys().cloned().collect(),
        })
    }

    /// Replaces the file, in the steps that the module names.
    pub fn write(&self, path: &Utf8Path) -> Result<(), ContextFileError> {
        let failed = |step| move |source| ContextFileError::Write { path: path.to_owned(), step, source };
        let folder = path.parent().unwrap_or(Utf8Path::new("."));
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(failed("making its folder"))?;
        let text = toml::to_string_pretty(self)
            .map_err(|error| failed("making its text")(io::Error::other(error.to_string())))?;
        // The temporary file is made with mode 0600, which is the mode that reading asks for.
        let mut temporary = camino_tempfile::Builder::new()
            .prefix(".contexts-")
            .tempfile_in(folder)
            .map_err(failed("making a temporary file beside it"))?;
        temporary.write_all(text.as_bytes()).map_err(failed("writing the temporary file"))?;
        temporary.as_file().sync_all().map_err(failed("syncing the temporary file"))?;
        temporary.persist(path).map_err(|error| failed("putting the new file in its place")(error.error))?;
        fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed("syncing its folder"))
    }
}

/// Line and column, from 1, of a byte offset.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn lab() -> Contexts {
        let lab =
            Context { url: "http://10.0.0.1:12220".into(), token: Some("secret".into()), token_file: None };
        Contexts { current: Some("lab".into()), contexts: BTreeMap::from([("lab".to_owned(), lab)]) }
    }

    #[test]
    fn file_reads_back_as_it_was_written_and_only_the_owner_can_read_it() {
        let dir = camino_tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/sledctl/contexts.toml");
        lab().write(&path).unwrap();
        lab().write(&path).unwrap();
        assert_eq!(Contexts::read(&path).unwrap(), lab());
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "a temporary file was left");
    }

    #[test]
    fn file_that_others_can_read_is_refused() {
        let dir = camino_tempfile::tempdir().unwrap();
        let path = dir.path().join("contexts.toml");
        lab().write(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let error = Contexts::read(&path).unwrap_err();
        assert!(matches!(error, ContextFileError::Mode { mode: 0o640, .. }), "{error}");
        assert_eq!(error.hint().unwrap(), format!("chmod 600 {path}"));
    }

    #[test]
    fn missing_file_holds_no_contexts() {
        let dir = camino_tempfile::tempdir().unwrap();
        assert_eq!(Contexts::read(&dir.path().join("none.toml")).unwrap(), Contexts::default());
    }

    #[test]
    fn unknown_key_is_refused_with_its_line() {
        let text = "current = \"lab\"\n\n[contexts.lab]\nurl = \"http://a\"\ntokn = \"x\"\n";
        let error = Contexts::parse(text, Utf8Path::new("c.toml")).unwrap_err();
        assert!(error.to_string().starts_with("c.toml:5:1: unknown field `tokn`"), "{error}");
    }

    #[test]
    fn two_kinds_of_token_are_refused() {
        let text = "[contexts.lab]\nurl = \"http://a\"\ntoken = \"x\"\ntoken_file = \"/y\"\n";
        let error = Contexts::parse(text, Utf8Path::new("c.toml")).unwrap_err();
        assert!(matches!(error, ContextFileError::TwoTokens { .. }), "{error}");
    }

    #[test]
    fn token_is_not_in_the_debug_text() {
        assert!(!format!("{:?}", lab()).contains("secret"));
    }
}
