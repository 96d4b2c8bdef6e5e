//! `verified.log`: which bytes were verified when, so that a start needs no hashing.
//!
//! One line for each fact, checksummed (the first 16 hex digits of the SHA-256 of what follows the checksum):
//!
//! ```text
//! 1 <checksum> verified <hash> <size> <modified_ns> <verified_at_ms>
//! 1 <checksum> revoked <hash>
//! 1 <checksum> config <cluster> <generation>
//! ```
//! **Who writes:** whoever verified a copy appends its line, only *after* the file and its directory are durable, and
//! without a sync. Whoever finds a copy wrong, or in doubt, appends a `revoked` line, so that it is hashed before it counts
//! again even if the power goes before it is set aside (if that line is lost, it is as if nobody had found out yet, and
//! readers find out again). The keeper appends a `config` line after a ledger is durable. Admission compacts, and so does
//! whoever makes the log much longer than what it says.
//!
//! **Why no sync is needed.** A line can only be missing, never early: it claims that the file of that name, while it has
//! that size and time of change, holds bytes that were hashed. If the line is lost, the file has no record, is not
//! listed, and is hashed again: time is lost, nothing else. If an older line survives in its place, its time of change is
//! another one and it does not fit. If the *file* is lost or torn, it is not a file that was synced, so no line of its
//! time of change was written.
//!
//! **The rule on open:** lines that do not parse or whose checksum is wrong (torn by a crash, damaged) are skipped; of
//! two lines about one artifact the later counts. A file whose size and time of change fit its line counts as verified;
//! all others are hashed first. `config` lines are the memory of how far generations had come if every ledger should be
//! damaged: the store never accepts a lower one.
//!
//! | step of compaction | a crash right after it leaves |
//! |---|---|
//! | those of [`durable_fs::write_atomically`] (procedure `records`) | the long log or the short one |

use crate::layout;
use camino::Utf8Path;
use durable_fs::{FileMetadata, Storage, StorageError, write_atomically};
use ids::{ArtifactHash, ClusterId, Generation};
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use std::{collections::BTreeMap, fmt::Write as _, sync::Arc};

/// The version of a line; a line of another one is skipped, which costs a hashing.
const FORMAT: &str = "1";
/// The log's name in the announced steps of compaction.
pub(crate) const PROCEDURE: &str = "records";
/// A log is compacted when it has this many lines more than twice what it needs.
const SPARE_LINES: usize = 256;
/// The largest log that is read; a longer one is damage, and costs the hashing of everything.
const LOG_BYTES_MAX: u64 = 256 << 20;

/// That the bytes of an artifact's file were verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    /// The file's size then.
    pub(crate) size: u64,
    /// Its time of change then.
    pub(crate) modified_ns: i64,
    /// When it was verified.
    pub(crate) verified_at: Timestamp,
}

impl Record {
    /// Whether the file is still the one that was verified, as far as can be told without reading it.
    pub(crate) fn fits(&self, metadata: &FileMetadata) -> bool {
        self.size == metadata.size && self.modified_ns == metadata.modified_ns
    }
}

/// The highest generation that is known to have been in force, and whose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Floor {
    /// The cluster.
    pub(crate) cluster_id: ClusterId,
    /// The generation.
    pub(crate) generation: Generation,
}

/// The records of one dataset, and how long their log is.
#[derive(Debug, Default)]
pub(crate) struct RecordLog {
    records: BTreeMap<ArtifactHash, Record>,
    floor: Option<Floor>,
    lines: usize,
    unparsable: usize,
}

impl RecordLog {
    /// Reads a dataset's log; a missing one is empty.
    pub(crate) fn load(storage: &dyn Storage) -> Result<RecordLog, StorageError> {
        let file = match storage.open(Utf8Path::new(layout::RECORDS)) {
            Err(error) if error.is_not_found() => return Ok(RecordLog::default()),
            other => other?,
        };
        let size = file.metadata()?.size.min(LOG_BYTES_MAX);
        let mut bytes = vec![0; usize::try_from(size).unwrap_or(0)];
        let read = file.read_at(0, &mut bytes)?;
        Ok(RecordLog::parse(&bytes[..read]))
    }

