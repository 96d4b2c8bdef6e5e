//! Physical operations on one copy of an artifact, each but its beginning under its dataset's lock of the hash and each after
//! asking the inventory's gate: begin, publish, trash, restore, set aside, purge. Blocking. What a crash after each step leaves: [`crate::StoreStep`].

use crate::{
    failure::{FailureCause, chain},
    inventory::{DatasetIndex, Event, Stamp, Standing},
    layout::{self, ARTIFACTS, QUARANTINE, SetAside, TRASH},
    records::Record,
    shared::Shared,
    steps::{ARTIFACT_PROCEDURE, StoreStep},
};
use camino::Utf8Path;
use durable_fs::{PendingFile, SealedFile, StorageError};
use ids::ArtifactHash;
use jiff::Timestamp;
use std::{sync::Arc, time::Instant};
use tracing::{info, warn};

/// Begins a copy, under a temporary name.
pub(crate) fn begin(
    shared: &Arc<Shared>,
    dataset: DatasetIndex,
    hash: &ArtifactHash,
) -> Result<PendingFile, StorageError> {
    let path = layout::temporary(hash, shared.datasets[dataset].next_temporary());
    let storage = Arc::clone(shared.datasets[dataset].storage());
    let file = PendingFile::create(storage, ARTIFACT_PROCEDURE, path.clone())?;
    let shared = Arc::clone(shared);
    Ok(file.if_left_behind(move |error| left_behind(&shared, dataset, &path, &error)))
}

/// What a write has left in `tmp` is of no use and was not removed: that is tried again, and the dataset may be in trouble.
fn left_behind(shared: &Shared, dataset: DatasetIndex, path: &Utf8Path, error: &StorageError) {
    let incarnation = shared.incarnation(dataset);
    match is_gone(shared, dataset, path, error) {
        Ok(true) => return,
        Ok(false) => shared.report_error(dataset, incarnation, error),
        Err(looking) => shared.report_error(dataset, incarnation, &looking),
    }
    shared.datasets[dataset].left_behind().insert(path.to_owned());
}

/// Removes what writes have left in `tmp`. A failure leaves it for the next time.
pub(crate) fn remove_left_behind(shared: &Shared, dataset: DatasetIndex) {
    let storage = shared.datasets[dataset].storage();
    let known = std::mem::take(&mut *shared.datasets[dataset].left_behind());
    for path in known {
        let removed = match storage.remove(&path) {
            Err(error) => is_gone(shared, dataset, &path, &error),
            Ok(()) => Ok(true),
        };
        if !removed.is_ok_and(|removed| removed) {
            shared.datasets[dataset].left_behind().insert(path);
        }
    }
}

/// Gives a verified, durable temporary file its name, if the config still wants it; else discards it.
pub(crate) fn publish(
    shared: &Shared,
    dataset: DatasetIndex,
    incarnation: u64,
    hash: ArtifactHash,
    sealed: SealedFile,
) -> Result<(), FailureCause> {
    let storage = shared.datasets[dataset].storage();
    let _guard = shared.datasets[dataset].locks.hold(&hash);
    shared.look(|inventory| inventory.may_publish(dataset, incarnation, &hash))?;
    let metadata = sealed
        .publish(&layout::artifact(&hash))
        .map_err(|error| shared.failed(dataset, incarnation, error))?;
    let at = Timestamp::now();
    let record = Record { size: metadata.size, modified_ns: metadata.modified_ns, verified_at: at };
    shared.record_verified(dataset, incarnation, hash, record);
    shared.apply(Event::Published { dataset, hash, stamp: metadata.into(), at });
    storage.reached(StoreStep::Recorded.point()).map_err(|error| shared.failed(dataset, incarnation, error))
}

/// Moves copies that the config does not want to the trash. Durable when this returns `Ok`. Goes on after a failure;
/// the first one is the answer.
pub(crate) fn trash(
    shared: &Shared,
    dataset: DatasetIndex,
    hashes: &[ArtifactHash],
) -> Result<(), (ArtifactHash, StorageError)> {
    let incarnation = shared.incarnation(dataset);
    let storage = shared.datasets[dataset].storage();
    let mut first_failure = None;
    let mut last_moved = None;
    for hash in hashes {
        let _guard = shared.datasets[dataset].locks.hold(hash);
        let Some(standing) = shared.ask(|inventory| inventory.begin_trash(dataset, hash)) else { continue };
        if !matches!(standing, Standing::Verified { .. }) {
            // What was doubted must not come back from the trash on the word of an old record.
            shared.revoke_record(dataset, incarnation, *hash);
        }
        let entry = SetAside::new(*hash, Timestamp::now());
        let moved = storage
            .rename(&layout::artifact(hash), &entry.path(TRASH))
            .and_then(|()| storage.reached(StoreStep::TrashMoved.point()));
        match moved {
            Ok(()) => {
                info!(artifact = %hash, dataset = shared.name(dataset), "artifact moved to the trash");
                shared.apply(Event::Trashed { dataset, entry });
                last_moved = Some(*hash);
            }
            Err(error) => {
                move_failed(shared, dataset, incarnation, hash, &error);
                first_failure = first_failure.or(Some((*hash, error)));
            }
        }
    }
    if let Some(last) = last_moved
        && let Err(error) = sync_both(shared, dataset, TRASH, StoreStep::TrashSynced)
    {
        shared.report_error(dataset, incarnation, &error);
        first_failure = first_failure.or(Some((last, error)));
    }
    first_failure.map_or(Ok(()), Err)
}

