//! What files, URLs and snapshots are asked, and how much at a time. Owns the queue of each; whoever runs the machine does the reading.
//!
//! ```text
//!   wanted by a piece ──► waiting ──few enough are under way──► under way ──fetched──► the pieces have it
//!                         those close to each other are asked together                 or their jobs fail
//! ```

use crate::composition::Source;
use std::collections::{BTreeMap, VecDeque};
use upstairs::Data;

/// Fetches from one source that are under way at a time. A server far away answers others meanwhile; more would hold more memory, and take
/// a server's connections from others.
pub(crate) const FETCHES_MAX: usize = 8;

/// Bytes of one fetch at most: with [`FETCHES_MAX`], 4 MiB of each source in memory.
const FETCH_BYTES_MAX: u64 = 512 << 10;

/// Blocks that are not wanted are fetched, too, if so many bytes or fewer lie between two that are: cheaper than another request.
const GAP_BYTES_MAX: u64 = 64 << 10;

/// One of the sources, by its place in [`crate::Composition::sources`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceId(pub usize);

/// A fetch. Never the same a second time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FetchId(pub u64);

/// Blocks that are to be read from a source. Answered with all of them or none: [`crate::Volume::fetched`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fetch {
    /// Which.
    pub id: FetchId,
    /// From where.
    pub source: SourceId,
    /// The first block of the source.
    pub first: u64,
    /// How many.
    pub count: u64,
}

/// Why blocks were not read from a source: in words, for people. What was tried again is not told before it was given up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct FetchError(pub String);

/// Blocks of a source, and for which piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) piece: u64,
    /// In the source.
    pub(crate) first: u64,
    pub(crate) count: u64,
}

/// A fetch that was asked for.
#[derive(Clone, Debug)]
pub(crate) struct UnderWay {
    pub(crate) first: u64,
    pub(crate) count: u64,
    pub(crate) wanted: Vec<Wanted>,
}

/// What one source is asked.
#[derive(Debug)]
pub(crate) struct Queue {
    pub(crate) source: Source,
    pub(crate) blocks: u64,
    block_bytes: u64,
    waiting: VecDeque<Wanted>,
    under_way: BTreeMap<FetchId, UnderWay>,
    pub(crate) fetches: u64,
    pub(crate) fetched_bytes: u64,
    pub(crate) failed: u64,
    pub(crate) trouble: Option<String>,
}

impl Queue {
    pub(crate) fn new(source: Source, blocks: u64, block_bytes: u64) -> Queue {
        Queue {
            source,
            blocks,
            block_bytes,
            waiting: VecDeque::new(),
            under_way: BTreeMap::new(),
            fetches: 0,
            fetched_bytes: 0,
            failed: 0,
            trouble: None,
        }
    }

    pub(crate) fn push(&mut self, wanted: Wanted) {
        self.waiting.push_back(wanted);
    }

    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    pub(crate) fn under_way(&self) -> usize {
        self.under_way.len()
    }

    /// The next fetch, if one may be begun. What nobody wants any more is left out.
    pub(crate) fn begin(&mut self, id: FetchId, is_wanted: impl Fn(u64) -> bool) -> Option<(u64, u64)> {
        if self.under_way.len() >= FETCHES_MAX {
            return None;
        }
        let (blocks_max, gap_max) = (FETCH_BYTES_MAX / self.block_bytes, GAP_BYTES_MAX / self.block_bytes);
        let mut wanted: Vec<Wanted> = Vec::new();
        while let Some(next) = self.waiting.front_mut() {
            if !is_wanted(next.piece) {
                self.waiting.pop_front();
                continue;
            }
            let start = wanted.first().map_or(next.first, |first| first.first);
            let before = wanted.last().map_or(next.first, |last| last.first + last.count);
            let is_near = next.first.checked_sub(before).is_some_and(|gap| gap <= gap_max);
            let room = (start + blocks_max).saturating_sub(next.first);
            if !is_near || room == 0 {
                break;
            }
            let taken = Wanted { count: next.count.min(room), ..*next };
            wanted.push(taken);
            if taken.count < next.count {
                next.first += taken.count;
                next.count -= taken.count;
                break;
            }
            self.waiting.pop_front();
        }
        let (first, last) = (wanted.first()?, wanted.last()?);
        let (first, count) = (first.first, last.first + last.count - first.first);
        self.under_way.insert(id, UnderWay { first, count, wanted });
        Some((first, count))
    }

    pub(crate) fn end(&mut self, id: FetchId) -> Option<UnderWay> {
        self.under_way.remove(&id)
    }
}

