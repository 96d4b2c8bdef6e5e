//! What a member is told so that it has blocks, too: made of what another one has, block by block judged. Pure; who is told when is
//! [`crate::copier`]'s.

use crate::{
    reads::same_runs,
    sealing::{Wrong, judge},
};
use bytes::Bytes;
use region::{Held, Position, What};
use region_wire::{BlockCopy, BlockData, Blocks};
use volume_seals::Sealer;

/// How many blocks it is of.
pub(crate) fn blocks_of(copy: &BlockCopy) -> usize {
    match copy {
        BlockCopy::Bytes(_, data) | BlockCopy::Mixed(_, data) | BlockCopy::Lost(_, data) => {
            data.checksums.len()
        }
        BlockCopy::Zeros(_, blocks) | BlockCopy::Never(blocks) => blocks.count as usize,
    }
}

/// The first block of a copy that can heal.
pub(crate) fn first_healing(copy: &BlockCopy) -> Option<u64> {
    match copy {
        BlockCopy::Bytes(_, data) | BlockCopy::Mixed(_, data) => Some(data.first),
        BlockCopy::Zeros(_, blocks) | BlockCopy::Never(blocks) => Some(blocks.first),
        BlockCopy::Lost(..) => None,
    }
}

/// Blocks that are not what they should be, and why.
pub(crate) type WrongBlocks = Vec<(u64, Held, Wrong)>;

/// What a member is told to have it, too, and the blocks that are wrong. None if the bytes are not those of the blocks.
pub(crate) fn copies_of(
    first: u64,
    held: &[Held],
    mut bytes: Bytes,
    size: usize,
    sealer: &mut Option<Sealer>,
) -> Option<(Vec<BlockCopy>, WrongBlocks)> {
    let (mut copies, mut wrong) = (Vec::new(), Vec::new());
    for run in alike(held) {
        let (block, count) = (first + run.start as u64, run.len());
        let blocks = Blocks { first: block, count: u32::try_from(count).expect("a run is small") };
        let version: Position = held[run.start].version;
        match held[run.start].what {
            What::Never => copies.push(BlockCopy::Never(blocks)),
            What::Zeros => copies.push(BlockCopy::Zeros(version, blocks)),
            What::Lost { .. } => {
                wrong.extend((block..).zip(&held[run]).map(|(block, held)| (block, *held, Wrong::Bytes)));
            }
            What::Bytes { .. } => {
                if bytes.len() < count * size {
                    return None;
                }
                let mut part = bytes.split_to(count * size);
                let mut right = (Vec::new(), BlockData { first: block, ..none_right() });
                for (block, held) in (block..).zip(&held[run]) {
                    let What::Bytes { checksum, seal } = held.what else { return None };
                    let done = right.0.len() * size;
                    match judge(sealer, block, &part[done..done + size], checksum, &seal) {
                        Ok(()) => {
                            right.0.push(held.version);
                            right.1.checksums.push(checksum);
                            if sealer.is_some() {
                                right.1.seals.push(seal);
                            }
                        }
                        Err(why) => {
                            wrong.push((block, *held, why));
                            let next = (Vec::new(), BlockData { first: block + 1, ..none_right() });
                            let before = std::mem::replace(&mut right, next);
                            copies.extend(with_bytes(before, part.split_to(done)));
                            let _ = part.split_to(size);
                        }
                    }
                }
                copies.extend(with_bytes(right, part));
            }
        }
    }
    bytes.is_empty().then_some((copies, wrong))
}

fn none_right() -> BlockData {
    BlockData { first: 0, checksums: Vec::new(), seals: Vec::new(), bytes: Bytes::new() }
}

fn with_bytes((versions, data): (Vec<Position>, BlockData), bytes: Bytes) -> Option<BlockCopy> {
    let data = BlockData { bytes, ..data };
    let first = *versions.first()?;
    Some(match versions.iter().all(|version| *version == first) {
        true => BlockCopy::Bytes(first, data),
        false => BlockCopy::Mixed(versions, data),
    })
}

/// The same in copies of one version each.
pub(crate) fn apart(versions: &[Position], data: &BlockData) -> Vec<BlockCopy> {
    let size = data.bytes.len() / versions.len();
    let (mut at, mut copies) = (0, Vec::new());
    for run in versions.chunk_by(|one, next| one == next) {
        let here = at..at + run.len();
        let part = BlockData {
            first: data.first + at as u64,
            checksums: data.checksums[here.clone()].to_vec(),
            seals: data.seals.get(here.clone()).unwrap_or_default().to_vec(),
            bytes: data.bytes.slice(at * size..here.end * size),
        };
        copies.push(BlockCopy::Bytes(run[0], part));
        at = here.end;
    }
    copies
}

/// The runs of blocks that one copy is made of: zeros of one version, bytes of any.
fn alike(held: &[Held]) -> Vec<std::ops::Range<usize>> {
    let is_bytes = |run: &std::ops::Range<usize>| matches!(held[run.start].what, What::Bytes { .. });
    let mut runs: Vec<std::ops::Range<usize>> = Vec::new();
    for run in same_runs(held) {
        match runs.last_mut() {
            Some(last) if is_bytes(last) && is_bytes(&run) => last.end = run.end,
            _ => runs.push(run),
        }
    }
    runs
}
