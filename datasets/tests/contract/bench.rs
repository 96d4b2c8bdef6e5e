//! A disk of each kind, small, on a file in memory, and what happens to disks. Only within [`crate::inside`] does it mount anything.

use camino::{Utf8Path, Utf8PathBuf};
use camino_tempfile::Utf8TempDir;
use datasets::{Datasets, Directories, Size, Zfs};
use std::{
    env, fs,
    future::Future,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

pub(crate) const MIB: u64 = 1 << 20;

/// Of each disk: the least that XFS takes is 300 MiB.
const DISK_BYTES: u64 = 320 * MIB;

/// How long one step may take where nothing hangs.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// What most datasets here are made with: odd on purpose, so that nothing is rounded.
pub(crate) const SIZE: Size = Size { quota_bytes: 48 * MIB + 511, reservation_bytes: 16 * MIB + 3 };

/// A kind of disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Ext4,
    Xfs,
    Btrfs,
    Zfs,
    /// The directory for temporary files, whatever that is on.
    Temporary,
}

impl Kind {
    /// What this machine lacks for it.
    pub(crate) fn missing(self) -> Option<String> {
        let programs: &[&str] = match self {
            Kind::Ext4 => &["mkfs.ext4", "fsfreeze", "unshare"],
            Kind::Xfs => &["mkfs.xfs", "fsfreeze", "unshare"],
            Kind::Btrfs => &["mkfs.btrfs", "fsfreeze", "unshare"],
            Kind::Zfs => &["zfs-fuse", "zfs", "zpool", "unshare"],
            Kind::Temporary => &[],
        };
        let directories = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
        let is_there = |program: &str| directories.iter().any(|at| Utf8Path::new(at).join(program).is_file());
        let absent = programs.iter().find(|program| !is_there(program));
        match absent {
            Some(program) => Some(format!("the program {program}")),
            None if !rustix::process::geteuid().is_root() => Some("root".to_owned()),
            None if self == Kind::Zfs && !Utf8Path::new("/dev/fuse").exists() => Some("/dev/fuse".to_owned()),
            None => None,
        }
    }

    pub(crate) fn has_reflinks(self) -> bool {
        matches!(self, Kind::Xfs | Kind::Btrfs)
    }
}

/// One disk.
#[derive(Debug)]
pub(crate) struct Bench {
    /// The test's name, to run a second process of it.
    pub(crate) test: String,
    pub(crate) kind: Kind,
    /// Where its file and its mountpoint are.
    pub(crate) work: Utf8PathBuf,
    daemon: Option<Child>,
    _temporary: Option<Utf8TempDir>,
}

impl Bench {
    /// Makes the disk and takes it into use.
    pub(crate) async fn start(test: &str, kind: Kind) -> Bench {
        let mut bench = if kind == Kind::Temporary {
            let temporary = camino_tempfile::tempdir().unwrap();
            let work = temporary.path().to_owned();
            Bench { test: test.to_owned(), kind, work, daemon: None, _temporary: Some(temporary) }
        } else {
            let work = Utf8PathBuf::from("/run/work");
            Bench { test: test.to_owned(), kind, work, daemon: None, _temporary: None }
        };
        if let Ok(work) = env::var(crate::crashes::WORK) {
            // A second process on the disk of the first one.
            bench.work = work.into();
            return bench;
        }
        match kind {
            Kind::Temporary => {}
            Kind::Zfs => bench.start_zfs().await,
            Kind::Ext4 => bench.make_and_mount(&["mkfs.ext4", "-q", "-E", "nodiscard"]),
            Kind::Xfs => bench.make_and_mount(&["mkfs.xfs", "-q", "-m", "reflink=1"]),
            Kind::Btrfs => bench.make_and_mount(&["mkfs.btrfs", "-q"]),
        }
        if kind != Kind::Zfs {
            fs::create_dir_all(bench.root()).unwrap();
        }
        bench.prepare().await;
        bench
    }

    /// Where datasets are: a directory, or where ZFS mounts the root.
    pub(crate) fn root(&self) -> Utf8PathBuf {
        self.work.join("disk/bobsled")
    }

    /// The disk's own mountpoint.
    pub(crate) fn mountpoint(&self) -> Utf8PathBuf {
        self.work.join("disk")
    }

    pub(crate) fn image(&self) -> Utf8PathBuf {
        self.work.join("images/disk.img")
    }

    async fn prepare(&self) {
        match self.kind {
            Kind::Zfs => self.zfs("tank/bobsled", LIMIT).prepare().await.unwrap(),
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
            Kind::Zfs => Arc::new(self.zfs("tank/bobsled", limit)),
            _ => Arc::new(Directories::open(&self.root(), limit)),
        }
    }

