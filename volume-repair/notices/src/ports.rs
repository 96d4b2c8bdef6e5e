//! Who carries notices to the coordinator.

use nexus_client::repairs::RepairNotice;

/// Carries one notice at a time. Whoever has one that waits for answers of a network holds no lock on the outbox meanwhile:
/// [`crate::Outbox::next`], send, [`crate::Outbox::answered`].
pub trait Transport {
    /// Sends it, and says what came of that.
    fn send(&mut self, notice: &RepairNotice) -> Answer;
}

/// What came of a notice that was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The coordinator has it, durably.
    Taken,
    /// Nobody knows: no answer, or one that says to come again.
    Away(String),
    /// The coordinator has understood it, and will not take it.
    Refused(String),
}
