//! A disk that datasets are kept on, and what is asked of it.

use datasets::{Datasets, Directories, Size, Zfs};
use std::{
    env,
    future::Future,
    ops::{Deref, DerefMut},
    sync::Arc,
    time::Duration,
};
use test_disks::{DATASET, TestDisk, WORK};

pub(crate) use test_disks::{Kind, LIMIT, command, wait_for};

pub(crate) const MIB: u64 = 1 << 20;

/// What most datasets here are made with: odd on purpose, so that nothing is rounded.
pub(crate) const SIZE: Size = Size { quota_bytes: 48 * MIB + 511, reservation_bytes: 16 * MIB + 3 };

/// One disk.
#[derive(Debug)]
pub(crate) struct Bench {
    /// The test's name, to run a second process of it.
    pub(crate) test: String,
    disk: TestDisk,
}

impl Bench {
    /// Makes the disk and takes it into use.
    pub(crate) async fn start(test: &str, kind: Kind) -> Bench {
        let bench = Bench { test: test.to_owned(), disk: TestDisk::start(kind).await };
        // A second process has the disk of the first one.
        if env::var_os(WORK).is_none() {
            bench.prepare().await;
        }
        bench
    }

    async fn prepare(&self) {
        match self.kind {
            Kind::Zfs => self.zfs(DATASET, LIMIT).prepare().await.unwrap(),
            Kind::Temporary | Kind::Ext4 | Kind::Xfs | Kind::Btrfs => {
                let disk = Directories::open(&self.root(), LIMIT);
                disk.prepare().await.unwrap();
                disk.prepare().await.unwrap();
            }
        }
    }

    /// The disk, as somebody of its own sees it.
    pub(crate) fn open(&self) -> Arc<dyn Datasets> {
        self.open_with_limit(LIMIT)
    }

    pub(crate) fn open_with_limit(&self, limit: Duration) -> Arc<dyn Datasets> {
        match self.kind {
            Kind::Zfs => Arc::new(self.zfs(DATASET, limit)),
            _ => Arc::new(Directories::open(&self.root(), limit)),
        }
    }

    pub(crate) fn zfs(&self, root: &str, limit: Duration) -> Zfs {
        Zfs::open(root, &self.work.join("zfs.lock"), limit).unwrap()
    }
}

impl Deref for Bench {
    type Target = TestDisk;

    fn deref(&self) -> &TestDisk {
        &self.disk
    }
}

impl DerefMut for Bench {
    fn deref_mut(&mut self) -> &mut TestDisk {
        &mut self.disk
    }
}

/// Something must be refused with that code; tells its words.
pub(crate) fn refused<T: std::fmt::Debug>(result: Result<T, datasets::DatasetError>, code: &str) -> String {
    let error = result.unwrap_err();
    assert_eq!(error.code(), code, "{error}");
    error.to_string()
}

/// Runs what must end in time, with its answer.
pub(crate) async fn within<T>(limit: Duration, what: impl Future<Output = T>) -> T {
    tokio::time::timeout(limit, what).await.expect("it must end in time")
}
