//! Writing past the system's cache: for bytes that nobody reads soon. The cache would take memory that is of use elsewhere, and finding it
//! costs more than the write itself.
//!
//! ```text
//!   not known ──opened once more, for direct writes──► there ──a write is refused as such──► not there, for good: all goes through the cache
//!        └── cannot be opened so ──────────────────────────────────────────────────────────►┘
//! ```

use rustix::{
    fs::OFlags,
    io::{Errno, pwrite, pwritev},
};
use std::{
    fs::{File, OpenOptions},
    io::{self, IoSlice},
    os::{fd::AsRawFd, unix::fs::OpenOptionsExt},
    sync::{Mutex, PoisonError},
};

/// Where bytes have to begin, in memory and on the medium, and what their number is a multiple of: enough for any disk.
const ALIGNMENT: usize = 4096;

/// Less is not worth it: the medium would be asked for each of them.
const LENGTH_MIN: usize = 64 << 10;

/// Slices of one write at most, where they lie as they have to: what the system takes. Blocks that were written at different times come one by one.
const SLICES_MAX: usize = 1024;

/// Bytes of one write at most, where they do not.
const PIECE: usize = 1 << 20;

/// The other way into a file.
#[derive(Debug, Default)]
pub(crate) struct Direct(Mutex<Way>);

#[derive(Debug, Default)]
enum Way {
    #[default]
    Unknown,
    There {
        file: File,
        /// A piece, and room to begin where it has to.
        memory: Vec<u8>,
    },
    NotThere,
}

impl Direct {
    /// Writes as many of these bytes as can be written so. The rest is to be written otherwise.
    ///
    /// # Errors
    /// If the disk refuses.
    pub(crate) fn write(&self, file: &File, offset: u64, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let length: usize = slices.iter().map(|slice| slice.len()).sum();
        let is_aligned = offset.is_multiple_of(ALIGNMENT as u64) && length.is_multiple_of(ALIGNMENT);
        if !is_aligned || length < LENGTH_MIN {
            return Ok(0);
        }
        let mut way = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*way, Way::Unknown) {
            *way = open(file);
        }
        let Way::There { file, memory } = &mut *way else { return Ok(0) };
        if let Some(aligned) = aligned(slices) {
            match pwritev(&*file, &aligned, offset) {
                Err(Errno::INTR) => {}
                Err(Errno::INVAL | Errno::OPNOTSUPP) => {
                    *way = Way::NotThere;
                    return Ok(0);
                }
                written => return Ok(written?),
            }
        }
        let start = memory.as_ptr().align_offset(ALIGNMENT);
        let mut written = 0;
        while written < length {
            let aligned = &mut memory[start..start + PIECE.min(length - written)];
            copy(slices, written, aligned);
            match pwrite(&*file, aligned, offset + written as u64) {
                Ok(count) if count.is_multiple_of(ALIGNMENT) && count > 0 => written += count,
                // Where it can go on only otherwise.
                Ok(count) => return Ok(written + count),
                Err(Errno::INTR) => {}
                Err(Errno::INVAL | Errno::OPNOTSUPP) => {
                    *way = Way::NotThere;
                    return Ok(written);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(written)
    }
}

/// Those with bytes, if they can be written from where they are. An empty one may lie anywhere, and some systems (Linux 6.0 to 6.17) refuse the whole
/// write for that.
fn aligned<'a>(slices: &[IoSlice<'a>]) -> Option<Vec<IoSlice<'a>>> {
    let aligned: Vec<_> = slices.iter().filter(|slice| !slice.is_empty()).copied().collect();
    let lies_as_it_has_to = |slice: &IoSlice<'_>| {
        slice.as_ptr().align_offset(ALIGNMENT) == 0 && slice.len().is_multiple_of(ALIGNMENT)
    };
    (aligned.len() <= SLICES_MAX && aligned.iter().all(lies_as_it_has_to)).then_some(aligned)
}

