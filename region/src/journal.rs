//! The ring of records of what has been written since the last checkpoint.
//!
//! ```text
//!   0       4        8        16      24     32        40        50     51        55         63
//!   ┌───────┬────────┬────────┬───────┬──────┬─────────┬─────────┬──────┬─────────┬──────────┬───────────────┐
//!   │ magic │ length │ number │ chain │ life │ durable │ applied │ flags│ changes │ checksum │ the changes   │
//!   └───────┴────────┴────────┴───────┴──────┴─────────┴─────────┴──────┴─────────┴──────────┴───────────────┘
//! ```
//!
//! Records are numbered without a gap. *Chain* is the checksum of the record before: so a record is right only behind the
//! very one that it was written behind. *Life* is a random number of each opening, whose first record is durable before anybody
//! is answered: so what an earlier life had written behind the end that this one has found, and what may still be there, is
//! never taken for a continuation of what this one writes.
//!
//! Records up to a *last* one (a flag) are a group, which counts as a whole or not at all. A record with the flag *end of life* is the last
//! one that its process wrote: if it is there, nothing was lost behind it.
//!
//! A record lies where the one before it ends, or, if it does not fit there, at the start of the ring.

use crate::{
    fields::{Fields, PutFields},
    layout::Layout,
    map::{SEAL, Seal},
    position::Position,
    ring::Ring,
    superblock::Cut,
};
use durable_fs::{InPlaceFile, StorageError};
use std::{io::IoSlice, ops::Range};
use xxhash_rust::xxh3::xxh3_64_with_seed;

const MAGIC: u32 = u32::from_le_bytes(*b"bobj");

/// Bytes before the changes.
const HEADER: usize = 63;

/// Where the checksum is.
const CHECKSUM: Range<usize> = 55..63;

/// Bytes of a record at most: a quarter of the smallest journal, so that some always fit.
const RECORD_MAX: u64 = 16 << 10;

/// So much of the ring is looked through at a time.
const WINDOW: u64 = 256 << 10;

/// Blocks of one change at most: so that each fits into a record.
pub(crate) const CHANGE_BLOCKS_MAX: usize = 256;

/// Bytes that a change takes beside those for its blocks, and those for each of its blocks if they are scattered.
const CHANGE: u64 = 27;
const SCATTERED: u64 = 12 + 8;

/// What one write did to blocks that follow each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) version: Position,
    pub(crate) block: u64,
    pub(crate) content: Changed,
}

/// What they hold now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Changed {
    /// What nobody ever wrote, so many of them.
    Never(u64),
    /// Zeros, so many.
    Zeros(u64),
    /// Bytes: in these data blocks, one after the other, with a checksum for each, and a seal where the region has them.
    Bytes { places: Vec<Range<u64>>, checksums: Vec<u64>, seals: Vec<Seal> },
    /// Bytes that nobody has any more: the checksum that each would have, and the seal where the region has them.
    Lost { checksums: Vec<u64>, seals: Vec<Seal> },
}

impl Changed {
    /// How many blocks.
    pub(crate) fn count(&self) -> u64 {
        match self {
            Changed::Never(count) | Changed::Zeros(count) => *count,
            Changed::Bytes { checksums, .. } | Changed::Lost { checksums, .. } => checksums.len() as u64,
        }
    }
}

/// Changes that become true together, or a part of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) number: u64,
    /// The last one that was known to be durable when it was written.
    pub(crate) durable: u64,
    /// What has been applied with it.
    pub(crate) applied: Position,
    /// Whether it ends its group.
    pub(crate) is_last: bool,
    /// Whether its writer wrote nothing behind it, ever.
    pub(crate) is_end_of_life: bool,
    pub(crate) changes: Vec<Change>,
}

/// What every record says of the moment in which it was written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stamp {
    /// The last record that is known to be durable.
    pub(crate) durable: u64,
    /// What will have been applied.
    pub(crate) applied: Position,
    /// Whether nothing will be written behind it.
    pub(crate) is_end_of_life: bool,
}

/// Flags of a record.
const LAST: u8 = 1;
const END_OF_LIFE: u8 = 2;

const NEVER: u8 = 0;
const ZEROS: u8 = 1;
const BYTES: u8 = 2;
const LOST: u8 = 3;

/// The ring, and where its records are.
#[derive(Debug)]
pub(crate) struct Journal {
    layout: Layout,
    life: u64,
    mark: Mark,
}