    fn parse(bytes: &[u8]) -> RecordLog {
        let mut log = RecordLog::default();
        // The last line counts only with its line feed: without, the next append would grow onto it.
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        log.unparsable += usize::from(whole < bytes.len());
        for line in bytes[..whole].split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            log.lines += 1;
            match std::str::from_utf8(line).ok().and_then(parse_line) {
                Some(Line::Verified(hash, record)) => drop(log.records.insert(hash, record)),
                Some(Line::Revoked(hash)) => drop(log.records.remove(&hash)),
                Some(Line::Config(floor)) => log.raise_floor(floor),
                None => log.unparsable += 1,
            }
        }
        log
    }

    /// The record of an artifact.
    pub(crate) fn get(&self, hash: &ArtifactHash) -> Option<&Record> {
        self.records.get(hash)
    }

    /// How far generations are known to have come.
    pub(crate) fn floor(&self) -> Option<Floor> {
        self.floor
    }

    /// Records that a copy was verified. Call only when the copy is durable.
    pub(crate) fn verified(
        &mut self,
        storage: &dyn Storage,
        hash: ArtifactHash,
        record: Record,
    ) -> Result<(), StorageError> {
        self.records.insert(hash, record);
        self.append(storage, &verified_line(&hash, &record))
    }

    /// Takes a record back: the copy is wrong, or in doubt.
    pub(crate) fn revoke(&mut self, storage: &dyn Storage, hash: &ArtifactHash) -> Result<(), StorageError> {
        if self.records.remove(hash).is_none() {
            return Ok(());
        }
        self.append(storage, &line(&format!("revoked {hash}")))
    }

    /// Records that a config was in force. Call only when a ledger with it is durable.
    pub(crate) fn in_force(&mut self, storage: &dyn Storage, floor: Floor) -> Result<(), StorageError> {
        self.raise_floor(floor);
        self.append(storage, &config_line(&floor))
    }

    /// Forgets an artifact whose file is gone. In memory only: its line stays until compaction, and fits no file that is
    /// written from now on.
    pub(crate) fn forget(&mut self, hash: &ArtifactHash) {
        self.records.remove(hash);
    }

    /// Whether most of the log is of no use any more.
    pub(crate) fn wants_compaction(&self) -> bool {
        self.unparsable > 0 || self.lines > 2 * self.records.len() + SPARE_LINES
    }

    /// Writes the log anew with the records for which `keep` says so.
    pub(crate) fn compact(
        &mut self,
        storage: &Arc<dyn Storage>,
        keep: impl Fn(&ArtifactHash) -> bool,
    ) -> Result<(), StorageError> {
        self.records.retain(|hash, _| keep(hash));
        let mut text = self.floor.map(|floor| config_line(&floor)).unwrap_or_default();
        for (hash, record) in &self.records {
            text.push_str(&verified_line(hash, record));
        }
        write_atomically(storage, PROCEDURE, Utf8Path::new(layout::RECORDS), text.as_bytes())?;
        self.lines = self.records.len() + usize::from(self.floor.is_some());
        self.unparsable = 0;
        Ok(())
    }

    fn append(&mut self, storage: &dyn Storage, line: &str) -> Result<(), StorageError> {
        self.lines += 1;
        storage.open_append(Utf8Path::new(layout::RECORDS))?.write_all(line.as_bytes())
    }

    /// The cluster of the later line counts: a store changes its cluster only by being emptied.
    fn raise_floor(&mut self, floor: Floor) {
        match self.floor {
            Some(known) if known.cluster_id == floor.cluster_id && known.generation > floor.generation => {}
            _ => self.floor = Some(floor),
        }
    }
}

enum Line {
    Verified(ArtifactHash, Record),
    Revoked(ArtifactHash),
    Config(Floor),
}

fn verified_line(hash: &ArtifactHash, record: &Record) -> String {
    let Record { size, modified_ns, verified_at } = record;
    line(&format!("verified {hash} {size} {modified_ns} {}", verified_at.as_millisecond()))
}

fn config_line(floor: &Floor) -> String {
    line(&format!("config {} {}", floor.cluster_id, floor.generation))
}

fn line(fact: &str) -> String {
    format!("{FORMAT} {} {fact}\n", checksum(fact))
}

