//! The Pantry of a sled: it has a directory below its agent's state, and listens at a unix socket.

use crate::{
    command_line::{Words, behind},
    end::{self, EndError},
    proof::{self, Holder, HolderError},
};
use camino::{Utf8Path, Utf8PathBuf};
use std::net::IpAddr;

/// Where the Pantry of an agent with this state directory has its sockets. Short: a socket's path has 107 bytes at most.
#[must_use]
pub fn directory(state_dir: &Utf8Path) -> Utf8PathBuf {
    state_dir.join("pantry")
}

/// The arguments that make the agent's program the Pantry of a directory; others may follow.
#[must_use]
pub fn arguments(directory: &Utf8Path, socket: &Utf8Path) -> Vec<String> {
    before_socket(directory).into_iter().chain([socket.as_str()]).map(str::to_owned).collect()
}

/// Those that follow: from where it comes to members of volumes.
#[must_use]
pub fn source_arguments(address: IpAddr) -> [String; 2] {
    ["--address".to_owned(), address.to_string()]
}

/// Others that may follow: who is told of repairs of volumes, by which token, and where it is kept until then. None, if there is nobody.
#[must_use]
pub fn telling_arguments(
    directory: &Utf8Path,
    coordinators: &[String],
    token_file: &Utf8Path,
) -> Vec<String> {
    if coordinators.is_empty() {
        return Vec::new();
    }
    let notices = directory.join("notices");
    let kept = ["--notices", notices.as_str(), "--notify-token-file", token_file.as_str()];
    let told = coordinators.iter().flat_map(|url| ["--notify", url.as_str()]);
    kept.into_iter().chain(told).map(str::to_owned).collect()
}

fn before_socket(directory: &Utf8Path) -> [&str; 4] {
    ["pantry", "--directory", directory.as_str(), "--socket"]
}

/// Looks who has the directory, which need not be there; ours is its Pantry, wherever that listens.
///
/// # Errors
/// [`HolderError`].
pub fn look(directory: &Utf8Path) -> Result<Holder<Utf8PathBuf>, HolderError> {
    proof::look(directory, |words| socket_in(words, directory))
}

/// Ends the Pantry of a directory; done if there is none. Whoever is not provably that one is left alone.
///
/// # Errors
/// [`EndError`].
pub async fn end(directory: &Utf8Path) -> Result<(), EndError> {
    end::end(look(directory)?, "Pantry", directory).await
}

/// Whether these are the arguments of this directory's Pantry. That a process has them proves nothing.
#[must_use]
pub fn is_told_by(words: Words<'_>, directory: &Utf8Path) -> bool {
    socket_in(words, directory).is_some()
}

fn socket_in(words: Words<'_>, directory: &Utf8Path) -> Option<Utf8PathBuf> {
    behind(words, &before_socket(directory)).map(Utf8PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::downstairs;
    use daemon::state_lock::StateLock;

    #[test]
    fn who_holds_its_directory_and_is_no_pantry_is_not_ours() {
        let temp = camino_tempfile::tempdir().unwrap();
        let directory = directory(temp.path());
        assert!(matches!(look(&directory).unwrap(), Holder::Nobody), "it is not there");
        let lock = StateLock::take(&directory).unwrap();
        let Holder::Unknown { pid, why } = look(&directory).unwrap() else { panic!("it is not ours") };
        assert_eq!(pid, Some(std::process::id()));
        assert!(why.contains("command line"), "{why}");
        drop(lock);
        assert!(matches!(look(&directory).unwrap(), Holder::Nobody));
    }

    #[tokio::test]
    async fn only_a_pantry_is_asked_to_end() {
        let temp = camino_tempfile::tempdir().unwrap();
        let directory = directory(temp.path());
        end(&directory).await.unwrap();
        let _lock = StateLock::take(&directory).unwrap();
        let refusal = end(&directory).await.unwrap_err().to_string();
        let (me, words) = (std::process::id(), "that is not provably its Pantry");
        assert!(
            refusal.starts_with(&format!("{directory} is in use by a process (pid {me}) {words}")),
            "{refusal}"
        );
    }

    #[test]
    fn its_arguments_are_read_again_and_those_of_others_are_not() {
        let (directory, socket) = (Utf8Path::new("/state/pantry"), Utf8Path::new("/state/pantry/socket"));
        let read = |arguments: &[String], directory: &str| {
            let words: Vec<&[u8]> = arguments.iter().map(String::as_bytes).collect();
            socket_in(&words, directory.into())
        };
        let mut words = arguments(directory, socket);
        words.push("--log-json".to_owned());
        assert_eq!(read(&words, "/state/pantry").as_deref(), Some(socket));
        assert_eq!((read(&words, "/state"), read(&words, "/state/pantry/0")), (None, None));
        for count in 0..5 {
            assert_eq!(read(&words[..count], "/state/pantry"), None);
        }
        let others = downstairs::arguments(directory, "127.0.0.1:12400".parse().unwrap());
        assert_eq!(read(&others, "/state/pantry"), None);
    }
}
