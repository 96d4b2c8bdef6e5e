//! What an action answers when it did not succeed, and what of that is written to the log. Whether and when a fault is
//! tried again is `policy`'s; that its effects are gone before steno hears of it is `node_action`'s.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Why an attempt did not succeed. The variant says what is known of its *effect*, because that decides what follows:
/// steno never undoes a node that has failed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Fault {
    /// This attempt has certainly had no effect, and no other one would fare better.
    #[error("refused: {0}")]
    Refused(Cause),
    /// This attempt has certainly had no effect; another one may succeed.
    #[error("not now: {0}")]
    Transient(Cause),
    /// Nobody knows whether this attempt had an effect: an answer was lost, the action has panicked.
    #[error("effect unknown: {0}")]
    Unknown(Cause),
}

/// A fault in words, for people and programs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Error)]
#[error("{words} ({code})")]
pub struct Cause {
    /// A stable word for programs, such as `sled_unreachable`.
    pub code: String,
    /// For people.
    pub words: String,
}

/// How a node has failed, as the log and the end state have it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Error)]
#[error("node {node} failed after {attempts} attempts: {cause}")]
pub struct Failure {
    /// Its path: `node`, or `sub-saga/node`.
    pub node: String,
    /// What it was at last.
    pub cause: Cause,
    /// Attempts of this life of the coordinator; 0 if it was not tried.
    pub attempts: u32,
}

/// The code of an attempt that has panicked.
pub const CODE_PANICKED: &str = "panicked";
/// The code of a node that was not begun because the saga had been cancelled.
pub const CODE_CANCELLED: &str = "cancelled";
/// The code of a node that asked for an output or parameters that are not there, or of another shape.
pub const CODE_LOOKUP: &str = "wrong_lookup";
/// The code of an output that cannot be written to the log.
pub const CODE_OUTPUT: &str = "output_not_serializable";
/// The code of a node that did not run because the executor stops here.
pub const CODE_STOPPED: &str = "executor_stopped";
/// The code of an error that steno itself has made.
pub const CODE_ENGINE: &str = "saga_engine";

/// A word for programs.
const CODE_CHARACTERS_MAX: usize = 100;

/// A page of text: it is written to the log, to the row and to every list.
const WORDS_CHARACTERS_MAX: usize = 4_000;

impl Cause {
    /// A cause. Characters that not every store takes, or that move a terminal's cursor, become spaces; what is longer than
    /// anybody reads is cut.
    pub fn new(code: impl Into<String>, words: impl Into<String>) -> Cause {
        Cause {
            code: printable(code.into(), CODE_CHARACTERS_MAX),
            words: printable(words.into(), WORDS_CHARACTERS_MAX),
        }
    }
}

fn printable(text: String, characters_max: usize) -> String {
    if text.len() <= characters_max && !text.contains(char::is_control) {
        return text;
    }
    let plain = |character: char| if character.is_control() && character != '\n' { ' ' } else { character };
    text.chars().map(plain).take(characters_max).collect()
}

impl Fault {
    /// Certainly no effect, and none to be had.
    pub fn refused(code: impl Into<String>, words: impl Into<String>) -> Fault {
        Fault::Refused(Cause::new(code, words))
    }

    /// Certainly no effect this time.
    pub fn transient(code: impl Into<String>, words: impl Into<String>) -> Fault {
        Fault::Transient(Cause::new(code, words))
    }

    /// Perhaps an effect.
    pub fn unknown(code: impl Into<String>, words: impl Into<String>) -> Fault {
        Fault::Unknown(Cause::new(code, words))
    }

    /// What it was.
    #[must_use]
    pub fn cause(&self) -> &Cause {
        match self {
            Fault::Refused(cause) | Fault::Transient(cause) | Fault::Unknown(cause) => cause,
        }
    }

    /// Whether there may be an effect.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        matches!(self, Fault::Unknown(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_a_store_might_not_take_are_made_plain_and_bounded() {
        let cause = Cause::new("bad\0code", format!("a\0b\u{1b}[2J\n{}", "π".repeat(10_000)));
        assert_eq!(cause.code, "bad code");
        assert!(cause.words.starts_with("a b [2J\nπ"), "{}", cause.words);
        assert_eq!(cause.words.chars().count(), WORDS_CHARACTERS_MAX);
        assert_eq!(Cause::new("code", "plain words").words, "plain words");
    }
}
