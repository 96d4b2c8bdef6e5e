//! Who has something below a directory open, as far as this process may see. Owns reading `/proc`; decides nothing.

use camino::Utf8Path;
use serde::Serialize;
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Holders that are named: the first few tell enough.
const HOLDERS_MAX: usize = 8;

/// A process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Holder {
    /// Its id.
    pub pid: u32,
    /// Its program's name, as the kernel keeps it: 15 bytes at most.
    pub name: String,
}

impl Holder {
    /// All of them, for an error.
    pub(crate) fn in_words(holders: &[Holder]) -> String {
        if holders.is_empty() {
            return "somebody who cannot be seen from here".to_owned();
        }
        let words: Vec<_> =
            holders.iter().map(|holder| format!("{} ({})", holder.name, holder.pid)).collect();
        words.join(", ")
    }
}

/// Processes that have a file below `directory` open, or work there. Links are read and not followed, so that nothing here waits for
/// the disk. Processes of others are seen by root only; mappings of closed files are not seen.
pub(crate) fn holders_of(directory: &Utf8Path) -> io::Result<Vec<Holder>> {
    let mut found = Vec::new();
    for process in fs::read_dir("/proc")? {
        let process = process?;
        let pid = process.file_name().to_str().and_then(|name| name.parse().ok());
        let Some(pid) = pid else { continue };
        if found.len() < HOLDERS_MAX && holds(&process.path(), directory.as_std_path()) {
            let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            found.push(Holder { pid, name: name.trim_end().to_owned() });
        }
    }
    found.sort_by_key(|holder| holder.pid);
    Ok(found)
}

/// Whether this process does. One that ends while it is looked at, or may not be looked at, does not.
fn holds(process: &Path, directory: &Path) -> bool {
    let below = |link: PathBuf| fs::read_link(link).is_ok_and(|target| target.starts_with(directory));
    let descriptors = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
    below(process.join("cwd"))
        || below(process.join("root"))
        || descriptors.into_iter().any(|entry| below(entry.path()))
}
