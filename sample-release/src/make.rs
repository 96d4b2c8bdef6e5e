//! Puts a release together and on disk.
//!
//! Steps, and what a crash after each leaves: (1) a temporary file in the target's folder: garbage with a random
//! name; (2) targets, metadata, central directory, defects: the same; (3) rename: the whole release. The name that
//! was asked for never stands for half a file. The bytes are not synced: a release can be made again.

use crate::{
    content::Content,
    defect::Defect,
    keys::{Keys, KeysError},
    metadata::{self, Metadata, Target},
    release::SampleRelease,
    surgery,
    zip_writer::{OddEntry, Twist, ZipWriter, hash, sha512},
};
use camino::{Utf8Path, Utf8PathBuf};
use camino_tempfile::NamedUtf8TempFile;
use flate2::{Compression, Crc, write::DeflateEncoder};
use ids::ArtifactHash;
use rawzip::CompressionMethod;
use serde_json::json;
use std::{
    fs,
    io::{self, BufWriter, Write},
};
use thiserror::Error;

/// Bytes gathered before they are written.
const WRITE_BUFFER_BYTES: usize = 1 << 20;

/// What was made.
#[derive(Clone, Debug)]
pub struct MadeRelease {
    /// The zip.
    pub path: Utf8PathBuf,
    /// The `root.json` to add as a trust root.
    pub root_json: Vec<u8>,
    /// The release's version.
    pub system_version: String,
    /// Its artifacts, in the order of the description.
    pub artifacts: Vec<MadeArtifact>,
    /// Bytes of the zip.
    pub zip_bytes: u64,
}

/// One artifact of what was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MadeArtifact {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its kind.
    pub kind: String,
    /// Its target's path.
    pub target: String,
    /// SHA-256 of its bytes.
    pub hash: ArtifactHash,
    /// Its bytes.
    pub size: u64,
}

