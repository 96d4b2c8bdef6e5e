//! A bit for each of many data blocks, of which few words may be there.

use crate::{
    fields::Fields,
    places::WORD,
    sealed::{HEADER, Page},
};
use std::ops::Range;

/// A set of data blocks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bits {
    words: Vec<u64>,
    count: u64,
}

impl Bits {
    /// Those that a page says, of these data blocks. None if it has bits that are none.
    pub(crate) fn of_page(places: &Range<u64>, page: &Page) -> Option<Bits> {
        let (mut bits, mut fields) = (Bits::default(), Fields(&page[HEADER..]));
        let mut first = places.start;
        while let Some(word) = fields.u64() {
            let there = places.end.saturating_sub(first).min(WORD);
            if there < WORD && word >> there != 0 {
                return None;
            }
            if word != 0 {
                bits.set_word(first, word);
            }
            first += WORD;
        }
        Some(bits)
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    pub(crate) fn has(&self, place: u64) -> bool {
        self.word(place / WORD * WORD) >> (place % WORD) & 1 == 1
    }

    pub(crate) fn set(&mut self, place: u64) {
        let first = place / WORD * WORD;
        self.set_word(first, self.word(first) | 1 << (place % WORD));
    }

    pub(crate) fn clear(&mut self, place: u64) {
        let first = place / WORD * WORD;
        self.set_word(first, self.word(first) & !(1 << (place % WORD)));
    }

    /// The bits from this place on, the first of a word.
    pub(crate) fn word(&self, first: u64) -> u64 {
        self.words.get(index(first)).copied().unwrap_or(0)
    }

    /// Those that are in the other one are in this one, too.
    pub(crate) fn add(&mut self, other: &Bits) {
        for (first, word) in (0_u64..).step_by(WORD as usize).zip(&other.words) {
            if *word != 0 {
                self.set_word(first, self.word(first) | word);
            }
        }
    }

    /// Those that the other one has not.
    pub(crate) fn without(&self, other: &Bits) -> Bits {
        self.without_words(|first| other.word(first))
    }

    /// The same, of words.
    pub(crate) fn without_words(&self, other: impl Fn(u64) -> u64) -> Bits {
        let mut left = Bits::default();
        for (first, word) in (0_u64..).step_by(WORD as usize).zip(&self.words) {
            let word = if *word == 0 { 0 } else { word & !other(first) };
            if word != 0 {
                left.set_word(first, word);
            }
        }
        left
    }

    /// All of them, in their order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        let words = (0_u64..).step_by(WORD as usize).zip(&self.words).filter(|(_, word)| **word != 0);
        words.flat_map(|(first, word)| {
            (0..WORD).filter(move |bit| word >> bit & 1 == 1).map(move |bit| first + bit)
        })
    }

    fn set_word(&mut self, first: u64, word: u64) {
        let at = index(first);
        if self.words.len() <= at {
            self.words.resize(at + 1, 0);
        }
        self.count += u64::from(word.count_ones());
        self.count -= u64::from(self.words[at].count_ones());
        self.words[at] = word;
    }
}

fn index(first: u64) -> usize {
    usize::try_from(first / WORD).expect("bits of a region fit in memory")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn it_is_a_set(steps in prop::collection::vec((any::<bool>(), 0..300_u64), 0..80), more in prop::collection::btree_set(0..400_u64, 0..40)) {
            let (mut bits, mut set) = (Bits::default(), BTreeSet::new());
            for (adds, place) in steps {
                if adds {
                    bits.set(place);
                    set.insert(place);
                } else {
                    bits.clear(place);
                    set.remove(&place);
                }
            }
            prop_assert_eq!(bits.iter().collect::<BTreeSet<u64>>(), set.clone());
            let mut others = Bits::default();
            more.iter().for_each(|place| others.set(*place));
            prop_assert_eq!(bits.without(&others).iter().collect::<BTreeSet<u64>>(), &set - &more);
            bits.add(&others);
            set.extend(more);
            prop_assert_eq!(bits.count(), set.len() as u64);
            prop_assert!((0..500).all(|place| bits.has(place) == set.contains(&place)));
        }
    }
}
