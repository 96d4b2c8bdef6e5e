//! What clients write while snapshots are taken, so that the content of the whole volume is known at each write. Pure.
//!
//! ```text
//!   fill:  every slot, as of write 0 ──► write 1 ──► write 2 ──► … one slot each, scattered, each of them once before any comes again
//!                                              ▲
//!                a snapshot is right if its SHA-256 is that of all slots as of one write, the newest that it has
//! ```
//!
//! Writes are sent in their order on one connection, so a snapshot has all of them up to one, and none behind it. Which one that may be is said
//! by what was answered before it was asked for, and what was sent before it was there.

use sha2::{Digest, Sha256};
use std::ops::RangeInclusive;

/// Bytes of one write.
pub(super) const SLOT: usize = 64 << 10;

/// Each of so many bytes says which write it is of, and where it is.
const BLOCK: usize = 4096;

/// From one write to the next, in slots: odd, so that it comes to every one of a power of two.
const STEP: u64 = 20_011;

/// The slots of a volume, and their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Order {
    slots: u64,
}

/// What a snapshot was read to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) sha256: String,
    /// The newest write of which there is something.
    pub(super) newest: u64,
}

/// Reads a volume from its first byte to its last one.
#[derive(Debug, Default)]
pub(super) struct Reading {
    sha256: Sha256,
    newest: u64,
}

impl Order {
    /// Of a volume of so many bytes, a power of two.
    pub(super) fn of(bytes: u64) -> Order {
        let slots = bytes / SLOT as u64;
        assert!(
            slots.is_power_of_two(),
            "a step comes to every slot only if there are a power of two: {slots}"
        );
        Order { slots }
    }

    pub(super) fn slots(self) -> u64 {
        self.slots
    }

    /// Where a write goes.
    pub(super) fn slot_of(self, write: u64) -> u64 {
        write.wrapping_mul(STEP) % self.slots
    }

    /// What the whole volume has when all writes up to this one are done.
    pub(super) fn content_at(self, last: u64) -> Content {
        let mut writes = vec![0; self.slots as usize];
        for write in last.saturating_sub(self.slots - 1).max(1)..=last {
            writes[self.slot_of(write) as usize] = write;
        }
        let (mut reading, mut bytes) = (Reading::default(), vec![0; SLOT]);
        for (slot, write) in (0..).zip(writes) {
            fill(&mut bytes, slot, write);
            reading.read(&bytes);
        }
        reading.end()
    }

    /// Whether this is what the volume had at a write that may have been its last one; or why not.
    pub(super) fn check(self, read: &Content, may_be: &RangeInclusive<u64>) -> Result<(), String> {
        let Content { sha256, newest } = read;
        if !may_be.contains(newest) {
            return Err(format!("its newest write is {newest}, and is to be one of {may_be:?}"));
        }
        let is_to_be = self.content_at(*newest).sha256;
        match is_to_be == *sha256 {
            true => Ok(()),
            false => {
                Err(format!("its SHA-256 is {sha256}, and at write {newest} the volume's was {is_to_be}"))
            }
        }
    }
}

impl Reading {
    /// What follows: some blocks.
    pub(super) fn read(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        let writes =
            bytes.chunks_exact(BLOCK).filter_map(|block| Some(u64::from_le_bytes(*block.first_chunk()?)));
        self.newest = self.newest.max(writes.max().unwrap_or(0));
    }

    pub(super) fn end(self) -> Content {
        let sha256 = self.sha256.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Content { sha256, newest: self.newest }
    }
}

/// The bytes of a slot as of a write.
pub(super) fn fill(into: &mut [u8], slot: u64, write: u64) {
    for (block, into) in (slot * (SLOT / BLOCK) as u64..).zip(into.chunks_exact_mut(BLOCK)) {
        let mut word = ((write << 32) ^ block).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        for into in into.chunks_exact_mut(8) {
            word = word.wrapping_mul(0xd134_2543_de82_ef95).wrapping_add(block);
            into.copy_from_slice(&word.to_le_bytes());
        }
        into[..8].copy_from_slice(&write.to_le_bytes());
        into[8..16].copy_from_slice(&block.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A volume of 16 slots, with all writes up to this one.
    fn volume_at(order: Order, last: u64) -> Vec<Vec<u8>> {
        let slot = |slot: u64, write: u64| {
            let mut bytes = vec![0; SLOT];
            fill(&mut bytes, slot, write);
            bytes
        };
        let mut all: Vec<Vec<u8>> = (0..order.slots()).map(|one| slot(one, 0)).collect();
        for write in 1..=last {
            all[order.slot_of(write) as usize] = slot(order.slot_of(write), write);
        }
        all
    }

    fn read(volume: &[Vec<u8>]) -> Content {
        let mut reading = Reading::default();
        volume.iter().for_each(|slot| reading.read(slot));
        reading.end()
    }

    #[test]
    fn the_content_at_a_write_is_what_all_up_to_it_have_left_also_over_several_rounds() {
        let order = Order::of(16 * SLOT as u64);
        for last in [0, 1, 15, 16, 17, 40] {
            assert_eq!(read(&volume_at(order, last)), order.content_at(last), "{last}");
            order.check(&read(&volume_at(order, last)), &(last..=last)).unwrap();
        }
    }

    #[test]
    fn a_snapshot_that_lacks_a_write_or_has_one_too_many_or_one_other_byte_is_wrong() {
        let order = Order::of(16 * SLOT as u64);
        let (before, right) = (volume_at(order, 19), volume_at(order, 20));
        let all = 18..=22;
        order.check(&read(&right), &all).unwrap();
        // The newest write is there, and one before it is not.
        let lacking = order.slot_of(19) as usize;
        let mut wrong = right.clone();
        wrong[lacking].clone_from(&volume_at(order, 18)[lacking]);
        assert!(order.check(&read(&wrong), &all).unwrap_err().contains("SHA-256"));
        // Half of a write.
        let torn = order.slot_of(20) as usize;
        let mut wrong = right.clone();
        wrong[torn][SLOT / 2..].copy_from_slice(&before[torn][SLOT / 2..]);
        assert!(order.check(&read(&wrong), &all).unwrap_err().contains("SHA-256"));
        let mut wrong = right;
        wrong[3][5_000] ^= 1;
        assert!(order.check(&read(&wrong), &all).unwrap_err().contains("SHA-256"));
        // Whole, and too old or too new.
        for last in [17, 23] {
            let error = order.check(&read(&volume_at(order, last)), &all).unwrap_err();
            assert!(error.contains(&format!("its newest write is {last}")), "{error}");
        }
    }
}
