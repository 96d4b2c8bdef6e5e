//! Which data blocks may not be taken, and which are taken next.
//!
//! What is written over goes elsewhere, so a region that was filled in order does not stay in order by itself. Three rules keep
//! it nearly so, without a move of anything:
//!
//! 1. Who finds its home free goes home.
//! 2. Many blocks at a time go into *segments* that are wholly free, one after the other.
//! 3. Few blocks at a time go into holes: segments of which something is used already.
//!
//! So scattered writes leave the free segments to those that can use them; and what those leave behind is large again.

use std::ops::Range;

/// Bits of a word.
pub(crate) const WORD: u64 = u64::BITS as u64;

/// Blocks of a segment: 1 MiB of 4 KiB blocks.
pub(crate) const SEGMENT: u64 = 256;

/// So many blocks at a time are many.
const MANY: u64 = 16;

/// A bit for each data block, and where the search goes on.
#[derive(Debug)]
pub(crate) struct Places {
    used: Vec<u64>,
    count: u64,
    free: u64,
    /// A bit for each segment of which all is free, and for each of which anything is.
    whole: Vec<u64>,
    some: Vec<u64>,
    /// Where the next few go, and the next many.
    few_at: u64,
    many_at: u64,
}

impl Places {
    /// All of them free.
    pub(crate) fn new(count: u64) -> Places {
        let segments = count.div_ceil(SEGMENT);
        let words = |bits: u64| vec![0; index(bits.div_ceil(WORD))];
        let mut places = Places {
            used: words(count),
            count,
            free: count,
            whole: words(segments),
            some: words(segments),
            few_at: 0,
            many_at: 0,
        };
        (0..segments).for_each(|segment| places.note_segment(segment));
        places
    }

    /// There are more: free ones up to `end`, from the next segment on. Those between are none: they count as used.
    pub(crate) fn grow(&mut self, end: u64) {
        let before = self.count;
        let first = before.next_multiple_of(SEGMENT);
        let segments = end.div_ceil(SEGMENT);
        self.used.resize(index(end.div_ceil(WORD)), 0);
        self.whole.resize(index(segments.div_ceil(WORD)), 0);
        self.some.resize(index(segments.div_ceil(WORD)), 0);
        self.count = end;
        self.free += end - before;
        self.set(before..first);
        (first / SEGMENT..segments).for_each(|segment| self.note_segment(segment));
    }

    /// How many are free.
    pub(crate) fn free(&self) -> u64 {
        self.free
    }

    /// So many that are free, in as few runs as are easily found; the first choice is the run from `home` on. They are used
    /// from now on. None if there are not so many.
    pub(crate) fn take(&mut self, home: u64, mut count: u64) -> Option<Vec<Range<u64>>> {
        if count > self.free {
            return None;
        }
        let mut runs: Vec<Range<u64>> = Vec::new();
        if home + count <= self.count && (home..home + count).all(|place| !self.is_used(place)) {
            self.set(home..home + count);
            runs.push(home..home + count);
            return Some(runs);
        }
        let is_many = count >= MANY;
        while count > 0 {
            let start = if is_many { self.next_for_many() } else { self.next_for_few() };
            let most = (start + count).min(self.count);
            let end = (start..most).find(|place| self.is_used(*place)).unwrap_or(most);
            self.set(start..end);
            *(if is_many { &mut self.many_at } else { &mut self.few_at }) =
                if end == self.count { 0 } else { end };
            count -= end - start;
            match runs.last_mut() {
                Some(last) if last.end == start => last.end = end,
                _ => runs.push(start..end),
            }
        }
        Some(runs)
    }

    /// There is one.
    fn next_for_many(&self) -> u64 {
        let at = self.many_at;
        // The rest of a segment that was begun.
        if !at.is_multiple_of(SEGMENT) && !self.is_used(at) {
            return at;
        }
        let whole = around(at.div_ceil(SEGMENT), self.segments(), |word| self.whole[word]);
        whole.map_or_else(|| self.next_from(at), |segment| segment * SEGMENT)
    }

    /// There is one.
    fn next_for_few(&self) -> u64 {
        let at = self.few_at;
        let here = at / SEGMENT;
        if !self.is_whole(here)
            && let Some(place) = self.free_in(at..self.end_of(here))
        {
            return place;
        }
        let many = self.many_at / SEGMENT;
        let is_begun = |word: usize| if index(many / WORD) == word { 1 << (many % WORD) } else { 0 };
        let holes = |word: usize| self.some[word] & !self.whole[word];
        // Not into the segment that many go into, while there is any other hole.
        let hole = around(here, self.segments(), |word| holes(word) & !is_begun(word))
            .or_else(|| around(here, self.segments(), |word| self.whole[word]))
            .or_else(|| around(here, self.segments(), holes));
        let segment = hole.expect("somebody has counted a free block that is not there");
        self.free_in(segment * SEGMENT..self.end_of(segment)).expect("its segment has something free")
    }

