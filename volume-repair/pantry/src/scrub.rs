//! A scrub: every block of the volume is read once. What a member has wrong is read from another one, and healed (`docs/BLOCK.md`, P8).
//!
//! A read asks one member for each block, the members by turns. So what is wrong in a copy that was not asked for a block stays, until it
//! is read: a scrub finds what a client would have run into, and not what every copy has.

use crate::{
    error::PantryError,
    job::Job,
    volume_io::{REQUEST_BYTES, VolumeIo},
};

/// Reads all of it.
pub(crate) fn read(job: &Job, mut io: VolumeIo) -> Result<(), PantryError> {
    let mut bytes = vec![0; REQUEST_BYTES];
    let (mut asked, mut done) = (0, 0);
    while done < job.bytes {
        while asked < job.bytes && io.has_room() {
            let length = (job.bytes - asked).min(REQUEST_BYTES as u64);
            io.ask_to_read(asked, usize::try_from(length).expect("a request is small"))?;
            asked += length;
        }
        done += io.take(&mut bytes)? as u64;
        job.note_done(done);
    }
    Ok(())
}
