//! Where a TUF repository keeps its files inside the archive. Pure.
//!
//! ```text
//! [repo/]metadata/<role>.json            or  <version>.<role>.json        (consistent snapshots)
//! [repo/]targets/<path>/<file>           or  <path>/<digest>.<file>       (consistent snapshots, specification)
//!                                        or  <digest>.<path>/<file>       (consistent snapshots, as tuftool writes)
//! ```
//! Which of the spellings a repository uses is not told apart by `consistent_snapshot` alone: programs differ in
//! what they do with targets. So every spelling is tried; the signed digest decides whether the file is right.

use std::collections::BTreeMap;

/// The folder that `tufaceous` puts around a repository.
const OUTER_FOLDER: &str = "repo/";

/// The place of the repository in the archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    outer: &'static str,
}

impl Layout {
    /// Finds the repository by its metadata folder.
    ///
    /// # Errors
    /// Two repositories in one archive.
    pub(crate) fn find<V>(entries: &BTreeMap<String, V>) -> Result<Layout, String> {
        let has = |outer: &str| {
            let folder = format!("{outer}metadata/");
            entries.range(folder.clone()..).next().is_some_and(|(name, _)| name.starts_with(&folder))
        };
        match (has(""), has(OUTER_FOLDER)) {
            (true, true) => {
                Err("the archive has a metadata/ and a repo/metadata/: which one counts?".to_owned())
            }
            (false, true) => Ok(Layout { outer: OUTER_FOLDER }),
            _ => Ok(Layout { outer: "" }),
        }
    }

    /// The file name within the metadata folder, if the entry is a metadata file.
    pub(crate) fn metadata_file<'a>(&self, entry: &'a str) -> Option<&'a str> {
        let file = entry.strip_prefix(self.outer)?.strip_prefix("metadata/")?;
        (file.ends_with(".json") && !file.contains('/')).then_some(file)
    }

    /// The entry's name of a metadata file.
    pub(crate) fn metadata_entry(&self, file: &str) -> String {
        format!("{}metadata/{file}", self.outer)
    }

    /// Whether the entry lies where targets lie.
    pub(crate) fn is_target(&self, entry: &str) -> bool {
        entry.strip_prefix(self.outer).is_some_and(|inner| inner.starts_with("targets/"))
    }

    /// The names under which the target may stand in the archive, the likeliest first. `digests`: each of the
    /// target's signed digests, hexadecimal, whatever the algorithm.
    pub(crate) fn target_entries(&self, target: &str, digests: &[String], consistent: bool) -> Vec<String> {
        let outer = self.outer;
        let plain = format!("{outer}targets/{target}");
        let (folder, file) = match target.rsplit_once('/') {
            Some((folder, file)) => (format!("{folder}/"), file),
            None => (String::new(), target),
        };
        let mut entries: Vec<String> = Vec::new();
        for digest in digests {
            entries.push(format!("{outer}targets/{folder}{digest}.{file}"));
            if !folder.is_empty() {
                entries.push(format!("{outer}targets/{digest}.{target}"));
            }
        }
        if consistent {
            entries.push(plain);
        } else {
            entries.insert(0, plain);
        }
        entries
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(names: &[&str]) -> BTreeMap<String, ()> {
        names.iter().map(|name| ((*name).to_owned(), ())).collect()
    }

    #[test]
    fn both_layouts_are_found_and_two_at_once_are_refused() {
        assert_eq!(Layout::find(&entries(&["metadata/1.root.json", "targets/a"])).unwrap().outer, "");
        assert_eq!(Layout::find(&entries(&["repo/metadata/1.root.json"])).unwrap().outer, "repo/");
        assert_eq!(Layout::find(&entries(&["README"])).unwrap().outer, "");
        assert!(Layout::find(&entries(&["metadata/root.json", "repo/metadata/root.json"])).is_err());
    }

    #[test]
    fn only_json_files_directly_in_the_folder_are_metadata() {
        let layout = Layout { outer: "repo/" };
        assert_eq!(layout.metadata_file("repo/metadata/1.root.json"), Some("1.root.json"));
        assert_eq!(layout.metadata_file("metadata/1.root.json"), None);
        assert_eq!(layout.metadata_file("repo/metadata/old/1.root.json"), None);
        assert_eq!(layout.metadata_file("repo/metadata/README"), None);
        assert_eq!(layout.metadata_entry("a.json"), "repo/metadata/a.json");
    }

    #[test]
    fn every_spelling_of_a_target_is_tried() {
        let layout = Layout { outer: "" };
        assert_eq!(
            layout.target_entries("a/b.bin", &["ff".to_owned()], true),
            ["targets/a/ff.b.bin", "targets/ff.a/b.bin", "targets/a/b.bin"]
        );
        assert_eq!(
            layout.target_entries("b.bin", &["ff".to_owned()], false),
            ["targets/b.bin", "targets/ff.b.bin"]
        );
    }
}
