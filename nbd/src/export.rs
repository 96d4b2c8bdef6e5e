//! What a server offers: exports with their names, sizes and abilities. Owns the rules that an offer must follow before any
//! client sees it; what clients are told of it is `handshake.rs`.

use crate::wire::{STRING_BYTES_MAX, transmission_flag as flag};
use std::{collections::BTreeMap, sync::Arc};
use thiserror::Error;

/// Bytes of one payload that most servers and clients allow: 32 MiB. Clients that were told nothing keep to it.
pub const PAYLOAD_BYTES_MAX_USUAL: u32 = 32 << 20;
/// Least bound on payloads. The protocol demands that reads of 64 KiB are answered in one piece.
pub const PAYLOAD_BYTES_MAX_LEAST: u32 = 64 << 10;
/// Greatest bound on payloads: no client sends more, and a chunk's length with its offset fits 32 bits.
pub const PAYLOAD_BYTES_MAX_GREATEST: u32 = 1 << 30;
/// Greatest minimum block size that the protocol knows.
const MINIMUM_BLOCK_SIZE_MAX: u32 = 64 << 10;
/// Least preferred block size that the protocol knows.
const PREFERRED_BLOCK_SIZE_MIN: u32 = 512;
/// Exports of one server. `NBD_OPT_LIST` answers with all of them at once, 8 KiB each at most.
pub const EXPORTS_MAX: usize = 1024;

/// Sizes of requests, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockSize {
    /// Offsets and lengths are multiples of this: a power of two, 65,536 at most.
    pub minimum: u32,
    /// Requests of this size and more are fast: a power of two, 512 at least, not less than the minimum.
    pub preferred: u32,
    /// Payload of one request at most. [`Exports::add`] lowers it to the server's bound and to a multiple of the minimum.
    pub maximum: u32,
}

impl BlockSize {
    /// Blocks of `minimum` bytes, 4 KiB or more preferred, payloads as large as the server takes.
    pub fn of(minimum: u32) -> Self {
        BlockSize { minimum, preferred: minimum.max(4096), maximum: u32::MAX }
    }
}

/// May clients write?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// They may.
    ReadWrite,
    /// What would write is refused with EPERM.
    ReadOnly,
}

/// What an export can do beyond reading and writing. Requests for what it cannot do are refused with EINVAL before the
/// caller sees them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// `NBD_CMD_FLUSH`.
    pub flush: bool,
    /// Requests that are answered when what they wrote is durable.
    pub fua: bool,
    /// `NBD_CMD_TRIM`.
    pub trim: bool,
    /// `NBD_CMD_WRITE_ZEROES`.
    pub write_zeroes: bool,
    /// `NBD_CMD_FLAG_FAST_ZERO`; only with `write_zeroes`.
    pub fast_zero: bool,
    /// `NBD_CMD_CACHE`.
    pub cache: bool,
    /// Several connections of one client see each other's writes and flushes.
    pub multi_conn: bool,
    /// `NBD_CMD_BLOCK_STATUS` with `base:allocation`.
    pub block_status: bool,
}

impl Features {
    /// Everything.
    pub fn all() -> Self {
        Features {
            flush: true,
            fua: true,
            trim: true,
            write_zeroes: true,
            fast_zero: true,
            cache: true,
            multi_conn: true,
            block_status: true,
        }
    }
}

/// What to do with a client that does not ask for the block sizes, and so may not know them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SizesNotAsked {
    /// Let it in. Requests that do not fit the sizes are refused with EINVAL and change nothing.
    Admit,
    /// Refuse it during the handshake.
    Refuse,
}

/// One export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Export {
    /// Its name; may be empty, which is what clients ask for that were given none. 4096 bytes at most, no NUL.
    pub name: String,
    /// For people; empty for none. 4096 bytes at most, no NUL.
    pub description: String,
    /// Its size: a multiple of the minimum block size, below 2^63.
    pub size_bytes: u64,
    /// Sizes of requests.
    pub block_size: BlockSize,
    /// May clients write?
    pub access: Access,
    /// What it can do.
    pub features: Features,
    /// What to do with clients that do not ask for the block sizes.
    pub sizes_not_asked: SizesNotAsked,
}

