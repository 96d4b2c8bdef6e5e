//! Directories that hold a process's state: made when they are missing, and there after a power loss.
//!
//! A file is durable when its bytes and its name are, and its name is only as durable as that of every directory above
//! it. So each directory that is made here is synced into its parent before the next one is made in it.

use camino::Utf8Path;
use std::{
    fs::{self, File},
    io,
};

/// Makes the directory and whatever is missing above it, durably. What is there already is left as it is.
pub fn create(directory: &Utf8Path) -> io::Result<()> {
    let is_there = |path: &Utf8Path| path.as_str().is_empty() || path.exists();
    let missing: Vec<&Utf8Path> = directory.ancestors().take_while(|path| !is_there(path)).collect();
    for path in missing.iter().rev() {
        match fs::create_dir(path) {
            // Somebody else was faster; whether durably is not known.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
            other => other?,
        }
        let parent = path.parent().filter(|parent| !parent.as_str().is_empty());
        File::open(parent.unwrap_or(Utf8Path::new(".")))?.sync_all()?;
    }
    if directory.is_dir() { Ok(()) } else { Err(io::ErrorKind::NotADirectory.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_made_and_what_is_there_stays() {
        let temp = camino_tempfile::tempdir().unwrap();
        let deep = temp.path().join("a/b/c");
        create(&deep).unwrap();
        fs::write(deep.join("kept"), "").unwrap();
        create(&deep).unwrap();
        assert!(deep.join("kept").is_file());
    }

    #[test]
    fn a_file_in_the_way_is_refused() {
        let temp = camino_tempfile::tempdir().unwrap();
        fs::write(temp.path().join("file"), "").unwrap();
        for refused in ["file", "file/below", "file/far/below"] {
            let error = create(&temp.path().join(refused)).expect_err("a file is no directory");
            assert_eq!(error.kind(), io::ErrorKind::NotADirectory, "{refused}");
        }
    }
}
