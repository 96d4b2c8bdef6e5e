//! What is written of a copy: all that the parent holds, without the blocks that clients have taken. Pure.

use crate::sources::blocks_of;
use bytes::Bytes;
use upstairs::Data;

/// As many bytes as a block may have.
const ZEROS: [u8; 4_096] = [0; 4_096];

/// Which blocks clients have written since they were looked at, or were writing then.
#[derive(Debug)]
pub(super) struct Taken {
    first: u64,
    blocks: Vec<bool>,
}

impl Taken {
    pub(super) fn new(first: u64, count: u64) -> Taken {
        Taken { first, blocks: vec![false; usize::try_from(count).expect("few are looked at together")] }
    }

    pub(super) fn take(&mut self, first: u64, count: u64) {
        let end = self.first + self.blocks.len() as u64;
        for block in first.max(self.first)..first.saturating_add(count).min(end) {
            self.blocks[usize::try_from(block - self.first).expect("it is one of them")] = true;
        }
    }

    fn has(&self, block: u64) -> bool {
        let at = block.checked_sub(self.first).and_then(|at| usize::try_from(at).ok());
        at.and_then(|at| self.blocks.get(at)).copied().unwrap_or(false)
    }
}

/// What is written of a copy.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Write {
    Bytes(u64, Bytes),
    Zeros(u64, u64),
}

/// What is to be written of what the parent holds: runs of bytes and of zeros, without what is taken.
pub(super) fn divide(first: u64, data: &Data, block_bytes: u64, taken: &Taken, writes: &mut Vec<Write>) {
    let place = |block: u64| usize::try_from(block * block_bytes).expect("it is in memory");
    let is_zeros = |block: u64| match data {
        Data::Bytes(bytes) => bytes[place(block)..place(block + 1)] == ZEROS[..place(1)],
        Data::Zeros(_) => true,
        Data::Never(_) => false,
    };
    if matches!(data, Data::Never(_)) {
        return;
    }
    let count = blocks_of(data, block_bytes);
    let mut at = 0;
    while at < count {
        if taken.has(first + at) {
            at += 1;
            continue;
        }
        let (from, zeros) = (at, is_zeros(at));
        while at < count && !taken.has(first + at) && is_zeros(at) == zeros {
            at += 1;
        }
        writes.push(match data {
            Data::Bytes(bytes) if !zeros => Write::Bytes(first + from, bytes.slice(place(from)..place(at))),
            _ => Write::Zeros(first + from, at - from),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_left_out_and_zeros_are_zeros() {
        let block = |byte: u8| vec![byte; 512];
        let bytes: Bytes = [block(1), block(0), block(0), block(2), block(3), block(4)].concat().into();
        let mut taken = Taken::new(10, 100);
        taken.take(14, 1);
        taken.take(0, 5);
        taken.take(500, u64::MAX);
        let divided = |first: u64, data: &Data| {
            let mut writes = Vec::new();
            divide(first, data, 512, &taken, &mut writes);
            writes
        };
        assert_eq!(
            divided(10, &Data::Bytes(bytes.clone())),
            [
                Write::Bytes(10, bytes.slice(..512)),
                Write::Zeros(11, 2),
                Write::Bytes(13, bytes.slice(1_536..2_048)),
                Write::Bytes(15, bytes.slice(2_560..)),
            ]
        );
        assert_eq!(divided(12, &Data::Zeros(4)), [Write::Zeros(12, 2), Write::Zeros(15, 1)]);
        assert_eq!(divided(12, &Data::Never(4)), []);
        taken.take(9, 2);
        assert!(taken.has(10) && !taken.has(11) && !taken.has(9));
    }
}
