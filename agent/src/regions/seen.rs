//! What the disks say of regions' datasets. Owns that each disk is asked once, however many of its regions are told.
//!
//! ```text
//!   GET /regions/{id} ──► find: one disk, one region, mounted if it was not ──┐
//!   GET /regions ───────► list: one listing of each disk, nothing is mounted ─┴──► Seen ──► bytes, whether it is there, its files
//! ```

use super::{handle::Shared, types::Record};
use datasets::Dataset;
use futures::future::join_all;
use ids::{DiskId, RegionId};
use problem::chain;
use std::collections::{BTreeMap, BTreeSet};

/// What a disk says of its datasets.
pub(super) enum Seen {
    /// Those that it has, among those that it was asked for.
    Of(BTreeMap<RegionId, Dataset>),
    /// It cannot be asked; why.
    Unknown(String),
}

impl Seen {
    fn no_disk() -> Seen {
        Seen::Unknown("its disk is not in the agent's config".to_owned())
    }

    /// One; none if it has no dataset.
    pub(super) fn of(&self, region: RegionId) -> Result<Option<&Dataset>, &str> {
        match self {
            Seen::Of(all) => Ok(all.get(&region)),
            Seen::Unknown(why) => Err(why),
        }
    }
}

/// Why nothing of a region's files is told, or not all; none if nothing is wrong.
pub(super) fn why_not(seen: Result<Option<&Dataset>, &str>) -> Option<String> {
    match seen {
        Ok(Some(dataset)) if !dataset.mounted => {
            Some("its dataset is not mounted, so its Downstairs does not have it".to_owned())
        }
        Ok(_) => None,
        Err(why) => Some(why.to_owned()),
    }
}

impl Shared {
    /// What its disk says of one region.
    pub(super) async fn seen(&self, record: &Record) -> Seen {
        let Some(disk) = self.disks.get(record.spec.disk) else { return Seen::no_disk() };
        match disk.datasets.find(record.region).await {
            Ok(found) => Seen::Of(found.into_iter().map(|found| (found.region, found)).collect()),
            Err(error) => Seen::Unknown(chain(&error)),
        }
    }

    /// What each of these disks says; all are asked at once.
    pub(super) async fn seen_of_all(&self, disks: &BTreeSet<DiskId>) -> BTreeMap<DiskId, Seen> {
        let ask = async |id: DiskId| {
            let Some(disk) = self.disks.get(id) else { return (id, Seen::no_disk()) };
            let seen = match disk.datasets.list().await {
                Ok(listing) => {
                    Seen::Of(listing.datasets.into_iter().map(|found| (found.region, found)).collect())
                }
                Err(error) => Seen::Unknown(chain(&error)),
            };
            (id, seen)
        };
        join_all(disks.iter().copied().map(ask)).await.into_iter().collect()
    }
}
