//! What `zfs get` tells of all that is below the root. Owns that format; pure.

use super::names::{Name, Root};
use crate::{
    directories::room::margin_bytes,
    types::{DiskSpace, STRANGERS_MAX, Size, Stranger},
};
use camino::Utf8PathBuf;
use ids::{RegionId, SnapshotId};
use std::collections::{BTreeMap, BTreeSet};

/// The property that says that a dataset is ours, and how it is to be read.
pub(super) const VERSION_PROPERTY: &str = "bobsled:version";
/// Its value: the only one that is known.
pub(super) const VERSION: &str = "1";

/// What is asked for, in `zfs get`'s words.
pub(super) const PROPERTIES: &str =
    "type,used,available,quota,reservation,mountpoint,mounted,origin,readonly,bobsled:version";

/// One dataset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) size: Size,
    pub(super) used_bytes: u64,
    pub(super) available_bytes: u64,
    /// `None` if it is mounted by other means than ZFS's own.
    pub(super) mountpoint: Option<Utf8PathBuf>,
    /// The property itself.
    pub(super) mountpoint_said: String,
    pub(super) mounted: bool,
    pub(super) read_only: bool,
    /// The snapshot that it is a clone of.
    pub(super) origin: Option<String>,
}

/// All that is below the root.
#[derive(Clone, Debug)]
pub(super) struct Inventory {
    pub(super) root: Entry,
    pub(super) datasets: BTreeMap<RegionId, Entry>,
    pub(super) snapshots: BTreeMap<RegionId, BTreeSet<SnapshotId>>,
    /// Snapshots that are open: our clones.
    pub(super) opened: BTreeMap<(RegionId, SnapshotId), Entry>,
    /// Other clones below the root, by the snapshot that they depend on.
    others: BTreeMap<String, Entry>,
    /// Names of what is not there yet.
    pub(super) leftovers: Vec<String>,
    pub(super) strangers: Vec<Stranger>,
}

type Properties<'a> = BTreeMap<&'a str, &'a str>;

impl Inventory {
    /// Reads lines of `name <tab> property <tab> value`.
    pub(super) fn read(root: &Root, lines: &str) -> Result<Inventory, String> {
        let mut all: BTreeMap<&str, Properties<'_>> = BTreeMap::new();
        for line in lines.lines() {
            let mut words = line.splitn(3, '\t');
            let (Some(name), Some(property), Some(value)) = (words.next(), words.next(), words.next()) else {
                return Err(format!("{line:?} is no line of `zfs get`"));
            };
            all.entry(name).or_default().insert(property, value);
        }
        let of_root = all.get(root.name()).ok_or_else(|| format!("it tells nothing of {root}"))?;
        let mut inventory = Inventory {
            root: entry(of_root).map_err(|why| format!("{root}: {why}"))?,
            datasets: BTreeMap::new(),
            snapshots: BTreeMap::new(),
            opened: BTreeMap::new(),
            others: BTreeMap::new(),
            leftovers: Vec::new(),
            strangers: Vec::new(),
        };
        for (name, properties) in &all {
            inventory.add(root, name, properties);
        }
        Ok(inventory)
    }

    fn add(&mut self, root: &Root, name: &str, properties: &Properties<'_>) {
        let read = entry(properties);
        let added = match root.read(name) {
            Name::Root => Ok(()),
            Name::Leftover => {
                self.leftovers.push(name.to_owned());
                Ok(())
            }
            Name::Stranger => Err("its name is none that is made here".to_owned()),
            Name::Snapshot(region, snapshot) => {
                self.snapshots.entry(region).or_default().insert(snapshot);
                Ok(())
            }
            Name::Opened(region, snapshot) => {
                let origin = root.snapshot(region, snapshot);
                let is_of = |entry: Entry| match entry.origin.as_deref() {
                    Some(of) if of == origin => Ok(entry),
                    _ => Err(format!("it is no clone of {origin}")),
                };
                ours(properties).and(read.clone()).and_then(is_of).map(|entry| {
                    self.opened.insert((region, snapshot), entry);
                })
            }
            Name::Region(region) => ours(properties).and(read.clone()).map(|entry| {
                self.datasets.insert(region, entry);
            }),
        };
        let Err(why) = added else { return };
        if let Ok(entry) = read
            && let Some(origin) = entry.origin.clone()
        {
            self.others.insert(origin, entry);
        }
        if self.strangers.len() < STRANGERS_MAX {
            self.strangers.push(Stranger { name: name.to_owned(), why });
        }
    }

