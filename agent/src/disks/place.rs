//! Where a disk is: in a directory that the config says, or where its pool has mounted its dataset. Owns that, and when it can be served.
//!
//! ```text
//!   dir = "/disks/0"   ──► Directories        the directory, for as long as the config says it
//!   zfs = "tank/disk"  ──► Zfs ──► mountpoint, asked for before each start of a Downstairs and with each order
//! ```
//!
//! A pool that is not there when the agent starts is waited for as a disk that is not mounted is: nothing is made in its place, nor is a
//! pool imported. Datasets of regions are the agent's, so these it mounts, and with them the disk's own, if its owner has not set it otherwise
//! (`canmount`); below one that stays unmounted it mounts nothing.

use super::STEP_LIMIT;
use crate::config::{DiskKind, DiskSettings};
use camino::{Utf8Path, Utf8PathBuf};
use datasets::{Attempts, DatasetError, Datasets, Directories, Health, Mounts, Zfs};
use durable_fs::{DiskFaults, FaultyDisk, RealDisk};
use ids::DiskId;
use problem::chain;
use std::{
    fmt,
    ops::ControlFlow,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// How long a disk is not served for want of regions that are not mounted: after a restart of the host that is all of them.
const MOUNT_LIMIT: Duration = Duration::from_secs(60);

/// Where one disk is. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Place {
    disk: DiskId,
    kind: DiskKind,
    datasets: Arc<dyn Datasets>,
    /// At its regions' files.
    attempts: Attempts,
    /// At the socket of its Downstairs, which is beside them. One that does nothing keeps nobody from the files.
    asks: Attempts,
    /// Where it was when it was looked at last, if that is not in the config.
    found: Arc<Mutex<Utf8PathBuf>>,
}

impl Place {
    /// `locks` is the agent's directory for the locks of disks that have none on themselves; `faults` are those that the agent's own work on a
    /// directory has, if it can be faulted.
    pub(super) fn open(
        settings: &DiskSettings,
        locks: &Utf8Path,
        faults: Option<DiskFaults>,
    ) -> Result<Place, DatasetError> {
        let datasets: Arc<dyn Datasets> = match &settings.kind {
            DiskKind::Directory(dir) => Arc::new(match faults {
                None => Directories::open(dir, STEP_LIMIT),
                Some(faults) => {
                    Directories::on(Arc::new(FaultyDisk::new(RealDisk::new(dir), faults)), dir, STEP_LIMIT)
                }
            }),
            DiskKind::Zfs(dataset) => {
                let lock = locks.join(format!("disk-{}.lock", settings.id));
                Arc::new(Zfs::open(dataset, &lock, STEP_LIMIT)?)
            }
        };
        let kind = settings.kind.clone();
        let attempts = Attempts::new(kind.to_string(), STEP_LIMIT);
        let asks = Attempts::new(kind.to_string(), STEP_LIMIT);
        Ok(Place { disk: settings.id, kind, datasets, attempts, asks, found: Arc::default() })
    }

    /// Attempts at what is on it.
    pub(super) fn attempts(&self) -> &Attempts {
        &self.attempts
    }

    /// Attempts at asking its Downstairs.
    pub(super) fn asks(&self) -> &Attempts {
        &self.asks
    }

    /// What is on it.
    pub(super) fn datasets(&self) -> Arc<dyn Datasets> {
        Arc::clone(&self.datasets)
    }

    pub(super) fn kind(&self) -> &DiskKind {
        &self.kind
    }

    /// The dataset that the disk is, if it is one of ZFS.
    pub(super) fn zfs(&self) -> Option<&str> {
        match &self.kind {
            DiskKind::Directory(_) => None,
            DiskKind::Zfs(dataset) => Some(dataset),
        }
    }

