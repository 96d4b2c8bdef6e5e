//! The metadata files of one archive, in memory and bounded, and the way `tough` reads them.
//!
//! Metadata is small next to targets, and each file is read several times (once per trust root, once to say what
//! is wrong), so it is taken in once. What the files say is for [`crate::metadata`] and [`crate::diagnosis`].

use crate::{
    entry_reader::{ReadFault, read_small},
    findings::{Findings, Warnings},
    key_rules::check_signature_count,
    layout::Layout,
    zip_index::ZipIndex,
};
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream;
use problem::Code;
use serde::Deserialize;
use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    io,
    sync::Arc,
};
use tough::{Transport, TransportError, TransportErrorKind, TransportStream};
use url::Url;

/// The largest metadata file, in bytes: a `targets.json` of some 20,000 targets. Parsed, it takes about four
/// times that, and the whole coordinator is to stay under 64 MiB.
pub(crate) const METADATA_BYTES_MAX: u64 = 4 << 20;
/// All metadata files together, in bytes; for the same reason.
const METADATA_TOTAL_BYTES_MAX: u64 = 12 << 20;
/// The most metadata files. Delegations are followed recursively, here and in `tough`, one file per level, and
/// the stack of a thread is 2 MiB.
const METADATA_FILES_MAX: usize = 100;
/// Where the metadata folder is, as far as `tough` is concerned.
pub(crate) const METADATA_URL: &str = "release://archive/metadata/";
/// Where the targets folder is, as far as `tough` is concerned: it is asked for none.
pub(crate) const TARGETS_URL: &str = "release://archive/targets/";

/// What the archive has under a file name.
pub(crate) enum Lookup<'a> {
    /// The file.
    Present(&'a Bytes),
    /// An entry that was refused or is damaged; that has been reported.
    Unreadable,
    /// Nothing.
    Missing,
}

/// The metadata files of one archive, by their name within the metadata folder.
#[derive(Debug)]
pub(crate) struct MetadataFiles {
    layout: Layout,
    files: BTreeMap<String, Bytes>,
    unreadable: BTreeSet<String>,
}

impl MetadataFiles {
    /// Reads every metadata file of the archive. Blocking.
    ///
    /// # Errors
    /// Only where the machine failed.
    pub(crate) fn read(
        index: &ZipIndex,
        layout: Layout,
        findings: &mut Findings,
        warnings: &mut Warnings,
    ) -> io::Result<MetadataFiles> {
        let unreadable =
            index.refused.iter().filter_map(|name| layout.metadata_file(name)).map(str::to_owned).collect();
        let mut read = MetadataFiles { layout, files: BTreeMap::new(), unreadable };
        let mut total = 0u64;
        for (name, entry) in &index.entries {
            let Some(file) = read.layout.metadata_file(name) else { continue };
            total = total.saturating_add(entry.size);
            if read.files.len() == METADATA_FILES_MAX || total > METADATA_TOTAL_BYTES_MAX {
                findings.about(
                    Code::MetadataInvalid,
                    name,
                    format!(
                        "more metadata than the {METADATA_FILES_MAX} files and {METADATA_TOTAL_BYTES_MAX} bytes \
                         that are accepted"
                    ),
                );
                break;
            }
            let file = file.to_owned();
            match read_small(&index.file, entry, METADATA_BYTES_MAX) {
                Ok(content) => match check_signature_count(&content) {
                    Ok(()) => drop(read.files.insert(file, content.into())),
                    Err(reason) => {
                        findings.about(Code::MetadataInvalid, name, reason);
                        read.unreadable.insert(file);
                    }
                },
                Err(ReadFault::Refused(code, reason)) => {
                    findings.about(code, name, reason);
                    read.unreadable.insert(file);
                }
                Err(ReadFault::Io(error)) => return Err(error),
                Err(ReadFault::Stopped) => warnings.add(format!("{name} was not read to its end")),
            }
        }
        Ok(read)
    }

