//! Files with the keys of volumes: made once, for their owner's eyes alone. What a key is belongs to `volume-seals`.

use camino::{Utf8Path, Utf8PathBuf};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
};
use volume_seals::{KeyTextError, VolumeKey};
use zeroize::Zeroizing;

/// Bytes of a key file that are read at most: twice as many as it should have, to tell what is wrong with it.
const FILE_MAX: usize = 128;

/// What its owner may do with it, and nobody else may do anything.
const MODE: u32 = 0o600;

/// Why a key file is not used, or not made.
#[derive(Debug, thiserror::Error)]
pub(super) enum KeyFileError {
    /// It cannot be made; one that is there is left as it is.
    #[error("the key file {path} cannot be made")]
    Make {
        /// Where.
        path: Utf8PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It cannot be read.
    #[error("the key file {path} cannot be read")]
    Read {
        /// Which.
        path: Utf8PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A key that others may know is none.
    #[error(
        "the key file {path} has mode {mode:04o}, and nobody but its owner may have any right to it: 0600"
    )]
    Open {
        /// Which.
        path: Utf8PathBuf,
        /// Its rights.
        mode: u32,
    },
    /// There is something else in it. It is not said what.
    #[error("there is no key in {path}")]
    NoKey {
        /// Which.
        path: Utf8PathBuf,
        /// What is wrong with it.
        #[source]
        source: KeyTextError,
    },
}

impl KeyFileError {
    /// A name for programs, which does not change.
    #[must_use]
    pub(super) fn code(&self) -> &'static str {
        match self {
            KeyFileError::Make { .. } => "volume_key_file_not_made",
            KeyFileError::Read { .. } => "volume_key_file_not_read",
            KeyFileError::Open { .. } => "volume_key_file_open_to_others",
            KeyFileError::NoKey { .. } => "volume_key_file_without_key",
        }
    }
}

/// Makes a file with a new key, durable on return. One that is there is not touched: what was written with its key would be lost.
pub(super) fn make(path: &Utf8Path) -> Result<(), KeyFileError> {
    let failed = |source| KeyFileError::Make { path: path.to_owned(), source };
    let mut file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(path).map_err(failed)?;
    let written = file.write_all(VolumeKey::random().to_text().as_bytes()).and_then(|()| {
        file.sync_all()?;
        let directory = path.parent().filter(|parent| !parent.as_str().is_empty());
        File::open(directory.unwrap_or(Utf8Path::new(".")))?.sync_all()
    });
    written.map_err(|source| {
        // Half a key would look like one that is spoilt. If it cannot be removed, it says so itself.
        let _ = fs::remove_file(path);
        failed(source)
    })
}

/// The key of a file.
pub(super) fn read(path: &Utf8Path) -> Result<VolumeKey, KeyFileError> {
    let failed = |source| KeyFileError::Read { path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    // Of the file that is open, not of what has its name by now.
    let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(KeyFileError::Open { path: path.to_owned(), mode });
    }
    // With all its room at once: what it leaves behind when it grows is not wiped.
    let mut text = Zeroizing::new(Vec::with_capacity(2 * FILE_MAX));
    file.take(FILE_MAX as u64).read_to_end(&mut text).map_err(failed)?;
    let key = std::str::from_utf8(&text)
        .map_err(|error| KeyTextError::Digit(error.valid_up_to()))
        .and_then(str::parse);
    key.map_err(|source| KeyFileError::NoKey { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ids::RegionSetId;

    fn check(path: &Utf8Path) -> String {
        read(path).expect("it has a key").check(RegionSetId::generate()).to_string()
    }

    #[test]
    fn a_key_file_is_its_owners_alone_and_never_made_over_another_one() {
        let directory = camino_tempfile::tempdir().expect("a directory");
        let path = directory.path().join("key");
        make(&path).expect("it is made");
        assert_eq!(fs::metadata(&path).expect("it is there").permissions().mode() & 0o7777, 0o600);
        let text = fs::read_to_string(&path).expect("it is text");
        assert_eq!(text.len(), 65);
        assert_eq!(make(&path).expect_err("it is there").code(), "volume_key_file_not_made");
        assert_eq!(fs::read_to_string(&path).expect("it is text"), text);
        assert_eq!(check(&path).len(), 32);
        let other = directory.path().join("other");
        make(&other).expect("it is made");
        assert_ne!(fs::read_to_string(&other).expect("it is text"), text);
    }

    #[test]
    fn a_key_that_others_may_read_or_change_is_refused() {
        let directory = camino_tempfile::tempdir().expect("a directory");
        let path = directory.path().join("key");
        make(&path).expect("it is made");
        for mode in [0o640, 0o604, 0o620, 0o601, 0o644] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("it is ours");
            let error = read(&path).expect_err("others may read it");
            assert_eq!(error.code(), "volume_key_file_open_to_others", "{mode:o}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).expect("it is ours");
        check(&path);
    }

    #[test]
    fn what_is_no_key_is_refused_and_not_repeated() {
        let directory = camino_tempfile::tempdir().expect("a directory");
        let path = directory.path().join("key");
        assert_eq!(read(&path).expect_err("there is none").code(), "volume_key_file_not_read");
        make(&path).expect("it is made");
        let key = fs::read_to_string(&path).expect("it is text");
        for wrong in
            ["", "secret\n", &key[..63], &key.replacen(char::is_alphanumeric, "g", 1), &key.repeat(9)]
        {
            fs::write(&path, wrong).expect("it is ours");
            let error = read(&path).expect_err("it is none");
            assert_eq!(error.code(), "volume_key_file_without_key", "{wrong}");
            let words = problem::chain(&error);
            assert!(!words.contains("secret") && !words.contains(&key[8..16]), "{words}");
        }
        fs::write(&path, [0xff; 64]).expect("it is ours");
        assert_eq!(read(&path).expect_err("it is no text").code(), "volume_key_file_without_key");
    }
}
