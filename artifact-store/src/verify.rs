//! Hashing stored copies: those without a record, those that could not be read, and all of them in a scrub. Says what was found; what follows from it
//! is the inventory's and the keeper's. Blocking, one copy at a time, in a buffer of fixed size.

use crate::{
    admission,
    copy::{is_gone, is_there},
    inventory::{Copy, DatasetIndex, Event, Stamp, Standing},
    layout,
    records::Record,
    shared::Shared,
    status::ScrubCause,
};
use durable_fs::{ReadFile, StorageError};
use ids::ArtifactHash;
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use std::{
    num::NonZeroU64,
    time::{Duration, Instant},
};
use tracing::{info, warn};

/// Bytes that are read and hashed at once: large enough for a disk, small enough for an agent of 30 MiB.
const BUFFER_BYTES: usize = 1 << 20;

/// Bytes per second of a scrub that nobody asked for: a tenth of what the slowest boot disks read, and forty gigabytes
/// within the hour.
const UNHURRIED: NonZeroU64 = NonZeroU64::new(16 << 20).expect("it is not 0");

/// What hashing a copy showed.
#[derive(Debug, PartialEq, Eq)]
enum Finding {
    Right {
        stamp: Stamp,
    },
    Wrong,
    /// It is not the file that the inventory knows, or was being changed.
    Changed {
        stamp: Stamp,
    },
    Gone,
    /// The store stops.
    Stopped,
}

/// Hashes copies that wait for it.
pub(crate) fn verify(shared: &Shared, dataset: DatasetIndex, hashes: &[ArtifactHash]) {
    for hash in hashes {
        if shared.stop.is_asked() {
            return;
        }
        check(shared, dataset, hash, &mut |_| {});
    }
}

/// Hashes copies for a scrub, not faster than the config allows, and slowly if nobody waits for it.
pub(crate) fn scrub(shared: &Shared, dataset: DatasetIndex, hashes: &[ArtifactHash]) {
    for hash in hashes {
        if shared.stop.is_asked() {
            return;
        }
        let started = Instant::now();
        let mut hashed = 0;
        let corrupt = check(shared, dataset, hash, &mut |bytes| {
            hashed += bytes;
            shared.apply(Event::ScrubProgressed { bytes });
            if let Some(rate) = scrub_rate(shared) {
                // Scrubbing is never urgent: rounding up to whole microseconds only makes it a little slower.
                let allowed = Duration::from_micros(hashed.saturating_mul(1_000_000) / rate.get() + 1);
                shared.stop.pause(allowed.saturating_sub(started.elapsed()));
            }
        });
        shared.apply(Event::Scrubbed { dataset, hash: *hash, hashed, corrupt, at: Timestamp::now() });
    }
}

/// Bytes per second of the scrub that runs now, which may be another one than when the job began.
fn scrub_rate(shared: &Shared) -> Option<NonZeroU64> {
    let configured = shared.config.scrub_bytes_per_second;
    match shared.look(|inventory| inventory.scrub.report.cause) {
        Some(ScrubCause::Age) => Some(configured.map_or(UNHURRIED, |rate| rate.min(UNHURRIED))),
        _ => configured,
    }
}

/// Hashes one copy and tells the inventory; whether the copy turned out bad.
fn check(shared: &Shared, dataset: DatasetIndex, hash: &ArtifactHash, progress: &mut dyn FnMut(u64)) -> bool {
    let incarnation = shared.incarnation(dataset);
    let known = shared.look(|inventory| {
        let copy = inventory.datasets[dataset].copies.get(hash)?;
        copy.standing.is_hashable(Instant::now()).then_some(*copy)
    });
    let Some(known) = known else { return false };
    let (hash, seen, at) = (*hash, known.stamp, Timestamp::now());
    match hash_copy(shared, dataset, &hash, seen, progress) {
        Ok(Finding::Right { stamp }) => {
            let record = Record { size: stamp.size, modified_ns: stamp.modified_ns, verified_at: at };
            shared.record_verified(dataset, incarnation, hash, record);
            shared.apply(Event::Verified { dataset, hash, seen, stamp, at });
            info!(artifact = %hash, dataset = shared.name(dataset), size = stamp.size, "copy verified");
            false
        }
        Ok(Finding::Wrong) => {
            warn!(artifact = %hash, dataset = shared.name(dataset), "copy does not hash to its name");
            shared.condemn(dataset, incarnation, hash, seen);
            true
        }
        Ok(Finding::Changed { stamp }) => {
            shared.apply(Event::Changed { dataset, hash, seen, stamp });
            shared.apply(Event::Postponed { dataset, hash, now: Instant::now() });
            false
        }
        Ok(Finding::Gone) => {
            shared.apply(Event::Vanished { dataset, hash, seen });
            false
        }
        Ok(Finding::Stopped) => false,
        Err(error) => {
            judge_read_error(shared, dataset, hash, known, &error);
            false
        }
    }
}

