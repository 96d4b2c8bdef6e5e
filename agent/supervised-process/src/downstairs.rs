//! The Downstairs of a disk: it has the directory where the disk is mounted, and listens at an address.

use crate::{
    command_line::{Words, behind},
    end::{self, EndError},
    proof::{self, Holder, HolderError},
};
use camino::Utf8Path;
use std::net::SocketAddr;

/// The arguments that make the agent's program the Downstairs of a disk; others may follow.
#[must_use]
pub fn arguments(dir: &Utf8Path, address: SocketAddr) -> Vec<String> {
    before_address(dir).into_iter().map(str::to_owned).chain([address.to_string()]).collect()
}

fn before_address(dir: &Utf8Path) -> [&str; 5] {
    ["downstairs", "--datasets", "--directory", dir.as_str(), "--listen"]
}

/// Looks who serves the disk that is mounted there; ours is its Downstairs, wherever that listens.
///
/// # Errors
/// [`HolderError`].
pub fn look(dir: &Utf8Path) -> Result<Holder<SocketAddr>, HolderError> {
    proof::look(dir, |words| address_in(words, dir))
}

/// Ends the Downstairs of the disk that is mounted there; done if nobody serves it. Whoever is not provably that one is left alone.
///
/// # Errors
/// [`EndError`].
pub async fn end(dir: &Utf8Path) -> Result<(), EndError> {
    end::end(look(dir)?, "Downstairs", dir).await
}

/// Whether these are the arguments of this disk's Downstairs. That a process has them proves nothing.
#[must_use]
pub fn is_told_by(words: Words<'_>, dir: &Utf8Path) -> bool {
    address_in(words, dir).is_some()
}

fn address_in(words: Words<'_>, dir: &Utf8Path) -> Option<SocketAddr> {
    behind(words, &before_address(dir))?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{command_line::started, pantry};
    use daemon::state_lock::StateLock;
    use std::{
        fs,
        process::{Child, Command, Stdio},
    };

    /// A process with these words as its command line, which holds nothing.
    fn sleeper(words: &[String]) -> Child {
        let mut command = Command::new("bash");
        // `exec -a` names the program; the rest of the words would be sleep's, so it reads from a pipe that nobody writes instead.
        command.args(["-c", "read line; exit 0"]).args(words).stdin(Stdio::piped());
        command.spawn().expect("bash is there")
    }

    #[test]
    fn who_holds_a_disk_and_is_not_its_downstairs_is_not_ours() {
        let temp = camino_tempfile::tempdir().unwrap();
        assert!(matches!(look(temp.path()).unwrap(), Holder::Nobody));
        // This very process holds the lock, and is a test.
        let _lock = StateLock::take(temp.path()).unwrap();
        let Holder::Unknown { pid, why } = look(temp.path()).unwrap() else { panic!("it is not ours") };
        assert_eq!(pid, Some(std::process::id()));
        assert!(why.contains("command line"), "{why}");
        // The file names a process that is not there.
        for (said, expected) in [("4194999", "no process"), ("4294967295", "no pid"), ("", "not said")] {
            fs::write(temp.path().join("lock"), said).unwrap();
            let Holder::Unknown { why, .. } = look(temp.path()).unwrap() else { panic!("it is not ours") };
            assert!(why.contains(expected), "{said}: {why}");
        }
        // Or one that runs something else.
        let mut other = sleeper(&arguments(temp.path(), "127.0.0.1:1".parse().unwrap()));
        let started = started(|words| is_told_by(words, temp.path())).unwrap();
        assert!(!started.contains(&other.id()), "they are another program's words");
        fs::write(temp.path().join("lock"), other.id().to_string()).unwrap();
        let Holder::Unknown { why, .. } = look(temp.path()).unwrap() else { panic!("it is not ours") };
        assert!(why.contains("command line"), "{why}");
        assert!(other.try_wait().unwrap().is_none(), "it was left alone");
        other.kill().unwrap();
        other.wait().unwrap();
    }

    #[test]
    fn its_arguments_are_read_again_and_those_of_others_are_not() {
        let (dir, address) = (Utf8Path::new("/disk"), "127.0.0.1:12400".parse().unwrap());
        let read = |arguments: &[String], dir: &str| {
            let words: Vec<&[u8]> = arguments.iter().map(String::as_bytes).collect();
            address_in(&words, dir.into())
        };
        let mut words = arguments(dir, address);
        words.push("--log-json".to_owned());
        assert_eq!(read(&words, "/disk"), Some(address));
        assert_eq!((read(&words, "/dis"), read(&words, "/disk/0")), (None, None));
        for count in 0..6 {
            assert_eq!(read(&words[..count], "/disk"), None);
        }
        words[5] = "nowhere".to_owned();
        assert_eq!(read(&words, "/disk"), None);
        assert_eq!(read(&pantry::arguments(dir, "127.0.0.1:12400".into()), "/disk"), None);
    }
}
