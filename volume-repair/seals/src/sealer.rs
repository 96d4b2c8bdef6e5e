//! Sealing blocks, in place.

use crate::{
    VolumeKey,
    opener::{COUNTER, Opener, nonce, own},
    session::{SESSION, SealingSession},
};
use aws_lc_rs::aead::Aad;
use bytes::Bytes;
use ids::RegionSetId;
use region::{BlockSize, SEAL, Seal, checksum};

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
    opener: Opener,
    session: [u8; SESSION],
    /// The number of the next block. Blocks are counted, not writes: nothing that is numbered elsewhere can make it come twice.
    next: u64,
}

impl Sealer {
    /// Of a volume's key, for one region set, in a session that nobody else has or had.
    #[must_use]
    pub fn new(key: &VolumeKey, set: RegionSetId, block_size: BlockSize, session: SealingSession) -> Sealer {
        Sealer { opener: Opener::new(key, set, block_size), session: session.into_number(), next: 0 }
    }

    /// Whether it is for such blocks of this set.
    #[must_use]
    pub fn is_for(&self, set: RegionSetId, block_size: BlockSize) -> bool {
        self.opener.set == set && self.opener.block_size == block_size
    }

    /// Seals blocks that follow each other: where they are, if nobody else has them, and otherwise in a copy.
    ///
    /// # Panics
    /// After 2^64 blocks. At a million a second they last for half a million years.
    #[must_use]
    pub fn seal(&mut self, first: u64, plain: Bytes) -> SealedBlocks {
        let size = self.opener.block_size.bytes();
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
        let bound = self.opener.bound(block);
        let key = self.opener.keys.of(self.session, counter);
        let tag = key
            .seal_in_place_separate_tag(nonce(counter), Aad::from(bound), bytes)
            .expect("a block is shorter than what the cipher takes");
        let mut seal = [0; SEAL];
        seal[..SESSION].copy_from_slice(&self.session);
        seal[SESSION..SESSION + COUNTER].copy_from_slice(&counter.to_le_bytes());
        seal[SESSION + COUNTER..].copy_from_slice(tag.as_ref());
        seal
    }

    /// Opens blocks that follow each other, as [`Opener::open`] does.
    ///
    /// # Errors
    /// Those blocks that are not as they were sealed for their place.
    pub fn open(
        &mut self,
        first: u64,
        sealed: Bytes,
        seals: impl IntoIterator<Item = Seal>,
    ) -> Result<Bytes, Vec<u64>> {
        self.opener.open(first, sealed, seals)
    }

    /// Whether a block is as it was sealed for its place, for whoever passes it on as it is.
    #[must_use]
    pub fn is_right(&mut self, block: u64, sealed: &[u8], seal: &Seal) -> bool {
        self.opener.is_right(block, sealed, seal)
    }
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