/// An unwanted copy could not be moved: it is gone, or its dataset is in trouble.
fn move_failed(
    shared: &Shared,
    dataset: DatasetIndex,
    incarnation: u64,
    hash: &ArtifactHash,
    error: &StorageError,
) {
    shared.apply(Event::TrashFailed { dataset, hash: *hash });
    shared.apply(Event::Postponed { dataset, hash: *hash, now: Instant::now() });
    let seen = shared.look(|inventory| inventory.datasets[dataset].copies.get(hash).map(|copy| copy.stamp));
    match (is_gone(shared, dataset, &layout::artifact(hash), error), seen) {
        (Ok(true), Some(seen)) => shared.apply(Event::Vanished { dataset, hash: *hash, seen }),
        (Ok(_), _) => shared.report_error(dataset, incarnation, error),
        (Err(looking), _) => shared.report_error(dataset, incarnation, &looking),
    }
}

/// Moves artifacts that are wanted again back from the trash. If the record still fits the file, it counts as verified:
/// moving changes neither bytes nor time of change, and the record says that the bytes of that file were hashed. That is
/// the same evidence on which a start relies.
pub(crate) fn restore(shared: &Shared, dataset: DatasetIndex, entries: &[SetAside]) {
    let incarnation = shared.incarnation(dataset);
    for entry in entries {
        if let Err(error) = restore_one(shared, dataset, entry) {
            shared.apply(Event::Postponed { dataset, hash: entry.hash, now: Instant::now() });
            match is_gone(shared, dataset, &entry.path(TRASH), &error) {
                Ok(true) => shared.apply(Event::TrashVanished { dataset, entry: *entry }),
                Ok(false) => shared.report_error(dataset, incarnation, &error),
                Err(looking) => shared.report_error(dataset, incarnation, &looking),
            }
        }
    }
}

fn restore_one(shared: &Shared, dataset: DatasetIndex, entry: &SetAside) -> Result<(), StorageError> {
    let storage = shared.datasets[dataset].storage();
    let _guard = shared.datasets[dataset].locks.hold(&entry.hash);
    let still = shared.look(|inventory| {
        inventory.is_restorable(dataset, entry) && inventory.datasets[dataset].trash.contains_key(entry)
    });
    if !still {
        return Ok(());
    }
    let path = layout::artifact(&entry.hash);
    storage.rename(&entry.path(TRASH), &path)?;
    storage.reached(StoreStep::RestoreMoved.point())?;
    storage.sync_directory(Utf8Path::new(ARTIFACTS))?;
    storage.reached(StoreStep::RestoreSynced.point())?;
    let metadata = storage.metadata(&path)?;
    let records = shared.datasets[dataset].records();
    let record = records.get(&entry.hash).filter(|record| record.fits(&metadata)).copied();
    drop(records);
    info!(artifact = %entry.hash, dataset = shared.name(dataset), verified = record.is_some(),
        "artifact moved back from the trash");
    let verified_at = record.map(|record| record.verified_at);
    shared.apply(Event::Restored { dataset, entry: *entry, stamp: metadata.into(), verified_at });
    Ok(())
}

/// Moves condemned copies to quarantine.
pub(crate) fn set_aside(shared: &Shared, dataset: DatasetIndex, hashes: &[ArtifactHash]) {
    let incarnation = shared.incarnation(dataset);
    for hash in hashes {
        if let Err(error) = set_aside_one(shared, dataset, hash) {
            shared.apply(Event::Postponed { dataset, hash: *hash, now: Instant::now() });
            shared.report_error(dataset, incarnation, &error);
        }
    }
}