/// Fills `into` with the bytes of all the slices, from this one on. There are so many.
fn copy(slices: &[IoSlice<'_>], mut from: usize, mut into: &mut [u8]) {
    for slice in slices {
        let bytes = &slice[from.min(slice.len())..];
        from -= slice.len() - bytes.len();
        let bytes = &bytes[..bytes.len().min(into.len())];
        let (here, rest) = into.split_at_mut(bytes.len());
        here.copy_from_slice(bytes);
        into = rest;
    }
}

/// The same file, whatever its name is by now.
fn open(file: &File) -> Way {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let flags = i32::try_from(OFlags::DIRECT.bits()).unwrap_or_default();
    match OpenOptions::new().write(true).custom_flags(flags).open(path) {
        Ok(file) => Way::There { file, memory: vec![0; PIECE + ALIGNMENT] },
        Err(_) => Way::NotThere,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    /// So many pieces of memory of the least size that lie as they have to, and one that does not.
    fn with_aligned(count: usize, test: impl FnOnce(Vec<&[u8]>, &[u8])) {
        let memory: Vec<u8> = (0..=255).cycle().take(count * LENGTH_MIN + 2 * ALIGNMENT).collect();
        let start = memory.as_ptr().align_offset(ALIGNMENT);
        let aligned = memory[start..].chunks_exact(LENGTH_MIN).take(count).collect();
        test(aligned, &memory[start + 1..][..ALIGNMENT]);
    }

    #[test]
    fn what_is_empty_is_no_part_of_a_write_wherever_it_lies() {
        with_aligned(2, |pieces, crooked| {
            let nothing = &crooked[..0];
            let all = [nothing, pieces[0], nothing, pieces[1], nothing].map(IoSlice::new);
            let aligned = aligned(&all).expect("they lie as they have to");
            assert_eq!(
                aligned.iter().map(|slice| slice.as_ptr()).collect::<Vec<_>>(),
                [pieces[0].as_ptr(), pieces[1].as_ptr()]
            );
            let many: Vec<_> = pieces
                .iter()
                .flat_map(|piece| piece.chunks_exact(ALIGNMENT))
                .map(IoSlice::new)
                .cycle()
                .take(1024)
                .collect();
            assert_eq!(super::aligned(&many).map(|aligned| aligned.len()), Some(1024));
            assert!(super::aligned(&[pieces[0], crooked].map(IoSlice::new)).is_none());
            assert!(super::aligned(&[pieces[0], &pieces[1][..ALIGNMENT - 1]].map(IoSlice::new)).is_none());
        });
    }

    #[test]
    fn aligned_memory_is_written_from_where_it_is_and_the_way_stays() {
        // Beside this program, which lies on a disk: a file system of memory may have no such way.
        let program = std::env::current_exe().expect("it is known");
        let place = camino::Utf8Path::from_path(program.parent().expect("it is in a directory"));
        let temp = camino_tempfile::tempdir_in(place.expect("it has a name")).expect("it is made");
        let file = File::options().read(true).write(true).create_new(true).open(temp.path().join("file"));
        let (file, direct) = (file.expect("it is made"), Direct::default());
        with_aligned(3, |pieces, crooked| {
            let nothing = &crooked[..0];
            let mut at = 0;
            for slices in [
                vec![pieces[0]],
                vec![nothing, pieces[0], pieces[1]],
                vec![pieces[2], nothing, pieces[0], nothing],
            ] {
                let slices: Vec<_> = slices.into_iter().map(IoSlice::new).collect();
                let length = slices.iter().map(|slice| slice.len()).sum::<usize>();
                assert_eq!(direct.write(&file, at, &slices).expect("it is written"), length);
                let mut read = vec![0; length];
                file.read_exact_at(&mut read, at).expect("it is there");
                assert!(read == slices.iter().flat_map(|slice| slice.iter().copied()).collect::<Vec<_>>());
                let way = direct.0.lock().expect("nobody has panicked");
                assert!(matches!(*way, Way::There { .. }), "it was refused");
                at += length as u64;
            }
        });
    }
}
