//! The regions of a disk with datasets, as one directory of files, which is what a Downstairs knows. Owns the one mapping between the two.
//!
//! ```text
//!   as a Downstairs names it            on the disk
//!   <region>.region            ◄──►     <region>/data/<region>.region
//!   <region>.region<more>      ◄──►     <region>/data/<region>.region<more>
//! ```
//!
//! A file's region is the first of its name, so each has one place. Only regions that have a dataset can have files. To sync "the
//! directory" is to sync that of each region whose files were touched since the last time.

use super::room::of_files;
use camino::{Utf8Path, Utf8PathBuf};
use datasets::region_files;
use durable_fs::{
    Entry, FileMetadata, InPlaceFile, Operation, ReadFile, RootIdentity, Space, StepPoint, Storage,
    StorageError, WriteFile,
};
use ids::RegionId;
use std::{
    collections::BTreeSet,
    io,
    sync::{Arc, Mutex, PoisonError},
};

/// Characters of a region's id.
const ID_LENGTH: usize = 36;

/// The files of all regions of a disk.
#[derive(Clone, Debug)]
pub(super) struct RegionFiles {
    disk: Arc<dyn Storage>,
    is_zfs: bool,
    /// Whose directories may have changes that were not synced.
    touched: Arc<Mutex<BTreeSet<RegionId>>>,
}

impl RegionFiles {
    /// Of this disk.
    pub(super) fn new(disk: Arc<dyn Storage>) -> RegionFiles {
        RegionFiles { disk, is_zfs: false, touched: Arc::default() }
    }

    /// Of this one, which is a dataset of ZFS.
    pub(super) fn on_zfs(disk: Arc<dyn Storage>) -> RegionFiles {
        RegionFiles { is_zfs: true, ..RegionFiles::new(disk) }
    }

    /// Where on the disk a file of this region is.
    pub(super) fn path_on_disk(region: RegionId, name: &str) -> Utf8PathBuf {
        region_files(region).join(name)
    }

    /// Where a file is.
    fn place(&self, operation: Operation, path: &Utf8Path) -> Result<Utf8PathBuf, StorageError> {
        let region = region_of(path.as_str()).ok_or_else(|| {
            StorageError::new(operation, path, io::Error::other("its name does not begin with a region's id"))
        })?;
        self.touch(region);
        Ok(region_files(region).join(path))
    }

    fn touch(&self, region: RegionId) {
        self.touched.lock().unwrap_or_else(PoisonError::into_inner).insert(region);
    }

    /// Does something in the directory of each region, leaving out those that have none any more.
    fn of_each(
        &self,
        mut act: impl FnMut(RegionId, &Utf8Path) -> Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        for name in self.disk.list_irregular(Utf8Path::new(""))? {
            let Some(region) = region_of(&name).filter(|region| region.to_string() == name) else { continue };
            match act(region, &region_files(region)) {
                Err(error) if error.is_not_found() => {}
                other => other?,
            }
        }
        Ok(())
    }
}

impl Storage for RegionFiles {
    fn create_directory(&self, path: &Utf8Path) -> Result<(), StorageError> {
        self.disk.create_directory(&self.place(Operation::CreateDirectory, path)?)
    }

    fn create_new(&self, path: &Utf8Path) -> Result<Box<dyn WriteFile>, StorageError> {
        self.disk.create_new(&self.place(Operation::Create, path)?)
    }

    fn open_append(&self, path: &Utf8Path) -> Result<Box<dyn WriteFile>, StorageError> {
        self.disk.open_append(&self.place(Operation::OpenAppend, path)?)
    }

    fn open(&self, path: &Utf8Path) -> Result<Box<dyn ReadFile>, StorageError> {
        self.disk.open(&self.place(Operation::Open, path)?)
    }

    fn create_in_place(&self, path: &Utf8Path) -> Result<Box<dyn InPlaceFile>, StorageError> {
        self.disk.create_in_place(&self.place(Operation::Create, path)?)
    }

    fn open_in_place(&self, path: &Utf8Path) -> Result<Box<dyn InPlaceFile>, StorageError> {
        self.disk.open_in_place(&self.place(Operation::Open, path)?)
    }

    fn rename(&self, from: &Utf8Path, to: &Utf8Path) -> Result<(), StorageError> {
        let from = self.place(Operation::Rename, from)?;
        self.disk.rename(&from, &self.place(Operation::Rename, to)?)
    }

    fn sync_directory(&self, path: &Utf8Path) -> Result<(), StorageError> {
        if !path.as_str().is_empty() {
            return self.disk.sync_directory(&self.place(Operation::SyncDirectory, path)?);
        }
        // Under the lock: whoever finds nothing left to sync must know that it was done, and not that somebody is at it.
        let mut touched = self.touched.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(region) = touched.first().copied() {
            match self.disk.sync_directory(&region_files(region)) {
                // Its dataset was destroyed meanwhile.
                Err(error) if error.is_not_found() => {}
                other => other?,
            }
            touched.remove(&region);
        }
        Ok(())
    }

