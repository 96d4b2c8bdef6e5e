//! The outbox's file.
//!
//! ```text
//! {"format":2,"checksum":"<SHA-256 of the content's compact JSON>","content":{"reserved":2048,"entries":[…]}}
//! ```
//! | format | |
//! |---|---|
//! | 1 | an entry does not say how far its repair was: `bytes_done` is not there |
//! | 2 | it may |
//!
//! **Who writes:** the outbox, through [`durable_fs::write_atomically`] (procedure [`PROCEDURE`]; its steps and what a crash after each
//! leaves are listed there): a crash leaves the old content or the new, whole.
//!
//! **The rule on open:** none is an empty outbox. One of format 1 is read, too, and is of format 2 when it is written next. One of an unknown format was written by a newer program, and is left as it is. One that is
//! damaged is told, and left as it is too: what was to be told is lost only if its owner says so, by moving it away.

use crate::entry::Entry;
use camino::{Utf8Path, Utf8PathBuf};
use durable_fs::{Storage, StorageError, remove_leftover, write_atomically};
use ids::ArtifactHash;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use thiserror::Error;

/// The outbox's name in the announced steps of writing it.
pub const PROCEDURE: &str = "repair_notices";

/// The format that is written.
const FORMAT: u32 = 2;

/// The oldest one that is read.
const FORMAT_MIN: u32 = 1;

/// The largest file that is read: many times what the most repairs take. More is damage.
const BYTES_MAX: u64 = 4 << 20;

/// What is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Content {
    /// Sequence numbers up to this one may have been given.
    pub(crate) reserved: u64,
    /// Oldest first.
    pub(crate) entries: Vec<Entry>,
}

/// An outbox that cannot be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The disk failed.
    #[error("cannot read the outbox of repair notices {path}")]
    Read {
        /// The file.
        path: Utf8PathBuf,
        /// Why.
        #[source]
        source: StorageError,
    },
    /// A newer program wrote it.
    #[error(
        "the outbox of repair notices {path} has format {found}, and this program knows {FORMAT_MIN} to {FORMAT}: run the program that wrote it"
    )]
    UnknownFormat {
        /// The file.
        path: Utf8PathBuf,
        /// What it has.
        found: u32,
    },
    /// It is not what was written.
    #[error(
        "the outbox of repair notices {path} is damaged ({reason}): move it away, and what it had to tell is lost"
    )]
    Damaged {
        /// The file.
        path: Utf8PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

#[derive(Serialize, Deserialize)]
struct File {
    format: u32,
    checksum: String,
    content: Content,
}

/// Only the part that every format must have.
#[derive(Deserialize)]
struct AnyFile {
    format: u32,
}

/// Reads it, after removing what an interrupted write has left.
pub(crate) fn read(storage: &dyn Storage, path: &Utf8Path) -> Result<Content, OpenError> {
    let failed = |source| OpenError::Read { path: path.to_owned(), source };
    remove_leftover(storage, path).map_err(failed)?;
    let file = match storage.open(path) {
        Err(error) if error.is_not_found() => return Ok(Content::default()),
        other => other.map_err(failed)?,
    };
    let size = file.metadata().map_err(failed)?.size;
    if size > BYTES_MAX {
        let reason = format!("{size} bytes are more than any has");
        return Err(OpenError::Damaged { path: path.to_owned(), reason });
    }
    let mut bytes = vec![0; usize::try_from(size).unwrap_or(0)];
    let read = file.read_at(0, &mut bytes).map_err(failed)?;
    parse(path, &bytes[..read])
}

fn parse(path: &Utf8Path, bytes: &[u8]) -> Result<Content, OpenError> {
    let damaged = |reason: String| OpenError::Damaged { path: path.to_owned(), reason };
    let AnyFile { format } = serde_json::from_slice(bytes).map_err(|error| damaged(error.to_string()))?;
    if !(FORMAT_MIN..=FORMAT).contains(&format) {
        return Err(OpenError::UnknownFormat { path: path.to_owned(), found: format });
    }
    let file: File = serde_json::from_slice(bytes).map_err(|error| damaged(error.to_string()))?;
    if file.checksum != checksum(&file.content) {
        return Err(damaged("its checksum does not fit".to_owned()));
    }
    Ok(file.content)
}

/// Writes it; durable when this returns.
pub(crate) fn write(
    storage: &Arc<dyn Storage>,
    path: &Utf8Path,
    content: &Content,
) -> Result<(), StorageError> {
    let file = File { format: FORMAT, checksum: checksum(content), content: content.clone() };
    let bytes = serde_json::to_vec(&file).expect("notices have nothing that JSON cannot say");
    write_atomically(storage, PROCEDURE, path, &bytes)
}

fn checksum(content: &Content) -> String {
    let bytes = serde_json::to_vec(content).expect("notices have nothing that JSON cannot say");
    ArtifactHash(Sha256::digest(bytes).into()).to_string()
}