impl Export {
    /// An export that can be read and written, and nothing else yet.
    pub fn new(name: impl Into<String>, size_bytes: u64, block_size: BlockSize) -> Self {
        Export {
            name: name.into(),
            description: String::new(),
            size_bytes,
            block_size,
            access: Access::ReadWrite,
            features: Features::default(),
            sizes_not_asked: SizesNotAsked::Admit,
        }
    }

    /// The transmission flags that a client gets. What writes is not offered where nothing may be written.
    pub(crate) fn transmission_flags(&self, structured: bool) -> u16 {
        let Features { flush, fua, trim, write_zeroes, fast_zero, cache, multi_conn, block_status: _ } =
            self.features;
        let read_only = self.access == Access::ReadOnly;
        [
            (true, flag::HAS_FLAGS),
            (read_only, flag::READ_ONLY),
            (flush, flag::SEND_FLUSH),
            (fua, flag::SEND_FUA),
            (trim && !read_only, flag::SEND_TRIM),
            (write_zeroes && !read_only, flag::SEND_WRITE_ZEROES),
            (fast_zero && !read_only, flag::SEND_FAST_ZERO),
            (structured, flag::SEND_DF),
            (multi_conn, flag::CAN_MULTI_CONN),
            (cache, flag::SEND_CACHE),
        ]
        .into_iter()
        .filter(|(offered, _)| *offered)
        .fold(0, |flags, (_, flag)| flags | flag)
    }

    fn check(&self, payload_bytes_max: u32) -> Result<(), ExportProblem> {
        let BlockSize { minimum, preferred, maximum } = self.block_size;
        check_text(&self.name).map_err(ExportProblem::Name)?;
        check_text(&self.description).map_err(ExportProblem::Description)?;
        if !minimum.is_power_of_two() || minimum > MINIMUM_BLOCK_SIZE_MAX {
            return Err(ExportProblem::MinimumBlockSize { minimum });
        }
        if !preferred.is_power_of_two() || preferred < PREFERRED_BLOCK_SIZE_MIN.max(minimum) {
            return Err(ExportProblem::PreferredBlockSize { preferred });
        }
        let least = u64::from(preferred).min(self.size_bytes);
        let highest = maximum.min(payload_bytes_max);
        if u64::from(highest) < least.max(u64::from(minimum)) {
            return Err(ExportProblem::MaximumBlockSize { maximum: highest });
        }
        if self.size_bytes > i64::MAX.unsigned_abs() || !self.size_bytes.is_multiple_of(u64::from(minimum)) {
            return Err(ExportProblem::Size { size_bytes: self.size_bytes, minimum });
        }
        if self.features.fast_zero && !self.features.write_zeroes {
            return Err(ExportProblem::FastZeroWithoutWriteZeroes);
        }
        Ok(())
    }
}

fn check_text(text: &str) -> Result<(), TextProblem> {
    if text.len() > STRING_BYTES_MAX {
        return Err(TextProblem::TooLong { bytes: text.len() });
    }
    if text.contains('\0') { Err(TextProblem::Nul) } else { Ok(()) }
}

/// All that one server offers, ready to be told to clients. Shared by its connections; to offer something else, give new
/// connections another one.
#[derive(Clone, Debug)]
pub struct Exports {
    by_name: BTreeMap<String, Arc<Export>>,
    default: Option<String>,
    payload_bytes_max: u32,
}

impl Exports {
    /// Nothing yet. `payload_bytes_max` bounds the payload of one request or reply ([`PAYLOAD_BYTES_MAX_USUAL`]).
    ///
    /// # Errors
    /// The bound is not between [`PAYLOAD_BYTES_MAX_LEAST`] and [`PAYLOAD_BYTES_MAX_GREATEST`].
    pub fn new(payload_bytes_max: u32) -> Result<Self, ExportError> {
        if !(PAYLOAD_BYTES_MAX_LEAST..=PAYLOAD_BYTES_MAX_GREATEST).contains(&payload_bytes_max) {
            return Err(ExportError::PayloadBound { payload_bytes_max });
        }
        Ok(Exports { by_name: BTreeMap::new(), default: None, payload_bytes_max })
    }

