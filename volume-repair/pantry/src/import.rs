//! An import: bytes from wherever they come, into the volume from its first block on, in large writes, durable before it is said to be done.
//!
//! ```text
//!   body or web server ──Piece──► channel (bounded) ──► this thread: SHA-256, 1 MiB at a time ──► volume ──flush──► done
//! ```
//!
//! Whoever is slower holds up the other one, and nobody else. Bytes count as done when the volume has acknowledged them: of an import that
//! stops, exactly those are in, from the first byte on, and what lies behind them is as it was.

use crate::{
    error::PantryError,
    job::Job,
    volume_io::{REQUEST_BYTES, VolumeIo},
};
use bytes::{Bytes, BytesMut};
use ids::ArtifactHash;
use sha2::{Digest, Sha256};
use sled_client::pantry::PantryJobPhase;
use tokio::sync::mpsc::{Receiver, error::TryRecvError};

/// Pieces that wait to be written: a body's pieces have 128 KiB at most.
pub(crate) const PIECES_MAX: usize = 16;

/// What an import is given.
pub(crate) enum Piece {
    /// The next bytes.
    Bytes(Bytes),
    /// There are no more.
    End,
    /// There are no more, though there were to be.
    Stopped(String),
    /// It is not to be had at all.
    Failed(PantryError),
}

/// How many bytes are to be imported, if that can be.
pub(crate) fn check_size(
    given: u64,
    wanted: Option<u64>,
    volume: u64,
    block: u32,
) -> Result<u64, PantryError> {
    let what = if wanted.is_some() { "size_bytes is" } else { "the volume has" };
    let wanted = wanted.unwrap_or(volume);
    if wanted > volume {
        return Err(PantryError::TooLong { given: wanted, what: "the volume has", wanted: volume });
    }
    match given {
        given if given > wanted => Err(PantryError::TooLong { given, what, wanted }),
        given if given < wanted => Err(PantryError::TooShort { given, what, wanted }),
        given if given == 0 || given % u64::from(block) != 0 => Err(PantryError::Size { given, block }),
        given => Ok(given),
    }
}

/// Writes all of it. What has the volume done wrong is told as [`PantryError::Io`].
pub(crate) fn write(
    job: &Job,
    mut io: VolumeIo,
    pieces: &mut Receiver<Piece>,
    expected: Option<ArtifactHash>,
) -> Result<ArtifactHash, PantryError> {
    let (mut digest, mut buffer, mut taken) = (Sha256::new(), BytesMut::new(), 0);
    let mut written = 0;
    let stopped = loop {
        let piece = match pieces.try_recv() {
            Err(TryRecvError::Empty) => {
                // Whoever sends is slower: how far it is is told exactly while it is waited for.
                io.settle(0)?;
                job.note_done(written);
                job.note_phase(PantryJobPhase::AwaitingBytes);
                pieces.blocking_recv()
            }
            piece => piece.ok(),
        };
        match piece {
            Some(Piece::Bytes(bytes)) => {
                taken += bytes.len() as u64;
                if taken > job.bytes {
                    break "it has more bytes than were announced".to_owned();
                }
                digest.update(&bytes);
                buffer.extend_from_slice(&bytes);
                while buffer.len() >= REQUEST_BYTES {
                    put(job, &mut io, &mut written, &buffer.split_to(REQUEST_BYTES))?;
                }
            }
            Some(Piece::End) if taken == job.bytes => {
                if !buffer.is_empty() {
                    put(job, &mut io, &mut written, &buffer)?;
                }
                job.note_phase(PantryJobPhase::MakingDurable);
                io.flush()?;
                job.note_done(written);
                let got = ArtifactHash(digest.finalize().into());
                return match expected {
                    Some(wanted) if wanted != got => Err(PantryError::Digest { got, wanted }),
                    _ => Ok(got),
                };
            }
            Some(Piece::End) => break "it has fewer bytes than were announced".to_owned(),
            Some(Piece::Stopped(why)) => break why,
            Some(Piece::Failed(error)) => return Err(error),
            None => break "whoever sent it is gone".to_owned(),
        }
    };
    io.settle(0)?;
    job.note_done(written);
    Err(PantryError::Stopped { written: job.done(), wanted: job.bytes, why: stopped })
}

/// Writes the next bytes. Those before, but for the few that are under way, are done.
fn put(job: &Job, io: &mut VolumeIo, written: &mut u64, bytes: &[u8]) -> Result<(), PantryError> {
    job.note_phase(PantryJobPhase::Writing);
    io.make_room()?;
    job.note_done(written.saturating_sub(io.under_way() as u64 * REQUEST_BYTES as u64));
    io.write(*written, bytes)?;
    *written += bytes.len() as u64;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use problem::Code;

    #[test]
    fn an_import_has_as_many_bytes_as_the_volume_or_as_was_said() {
        let check = |given, wanted| check_size(given, wanted, 1 << 20, 4096).map_err(|error| error.code());
        assert_eq!(check(1 << 20, None), Ok(1 << 20));
        assert_eq!(check((1 << 20) + 1, None), Err(Code::ImportTooLong));
        assert_eq!(check((1 << 20) - 4096, None), Err(Code::ImportTooShort));
        assert_eq!(check(8192, Some(8192)), Ok(8192));
        assert_eq!(check(8192, Some(4096)), Err(Code::ImportTooLong));
        assert_eq!(check(4096, Some(8192)), Err(Code::ImportTooShort));
        assert_eq!(check(8191, Some(8191)), Err(Code::ImportSize));
        assert_eq!(check(0, Some(0)), Err(Code::ImportSize));
        assert_eq!(check(2 << 20, Some(2 << 20)), Err(Code::ImportTooLong));
    }
}
