//! What a Downstairs is asked on its own machine: a line of JSON, and one as the answer.

use crate::{
    clones::{CloneStatus, Source},
    control::connect,
};
use camino::{Utf8Path, Utf8PathBuf};
use ids::{RegionId, SnapshotId};
use serde::{Deserialize, Serialize};
use std::{
    io::{self, BufRead, BufReader, Write},
    time::Duration,
};

/// How long an answer may take: longer than a snapshot may.
pub const ANSWER_MAX: Duration = Duration::from_secs(30);

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case", deny_unknown_fields)]
pub enum Order {
    /// Make this region, which was made to be one, a clone.
    Clone {
        /// Which.
        region: RegionId,
        /// From where.
        sources: Vec<Source>,
        /// How fast it may be.
        #[serde(default)]
        bytes_per_second: Option<u64>,
    },
    /// How far is it?
    CloneStatus {
        /// Which.
        region: RegionId,
    },
    /// Do nothing more for this region, and close it if nobody is connected.
    Release {
        /// Which.
        region: RegionId,
    },
    /// Take a snapshot of a region that nobody writes.
    Snapshot {
        /// Which region.
        region: RegionId,
        /// The snapshot's name.
        snapshot: SnapshotId,
    },
    /// Delete one.
    DeleteSnapshot {
        /// Which region.
        region: RegionId,
        /// Which snapshot.
        snapshot: SnapshotId,
    },
}

impl Order {
    /// Whether the disk has much to do for it. The others take a look at a file at most.
    #[must_use]
    pub fn is_slow(&self) -> bool {
        match self {
            Order::Snapshot { .. } | Order::DeleteSnapshot { .. } => true,
            Order::Clone { .. } | Order::CloneStatus { .. } | Order::Release { .. } => false,
        }
    }
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// How far a clone is.
    Clone(CloneStatus),
    /// It is done.
    Done,
    /// It is not.
    Refused {
        /// For programs. Stable.
        code: String,
        /// For people.
        words: String,
    },
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody serves the directory, or it has no socket.
    #[error("no Downstairs answers for {directory}")]
    NotThere {
        /// Which.
        directory: Utf8PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It said nothing, or garbage.
    #[error("the Downstairs of {directory} has not answered")]
    NoAnswer {
        /// Which.
        directory: Utf8PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Asks the Downstairs that serves a directory. Blocks.
///
/// # Errors
/// [`AskError`].
pub fn ask(directory: &Utf8Path, order: &Order) -> Result<Answer, AskError> {
    let not_there = |source| AskError::NotThere { directory: directory.to_owned(), source };
    let no_answer = |source| AskError::NoAnswer { directory: directory.to_owned(), source };
    let mut socket = connect(directory).map_err(not_there)?;
    let mut line = serde_json::to_vec(order).map_err(|error| no_answer(error.into()))?;
    line.push(b'\n');
    let mut answer = || {
        socket.set_read_timeout(Some(ANSWER_MAX))?;
        socket.set_write_timeout(Some(ANSWER_MAX))?;
        socket.write_all(&line)?;
        let mut said = String::new();
        BufReader::new(&socket).read_line(&mut said)?;
        Ok(serde_json::from_str(&said)?)
    };
    answer().map_err(no_answer)
}