    /// The next one that is free, from there on, around the end. There is one.
    fn next_from(&self, at: u64) -> u64 {
        let here = at / SEGMENT;
        self.free_in(at..self.end_of(here)).unwrap_or_else(|| {
            let segment = around(here + 1, self.segments(), |word| self.some[word]);
            let segment = segment.expect("somebody has counted a free block that is not there");
            self.free_in(segment * SEGMENT..self.end_of(segment)).expect("its segment has something free")
        })
    }

    /// The first one that is free in a range of one segment.
    fn free_in(&self, range: Range<u64>) -> Option<u64> {
        let mut place = range.start;
        while place < range.end {
            let (word, bit) = (index(place / WORD), place % WORD);
            let free = !self.used[word] >> bit;
            if free != 0 {
                let found = place + u64::from(free.trailing_zeros());
                return (found < range.end).then_some(found);
            }
            place += WORD - bit;
        }
        None
    }

    pub(crate) fn is_used(&self, place: u64) -> bool {
        self.used[index(place / WORD)] >> (place % WORD) & 1 == 1
    }

    pub(crate) fn set(&mut self, run: Range<u64>) {
        self.free -= run.end - run.start;
        for place in run.clone() {
            assert!(!self.is_used(place), "data block {place} is taken twice");
            self.used[index(place / WORD)] |= 1 << (place % WORD);
        }
        self.note_segments(run);
    }

    pub(crate) fn clear(&mut self, run: Range<u64>) {
        self.free += run.end - run.start;
        for place in run.clone() {
            assert!(self.is_used(place), "data block {place} is freed twice");
            self.used[index(place / WORD)] &= !(1 << (place % WORD));
        }
        self.note_segments(run);
    }

    /// The bits of one word, from this place on; none behind the end.
    pub(crate) fn word(&self, first: u64) -> u64 {
        self.used.get(index(first / WORD)).copied().unwrap_or(0)
    }

    /// Takes over the bits of one word. False if it has bits that are none.
    pub(crate) fn set_word(&mut self, first: u64, bits: u64) -> bool {
        let there = self.count.saturating_sub(first).min(WORD);
        if there < WORD && bits >> there != 0 {
            return false;
        }
        if there > 0 {
            let word = &mut self.used[index(first / WORD)];
            self.free += u64::from(word.count_ones());
            self.free -= u64::from(bits.count_ones());
            *word = bits;
            self.note_segment(first / SEGMENT);
        }
        true
    }

    fn segments(&self) -> u64 {
        self.count.div_ceil(SEGMENT)
    }

    fn end_of(&self, segment: u64) -> u64 {
        ((segment + 1) * SEGMENT).min(self.count)
    }

    fn is_whole(&self, segment: u64) -> bool {
        self.whole[index(segment / WORD)] >> (segment % WORD) & 1 == 1
    }

    fn note_segments(&mut self, run: Range<u64>) {
        if !run.is_empty() {
            (run.start / SEGMENT..=(run.end - 1) / SEGMENT).for_each(|segment| self.note_segment(segment));
        }
    }

    fn note_segment(&mut self, segment: u64) {
        let places = segment * SEGMENT..self.end_of(segment);
        let words = index(places.start / WORD)..index(places.end.div_ceil(WORD));
        let used: u64 = self.used[words].iter().map(|word| u64::from(word.count_ones())).sum();
        let (word, bit) = (index(segment / WORD), 1 << (segment % WORD));
        put_bit(&mut self.whole[word], bit, used == 0);
        put_bit(&mut self.some[word], bit, used < places.end - places.start);
    }
}

fn put_bit(word: &mut u64, bit: u64, is_set: bool) {
    *word = if is_set { *word | bit } else { *word & !bit };
}

/// The next number below `end` whose bit is set, from there on, around the end.
fn around(from: u64, end: u64, bits: impl Fn(usize) -> u64) -> Option<u64> {
    let find = |range: Range<u64>| {
        let mut at = range.start;
        while at < range.end {
            let set = bits(index(at / WORD)) >> (at % WORD);
            if set != 0 {
                let found = at + u64::from(set.trailing_zeros());
                return (found < range.end).then_some(found);
            }
            at += WORD - at % WORD;
        }
        None
    };
    let from = if from < end { from } else { 0 };
    find(from..end).or_else(|| find(0..from))
}

