//! Opening blocks, in place: of all sessions, and without one of its own.

use crate::{VolumeKey, block_keys::BlockKeys, session::SESSION};
use aws_lc_rs::aead::{Aad, NONCE_LEN, Nonce};
use bytes::{Bytes, BytesMut};
use ids::RegionSetId;
use region::{BlockSize, Seal};

/// Bytes of a counter.
pub(crate) const COUNTER: usize = 8;

/// Bytes of what is bound to a block.
const BOUND: usize = 28;

/// Opens the blocks of one region set. It seals nothing, so there may be many.
#[derive(Debug)]
pub struct Opener {
    pub(crate) keys: BlockKeys,
    pub(crate) set: RegionSetId,
    pub(crate) block_size: BlockSize,
    /// Where a block is opened that nobody wants to see.
    scratch: Box<[u8]>,
}

impl Opener {
    /// Of a volume's key, for one region set.
    #[must_use]
    pub fn new(key: &VolumeKey, set: RegionSetId, block_size: BlockSize) -> Opener {
        let scratch = vec![0; block_size.bytes()].into();
        Opener { keys: BlockKeys::new(key, set), set, block_size, scratch }
    }

    /// Opens blocks that follow each other: where they are, if nobody else has them, and otherwise in a copy.
    ///
    /// # Errors
    /// Those blocks that are not as they were sealed for their place: changed, of another place or volume, or with another key.
    pub fn open(
        &mut self,
        first: u64,
        sealed: Bytes,
        seals: impl IntoIterator<Item = Seal>,
    ) -> Result<Bytes, Vec<u64>> {
        let size = self.block_size.bytes();
        let mut bytes = own(sealed);
        let (mut wrong, mut seals) = (Vec::new(), seals.into_iter());
        for (block, bytes) in (first..).zip(bytes.chunks_exact_mut(size)) {
            // A block without a seal is not one that nobody looks at.
            let is_right = seals.next().is_some_and(|seal| self.open_one(block, bytes, &seal));
            if !is_right {
                wrong.push(block);
            }
        }
        if wrong.is_empty() { Ok(bytes.freeze()) } else { Err(wrong) }
    }

    fn open_one(&mut self, block: u64, bytes: &mut [u8], seal: &Seal) -> bool {
        let (bound, (session, counter, tag)) = (self.bound(block), parts(seal));
        let key = self.keys.of(session, counter);
        key.open_in_place_separate_tag(nonce(counter), Aad::from(bound), tag, bytes).is_ok()
    }

    /// Whether a block is as it was sealed for its place, for whoever passes it on as it is.
    #[must_use]
    pub fn is_right(&mut self, block: u64, sealed: &[u8], seal: &Seal) -> bool {
        let (bound, (session, counter, tag)) = (self.bound(block), parts(seal));
        let key = self.keys.of(session, counter);
        let (nonce, bound) = (nonce(counter), Aad::from(bound));
        key.open_separate_gather(nonce, bound, sealed, tag, &mut self.scratch).is_ok()
    }

    /// What makes that a block is right in its place alone.
    pub(crate) fn bound(&self, block: u64) -> [u8; BOUND] {
        let mut bound = [0; BOUND];
        bound[..16].copy_from_slice(self.set.0.as_bytes());
        bound[16..24].copy_from_slice(&block.to_le_bytes());
        let size = u32::try_from(self.block_size.bytes()).expect("a block is small");
        bound[24..].copy_from_slice(&size.to_le_bytes());
        bound
    }
}

/// Not used twice with a key: the key is of the session, and the session counts its blocks.
pub(crate) fn nonce(counter: u64) -> Nonce {
    let mut nonce = [0; NONCE_LEN];
    nonce[NONCE_LEN - COUNTER..].copy_from_slice(&counter.to_le_bytes());
    Nonce::assume_unique_for_key(nonce)
}

/// Session, counter and tag.
fn parts(seal: &Seal) -> ([u8; SESSION], u64, &[u8]) {
    let (session, rest) = seal.split_first_chunk().expect("a seal is longer");
    let (counter, tag) = rest.split_first_chunk().expect("a seal is longer");
    (*session, u64::from_le_bytes(*counter), tag)
}

/// The same bytes, or a copy if somebody else has them, too.
pub(crate) fn own(bytes: Bytes) -> BytesMut {
    bytes.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]))
}
