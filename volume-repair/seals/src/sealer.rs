//! Sealing and opening blocks, in place.

use crate::{
    VolumeKey,
    block_keys::BlockKeys,
    session::{SESSION, SealingSession},
};
use aws_lc_rs::aead::{Aad, NONCE_LEN, Nonce};
use bytes::{Bytes, BytesMut};
use ids::RegionSetId;
use region::{BlockSize, SEAL, Seal, checksum};

/// Bytes of a counter.
const COUNTER: usize = 8;

/// Bytes of what is bound to a block.
const BOUND: usize = 28;

/// Blocks as members keep them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedBlocks {
    /// Their bytes, which say nothing to whoever has no key.
    pub bytes: Bytes,
    /// The checksum of each, of those bytes: who has no key can check it.
    pub checksums: Vec<u64>,
    /// The seal of each.
    pub seals: Vec<Seal>,
}

/// Seals the blocks of one region set in one session, and opens those of all sessions. There is no second one of the same session: it is
/// not `Clone`, and takes the session's number with it.
#[derive(Debug)]
pub struct Sealer {
    keys: BlockKeys,
    set: RegionSetId,
    block_size: BlockSize,
    session: [u8; SESSION],
    /// The number of the next block. Blocks are counted, not writes: nothing that is numbered elsewhere can make it come twice.
    next: u64,
    /// Where a block is opened that nobody wants to see.
    scratch: Box<[u8]>,
}

impl Sealer {
    /// Of a volume's key, for one region set, in a session that nobody else has or had.
    #[must_use]
    pub fn new(key: &VolumeKey, set: RegionSetId, block_size: BlockSize, session: SealingSession) -> Sealer {
        Sealer {
            keys: BlockKeys::new(key, set),
            set,
            block_size,
            session: session.into_number(),
            next: 0,
            scratch: vec![0; block_size.bytes()].into(),
        }
    }

    /// Whether it is for such blocks of this set.
    #[must_use]
    pub fn is_for(&self, set: RegionSetId, block_size: BlockSize) -> bool {
        self.set == set && self.block_size == block_size
    }

    /// Seals blocks that follow each other: where they are, if nobody else has them, and otherwise in a copy.
    ///
    /// # Panics
    /// After 2^64 blocks. At a million a second they last for half a million years.
    #[must_use]
    pub fn seal(&mut self, first: u64, plain: Bytes) -> SealedBlocks {
        let size = self.block_size.bytes();
        let mut bytes = own(plain);
        let count = bytes.len() / size;
        let (mut checksums, mut seals) = (Vec::with_capacity(count), Vec::with_capacity(count));
        for (block, bytes) in (first..).zip(bytes.chunks_exact_mut(size)) {
            seals.push(self.seal_one(block, bytes));
            // While the processor still has it at hand.
            checksums.push(checksum(block, bytes));
        }
        SealedBlocks { bytes: bytes.freeze(), checksums, seals }
    }

    fn seal_one(&mut self, block: u64, bytes: &mut [u8]) -> Seal {
        let counter = self.next;
        self.next = counter.checked_add(1).expect("nobody seals 2^64 blocks");
        let bound = self.bound(block);
        let key = self.keys.of(self.session, counter);
        let tag = key
            .seal_in_place_separate_tag(nonce(counter), Aad::from(bound), bytes)
            .expect("a block is shorter than what the cipher takes");
        let mut seal = [0; SEAL];
        seal[..SESSION].copy_from_slice(&self.session);
        seal[SESSION..SESSION + COUNTER].copy_from_slice(&counter.to_le_bytes());
        seal[SESSION + COUNTER..].copy_from_slice(tag.as_ref());
        seal
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
    fn bound(&self, block: u64) -> [u8; BOUND] {
        let mut bound = [0; BOUND];
        bound[..16].copy_from_slice(self.set.0.as_bytes());
        bound[16..24].copy_from_slice(&block.to_le_bytes());
        let size = u32::try_from(self.block_size.bytes()).expect("a block is small");
        bound[24..].copy_from_slice(&size.to_le_bytes());
        bound
    }
}

/// Not used twice with a key: the key is of the session, and the session counts its blocks.
fn nonce(counter: u64) -> Nonce {
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
fn own(bytes: Bytes) -> BytesMut {
    bytes.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Computed by another implementation, as those of `tests/seals.rs`.
    #[test]
    fn another_key_is_taken_after_2_to_the_28_blocks() {
        let bytes = |from: u8| std::array::from_fn(|at| from + u8::try_from(at).expect("it is short"));
        let set = RegionSetId(Uuid::from_bytes(std::array::from_fn(|at| 0x40 + at as u8)));
        let session = SealingSession::from_unique(0x8f8e_8d8c_8b8a_8988_8786_8584_8382_8180);
        let mut sealer = Sealer::new(&VolumeKey::from_bytes(&mut bytes(0)), set, BlockSize::B512, session);
        sealer.next = (1 << 28) - 1;
        let mut next = || {
            let sealed = sealer.seal(9, vec![0; 512].into());
            (hex(&sealed.seals[0][24..]), hex(&sealed.bytes[..16]))
        };
        assert_eq!(
            next(),
            ("c61d38815b035f37a64d98cd379b8417".to_owned(), "48a4832880fc833fd94a750eb3a22146".to_owned())
        );
        assert_eq!(
            next(),
            ("5f1c1ef00fb653e2333df30a40d55ecd".to_owned(), "88e2d38a253f65d20fe935906f4f96ab".to_owned())
        );
    }
}