fn index(number: u64) -> usize {
    usize::try_from(number).expect("bits of a region fit in memory")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(run: Range<u64>) -> Option<Vec<Range<u64>>> {
        Some(Vec::from([run]))
    }

    #[test]
    fn home_is_taken_first_and_then_what_comes_next() {
        let mut places = Places::new(200);
        assert_eq!(places.take(10, 5), one(10..15));
        assert_eq!(places.take(12, 4), one(0..4), "some of it is taken");
        assert_eq!(places.take(12, 10), Some(vec![4..10, 15..19]));
        assert_eq!(places.take(199, 2), one(19..21), "it would be beyond the end");
        assert_eq!(places.free(), 200 - 5 - 4 - 10 - 2);
        assert_eq!(places.take(0, 180), None);
    }

    #[test]
    fn few_go_into_holes_and_many_into_free_segments() {
        let mut places = Places::new(4 * SEGMENT);
        assert_eq!(places.take(0, SEGMENT), one(0..SEGMENT));
        places.clear(7..8);
        places.clear(9..11);
        assert_eq!(places.take(0, 1), one(7..8));
        assert_eq!(places.take(0, 20), one(SEGMENT..SEGMENT + 20));
        assert_eq!(places.take(0, 2), one(9..11), "not behind those");
        assert_eq!(places.take(0, 30), one(SEGMENT + 20..SEGMENT + 50), "they go on");
        let few = places.take(0, 1);
        assert_eq!(few, one(2 * SEGMENT..2 * SEGMENT + 1), "there is no other hole");
        assert_eq!(places.take(0, 300), Some(vec![SEGMENT + 50..2 * SEGMENT, 3 * SEGMENT..3 * SEGMENT + 94]));
    }

    /// Each block's place; rewrites one, and frees its old place at once.
    fn rewrite(places: &mut Places, map: &mut [u64], blocks: Range<u64>) -> usize {
        let runs = places.take(blocks.start, blocks.end - blocks.start).unwrap();
        let count = runs.len();
        for (block, place) in blocks.zip(runs.into_iter().flatten()) {
            places.clear(map[index(block)]..map[index(block)] + 1);
            map[index(block)] = place;
        }
        count
    }

    #[test]
    fn what_scattered_writes_leave_still_takes_large_ones_in_one_piece_and_order_comes_back() {
        let (segments, spare) = (64, 8);
        let mut places = Places::new((segments + spare) * SEGMENT);
        let mut map: Vec<u64> = (0..segments * SEGMENT).collect();
        places.set(0..segments * SEGMENT);
        let mut block = 1;
        for _ in 0..20_000 {
            block = (block * 48_271 + 11) % (segments * SEGMENT);
            rewrite(&mut places, &mut map, block..block + 1);
        }
        for segment in 0..4 {
            let blocks = segment * SEGMENT..(segment + 1) * SEGMENT;
            assert_eq!(rewrite(&mut places, &mut map, blocks), 1, "segment {segment}");
        }
        // Twice all of it, in order.
        let mut last = 0;
        for _ in 0..2 {
            let all = 0..segments;
            last = all.map(|one| rewrite(&mut places, &mut map, one * SEGMENT..(one + 1) * SEGMENT)).sum();
        }
        assert!(last <= 2 * index(segments), "{last} pieces for {segments} segments");
    }

    #[test]
    fn those_that_are_added_are_free_and_none_is_between_them_and_the_others() {
        let mut places = Places::new(10);
        assert_eq!(places.take(0, 10), one(0..10));
        places.grow(2 * SEGMENT);
        assert_eq!(places.free(), SEGMENT);
        assert_eq!(places.take(0, 1), one(SEGMENT..SEGMENT + 1));
        places.clear(3..4);
        places.grow(4 * SEGMENT);
        let rest = places.take(0, 3 * SEGMENT).unwrap();
        assert!(rest.iter().cloned().flatten().all(|place| place == 3 || place > SEGMENT), "{rest:?}");
        assert_eq!((places.free(), places.take(0, 1)), (0, None));
    }

    #[test]
    fn a_word_with_bits_behind_the_end_is_refused() {
        assert!(!Places::new(17).set_word(0, 1 << 17));
        let mut places = Places::new(17);
        assert!(places.set_word(0, 1 << 16) && places.set_word(64, 0) && !places.set_word(64, 1));
        assert_eq!((places.free(), places.take(16, 1)), (16, one(0..1)));
    }
}
