//! The version of the protocol.

/// The version of the protocol that is spoken.
pub const VERSION: u16 = 1;