/// Blocks of what was fetched, in its runs; each with its place behind the first of them.
///
/// # Panics
/// If there are not so many.
pub(crate) fn cut(all: &[Data], block_bytes: u64, first: u64, count: u64) -> Vec<(u64, Data)> {
    let (mut at, end, mut own) = (0, first + count, Vec::new());
    for data in all {
        let (start, next) = (at, at + blocks_of(data, block_bytes));
        at = next;
        let (from, to) = (start.max(first), next.min(end));
        if from >= to {
            continue;
        }
        let place = |block: u64| usize::try_from((block - start) * block_bytes).expect("it is in memory");
        own.push((
            from - first,
            match data {
                Data::Bytes(bytes) => Data::Bytes(bytes.slice(place(from)..place(to))),
                Data::Zeros(_) => Data::Zeros(to - from),
                Data::Never(_) => Data::Never(to - from),
            },
        ));
    }
    assert!(at >= end, "{count} blocks from {first} on, of {at}");
    own
}

/// How many blocks it is.
pub(crate) fn blocks_of(data: &Data, block_bytes: u64) -> u64 {
    match data {
        Data::Bytes(bytes) => bytes.len() as u64 / block_bytes,
        Data::Zeros(count) | Data::Never(count) => *count,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(wanted: &[(u64, u64, u64)]) -> Queue {
        let source = Source::File { path: "/base".into() };
        let mut queue = Queue::new(source, 1 << 20, 4_096);
        wanted.iter().for_each(|(piece, first, count)| {
            queue.push(Wanted { piece: *piece, first: *first, count: *count });
        });
        queue
    }

    fn all(mut queue: Queue) -> Vec<(u64, u64)> {
        (0..).map_while(|id| queue.begin(FetchId(id), |piece| piece != 99)).collect()
    }

    #[test]
    fn what_is_near_is_fetched_together_and_what_is_far_or_before_is_not() {
        assert_eq!(all(queue(&[(1, 10, 1), (1, 12, 2), (2, 30, 1)])), [(10, 21)]);
        assert_eq!(all(queue(&[(1, 10, 1), (1, 28, 1)])), [(10, 1), (28, 1)]);
        assert_eq!(all(queue(&[(1, 10, 1), (1, 5, 1), (1, 6, 1)])), [(10, 1), (5, 2)]);
    }

    #[test]
    fn a_fetch_is_bounded_and_so_is_their_number() {
        assert_eq!(all(queue(&[(1, 0, 300)])), [(0, 128), (128, 128), (256, 44)]);
        assert_eq!(all(queue(&[(1, 0, 120), (2, 120, 10)])), [(0, 128), (128, 2)]);
        let scattered: Vec<(u64, u64, u64)> = (0..20).map(|at| (at, at * 1_000, 1)).collect();
        let mut queue = queue(&scattered);
        assert_eq!((0..100).filter_map(|id| queue.begin(FetchId(id), |_| true)).count(), FETCHES_MAX);
        assert_eq!((queue.waiting(), queue.under_way()), (12, 8));
        queue.end(FetchId(3)).expect("it is under way");
        assert_eq!(queue.begin(FetchId(200), |_| true), Some((8_000, 1)));
    }

    #[test]
    fn what_was_fetched_is_cut_where_it_is_wanted() {
        let bytes: bytes::Bytes = (0..8).collect::<Vec<u8>>().into();
        let all = [Data::Never(2), Data::Bytes(bytes.clone()), Data::Zeros(3)];
        let own = |first, count| cut(&all, 2, first, count);
        assert_eq!(own(0, 9), [(0, Data::Never(2)), (2, Data::Bytes(bytes.clone())), (6, Data::Zeros(3))]);
        assert_eq!(own(1, 2), [(0, Data::Never(1)), (1, Data::Bytes(bytes.slice(0..2)))]);
        assert_eq!(own(3, 2), [(0, Data::Bytes(bytes.slice(2..6)))]);
        assert_eq!(own(5, 2), [(0, Data::Bytes(bytes.slice(6..8))), (1, Data::Zeros(1))]);
        assert_eq!(own(8, 1), [(0, Data::Zeros(1))]);
    }

    #[test]
    fn what_nobody_wants_any_more_is_not_fetched() {
        assert_eq!(all(queue(&[(99, 0, 5), (1, 5, 5), (99, 10, 5), (1, 15, 5)])), [(5, 15)]);
        assert_eq!(all(queue(&[(99, 0, 5)])), []);
    }
}