fn hash_copy(
    shared: &Shared,
    dataset: DatasetIndex,
    hash: &ArtifactHash,
    seen: Stamp,
    progress: &mut dyn FnMut(u64),
) -> Result<Finding, StorageError> {
    let path = layout::artifact(hash);
    let file = match shared.datasets[dataset].storage().open(&path) {
        Err(error) if is_gone(shared, dataset, &path, &error)? => return Ok(Finding::Gone),
        other => other?,
    };
    let stamp = Stamp::from(file.metadata()?);
    if stamp != seen {
        return Ok(Finding::Changed { stamp });
    }
    file.drop_cache();
    let Some(digest) = hash_file(shared, file.as_ref(), progress)? else { return Ok(Finding::Stopped) };
    let after = Stamp::from(file.metadata()?);
    Ok(if after != stamp {
        Finding::Changed { stamp: after }
    } else if digest == *hash {
        Finding::Right { stamp }
    } else {
        Finding::Wrong
    })
}

/// The hash of a file's bytes; `None` if the store stops meanwhile.
fn hash_file(
    shared: &Shared,
    file: &dyn ReadFile,
    progress: &mut dyn FnMut(u64),
) -> Result<Option<ArtifactHash>, StorageError> {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut hasher = Sha256::new();
    let mut offset = 0;
    loop {
        if shared.stop.is_asked() {
            return Ok(None);
        }
        let read = file.read_at(offset, &mut buffer)?;
        hasher.update(&buffer[..read]);
        if read == 0 {
            return Ok(Some(ArtifactHash(hasher.finalize().into())));
        }
        offset += read as u64;
        progress(read as u64);
    }
}

/// A copy could not be read. If it is no regular file, it is condemned, and repaired from another dataset. If its dataset
/// works otherwise, it is the copy that is bad, or the dataset was away for a moment: the copy is hashed once more after a
/// pause, and condemned if `known`, what was known of it before the read, says that this was that time. If the dataset does
/// not work, it is in trouble, and the copy may be fine. If the process had no descriptor left to open it with, nothing was
/// found out.
pub(crate) fn judge_read_error(
    shared: &Shared,
    dataset: DatasetIndex,
    hash: ArtifactHash,
    known: Copy,
    error: &StorageError,
) {
    let incarnation = shared.incarnation(dataset);
    if error.is_exhausted() {
        shared.apply(Event::Postponed { dataset, hash, now: Instant::now() });
        return shared.report_error(dataset, incarnation, error);
    }
    let works = match admission::probe(shared, dataset) {
        _ if error.is_not_a_file() => Ok(()),
        // It answers, and has no room or takes no writes: that is no reason not to read.
        Err(probe)
            if (probe.is_no_space() || probe.is_read_only())
                && is_there(shared, dataset, layout::ARTIFACTS) =>
        {
            Ok(())
        }
        other => other.map(drop),
    };
    match works {
        Ok(()) => {
            let cause = crate::failure::chain(error);
            if error.is_not_a_file() || matches!(known.standing, Standing::Suspect { .. }) {
                warn!(artifact = %hash, dataset = shared.name(dataset), error = cause, "copy cannot be read");
                shared.condemn(dataset, incarnation, hash, known.stamp);
            } else {
                warn!(artifact = %hash, dataset = shared.name(dataset), error = cause, "copy was not read");
                shared.suspect(dataset, incarnation, hash, known.stamp);
            }
        }
        Err(_) => {
            shared.apply(Event::Postponed { dataset, hash, now: Instant::now() });
            shared.report_error(dataset, incarnation, error);
        }
    }
}