/// Why a release could not be made.
#[derive(Debug, Error)]
pub enum MakeError {
    /// The file could not be written.
    #[error("writing the release {path} failed")]
    Write {
        /// The file that was asked for.
        path: Utf8PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// No keys could be made for a stranger's signatures.
    #[error("making keys for the release failed")]
    Keys(#[from] KeysError),
}

impl SampleRelease {
    /// Makes the release at `path`, in place of what is there.
    ///
    /// # Errors
    /// [`MakeError`]; then `path` is as it was.
    pub fn make(&self, keys: &Keys, path: &Utf8Path) -> Result<MadeRelease, MakeError> {
        let write_error = |source| MakeError::Write { path: path.to_owned(), source };
        let signer = if self.has(Defect::UnknownRoot) { Keys::generate()? } else { keys.clone() };
        let folder = path.parent().filter(|folder| !folder.as_str().is_empty()).unwrap_or(Utf8Path::new("."));
        let mut file = NamedUtf8TempFile::new_in(folder).map_err(write_error)?;
        let artifacts = self.write(&signer, file.as_file_mut()).map_err(write_error)?;
        surgery::operate(self, file.path()).map_err(write_error)?;
        let zip_bytes = fs::metadata(file.path()).map_err(write_error)?.len();
        file.persist(path).map_err(|error| write_error(error.error))?;
        Ok(MadeRelease {
            path: path.to_owned(),
            root_json: metadata::metadata(self, keys, &[]).trust_root,
            system_version: self.system_version.clone(),
            artifacts,
            zip_bytes,
        })
    }

    fn write(&self, signer: &Keys, file: &mut fs::File) -> io::Result<Vec<MadeArtifact>> {
        let mut zip = ZipWriter::new(BufWriter::with_capacity(WRITE_BUFFER_BYTES, file));
        let mut targets = Vec::new();
        for (index, artifact) in self.artifacts.iter().enumerate() {
            targets.push(self.target(&mut zip, &artifact.target, &artifact.content, self.fate(index))?);
        }
        let artifacts = self.made(&targets);
        if self.describes_artifacts && !self.has(Defect::VersionMissing) {
            let content = Content::Bytes(self.artifacts_json());
            targets.push(self.target(&mut zip, "artifacts.json", &content, Fate::Written(Twist::None))?);
        }
        let Metadata { files, .. } = metadata::metadata(self, signer, &targets);
        for (name, content) in files {
            zip.file(&format!("{}metadata/{name}", self.outer()), &Content::Bytes(content), Twist::None)?;
        }
        for defect in &self.defects {
            self.odd_entries(*defect, &mut zip)?;
        }
        zip.finish()?.flush()?;
        Ok(artifacts)
    }

    /// Writes one target and says what is to be signed.
    fn target(
        &self,
        zip: &mut ZipWriter<impl Write>,
        path: &str,
        content: &Content,
        fate: Fate,
    ) -> io::Result<Target> {
        let sha512 = if self.sha512_names { Some(sha512(content)?) } else { None };
        let name = match self.consistent_snapshot {
            // The name starts with the hash, so the content is made twice.
            true => {
                let digest = match &sha512 {
                    Some(sha512) => sha512.clone(),
                    None => ArtifactHash(hash(content)?.sha256).to_string(),
                };
                let (folder, file) = path.split_at(path.rfind('/').map_or(0, |slash| slash + 1));
                format!("{}targets/{folder}{digest}.{file}", self.outer())
            }
            false => format!("{}targets/{path}", self.outer()),
        };
        let hashed = match fate {
            Fate::Written(twist) => zip.file(&name, content, twist)?,
            Fate::Forgotten => hash(content)?,
        };
        Ok(Target { path: path.to_owned(), length: hashed.length, sha256: hashed.sha256, sha512 })
    }

    /// Which artifact a defect of targets hits: each another one, where there are enough.
    fn fate(&self, index: usize) -> Fate {
        let last = self.artifacts.len() - 1;
        if self.has(Defect::TargetMissing) && index == last {
            Fate::Forgotten
        } else if self.has(Defect::TargetBytesDiffer) && index == 0 {
            Fate::Written(Twist::OtherByte)
        } else if self.has(Defect::TargetLengthDiffers) && index == 1.min(last) {
            Fate::Written(Twist::OneByteMore)
        } else {
            Fate::Written(Twist::None)
        }
    }

    fn made(&self, targets: &[Target]) -> Vec<MadeArtifact> {
        let pairs = self.artifacts.iter().zip(targets);
        let made = pairs.map(|(artifact, target)| MadeArtifact {
            name: artifact.name.clone(),
            version: artifact.version.clone(),
            kind: artifact.kind.clone(),
            target: artifact.target.clone(),
            hash: ArtifactHash(target.sha256),
            size: target.length,
        });
        made.collect()
    }

    fn artifacts_json(&self) -> Vec<u8> {
        if self.has(Defect::ArtifactsJsonInvalid) {
            return b"{\"system_version\":".to_vec();
        }
        let mut rows: Vec<_> = self
            .artifacts
            .iter()
            .map(|artifact| {
                json!({
                    "name": artifact.name,
                    "version": artifact.version,
                    "kind": artifact.kind,
                    "target": artifact.target,
                })
            })
            .collect();
        if self.has(Defect::ArtifactsJsonDuplicate) {
            rows.extend(rows.first().cloned());
        }
        if self.has(Defect::ArtifactsJsonUnknownTarget) {
            rows.push(json!({"name": "ghost", "version": "1", "kind": "file", "target": "ghost.bin"}));
        }
        if self.has(Defect::ArtifactsJsonEmpty) {
            rows.clear();
        }
        let version = match self.has(Defect::ArtifactsJsonBadVersion) {
            true => "not a version",
            false => &self.system_version,
        };
        serde_json::to_vec_pretty(&json!({"system_version": version, "artifacts": rows}))
            .expect("strings are JSON")
    }

    /// Entries that no release should have.
    fn odd_entries(&self, defect: Defect, zip: &mut ZipWriter<impl Write>) -> io::Result<()> {
        const TEXT: &[u8] = b"odd";
        const BOMB_BYTES: usize = 8 << 20;
        let deflated_text = deflate(TEXT)?;
        let crc = crc_of(TEXT);
        let stored = |name| OddEntry {
            name,
            method: CompressionMethod::STORE,
            mode: Some(0o100_644),
            encrypted: false,
            data: TEXT,
            declared_crc: crc,
            declared_size: TEXT.len() as u64,
        };
        let deflated = |declared_size| OddEntry {
            method: CompressionMethod::DEFLATE,
            data: &deflated_text,
            declared_size,
            ..stored(b"targets/bomb.bin")
        };
        match defect {
            Defect::BombDeclared => zip.odd_entry(&deflated(1 << 40)),
            Defect::BombRatio => zip.odd_entry(&deflated(8 << 30)),
            Defect::BombLying => {
                let zeros = vec![0u8; BOMB_BYTES];
                let data = deflate(&zeros)?;
                let declared_crc = crc_of(&zeros);
                zip.odd_entry(&OddEntry { data: &data, declared_crc, ..deflated(1 << 10) })
            }
            Defect::PathTraversal => zip.odd_entry(&stored(b"../../etc/passwd")),
            Defect::PathAbsolute => zip.odd_entry(&stored(b"/etc/passwd")),
            Defect::DuplicateName => {
                zip.odd_entry(&stored(b"targets/twice.bin"))?;
                zip.odd_entry(&stored(b"targets/twice.bin"))
            }
            Defect::Symlink => zip.odd_entry(&OddEntry { mode: Some(0o120_777), ..stored(b"targets/link") }),
            Defect::Encrypted => {
                zip.odd_entry(&OddEntry { encrypted: true, ..stored(b"targets/secret.bin") })
            }
            Defect::UnsupportedMethod => {
                zip.odd_entry(&OddEntry { method: CompressionMethod::ZSTD, ..stored(b"targets/zstd.bin") })
            }
            Defect::BackslashName => zip.odd_entry(&stored(b"targets\\windows.bin")),
            Defect::NulName => zip.odd_entry(&stored(b"targets/nul\0.bin")),
            Defect::NonUtf8Name => zip.odd_entry(&stored(b"targets/\xff\xfe.bin")),
            Defect::TwoNames => zip.odd_entry(&stored(surgery::TWO_NAMES_ENTRY.as_bytes())),
            Defect::OverlappingEntries => {
                zip.odd_entry(&stored(surgery::OVERLAPPING_ENTRY.as_bytes()))?;
                zip.odd_entry(&stored(b"targets/overlapped.bin"))
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn outer(&self) -> &'static str {
        if self.outer_folder { "repo/" } else { "" }
    }
}

/// What becomes of a signed target.
#[derive(Clone, Copy)]
enum Fate {
    Written(Twist),
    Forgotten,
}

fn deflate(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes)?;
    encoder.finish()
}

fn crc_of(bytes: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(bytes);
    crc.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_descriptions_and_keys_make_equal_artifacts() {
        let dir = camino_tempfile::tempdir().unwrap();
        let keys = Keys::generate().unwrap();
        let release = SampleRelease::small("1.0.0");
        let one = release.make(&keys, &dir.path().join("one.zip")).unwrap();
        let two = release.make(&keys, &dir.path().join("two.zip")).unwrap();
        assert_eq!(one.artifacts, two.artifacts);
        let other = SampleRelease::small("2.0.0").make(&keys, &dir.path().join("other.zip")).unwrap();
        let shared = one.artifacts.iter().filter(|artifact| other.artifacts.contains(artifact)).count();
        assert_eq!(shared, 1);
    }

    #[test]
    fn a_release_that_can_not_be_made_leaves_what_was_there() {
        let dir = camino_tempfile::tempdir().unwrap();
        let keys = Keys::generate().unwrap();
        let path = dir.path().join("folder.zip");
        // A folder can not be replaced by a file: the last step fails.
        fs::create_dir(&path).unwrap();
        fs::write(path.join("kept"), "kept").unwrap();
        assert!(matches!(SampleRelease::small("1").make(&keys, &path), Err(MakeError::Write { .. })));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "a temporary file was left behind");
        assert!(path.join("kept").exists());
    }
}
