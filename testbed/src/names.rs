//! What things in a cluster are called: clusters, sleds, coordinators, disks. Owns the parsing of `WHO` and
//! `WHO/DISK`, and what is said about a name that is not known; where things live is the layout's business.

use anyhow::{Result, bail};
use std::fmt;

/// The M.2 devices of every sled, in the order in which they are read.
pub const M2_NAMES: [&str; 2] = ["m2-0", "m2-1"];

/// What the names of data disks begin with.
const DATA_DISK: &str = "disk-";

/// Data disks of a sled at most: names and ports would do for more, a laptop would not.
pub const DISKS_MAX: usize = 16;

/// The name of a cluster that was not named.
pub const DEFAULT_CLUSTER_NAME: &str = "default";

/// Bytes of a cluster's name at most: it becomes a directory, and part of socket paths.
const CLUSTER_NAME_BYTES_MAX: usize = 40;

/// The name of the `index`-th sled, counted from 0: `sled-a`, …, `sled-z`, `sled-aa`, ….
#[must_use]
pub fn sled_name(index: usize) -> String {
    let mut letters = Vec::new();
    let mut rest = index + 1;
    while rest > 0 {
        rest -= 1;
        letters.push(char::from(b'a' + u8::try_from(rest % 26).expect("a remainder of 26 fits")));
        rest /= 26;
    }
    format!("sled-{}", letters.into_iter().rev().collect::<String>())
}

/// The name of the `index`-th coordinator, counted from 0: `nexus-1`, ….
#[must_use]
pub fn coordinator_name(index: usize) -> String {
    format!("nexus-{}", index + 1)
}

/// The name of the `index`-th data disk of a sled, counted from 0: `disk-0`, ….
#[must_use]
pub fn disk_name(index: usize) -> String {
    format!("{DATA_DISK}{index}")
}

/// Refuses a cluster's name that could not be a directory's.
pub fn check_cluster_name(name: &str) -> Result<()> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let starts_plain = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    if name.is_empty() || name.len() > CLUSTER_NAME_BYTES_MAX || !starts_plain || !name.chars().all(plain) {
        bail!(
            "{name:?} cannot be a cluster's name: 1 to {CLUSTER_NAME_BYTES_MAX} of a-z, 0-9 and '-', not starting with '-'"
        );
    }
    Ok(())
}

/// One disk of one sled, as it is written on the command line: `sled-b/m2-0`, `sled-b/disk-0`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskName {
    /// The sled.
    pub sled: String,
    /// The M.2 or data disk.
    pub disk: String,
}

impl fmt::Display for DiskName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.sled, self.disk)
    }
}

impl DiskName {
    /// Reads `WHO/DISK`. Whether there is such a sled, and a data disk of that number, is checked where they are known.
    pub fn parse(text: &str) -> Result<DiskName> {
        let known = format!("{}, {}, …", M2_NAMES.join(", "), disk_name(0));
        let Some((sled, disk)) = text.split_once('/') else {
            bail!("{text:?} does not name a disk: WHO/DISK was expected, such as sled-b/m2-0");
        };
        let is_data_disk = (0..DISKS_MAX).any(|index| disk_name(index) == disk);
        if !is_data_disk && !M2_NAMES.contains(&disk) {
            bail!("no disk {disk:?} in {text:?}; a sled's disks are {known}");
        }
        Ok(DiskName { sled: sled.to_owned(), disk: disk.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn sled_names_count_on_after_z_without_repeating() {
        assert_eq!(sled_name(0), "sled-a");
        assert_eq!(sled_name(25), "sled-z");
        assert_eq!(sled_name(26), "sled-aa");
        assert_eq!(sled_name(27), "sled-ab");
        assert_eq!((0..1000).map(sled_name).collect::<BTreeSet<_>>().len(), 1000);
    }

    #[test]
    fn cluster_names_that_leave_their_directory_are_refused() {
        for bad in ["", "..", "a/b", "-a", "A", "a b", "a.json", &"a".repeat(41)] {
            assert!(check_cluster_name(bad).is_err(), "{bad:?} was accepted");
        }
        for good in ["default", "a", "7", "second-one"] {
            check_cluster_name(good).unwrap();
        }
    }

    #[test]
    fn unknown_disks_are_refused_with_the_known_ones() {
        assert_eq!(
            DiskName::parse("sled-b/m2-1").unwrap(),
            DiskName { sled: "sled-b".to_owned(), disk: "m2-1".to_owned() }
        );
        assert_eq!(DiskName::parse("sled-b/disk-3").unwrap().disk, "disk-3");
        for bad in ["sled-b", "sled-b/", "sled-b/m2-2", "sled-b/disk-", "sled-b/disk-01", "sled-b/disk-16"] {
            let refusal = DiskName::parse(bad).unwrap_err().to_string();
            assert!(refusal.contains("m2-0"), "{refusal}");
        }
    }
}