fn checksum(fact: &str) -> String {
    let mut text = String::with_capacity(16);
    for byte in &Sha256::digest(fact)[..8] {
        write!(text, "{byte:02x}").expect("a String takes everything");
    }
    text
}

fn parse_line(line: &str) -> Option<Line> {
    let (format, rest) = line.split_once(' ')?;
    let (sum, fact) = rest.split_once(' ')?;
    if format != FORMAT || sum != checksum(fact) {
        return None;
    }
    let words: Vec<&str> = fact.split(' ').collect();
    match words[..] {
        ["verified", hash, size, modified_ns, verified_at] => Some(Line::Verified(
            hash.parse().ok()?,
            Record {
                size: size.parse().ok()?,
                modified_ns: modified_ns.parse().ok()?,
                verified_at: Timestamp::from_millisecond(verified_at.parse().ok()?).ok()?,
            },
        )),
        ["revoked", hash] => Some(Line::Revoked(hash.parse().ok()?)),
        ["config", cluster, generation] => Some(Line::Config(Floor {
            cluster_id: cluster.parse().ok()?,
            generation: Generation(generation.parse().ok()?),
        })),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use durable_fs::SimMachine;

    fn record(size: u64) -> Record {
        Record { size, modified_ns: 5, verified_at: Timestamp::from_millisecond(1_700_000_000_000).unwrap() }
    }

    #[test]
    fn later_lines_count_and_survive_compaction() {
        let storage: Arc<dyn Storage> = Arc::new(SimMachine::new().add_disk(1 << 20));
        let (a, b) = (ArtifactHash([1; 32]), ArtifactHash([2; 32]));
        let floor = |generation| Floor {
            cluster_id: ClusterId(uuid::Uuid::from_u128(1)),
            generation: Generation(generation),
        };
        let mut log = RecordLog::load(&*storage).unwrap();
        for size in 1..=300 {
            log.verified(&*storage, a, record(size)).unwrap();
        }
        log.verified(&*storage, b, record(9)).unwrap();
        log.in_force(&*storage, floor(4)).unwrap();
        log.in_force(&*storage, floor(3)).unwrap();
        let mut log = RecordLog::load(&*storage).unwrap();
        assert!(log.wants_compaction());
        log.compact(&storage, |hash| *hash == a).unwrap();
        assert!(!log.wants_compaction());
        let log = RecordLog::load(&*storage).unwrap();
        assert_eq!((log.get(&a), log.get(&b)), (Some(&record(300)), None));
        assert_eq!(log.floor(), Some(floor(4)));
        assert!(!log.wants_compaction());
    }

    #[test]
    fn a_revoked_record_does_not_come_back() {
        let storage: Arc<dyn Storage> = Arc::new(SimMachine::new().add_disk(1 << 20));
        let (a, b) = (ArtifactHash([1; 32]), ArtifactHash([2; 32]));
        let mut log = RecordLog::default();
        for hash in [a, b] {
            log.verified(&*storage, hash, record(1)).unwrap();
            log.revoke(&*storage, &hash).unwrap();
        }
        log.verified(&*storage, b, record(2)).unwrap();
        let read = RecordLog::load(&*storage).unwrap();
        for log in [log, read] {
            assert_eq!((log.get(&a), log.get(&b)), (None, Some(&record(2))));
        }
    }

    #[test]
    fn torn_and_flipped_lines_are_skipped_and_the_rest_is_read() {
        let hashes = [ArtifactHash([1; 32]), ArtifactHash([2; 32]), ArtifactHash([3; 32])];
        let text: String = hashes.iter().map(|hash| verified_line(hash, &record(7))).collect();
        let one = text.len() / 3;
        for cut in 0..one {
            let log = RecordLog::parse(&text.as_bytes()[..text.len() - 1 - cut]);
            assert_eq!((log.records.len(), log.get(&hashes[2])), (2, None), "cut by {}", cut + 1);
        }
        for offset in one..2 * one - 1 {
            let mut bytes = text.clone().into_bytes();
            bytes[offset] ^= 1;
            let log = RecordLog::parse(&bytes);
            assert_eq!(log.get(&hashes[1]), None, "flip at {offset}");
            assert!(log.get(&hashes[0]).is_some() && log.get(&hashes[2]).is_some());
            assert!(log.wants_compaction(), "a damaged log is written anew");
        }
    }
}
