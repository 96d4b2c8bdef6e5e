//! Taking a dataset into use, at the start and after it failed, was missing, or was swapped; and probing one that is in
//! use but full, read-only or slow. Blocking.
//!
//! Admission, in order, under the dataset's lock of all hashes:
//! 1. The root must be there, and must not be the directory that another dataset uses.
//! 2. The ledger is read; a dataset of another cluster or of a newer format is refused before anything on it is touched.
//! 3. Missing directories are made; `tmp` and leftovers of interrupted control files are removed (the rule on open of
//!    [`durable_fs::PendingFile`]).
//! 4. What has an artifact's name and is no regular file goes to quarantine: it is no copy, and in the way of one.
//! 5. Every directory is synced. The process before this one may have died between a rename and its sync; what is found
//!    now is told to others as stored, so from here on a power cut must not undo it.
//! 6. A dataset that failed before shows that it can write. Records and names are read. No artifact is hashed: what has a
//!    record that fits counts as verified, the rest waits for the keeper.
//!
//! Of the files of a dataset only temporary ones are removed, whatever the ledger says; the log of records may be
//! compacted. A crash anywhere in it changes nothing that matters: it is done again from the start. On a read-only file
//! system steps 3 to 5 do what they can, and the dataset is admitted for reading.

use crate::{
    copy,
    failure::chain,
    inventory::{Admission, DatasetIndex, Event, Health, Trouble},
    layout::{self, SetAside},
    ledger::{self, LedgerCopy, LedgerError},
    records::{Floor, RecordLog},
    shared::Shared,
};
use camino::Utf8Path;
use durable_fs::{FileMetadata, Storage, StorageError, remove_leftover};
use ids::{ArtifactHash, ClusterId};
use jiff::Timestamp;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};
use thiserror::Error;
use tracing::{info, warn};

/// What a probe writes.
const PROBE_BYTES: usize = 4096;
/// A dataset that needs longer than this for a probe is still slow.
const PROBE_TIME_MAX: Duration = Duration::from_millis(500);