    fn remove(&self, path: &Utf8Path) -> Result<(), StorageError> {
        self.disk.remove(&self.place(Operation::Remove, path)?)
    }

    fn list(&self, path: &Utf8Path) -> Result<Vec<Entry>, StorageError> {
        if !path.as_str().is_empty() {
            return Err(StorageError::new(Operation::List, path, io::Error::from(io::ErrorKind::NotFound)));
        }
        let mut entries = Vec::new();
        self.of_each(|region, directory| {
            self.touch(region);
            let of_region = |entry: &Entry| region_of(&entry.name) == Some(region);
            entries.extend(self.disk.list(directory)?.into_iter().filter(of_region));
            Ok(())
        })?;
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn list_irregular(&self, path: &Utf8Path) -> Result<Vec<String>, StorageError> {
        // Datasets have files, and nothing else of ours.
        self.list(path).map(|_| Vec::new())
    }

    fn metadata(&self, path: &Utf8Path) -> Result<FileMetadata, StorageError> {
        if path.as_str().is_empty() {
            return self.disk.metadata(path);
        }
        self.disk.metadata(&self.place(Operation::Metadata, path)?)
    }

    fn identity(&self) -> Result<Option<RootIdentity>, StorageError> {
        self.disk.identity()
    }

    /// What is available is what files may have, without what ZFS keeps of them.
    fn space(&self) -> Result<Space, StorageError> {
        let space = self.disk.space()?;
        let available = if self.is_zfs { of_files(space.available) } else { space.available };
        Ok(Space { available, ..space })
    }

    fn reached(&self, point: StepPoint) -> Result<(), StorageError> {
        self.disk.reached(point)
    }
}

/// Whose file that is.
fn region_of(name: &str) -> Option<RegionId> {
    let id = name.get(..ID_LENGTH)?;
    // Only the one way in which an id is written counts.
    id.parse::<RegionId>().ok().filter(|region| region.to_string() == id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use datasets::{Datasets, Directories, Size};
    use downstairs::{Disk, DiskError};
    use durable_fs::RealDisk;
    use ids::RegionSetId;
    use region::{BlockSize, Geometry, Identity, List, NewRegion};
    use std::{fs, time::Duration};

    #[tokio::test]
    async fn a_region_in_its_dataset_is_found_opened_and_removed_and_one_without_is_not_made() {
        let temp = camino_tempfile::tempdir().unwrap();
        let datasets = Directories::open(temp.path(), Duration::from_secs(60));
        datasets.prepare().await.unwrap();
        let [first, second, without] = [(); 3].map(|()| RegionId::generate());
        let geometry = Geometry { block_size: BlockSize::B512, blocks: 8, is_sealed: false };
        let new = |region| NewRegion {
            identity: Identity { region, set: RegionSetId::generate(), geometry },
            incarnation: 1,
            list: List::default(),
            salt: 1,
        };
        let disk = Disk::new(Arc::new(RegionFiles::new(Arc::new(RealDisk::new(temp.path())))));
        let quota = 1 << 20;
        for region in [first, second] {
            let dataset = datasets.create(region, Size { quota_bytes: quota, reservation_bytes: quota });
            let directory = dataset.await.unwrap().directory;
            disk.create(&new(region)).unwrap();
            assert!(directory.join(format!("{region}.region")).is_file());
            // A stranger's file in a dataset is none of ours.
            fs::write(directory.join("notes"), "").unwrap();
        }
        assert!(matches!(disk.create(&new(without)), Err(DiskError::Create { .. })));
        assert!(!temp.path().join(without.to_string()).exists());
        assert_eq!(disk.regions().unwrap(), [first, second]);
        drop(disk.open(first).unwrap());
        assert!(matches!(disk.open(without), Err(DiskError::NoRegion { .. })));
        disk.destroy(first).unwrap();
        assert_eq!(disk.regions().unwrap(), [second]);
    }

    #[test]
    fn a_name_that_is_no_regions_leads_nowhere() {
        let temp = camino_tempfile::tempdir().unwrap();
        fs::write(temp.path().join("kept"), "").unwrap();
        let files = RegionFiles::new(Arc::new(RealDisk::new(temp.path())));
        let id = RegionId::generate();
        for name in
            ["kept".to_owned(), "../kept".to_owned(), format!("new-{id}"), id.to_string().to_uppercase()]
        {
            assert!(files.remove(Utf8Path::new(&name)).is_err(), "{name}");
        }
        assert!(temp.path().join("kept").is_file());
    }
}
