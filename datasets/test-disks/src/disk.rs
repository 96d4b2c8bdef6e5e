//! A disk of each kind, and what happens to disks. Only within [`crate::inside`] does it mount anything.

use camino::{Utf8Path, Utf8PathBuf};
use camino_tempfile::Utf8TempDir;
use std::{
    env, fs,
    process::{Child, Command, Stdio},
    time::Duration,
};
use tokio::time::{Instant, sleep, timeout_at};

const MIB: u64 = 1 << 20;

/// Of each disk: the least that XFS takes is 300 MiB.
const DISK_BYTES: u64 = 320 * MIB;

/// How long one step may take where nothing hangs.
pub const LIMIT: Duration = Duration::from_secs(30);

/// Says to a process that a test has started that the disk is there, and where.
pub const WORK: &str = "BOBSLED_TEST_WORK";

/// The pool, where the disk is one.
pub const POOL: &str = "tank";

/// The dataset in it that is the disk.
pub const DATASET: &str = "tank/bobsled";

/// A kind of disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// ext4.
    Ext4,
    /// XFS, with reflinks.
    Xfs,
    /// btrfs.
    Btrfs,
    /// ZFS, by `zfs-fuse`.
    Zfs,
    /// The directory for temporary files, whatever that is on.
    Temporary,
}

impl Kind {
    /// What this machine lacks for it.
    #[must_use]
    pub fn missing(self) -> Option<String> {
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

    /// Whether its files can share blocks.
    #[must_use]
    pub fn has_reflinks(self) -> bool {
        matches!(self, Kind::Xfs | Kind::Btrfs)
    }
}

/// One disk.
#[derive(Debug)]
pub struct TestDisk {
    /// What it is.
    pub kind: Kind,
    /// Where its file and its mountpoint are.
    pub work: Utf8PathBuf,
    daemon: Option<Child>,
    _temporary: Option<Utf8TempDir>,
}

impl TestDisk {
    /// Makes the disk, with nothing on it; the pool, with no dataset in it.
    ///
    /// # Panics
    /// If it cannot be made.
    pub async fn start(kind: Kind) -> TestDisk {
        let mut disk = if kind == Kind::Temporary {
            let temporary = camino_tempfile::tempdir().unwrap();
            let work = temporary.path().to_owned();
            TestDisk { kind, work, daemon: None, _temporary: Some(temporary) }
        } else {
            let work = Utf8PathBuf::from("/run/work");
            TestDisk { kind, work, daemon: None, _temporary: None }
        };
        if let Ok(work) = env::var(WORK) {
            // A second process on the disk of the first one.
            disk.work = work.into();
            return disk;
        }
        match kind {
            Kind::Temporary => {}
            Kind::Zfs => disk.start_zfs().await,
            Kind::Ext4 => disk.make_and_mount(&["mkfs.ext4", "-q", "-E", "nodiscard"]),
            Kind::Xfs => disk.make_and_mount(&["mkfs.xfs", "-q", "-m", "reflink=1"]),
            Kind::Btrfs => disk.make_and_mount(&["mkfs.btrfs", "-q"]),
        }
        if kind != Kind::Zfs {
            fs::create_dir_all(disk.root()).unwrap();
        }
        disk
    }

    /// Where datasets are: a directory, or where ZFS mounts the root.
    #[must_use]
    pub fn root(&self) -> Utf8PathBuf {
        self.work.join("disk/bobsled")
    }

    /// The disk's own mountpoint.
    #[must_use]
    pub fn mountpoint(&self) -> Utf8PathBuf {
        self.work.join("disk")
    }

    /// The file that it is on.
    #[must_use]
    pub fn image(&self) -> Utf8PathBuf {
        self.work.join("images/disk.img")
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
        // Of its own, so that a test can take the room away under the disk.
        command(&["mount", "-t", "tmpfs", "none", "/run/work/images"]);
    }

