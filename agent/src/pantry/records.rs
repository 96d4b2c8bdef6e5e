//! What is remembered of volumes, whoever dies: `<state_dir>/pantry.json`.
//!
//! Of each volume, the highest right of a coordinator that was heard of, and whether it was attached. Written as a whole, durably,
//! before what it says counts: a crash leaves the file as it was or as it was to be. A file that cannot be read is never replaced, and
//! the agent does not start: it would obey coordinators that were replaced long ago.

use super::error::PantryCallError;
use camino::{Utf8Path, Utf8PathBuf};
use daemon::state_file::{self, StateFileError};
use ids::VolumeId;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};
use volume_pantry::StaleEpoch;

/// The file.
const FILE_NAME: &str = "pantry.json";

/// The file's format.
const VERSION: u8 = 1;

/// Volumes that are remembered and not attached, at most: more than any coordinator has calls under way. Beyond that the ones with the
/// lowest ids are forgotten, which are the oldest ones. All of them are some 500 KiB.
pub const DETACHED_MAX: usize = 4_096;

/// Volumes that are attached, or were and have ended with their Pantry, at most: a Pantry holds far fewer. Nobody forgets these but a
/// coordinator that detaches them.
pub const ATTACHED_MAX: usize = 256;

/// The greatest right: any program that reads JSON keeps it exactly.
const EXECUTOR_EPOCH_MAX: u64 = (1 << 53) - 1;

/// What is remembered of a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// The highest right of a coordinator that was heard of.
    pub executor_epoch: u64,
    /// By which request it was attached last, if it was not detached since.
    pub attached: Option<Request>,
}

/// A construction request, in short. Keys are never here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// Its version.
    pub config_version: u64,
    /// Its right to write.
    pub epoch: u32,
    /// Whether the volume is encrypted: whoever attaches it anew has to have its key.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub encrypted: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u8,
    volumes: BTreeMap<VolumeId, Record>,
}

/// All records. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Records {
    directory: Utf8PathBuf,
    known: Arc<Mutex<BTreeMap<VolumeId, Record>>>,
}

impl Records {
    /// Those that are there.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn open(directory: &Utf8Path) -> Result<Records, StateFileError> {
        let none = || File { version: VERSION, volumes: BTreeMap::new() };
        let file =
            state_file::update(directory, FILE_NAME, |known: Option<File>| known.unwrap_or_else(none))?;
        Ok(Records { directory: directory.to_owned(), known: Arc::new(Mutex::new(file.volumes)) })
    }

    /// What is remembered of a volume.
    #[must_use]
    pub fn get(&self, id: VolumeId) -> Option<Record> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&id).copied()
    }

    /// Volumes that were attached and not detached since.
    #[must_use]
    pub fn attached(&self) -> BTreeMap<VolumeId, Record> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known
            .iter()
            .filter(|(_, record)| record.attached.is_some())
            .map(|(id, record)| (*id, *record))
            .collect()
    }

    /// Refuses one more than there may be.
    fn check_room(&self, id: VolumeId) -> Result<(), PantryCallError> {
        let attached = self.attached();
        if attached.len() >= ATTACHED_MAX && !attached.contains_key(&id) {
            return Err(PantryCallError::Full(attached.len()));
        }
        Ok(())
    }

    /// Hears of a coordinator's right; durable on return.
    ///
    /// # Errors
    /// `stale_epoch`, `bad_request`, `unavailable`.
    pub async fn hear(&self, id: VolumeId, executor_epoch: u64) -> Result<(), PantryCallError> {
        if !(1..=EXECUTOR_EPOCH_MAX).contains(&executor_epoch) {
            return Err(PantryCallError::ExecutorEpoch(executor_epoch));
        }
        self.change(id, move |record| {
            check_epoch(id, record, executor_epoch)?;
            Ok(Record { executor_epoch, attached: record.and_then(|record| record.attached) })
        })
        .await
    }

    /// It is going to be attached by this request, for this coordinator; durable on return. By then a newer one may have been heard of.
    ///
    /// # Errors
    /// `stale_epoch`, `pantry_volumes_full`, `unavailable`.
    pub async fn begin(
        &self,
        id: VolumeId,
        executor_epoch: u64,
        request: Request,
    ) -> Result<(), PantryCallError> {
        self.check_room(id)?;
        self.change(id, move |record| {
            check_epoch(id, record, executor_epoch)?;
            Ok(Record { executor_epoch, attached: Some(request) })
        })
        .await
    }

    /// It was attached by this request, or detached; durable on return.
    ///
    /// # Errors
    /// `unavailable`.
    pub async fn note(&self, id: VolumeId, attached: Option<Request>) -> Result<(), PantryCallError> {
        self.change(id, move |record| {
            let executor_epoch = record.map_or(0, |record| record.executor_epoch);
            Ok(Record { executor_epoch, attached })
        })
        .await
    }

    async fn change(
        &self,
        id: VolumeId,
        change: impl FnOnce(Option<Record>) -> Result<Record, PantryCallError> + Send + 'static,
    ) -> Result<(), PantryCallError> {
        let Records { directory, known } = self.clone();
        let write = move || {
            // What counts is what is durable: whoever looks meanwhile waits for it.
            let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
            let record = change(known.get(&id).copied())?;
            if known.get(&id) == Some(&record) {
                return Ok(());
            }
            let mut next = known.clone();
            next.insert(id, record);
            forget(&mut next);
            let file = File { version: VERSION, volumes: next };
            let file = state_file::update(&directory, FILE_NAME, |_: Option<File>| file);
            *known = file.map_err(|source| PantryCallError::Record { id, source })?.volumes;
            Ok(())
        };
        tokio::task::spawn_blocking(write).await.unwrap_or(Err(PantryCallError::Died(id)))
    }
}

