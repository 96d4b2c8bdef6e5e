//! Records of regions on disk: a file for each.
//!
//! ```text
//!   <state_dir>/regions/<region>.json      line 1: SHA-256 of line 2, in hex
//!                                          line 2: {"version":1,"record":{…}}
//! ```
//!
//! Only [`Regions`](super::Regions) writes, one call at a time for each region, by [`durable_fs::write_atomically`]; its steps are
//! [`PublishStep`](durable_fs::PublishStep)s of the procedure [`PROCEDURE`]. A crash after any of them leaves the old record or the new one. On
//! open what has a temporary name is removed. A record that cannot be read is never replaced: its region is refused to everybody until
//! a person has looked.

use super::types::{Record, State};
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

/// Bytes of a record at most. With eight members it has less than 2 KiB.
const BYTES_MAX: usize = 16 << 10;

/// What is known of a region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Known {
    /// This.
    Record(Box<Record>),
    /// Something, which cannot be read for this reason.
    Unreadable(String),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    version: u8,
    record: Record,
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
                    Ok(record) if record.region == region => Known::Record(Box::new(record)),
                    Ok(record) => Known::Unreadable(format!("it is that of region {}", record.region)),
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
        let line = Line { version: VERSION, record: record.clone() };
        let line = serde_json::to_string(&line).expect("a record is plain data");
        let bytes = format!("{}\n{line}\n", digest(line.as_bytes()));
        write_atomically(&self.storage, PROCEDURE, &file(record.region), bytes.as_bytes())
    }

    /// Forgets a region that was destroyed.
    ///
    /// # Errors
    /// If the disk refuses.
    ///
    /// # Panics
    /// If it was not destroyed.
    pub fn forget(&self, record: &Record) -> Result<(), StorageError> {
        assert!(record.state == State::Destroyed, "a region that may be there is remembered: {record:?}");
        self.storage.remove(&file(record.region))?;
        self.storage.sync_directory(Utf8Path::new(""))
    }
}

fn file(region: RegionId) -> Utf8PathBuf {
    Utf8PathBuf::from(format!("{region}{SUFFIX}"))
}

/// A record, or what is wrong with it.
fn read(storage: &dyn Storage, path: &Utf8Path) -> Result<Result<Record, String>, StorageError> {
    let file = storage.open(path)?;
    let mut bytes = vec![0; BYTES_MAX];
    let length = file.read_at(0, &mut bytes)?;
    Ok(parse(&bytes[..length]))
}

fn parse(bytes: &[u8]) -> Result<Record, String> {
    let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
    let (said, line) = text.split_once('\n').ok_or("it is cut off")?;
    let line = line.strip_suffix('\n').ok_or("it is cut off, or too long")?;
    if digest(line.as_bytes()) != said {
        return Err("its checksum is wrong".to_owned());
    }
    let Line { version, record } = serde_json::from_str(line).map_err(|error| error.to_string())?;
    if version == VERSION { Ok(record) } else { Err(format!("it has version {version}, and not {VERSION}")) }
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::with_capacity(64), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes all that is written");
        text
    })
}
