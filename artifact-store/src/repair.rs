//! Local repair: a wanted artifact that another dataset has is copied to one that lacks it, disk to disk, hashed on the
//! way. So an M.2 that was full, slow, gone or rotten gets its copies back without asking the network. Blocking; the
//! steps are those of any copy ([`crate::ARTIFACT_PROCEDURE`]).

use crate::{
    copy,
    failure::{FailureCause, chain},
    inventory::{Copy, DatasetIndex, Event, Stamp},
    layout, reserve,
    shared::Shared,
    verify::judge_read_error,
};
use durable_fs::{PendingFile, ReadFile, StorageError};
use ids::ArtifactHash;
use sha2::{Digest, Sha256};
use std::{io::IoSlice, sync::Arc, time::Instant};
use tracing::{info, warn};

/// Bytes that are copied at once.
const BUFFER_BYTES: usize = 1 << 20;

/// What ended a repair without a copy.
enum Obstacle {
    /// The source is not what it should be; it was dealt with, and another source may do.
    Source,
    /// The target did not take it.
    Target(FailureCause),
    /// The store stops.
    Stopped,
}

/// Copies artifacts to `target` from wherever there is a verified copy.
pub(crate) fn repair(shared: &Arc<Shared>, target: DatasetIndex, hashes: &[ArtifactHash]) {
    for hash in hashes {
        let result = repair_one(shared, target, hash);
        match result {
            Ok(Some(source)) => {
                info!(artifact = %hash, from = shared.name(source), to = shared.name(target), "copy repaired");
            }
            Ok(None) => {}
            Err(Obstacle::Stopped) => return,
            Err(obstacle) => {
                if let Obstacle::Target(cause) = obstacle {
                    let error = chain(&cause);
                    warn!(artifact = %hash, to = shared.name(target), error, "copy not repaired");
                }
                shared.apply(Event::Postponed { dataset: target, hash: *hash, now: Instant::now() });
            }
        }
    }
}

/// The dataset that the copy came from; `None` if there is nothing to do any more.
fn repair_one(
    shared: &Arc<Shared>,
    target: DatasetIndex,
    hash: &ArtifactHash,
) -> Result<Option<DatasetIndex>, Obstacle> {
    let (incarnation, source) = shared.look(|inventory| {
        let state = &inventory.datasets[target];
        let needed = state.health.is_writable() && !state.copies.contains_key(hash) && inventory.wants(hash);
        let source = inventory.readable_copies(hash).into_iter().next().filter(|_| needed);
        (state.incarnation, source)
    });
    let Some((source, known)) = source else { return Ok(None) };
    let reservation = reserve::reserve(shared, target, known.stamp.size).map_err(Obstacle::Target)?;
    let file = open_source(shared, source, hash, known)?;
    let failed = |error| Obstacle::Target(shared.failed(target, incarnation, error));
    let mut pending = copy::begin(shared, target, hash).map_err(failed)?;
    let digest = pour(shared, file.as_ref(), &mut pending, |error, reading| {
        if reading {
            judge_read_error(shared, source, *hash, known, &error);
            Obstacle::Source
        } else {
            failed(error)
        }
    })?;
    if digest != *hash {
        warn!(artifact = %hash, dataset = shared.name(source), "copy does not hash to its name");
        shared.condemn(source, shared.incarnation(source), *hash, known.stamp);
        return Err(Obstacle::Source);
    }
    let sealed = pending.seal(true).map_err(failed)?;
    copy::publish(shared, target, incarnation, *hash, sealed).map_err(Obstacle::Target)?;
    drop(reservation);
    Ok(Some(source))
}

fn open_source(
    shared: &Shared,
    source: DatasetIndex,
    hash: &ArtifactHash,
    known: Copy,
) -> Result<Box<dyn ReadFile>, Obstacle> {
    let (seen, path) = (known.stamp, layout::artifact(hash));
    let opened = shared.datasets[source]
        .storage()
        .open(&path)
        .and_then(|file| file.metadata().map(|metadata| (file, Stamp::from(metadata))));
    match opened {
        Ok((file, stamp)) if stamp == seen => Ok(file),
        Ok((_, stamp)) => {
            shared.apply(Event::Changed { dataset: source, hash: *hash, seen, stamp });
            Err(Obstacle::Source)
        }
        Err(error) => {
            match copy::is_gone(shared, source, &path, &error) {
                Ok(true) => shared.apply(Event::Vanished { dataset: source, hash: *hash, seen }),
                Ok(false) => judge_read_error(shared, source, *hash, known, &error),
                Err(looking) => judge_read_error(shared, source, *hash, known, &looking),
            }
            Err(Obstacle::Source)
        }
    }
}

/// Copies all bytes and hashes them; `obstacle` makes of an error, and whether it was of reading, what ends the repair.
fn pour(
    shared: &Shared,
    from: &dyn ReadFile,
    to: &mut PendingFile,
    obstacle: impl Fn(StorageError, bool) -> Obstacle,
) -> Result<ArtifactHash, Obstacle> {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut hasher = Sha256::new();
    loop {
        if shared.stop.is_asked() {
            return Err(Obstacle::Stopped);
        }
        let read = from.read_at(to.written(), &mut buffer).map_err(|error| obstacle(error, true))?;
        if read == 0 {
            return Ok(ArtifactHash(hasher.finalize().into()));
        }
        hasher.update(&buffer[..read]);
        to.write(&mut [IoSlice::new(&buffer[..read])]).map_err(|error| obstacle(error, false))?;
    }
}
