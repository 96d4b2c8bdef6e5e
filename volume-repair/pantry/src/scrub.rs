//! A scrub: every copy of every block is read and compared, and what is wrong with one is mended from another (`docs/BLOCK.md`, "Comparing
//! copies"). Parts that are one copy, which are files, URLs and what lies under the volume, are read as a client reads them.
//!
//! ```text
//!   4 MiB ──compare──► the volume ──found──► added to what the job tells ──parts that are one copy?──► read ──► the next 4 MiB
//!            a few ahead                                                                        no ────────────►
//! ```
//!
//! It goes to its end whatever it finds. If something is left that could not be mended, the job has failed, and tells in whose copies.

use crate::{
    attached::Attached,
    error::PantryError,
    job::Job,
    volume_io::{REQUEST_BYTES, VolumeIo},
};
use std::{collections::VecDeque, time::Duration};
use volume_export::{Compared, CopyCompared};

/// Bytes of a volume that are compared by one question, and how many questions are asked ahead.
const STEP_BYTES: u64 = 4 << 20;
const STEPS_AHEAD: usize = 2;

/// How long it is waited before it is looked whether the job was cancelled.
const LOOK: Duration = Duration::from_millis(100);

/// Scrubs all of it.
pub(crate) fn scrub(job: &Job, volume: &Attached, mut io: VolumeIo) -> Result<(), PantryError> {
    let has_single_copies = volume.has_single_copies()?;
    let mut steps: VecDeque<(u64, Compared)> = VecDeque::new();
    let (mut asked, mut done) = (0, 0);
    while done < job.bytes {
        while asked < job.bytes && steps.len() < STEPS_AHEAD {
            let length = STEP_BYTES.min(job.bytes - asked);
            steps.push_back((length, volume.compare(asked, length)?));
            asked += length;
        }
        let Some((length, compared)) = steps.pop_front() else { break };
        job.note_found(&wait(job, volume, &compared)?);
        if has_single_copies {
            read(&mut io, done, length)?;
        }
        done += length;
        job.note_done(done);
    }
    let damage = job.found().into_iter().find(|copy| copy.first_left.is_some());
    damage.map_or(Ok(()), |copy| Err(PantryError::CopiesDamaged { id: volume.id, copy }))
}

fn wait(job: &Job, volume: &Attached, compared: &Compared) -> Result<Vec<CopyCompared>, PantryError> {
    loop {
        if job.cancelled.is_cancelled() {
            return Err(PantryError::Cancelled);
        }
        if let Some(found) = compared.wait(LOOK).map_err(|gone| volume.no_answer(gone))? {
            return found.map_err(|source| PantryError::NotCompared { id: volume.id, source });
        }
    }
}

fn read(io: &mut VolumeIo, first: u64, length: u64) -> Result<(), PantryError> {
    let mut bytes = vec![0; REQUEST_BYTES];
    let (mut asked, mut done) = (0, 0);
    while done < length {
        while asked < length && io.has_room() {
            let part = (length - asked).min(REQUEST_BYTES as u64);
            io.ask_to_read(first + asked, usize::try_from(part).expect("a request is small"))?;
            asked += part;
        }
        done += io.take(&mut bytes)? as u64;
    }
    Ok(())
}
