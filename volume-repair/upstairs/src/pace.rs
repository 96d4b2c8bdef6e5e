//! How much is copied at a time: clients come first.
//!
//! ```text
//!   clients ask ── nothing, for a while ──► fast
//!               ── a few things at a time, and wait for them ──► gentle
//!               ── much at a time, which waits for itself ──► a share
//! ```

use crate::upstairs::Upstairs;
use region_wire::{Haste, LOOK_MAX, WRITE_BYTES_MAX};
use std::time::Duration;

/// How much is copied at a time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// Bytes of blocks that are under way at most; but always one run.
    pub(crate) under_way: usize,
    /// Bytes of one run at most.
    pub(crate) run: usize,
    /// Ranges that are looked at or copied at a time: the next ones are looked at while the first one is copied.
    pub(crate) ranges: usize,
    /// Blocks of a range at most. What members and the Upstairs do with a range at once, they do while a client's request waits.
    pub(crate) range: u64,
}

/// Runs that are under way at most, however short they are: where clients write all over, few blocks that follow each other differ.
pub(crate) const RUNS_MAX: usize = 64;

/// While clients ask nothing.
const FAST: Pace = Pace { under_way: 8 << 20, run: WRITE_BYTES_MAX, ranges: 4, range: LOOK_MAX };

/// While they ask little at a time, and wait for it: what they ask is to wait no longer than it would otherwise.
const GENTLE: Pace = Pace { under_way: 768 << 10, run: 384 << 10, ranges: 2, range: 1024 };

/// While they ask so much at a time that it waits for itself: a share, or a copy would never end. Its source reads runs beside its turns, so
/// long ones keep no client waiting; what each costs the Upstairs, which has every client's request to see to as well, it costs once in so
/// many bytes. Measured: `docs/RESULTS.md`, the share of clients.
const SHARE: Pace = Pace { under_way: 1536 << 10, run: 512 << 10, ranges: 2, range: 1024 };

/// So much at a time.
const MANY_JOBS: usize = 8;

/// Clients that have asked nothing for so long may ask nothing for longer.
const QUIET: Duration = Duration::from_millis(100);

impl Upstairs {
    /// How much is copied at a time now.
    pub(crate) fn pace(&self) -> Pace {
        match self.jobs.under_way() {
            _ if self.are_clients_quiet() => FAST,
            MANY_JOBS.. => SHARE,
            _ => GENTLE,
        }
    }

    /// Of what is asked for a copy, or to compare copies.
    pub(crate) fn haste_of_upkeep(&self) -> Haste {
        if self.are_clients_quiet() { Haste::Alone } else { Haste::Later }
    }

    /// Whether clients ask nothing, and have not for a while.
    pub(crate) fn are_clients_quiet(&self) -> bool {
        self.jobs.under_way() == 0 && self.now.saturating_sub(self.jobs.asked_at) >= QUIET
    }
}