    /// Whether that dataset, of a region or of a snapshot that is open, is there.
    pub(super) fn has(&self, root: &Root, name: &str) -> bool {
        match root.read(name) {
            Name::Region(region) => self.datasets.contains_key(&region),
            Name::Opened(region, snapshot) => self.opened.contains_key(&(region, snapshot)),
            Name::Snapshot(region, snapshot) => self.has_snapshot(region, snapshot),
            Name::Leftover => self.leftovers.iter().any(|leftover| leftover == name),
            Name::Root | Name::Stranger => true,
        }
    }

    /// A clone that depends on the snapshot, ours or not.
    pub(super) fn clone_of(&self, root: &Root, region: RegionId, snapshot: SnapshotId) -> Option<&Entry> {
        let other = || self.others.get(&root.snapshot(region, snapshot));
        self.opened.get(&(region, snapshot)).or_else(other)
    }

    /// Whether the region has that snapshot.
    pub(super) fn has_snapshot(&self, region: RegionId, snapshot: SnapshotId) -> bool {
        self.snapshots.get(&region).is_some_and(|snapshots| snapshots.contains(&snapshot))
    }

    /// A stranger that has this name, or a name below it, or is a snapshot of it.
    pub(super) fn stranger_at(&self, name: &str) -> Option<&Stranger> {
        let at = |stranger: &&Stranger| {
            stranger
                .name
                .strip_prefix(name)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '@']))
        };
        self.strangers.iter().find(at)
    }

    /// The disk's books. `pool` is the entry of the whole pool.
    pub(super) fn space(&self, pool: &Entry) -> DiskSpace {
        let sum = |of: fn(&Entry) -> u64| self.datasets.values().map(of).fold(0, u64::saturating_add);
        // ZFS counts what is reserved and not written yet as used: of the root, and not of the dataset.
        let open = sum(|entry| entry.size.reservation_bytes.saturating_sub(entry.used_bytes));
        let pool_bytes = pool.used_bytes.saturating_add(pool.available_bytes);
        // What others have in the pool is taken, unless the root has a part of its own.
        let capacity_bytes = match self.root.size.quota_bytes {
            0 => pool_bytes,
            quota => pool_bytes.min(quota),
        };
        let available_bytes = self.root.available_bytes.saturating_add(open);
        DiskSpace {
            capacity_bytes,
            used_bytes: capacity_bytes.saturating_sub(available_bytes),
            available_bytes,
            reserved_bytes: sum(|entry| entry.size.reservation_bytes),
            reservable_bytes: self.reservable_bytes(capacity_bytes),
        }
    }

    /// What may still be reserved: some is left for what ZFS writes itself, even to delete.
    pub(super) fn reservable_bytes(&self, capacity_bytes: u64) -> u64 {
        self.root.available_bytes.saturating_sub(margin_bytes(capacity_bytes))
    }
}

/// One dataset alone, such as the pool's own.
pub(super) fn read_one(lines: &str) -> Result<Entry, String> {
    let properties = lines.lines().filter_map(|line| {
        let mut words = line.splitn(3, '\t').skip(1);
        Some((words.next()?, words.next()?))
    });
    entry(&properties.collect())
}

fn ours(properties: &Properties<'_>) -> Result<(), String> {
    match properties.get(VERSION_PROPERTY) {
        Some(&VERSION) if properties.get("type") == Some(&"filesystem") => Ok(()),
        Some(&"-") | None => Err(format!("it has no property {VERSION_PROPERTY}")),
        Some(version) => Err(format!("its {VERSION_PROPERTY} is {version}, and only {VERSION} is known")),
    }
}

