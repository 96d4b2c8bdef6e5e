//! Where PostgreSQL's programs are. Debian keeps them out of PATH, in a directory of each version.

use anyhow::{Result, bail};
use camino::{Utf8Path, Utf8PathBuf};

/// Debian's directory of all versions.
const DEBIAN: &str = "/usr/lib/postgresql";

/// Names another directory of programs.
const VARIABLE: &str = "BOBSLED_POSTGRES_BIN";

/// PostgreSQL's programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Programs {
    directory: Utf8PathBuf,
}

impl Programs {
    /// The programs of this machine: of `BOBSLED_POSTGRES_BIN`, else of PATH, else of Debian's newest version.
    #[must_use]
    pub fn find() -> Option<Programs> {
        if let Ok(named) = std::env::var(VARIABLE) {
            return complete(Utf8PathBuf::from(named));
        }
        let path = std::env::var("PATH").unwrap_or_default();
        path.split(':')
            .filter(|directory| !directory.is_empty())
            .find_map(|directory| complete(directory.into()))
            .or_else(|| newest(Utf8Path::new(DEBIAN)))
    }

    /// As [`find`](Self::find), with words on what to do.
    pub fn required() -> Result<Programs> {
        match Programs::find() {
            Some(programs) => Ok(programs),
            None => bail!(
                "no PostgreSQL on this machine: install it (on Debian: apt-get install postgresql), or name the \
                 directory of its programs in {VARIABLE}"
            ),
        }
    }

    /// One of them.
    #[must_use]
    pub fn program(&self, name: &str) -> Utf8PathBuf {
        self.directory.join(name)
    }
}

/// Whether a missing PostgreSQL is a failure. In CI it is: tests that are left out there are left out everywhere.
#[must_use]
pub fn is_required() -> bool {
    std::env::var("CI").is_ok_and(|ci| ci == "true")
}

fn complete(directory: Utf8PathBuf) -> Option<Programs> {
    let is_complete =
        ["initdb", "pg_ctl", "postgres", "createdb"].iter().all(|name| directory.join(name).is_file());
    is_complete.then_some(Programs { directory })
}

fn newest(versions: &Utf8Path) -> Option<Programs> {
    let entries = versions.read_dir_utf8().ok()?;
    let mut versions: Vec<(u32, Utf8PathBuf)> = entries
        .filter_map(Result::ok)
        .filter_map(|entry| Some((entry.file_name().parse().ok()?, entry.path().join("bin"))))
        .collect();
    versions.sort();
    versions.into_iter().rev().find_map(|(_, directory)| complete(directory))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn the_newest_complete_version_is_taken() {
        let dir = camino_tempfile::tempdir().unwrap();
        for (version, programs) in [("9", true), ("15", true), ("16", false)] {
            let bin = dir.path().join(version).join("bin");
            fs::create_dir_all(&bin).unwrap();
            let names: &[&str] =
                if programs { &["initdb", "pg_ctl", "postgres", "createdb"] } else { &["initdb"] };
            for name in names {
                fs::write(bin.join(name), "").unwrap();
            }
        }
        assert_eq!(newest(dir.path()).unwrap().directory, dir.path().join("15/bin"));
        assert_eq!(newest(&dir.path().join("nowhere")), None);
    }
}
