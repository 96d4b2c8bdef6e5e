//! How much is copied at a time: clients come first.
//!
//! ```text
//!   clients ask ── nothing, for a while ──► fast
//!               ── a few things at a time, and wait for them ──► gentle
//!               ── much at a time, which waits for itself ──► a share
//! ```

use crate::upstairs::Upstairs;
use region_wire::WRITE_BYTES_MAX;
use std::time::Duration;

/// How much is copied at a time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// Runs that are under way.
    pub(crate) runs: usize,
    /// Bytes of each at most.
    pub(crate) bytes: usize,
}

/// While clients ask nothing.
const FAST: Pace = Pace { runs: 8, bytes: WRITE_BYTES_MAX };

/// While they ask little at a time, and wait for it: what they ask is to wait no longer than it would otherwise.
const GENTLE: Pace = Pace { runs: 2, bytes: 256 << 10 };

/// While they ask so much at a time that it waits for itself: a share, or a copy would never end.
const SHARE: Pace = Pace { runs: 8, bytes: 512 << 10 };

/// So much at a time.
const MANY_JOBS: usize = 8;

/// Clients that have asked nothing for so long may ask nothing for longer.
const QUIET: Duration = Duration::from_millis(100);

impl Upstairs {
    /// How much is copied at a time now.
    pub(crate) fn pace(&self) -> Pace {
        let jobs = self.jobs.under_way();
        match jobs {
            0 if self.now.saturating_sub(self.jobs.asked_at) >= QUIET => FAST,
            MANY_JOBS.. => SHARE,
            _ => GENTLE,
        }
    }
}