/// Why a dataset was not admitted.
#[derive(Debug, Error)]
enum AdmissionError {
    #[error("its directory is not there")]
    Missing,
    #[error("its directory is the one of dataset {other}: each needs a disk of its own")]
    SameDirectory { other: String },
    #[error("it belongs to cluster {theirs}, and the store to {ours}")]
    Foreign { ours: ClusterId, theirs: ClusterId },
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Tries to take a dataset into use, and tells the inventory how it went.
pub(crate) fn admit(shared: &Shared, dataset: DatasetIndex) {
    let _all = shared.datasets[dataset].locks.hold_all();
    let incarnation = shared.incarnation(dataset);
    let started = Instant::now();
    match open(shared, dataset) {
        Ok(admission) => {
            info!(
                dataset = shared.name(dataset),
                artifacts = admission.artifacts.len(),
                trash = admission.trash.len(),
                quarantined = admission.quarantine.len(),
                milliseconds = started.elapsed().as_millis() as u64,
                "dataset in use"
            );
            shared.apply(Event::Admitted { dataset, admission, now: Instant::now() });
        }
        Err(error) if error.is_exhausted() => {
            let (reason, now) = (chain(&error), Instant::now());
            warn!(dataset = shared.name(dataset), error = reason, "dataset not opened for now");
            shared.apply(Event::AdmissionPostponed { dataset, reason, now });
        }
        Err(error) => {
            let trouble = match error {
                AdmissionError::Missing => Trouble::Missing,
                _ => Trouble::Failed,
            };
            shared.report_trouble(dataset, incarnation, trouble, chain(&error));
        }
    }
}

impl AdmissionError {
    fn is_exhausted(&self) -> bool {
        match self {
            AdmissionError::Ledger(LedgerError::Read(error)) | AdmissionError::Storage(error) => {
                error.is_exhausted()
            }
            _ => false,
        }
    }
}

fn open(shared: &Shared, dataset: DatasetIndex) -> Result<Admission, AdmissionError> {
    let storage = shared.datasets[dataset].storage();
    storage.metadata(Utf8Path::new("")).map_err(|error| {
        if error.is_not_found() { AdmissionError::Missing } else { AdmissionError::Storage(error) }
    })?;
    if let Some(other) = shared.claim_directory(dataset, storage.identity()?) {
        return Err(AdmissionError::SameDirectory { other: shared.name(other).to_owned() });
    }
    let ledger = ledger::read(storage.as_ref())?;
    if let LedgerCopy::Unreadable(reason) = &ledger {
        warn!(dataset = shared.name(dataset), reason, "ledger is damaged");
    }
    refuse_foreign(shared, &ledger)?;
    let read_only = storage.space()?.read_only || !takes_writes(prepare(storage))?;
    if read_only {
        return read_contents(shared, dataset, ledger, true);
    }
    move_strangers(shared, dataset)?;
    for directory in layout::DURABLE_DIRECTORIES {
        storage.sync_directory(Utf8Path::new(directory))?;
    }
    let health = shared.look(|inventory| inventory.datasets[dataset].health);
    let mut writes = true;
    if health != Health::Opening {
        // It failed before: it has to show that it can write again. Having no room is found out, and told, by writes.
        writes = match probe(shared, dataset) {
            Err(error) if error.is_no_space() => true,
            other => takes_writes(other.map(drop))?,
        };
    }
    read_contents(shared, dataset, ledger, !writes)
}

/// Whether a file system takes writes, from how a write ended; an error if it ended for another reason.
fn takes_writes(result: Result<(), StorageError>) -> Result<bool, StorageError> {
    match result {
        Ok(()) => Ok(true),
        Err(error) if error.is_read_only() => Ok(false),
        Err(error) => Err(error),
    }
}

/// Moves what has an artifact's name and is no regular file to quarantine.
fn move_strangers(shared: &Shared, dataset: DatasetIndex) -> Result<(), StorageError> {
    let storage = shared.datasets[dataset].storage();
    for name in storage.list_irregular(Utf8Path::new(layout::ARTIFACTS))? {
        let Ok(hash) = name.parse::<ArtifactHash>() else { continue };
        let entry = SetAside::new(hash, Timestamp::now());
        storage.rename(&layout::artifact(&hash), &entry.path(layout::QUARANTINE))?;
        warn!(artifact = %hash, dataset = shared.name(dataset), "what is no regular file was set aside");
    }
    Ok(())
}

fn refuse_foreign(shared: &Shared, ledger: &LedgerCopy) -> Result<(), AdmissionError> {
    let ours = shared.look(|inventory| inventory.in_force.as_ref().map(|config| config.cluster_id));
    match (ours, ledger) {
        (Some(ours), LedgerCopy::Valid(config)) if config.cluster_id != ours => {
            Err(AdmissionError::Foreign { ours, theirs: config.cluster_id })
        }
        _ => Ok(()),
    }
}

/// Makes the directories, and removes what interrupted writes left behind.
fn prepare(storage: &Arc<dyn Storage>) -> Result<(), StorageError> {
    for directory in layout::DIRECTORIES {
        match storage.create_directory(Utf8Path::new(directory)) {
            Ok(()) => {}
            Err(error) if error.is_already_exists() => {}
            // A full disk that has its directories is fine.
            Err(error) => drop(storage.metadata(Utf8Path::new(directory)).map_err(|_| error)?),
        }
    }
    let temporary = Utf8Path::new(layout::TEMPORARY);
    for entry in storage.list(temporary)? {
        storage.remove(&temporary.join(entry.name))?;
    }
    for control in [layout::LEDGER, layout::RECORDS] {
        remove_leftover(storage.as_ref(), Utf8Path::new(control))?;
    }
    Ok(())
}

fn read_contents(
    shared: &Shared,
    dataset: DatasetIndex,
    ledger: LedgerCopy,
    read_only: bool,
) -> Result<Admission, AdmissionError> {
    let storage = shared.datasets[dataset].storage();
    let mut log = RecordLog::load(storage.as_ref())?;
    let mut artifacts = BTreeMap::new();
    for entry in storage.list(Utf8Path::new(layout::ARTIFACTS))? {
        if let Ok(hash) = entry.name.parse::<ArtifactHash>() {
            let metadata: FileMetadata = entry.metadata;
            let verified_at = log.get(&hash).filter(|record| record.fits(&metadata));
            artifacts.insert(hash, (metadata, verified_at.map(|record| record.verified_at)));
        }
    }
    let trash = list_aside(storage.as_ref(), layout::TRASH)?;
    let quarantine = quarantined(storage.as_ref())?;
    if log.wants_compaction() && !read_only {
        let trashed: BTreeSet<ArtifactHash> = trash.keys().map(|entry| entry.hash).collect();
        match log.compact(storage, |hash| artifacts.contains_key(hash) || trashed.contains(hash)) {
            // Nothing is lost by a log that stays long for another while.
            Err(error) if error.is_no_space() => {}
            other => other?,
        }
    }
    let floor = log.floor();
    *shared.datasets[dataset].records() = log;
    let space = storage.space()?;
    Ok(Admission { ledger, floor, artifacts, trash, quarantine, space, read_only })
}

fn list_aside(storage: &dyn Storage, directory: &str) -> Result<BTreeMap<SetAside, u64>, StorageError> {
    let entries = storage.list(Utf8Path::new(directory))?;
    Ok(entries
        .into_iter()
        .filter_map(|entry| Some((SetAside::parse(&entry.name)?, entry.metadata.size)))
        .collect())
}

/// Writes, syncs and removes a small file; how long that took.
pub(crate) fn probe(shared: &Shared, dataset: DatasetIndex) -> Result<Duration, StorageError> {
    let started = Instant::now();
    let storage = shared.datasets[dataset].storage();
    let number = shared.datasets[dataset].next_temporary();
    let path = layout::temporary(&ArtifactHash([0; 32]), number);
    let mut file = storage.create_new(&path)?;
    let written = file.write_all(&[0; PROBE_BYTES]).and_then(|()| file.sync());
    storage.remove(&path)?;
    written?;
    Ok(started.elapsed())
}

/// Probes a full, read-only or slow dataset, and tells the inventory if it is none of that any more.
pub(crate) fn probe_again(shared: &Shared, dataset: DatasetIndex) {
    let incarnation = shared.incarnation(dataset);
    let health = shared.look(|inventory| inventory.datasets[dataset].health);
    let reason = shared.look(|inventory| inventory.datasets[dataset].reason.clone()).unwrap_or_default();
    // Not a new trouble: the old one goes on, and is asked about again after a longer while.
    let goes_on = |trouble| {
        let (reason, now) = (reason.clone(), Instant::now());
        shared.apply(Event::Troubled { dataset, incarnation, trouble, reason, now });
    };
    let trouble = match health {
        Health::Full { needed } => Trouble::Full { needed },
        Health::ReadOnly => Trouble::ReadOnly,
        _ => Trouble::Slow,
    };
    let took = match probe(shared, dataset) {
        Ok(took) => took,
        Err(error) if error.is_exhausted() => return goes_on(trouble),
        Err(error) => return shared.report_error(dataset, incarnation, &error),
    };
    let recovered = match health {
        Health::Full { needed } => match shared.bounds(dataset) {
            Ok(bounds) => shared.datasets[dataset].reservations.reserve(needed, &bounds).is_ok(),
            Err(error) => return shared.report_error(dataset, incarnation, &error),
        },
        _ => took <= PROBE_TIME_MAX,
    };
    if recovered {
        info!(dataset = shared.name(dataset), "dataset works again");
        copy::remove_left_behind(shared, dataset);
        shared.apply(Event::Recovered { dataset });
    } else {
        goes_on(trouble);
    }
}

/// Looks whether a dataset that nobody uses still answers.
pub(crate) fn check(shared: &Shared, dataset: DatasetIndex) {
    let incarnation = shared.incarnation(dataset);
    let storage = shared.datasets[dataset].storage();
    let result = storage.metadata(Utf8Path::new(layout::ARTIFACTS)).and_then(|_| shared.bounds(dataset));
    match result.and_then(|_| notice_purged_by_hand(shared, dataset)) {
        Ok(()) => {}
        Err(error) => shared.report_error(dataset, incarnation, &error),
    }
}

/// Forgets what a person has taken out of the quarantine. What is moved there meanwhile was not known before and is
/// not missed.
fn notice_purged_by_hand(shared: &Shared, dataset: DatasetIndex) -> Result<(), StorageError> {
    let known: Vec<SetAside> =
        shared.look(|inventory| inventory.datasets[dataset].quarantine.keys().copied().collect());
    if known.is_empty() {
        return Ok(());
    }
    let there = quarantined(shared.datasets[dataset].storage().as_ref())?;
    for entry in known.into_iter().filter(|entry| !there.contains_key(entry)) {
        info!(artifact = %entry.hash, dataset = shared.name(dataset), "taken out of the quarantine by hand");
        shared.apply(Event::QuarantinePurged { dataset, entry });
    }
    Ok(())
}

/// What is in the quarantine, and the bytes of each.
fn quarantined(storage: &dyn Storage) -> Result<BTreeMap<SetAside, u64>, StorageError> {
    let mut quarantine = list_aside(storage, layout::QUARANTINE)?;
    let strangers = storage.list_irregular(Utf8Path::new(layout::QUARANTINE))?;
    quarantine.extend(strangers.iter().filter_map(|name| Some((SetAside::parse(name)?, 0))));
    Ok(quarantine)
}

/// What a config says about how far generations have come, to be remembered beside its ledger.
pub(crate) fn remember_generation(
    shared: &Shared,
    dataset: DatasetIndex,
    floor: Floor,
) -> Result<(), StorageError> {
    let storage = shared.datasets[dataset].storage();
    shared.datasets[dataset].records().in_force(storage.as_ref(), floor)
}
