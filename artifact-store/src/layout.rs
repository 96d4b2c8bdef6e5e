//! Where things are in a dataset, and what their names say. Knows names only; who writes what is said in each owner.
//!
//! ```text
//! <dataset>/
//!   artifacts/<64 hex>                 one artifact, mode 0444; the name is the SHA-256 of the bytes   (write, repair)
//!   tmp/<64 hex>.<number>              being written; worthless after a crash; emptied on admission    (write, repair)
//!   trash/<64 hex>.<milliseconds>      nobody wanted it any more since then                            (trash)
//!   quarantine/<64 hex>.<milliseconds> did not hash to its name; found out then                        (trash)
//!   config.json                        what the store should hold                                      (ledger)
//!   verified.log                       which bytes were verified when                                  (records)
//! ```
//! Entries with other names are left alone.

use camino::{Utf8Path, Utf8PathBuf};
use ids::ArtifactHash;
use jiff::Timestamp;

/// Artifacts under their final names.
pub(crate) const ARTIFACTS: &str = "artifacts";
/// Writes in progress.
pub(crate) const TEMPORARY: &str = "tmp";
/// What nobody wants any more.
pub(crate) const TRASH: &str = "trash";
/// What turned out wrong.
pub(crate) const QUARANTINE: &str = "quarantine";
/// The ledger of the config.
pub(crate) const LEDGER: &str = "config.json";
/// The record of verifications.
pub(crate) const RECORDS: &str = "verified.log";

/// The directories of a dataset, in the order in which they are made.
pub(crate) const DIRECTORIES: [&str; 4] = [ARTIFACTS, TEMPORARY, TRASH, QUARANTINE];

/// The directories whose entries mean something after a crash: the dataset's own, and all of [`DIRECTORIES`] but `tmp`.
pub(crate) const DURABLE_DIRECTORIES: [&str; 4] = ["", ARTIFACTS, TRASH, QUARANTINE];

/// The path of an artifact.
pub(crate) fn artifact(hash: &ArtifactHash) -> Utf8PathBuf {
    Utf8Path::new(ARTIFACTS).join(hash.to_string())
}

/// The path of a write in progress.
pub(crate) fn temporary(hash: &ArtifactHash, number: u64) -> Utf8PathBuf {
    Utf8Path::new(TEMPORARY).join(format!("{hash}.{number}"))
}

/// An artifact that was set aside at some time, in the trash or in quarantine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SetAside {
    /// When, to the millisecond. First, so that the oldest sort first.
    pub(crate) since: Timestamp,
    /// What it was stored as.
    pub(crate) hash: ArtifactHash,
}

impl SetAside {
    /// `hash`, set aside at `since`, cut to what the name can say.
    pub(crate) fn new(hash: ArtifactHash, since: Timestamp) -> SetAside {
        let since = Timestamp::from_millisecond(since.as_millisecond()).unwrap_or(since);
        SetAside { since, hash }
    }

    /// Its path in `directory`.
    pub(crate) fn path(&self, directory: &str) -> Utf8PathBuf {
        Utf8Path::new(directory).join(format!("{}.{}", self.hash, self.since.as_millisecond()))
    }

    /// What a file name says; `None` for a name that is none of ours.
    pub(crate) fn parse(name: &str) -> Option<SetAside> {
        let (hash, milliseconds) = name.split_once('.')?;
        let since = Timestamp::from_millisecond(milliseconds.parse().ok()?).ok()?;
        Some(SetAside { since, hash: hash.parse().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_they_were_made_of() {
        let aside = SetAside::new(
            ArtifactHash([7; 32]),
            Timestamp::from_nanosecond(1_700_000_000_123_456_789).unwrap(),
        );
        let path = aside.path(TRASH);
        assert_eq!(SetAside::parse(path.file_name().unwrap()), Some(aside));
        for foreign in ["", "a.1", &format!("{}.x", aside.hash), &aside.hash.to_string(), "lost+found"] {
            assert_eq!(SetAside::parse(foreign), None, "{foreign}");
        }
    }
}
