//! The end of whoever has a directory, if that is provably the process that is to have it. Owns that nobody else is asked to end.
//!
//! ```text
//!   look ──► nobody ──────────────────────────────► done
//!        ├─► ours ──SIGTERM──► it ends within ──┬─► done
//!        │                                      └─► StillThere: it is left as it is
//!        └─► somebody else ───────────────────────► Unknown: left alone
//! ```

use crate::proof::{Holder, HolderError};
use camino::{Utf8Path, Utf8PathBuf};
use std::{io, time::Duration};
use thiserror::Error;
use tokio::time::timeout;

/// How long one may take to end. A Pantry flushes and ends each volume, all at once, within 15 s; a Downstairs closes its regions in order,
/// and a disk under load takes a while to sync them.
const END_LIMIT: Duration = Duration::from_secs(60);

/// Why it was not ended.
#[derive(Debug, Error)]
pub enum EndError {
    /// It cannot be seen who it is.
    #[error(transparent)]
    Holder(#[from] HolderError),
    /// Somebody else, or somebody who has not said yet who it is.
    #[error(
        "{dir} is in use by a process{} that is not provably its {duty} ({why}): it is left alone; if it is one, end it by hand",
        .pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default()
    )]
    Unknown {
        /// The directory.
        dir: Utf8PathBuf,
        /// What the process is to be.
        duty: &'static str,
        /// Who it says to be.
        pid: Option<u32>,
        /// Why that is no proof.
        why: String,
    },
    /// The system refuses.
    #[error("the {duty} of {dir} (pid {pid}) cannot be asked to end")]
    Signal {
        /// The directory.
        dir: Utf8PathBuf,
        /// What the process is.
        duty: &'static str,
        /// Which.
        pid: u32,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It was asked to.
    #[error("the {duty} of {dir} (pid {pid}) has not ended within {} s: it may wait for a disk", END_LIMIT.as_secs())]
    StillThere {
        /// The directory.
        dir: Utf8PathBuf,
        /// What the process is.
        duty: &'static str,
        /// Which.
        pid: u32,
    },
}

/// Asks whoever was found there to end, and waits until it has; done if there is nobody.
pub(crate) async fn end<T>(found: Holder<T>, duty: &'static str, dir: &Utf8Path) -> Result<(), EndError> {
    let dir = dir.to_owned();
    let ours = match found {
        Holder::Nobody => return Ok(()),
        Holder::Unknown { pid, why } => return Err(EndError::Unknown { dir, duty, pid, why }),
        Holder::Ours(ours, _) => ours,
    };
    let pid = ours.pid();
    let signal = |source| EndError::Signal { dir: dir.clone(), duty, pid, source };
    ours.ask_to_end().map_err(signal)?;
    match timeout(END_LIMIT, ours.ended()).await {
        Ok(ended) => ended.map_err(signal),
        Err(_) => Err(EndError::StillThere { dir, duty, pid }),
    }
}
