//! The bytes of one block: which block and which write they are of, in all of their bits. Pure.
//!
//! ```text
//!   0       8      16      24        32                            4096
//!   ┌───────┬──────┬───────┬─────────┬────────────────────────────────┐
//!   │ magic │ salt │ block │ write   │ made of these, word by word    │
//!   └───────┴──────┴───────┴─────────┴────────────────────────────────┘
//! ```

/// Bytes of a block.
pub(crate) const BLOCK: usize = 4_096;

/// Bytes of a word.
const WORD: usize = 8;

const MAGIC: u64 = u64::from_le_bytes(*b"bobsoak\x01");

/// What a block was seen to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// Nothing but zeros.
    Zeros,
    /// What this write has put there.
    Write(u64),
    /// Bytes of no write of this block; if its head is right, which one it says that it is of.
    Wrong {
        /// As it says: block, and write.
        claims: Option<(u64, u64)>,
        /// The first byte that is not as it should be, if its head is right.
        at: usize,
    },
}

/// The bytes that a write puts into a block.
pub(crate) fn fill(into: &mut [u8], salt: u64, block: u64, write: u64) {
    for (index, word) in into.chunks_exact_mut(WORD).enumerate() {
        word.copy_from_slice(&word_of(salt, block, write, index).to_le_bytes());
    }
}

/// What these bytes are.
pub(crate) fn see(bytes: &[u8], salt: u64, block: u64) -> Seen {
    if bytes.iter().all(|byte| *byte == 0) {
        return Seen::Zeros;
    }
    match claims(bytes, salt) {
        None => Seen::Wrong { claims: None, at: 0 },
        Some((claimed, write)) => match first_difference(bytes, salt, claimed, write) {
            None if claimed == block => Seen::Write(write),
            difference => Seen::Wrong { claims: Some((claimed, write)), at: difference.unwrap_or(0) },
        },
    }
}

/// Which block and which write bytes say that they are of.
pub(crate) fn claims(bytes: &[u8], salt: u64) -> Option<(u64, u64)> {
    let word = |index: usize| {
        let bytes = bytes.get(index * WORD..(index + 1) * WORD)?;
        Some(u64::from_le_bytes(bytes.try_into().ok()?))
    };
    (word(0)? == MAGIC && word(1)? == salt).then_some((word(2)?, word(3)?))
}

/// The first byte that is not what this write has put there.
pub(crate) fn first_difference(bytes: &[u8], salt: u64, block: u64, write: u64) -> Option<usize> {
    let wrong = bytes.chunks_exact(WORD).enumerate().find_map(|(index, word)| {
        let right = word_of(salt, block, write, index).to_le_bytes();
        let at = word.iter().zip(right).position(|(byte, right)| *byte != right)?;
        Some(index * WORD + at)
    });
    wrong.or((bytes.len() != BLOCK).then_some(bytes.len()))
}

fn word_of(salt: u64, block: u64, write: u64, index: usize) -> u64 {
    match index {
        0 => MAGIC,
        1 => salt,
        2 => block,
        3 => write,
        _ => mixed(salt ^ block.rotate_left(40) ^ write.rotate_left(20) ^ (index as u64)),
    }
}

/// SplitMix64: every bit of the number is in every bit of the answer.
fn mixed(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(block: u64, write: u64) -> Vec<u8> {
        let mut bytes = vec![0; BLOCK];
        fill(&mut bytes, 7, block, write);
        bytes
    }

    #[test]
    fn bytes_say_which_block_and_write_they_are_of() {
        assert_eq!(see(&filled(5, 9), 7, 5), Seen::Write(9));
        assert_eq!(see(&vec![0; BLOCK], 7, 5), Seen::Zeros);
        assert_eq!(see(&filled(6, 9), 7, 5), Seen::Wrong { claims: Some((6, 9)), at: 0 });
        assert_eq!(see(&filled(5, 9), 8, 5), Seen::Wrong { claims: None, at: 0 });
    }

    #[test]
    fn a_flipped_bit_is_seen_wherever_it_is() {
        for bit in (0..BLOCK * 8).step_by(37) {
            let mut bytes = filled(5, 9);
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(see(&bytes, 7, 5), Seen::Wrong { .. }), "bit {bit}");
        }
    }

    #[test]
    fn half_of_another_write_is_seen_where_it_begins() {
        let mut bytes = filled(5, 9);
        bytes[2_048..].copy_from_slice(&filled(5, 8)[2_048..]);
        assert_eq!(see(&bytes, 7, 5), Seen::Wrong { claims: Some((5, 9)), at: 2_048 });
    }
}
