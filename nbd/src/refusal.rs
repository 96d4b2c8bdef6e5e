//! Which requests are refused, and with which error. Owns the rules; pure. A refused request ends nothing: it is answered, and
//! the connection goes on.
//!
//! The first rule that a request breaks is the one that it is told:
//!
//! | rule | error |
//! |---|---|
//! | the command is known | EINVAL |
//! | nothing is written to a read-only export | EPERM |
//! | the export offers the command, the client has negotiated what it needs | EINVAL |
//! | each flag belongs to the command, and was offered | EINVAL |
//! | a flush has no range; any other request has one that is not empty | EINVAL |
//! | the range is within the export | ENOSPC if it would be written, otherwise EINVAL |
//! | the range is made of minimum blocks | EINVAL |
//! | what is read or written at once is within the maximum block size | EOVERFLOW for a read in one piece, otherwise EINVAL |
//!
//! Ranges that are only trimmed, zeroed, cached or asked for have no payload, so the maximum does not bound them. FUA may be on
//! any command, as clients do set it anywhere.

use crate::{
    export::Access,
    reply::ErrorCode,
    transmission::{Negotiated, RequestHeader},
    wire::{Command, command_flag, transmission_flag},
};
use thiserror::Error;

/// Why a request was refused. Its text is what the client is told, where the form of the reply has room for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// No such command.
    #[error("command {command} is not known")]
    UnknownCommand {
        /// Its number.
        command: u16,
    },
    /// A write to a read-only export.
    #[error("the export is read-only")]
    ReadOnly,
    /// A command that the export does not offer, or that the client did not negotiate.
    #[error("command {command} is not offered")]
    NotOffered {
        /// Its number.
        command: u16,
    },
    /// Flags that do not belong to the command, or were not offered.
    #[error("command {command} cannot have the flags {flags:#06x}")]
    Flags {
        /// Its number.
        command: u16,
        /// The flags that are wrong.
        flags: u16,
    },
    /// A flush of a range.
    #[error("a flush is of everything, offset and length must be 0")]
    FlushOfRange,
    /// Nothing to do.
    #[error("the length is 0")]
    Empty,
    /// A range that ends beyond the export.
    #[error("{length} bytes at {offset} are beyond the end at {size_bytes}")]
    BeyondEnd {
        /// Its offset.
        offset: u64,
        /// Its length.
        length: u32,
        /// The export's size.
        size_bytes: u64,
        /// It would have been written.
        written: bool,
    },
    /// A range that is not made of blocks.
    #[error("{length} bytes at {offset} are not whole blocks of {minimum}")]
    Misaligned {
        /// Its offset.
        offset: u64,
        /// Its length.
        length: u32,
        /// The minimum block size.
        minimum: u32,
    },
    /// More than fits one request.
    #[error("{length} bytes are more than {maximum}, the most at once")]
    TooLong {
        /// Its length.
        length: u32,
        /// The maximum block size.
        maximum: u32,
        /// The client wants it in one piece, and may try again without.
        one_piece: bool,
    },
}

impl Refusal {
    /// The error that the protocol has for it.
    pub fn code(self) -> ErrorCode {
        match self {
            Refusal::ReadOnly => ErrorCode::NotPermitted,
            Refusal::BeyondEnd { written: true, .. } => ErrorCode::NoSpace,
            Refusal::TooLong { one_piece: true, .. } => ErrorCode::Overflow,
            Refusal::UnknownCommand { .. }
            | Refusal::NotOffered { .. }
            | Refusal::Flags { .. }
            | Refusal::FlushOfRange
            | Refusal::Empty
            | Refusal::BeyondEnd { .. }
            | Refusal::Misaligned { .. }
            | Refusal::TooLong { .. } => ErrorCode::Invalid,
        }
    }
}

/// May this request be made? If so, what does it want?
pub(crate) fn check(header: &RequestHeader, negotiated: &Negotiated) -> Result<Command, Refusal> {
    let RequestHeader { command: number, flags, offset, length, .. } = *header;
    let export = &*negotiated.export;
    let command = Command::from_number(number).ok_or(Refusal::UnknownCommand { command: number })?;
    let writes = matches!(command, Command::Write | Command::Trim | Command::WriteZeroes);
    if writes && export.access == Access::ReadOnly {
        return Err(Refusal::ReadOnly);
    }
    if !is_offered(command, negotiated) {
        return Err(Refusal::NotOffered { command: number });
    }
    let wrong = flags & !allowed_flags(command, negotiated);
    if wrong != 0 {
        return Err(Refusal::Flags { command: number, flags: wrong });
    }
    if command == Command::Flush {
        return if offset == 0 && length == 0 { Ok(command) } else { Err(Refusal::FlushOfRange) };
    }
    if length == 0 {
        return Err(Refusal::Empty);
    }
    let size_bytes = export.size_bytes;
    if offset.checked_add(u64::from(length)).is_none_or(|end| end > size_bytes) {
        let written = matches!(command, Command::Write | Command::WriteZeroes);
        return Err(Refusal::BeyondEnd { offset, length, size_bytes, written });
    }
    // A power of two: `Exports::add` has seen to it.
    let minimum = export.block_size.minimum;
    if (offset | u64::from(length)) & u64::from(minimum - 1) != 0 {
        return Err(Refusal::Misaligned { offset, length, minimum });
    }
    let maximum = export.block_size.maximum;
    if matches!(command, Command::Read | Command::Write) && length > maximum {
        let one_piece = flags & command_flag::DONT_FRAGMENT != 0;
        return Err(Refusal::TooLong { length, maximum, one_piece });
    }
    Ok(command)
}

fn is_offered(command: Command, negotiated: &Negotiated) -> bool {
    let offers = |flag| negotiated.transmission_flags & flag != 0;
    match command {
        Command::Read | Command::Write => true,
        Command::Flush => offers(transmission_flag::SEND_FLUSH),
        Command::Trim => offers(transmission_flag::SEND_TRIM),
        Command::Cache => offers(transmission_flag::SEND_CACHE),
        Command::WriteZeroes => offers(transmission_flag::SEND_WRITE_ZEROES),
        Command::BlockStatus => negotiated.block_status,
    }
}

fn allowed_flags(command: Command, negotiated: &Negotiated) -> u16 {
    let offered = |transmission_flag: u16, command_flag: u16| {
        if negotiated.transmission_flags & transmission_flag != 0 { command_flag } else { 0 }
    };
    let own = match command {
        Command::Read => offered(transmission_flag::SEND_DF, command_flag::DONT_FRAGMENT),
        Command::WriteZeroes => {
            command_flag::NO_HOLE | offered(transmission_flag::SEND_FAST_ZERO, command_flag::FAST_ZERO)
        }
        Command::BlockStatus => command_flag::REQUEST_ONE,
        Command::Write | Command::Flush | Command::Trim | Command::Cache => 0,
    };
    own | offered(transmission_flag::SEND_FUA, command_flag::FUA)
}
