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

/// The number that [`mixed`] has made this of.
fn unmixed(mixed: u64) -> u64 {
    let mut number = mixed ^ (mixed >> 31) ^ (mixed >> 62);
    number = number.wrapping_mul(0x3196_42b2_d24d_8ec3);
    number ^= (number >> 27) ^ (number >> 54);
    number = number.wrapping_mul(0x96de_1b17_3f11_9089);
    number ^= (number >> 30) ^ (number >> 60);
    number.wrapping_sub(0x9e37_79b9_7f4a_7c15)
}

/// Where some write has put two words of its own, one behind the other, if it has: into whatever block, of whatever salt. What comes of
/// anything else is one such pair in 2^60.
pub(crate) fn find_words(bytes: &[u8]) -> Option<usize> {
    // What each of the last eight words, at all alignments, was made of.
    let mut before = [0; WORD];
    for (at, word) in bytes.windows(WORD).enumerate() {
        let number = unmixed(u64::from_le_bytes(*word.first_chunk()?));
        // Words that follow each other are made of indexes that do, and of nothing else that differs: 2^k - 1.
        let difference: u64 = number ^ before[at % WORD];
        let follows =
            (1..BLOCK / WORD).contains(&(difference as usize)) && (difference + 1).is_power_of_two();
        if at >= WORD && follows {
            return Some(at - WORD);
        }
        before[at % WORD] = number;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng, rngs::StdRng};

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
    fn two_words_of_a_write_are_found_wherever_they_lie() {
        for number in (0..64).map(|bit| 1_u64 << bit).chain([0, 7, u64::MAX]) {
            assert_eq!(unmixed(mixed(number)), number);
        }
        let block = filled(1 << 20, 1 << 40);
        let mut others = StdRng::seed_from_u64(1);
        for from in (32..BLOCK - 8).step_by(WORD) {
            let mut bytes = [0; 100];
            others.fill(&mut bytes);
            assert_eq!(find_words(&bytes), None);
            let place = from / WORD % 85;
            bytes[place..place + 16].copy_from_slice(&block[from..from + 16]);
            assert_eq!(find_words(&bytes), Some(place), "{from}");
            // One word, and nearly another one.
            bytes[place + from % 16] ^= 1 << (from % 7);
            assert_eq!(find_words(&bytes), None, "{from}");
        }
        assert_eq!(find_words(&[0; 100]).or(find_words(&[255; 100])), None);
    }

    #[test]
    fn half_of_another_write_is_seen_where_it_begins() {
        let mut bytes = filled(5, 9);
        bytes[2_048..].copy_from_slice(&filled(5, 8)[2_048..]);
        assert_eq!(see(&bytes, 7, 5), Seen::Wrong { claims: Some((5, 9)), at: 2_048 });
    }
}
