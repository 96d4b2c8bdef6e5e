//! What clients have written, from what a member keeps of it: opened with the volume's key, if it has one.

use bytes::Bytes;
use region::{BlockSize, Region, Seal};
use volume_seals::{Sealer, SealingSession, VolumeKey};

/// Opens the blocks of one region set. It seals nothing.
pub(crate) struct Opener(Option<Sealer>);

impl Opener {
    /// For the set of this region.
    pub(crate) fn of(key: Option<&VolumeKey>, region: &Region) -> Opener {
        let set = region.identity().set;
        Opener(key.map(|key| Sealer::new(key, set, BlockSize::B4096, SealingSession::random())))
    }

    /// What was written. None if the volume's key has not sealed it for this place.
    pub(crate) fn open(&mut self, block: u64, kept: &[u8], seal: Seal) -> Option<Bytes> {
        let kept = Bytes::copy_from_slice(kept);
        match &mut self.0 {
            Some(sealer) => sealer.open(block, kept, [seal]).ok(),
            None => Some(kept),
        }
    }
}
