//! The numbers of the NBD protocol, as its document has them (`doc/proto.md` of the reference implementation). Owns no behaviour. What a
//! client says as well is public, so that one of ours has no numbers of its own.

/// `NBDMAGIC`, the first word of a server.
pub const GREETING_MAGIC: u64 = 0x4e42_444d_4147_4943;
/// `IHAVEOPT`: the second word of a newstyle server, and the first of every option.
pub const OPTION_MAGIC: u64 = 0x4948_4156_454f_5054;
/// The first word of every answer to an option but `NBD_OPT_EXPORT_NAME`.
pub const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
/// The first word of every request.
pub const REQUEST_MAGIC: u32 = 0x2560_9513;
/// The first word of a simple reply.
pub const SIMPLE_REPLY_MAGIC: u32 = 0x6744_6698;
/// The first word of each chunk of a structured reply.
pub(crate) const STRUCTURED_REPLY_MAGIC: u32 = 0x668e_33ef;

/// Bytes of a string at most: names of exports, descriptions, queries, messages.
pub(crate) const STRING_BYTES_MAX: usize = 4096;
/// Bytes of the client's flags.
pub(crate) const CLIENT_FLAGS_BYTES: usize = 4;
/// Bytes of an option before its data.
pub(crate) const OPTION_HEADER_BYTES: usize = 16;
/// Bytes of a request before its payload.
pub const REQUEST_HEADER_BYTES: usize = 28;
/// Data that nobody keeps is awaited in pieces of this size: few system calls, little memory.
pub(crate) const SKIPPED_BYTES_AT_ONCE: usize = 64 << 10;
/// Zeroes that end the answer to `NBD_OPT_EXPORT_NAME` unless the client does without.
pub(crate) const EXPORT_NAME_ZEROES: usize = 124;

/// Handshake flags, the server's and, with the same bits, the client's.
pub mod handshake_flag {
    /// Options are answered one by one, until there is one that ends them.
    pub const FIXED_NEWSTYLE: u32 = 1 << 0;
    /// No zeroes follow the answer to `NBD_OPT_EXPORT_NAME`.
    pub const NO_ZEROES: u32 = 1 << 1;
}

/// Options that a client may send.
pub mod option {
    pub(crate) const EXPORT_NAME: u32 = 1;
    pub(crate) const ABORT: u32 = 2;
    pub(crate) const LIST: u32 = 3;
    pub(crate) const INFO: u32 = 6;
    /// Use this export from now on.
    pub const GO: u32 = 7;
    pub(crate) const STRUCTURED_REPLY: u32 = 8;
    pub(crate) const LIST_META_CONTEXT: u32 = 9;
    pub(crate) const SET_META_CONTEXT: u32 = 10;
}

/// Kinds of answers to an option.
pub mod option_reply {
    const ERROR: u32 = 1 << 31;
    /// Done.
    pub const ACK: u32 = 1;
    pub(crate) const SERVER: u32 = 2;
    /// Something about the export, of a kind of [`info`](super::info).
    pub const INFO: u32 = 3;
    pub(crate) const META_CONTEXT: u32 = 4;
    pub(crate) const ERROR_UNSUPPORTED: u32 = ERROR | 1;
    pub(crate) const ERROR_INVALID: u32 = ERROR | 3;
    pub(crate) const ERROR_UNKNOWN: u32 = ERROR | 6;
    pub(crate) const ERROR_BLOCK_SIZE_REQUIRED: u32 = ERROR | 8;
    pub(crate) const ERROR_TOO_BIG: u32 = ERROR | 9;
}

/// What a client may ask for with `NBD_OPT_INFO` and `NBD_OPT_GO`.
pub mod info {
    /// Its size in bytes, 8 bytes, and its flags, 2 bytes. Always told.
    pub const EXPORT: u16 = 0;
    pub(crate) const NAME: u16 = 1;
    pub(crate) const DESCRIPTION: u16 = 2;
    pub(crate) const BLOCK_SIZE: u16 = 3;
}

/// What an export can do.
pub(crate) mod transmission_flag {
    pub(crate) const HAS_FLAGS: u16 = 1 << 0;
    pub(crate) const READ_ONLY: u16 = 1 << 1;
    pub(crate) const SEND_FLUSH: u16 = 1 << 2;
    pub(crate) const SEND_FUA: u16 = 1 << 3;
    pub(crate) const SEND_TRIM: u16 = 1 << 5;
    pub(crate) const SEND_WRITE_ZEROES: u16 = 1 << 6;
    pub(crate) const SEND_DF: u16 = 1 << 7;
    pub(crate) const CAN_MULTI_CONN: u16 = 1 << 8;
    pub(crate) const SEND_CACHE: u16 = 1 << 10;
    pub(crate) const SEND_FAST_ZERO: u16 = 1 << 11;
}

/// Kinds of requests that are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Command {
    /// Bytes, please.
    Read = 0,
    /// Its payload is written.
    Write = 1,
    /// What was answered is made durable.
    Flush = 3,
    /// Nobody needs these bytes any more.
    Trim = 4,
    /// They will be read soon.
    Cache = 5,
    /// They are zeroes from now on.
    WriteZeroes = 6,
    /// Which of them are zeroes, or nobody's?
    BlockStatus = 7,
}

/// The number of the request that is not answered, `NBD_CMD_DISC`.
pub(crate) const COMMAND_DISCONNECT: u16 = 2;

impl Command {
    const ALL: [Command; 7] = [
        Command::Read,
        Command::Write,
        Command::Flush,
        Command::Trim,
        Command::Cache,
        Command::WriteZeroes,
        Command::BlockStatus,
    ];

    pub(crate) fn from_number(number: u16) -> Option<Command> {
        Command::ALL.into_iter().find(|command| command.number() == number)
    }

    /// As it is sent.
    #[must_use]
    pub fn number(self) -> u16 {
        self as u16
    }
}

/// Flags of a request.
pub mod command_flag {
    /// What it writes is durable when it is answered.
    pub const FUA: u16 = 1 << 0;
    /// Zeroes that have their room.
    pub const NO_HOLE: u16 = 1 << 1;
    pub(crate) const DONT_FRAGMENT: u16 = 1 << 2;
    pub(crate) const REQUEST_ONE: u16 = 1 << 3;
    pub(crate) const FAST_ZERO: u16 = 1 << 4;
}

/// The one flag of a chunk: no further chunk of this reply follows.
pub(crate) const REPLY_FLAG_DONE: u16 = 1;

/// Kinds of chunks.
pub(crate) mod chunk {
    const ERROR_BIT: u16 = 1 << 15;
    pub(crate) const NONE: u16 = 0;
    pub(crate) const OFFSET_DATA: u16 = 1;
    pub(crate) const OFFSET_HOLE: u16 = 2;
    pub(crate) const BLOCK_STATUS: u16 = 5;
    pub(crate) const ERROR: u16 = ERROR_BIT | 1;
    pub(crate) const ERROR_OFFSET: u16 = ERROR_BIT | 2;
}

/// Status of an extent in `base:allocation`.
pub(crate) mod state {
    pub(crate) const HOLE: u32 = 1 << 0;
    pub(crate) const ZERO: u32 = 1 << 1;
}

/// The one metadata context that is served.
pub(crate) const BASE_ALLOCATION: &str = "base:allocation";
/// The query that lists everything in its namespace.
pub(crate) const BASE_NAMESPACE: &str = "base:";
/// The id that `base:allocation` has in replies to `NBD_CMD_BLOCK_STATUS`. Any number would do.
pub(crate) const BASE_ALLOCATION_ID: u32 = 1;
