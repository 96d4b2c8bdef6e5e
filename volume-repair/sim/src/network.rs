//! Connections between writers and sleds: in order, as late as it pleases, broken at any instant, and sometimes half open: what is
//! sent is lost and nobody is told.

use rand::{Rng, rngs::SmallRng};
use std::time::Duration;
use upstairs::PeerId;

/// One connection.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    pub(crate) writer: usize,
    pub(crate) sled: usize,
    /// The place of the sled at its writer.
    pub(crate) peer: PeerId,
    /// Whether what is sent is lost.
    pub(crate) is_dark: bool,
    pub(crate) is_closed: bool,
    /// When the last message of each direction arrives: none overtakes another.
    pub(crate) to_sled: Duration,
    pub(crate) to_writer: Duration,
    /// Until when the last message was kept that had to wait for whoever was stopped: those behind it wait, too.
    pub(crate) held_to_sled: Duration,
    pub(crate) held_to_writer: Duration,
}

/// How late a message is.
pub(crate) fn delay(random: &mut SmallRng) -> Duration {
    Duration::from_micros(match random.random_range(0..1_000) {
        0..900 => random.random_range(30..300),
        900..985 => random.random_range(300..5_000),
        985..998 => random.random_range(5_000..200_000),
        _ => random.random_range(200_000..3_000_000),
    })
}

/// How long the disk takes for a sync.
pub(crate) fn disk_delay(random: &mut SmallRng) -> Duration {
    Duration::from_micros(match random.random_range(0..100) {
        0..80 => random.random_range(50..1_000),
        80..98 => random.random_range(1_000..20_000),
        _ => random.random_range(20_000..800_000),
    })
}