    /// Adds an export.
    ///
    /// # Errors
    /// It breaks a rule of the protocol, or there is one of that name, or there are [`EXPORTS_MAX`].
    pub fn add(&mut self, mut export: Export) -> Result<(), ExportError> {
        if self.by_name.len() == EXPORTS_MAX {
            return Err(ExportError::TooMany);
        }
        if let Err(source) = export.check(self.payload_bytes_max) {
            return Err(ExportError::Refused { name: export.name, source });
        }
        if self.by_name.contains_key(&export.name) || (export.name.is_empty() && self.default.is_some()) {
            return Err(ExportError::NameTaken { name: export.name });
        }
        let highest = export.block_size.maximum.min(self.payload_bytes_max);
        export.block_size.maximum = highest - highest % export.block_size.minimum;
        self.by_name.insert(export.name.clone(), Arc::new(export));
        Ok(())
    }

    /// Lets the empty name mean the export of this name, too.
    ///
    /// # Errors
    /// There is none, or one has the empty name already.
    pub fn set_default(&mut self, name: &str) -> Result<(), ExportError> {
        if !self.by_name.contains_key(name) {
            return Err(ExportError::NoSuchExport { name: name.to_owned() });
        }
        if self.by_name.contains_key("") {
            return Err(ExportError::NameTaken { name: String::new() });
        }
        self.default = Some(name.to_owned());
        Ok(())
    }

    /// The export that a client means by `name`.
    pub fn find(&self, name: &str) -> Option<&Arc<Export>> {
        let name = if name.is_empty() { self.default.as_deref().unwrap_or_default() } else { name };
        self.by_name.get(name)
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Export>> {
        self.by_name.values()
    }

    /// Bytes of one payload at most.
    pub fn payload_bytes_max(&self) -> u32 {
        self.payload_bytes_max
    }
}

/// An offer that cannot be made.
#[derive(Debug, Error)]
pub enum ExportError {
    /// The bound on payloads is out of its range.
    #[error(
        "payloads cannot be bounded to {payload_bytes_max} bytes, only from {PAYLOAD_BYTES_MAX_LEAST} to {PAYLOAD_BYTES_MAX_GREATEST}"
    )]
    PayloadBound {
        /// The bound.
        payload_bytes_max: u32,
    },
    /// The export breaks a rule of the protocol.
    #[error("cannot offer export {name:?}")]
    Refused {
        /// Its name.
        name: String,
        /// Which rule.
        #[source]
        source: ExportProblem,
    },
    /// Two exports of one name.
    #[error("there is an export {name:?} already")]
    NameTaken {
        /// The name.
        name: String,
    },
    /// The default is to be an export that is not there.
    #[error("there is no export {name:?} to be the default")]
    NoSuchExport {
        /// The name.
        name: String,
    },
    /// More exports than one server offers.
    #[error("there are {EXPORTS_MAX} exports already, more are not offered")]
    TooMany,
}

/// The rule that an export breaks.
#[derive(Debug, Error)]
pub enum ExportProblem {
    /// Its name is no string of the protocol.
    #[error("its name is no string of the protocol")]
    Name(#[source] TextProblem),
    /// Its description is no string of the protocol.
    #[error("its description is no string of the protocol")]
    Description(#[source] TextProblem),
    /// The minimum block size.
    #[error("its minimum block size of {minimum} bytes is not a power of two up to {MINIMUM_BLOCK_SIZE_MAX}")]
    MinimumBlockSize {
        /// In bytes.
        minimum: u32,
    },
    /// The preferred block size.
    #[error(
        "its preferred block size of {preferred} bytes is not a power of two, or less than the minimum or {PREFERRED_BLOCK_SIZE_MIN}"
    )]
    PreferredBlockSize {
        /// In bytes.
        preferred: u32,
    },
    /// The maximum block size, after the server's bound on payloads.
    #[error("with payloads of {maximum} bytes at most not even preferred blocks fit")]
    MaximumBlockSize {
        /// In bytes.
        maximum: u32,
    },
    /// Its size.
    #[error("its size of {size_bytes} bytes is not a multiple of {minimum} below 2^63")]
    Size {
        /// In bytes.
        size_bytes: u64,
        /// The minimum block size.
        minimum: u32,
    },
    /// Fast zeroing without zeroing.
    #[error("fast zeroing is only offered together with zeroing")]
    FastZeroWithoutWriteZeroes,
}

/// Why a text is no string of the protocol.
#[derive(Debug, Error)]
pub enum TextProblem {
    /// Too long.
    #[error("it has {bytes} bytes, {STRING_BYTES_MAX} are allowed")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// Contains NUL.
    #[error("it contains a NUL")]
    Nul,
}
