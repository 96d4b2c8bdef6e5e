//! What errors say about a disk. Owns the one mapping from an error to a health.

use crate::{
    error::DatasetError,
    types::{DiskReport, Health, Quotas},
    zfs::SUSPENDED,
};
use std::error::Error;

impl DiskReport {
    /// Of a disk that was not asked yet.
    pub(crate) fn unasked(disk: &str, quotas: Quotas) -> DiskReport {
        DiskReport {
            disk: disk.to_owned(),
            directory: None,
            pool: None,
            file_system: None,
            reflinks: None,
            snapshots: None,
            quotas,
            space: None,
            health: Health::Healthy,
            detail: None,
        }
    }

    /// Asking it has failed.
    pub(crate) fn fails(&mut self, error: &DatasetError) {
        self.health = match error {
            DatasetError::DiskMissing { .. }
            | DatasetError::NoZfs { .. }
            | DatasetError::NotMounted { .. }
            | DatasetError::NoMountpoint { .. } => Health::Missing,
            DatasetError::DiskReadOnly { .. } => Health::ReadOnly,
            DatasetError::DiskFull { .. } => Health::Full,
            DatasetError::DiskFaulted { state, .. } if state != SUSPENDED => Health::Faulted,
            DatasetError::DiskFaulted { .. } | DatasetError::DiskHangs { .. } => Health::Suspended,
            _ => Health::Failed,
        };
        let mut words = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            words = format!("{words}: {cause}");
            source = cause.source();
        }
        self.detail = Some(words);
    }
}
