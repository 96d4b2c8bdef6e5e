//! The header of everything, and what is refused before anything is believed.
//!
//! ```text
//!   0       2      3   4        8      12         20
//!   ┌───────┬──────┬───┬────────┬──────┬──────────┬────────┬──────┐
//!   │ magic │ kind │ 0 │ fields │ bulk │ checksum │ fields │ bulk │
//!   └───────┴──────┴───┴────────┴──────┴──────────┴────────┴──────┘
//!                        how many bytes  of all before it, and of the fields
//! ```
//!
//! Never changes: the two sides agree on a version by the first frames.

use bytes::{Buf, Bytes};
use region::fields::{Fields, PutFields};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Bytes of fields at most: a look at [`crate::LOOK_MAX`] blocks takes the most.
pub const FIELDS_MAX: usize = 512 << 10;

/// Bytes of bulk at most.
pub const BULK_MAX: usize = 1 << 20;

const MAGIC: u16 = u16::from_le_bytes(*b"bw");

/// Bytes of a header.
pub(crate) const HEADER: usize = 20;

/// Bytes of it before its checksum.
const BEFORE: usize = 12;

/// A message that has arrived whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Which message.
    pub(crate) kind: u8,
    pub(crate) fields: Bytes,
    pub(crate) bulk: Bytes,
}

/// Bytes that are no message. The connection is of no further use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Whoever is there speaks something else.
    #[error("what came is not of this protocol: it begins with {0:#06x}")]
    NotOurs(u16),
    /// Longer than any message.
    #[error(
        "a message of {fields} bytes of fields and {bulk} of blocks; there are at most {FIELDS_MAX} and {BULK_MAX}"
    )]
    TooLong {
        /// Bytes of fields.
        fields: usize,
        /// Bytes of bulk.
        bulk: usize,
    },
    /// It was changed on its way.
    #[error("a message of kind {kind} does not have its checksum")]
    Damaged {
        /// Which message it claimed to be.
        kind: u8,
    },
    /// It has the right checksum, and makes no sense.
    #[error("a message of kind {kind} is wrong: {what}")]
    Wrong {
        /// Which message.
        kind: u8,
        /// In words.
        what: &'static str,
    },
}

/// The header of a frame with these fields and so many bytes of bulk.
pub(crate) fn header(kind: u8, fields: &[u8], bulk: usize) -> [u8; HEADER] {
    let mut bytes = [0; HEADER];
    let mut into = &mut bytes[..];
    into.put(&MAGIC.to_le_bytes());
    into.put_u8(kind);
    into.put_u8(0);
    into.put_u32(u32::try_from(fields.len()).expect("fields are bounded"));
    into.put_u32(u32::try_from(bulk).expect("bulk is bounded"));
    let checksum = checksum(&bytes[..BEFORE], fields);
    bytes[BEFORE..].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

/// Of the header, which is short, with the fields.
fn checksum(header: &[u8], fields: &[u8]) -> u64 {
    xxh3_64_with_seed(fields, xxh3_64_with_seed(header, 0))
}

/// What is missing of a frame that is not there whole.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Missing {
    /// So many bytes there must be, from the frame's first one on, before it is worth while to ask again.
    pub(crate) needed: usize,
    /// So many of them are before its bulk. None if that is not known yet, or if it has none.
    pub(crate) before_bulk: Option<usize>,
}

/// The first frame of these bytes, if all of it is there.
pub(crate) fn split(bytes: &mut Bytes) -> Result<Result<Frame, Missing>, WireError> {
    let Some(header) = bytes.first_chunk::<HEADER>() else {
        return Ok(Err(Missing { needed: HEADER, before_bulk: None }));
    };
    let mut parts = Fields(header);
    let mut parse = || {
        let magic = u16::from_le_bytes([parts.u8()?, parts.u8()?]);
        let (kind, _, fields, bulk) = (parts.u8()?, parts.u8()?, parts.u32()?, parts.u32()?);
        Some((magic, kind, usize::try_from(fields).ok()?, usize::try_from(bulk).ok()?, parts.u64()?))
    };
    let (magic, kind, fields, bulk, kept) = parse().expect("a header has all of it");
    if magic != MAGIC {
        return Err(WireError::NotOurs(magic));
    }
    if fields > FIELDS_MAX || bulk > BULK_MAX {
        return Err(WireError::TooLong { fields, bulk });
    }
    let before_bulk = HEADER + fields;
    if bytes.len() < before_bulk + bulk {
        let missing =
            Missing { needed: before_bulk + bulk, before_bulk: Some(before_bulk).filter(|_| bulk > 0) };
        return Ok(Err(missing));
    }
    if checksum(&bytes[..BEFORE], &bytes[HEADER..before_bulk]) != kept {
        return Err(WireError::Damaged { kind });
    }
    let mut whole = bytes.split_to(before_bulk + bulk);
    whole.advance(HEADER);
    let fields = whole.split_to(fields);
    Ok(Ok(Frame { kind, fields, bulk: whole }))
}