/// Refuses whoever was replaced.
fn check_epoch(id: VolumeId, record: Option<Record>, given: u64) -> Result<(), PantryCallError> {
    let known = record.map_or(0, |record| record.executor_epoch);
    Ok(StaleEpoch::check(id, known, given)?)
}

fn forget(volumes: &mut BTreeMap<VolumeId, Record>) {
    let detached: Vec<VolumeId> =
        volumes.iter().filter(|(_, record)| record.attached.is_none()).map(|(id, _)| *id).collect();
    for id in detached.iter().take(detached.len().saturating_sub(DETACHED_MAX)) {
        volumes.remove(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use problem::Code;

    #[tokio::test]
    async fn the_highest_right_is_kept_over_a_restart_and_a_lower_one_is_refused() {
        let temp = camino_tempfile::tempdir().unwrap();
        let id = VolumeId::generate();
        let records = Records::open(temp.path()).unwrap();
        records.hear(id, 5).await.unwrap();
        let request = Request { config_version: 3, epoch: 9, encrypted: true };
        records.note(id, Some(request)).await.unwrap();
        for records in [records, Records::open(temp.path()).unwrap()] {
            assert_eq!(records.hear(id, 4).await.unwrap_err().code(), Code::StaleEpoch);
            records.hear(id, 5).await.unwrap();
            assert_eq!(records.get(id), Some(Record { executor_epoch: 5, attached: Some(request) }));
        }
        // It was let through, and is late.
        let records = Records::open(temp.path()).unwrap();
        assert_eq!(records.begin(id, 4, request).await.unwrap_err().code(), Code::StaleEpoch);
        let next = Request { config_version: 4, ..request };
        records.begin(id, 5, next).await.unwrap();
        assert_eq!(records.get(id), Some(Record { executor_epoch: 5, attached: Some(next) }));
        for never in [0, 1 << 53] {
            let refused = Records::open(temp.path()).unwrap().hear(id, never).await.unwrap_err();
            assert_eq!(refused.code(), Code::BadRequest);
        }
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_read_is_left_as_it_is() {
        let temp = camino_tempfile::tempdir().unwrap();
        std::fs::write(temp.path().join(FILE_NAME), "{half").unwrap();
        assert!(matches!(Records::open(temp.path()), Err(StateFileError::Damaged { .. })));
        assert_eq!(std::fs::read_to_string(temp.path().join(FILE_NAME)).unwrap(), "{half");
    }

    #[test]
    fn the_oldest_that_are_detached_are_forgotten_and_none_that_is_attached() {
        let attached = Some(Request { config_version: 1, epoch: 1, encrypted: false });
        let record = |attached| Record { executor_epoch: 1, attached };
        let first = VolumeId::generate();
        let mut volumes = BTreeMap::from([(first, record(attached))]);
        let detached: Vec<VolumeId> = (0..DETACHED_MAX + 2).map(|_| VolumeId::generate()).collect();
        volumes.extend(detached.iter().map(|id| (*id, record(None))));
        forget(&mut volumes);
        assert_eq!(volumes.len(), DETACHED_MAX + 1);
        assert!(volumes.contains_key(&first) && !volumes.contains_key(&detached[1]));
        assert!(volumes.contains_key(&detached[2]));
    }
}