fn entry(properties: &Properties<'_>) -> Result<Entry, String> {
    let text = |name: &str| properties.get(name).copied().unwrap_or("-");
    let bytes = |name: &str| match text(name) {
        // What a snapshot or a volume has not; and, of a quota, that there is none.
        "-" | "none" => Ok(0),
        number => number.parse::<u64>().map_err(|_| format!("its {name} is {number:?}, and no number")),
    };
    Ok(Entry {
        size: Size { quota_bytes: bytes("quota")?, reservation_bytes: bytes("reservation")? },
        used_bytes: bytes("used")?,
        available_bytes: bytes("available")?,
        mountpoint: Some(text("mountpoint")).filter(|path| path.starts_with('/')).map(Utf8PathBuf::from),
        mountpoint_said: text("mountpoint").to_owned(),
        mounted: text("mounted") == "yes",
        read_only: text("readonly") == "on",
        origin: Some(text("origin")).filter(|origin| origin.contains('@')).map(str::to_owned),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(name: &str, properties: &[(&str, &str)]) -> String {
        properties.iter().map(|(property, value)| format!("{name}\t{property}\t{value}\n")).collect()
    }

    const OURS: [(&str, &str); 3] = [("type", "filesystem"), ("quota", "2097152"), (VERSION_PROPERTY, "1")];

    #[test]
    fn what_is_not_ours_is_a_stranger_and_never_a_dataset() {
        let root = Root::parse("tank/b").unwrap();
        let ids: [RegionId; 4] = std::array::from_fn(|_| RegionId::generate());
        let name = |at: usize| format!("tank/b/{}", ids[at]);
        let text = [
            lines("tank/b", &[("type", "filesystem"), ("available", "1000")]),
            lines(&name(0), &OURS),
            lines(&name(1), &[("type", "filesystem"), (VERSION_PROPERTY, "-")]),
            lines(&name(2), &[("type", "filesystem"), (VERSION_PROPERTY, "2")]),
            lines(&name(3), &[("type", "volume"), (VERSION_PROPERTY, "1")]),
            lines(&format!("{}@daily", name(0)), &[("type", "snapshot")]),
        ];
        let inventory = Inventory::read(&root, &text.concat()).unwrap();
        assert_eq!(inventory.datasets.keys().collect::<Vec<_>>(), [&ids[0]]);
        assert_eq!(inventory.datasets[&ids[0]].size.quota_bytes, 2 << 20);
        assert_eq!(inventory.strangers.len(), 4, "{:?}", inventory.strangers);
        assert!(inventory.stranger_at(&name(0)).is_some_and(|stranger| stranger.name.ends_with("@daily")));
        assert!(inventory.stranger_at(&name(2)).is_some_and(|stranger| stranger.why.contains("is 2")));
        assert!(inventory.stranger_at("tank/b/none").is_none());
    }

    #[test]
    fn output_that_is_cut_off_or_of_something_else_is_an_error() {
        let root = Root::parse("tank/b").unwrap();
        for text in ["", "tank/b", "tank/b\tused", "tank/c\tused\t1\n", "tank/b\tused\t12K\n"] {
            assert!(Inventory::read(&root, text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn what_is_reserved_and_not_written_is_still_to_be_written() {
        let root = Root::parse("tank/b").unwrap();
        let region = format!("tank/b/{}", RegionId::generate());
        let gib = 1_u64 << 30;
        let text = [
            lines("tank/b", &[("used", &(3 * gib).to_string()), ("available", &(7 * gib).to_string())]),
            lines(
                &region,
                &[OURS[0], OURS[2], ("reservation", &(3 * gib).to_string()), ("used", &gib.to_string())],
            ),
        ];
        let inventory = Inventory::read(&root, &text.concat()).unwrap();
        let space = inventory.space(&inventory.root);
        assert_eq!(space.capacity_bytes, 10 * gib);
        assert_eq!(space.available_bytes, 9 * gib);
        assert_eq!(space.used_bytes, gib);
        assert_eq!(space.reserved_bytes, 3 * gib);
        assert_eq!(space.reservable_bytes, 7 * gib - margin_bytes(10 * gib));
    }

    #[test]
    fn a_root_with_a_quota_is_as_large_as_that() {
        let root = Root::parse("tank/b").unwrap();
        let gib = 1_u64 << 30;
        let of = |name: &str, properties: [(&str, u64); 3]| {
            lines(
                name,
                &properties
                    .map(|(name, bytes)| (name, bytes.to_string()))
                    .each_ref()
                    .map(|(name, bytes)| (*name, bytes.as_str())),
            )
        };
        let text = of("tank/b", [("used", gib), ("available", 4 * gib), ("quota", 5 * gib)]);
        let inventory = Inventory::read(&root, &text).unwrap();
        let pool =
            read_one(&of("tank", [("used", 60 * gib), ("available", 40 * gib), ("quota", 0)])).unwrap();
        let space = inventory.space(&pool);
        assert_eq!((space.capacity_bytes, space.used_bytes, space.available_bytes), (5 * gib, gib, 4 * gib));
        assert_eq!(space.reservable_bytes, 4 * gib - margin_bytes(5 * gib));
    }
}
