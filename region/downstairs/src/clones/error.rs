//! Why there is no clone.

use crate::snapshots::in_words;
use region_wire::{OtherSnapshot, PeerError};
use std::net::SocketAddr;

/// Why a source does not give what a clone needs of it.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// It says no, or nothing, or what cannot be.
    #[error(transparent)]
    Peer(#[from] PeerError),
    /// Two snapshots of one name.
    #[error(transparent)]
    OtherSnapshot(#[from] OtherSnapshot),
    /// It never had the bytes.
    #[error("the bytes of block {0} were lost when it was to get them")]
    Lost(u64),
}

impl SourceError {
    /// Whether it may be otherwise in a moment.
    fn may_pass(&self) -> bool {
        matches!(self, SourceError::Peer(error) if error.may_pass())
    }

    /// A name for programs, which does not change.
    fn code(&self) -> &'static str {
        match self {
            SourceError::Peer(error) => error.code(),
            SourceError::OtherSnapshot(_) => "other_snapshot",
            SourceError::Lost(_) => "lost_block",
        }
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
    let of = |(source, error): &(usize, SourceError)| format!("source {}: {}", source + 1, with_code(error));
    tried.iter().map(of).collect::<Vec<_>>().join("; ")
}

/// In words, and for programs.
fn with_code(error: &SourceError) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;
    use region::Position;
    use std::time::Duration;

    #[test]
    fn what_sources_have_said_is_told_in_words_and_by_names() {
        let other = OtherSnapshot { theirs: Position { epoch: 1, counter: 2 }, ours: Position::NONE };
        let lasting = || vec![(0, SourceError::Lost(7)), (1, other.into())];
        assert!(!CloneError::Sources(lasting()).may_pass());
        let silent = (2, PeerError::Silent(Duration::from_secs(3)).into());
        let error = CloneError::Sources(lasting().into_iter().chain([silent]).collect());
        assert!(error.may_pass());
        let expected = format!(
            "no source has given it: source 1: the bytes of block 7 were lost when it was to get them [lost_block]; source 2: {other} \
             [other_snapshot]; source 3: it has not answered within 3 s [silent]"
        );
        assert_eq!(error.to_string(), expected);
    }
}
