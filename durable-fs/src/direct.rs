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

/// Slices of one write at most, where they lie as they have to.
const SLICES_MAX: usize = 64;

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
        if slices.len() <= SLICES_MAX && slices.iter().all(lies_as_it_has_to) {
            match pwritev(&*file, slices, offset) {
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

/// Whether it can be written from where it is.
fn lies_as_it_has_to(slice: &IoSlice<'_>) -> bool {
    slice.as_ptr().align_offset(ALIGNMENT) == 0 && slice.len().is_multiple_of(ALIGNMENT) || slice.is_empty()
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
