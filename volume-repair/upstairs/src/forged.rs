//! One version and two contents. A version is one write, so one of them is none that any writer made: somebody has changed a member's file
//! and its checksums, or a member answers what is not so.
//!
//! Checksums do not tell which, and seals not always: zeros have none, and what the same block held before opens, too. So a third member is
//! asked, and two of three are right.
//!
//! ```text
//!   the third one has, of this version,   what the source has ──► the target is mended
//!                                         what the target has ──► the source is healed, and nothing is copied
//!   it has something else, or there is none ──► a target that is filled is mended: nobody but the full ones counts
//!                                           └─► of two full ones nobody is: whoever reads a block that does not open has it healed
//! ```

use crate::{copier::Mode, types::PeerId, upstairs::Upstairs};
use region::Held;

/// Who has it wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Target,
    Source,
    /// That is not known.
    Nobody,
}

/// Whether these are of one version and not of one content.
pub(crate) fn are_two(one: &Held, other: &Held) -> bool {
    one.version == other.version && one.what.as_written() != other.what.as_written()
}

/// Who of two that have two contents of one version has it wrong, with a third one or without.
pub(crate) fn verdict(mode: Mode, source: &Held, target: &Held, third: Option<&Held>) -> Verdict {
    let says = |held: &Held| {
        third.is_some_and(|third| {
            third.version == held.version && third.what.as_written() == held.what.as_written()
        })
    };
    match mode {
        _ if says(source) => Verdict::Target,
        _ if says(target) => Verdict::Source,
        Mode::Install => Verdict::Target,
        Mode::Stage => Verdict::Nobody,
    }
}

impl Upstairs {
    /// A third one that has everything, if it is there.
    pub(crate) fn witness(&self, source: PeerId, target: PeerId, mode: Mode) -> Option<PeerId> {
        let mut others = (0..self.peers.len()).map(PeerId).filter(|peer| ![source, target].contains(peer));
        others.find(|peer| self.peers[peer.0].is_promoted() && self.has_to_be_asked(*peer, mode))
    }
}
