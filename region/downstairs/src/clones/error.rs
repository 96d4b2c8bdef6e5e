//! Why there is no clone.

use crate::snapshots::in_words;
use region::{Geometry, Position};
use region_wire::WireError;
use std::{io, net::SocketAddr, time::Duration};

/// Why a source does not give what it is asked for.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// Nobody is there.
    #[error("it cannot be reached")]
    NotConnected(#[source] io::Error),
    /// It is gone.
    #[error("its connection broke")]
    Broken(#[source] io::Error),
    /// It says nothing.
    #[error("it has not answered within {} s", .0.as_secs())]
    Silent(Duration),
    /// It has no such snapshot, in its words.
    #[error("{0}")]
    NoSnapshot(String),
    /// It says no, in its words.
    #[error("it refuses: {0}")]
    Refused(String),
    /// Garbage.
    #[error("what it says is no message")]
    Wire(#[from] WireError),
    /// Nonsense.
    #[error("it says what cannot be: {0}")]
    Strange(&'static str),
    /// Another size.
    #[error("its blocks are {theirs:?}, and should be {ours:?}")]
    OtherBlocks {
        /// There.
        theirs: Geometry,
        /// Here.
        ours: Geometry,
    },
    /// It was made anew under an old id.
    #[error("it is another region under the same id: its incarnation is {theirs}, and should be {ours}")]
    OtherIncarnation {
        /// There.
        theirs: u64,
        /// As was asked for.
        ours: u64,
    },
    /// Two snapshots of one name.
    #[error(
        "its snapshot of that name is another one: it is of position {theirs}, and that of others is of {ours}"
    )]
    OtherSnapshot {
        /// There.
        theirs: Position,
        /// Elsewhere.
        ours: Position,
    },
    /// Rotten there, or on the way; or a lie.
    #[error("block {0} is not what was written there")]
    WrongBlock(u64),
    /// It never had the bytes.
    #[error("the bytes of block {0} were lost when it was to get them")]
    Lost(u64),
}

impl SourceError {
    /// Whether it may be otherwise in a moment.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        matches!(self, SourceError::NotConnected(_) | SourceError::Broken(_) | SourceError::Silent(_))
    }
}

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
    Sources(Vec<(usize, SourceError)>),
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

fn all_in_words(tried: &[(usize, SourceError)]) -> String {
    let of = |(source, error): &(usize, SourceError)| format!("source {}: {}", source + 1, in_words(error));
    tried.iter().map(of).collect::<Vec<_>>().join("; ")
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
        let tried = tried.iter().map(|(source, error)| format!("{}: {}", name(*source), in_words(error)));
        format!("no source has given it: {}", tried.collect::<Vec<_>>().join("; "))
    }
}
