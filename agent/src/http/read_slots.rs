//! Who may read from the depot now. Reads at once are bounded, in all and for each address that they come from: the depot
//! asks nobody for a token, and one host that opens reads and does not read must not keep the sleds from each other's
//! copies.
//!
//! An address behind which many readers stand (a proxy) counts as one reader.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    num::NonZeroU32,
    sync::{Arc, Mutex, PoisonError},
};

/// The right to read, shared out. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ReadSlots {
    taken: Arc<Mutex<Taken>>,
    max: usize,
    max_per_address: usize,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by: BTreeMap<IpAddr, usize>,
}

/// The right to one read, until it is dropped.
#[derive(Debug)]
pub struct ReadSlot {
    slots: ReadSlots,
    address: IpAddr,
}

/// Why there is no slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoSlot {
    /// So many reads are served at once, and they are.
    Full(usize),
    /// So many are served to one address at once, and they are.
    AddressFull(usize),
}

impl ReadSlots {
    /// So many in all, and so many for each address.
    #[must_use]
    pub fn new(max: NonZeroU32, max_per_address: NonZeroU32) -> ReadSlots {
        let (max, max_per_address) = (max.get() as usize, max_per_address.get() as usize);
        ReadSlots { taken: Arc::default(), max, max_per_address }
    }

    /// Takes a slot for a reader at this address.
    pub fn take(&self, address: IpAddr) -> Result<ReadSlot, NoSlot> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.by.get(&address).is_some_and(|&count| count >= self.max_per_address) {
            return Err(NoSlot::AddressFull(self.max_per_address));
        }
        if taken.all >= self.max {
            return Err(NoSlot::Full(self.max));
        }
        taken.all += 1;
        *taken.by.entry(address).or_default() += 1;
        drop(taken);
        Ok(ReadSlot { slots: self.clone(), address })
    }
}

impl Drop for ReadSlot {
    fn drop(&mut self) {
        let mut taken = self.slots.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.all -= 1;
        if let Some(count) = taken.by.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                taken.by.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_cannot_take_what_the_others_need() {
        let number = |number| NonZeroU32::new(number).unwrap();
        let slots = ReadSlots::new(number(5), number(3));
        let [greedy, other] = [[10, 0, 0, 1], [10, 0, 0, 2]].map(IpAddr::from);
        let mut held: Vec<ReadSlot> = (0..3).map(|_| slots.take(greedy).unwrap()).collect();
        assert_eq!(slots.take(greedy).unwrap_err(), NoSlot::AddressFull(3));
        held.extend((0..2).map(|_| slots.take(other).unwrap()));
        assert_eq!(slots.take(other).unwrap_err(), NoSlot::Full(5));
        drop(held.remove(0));
        held.push(slots.take(greedy).unwrap());
        held.clear();
        assert!(slots.taken.lock().unwrap().by.is_empty(), "nobody is remembered who reads no more");
        assert!(slots.take(other).is_ok());
    }
}
