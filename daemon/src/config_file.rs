//! Reading a config file.
//!
//! Every settings struct denies unknown fields, so a misspelt key is an error with its line, never a default that
//! takes effect silently. The hint names the key that was probably meant.

use camino::{Utf8Path, Utf8PathBuf};
use serde::de::DeserializeOwned;
use thiserror::Error;

/// A config file that can not be used.
#[derive(Debug, Error)]
pub enum ConfigFileError {
    /// It can not be read.
    #[error("cannot read the config file {path}")]
    Read {
        /// The file.
        path: Utf8PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is not the TOML that is expected.
    #[error("{path}, line {line}: {message}{hint}")]
    Invalid {
        /// The file.
        path: Utf8PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong there.
        message: String,
        /// What was probably meant, with a leading separator; empty if nothing is near.
        hint: String,
    },
}

/// Reads and checks a config file.
pub fn read<T: DeserializeOwned>(path: &Utf8Path) -> Result<T, ConfigFileError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigFileError::Read { path: path.to_owned(), source })?;
    parse(path, &text)
}

fn parse<T: DeserializeOwned>(path: &Utf8Path, text: &str) -> Result<T, ConfigFileError> {
    toml::from_str(text).map_err(|error| {
        let line =
            error.span().map_or(1, |span| 1 + text[..span.start.min(text.len())].matches('\n').count());
        let message = error.message().to_owned();
        let hint = hint(&message).map(|key| format!("; did you mean `{key}`?")).unwrap_or_default();
        ConfigFileError::Invalid { path: path.to_owned(), line, message, hint }
    })
}

/// A key further away than this many edits is not taken for a misspelling.
const EDITS_MAX: usize = 3;

/// The expected key that is nearest to the unknown one, read from serde's own message.
fn hint(message: &str) -> Option<String> {
    let rest = message.strip_prefix("unknown field `")?;
    let (unknown, expected) = rest.split_once('`')?;
    expected
        .split('`')
        .skip(1)
        .step_by(2)
        .map(|key| (edits(unknown, key), key))
        .filter(|(distance, _)| *distance <= EDITS_MAX)
        .min()
        .map(|(_, key)| key.to_owned())
}

/// How many single-character edits lead from one word to the other (Levenshtein).
fn edits(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in to.iter().enumerate() {
            let substituted = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Settings {
        #[allow(dead_code, reason = "only its name matters")]
        state_dir: String,
        #[allow(dead_code, reason = "only its name matters")]
        depot_port: Option<u16>,
    }

    fn refusal(text: &str) -> String {
        parse::<Settings>("agent.toml".into(), text).unwrap_err().to_string()
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_line_and_the_key_that_was_meant() {
        let message = refusal("state_dir = \"/x\"\n\ndepo_port = 1\n");
        assert!(message.starts_with("agent.toml, line 3: unknown field `depo_port`"), "{message}");
        assert!(message.ends_with("did you mean `depot_port`?"), "{message}");
        assert!(!refusal("state_dir = \"/x\"\nsomething_else = 1\n").contains("did you mean"));
    }

    #[test]
    fn wrong_types_and_broken_syntax_name_their_line() {
        assert!(refusal("state_dir = \"/x\"\ndepot_port = \"many\"\n").starts_with("agent.toml, line 2:"));
        assert!(refusal("state_dir = \"/x\"\n[[[\n").starts_with("agent.toml, line 2:"));
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = read::<Settings>("/nonexistent/agent.toml".into()).unwrap_err();
        assert_eq!(error.to_string(), "cannot read the config file /nonexistent/agent.toml");
    }
}
