//! What a member is told so that it has blocks, too: made of what another one has, block by block judged. Pure; who is told when is
//! [`crate::copier`]'s.

use crate::sealing::{Wrong, judge};
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

/// Its first block.
pub(crate) fn first_block(copy: &BlockCopy) -> u64 {
    match copy {
        BlockCopy::Bytes(_, data) | BlockCopy::Mixed(_, data) | BlockCopy::Lost(_, data) => data.first,
        BlockCopy::Zeros(_, blocks) | BlockCopy::Never(blocks) => blocks.first,
    }
}

/// The first block of a copy that can heal.
pub(crate) fn first_healing(copy: &BlockCopy) -> Option<u64> {
    if let BlockCopy::Lost(..) = copy { None } else { Some(first_block(copy)) }
}

/// Blocks that are not what they should be, and why.
pub(crate) type WrongBlocks = Vec<(u64, Held, Wrong)>;

/// Which of these were written since they were looked at, as whoever was asked says: by their numbers.
pub(crate) fn newer(looked: &[Held], read: &[What]) -> Vec<usize> {
    let is_newer = |at: &usize| looked[*at].what.as_written() != read[*at].as_written();
    (0..looked.len().min(read.len())).filter(is_newer).collect()
}

/// What a member is told to have it, too, and the blocks that are wrong; those with these numbers are left out. None if the bytes are not
/// those of the blocks.
pub(crate) fn copies_of(
    first: u64,
    held: &[Held],
    left_out: &[usize],
    mut bytes: Bytes,
    size: usize,
    sealer: &mut Option<Sealer>,
) -> Option<(Vec<BlockCopy>, WrongBlocks)> {
    let (mut copies, mut wrong) = (Vec::new(), Vec::new());
    for run in alike(held, left_out) {
        let (block, count) = (first + run.start as u64, run.len());
        let blocks = Blocks { first: block, count: u32::try_from(count).expect("a run is small") };
        let is_left_out = left_out.binary_search(&run.start).is_ok();
        match held[run.start].what {
            What::Bytes { .. } => {
                if bytes.len() < count * size {
                    return None;
                }
                let part = bytes.split_to(count * size);
                if !is_left_out {
                    right_copies(block, &held[run], part, sealer, &mut copies, &mut wrong);
                }
            }
            _ if is_left_out => {}
            What::Never => copies.push(BlockCopy::Never(blocks)),
            What::Zeros => copies.push(BlockCopy::Zeros(held[run.start].version, blocks)),
            What::Lost { .. } => {
                wrong.extend((block..).zip(&held[run]).map(|(block, held)| (block, *held, Wrong::Bytes)));
            }
        }
    }
    bytes.is_empty().then_some((copies, wrong))
}

/// Those of blocks with bytes that are what they are to be; the others are wrong.
fn right_copies(
    first: u64,
    all: &[Held],
    mut bytes: Bytes,
    sealer: &mut Option<Sealer>,
    copies: &mut Vec<BlockCopy>,
    wrong: &mut WrongBlocks,
) {
    let size = bytes.len() / all.len();
    let mut right = (Vec::new(), BlockData { first, ..none_right() });
    for (block, held) in (first..).zip(all) {
        let What::Bytes { checksum, seal } = held.what else { continue };
        let done = right.0.len() * size;
        match judge(sealer, block, &bytes[done..done + size], checksum, &seal) {
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
                copies.extend(with_bytes(before, bytes.split_to(done)));
                let _ = bytes.split_to(size);
            }
        }
    }
    copies.extend(with_bytes(right, bytes));
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
fn alike(held: &[Held], left_out: &[usize]) -> Vec<std::ops::Range<usize>> {
    let is_left_out = |at: usize| left_out.binary_search(&at).is_ok();
    let are_alike = |one: usize, next: usize| {
        let (a, b) = (&held[one], &held[next]);
        let is_one_copy = a.version == b.version || matches!(a.what, What::Bytes { .. });
        let is_one_kind = std::mem::discriminant(&a.what) == std::mem::discriminant(&b.what);
        is_one_kind && is_one_copy && is_left_out(one) == is_left_out(next)
    };
    let mut runs: Vec<std::ops::Range<usize>> = Vec::new();
    for at in 0..held.len() {
        match runs.last_mut() {
            Some(last) if are_alike(last.start, at) => last.end += 1,
            _ => runs.push(at..at + 1),
        }
    }
    runs
}
