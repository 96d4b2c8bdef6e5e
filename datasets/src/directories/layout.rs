//! What is where on a disk of directories.
//!
//! ```text
//!   <root>/datasets.json                            the mark: it is this disk, and not the place where it is to be mounted
//!   <root>/lock                                     of the process that serves the regions, if there is one
//!   <root>/<region>/dataset.json                    what it was made with
//!   <root>/<region>/data/…                          the region's files
//!   <root>/<region>/snapshots/<snapshot>/data/…     the same files at a snapshot, sharing their blocks
//!   <root>/<region>/snapshots/<snapshot>/open       it is open for reading
//!   …/new-<id>                                      not there yet      ┐ what a crash leaves of a procedure:
//!   …/gone-<id>                                     not there any more ┘ whoever has the lock next removes it
//! ```
//!
//! | procedure | steps | after a crash there is |
//! |---|---|---|
//! | create | `new-` made; record in it, synced; **renamed**, synced | nothing; nothing; the dataset |
//! | destroy | **renamed** to `gone-`, synced; removed | nothing |
//! | snapshot | `new-` made, files shared, synced; **renamed**, synced | nothing; the snapshot |
//! | destroy a snapshot | **renamed** to `gone-`, synced; removed | nothing |
//!
//! Whoever changes something has the lock on the mark, in whichever process. Whoever looks needs none: a name that counts is
//! whole.

use camino::{Utf8Path, Utf8PathBuf};
use ids::{RegionId, SnapshotId};
use std::{fmt, str::FromStr};

/// The mark, relative to the root.
pub(super) const MARK: &str = "datasets.json";

/// What makes a name one of an unfinished procedure.
pub(super) const NEW: &str = "new-";
/// The same, for what is to be removed.
pub(super) const GONE: &str = "gone-";

/// Where a region's files are within its own directory, on every kind of disk. It is on the disk itself, so files of a disk that is not
/// mounted have no place. Written nowhere else.
pub(crate) const DATA: &str = "data";

/// Where a region's files are, below the directory of its disk: on every kind of disk.
#[must_use]
pub fn region_files(of: RegionId) -> Utf8PathBuf {
    data(&region(of))
}

/// The lock of whoever serves the disk's regions; its own affair.
const SERVERS_LOCK: &str = "lock";

/// What ext makes on each of its file systems.
const LOST_AND_FOUND: &str = "lost+found";

/// The socket of whoever serves the disk's regions; its own affair, too.
const SERVERS_SOCKET: &str = "downstairs.control";

/// What a name at a place of datasets, or of snapshots, says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Name<Id> {
    /// A dataset or a snapshot.
    Of(Id),
    /// What is left of an unfinished procedure.
    Leftover,
    /// The disk's own, or that of whoever serves it.
    Own,
    /// Neither.
    Stranger,
}

/// Reads a name. Only the one way in which an id is written counts, so that each has one name.
pub(super) fn read<Id: FromStr + fmt::Display>(name: &str) -> Name<Id> {
    let id = |text: &str| text.parse::<Id>().ok().filter(|id| id.to_string() == text);
    if let Some(id) = id(name) {
        return Name::Of(id);
    }
    let rest = name.strip_prefix(NEW).or_else(|| name.strip_prefix(GONE));
    if rest.and_then(id).is_some() {
        Name::Leftover
    } else if name == LOST_AND_FOUND
        || [SERVERS_LOCK, SERVERS_SOCKET].contains(&name)
        || name.starts_with(MARK)
    {
        Name::Own
    } else {
        Name::Stranger
    }
}

/// A region's directory, relative to the root.
pub(super) fn region(region: RegionId) -> Utf8PathBuf {
    region.to_string().into()
}

/// Where its snapshots are.
pub(super) fn snapshots(of: RegionId) -> Utf8PathBuf {
    region(of).join("snapshots")
}

/// A snapshot's directory.
pub(super) fn snapshot(of: RegionId, snapshot: SnapshotId) -> Utf8PathBuf {
    snapshots(of).join(snapshot.to_string())
}

/// The record within a region's directory, whatever that is called now.
pub(super) fn record(directory: &Utf8Path) -> Utf8PathBuf {
    directory.join("dataset.json")
}

/// The files within a region's or a snapshot's directory.
pub(super) fn data(directory: &Utf8Path) -> Utf8PathBuf {
    directory.join(DATA)
}

/// The sign within a snapshot's directory that it is open.
pub(super) fn open_sign(directory: &Utf8Path) -> Utf8PathBuf {
    directory.join("open")
}

/// The name beside `path` that it has before it counts, or after.
pub(super) fn beside(path: &Utf8Path, prefix: &str) -> Utf8PathBuf {
    let name = path.file_name().unwrap_or_default();
    path.with_file_name(format!("{prefix}{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_one_way_to_write_an_id_is_a_name() {
        let id = RegionId::generate();
        let text = id.to_string();
        assert_eq!(read::<RegionId>(&text), Name::Of(id));
        assert_eq!(read::<RegionId>(&format!("new-{text}")), Name::Leftover);
        assert_eq!(read::<RegionId>(&format!("gone-{text}")), Name::Leftover);
        for name in
            [text.to_uppercase(), text.replace('-', ""), format!("{{{text}}}"), format!("urn:uuid:{text}")]
        {
            assert_eq!(read::<RegionId>(&name), Name::Stranger, "{name}");
            assert_eq!(read::<RegionId>(&format!("new-{name}")), Name::Stranger, "{name}");
        }
        for name in ["", "..", "new-", "new-year", "gone-fishing", "-rf", "data"] {
            assert_eq!(read::<RegionId>(name), Name::Stranger, "{name}");
        }
        assert_eq!(read::<RegionId>("lost+found"), Name::Own);
        assert_eq!(read::<RegionId>(MARK), Name::Own);
        assert_eq!(read::<RegionId>("lock"), Name::Own);
        assert_eq!(read::<RegionId>("downstairs.control"), Name::Own);
    }

    #[test]
    fn a_name_beside_stays_in_its_directory() {
        let id = RegionId::generate();
        assert_eq!(beside(&region(id), NEW), format!("new-{id}"));
        let of = SnapshotId::generate();
        assert_eq!(beside(&snapshot(id, of), GONE), format!("{id}/snapshots/gone-{of}"));
    }
}
