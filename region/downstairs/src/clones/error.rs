//! Why there is no clone.

use crate::snapshots::in_words;
use region_wire::PeerError;
use std::net::SocketAddr;

/// Why there is no clone.
#[derive(Debug, thiserror::Error)]
pub enum CloneError {
    /// Somebody has said so.
    #[error("it was stopped")]
    Stopped,
    /// The region here cannot be filled.
    #[error("the region cannot be filled: {why}")]
    Target {
        /// In words.
        why: String,
        /// Whether it may be otherwise later.
        may_pass: bool,
    },
    /// Nobody has given all of it.
    #[error("no source has given it: {}", all_in_words(.0))]
    Sources(Vec<(usize, PeerError)>),
    /// What is here is not what is there.
    #[error(
        "blocks {first} to {last} are not what the source holds, when both are read back: nobody reads this region"
    )]
    Unequal {
        /// The first block of the part.
        first: u64,
        /// And the last one.
        last: u64,
    },
    /// The disk here does not give back what was written to it.
    #[error(
        "block {0} was written here, and is not read back as it was: the disk has changed it, and nobody reads this region"
    )]
    Rotten(u64),
}

fn all_in_words(tried: &[(usize, PeerError)]) -> String {
    let of = |(source, error): &(usize, PeerError)| format!("source {}: {}", source + 1, with_code(error));
    tried.iter().map(of).collect::<Vec<_>>().join("; ")
}

/// In words, and for programs.
fn with_code(error: &PeerError) -> String {
    format!("{} [{}]", in_words(error), error.code())
}

impl CloneError {
    /// Whether it is worth trying again.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        match self {
            CloneError::Target { may_pass, .. } => *may_pass,
            CloneError::Sources(tried) => tried.iter().any(|(_, error)| error.may_pass()),
            CloneError::Stopped | CloneError::Unequal { .. } | CloneError::Rotten(_) => false,
        }
    }

    /// In words, with the sources by their addresses.
    pub(crate) fn words(&self, addresses: &[SocketAddr]) -> String {
        let CloneError::Sources(tried) = self else { return in_words(self) };
        let name =
            |source: usize| addresses.get(source).map_or_else(|| "a source".to_owned(), ToString::to_string);
        let tried = tried.iter().map(|(source, error)| format!("{}: {}", name(*source), with_code(error)));
        format!("no source has given it: {}", tried.collect::<Vec<_>>().join("; "))
    }
}