    async fn start_zfs(&mut self) {
        self.own_run();
        command(&["mount", "-t", "tmpfs", "none", "/var/lib/zfs"]);
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
            POOL,
            self.image().as_str(),
        ]);
    }

    /// Starts `zfs-fuse`, and waits until it answers.
    ///
    /// # Panics
    /// If it cannot be done.
    pub async fn start_daemon(&mut self) {
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
            let mut look = tokio::process::Command::new("zpool");
            let asked = look.arg("list").kill_on_drop(true).output().await.unwrap();
            if asked.status.success() { Ok(()) } else { Err(format!("{asked:?}")) }
        })
        .await;
    }

    /// Ends the daemon, at once. Its mounts stay, dead.
    ///
    /// # Panics
    /// If it cannot be done.
    pub fn kill_daemon(&mut self) {
        let mut daemon = self.daemon.take().unwrap();
        daemon.kill().unwrap();
        daemon.wait().unwrap();
    }

    /// The disk goes away, whoever uses it.
    ///
    /// # Panics
    /// If it cannot be done.
    pub fn take_away(&self) {
        match self.kind {
            Kind::Zfs => command(&["zpool", "export", "-f", POOL]),
            _ => command(&["umount", "--lazy", self.mountpoint().as_str()]),
        }
    }

    /// It is there again.
    ///
    /// # Panics
    /// If it cannot be done.
    pub fn bring_back(&self) {
        match self.kind {
            Kind::Zfs => command(&["zpool", "import", "-d", self.image().parent().unwrap().as_str(), POOL]),
            _ => command(&["mount", "-o", "loop", self.image().as_str(), self.mountpoint().as_str()]),
        }
    }

    /// Its medium fails: it gives nothing back and takes nothing, whatever is mounted on it. What it has is kept aside. Nobody is to write meanwhile.
    ///
    /// # Panics
    /// If it cannot be done.
    pub fn fail(&self) {
        let (image, aside) = (self.image(), self.aside());
        if self.kind == Kind::Zfs {
            self.set_hanging(true);
        } else {
            command(&["sync", "--file-system", self.mountpoint().as_str()]);
        }
        command(&["cp", "--sparse=always", image.as_str(), aside.as_str()]);
        fs::File::options().write(true).open(&image).unwrap().set_len(0).unwrap();
        command(&["mount", "-o", "remount,size=4k", image.parent().unwrap().as_str()]);
        // All the room that there is.
        fs::write(self.filler(), [0; 4096]).unwrap();
        if self.kind == Kind::Zfs {
            self.set_hanging(false);
        }
    }

    /// The medium works again, and has what it had. A file system that has given up is to be mounted again, and a pool to be told
    /// (`zpool clear`).
    ///
    /// # Panics
    /// If it cannot be done.
    pub fn mend(&self) {
        let (image, aside) = (self.image(), self.aside());
        command(&["mount", "-o", "remount,size=100%", image.parent().unwrap().as_str()]);
        fs::remove_file(self.filler()).unwrap();
        // Into the same file, which is open.
        command(&["cp", "--sparse=always", aside.as_str(), image.as_str()]);
        fs::remove_file(aside).unwrap();
    }

    fn filler(&self) -> Utf8PathBuf {
        self.work.join("images/filler")
    }

    fn aside(&self) -> Utf8PathBuf {
        self.work.join("aside.img")
    }

    /// It takes no writes; or again.
    ///
    /// # Panics
    /// If it cannot be done.
    pub fn set_read_only(&self, read_only: bool) {
        match (self.kind, read_only) {
            (Kind::Zfs, true) => command(&["zfs", "set", "readonly=on", DATASET]),
            (Kind::Zfs, false) => command(&["zfs", "set", "readonly=off", DATASET]),
            (_, true) => command(&["mount", "-o", "remount,ro", self.mountpoint().as_str()]),
            (_, false) => command(&["mount", "-o", "remount,rw", self.mountpoint().as_str()]),
        }
    }

    /// From now on the disk does not answer; or again.
    ///
    /// # Panics
    /// If it cannot be done.
    pub fn set_hanging(&self, hangs: bool) {
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

impl Drop for TestDisk {
    fn drop(&mut self) {
        if let Some(daemon) = &mut self.daemon {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}

/// Runs a command that must succeed.
///
/// # Panics
/// If it does not.
pub fn command(words: &[&str]) {
    let output = Command::new(words[0]).args(&words[1..]).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{words:?}: {output:?}");
}

/// Between two looks, where nobody tells when something has changed: neither `zfs-fuse` when it answers, nor ZFS when it has closed what was
/// unmounted, nor a file system when it has freed what was removed. A look starts a program, which takes about as long.
const LOOK_PAUSE: Duration = Duration::from_millis(20);

/// Waits until something is so; fails with what was seen last. A look that does not end is what was seen last.
///
/// # Panics
/// If that takes more than [`LIMIT`].
pub async fn wait_for(what: &str, mut look: impl AsyncFnMut() -> Result<(), String>) {
    let until = Instant::now() + LIMIT;
    let mut seen = "nothing yet".to_owned();
    loop {
        match timeout_at(until, look()).await {
            Ok(Ok(())) => return,
            Ok(Err(now)) => seen = now,
            Err(_) => {}
        }
        assert!(Instant::now() < until, "waited {LIMIT:?} for {what}: {seen}");
        sleep(LOOK_PAUSE).await;
    }
}
