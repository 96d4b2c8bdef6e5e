//! The two files that are read again: a disk's mark and a dataset's record. Owns their format.
//!
//! One line of JSON with a version, and one line with the XXH3 of the first, in hex. An unknown version is refused, and so is a
//! record whose sum is wrong: a reservation with one digit changed would be promised to somebody else.

use crate::types::Size;
use serde::{Deserialize, Serialize};
use std::str;
use xxhash_rust::xxh3::xxh3_64;

/// The version that is written, and the only one that is read.
const VERSION: u32 = 1;

/// Bytes of such a file at most: it has two short lines.
pub(super) const BYTES_MAX: u64 = 4096;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    version: u32,
    /// Not there in a mark.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    size: Option<Size>,
}

/// A dataset's record.
pub(super) fn of_dataset(size: Size) -> Vec<u8> {
    write(&Record { version: VERSION, size: Some(size) })
}

/// A disk's mark.
pub(super) fn of_disk() -> Vec<u8> {
    write(&Record { version: VERSION, size: None })
}

/// What a dataset was made with.
pub(super) fn read_dataset(bytes: &[u8]) -> Result<Size, String> {
    let size = read(bytes)?.size.ok_or("it has no size")?;
    size.check().map_err(|error| error.to_string())?;
    Ok(size)
}

/// Whether it is a disk's mark.
pub(super) fn read_disk(bytes: &[u8]) -> Result<(), String> {
    match read(bytes)?.size {
        None => Ok(()),
        Some(_) => Err("it is a dataset's record".to_owned()),
    }
}

fn write(record: &Record) -> Vec<u8> {
    let line = serde_json::to_string(record).expect("numbers with names are JSON");
    let sum = xxh3_64(line.as_bytes());
    format!("{line}\n{sum:016x}\n").into_bytes()
}

fn read(bytes: &[u8]) -> Result<Record, String> {
    let lines = str::from_utf8(bytes).ok().and_then(|text| text.strip_suffix('\n')?.split_once('\n'));
    let (line, sum) = lines.ok_or("it is cut off, or no record")?;
    if sum != format!("{:016x}", xxh3_64(line.as_bytes())) {
        return Err("its checksum is wrong".to_owned());
    }
    let record: Record = serde_json::from_str(line).map_err(|error| error.to_string())?;
    if record.version == VERSION {
        Ok(record)
    } else {
        Err(format!("its version is {}, and only {VERSION} is known", record.version))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: Size = Size { quota_bytes: 3 << 20, reservation_bytes: 1 << 20 };

    #[test]
    fn what_is_written_is_read() {
        assert_eq!(read_dataset(&of_dataset(SIZE)), Ok(SIZE));
        assert_eq!(read_disk(&of_disk()), Ok(()));
        assert!(read_dataset(&of_disk()).is_err());
        assert!(read_disk(&of_dataset(SIZE)).is_err());
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_refused() {
        let whole = of_dataset(SIZE);
        for place in 0..whole.len() {
            for bit in 0..8 {
                let mut bytes = whole.clone();
                bytes[place] ^= 1 << bit;
                assert!(read_dataset(&bytes).is_err(), "byte {place}, bit {bit}");
            }
            assert!(read_dataset(&whole[..place]).is_err(), "cut at {place}");
        }
    }

    #[test]
    fn another_version_is_refused_by_its_number() {
        let newer = write(&Record { version: 2, size: Some(SIZE) });
        assert!(read_dataset(&newer).is_err_and(|why| why.contains("version is 2")));
    }
}