    /// Where it was found last; empty if it was not yet.
    pub(super) fn last_found(&self) -> Utf8PathBuf {
        match &self.kind {
            DiskKind::Directory(dir) => dir.clone(),
            DiskKind::Zfs(_) => self.found.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    /// Where it is now, or why that is not known, in words.
    pub(super) async fn directory(&self) -> Result<Utf8PathBuf, String> {
        match &self.kind {
            DiskKind::Directory(dir) => Ok(dir.clone()),
            DiskKind::Zfs(_) => self.datasets.directory().await.map_err(|error| chain(&error)),
        }
    }

    /// Sees whether the disk can be served at all, which a full one can, and one that takes no writes; and that each region's files are there.
    /// Tells where; or why it cannot be served, in words.
    pub(super) async fn ready(&self) -> Result<Utf8PathBuf, String> {
        let report = self.datasets.disk().await;
        let directory = match (report.health, report.directory) {
            (Health::Healthy | Health::Degraded | Health::Full | Health::ReadOnly, Some(directory)) => {
                directory
            }
            (health, _) => return Err(report.detail.unwrap_or_else(|| format!("{health:?}"))),
        };
        directory.clone_into(&mut self.found.lock().unwrap_or_else(PoisonError::into_inner));
        self.mount_regions(MOUNT_LIMIT).await;
        Ok(directory)
    }

    /// Mounts the regions that are not, those for which the time is too short while the disk is served.
    async fn mount_regions(&self, within: Duration) {
        if self.mount_some(within).await.is_break() {
            return;
        }
        let place = self.clone();
        tokio::spawn(async move { while place.mount_some(within).await.is_continue() {} });
    }

    /// Goes on if some are left and it has come further. One that cannot be mounted keeps no other one from being served: its Downstairs does
    /// not have it, and calls say why.
    async fn mount_some(&self, within: Duration) -> ControlFlow<()> {
        let disk = &self.disk;
        let mounts = match self.datasets.mount(within).await {
            Ok(mounts) => mounts,
            Err(error) => {
                let (code, error) = (error.code(), &error as &dyn std::error::Error);
                tracing::warn!(%disk, code, error, "it cannot be seen which regions are not mounted");
                return ControlFlow::Break(());
            }
        };
        for (region, error) in &mounts.failed {
            let (code, error) = (error.code(), error as &dyn std::error::Error);
            tracing::warn!(%disk, %region, code, error, "a region cannot be mounted");
        }
        let Mounts { mounted, left, .. } = mounts;
        if left > 0 {
            tracing::warn!(%disk, mounted, left, "the disk is served before all of its regions are mounted");
        }
        if left > 0 && mounted > 0 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    }
}

/// As the config says it.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datasets::Size;
    use ids::RegionId;
    use std::{fs, process::Command};
    use test_disks::{Asked, DATASET, Kind, TestDisk, command, inside, wait_for};

    /// Regions of each test here.
    const REGIONS: usize = 6;

    /// Runs a claim of a pool with regions none of which is mounted, as after a restart of the host.
    fn run(name: &str, claim: impl AsyncFnOnce(Place, Vec<RegionId>, Asked)) {
        inside::run(&format!("disks::place::tests::{name}"), Kind::Zfs, async || {
            let pool = TestDisk::start(Kind::Zfs).await;
            Zfs::open(DATASET, &pool.work.join("lock"), STEP_LIMIT).unwrap().prepare().await.unwrap();
            let settings = DiskSettings {
                id: DiskId::generate(),
                name: "disk-0".to_owned(),
                kind: DiskKind::Zfs(DATASET.to_owned()),
            };
            let place = Place::open(&settings, &pool.work, None).unwrap();
            let mut regions = Vec::new();
            for _ in 0..REGIONS {
                let region = RegionId::generate();
                let size = Size { quota_bytes: 1 << 20, reservation_bytes: 1 << 20 };
                place.datasets.create(region, size).await.unwrap();
                // What was made there just now is closed a moment later.
                wait_for("the region to be unmounted", async || {
                    let name = format!("{DATASET}/{region}");
                    let output = Command::new("zfs").args(["unmount", &name]).output().unwrap();
                    if output.status.success() { Ok(()) } else { Err(format!("{output:?}")) }
                })
                .await;
                regions.push(region);
            }
            let asked = Asked::of_zfs(&pool.work);
            claim(place, regions, asked).await;
        });
    }

    /// Those of which no file would be there.
    async fn not_mounted(place: &Place) -> Vec<RegionId> {
        let datasets = place.datasets.list().await.unwrap().datasets;
        datasets.iter().filter(|dataset| !dataset.mounted).map(|dataset| dataset.region).collect()
    }

    fn count(asked: &[String], word: &str) -> usize {
        asked.iter().filter(|asked| asked.starts_with(word)).count()
    }

    #[tokio::test]
    async fn a_fault_of_a_directory_is_seen_by_all_that_the_agent_does_there() {
        let temp = camino_tempfile::tempdir().unwrap();
        let kind = DiskKind::Directory(temp.path().to_owned());
        let settings = DiskSettings { id: DiskId::generate(), name: "disk-0".to_owned(), kind };
        Directories::open(temp.path(), STEP_LIMIT).prepare().await.unwrap();
        let faults = DiskFaults::new();
        let place = Place::open(&settings, temp.path(), Some(faults.clone())).unwrap();
        let (datasets, region) = (place.datasets(), RegionId::generate());
        let size = Size { quota_bytes: 1 << 20, reservation_bytes: 1 << 20 };
        datasets.create(region, size).await.unwrap();
        assert_eq!(place.ready().await.unwrap(), temp.path());
        faults.fail();
        let other = RegionId::generate();
        for refusal in [
            datasets.create(other, size).await.unwrap_err(),
            datasets.find(region).await.unwrap_err(),
            datasets.list().await.unwrap_err(),
            datasets.destroy(region).await.unwrap_err(),
        ] {
            assert_eq!(refusal.code(), "disk_failed", "{refusal}");
        }
        assert_eq!(datasets.disk().await.health, Health::Failed);
        assert!(place.ready().await.unwrap_err().contains("Input/output error"));
        faults.heal();
        faults.full();
        assert_eq!(datasets.create(other, size).await.unwrap_err().code(), "no_space");
        faults.heal();
        datasets.create(other, size).await.unwrap();
        assert_eq!(datasets.list().await.unwrap().datasets.len(), 2);
    }

    #[test]
    fn regions_that_are_not_mounted_cost_a_mount_each_and_one_listing_for_all() {
        run(
            "regions_that_are_not_mounted_cost_a_mount_each_and_one_listing_for_all",
            async |place, regions, asked| {
                assert_eq!(not_mounted(&place).await.len(), regions.len());
                let _ = asked.since();
                place.ready().await.unwrap();
                let asked = asked.since();
                // How the disk does is a listing, too.
                assert_eq!((count(&asked, "mount "), count(&asked, "get -r")), (REGIONS, 2), "{asked:#?}");
                assert!(asked.len() <= REGIONS + 4, "{asked:#?}");
                assert_eq!(not_mounted(&place).await, []);
            },
        );
    }

    #[test]
    fn a_region_that_cannot_be_mounted_keeps_no_other_one_from_it() {
        run("a_region_that_cannot_be_mounted_keeps_no_other_one_from_it", async |place, regions, asked| {
            command(&["zfs", "set", "mountpoint=legacy", &format!("{DATASET}/{}", regions[0])]);
            // A file of somebody where it is to be mounted.
            let root = place.datasets.directory().await.unwrap();
            let in_the_way = root.join(regions[1].to_string());
            fs::create_dir_all(&in_the_way).unwrap();
            fs::write(in_the_way.join("notes"), "").unwrap();
            let mounts = place.datasets.mount(MOUNT_LIMIT).await.unwrap();
            let codes: Vec<_> = mounts.failed.iter().map(|(region, error)| (*region, error.code())).collect();
            assert_eq!(codes, [(regions[0], "stranger"), (regions[1], "command_failed")]);
            assert_eq!((mounts.mounted, mounts.left), (REGIONS - 2, 0));
            let _ = asked.since();
            place.ready().await.unwrap();
            assert_eq!(not_mounted(&place).await, regions[..2]);
            assert_eq!(count(&asked.since(), "mount "), 1);
        });
    }

    #[test]
    fn a_disk_with_more_regions_than_there_is_time_for_is_served_and_they_follow() {
        run(
            "a_disk_with_more_regions_than_there_is_time_for_is_served_and_they_follow",
            async |place, _, asked| {
                let mounts = place.datasets.mount(Duration::ZERO).await.unwrap();
                assert_eq!((mounts.mounted, mounts.failed.len(), mounts.left), (1, 0, REGIONS - 1));
                let _ = asked.since();
                place.mount_regions(Duration::ZERO).await;
                wait_for("the others to be mounted", async || match not_mounted(&place).await[..] {
                    [] => Ok(()),
                    ref some => Err(format!("{some:?}")),
                })
                .await;
                assert_eq!(count(&asked.since(), "mount "), REGIONS - 1);
            },
        );
    }
}