fn set_aside_one(shared: &Shared, dataset: DatasetIndex, hash: &ArtifactHash) -> Result<(), StorageError> {
    let storage = shared.datasets[dataset].storage();
    let _guard = shared.datasets[dataset].locks.hold(hash);
    // A right copy may have been published over the bad one meanwhile.
    let condemned = shared.look(|inventory| {
        inventory.datasets[dataset].copies.get(hash).and_then(|copy| match copy.standing {
            Standing::Condemned { at } => Some((copy.stamp, at)),
            _ => None,
        })
    });
    let Some((seen, at)) = condemned else { return Ok(()) };
    let path = layout::artifact(hash);
    let metadata = match storage.metadata(&path) {
        Ok(metadata) if Stamp::from(metadata) == seen || !metadata.is_file => metadata,
        Ok(metadata) => {
            let stamp = metadata.into();
            shared.apply(Event::Changed { dataset, hash: *hash, seen, stamp });
            return Ok(());
        }
        Err(error) if is_gone(shared, dataset, &path, &error)? => {
            shared.apply(Event::Vanished { dataset, hash: *hash, seen });
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    let size = if metadata.is_file { metadata.size } else { 0 };
    let entry = SetAside::new(*hash, at);
    storage.rename(&path, &entry.path(QUARANTINE))?;
    storage.reached(StoreStep::QuarantineMoved.point())?;
    sync_both(shared, dataset, QUARANTINE, StoreStep::QuarantineSynced)?;
    warn!(artifact = %hash, dataset = shared.name(dataset), "bad copy set aside");
    shared.apply(Event::Quarantined { dataset, entry, size });
    Ok(())
}

/// Removes files of the trash for good, unless they are wanted again. Tells how many bytes that freed.
pub(crate) fn purge_trash(shared: &Shared, dataset: DatasetIndex, entries: &[SetAside]) -> u64 {
    let mut freed = 0;
    for entry in entries {
        let _guard = shared.datasets[dataset].locks.hold(&entry.hash);
        let size = shared.ask(|inventory| {
            let size = inventory.datasets[dataset].trash.get(entry).copied();
            size.filter(|_| inventory.begin_purge(dataset, entry))
        });
        if let Some(size) = size
            && remove_for_good(shared, dataset, TRASH, entry)
        {
            freed += size;
            let held = shared.look(|inventory| inventory.datasets[dataset].copies.contains_key(&entry.hash));
            if !held {
                shared.datasets[dataset].records().forget(&entry.hash);
            }
        }
    }
    freed
}

/// Removes bad copies for good. Tells how many bytes that freed.
pub(crate) fn purge_quarantine(shared: &Shared, dataset: DatasetIndex, entries: &[SetAside]) -> u64 {
    let mut freed = 0;
    for entry in entries {
        let size = shared.look(|inventory| inventory.datasets[dataset].quarantine.get(entry).copied());
        if remove_for_good(shared, dataset, QUARANTINE, entry) {
            freed += size.unwrap_or(0);
        }
        shared.apply(Event::QuarantinePurged { dataset, entry: *entry });
    }
    freed
}

/// A failure leaves the file for the next admission to find.
fn remove_for_good(shared: &Shared, dataset: DatasetIndex, directory: &str, entry: &SetAside) -> bool {
    let incarnation = shared.incarnation(dataset);
    let storage = shared.datasets[dataset].storage();
    let path = entry.path(directory);
    let removed = storage.remove(&path).and_then(|()| storage.reached(StoreStep::Purged.point()));
    match removed {
        Ok(()) => {
            info!(artifact = %entry.hash, dataset = shared.name(dataset), directory, "file removed for good");
            true
        }
        Err(error) if is_gone(shared, dataset, &path, &error).is_ok_and(|gone| gone) => false,
        // A directory that somebody put in an artifact's place: what is in it is not ours to remove.
        Err(error) if error.is_not_a_file() => false,
        Err(error) => {
            let error_text = chain(&error);
            warn!(artifact = %entry.hash, dataset = shared.name(dataset), error = error_text, "file not removed");
            shared.report_error(dataset, incarnation, &error);
            false
        }
    }
}

/// Makes moves from `artifacts` into `directory` durable: first the new names, then the loss of the old ones.
fn sync_both(
    shared: &Shared,
    dataset: DatasetIndex,
    directory: &str,
    step: StoreStep,
) -> Result<(), StorageError> {
    let storage = shared.datasets[dataset].storage();
    storage.sync_directory(Utf8Path::new(directory))?;
    storage.sync_directory(Utf8Path::new(ARTIFACTS))?;
    storage.reached(step.point())
}

/// Whether `error`, of something that was to be done with a file, is that the file is gone: it was not found, and its directory
/// is there and does not have it. One look, because a disk that was away when the file was looked for may be back when its
/// directory is.
///
/// # Errors
/// That of the look. Of a directory that is not there nothing is known: then the answer is no.
pub(crate) fn is_gone(
    shared: &Shared,
    dataset: DatasetIndex,
    path: &Utf8Path,
    error: &StorageError,
) -> Result<bool, StorageError> {
    if !error.is_not_found() {
        return Ok(false);
    }
    let storage = shared.datasets[dataset].storage();
    match storage.list(path.parent().unwrap_or(Utf8Path::new(""))) {
        Ok(entries) => Ok(entries.iter().all(|entry| Some(entry.name.as_str()) != path.file_name())),
        Err(looking) if looking.is_not_found() => Ok(false),
        Err(looking) => Err(looking),
    }
}

/// Whether a directory is there.
pub(crate) fn is_there(shared: &Shared, dataset: DatasetIndex, directory: &str) -> bool {
    shared.datasets[dataset].storage().metadata(Utf8Path::new(directory)).is_ok()
}
