//! Reads one entry of the archive in bounded memory and says whether its bytes are what the archive declares.
//!
//! Owns inflation, CRC-32 and declared size. Knows nothing of signatures: what the bytes must hash to is the
//! caller's. Blocking; callers run it on a blocking thread.

use crate::zip_index::Entry;
use flate2::{Crc, bufread::DeflateDecoder};
use problem::Code;
use rawzip::{FileReader, RangeReader};
use std::{
    io::{self, BufReader, Read},
    ops::ControlFlow,
};

/// Bytes handed on at a time: large enough that hashing and sending dominate, small enough that some dozens of
/// readers stay within a few MiB.
pub(crate) const CHUNK_BYTES: usize = 256 << 10;
/// Compressed bytes read ahead of the decoder.
const COMPRESSED_BUFFER_BYTES: usize = 64 << 10;

/// Why an entry was not read to its end.
#[derive(Debug)]
pub(crate) enum ReadFault {
    /// The archive is at fault.
    Refused(Code, String),
    /// The machine is at fault.
    Io(io::Error),
    /// The receiver of the chunks wants no more.
    Stopped,
}

/// Reads the entry's content, at most [`CHUNK_BYTES`] at a time, and gives each chunk to `receive`.
///
/// # Errors
/// [`ReadFault`]; the chunks that were received until then are not to be used.
pub(crate) fn read_entry(
    file: &FileReader,
    entry: &Entry,
    mut receive: impl FnMut(&[u8]) -> ControlFlow<()>,
) -> Result<(), ReadFault> {
    let data = RangeReader::new(file, entry.data_offset..entry.data_offset + entry.compressed_size);
    if !entry.deflated {
        return check_content(data, entry, &mut receive);
    }
    let mut decoder = DeflateDecoder::new(BufReader::with_capacity(COMPRESSED_BUFFER_BYTES, data));
    check_content(&mut decoder, entry, &mut receive)?;
    if decoder.total_in() == entry.compressed_size {
        Ok(())
    } else {
        let reason = format!(
            "the content ends after {} of {} compressed bytes",
            decoder.total_in(),
            entry.compressed_size
        );
        Err(ReadFault::Refused(Code::ZipTruncated, reason))
    }
}

/// Reads a small entry whole.
///
/// # Errors
/// As [`read_entry`]. An entry that declares more than `bytes_max` is not read at all.
pub(crate) fn read_small(file: &FileReader, entry: &Entry, bytes_max: u64) -> Result<Vec<u8>, ReadFault> {
    if entry.size > bytes_max {
        let reason = format!("the file has {} bytes, {bytes_max} are accepted", entry.size);
        return Err(ReadFault::Refused(Code::MetadataInvalid, reason));
    }
    let mut content = Vec::new();
    read_entry(file, entry, |chunk| {
        content.extend_from_slice(chunk);
        ControlFlow::Continue(())
    })?;
    Ok(content)
}

fn check_content(
    mut content: impl Read,
    entry: &Entry,
    receive: &mut impl FnMut(&[u8]) -> ControlFlow<()>,
) -> Result<(), ReadFault> {
    // One byte more than declared is room enough to notice that there is more.
    let wanted = usize::try_from(entry.size.saturating_add(1)).unwrap_or(CHUNK_BYTES);
    let mut chunk = vec![0u8; wanted.min(CHUNK_BYTES)];
    let mut crc = Crc::new();
    let mut total = 0u64;
    loop {
        let count = match content.read(&mut chunk) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(content_fault(error)),
        };
        total += count as u64;
        if total > entry.size {
            let reason = format!("the content goes on after the declared {} bytes", entry.size);
            return Err(ReadFault::Refused(Code::ZipBomb, reason));
        }
        crc.update(&chunk[..count]);
        if receive(&chunk[..count]).is_break() {
            return Err(ReadFault::Stopped);
        }
    }
    if total < entry.size {
        let reason = format!("the content ends after {total} of {} bytes", entry.size);
        return Err(ReadFault::Refused(Code::ZipTruncated, reason));
    }
    if crc.sum() != entry.crc {
        let reason = format!("the content's CRC-32 is {:08x}, declared is {:08x}", crc.sum(), entry.crc);
        return Err(ReadFault::Refused(Code::ZipTruncated, reason));
    }
    Ok(())
}

/// The decoder reports damage as invalid input or data; the operating system has other words.
fn content_fault(error: io::Error) -> ReadFault {
    match error.kind() {
        io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
            ReadFault::Refused(Code::ZipTruncated, format!("the content can not be read: {error}"))
        }
        _ => ReadFault::Io(error),
    }
}
