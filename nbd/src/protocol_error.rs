//! Why a connection has to be closed. Owns the list; requests that are merely refused are `refusal.rs`, and they end nothing.

use thiserror::Error;

/// The client broke the protocol in a way that cannot be answered. Close the connection.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ProtocolError {
    /// The client's flags have bits that nobody offered.
    #[error("the client set unknown handshake flags: {flags:#010x}")]
    UnknownClientFlags {
        /// All of its flags.
        flags: u32,
    },
    /// What should be an option does not begin like one.
    #[error("an option begins with {found:#018x}")]
    OptionMagic {
        /// Its first eight bytes.
        found: u64,
    },
    /// A client without fixed newstyle may only choose an export.
    #[error("the client sent option {option} without having said that it speaks fixed newstyle")]
    OptionWithoutFixedNewstyle {
        /// The option's number.
        option: u32,
    },
    /// An option with more data than is even skipped.
    #[error("option {option} has {bytes} bytes of data, {bytes_max} are the limit")]
    OptionTooLong {
        /// The option's number.
        option: u32,
        /// What it announced.
        bytes: u32,
        /// What is skipped at most.
        bytes_max: u32,
    },
    /// The client goes on haggling.
    #[error("the client sent more than {options_max} options")]
    TooManyOptions {
        /// How many are answered.
        options_max: u32,
    },
    /// `NBD_OPT_EXPORT_NAME` with something that cannot be a name; the option cannot be answered with an error.
    #[error("the client chose an export by something that is not a name")]
    ExportNameInvalid,
    /// `NBD_OPT_EXPORT_NAME` for an export that is not there; the option cannot be answered with an error.
    #[error("the client chose an export that is not there: {name:?}")]
    ExportUnknown {
        /// What it asked for.
        name: String,
    },
    /// `NBD_OPT_EXPORT_NAME` for an export that wants its block sizes known; the option cannot be answered with an error.
    #[error("the client chose export {name:?} without being able to learn its block sizes")]
    BlockSizeRequired {
        /// The export's name.
        name: String,
    },
    /// What should be a request does not begin like one.
    #[error("a request begins with {found:#010x}")]
    RequestMagic {
        /// Its first four bytes.
        found: u32,
    },
    /// A write with more data than is even skipped.
    #[error("a write has {bytes} bytes of data, {bytes_max} are the limit")]
    PayloadTooLarge {
        /// What it announced.
        bytes: u32,
        /// The server's bound.
        bytes_max: u32,
    },
}
