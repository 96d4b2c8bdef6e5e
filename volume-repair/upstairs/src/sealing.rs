//! What members get to see of a block, and whether what they give back is that: bytes with a checksum, and in an encrypted volume a seal.
//!
//! Writes are sealed here, once, before they are numbered; what is sent again, copied or healed is what was sealed then. So members never
//! see what clients write, and no nonce is used for two writes.

use crate::{rules::Rule, types::Data, upstairs::Upstairs};
use bytes::Bytes;
use region::{SEAL, Seal, What, checksum};
use region_wire::BlockData;
use volume_seals::{SealedBlocks, Sealer};

/// Why a block is not what it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// Its bytes do not have their checksum: something has changed them. Or they are lost, as the member itself says.
    Bytes,
    /// They do, and the volume's key has not sealed them for this place: somebody has changed them.
    Seal,
}

/// Whether a block, as a member has it, is what it should be.
pub(crate) fn judge(
    sealer: &mut Option<Sealer>,
    block: u64,
    bytes: &[u8],
    kept: u64,
    seal: &Seal,
) -> Result<(), Wrong> {
    if checksum(block, bytes) != kept {
        return Err(Wrong::Bytes);
    }
    let sealer = sealer.as_mut().filter(|_| Rule::CopiedSealsAreChecked.is_kept());
    if sealer.is_none_or(|sealer| sealer.is_right(block, bytes, seal)) { Ok(()) } else { Err(Wrong::Seal) }
}

impl Upstairs {
    /// What members are sent for these bytes, which are no more than fit one message.
    pub(crate) fn data_of(&mut self, first: u64, bytes: Bytes) -> BlockData {
        if let Some(sealer) = &mut self.config.sealer {
            let SealedBlocks { bytes, checksums, seals } = sealer.seal(first, bytes);
            return BlockData { first, checksums, seals, bytes };
        }
        let blocks = bytes.chunks_exact(self.config.geometry.block_size.bytes()).zip(first..);
        let checksums = blocks.map(|(bytes, block)| checksum(block, bytes)).collect();
        BlockData { first, checksums, seals: Vec::new(), bytes }
    }

    /// What clients are given for what was read from this block on, with right checksums. Otherwise the blocks with wrong seals.
    pub(crate) fn open_parts(
        &mut self,
        first: u64,
        whats: &[What],
        mut parts: Vec<(u64, Data)>,
    ) -> Result<Vec<(u64, Data)>, Vec<u64>> {
        let Some(sealer) = &mut self.config.sealer else { return Ok(parts) };
        let mut wrong = Vec::new();
        for (block, data) in &mut parts {
            let Data::Bytes(bytes) = data else { continue };
            let start = usize::try_from(*block - first).expect("a piece is small");
            let seals = whats[start..].iter().map(|what| match what {
                What::Bytes { seal, .. } => *seal,
                What::Never | What::Zeros | What::Lost { .. } => [0; SEAL],
            });
            let unchecked = (!Rule::SealsAreChecked.is_kept()).then(|| bytes.clone());
            match sealer.open(*block, std::mem::take(bytes), seals) {
                Ok(opened) => *bytes = opened,
                Err(blocks) => match unchecked {
                    Some(unchecked) => *bytes = unchecked,
                    None => wrong.extend(blocks),
                },
            }
        }
        if wrong.is_empty() { Ok(parts) } else { Err(wrong) }
    }
}