/// Where a journal is at some moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    /// The last record.
    pub(crate) number: u64,
    /// Its checksum.
    pub(crate) chain: u64,
    /// Where the next one goes.
    pub(crate) head: u64,
    /// Bytes that may not be written over, from the first record that is needed to the head.
    used: u64,
}

/// Bytes that changes of so many blocks in so many pieces take, at most.
pub(crate) fn bytes_max(layout: &Layout, pieces: u64, blocks: u64) -> u64 {
    let seal = if layout.geometry.is_sealed { SEAL as u64 } else { 0 };
    // A write may be cut into as many changes as it has blocks, by what is newer there.
    let changes = (pieces + blocks) * CHANGE + blocks * (SCATTERED + seal);
    let records = changes / (RECORD_MAX / 2) + 1;
    changes + records * HEADER as u64
}

impl Journal {
    /// Finds the records behind a cut: all that are right by themselves. Whether their bytes are there is not looked at.
    pub(crate) fn scan(ring: &mut Ring<'_>, cut: &Cut) -> Result<Scan, StorageError> {
        let mut scan = Scan::default();
        let mut mark = Mark { number: cut.record, chain: cut.chain, head: cut.next_at, used: 0 };
        let journal_bytes = ring.layout().journal_bytes;
        while mark.used < journal_bytes {
            let (mut start, mut skipped, mut next) = (mark.head, 0, read_record(ring, mark.head, &mark)?);
            let mut has_hole = matches!(next, Next::Unreadable);
            if !matches!(next, Next::Record(..)) && mark.head > 0 {
                (start, skipped, next) = (0, journal_bytes - mark.head, read_record(ring, 0, &mark)?);
                has_hole |= matches!(next, Next::Unreadable);
            }
            let Next::Record(record, chain, length) = next else {
                scan.ends_unreadable = has_hole;
                break;
            };
            let used = mark.used + skipped + length;
            if used > journal_bytes {
                break;
            }
            mark = Mark { number: record.number, chain, head: start + length, used };
            scan.found.push(Found { record, mark });
        }
        Ok(scan)
    }

    /// The highest record that any record of the ring, right by itself and later than `end`, says is durable. None is higher than
    /// `end`, or durable records behind it are rotten: whatever was left of an earlier life was found not to be durable then.
    pub(crate) fn durable_behind(ring: &mut Ring<'_>, end: u64) -> Result<u64, StorageError> {
        let layout = ring.layout();
        let mut highest = 0;
        let mut next = ring.next_data(0);
        // Most of it was never written, for a long time: no record begins there, and to read it costs as much as all else of an opening.
        while let Some(from) = next {
            // Whatever begins in the first part of the window ends in it.
            let size = (WINDOW + RECORD_MAX).min(layout.journal_bytes - from);
            let mut window = vec![0; usize::try_from(size).expect("a window is small")];
            ring.read(from, &mut window)?;
            for at in 0..window.len().min(usize::try_from(WINDOW).expect("a window is small")) {
                if let Some(record) = record_at(&window[at..], layout).filter(|record| record.number > end) {
                    highest = highest.max(record.durable);
                }
            }
            next = ring.next_data(from + WINDOW);
        }
        Ok(highest)
    }

    /// Goes on behind a record that was found, or behind the cut itself.
    pub(crate) fn resume(layout: &Layout, life: u64, cut: &Cut, last: Option<Mark>) -> Journal {
        let at_cut = Mark { number: cut.record, chain: cut.chain, head: cut.next_at, used: 0 };
        Journal { layout: *layout, life, mark: last.unwrap_or(at_cut) }
    }

    /// Where it is now.
    pub(crate) fn mark(&self) -> Mark {
        self.mark
    }

    /// What was needed before this mark is needed no more.
    pub(crate) fn release(&mut self, mark: &Mark) {
        self.mark.used -= mark.used;
    }

    /// The part of the ring that is used, in percent.
    pub(crate) fn used_percent(&self) -> u64 {
        self.mark.used * 100 / self.layout.journal_bytes
    }

    /// Whether so many bytes of records certainly fit now.
    pub(crate) fn has_room(&self, bytes: u64) -> bool {
        // The end of the ring may be skipped, up to what one record takes.
        self.mark.used + bytes + RECORD_MAX <= self.layout.journal_bytes
    }

