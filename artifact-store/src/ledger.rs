//! `config.json`: the durable copy, one for each dataset, of what the store should hold.
//!
//! ```text
//! {"format":1,"checksum":"<SHA-256 of the config's compact JSON>","config":{"cluster_id","generation","artifacts"}}
//! ```
//! **Who writes:** the keeper, through [`durable_fs::write_atomically`] (procedure `ledger`; its steps and what a crash
//! after each leaves are listed there): a crash leaves the old ledger or the new one, whole.
//!
//! **The rule on open:** *absent* (never written) and *unreadable* (written, and damaged since) are different answers:
//! an absent ledger says nothing, an unreadable one says that some generation was in force here, and the records tell
//! which at least (see [`crate::records`]). A format that is not known here was written by a newer program: the dataset
//! is refused and left untouched.

use crate::{config::StoreArtifactsConfig, layout};
use camino::Utf8Path;
use durable_fs::{Storage, StorageError, write_atomically};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use thiserror::Error;

/// The format that is written, and the only one that is read.
const FORMAT: u32 = 1;
/// The ledger's name in the announced steps of writing it.
pub(crate) const PROCEDURE: &str = "ledger";
/// The largest ledger that is read: some 15 000 000 artifacts. More is damage.
const LEDGER_BYTES_MAX: u64 = 1 << 30;

/// What a dataset's ledger says.
#[derive(Clone, Debug)]
pub(crate) enum LedgerCopy {
    /// None was ever written.
    Absent,
    /// One was written and cannot be trusted any more; the reason is for people.
    Unreadable(String),
    /// What should be held, as far as this dataset knows.
    Valid(Arc<StoreArtifactsConfig>),
}

/// A ledger that this program must not touch, or a disk that does not answer.
#[derive(Debug, Error)]
pub(crate) enum LedgerError {
    /// The disk failed.
    #[error("cannot read the ledger")]
    Read(#[source] StorageError),
    /// A newer program wrote it.
    #[error("the ledger has format {found}, and this program knows {FORMAT}")]
    UnknownFormat { found: u32 },
}

#[derive(Serialize, Deserialize)]
struct LedgerFile {
    format: u32,
    checksum: String,
    config: StoreArtifactsConfig,
}

/// Only the part that every format must have.
#[derive(Deserialize)]
struct AnyLedger {
    format: u32,
}

/// Reads a dataset's ledger.
pub(crate) fn read(storage: &dyn Storage) -> Result<LedgerCopy, LedgerError> {
    let file = match storage.open(Utf8Path::new(layout::LEDGER)) {
        Err(error) if error.is_not_found() => return Ok(LedgerCopy::Absent),
        other => other.map_err(LedgerError::Read)?,
    };
    let size = file.metadata().map_err(LedgerError::Read)?.size;
    if size > LEDGER_BYTES_MAX {
        return Ok(LedgerCopy::Unreadable(format!("{size} bytes are too many for a ledger")));
    }
    let mut bytes = vec![0; usize::try_from(size).unwrap_or(0)];
    let read = file.read_at(0, &mut bytes).map_err(LedgerError::Read)?;
    parse(&bytes[..read])
}

fn parse(bytes: &[u8]) -> Result<LedgerCopy, LedgerError> {
    match serde_json::from_slice::<AnyLedger>(bytes) {
        Ok(AnyLedger { format }) if format != FORMAT => {
            return Err(LedgerError::UnknownFormat { found: format });
        }
        Err(error) => return Ok(LedgerCopy::Unreadable(error.to_string())),
        Ok(_) => {}
    }
    Ok(match serde_json::from_slice::<LedgerFile>(bytes) {
        Err(error) => LedgerCopy::Unreadable(error.to_string()),
        Ok(file) if file.checksum != checksum(&file.config) => {
            LedgerCopy::Unreadable("its checksum does not fit".to_owned())
        }
        Ok(file) => LedgerCopy::Valid(Arc::new(file.config)),
    })
}

/// Writes a dataset's ledger; durable when this returns.
pub(crate) fn write(storage: &Arc<dyn Storage>, config: &StoreArtifactsConfig) -> Result<(), StorageError> {
    let file = LedgerFile { format: FORMAT, checksum: checksum(config), config: config.clone() };
    let bytes = serde_json::to_vec(&file).expect("a config has nothing that JSON cannot say");
    write_atomically(storage, PROCEDURE, Utf8Path::new(layout::LEDGER), &bytes)
}

fn checksum(config: &StoreArtifactsConfig) -> String {
    let bytes = serde_json::to_vec(config).expect("a config has nothing that JSON cannot say");
    ids::ArtifactHash(Sha256::digest(bytes).into()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use durable_fs::SimMachine;
    use ids::{ArtifactHash, ClusterId, Generation};

    fn config() -> StoreArtifactsConfig {
        let artifacts = [[1; 32], [2; 32]].map(ArtifactHash).into();
        StoreArtifactsConfig { cluster_id: ClusterId::generate(), generation: Generation(7), artifacts }
    }

    fn disk() -> (durable_fs::SimDisk, Arc<dyn Storage>) {
        let disk = SimMachine::new().add_disk(1 << 20);
        (disk.clone(), Arc::new(disk))
    }

    #[test]
    fn what_was_written_is_read() {
        let (_, storage) = disk();
        assert!(matches!(read(&*storage).unwrap(), LedgerCopy::Absent));
        let config = config();
        write(&storage, &config).unwrap();
        let LedgerCopy::Valid(found) = read(&*storage).unwrap() else { panic!("not valid") };
        assert_eq!(*found, config);
    }

    #[test]
    fn a_flip_of_any_bit_is_not_read_as_a_config() {
        let (disk, storage) = disk();
        write(&storage, &config()).unwrap();
        let path = Utf8Path::new(layout::LEDGER);
        for offset in 0..storage.metadata(path).unwrap().size {
            disk.flip_bit(path, offset).unwrap();
            assert!(!matches!(read(&*storage), Ok(LedgerCopy::Valid(_))), "byte {offset}");
            disk.flip_bit(path, offset).unwrap();
        }
    }

    #[test]
    fn an_unknown_format_is_refused() {
        let error = parse(br#"{"format":2,"whatever":true}"#).unwrap_err();
        assert!(matches!(error, LedgerError::UnknownFormat { found: 2 }));
    }
}