    pub(crate) fn zfs(&self, root: &str, limit: Duration) -> Zfs {
        Zfs::open(root, &self.work.join("zfs.lock"), limit).unwrap()
    }

    fn make_and_mount(&mut self, mkfs: &[&str]) {
        self.own_run();
        fs::File::create(self.image()).unwrap().set_len(DISK_BYTES).unwrap();
        let image = self.image();
        command(&[mkfs, &[image.as_str()]].concat());
        command(&["mount", "-o", "loop", self.image().as_str(), self.mountpoint().as_str()]);
    }

    /// A place in memory that goes with the namespace.
    fn own_run(&self) {
        command(&["mount", "-t", "tmpfs", "-o", "mode=755", "none", "/run"]);
        for directory in ["/run/lock/zfs", "/run/zfs", "/run/mount", "/run/work/images", "/run/work/disk"] {
            fs::create_dir_all(directory).unwrap();
        }
    }

    async fn start_zfs(&mut self) {
        self.own_run();
        command(&["mount", "-t", "tmpfs", "none", "/var/lib/zfs"]);
        // Of its own, so that a test can take the room away under the pool.
        command(&["mount", "-t", "tmpfs", "none", "/run/work/images"]);
        self.start_daemon().await;
        fs::File::create(self.image()).unwrap().set_len(DISK_BYTES).unwrap();
        // A pool that waits for its disk never answers again; an agent's pools shall not (docs/OPERATING.md).
        command(&[
            "zpool",
            "create",
            "-f",
            "-o",
            "failmode=continue",
            "-m",
            self.mountpoint().as_str(),
            "tank",
            self.image().as_str(),
        ]);
    }

    pub(crate) async fn start_daemon(&mut self) {
        let log = fs::File::create(self.work.join("zfs-fuse.log")).unwrap();
        let daemon = Command::new("zfs-fuse")
            .args(["--no-daemon", "--no-kstat-mount"])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.daemon = Some(daemon);
        wait_for("zfs-fuse to answer", async || {
            let asked = Command::new("zpool").arg("list").output().unwrap();
            if asked.status.success() { Ok(()) } else { Err(format!("{asked:?}")) }
        })
        .await;
    }

    /// Ends the daemon, at once. Its mounts stay, dead.
    pub(crate) fn kill_daemon(&mut self) {
        let mut daemon = self.daemon.take().unwrap();
        daemon.kill().unwrap();
        daemon.wait().unwrap();
    }

    /// The disk goes away, whoever uses it.
    pub(crate) fn take_away(&self) {
        match self.kind {
            Kind::Zfs => command(&["zpool", "export", "-f", "tank"]),
            _ => command(&["umount", "--lazy", self.mountpoint().as_str()]),
        }
    }

    pub(crate) fn bring_back(&self) {
        match self.kind {
            Kind::Zfs => command(&["zpool", "import", "-d", self.image().parent().unwrap().as_str(), "tank"]),
            _ => command(&["mount", "-o", "loop", self.image().as_str(), self.mountpoint().as_str()]),
        }
    }

    pub(crate) fn set_read_only(&self, read_only: bool) {
        match (self.kind, read_only) {
            (Kind::Zfs, true) => command(&["zfs", "set", "readonly=on", "tank/bobsled"]),
            (Kind::Zfs, false) => command(&["zfs", "set", "readonly=off", "tank/bobsled"]),
            (_, true) => command(&["mount", "-o", "remount,ro", self.mountpoint().as_str()]),
            (_, false) => command(&["mount", "-o", "remount,rw", self.mountpoint().as_str()]),
        }
    }

    /// From now on the disk does not answer; or again.
    pub(crate) fn set_hanging(&self, hangs: bool) {
        match (self.kind, hangs) {
            (Kind::Zfs, _) => {
                let pid = self.daemon.as_ref().unwrap().id().to_string();
                command(&["kill", if hangs { "-STOP" } else { "-CONT" }, &pid]);
            }
            (_, true) => command(&["fsfreeze", "--freeze", self.mountpoint().as_str()]),
            (_, false) => command(&["fsfreeze", "--unfreeze", self.mountpoint().as_str()]),
        }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        if let Some(daemon) = &mut self.daemon {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}

/// Runs a command that must succeed.
pub(crate) fn command(words: &[&str]) {
    let output = Command::new(words[0]).args(&words[1..]).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{words:?}: {output:?}");
}

/// Waits until something is so; fails with what was seen last.
pub(crate) async fn wait_for(what: &str, mut look: impl AsyncFnMut() -> Result<(), String>) {
    let until = Instant::now() + LIMIT;
    loop {
        match look().await {
            Ok(()) => return,
            Err(seen) => assert!(Instant::now() < until, "waited {LIMIT:?} for {what}: {seen}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
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
