//! Which data blocks may not be taken, and which are taken next.
//!
//! What is written over goes elsewhere, so a region that was filled in order does not stay in order by itself. Three rules keep
//! it nearly so, without a move of anything:
//!
//! 1. Who finds its home free goes home; many blocks that find half of it free, with that half.
//! 2. Many blocks at a time go into *segments* that are wholly free, one after the other.
//! 3. Few blocks at a time go into holes: segments of which something is used already. If there are none, into the last free segment: there
//!    nobody is at home.
//!
//! So scattered writes leave the free segments to those that can use them; and what those leave behind is large again. A region that is
//! filled in order while others write all over it is in order when it is full.

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
    /// Where the next few go, and the next many; and where the last many were at home.
    few_at: u64,
    many_at: u64,
    home_at: u64,
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
            home_at: 0,
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
    pub(crate) fn take(&mut self, home: u64, count: u64) -> Option<Vec<Range<u64>>> {
        if count > self.free {
            return None;
        }
        let end = home + count;
        let free = if end <= self.count { self.free_runs(home..end) } else { Vec::new() };
        let at_home: u64 = free.iter().map(|run| run.end - run.start).sum();
        if if count < MANY { at_home < count } else { at_home * 2 < count } {
            return Some(self.take_elsewhere(count));
        }
        free.iter().for_each(|run| self.set(run.clone()));
        if count >= MANY {
            self.home_at = end;
        }
        if at_home == count {
            return Some(free);
        }
        let mut elsewhere = self.take_elsewhere(count - at_home).into_iter();
        // Each of them in the place of those that are used.
        let (mut at, mut rest, mut runs) = (home, 0..0, Vec::new());
        for run in free.into_iter().chain(std::iter::once(end..end)) {
            while at < run.start {
                if rest.is_empty() {
                    rest = elsewhere.next().expect("so many were taken as are missing");
                }
                let here = rest.start..rest.end.min(rest.start + (run.start - at));
                at += here.end - here.start;
                rest.start = here.end;
                add(&mut runs, here);
            }
            at = run.end;
            add(&mut runs, run);
        }
        Some(runs)
    }

    /// The free runs of a range.
    fn free_runs(&self, range: Range<u64>) -> Vec<Range<u64>> {
        let mut runs = Vec::new();
        for place in range.filter(|place| !self.is_used(*place)) {
            add(&mut runs, place..place + 1);
        }
        runs
    }

    /// There are so many.
    fn take_elsewhere(&mut self, mut count: u64) -> Vec<Range<u64>> {
        let mut runs: Vec<Range<u64>> = Vec::new();
        let is_many = count >= MANY;
        while count > 0 {
            let start = if is_many { self.next_for_many() } else { self.next_for_few() };
            let most = (start + count).min(self.count);
            let end = (start..most).find(|place| self.is_used(*place)).unwrap_or(most);
            self.set(start..end);
            *(if is_many { &mut self.many_at } else { &mut self.few_at }) =
                if end == self.count { 0 } else { end };
            count -= end - start;
            add(&mut runs, start..end);
        }
        runs
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
        // Not into the segments that many go into, while there is anything else.
        let begun = [
            (!self.many_at.is_multiple_of(SEGMENT)).then_some(self.many_at / SEGMENT),
            (self.home_at > 0).then_some(self.home_at / SEGMENT),
        ];
        if !self.is_whole(here)
            && !begun.contains(&Some(here))
            && let Some(place) = self.free_in(at..self.end_of(here))
        {
            return place;
        }
        let is_begun = |word: usize| {
            let bits = begun.iter().flatten().filter(|segment| index(**segment / WORD) == word);
            bits.fold(0, |bits, segment| bits | 1 << (segment % WORD))
        };
        let holes = |word: usize| self.some[word] & !self.whole[word];
        let hole = around(here, self.segments(), |word| holes(word) & !is_begun(word))
            .or_else(|| last(&self.whole))
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

/// Adds a run behind the others.
fn add(runs: &mut Vec<Range<u64>>, run: Range<u64>) {
    match runs.last_mut() {
        Some(last) if last.end == run.start => last.end = run.end,
        _ if run.is_empty() => {}
        _ => runs.push(run),
    }
}

/// The last number whose bit is set.
fn last(words: &[u64]) -> Option<u64> {
    let word = words.iter().rposition(|bits| *bits != 0)?;
    Some(word as u64 * WORD + u64::from(words[word].ilog2()))
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
    fn many_that_find_half_of_their_home_free_go_there_with_that_half() {
        let mut places = Places::new(4 * SEGMENT);
        places.set(SEGMENT + 3..SEGMENT + 5);
        places.set(SEGMENT + 9..SEGMENT + 10);
        places.set(0..SEGMENT - 2);
        let (s, end) = (SEGMENT, 4 * SEGMENT);
        let (few, last) = (s - 2..s, 3 * s..3 * s + 1);
        assert_eq!(places.take(s, 20), Some(vec![s..s + 3, few, s + 5..s + 9, last, s + 10..s + 20]));
        assert_eq!(places.take(s + 9, 18), one(2 * s..2 * s + 18), "half of it is used");
        assert_eq!(places.take(end - 1, 30), one(2 * s + 18..2 * s + 48), "it would be beyond the end");
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
        assert_eq!(few, one(3 * SEGMENT..3 * SEGMENT + 1), "there is no other hole");
        assert_eq!(places.take(0, 300), one(SEGMENT + 50..2 * SEGMENT + 94));
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
    fn what_is_filled_in_order_is_in_order_although_others_write_all_over_it() {
        const RUN: u64 = 64;
        let (segments, spare) = (64, 8);
        let mut places = Places::new((segments + spare) * SEGMENT);
        let mut map: Vec<Option<u64>> = vec![None; index(segments * SEGMENT)];
        let (mut block, mut pieces) = (1, 0);
        for first in (0..segments * SEGMENT).step_by(RUN as usize) {
            // One of those that are filled next, and some of those that are.
            let mut scattered = vec![first + first / RUN % RUN];
            for _ in 0..first.min(8) {
                block = (block * 48_271 + 11) % (segments * SEGMENT);
                scattered.push(block % first);
            }
            for block in scattered {
                let place = places.take(block, 1).unwrap().remove(0).start;
                if let Some(before) = map[index(block)].replace(place) {
                    places.clear(before..before + 1);
                }
            }
            let runs = places.take(first, RUN).unwrap();
            pieces += runs.len();
            for (block, place) in (first..).zip(runs.into_iter().flatten()) {
                if map[index(block)].is_some() {
                    // What was written meanwhile is newer.
                    places.clear(place..place + 1);
                } else {
                    assert_eq!(place, block, "it is at home");
                    map[index(block)] = Some(place);
                }
            }
        }
        assert!(pieces <= 3 * index(segments * SEGMENT / RUN), "{pieces}");
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
