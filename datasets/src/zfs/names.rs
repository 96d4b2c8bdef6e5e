//! Names of ZFS datasets and snapshots. Owns what may stand on a command line: a name that was checked, and ids.
//!
//! ```text
//!   <pool>/…/<dataset>                       the root: an operator chose it
//!   <root>/<region>                          a region's dataset
//!   <root>/<region>@<snapshot>               its snapshot
//!   <root>/<region>.<snapshot>               the snapshot, open for reading: a clone
//!   <root>/new-…                             one of both that is not there yet: a crash has left it, or it is being made
//! ```

use crate::error::DatasetError;
use ids::{RegionId, SnapshotId};
use std::fmt;

/// Bytes of a root's name at most: ZFS takes 255 for a whole name, and two ids with their signs come after it.
const ROOT_BYTES_MAX: usize = 128;

/// What makes a name one of an unfinished procedure.
const NEW: &str = "new-";

/// The dataset below which those of regions are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Root {
    name: String,
}

/// What a name below the root says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    Root,
    Region(RegionId),
    Snapshot(RegionId, SnapshotId),
    Opened(RegionId, SnapshotId),
    Leftover,
    Stranger,
}

impl Root {
    /// Checks a name. It has a pool and a dataset, so that it never is the whole pool, and never looks like an option.
    pub(super) fn parse(name: &str) -> Result<Root, DatasetError> {
        let component = |part: &str| {
            part.starts_with(|c: char| c.is_ascii_alphanumeric())
                && part.chars().all(|c| c.is_ascii_alphanumeric() || "_-.:".contains(c))
        };
        let parts: Vec<_> = name.split('/').collect();
        // A pool's name begins with a letter.
        let pool = parts[0].starts_with(|c: char| c.is_ascii_alphabetic());
        if name.len() <= ROOT_BYTES_MAX && parts.len() >= 2 && pool && parts.into_iter().all(component) {
            Ok(Root { name: name.to_owned() })
        } else {
            Err(DatasetError::BadName { name: name.to_owned() })
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn pool(&self) -> &str {
        self.name.split_once('/').map_or(&self.name, |(pool, _)| pool)
    }

    pub(super) fn region(&self, region: RegionId) -> String {
        format!("{self}/{region}")
    }

    pub(super) fn snapshot(&self, region: RegionId, snapshot: SnapshotId) -> String {
        format!("{self}/{region}@{snapshot}")
    }

    pub(super) fn opened(&self, region: RegionId, snapshot: SnapshotId) -> String {
        format!("{self}/{region}.{snapshot}")
    }

    /// What a dataset or a clone is called before it counts.
    pub(super) fn unfinished(&self, name: &str) -> String {
        let last = name.rsplit_once('/').map_or(name, |(_, last)| last);
        format!("{self}/{NEW}{last}")
    }

    /// Reads a name that ZFS has told. Only the one way in which an id is written counts.
    pub(super) fn read(&self, name: &str) -> Name {
        if name == self.name {
            return Name::Root;
        }
        let Some(below) = name.strip_prefix(&self.name).and_then(|rest| rest.strip_prefix('/')) else {
            return Name::Stranger;
        };
        if let Some(rest) = below.strip_prefix(NEW) {
            return match self.read(&format!("{self}/{rest}")) {
                Name::Region(_) | Name::Opened(..) => Name::Leftover,
                _ => Name::Stranger,
            };
        }
        let pair = |(region, snapshot): (&str, &str)| Some((region.parse().ok()?, snapshot.parse().ok()?));
        let read = if let Some(parts) = below.split_once('@') {
            pair(parts).map(|(region, snapshot)| Name::Snapshot(region, snapshot))
        } else if let Some(parts) = below.split_once('.') {
            pair(parts).map(|(region, snapshot)| Name::Opened(region, snapshot))
        } else {
            below.parse().ok().map(Name::Region)
        };
        let written = match read {
            Some(Name::Region(region)) => self.region(region),
            Some(Name::Snapshot(region, snapshot)) => self.snapshot(region, snapshot),
            Some(Name::Opened(region, snapshot)) => self.opened(region, snapshot),
            _ => return Name::Stranger,
        };
        read.filter(|_| written == name).unwrap_or(Name::Stranger)
    }
}

impl fmt::Display for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_none_are_refused() {
        let long = format!("tank/{}", "a".repeat(124));
        let bad = [
            "",
            "tank",
            "/",
            "tank/",
            "/tank",
            "tank//a",
            "-r/tank",
            "tank/-r",
            "tank/..",
            "tank/a b",
            "tank/a;b",
            "tank/a@b",
            "tank/a\n",
            "tank/$(id)",
            "1tank/a",
            "tank/ä",
            &long,
        ];
        for name in bad {
            assert!(Root::parse(name).is_err_and(|error| error.code() == "bad_dataset_name"), "{name:?}");
        }
        for name in ["tank/bobsled", "t0/a/b-c_d.e:f", &long[..128]] {
            assert_eq!(Root::parse(name).unwrap().name(), name);
        }
        assert_eq!(Root::parse("tank/a/b").unwrap().pool(), "tank");
    }

    #[test]
    fn what_is_written_is_read_and_nothing_else_is_ours() {
        let root = Root::parse("tank/b").unwrap();
        let (region, snapshot) = (RegionId::generate(), SnapshotId::generate());
        assert_eq!(root.read("tank/b"), Name::Root);
        assert_eq!(root.read(&root.region(region)), Name::Region(region));
        assert_eq!(root.read(&root.snapshot(region, snapshot)), Name::Snapshot(region, snapshot));
        assert_eq!(root.read(&root.opened(region, snapshot)), Name::Opened(region, snapshot));
        for name in [root.region(region), root.opened(region, snapshot)] {
            assert_eq!(root.read(&root.unfinished(&name)), Name::Leftover);
        }
        let upper = root.region(region).to_uppercase();
        let others = [
            "tank".to_owned(),
            "tank/bb".to_owned(),
            "tank/b/notes".to_owned(),
            format!("tank/b/{region}/x"),
            format!("tank/b/{region}@daily"),
            format!("tank/b/{region}@{snapshot}x"),
            format!("tank/b@{snapshot}"),
            format!("tank/b/new-{region}@{snapshot}"),
            format!("tank/b/new-new-{region}"),
            "tank/b/new-year".to_owned(),
            upper.replace("TANK/B", "tank/b"),
        ];
        for name in others {
            assert_eq!(root.read(&name), Name::Stranger, "{name}");
        }
    }
}