    /// Whether so many bytes of records fit at all, behind a checkpoint.
    pub(crate) fn ever_has_room(&self, bytes: u64) -> bool {
        bytes + RECORD_MAX <= self.layout.journal_bytes / 2
    }

    /// Writes a group of records, for which there is room. After an error nobody knows what is there.
    pub(crate) fn append(
        &mut self,
        file: &dyn InPlaceFile,
        stamp: Stamp,
        changes: &[Change],
    ) -> Result<(), StorageError> {
        let max = usize::try_from(RECORD_MAX).expect("a record is small");
        let mut record = vec![0; HEADER];
        let (mut count, mut change) = (0, Vec::new());
        for one in changes {
            change.clear();
            put_change(&mut change, one);
            if record.len() + change.len() > max {
                self.write(file, stamp, std::mem::replace(&mut record, vec![0; HEADER]), count, false)?;
                count = 0;
            }
            record.extend_from_slice(&change);
            count += 1;
        }
        self.write(file, stamp, record, count, true)
    }

    fn write(
        &mut self,
        file: &dyn InPlaceFile,
        stamp: Stamp,
        mut bytes: Vec<u8>,
        changes: u32,
        is_last: bool,
    ) -> Result<(), StorageError> {
        let length = bytes.len() as u64;
        let ring = self.layout.journal_bytes;
        let Mark { number, chain, head, used } = self.mark;
        let (start, skipped) = if head + length <= ring { (head, 0) } else { (0, ring - head) };
        assert!(used + skipped + length <= ring, "the journal was said to have room for {length} bytes");
        let mut header = &mut bytes[..HEADER];
        header.put_u32(MAGIC);
        header.put_u32(u32::try_from(length).expect("a record is small"));
        header.put_u64(number + 1);
        header.put_u64(chain);
        header.put_u64(self.life);
        header.put_u64(stamp.durable);
        header.put_position(stamp.applied);
        let end_of_life = if stamp.is_end_of_life { END_OF_LIFE } else { 0 };
        header.put_u8(if is_last { LAST } else { 0 } | end_of_life);
        header.put_u32(changes);
        let chain = xxh3_64_with_seed(&bytes, self.layout.salt);
        bytes[CHECKSUM].copy_from_slice(&chain.to_le_bytes());
        file.write_all_at(self.layout.journal + start, &mut [IoSlice::new(&bytes)])?;
        self.mark = Mark { number: number + 1, chain, head: start + length, used: used + skipped + length };
        Ok(())
    }
}

/// A record that is right by itself, and where the journal is behind it.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) record: Record,
    pub(crate) mark: Mark,
}

/// All that are right by themselves, in their order.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    pub(crate) found: Vec<Found>,
    /// Whether there may be another one where the medium does not give back what is there.
    pub(crate) ends_unreadable: bool,
}

/// What is at a place of the ring.
#[derive(Debug)]
enum Next {
    /// The record that is looked for, its checksum, and its length.
    Record(Record, u64, u64),
    /// Another one, or none.
    Other,
    /// It may be the one.
    Unreadable,
}

/// Whether the record behind the mark is at this place.
fn read_record(ring: &mut Ring<'_>, at: u64, before: &Mark) -> Result<Next, StorageError> {
    let layout = ring.layout();
    if at + HEADER as u64 > layout.journal_bytes {
        return Ok(Next::Other);
    }
    let mut bytes = vec![0; HEADER];
    if ring.read(at, &mut bytes)? {
        return Ok(Next::Unreadable);
    }
    let max = RECORD_MAX.min(layout.journal_bytes - at);
    let Some(length) = length_of(&bytes, before).filter(|length| *length as u64 <= max) else {
        return Ok(Next::Other);
    };
    bytes.resize(length, 0);
    if ring.read(at, &mut bytes)? {
        return Ok(Next::Unreadable);
    }
    let parsed = parse(bytes, layout);
    Ok(parsed.map_or(Next::Other, |(record, checksum)| Next::Record(record, checksum, length as u64)))
}

/// Of a header that may be of the record that is looked for.
fn length_of(header: &[u8], before: &Mark) -> Option<usize> {
    let mut fields = Fields(header);
    let (magic, length) = (fields.u32()?, usize::try_from(fields.u32()?).ok()?);
    let is_it = magic == MAGIC && fields.u64()? == before.number + 1 && fields.u64()? == before.chain;
    (is_it && length >= HEADER).then_some(length)
}

