//! The file that describes a volume: read with a limit, and made once, whole and durable.

use camino::{Utf8Path, Utf8PathBuf};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use std::{
    fs::{self, File},
    io::{self, Read, Write},
};
use uuid::Uuid;
use volume_repair::ConstructionRequest;

/// Bytes of a description at most. One of as many parts as a volume may have takes some 20 KiB.
const BYTES_MAX: u64 = 1 << 20;

/// What the name of one ends with that is being written. A crash may leave it, and nobody reads it.
const UNFINISHED: &str = ".unfinished";

/// Why a description is not used, or not made.
#[derive(Debug, thiserror::Error)]
pub(super) enum DescriptionError {
    /// It is not there, or is not given.
    #[error("the file {path}, which is to describe a volume, cannot be read")]
    NotRead {
        /// Which.
        path: Utf8PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It says something else, or nothing.
    #[error("the file {path} describes no volume")]
    NotUnderstood {
        /// Which.
        path: Utf8PathBuf,
        /// Where, and what.
        #[source]
        source: serde_json::Error,
    },
    /// No description is as long.
    #[error("the file {path} describes no volume: it has more than {BYTES_MAX} bytes")]
    TooLong {
        /// Which.
        path: Utf8PathBuf,
    },
    /// Whoever made it may have no other one.
    #[error("{path} exists already: give another --output")]
    Exists {
        /// Which.
        path: Utf8PathBuf,
    },
    /// The disk refuses.
    #[error("the file {path}, which is to describe the volume, cannot be written")]
    NotWritten {
        /// Which.
        path: Utf8PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl DescriptionError {
    /// A name for programs, which does not change.
    #[must_use]
    pub(super) fn code(&self) -> &'static str {
        match self {
            DescriptionError::NotRead { .. } => "volume_description_not_read",
            DescriptionError::NotUnderstood { .. } | DescriptionError::TooLong { .. } => {
                "volume_description_not_understood"
            }
            DescriptionError::Exists { .. } => "volume_description_exists",
            DescriptionError::NotWritten { .. } => "volume_description_not_written",
        }
    }
}

/// What it says.
pub(super) fn read(path: &Utf8Path) -> Result<ConstructionRequest, DescriptionError> {
    let not_read = |source| DescriptionError::NotRead { path: path.to_owned(), source };
    let mut text = Vec::new();
    File::open(path).map_err(not_read)?.take(BYTES_MAX + 1).read_to_end(&mut text).map_err(not_read)?;
    if text.len() as u64 > BYTES_MAX {
        return Err(DescriptionError::TooLong { path: path.to_owned() });
    }
    serde_json::from_slice(&text)
        .map_err(|source| DescriptionError::NotUnderstood { path: path.to_owned(), source })
}

/// Refuses a place where something is. What is there stays, also if it comes later.
pub(super) fn check_free(path: &Utf8Path) -> Result<(), DescriptionError> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(DescriptionError::NotWritten { path: path.to_owned(), source }),
        Ok(_) => Err(DescriptionError::Exists { path: path.to_owned() }),
    }
}

/// Writes it over the one that is there: on return it is durable. If it fails, either of them is there, whole.
pub(super) fn replace(path: &Utf8Path, request: &ConstructionRequest) -> Result<(), DescriptionError> {
    publish(path, &text_of(request), RenameFlags::empty())
        .map_err(|source| DescriptionError::NotWritten { path: path.to_owned(), source })
}

fn text_of(request: &ConstructionRequest) -> Vec<u8> {
    let mut text = serde_json::to_vec_pretty(request).expect("a request is JSON");
    text.push(b'\n');
    text
}

/// Makes it: on return it is durable. If it fails, nothing has its name that had not before.
pub(super) fn make(path: &Utf8Path, request: &ConstructionRequest) -> Result<(), DescriptionError> {
    publish(path, &text_of(request), RenameFlags::NOREPLACE).map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => DescriptionError::Exists { path: path.to_owned() },
        _ => DescriptionError::NotWritten { path: path.to_owned(), source },
    })
}

fn publish(path: &Utf8Path, text: &[u8], flags: RenameFlags) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_str().is_empty());
    let directory = File::open(directory.unwrap_or(Utf8Path::new(".")))?;
    // Nobody else's, whatever it is called: two that make the same file write two.
    let unfinished = Utf8PathBuf::from(format!("{path}.{}{UNFINISHED}", Uuid::new_v4()));
    let named = write(&unfinished, text)
        .and_then(|()| Ok(renameat_with(CWD, unfinished.as_str(), CWD, path.as_str(), flags)?));
    if named.is_err() {
        // If it cannot be removed, its name says what it is.
        let _ = fs::remove_file(&unfinished);
        return named;
    }
    directory.sync_all().inspect_err(|_| {
        // It would be there, and what it describes would not.
        if flags.contains(RenameFlags::NOREPLACE) {
            let _ = fs::remove_file(path);
        }
    })
}

fn write(path: &Utf8Path, text: &[u8]) -> io::Result<()> {
    let mut file = File::options().write(true).create_new(true).open(path)?;
    file.write_all(text)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn code(result: Result<(), DescriptionError>) -> &'static str {
        result.expect_err("it is refused").code()
    }

    #[test]
    fn what_describes_no_volume_is_refused_by_name() {
        let directory = camino_tempfile::tempdir().expect("a directory");
        let path = directory.path().join("volume.json");
        let refused = || code(read(&path).map(drop));
        assert_eq!(refused(), "volume_description_not_read");
        for text in ["", "{}", "[1, 2", r#"{"id": 5}"#] {
            fs::write(&path, text).expect("it is written");
            assert_eq!(refused(), "volume_description_not_understood", "{text}");
        }
        fs::write(&path, vec![b' '; 2 << 20]).expect("it is written");
        let error = read(&path).expect_err("it is refused");
        assert!(error.to_string().contains("1048576 bytes"), "{error}");
        assert_eq!(code(read(directory.path()).map(drop)), "volume_description_not_read");
    }

    #[test]
    fn one_takes_the_place_of_another_only_where_that_was_asked_for() {
        let directory = camino_tempfile::tempdir().expect("a directory");
        let path = directory.path().join("volume.json");
        let request: ConstructionRequest = serde_json::from_value(serde_json::json!({
            "id": "0194b52a-0000-7000-8000-000000000001", "config_version": 1, "epoch": 1, "block_size": 512,
            "sub_volumes": [{"file": {"path": "/a"}}], "read_only_parent": null,
        }))
        .expect("it is one");
        check_free(&path).expect("nothing is there");
        make(&path, &request).expect("it is made");
        assert_eq!(read(&path).expect("it is read"), request);
        let names = || fs::read_dir(directory.path()).expect("it is read").count();
        assert_eq!(names(), 1);
        assert_eq!(code(make(&path, &request)), "volume_description_exists");
        let newer = ConstructionRequest { config_version: 2, ..request.clone() };
        replace(&path, &newer).expect("it is replaced");
        assert_eq!((read(&path).expect("it is read"), names()), (newer, 1));
        assert_eq!(
            code(replace(&directory.path().join("no/where"), &request)),
            "volume_description_not_written"
        );
        let link = directory.path().join("link");
        symlink("/nowhere/at/all", &link).expect("it is made");
        assert_eq!(code(check_free(&link)), "volume_description_exists");
        assert_eq!(
            code(make(&directory.path().join("no/where"), &request)),
            "volume_description_not_written"
        );
        assert_eq!(names(), 2);
    }
}
