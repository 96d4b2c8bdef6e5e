//! Answers to options, as bytes. Owns their layout; which one is given is `handshake.rs`.

use crate::{
    export::{BlockSize, Export},
    wire::{
        BASE_ALLOCATION, EXPORT_NAME_ZEROES, GREETING_MAGIC, OPTION_MAGIC, OPTION_REPLY_MAGIC,
        handshake_flag, info, option_reply,
    },
};
use bytes::{BufMut, BytesMut};

/// The first words of a server. The client's flags follow.
pub(crate) fn put_greeting(output: &mut BytesMut) {
    output.put_u64(GREETING_MAGIC);
    output.put_u64(OPTION_MAGIC);
    // Both flags are below 2^16; the client answers with the same bits in 32.
    output.put_u16((handshake_flag::FIXED_NEWSTYLE | handshake_flag::NO_ZEROES) as u16);
}

/// Why an option is refused, in the protocol's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OptionError {
    Unsupported,
    Invalid,
    Unknown,
    BlockSizeRequired,
    TooBig,
}

impl OptionError {
    fn reply_type(self) -> u32 {
        match self {
            OptionError::Unsupported => option_reply::ERROR_UNSUPPORTED,
            OptionError::Invalid => option_reply::ERROR_INVALID,
            OptionError::Unknown => option_reply::ERROR_UNKNOWN,
            OptionError::BlockSizeRequired => option_reply::ERROR_BLOCK_SIZE_REQUIRED,
            OptionError::TooBig => option_reply::ERROR_TOO_BIG,
        }
    }
}

/// Answers to one option.
pub(crate) struct OptionAnswer<'a> {
    pub(crate) option: u32,
    pub(crate) output: &'a mut BytesMut,
}

impl OptionAnswer<'_> {
    /// The last answer: done.
    pub(crate) fn acknowledge(&mut self) {
        self.put_header(option_reply::ACK, 0);
    }

    /// The last answer: refused. The message is for people and fits a string of the protocol.
    pub(crate) fn refuse(&mut self, error: OptionError, message: &str) {
        self.put_header(error.reply_type(), message.len());
        self.output.put_slice(message.as_bytes());
    }

    /// One entry of the list of exports.
    pub(crate) fn list_entry(&mut self, export: &Export) {
        let (name, description) = (export.name.as_bytes(), export.description.as_bytes());
        self.put_header(option_reply::SERVER, 4 + name.len() + description.len());
        self.output.put_u32(bounded(name.len()));
        self.output.put_slice(name);
        self.output.put_slice(description);
    }

    pub(crate) fn export_info(&mut self, size_bytes: u64, transmission_flags: u16) {
        self.put_info(info::EXPORT, 10);
        self.output.put_u64(size_bytes);
        self.output.put_u16(transmission_flags);
    }

    pub(crate) fn text_info(&mut self, kind: TextInfo, text: &str) {
        let kind = match kind {
            TextInfo::Name => info::NAME,
            TextInfo::Description => info::DESCRIPTION,
        };
        self.put_info(kind, text.len());
        self.output.put_slice(text.as_bytes());
    }

    pub(crate) fn block_size_info(&mut self, sizes: BlockSize) {
        self.put_info(info::BLOCK_SIZE, 12);
        self.output.put_u32(sizes.minimum);
        self.output.put_u32(sizes.preferred);
        self.output.put_u32(sizes.maximum);
    }

    /// `base:allocation`, under this id.
    pub(crate) fn base_allocation(&mut self, id: u32) {
        self.put_header(option_reply::META_CONTEXT, 4 + BASE_ALLOCATION.len());
        self.output.put_u32(id);
        self.output.put_slice(BASE_ALLOCATION.as_bytes());
    }

    fn put_info(&mut self, kind: u16, payload_bytes: usize) {
        self.put_header(option_reply::INFO, 2 + payload_bytes);
        self.output.put_u16(kind);
    }

    fn put_header(&mut self, reply_type: u32, data_bytes: usize) {
        self.output.put_u64(OPTION_REPLY_MAGIC);
        self.output.put_u32(self.option);
        self.output.put_u32(reply_type);
        self.output.put_u32(bounded(data_bytes));
    }
}

/// Which text.
#[derive(Clone, Copy, Debug)]
pub(crate) enum TextInfo {
    Name,
    Description,
}

/// The answer to `NBD_OPT_EXPORT_NAME`, which has no header.
pub(crate) fn put_export_name_answer(
    output: &mut BytesMut,
    size_bytes: u64,
    transmission_flags: u16,
    zeroes: bool,
) {
    output.put_u64(size_bytes);
    output.put_u16(transmission_flags);
    if zeroes {
        output.put_bytes(0, EXPORT_NAME_ZEROES);
    }
}

fn bounded(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("what is answered to an option is made of a few strings of 4096 bytes")
}
