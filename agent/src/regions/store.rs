//! Records of regions on disk: a file for each.
//!
//! ```text
//!   <state_dir>/regions/<region>.json      line 1: SHA-256 of line 2, in hex
//!                                          line 2: {"version":1,"record":{…}}
//!                                              or: {"version":1,"tombstone":{…}}, of one that was never made
//! ```
//!
//! Only [`Regions`](super::Regions) writes, one call at a time for each region, by [`durable_fs::write_atomically`]; its steps are
//! [`PublishStep`](durable_fs::PublishStep)s of the procedure [`PROCEDURE`]. A crash after any of them leaves the old record or the new one. On
//! open what has a temporary name is removed. A record that cannot be read is never replaced: its region is refused to everybody until
//! a person has looked.

use super::types::{Record, State, Tombstone};
use camino::{Utf8Path, Utf8PathBuf};
use durable_fs::{Storage, StorageError, write_atomically};
use ids::RegionId;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{collections::BTreeMap, fmt::Write, sync::Arc};

/// What the writing of a record is called in the storage's steps.
pub const PROCEDURE: &str = "region-record";

/// The files' format.
const VERSION: u8 = 1;

/// What the names of records end with, and those of unfinished ones.
const SUFFIX: &str = ".json";
const UNFINISHED: &str = ".json.new";

/// Bytes of a record at most. With eight members it has less than 2 KiB, and 10 KiB more with all the deleted snapshots that it may have.
const BYTES_MAX: usize = 16 << 10;

/// What is known of a region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Known {
    /// This.
    Record(Box<Record>),
    /// That it was to be destroyed, and was never made.
    Tombstone(Tombstone),
    /// Something, which cannot be read for this reason.
    Unreadable(String),
}

impl Known {
    /// Whether nothing of it is there, for certain.
    pub(super) fn is_gone(&self) -> bool {
        match self {
            Known::Record(record) => record.state == State::Destroyed,
            Known::Tombstone(_) => true,
            Known::Unreadable(_) => false,
        }
    }
}

/// It has one of the two.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    version: u8,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    record: Option<Record>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tombstone: Option<Tombstone>,
}

/// The directory of records.
#[derive(Clone, Debug)]
pub struct Records {
    storage: Arc<dyn Storage>,
}

impl Records {
    /// Those that are there.
    ///
    /// # Errors
    /// If the directory cannot be read.
    pub fn open(storage: Arc<dyn Storage>) -> Result<(Records, BTreeMap<RegionId, Known>), StorageError> {
        let mut all = BTreeMap::new();
        for entry in storage.list(Utf8Path::new(""))? {
            let path = Utf8PathBuf::from(&entry.name);
            let region = |suffix: &str| entry.name.strip_suffix(suffix)?.parse::<RegionId>().ok();
            if region(UNFINISHED).is_some() {
                storage.remove(&path)?;
            } else if let Some(region) = region(SUFFIX).filter(|region| file(*region) == path) {
                let known = match read(storage.as_ref(), &path)? {
                    Ok((of, known)) if of == region => known,
                    Ok((other, _)) => Known::Unreadable(format!("it is that of region {other}")),
                    Err(why) => Known::Unreadable(why),
                };
                all.insert(region, known);
            }
        }
        Ok((Records { storage }, all))
    }

    /// Keeps a record, durably, in the place of the one before.
    ///
    /// # Errors
    /// If the disk refuses; then the old one or the new one is there.
    pub fn put(&self, record: &Record) -> Result<(), StorageError> {
        self.write(record.region, &Line { version: VERSION, record: Some(record.clone()), tombstone: None })
    }

    /// Keeps, durably, that a region was to be destroyed that was never made.
    ///
    /// # Errors
    /// As for a record.
    pub fn bury(&self, tombstone: Tombstone) -> Result<(), StorageError> {
        self.write(tombstone.region, &Line { version: VERSION, record: None, tombstone: Some(tombstone) })
    }

    fn write(&self, region: RegionId, line: &Line) -> Result<(), StorageError> {
        let line = serde_json::to_string(line).expect("a record is plain data");
        let bytes = format!("{}\n{line}\n", digest(line.as_bytes()));
        write_atomically(&self.storage, PROCEDURE, &file(region), bytes.as_bytes())
    }

    /// Forgets a region of which nothing is there.
    ///
    /// # Errors
    /// If the disk refuses.
    ///
    /// # Panics
    /// If something may be there.
    pub fn forget(&self, region: RegionId, known: &Known) -> Result<(), StorageError> {
        assert!(known.is_gone(), "a region that may be there is remembered: {region}: {known:?}");
        self.storage.remove(&file(region))?;
        self.storage.sync_directory(Utf8Path::new(""))
    }
}

fn file(region: RegionId) -> Utf8PathBuf {
    Utf8PathBuf::from(format!("{region}{SUFFIX}"))
}

/// Whose it is and what it says, or what is wrong with it.
fn read(storage: &dyn Storage, path: &Utf8Path) -> Result<Result<(RegionId, Known), String>, StorageError> {
    let file = storage.open(path)?;
    let mut bytes = vec![0; BYTES_MAX];
    let length = file.read_at(0, &mut bytes)?;
    Ok(parse(&bytes[..length]))
}

fn parse(bytes: &[u8]) -> Result<(RegionId, Known), String> {
    let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
    let (said, line) = text.split_once('\n').ok_or("it is cut off")?;
    let line = line.strip_suffix('\n').ok_or("it is cut off, or too long")?;
    if digest(line.as_bytes()) != said {
        return Err("its checksum is wrong".to_owned());
    }
    let Line { version, record, tombstone } =
        serde_json::from_str(line).map_err(|error| error.to_string())?;
    if version != VERSION {
        return Err(format!("it has version {version}, and not {VERSION}"));
    }
    match (record, tombstone) {
        (Some(record), None) => Ok((record.region, Known::Record(Box::new(record)))),
        (None, Some(tombstone)) => Ok((tombstone.region, Known::Tombstone(tombstone))),
        (Some(_), Some(_)) | (None, None) => Err("it is neither a record nor a tombstone".to_owned()),
    }
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::with_capacity(64), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes all that is written");
        text
    })
}