    /// The file of this name. The name of a delegated role may be percent-encoded in the file's name (`tuftool`
    /// writes it so) or plain (python-tuf's repositories): both are looked for.
    pub(crate) fn get(&self, file: &str) -> Lookup<'_> {
        match self.exactly(file) {
            Lookup::Missing => percent_decoded(file).map_or(Lookup::Missing, |plain| self.exactly(&plain)),
            found => found,
        }
    }

    fn exactly(&self, file: &str) -> Lookup<'_> {
        match self.files.get(file) {
            Some(content) => Lookup::Present(content),
            None if self.unreadable.contains(file) => Lookup::Unreadable,
            None => Lookup::Missing,
        }
    }

    /// The name of a metadata file as the archive has it, for people.
    pub(crate) fn entry_name(&self, file: &str) -> String {
        self.layout.metadata_entry(file)
    }

    /// Every file of a role that can be read: `root.json` and `<version>.root.json`, lowest version first.
    pub(crate) fn versions_of(&self, role: &str) -> Vec<(&str, &Bytes)> {
        let mut found: Vec<(u64, &str, &Bytes)> = self
            .files
            .iter()
            .filter_map(|(file, content)| Some((version_of(file, role)?, file.as_str(), content)))
            .collect();
        found.sort_by_key(|(version, ..)| *version);
        found.into_iter().map(|(_, file, content)| (file, content)).collect()
    }

    /// Whether the archive has any file of this role, readable or not.
    pub(crate) fn has(&self, role: &str) -> bool {
        self.files.keys().chain(&self.unreadable).any(|file| version_of(file, role).is_some())
    }
}

/// The name with its `%XX` taken back; `None` without any, or where the outcome is no text.
fn percent_decoded(name: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = &rest[2..];
    }
    String::from_utf8(bytes).ok().filter(|plain| plain != name)
}

/// The version in a file name of this role; 0 without one.
fn version_of(file: &str, role: &str) -> Option<u64> {
    let stem = file.strip_suffix(".json")?.strip_suffix(role)?;
    match stem.strip_suffix('.') {
        Some(version) => version.parse().ok(),
        None => stem.is_empty().then_some(0),
    }
}

/// The role that a metadata file is of, by its name: one of the four, or else delegated targets.
fn role_of(file: &str) -> &'static str {
    ["root", "timestamp", "snapshot"]
        .into_iter()
        .find(|role| version_of(file, role).is_some())
        .unwrap_or("targets")
}

/// Whether the file says that it is of the role. `tough` does not look: it puts the right type in before it
/// verifies the signature, so that this one field could be changed unnoticed.
pub(crate) fn is_of_role(content: &[u8], role: &str) -> bool {
    #[derive(Deserialize)]
    struct Outer<'a> {
        #[serde(borrow)]
        signed: Inner<'a>,
    }
    #[derive(Deserialize)]
    struct Inner<'a> {
        #[serde(rename = "_type", borrow)]
        role: Cow<'a, str>,
    }
    serde_json::from_slice::<Outer<'_>>(content).is_ok_and(|outer| outer.signed.role == role)
}

/// Gives `tough` the metadata files under [`METADATA_URL`], and nothing else.
#[derive(Clone, Debug)]
pub(crate) struct MetadataTransport(pub(crate) Arc<MetadataFiles>);

#[async_trait]
impl Transport for MetadataTransport {
    async fn fetch(&self, url: Url) -> Result<TransportStream, TransportError> {
        let missing = || TransportError::new(TransportErrorKind::FileNotFound, &url);
        let file = url.as_str().strip_prefix(METADATA_URL).ok_or_else(missing)?;
        match self.0.get(file) {
            Lookup::Present(content) if is_of_role(content, role_of(file)) => {
                let content = content.clone();
                Ok(Box::pin(stream::once(async move { Ok(content) })))
            }
            // As an error of the stream: `tough` takes one of `fetch` for "there is no newer root".
            Lookup::Present(_) | Lookup::Unreadable => {
                let error = TransportError::new(TransportErrorKind::Other, &url);
                Ok(Box::pin(stream::once(async move { Err(error) })))
            }
            Lookup::Missing => Err(missing()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_must_say_that_it_is_of_its_role() {
        assert_eq!(role_of("2.root.json"), "root");
        assert_eq!(role_of("timestamp.json"), "timestamp");
        assert_eq!(role_of("1.firmware.json"), "targets");
        assert!(is_of_role(br#"{"signed":{"_type":"root","x":1},"signatures":[]}"#, "root"));
        for other in [r#"{"signed":{"_type":"roou"}}"#, r#"{"signed":{}}"#, "", "{}"] {
            assert!(!is_of_role(other.as_bytes(), "root"), "{other}");
        }
    }

    #[test]
    fn encoded_names_are_taken_back() {
        assert_eq!(percent_decoded("2.a%20b.json").as_deref(), Some("2.a b.json"));
        for name in ["2.ab.json", "a%2", "a%zz", "a%", "a%ff"] {
            assert_eq!(percent_decoded(name), None, "{name}");
        }
    }

    #[test]
    fn versions_are_read_from_file_names() {
        assert_eq!(version_of("root.json", "root"), Some(0));
        assert_eq!(version_of("12.root.json", "root"), Some(12));
        assert_eq!(version_of("x.root.json", "root"), None);
        assert_eq!(version_of("subroot.json", "root"), None);
        assert_eq!(version_of("1.targets.json", "root"), None);
    }
}
