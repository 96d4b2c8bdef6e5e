//! What lies under a volume is copied into it, until all is the volume's own and a newer request may give the parent up. The volume does it itself,
//! behind its clients (`docs/BLOCK.md`); the job begins it, and tells how far it is.
//!
//! ```text
//!   begun ──► the volume copies ──all is its own, durably──► done
//!                 ├── cancelled: it is told to stop; what was copied stays, and the next one goes on behind it
//!                 └── somebody else told it to stop, or the volume has ended ──► failed
//! ```

use crate::{attached::Attached, error::PantryError, job::Job};
use sled_client::pantry::PantryJobPhase;
use std::{thread, time::Duration};
use volume_export::ScrubOrder;
use volume_layers::{ScrubPhase, VolumeStatus};

/// How often it is looked how far it is.
const LOOK: Duration = Duration::from_millis(100);

/// Copies all of it.
pub(crate) fn copy(job: &Job, volume: &Attached) -> Result<(), PantryError> {
    let order = |order| volume.handle.scrub(order).map_err(|gone| volume.no_answer(gone));
    order(ScrubOrder::Start)?.map_err(|source| PantryError::NoParent { id: volume.id, source })?;
    loop {
        if job.cancelled.is_cancelled() {
            // One that has ended in between does nothing any more.
            let _ = order(ScrubOrder::Stop)?;
            return Err(PantryError::Cancelled);
        }
        let status = volume.status()?;
        volume.check_active(&status).or_else(|error| match error {
            PantryError::NotActive { .. } => Ok(()),
            ended => Err(ended),
        })?;
        let scrub = match &status.volume {
            VolumeStatus::Layers(layers) if layers.layers.len() > 1 => layers.scrub.as_ref(),
            // The parent was given up, which may be only when all is there.
            VolumeStatus::Layers(_) | VolumeStatus::Upstairs(_) => None,
        };
        let Some(scrub) = scrub else {
            job.note_done(job.bytes);
            return Ok(());
        };
        job.note_done(scrub.bytes_done.min(job.bytes));
        match scrub.phase {
            ScrubPhase::Done => {
                job.note_done(job.bytes);
                return Ok(());
            }
            ScrubPhase::Stopped | ScrubPhase::Ended => return Err(PantryError::CopyStopped(volume.id)),
            ScrubPhase::Preparing | ScrubPhase::Copying => job.note_phase(PantryJobPhase::Copying),
            ScrubPhase::MakingDurable => job.note_phase(PantryJobPhase::MakingDurable),
        }
        thread::park_timeout(LOOK);
    }
}
