//! The file of a region, which is done for with its first sync that fails.
//!
//! Linux tells of a failed sync once, and counts what it was for as written: a sync that comes next, or that was begun at the same time,
//! succeeds, and says nothing. So after a failure no sync of this file succeeds any more, and none is made while another one is:
//! whether that one fails would be known too late.
//!
//! ```text
//!   in order ──a sync fails──► failed, until the file is opened again, which looks at the medium
//! ```

use crate::rules::Rule;
use durable_fs::{InPlaceFile, StorageError};
use std::{
    io::{self, IoSlice},
    sync::{Arc, Mutex, PoisonError},
};

/// The file.
#[derive(Debug)]
pub(crate) struct FailStop {
    file: Arc<dyn InPlaceFile>,
    /// The first sync that failed.
    failed: Mutex<Option<Failure>>,
}

/// Of an error, what is told again.
#[derive(Debug)]
struct Failure {
    kind: io::ErrorKind,
    error: StorageError,
}

impl FailStop {
    pub(crate) fn new(file: Arc<dyn InPlaceFile>) -> FailStop {
        FailStop { file, failed: Mutex::new(None) }
    }

    /// The same file without that: for what is said of the failure, and for nothing else.
    pub(crate) fn for_last_words(&self) -> &dyn InPlaceFile {
        self.file.as_ref()
    }
}

impl InPlaceFile for FailStop {
    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), StorageError> {
        self.file.read_exact_at(offset, buffer)
    }

    fn next_data(&self, offset: u64) -> Option<u64> {
        self.file.next_data(offset)
    }

    fn write_all_at(&self, offset: u64, slices: &mut [IoSlice<'_>]) -> Result<(), StorageError> {
        self.file.write_all_at(offset, slices)
    }

    fn append_exact_at(&self, offset: u64, length: usize, into: &mut Vec<u8>) -> Result<(), StorageError> {
        self.file.append_exact_at(offset, length, into)
    }

    fn write_through_at(&self, offset: u64, slices: &mut [IoSlice<'_>]) -> Result<(), StorageError> {
        self.file.write_through_at(offset, slices)
    }

    fn reserve(&self, offset: u64, length: u64) -> Result<(), StorageError> {
        self.file.reserve(offset, length)
    }

    fn lengthen(&self, length: u64) -> Result<(), StorageError> {
        self.file.lengthen(length)
    }

    fn sync_data(&self) -> Result<(), StorageError> {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(failure) = &*failed
            && Rule::FailedSyncIsForGood.is_kept()
        {
            return Err(failure.again());
        }
        self.file.sync_data().map_err(|error| {
            let failure = Failure { kind: error.source.kind(), error };
            let again = failure.again();
            *failed = Some(failure);
            again
        })
    }

    fn size(&self) -> Result<u64, StorageError> {
        self.file.size()
    }

    fn drop_cache(&self) {
        self.file.drop_cache();
    }

    fn forget_unsynced(&self, seed: u64) {
        self.file.forget_unsynced(seed);
    }
}

impl Failure {
    fn again(&self) -> StorageError {
        let StorageError { operation, path, source } = &self.error;
        let source = match source.raw_os_error() {
            Some(number) => io::Error::from_raw_os_error(number),
            None => io::Error::new(self.kind, source.to_string()),
        };
        StorageError::new(*operation, path, source)
    }
}
