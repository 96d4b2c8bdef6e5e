//! Keys of sessions: derived when a block of theirs is met, and kept while they are likely to be needed again.

use crate::{VolumeKey, session::SESSION};
use aws_lc_rs::{
    aead::{AES_256_GCM, LessSafeKey, UnboundKey},
    hkdf::Prk,
};
use ids::RegionSetId;
use std::fmt;

/// Never changes: blocks that were sealed with it have to be opened.
const BLOCK_LABEL: &[u8] = b"bobsled block key 1";

/// Blocks that are sealed with one key: of 4 KiB, a tebibyte. What can be learnt from so many is bounded by 2^-57, as TLS 1.3 has it
/// (RFC 8446, 5.5), for the 2^36 steps of the cipher that they take.
const BLOCKS_PER_KEY_SHIFT: u32 = 28;

/// Keys that are kept at most. A volume that was often begun anew has blocks of more; to derive one takes about as long as to open a few
/// blocks, so that too few are no harm.
const KEPT_MAX: usize = 64;

/// Which key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct KeyId {
    session: [u8; SESSION],
    number: u64,
}

/// All keys of a volume.
pub(crate) struct BlockKeys {
    root: Prk,
    /// Those that were needed last, the last one first.
    kept: Vec<(KeyId, LessSafeKey)>,
}

impl BlockKeys {
    pub(crate) fn new(key: &VolumeKey, set: RegionSetId) -> BlockKeys {
        BlockKeys { root: key.root(set), kept: Vec::with_capacity(KEPT_MAX) }
    }

    /// The key of the block that had this number in its session.
    pub(crate) fn of(&mut self, session: [u8; SESSION], counter: u64) -> &LessSafeKey {
        let id = KeyId { session, number: counter >> BLOCKS_PER_KEY_SHIFT };
        match self.kept.iter().position(|(kept, _)| *kept == id) {
            Some(0) => {}
            Some(at) => self.kept[..=at].rotate_right(1),
            None => {
                self.kept.truncate(KEPT_MAX - 1);
                self.kept.insert(0, (id, self.derive(id)));
            }
        }
        &self.kept[0].1
    }

    fn derive(&self, id: KeyId) -> LessSafeKey {
        let number = id.number.to_le_bytes();
        let info = [BLOCK_LABEL, &id.session, &number];
        let okm = self.root.expand(&info, &AES_256_GCM).expect("a key is short");
        LessSafeKey::new(UnboundKey::from(okm))
    }
}

impl fmt::Debug for BlockKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockKeys").field("kept", &self.kept.len()).finish_non_exhaustive()
    }
}