/// The record that begins here, if one does: right by itself, whatever it follows.
fn record_at(bytes: &[u8], layout: &Layout) -> Option<Record> {
    let rest = bytes.strip_prefix(&MAGIC.to_le_bytes())?;
    let length = usize::try_from(Fields(rest).u32()?).ok().filter(|length| *length >= HEADER)?;
    parse(bytes.get(..length)?.to_vec(), layout).map(|(record, _)| record)
}

fn parse(mut bytes: Vec<u8>, layout: &Layout) -> Option<(Record, u64)> {
    let kept = u64::from_le_bytes(bytes[CHECKSUM].try_into().ok()?);
    bytes[CHECKSUM].fill(0);
    if xxh3_64_with_seed(&bytes, layout.salt) != kept {
        return None;
    }
    let mut fields = Fields(&bytes[8..]);
    let (number, _chain, _life, durable) = (fields.u64()?, fields.u64()?, fields.u64()?, fields.u64()?);
    let (applied, flags, count) = (fields.position()?, fields.u8()?, fields.u32()?);
    let (is_last, is_end_of_life) = (flags & LAST != 0, flags & END_OF_LIFE != 0);
    fields.u64()?;
    let mut changes = Vec::new();
    for _ in 0..count {
        changes.push(change(&mut fields, layout)?);
    }
    let is_all = fields.0.is_empty();
    is_all.then_some((Record { number, durable, applied, is_last, is_end_of_life, changes }, kept))
}

fn put_change(bytes: &mut Vec<u8>, change: &Change) {
    bytes.put_position(change.version);
    bytes.put_u48(change.block);
    bytes.put_u48(change.content.count());
    match &change.content {
        Changed::Never(_) => bytes.put_u8(NEVER),
        Changed::Zeros(_) => bytes.put_u8(ZEROS),
        Changed::Bytes { places, checksums, seals } => {
            bytes.put_u8(BYTES);
            bytes.put_u32(u32::try_from(places.len()).expect("a record is small"));
            for run in places {
                bytes.put_u48(run.start);
                bytes.put_u48(run.end - run.start);
            }
            put_checks(bytes, checksums, seals);
        }
        Changed::Lost { checksums, seals } => {
            bytes.put_u8(LOST);
            put_checks(bytes, checksums, seals);
        }
    }
}

fn put_checks(bytes: &mut Vec<u8>, checksums: &[u64], seals: &[Seal]) {
    checksums.iter().for_each(|checksum| bytes.put_u64(*checksum));
    seals.iter().for_each(|seal| bytes.put(seal));
}

/// A change that is possible in this region.
fn change(fields: &mut Fields<'_>, layout: &Layout) -> Option<Change> {
    let version = fields.position()?;
    let (block, count) = (fields.u48()?, fields.u48()?);
    if count == 0 || block + count > layout.geometry.blocks {
        return None;
    }
    let content = match fields.u8()? {
        NEVER => Changed::Never(count),
        ZEROS => Changed::Zeros(count),
        BYTES => {
            let (mut places, mut there) = (Vec::new(), 0);
            for _ in 0..fields.u32()? {
                let (start, length) = (fields.u48()?, fields.u48()?);
                if length == 0 || !layout.has(&(start..start + length)) {
                    return None;
                }
                there += length;
                places.push(start..start + length);
            }
            if there != count {
                return None;
            }
            let (checksums, seals) = checks(fields, layout, count)?;
            Changed::Bytes { places, checksums, seals }
        }
        LOST => {
            let (checksums, seals) = checks(fields, layout, count)?;
            Changed::Lost { checksums, seals }
        }
        _ => return None,
    };
    Some(Change { version, block, content })
}

/// Of each of these blocks a checksum, and a seal where the region has them.
fn checks(fields: &mut Fields<'_>, layout: &Layout, count: u64) -> Option<(Vec<u64>, Vec<Seal>)> {
    let checksums = (0..count).map(|_| fields.u64()).collect::<Option<_>>()?;
    let sealed = if layout.geometry.is_sealed { count } else { 0 };
    let seal = |_| fields.bytes(SEAL)?.try_into().ok();
    Some((checksums, (0..sealed).map(seal).collect::<Option<_>>()?))
}
