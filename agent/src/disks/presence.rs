//! That a disk is still where it was when it began to be served, seen from the process that serves it. Owns what counts as gone.
//!
//! ```text
//!   serving ──every LOOK──► is the lock that this process holds still at the disk's path?
//!                             ├── yes, or nobody answers ──► serving
//!                             └── another one, or none   ──► gone: the process ends, and whoever supervises it waits for the disk
//! ```
//!
//! A pool that is exported, or a file system that is unmounted lazily, goes on for those who have files open, and cannot be had by anybody
//! else before they end. And when it is mounted again, at the same path, this process's lock is not the one that others see. A disk that
//! hangs or fails is there: it may work again.

use camino::Utf8PathBuf;
use daemon::state_lock::StateLock;
use rustix::fs::statfs;
use std::{fs, io, os::unix::fs::MetadataExt, thread, time::Duration};
use tokio::{sync::oneshot, time::sleep};

/// Between two looks: what waits for the disk's end, such as `zpool export`, is tried again by hand.
const LOOK: Duration = Duration::from_secs(1);

/// The lock that this process holds, and so the disk that it serves.
#[derive(Clone, Debug)]
pub(super) struct Presence {
    lock: Utf8PathBuf,
    device: u64,
    inode: u64,
}

impl Presence {
    /// Of the disk on which that lock was taken: what is held counts, whatever is at its path by now.
    pub(super) fn of(lock: &StateLock) -> io::Result<Presence> {
        let held = lock.metadata()?;
        Ok(Presence { lock: lock.path().to_owned(), device: held.dev(), inode: held.ino() })
    }

    /// Returns once it is gone, with how that is seen.
    pub(super) async fn gone(&self) -> String {
        loop {
            sleep(LOOK).await;
            let presence = self.clone();
            let (tell, told) = oneshot::channel();
            // None of the runtime's threads: a disk that hangs must not keep it from ending. There is one at a time.
            let look = thread::Builder::new().name("presence".to_owned()).spawn(move || {
                // The process may be ending.
                let _ = tell.send(presence.look());
            });
            // Without a thread nothing was seen.
            if look.is_ok()
                && let Ok(Err(why)) = told.await
            {
                return why;
            }
        }
    }

    fn look(&self) -> Result<(), String> {
        // A file's metadata is remembered for an hour where a daemon of FUSE has said so, also when it is dead; the file system's never is.
        let asked = statfs(self.lock.as_std_path()).map_err(io::Error::from);
        match asked.and_then(|_| fs::metadata(&self.lock)) {
            Ok(metadata) if (metadata.dev(), metadata.ino()) == (self.device, self.inode) => Ok(()),
            Ok(_) => Err(format!("{} is not the one that this process has", self.lock)),
            Err(error) if is_gone(&error) => Err(format!("{}: {error}", self.lock)),
            Err(_) => Ok(()),
        }
    }
}

/// Not there; or its mount is, and not the daemon behind it.
fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound
            | io::ErrorKind::NotADirectory
            | io::ErrorKind::NotConnected
            | io::ErrorKind::StaleNetworkFileHandle
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn another_lock_at_the_path_or_none_is_a_disk_that_is_gone() {
        let temp = camino_tempfile::tempdir().unwrap();
        let held = StateLock::take(temp.path()).unwrap();
        let (lock, presence) = (held.path(), Presence::of(&held).unwrap());
        // Whatever is written in it.
        fs::write(lock, "2").unwrap();
        assert_eq!(presence.look(), Ok(()));
        fs::rename(lock, temp.path().join("aside")).unwrap();
        assert!(presence.gone().await.contains("No such file"));
        fs::write(lock, "1").unwrap();
        assert!(presence.gone().await.contains("is not the one"));
        fs::rename(temp.path().join("aside"), lock).unwrap();
        assert_eq!(presence.look(), Ok(()));
    }

    #[test]
    fn a_disk_that_went_away_right_after_its_lock_was_taken_is_gone() {
        let temp = camino_tempfile::tempdir().unwrap();
        let held = StateLock::take(temp.path()).unwrap();
        // Another disk is mounted there, and somebody has that one.
        fs::rename(held.path(), temp.path().join("aside")).unwrap();
        fs::write(held.path(), "1").unwrap();
        let presence = Presence::of(&held).unwrap();
        assert!(presence.look().is_err_and(|why| why.contains("is not the one")));
    }
}
