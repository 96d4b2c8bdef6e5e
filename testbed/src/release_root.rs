//! Which root a release says it is signed by. Owns the finding of `metadata/N.root.json` in a zip; whether it is any
//! good is decided by the coordinator.
//!
//! A testbed that is given a release trusts it on sight: it adds the lowest root version that the zip has. With a real
//! cluster the root comes from the publisher, apart from the release.

use anyhow::{Context, Result, bail};
use camino::Utf8Path;
use rawzip::{CompressionMethod, RECOMMENDED_BUFFER_SIZE, ZipArchive};
use std::{fs::File, io::Read};

/// Bytes of a `root.json` at most; roots have a few kilobytes.
const ROOT_BYTES_MAX: u64 = 1024 * 1024;

/// The bytes of the lowest root version in the zip.
pub fn root_in_zip(zip: &Utf8Path) -> Result<Vec<u8>> {
    let file = File::open(zip).with_context(|| format!("opening {zip}"))?;
    find(file).with_context(|| format!("looking for a root in {zip}"))
}

fn find(file: File) -> Result<Vec<u8>> {
    let mut buffer = vec![0; RECOMMENDED_BUFFER_SIZE];
    let archive = ZipArchive::from_file(file, &mut buffer).context("it is not a zip archive")?;
    let mut entries = archive.entries(&mut buffer);
    let mut lowest: Option<(u64, _, _)> = None;
    while let Some(entry) = entries.next_entry().context("its directory is damaged")? {
        let path = entry.file_path();
        let Ok(name) = std::str::from_utf8(path.as_ref()) else { continue };
        let Some(version) = root_version(name) else { continue };
        if lowest.as_ref().is_none_or(|&(found, ..)| version < found) {
            lowest = Some((version, entry.wayfinder(), entry.compression_method()));
        }
    }
    let Some((_, wayfinder, method)) = lowest else { bail!("it has no metadata/root.json") };
    let entry = archive.get_entry(wayfinder).context("its root is damaged")?;
    let mut bytes = Vec::new();
    match method {
        CompressionMethod::STORE => {
            entry.verifying_reader(entry.reader()).take(ROOT_BYTES_MAX).read_to_end(&mut bytes)
        }
        CompressionMethod::DEFLATE => {
            let inflated = flate2::read::DeflateDecoder::new(entry.reader());
            entry.verifying_reader(inflated).take(ROOT_BYTES_MAX).read_to_end(&mut bytes)
        }
        other => bail!("its root is compressed in a way that is not accepted ({other:?})"),
    }
    .context("its root is damaged")?;
    Ok(bytes)
}

/// The version that a root's entry name says: 1 for `[repo/]metadata/1.root.json`; the highest for one without a number, which
/// some tools write beside the numbered ones.
fn root_version(entry_name: &str) -> Option<u64> {
    let in_metadata = entry_name.strip_prefix("repo/").unwrap_or(entry_name).strip_prefix("metadata/")?;
    match in_metadata.strip_suffix("root.json")? {
        "" => Some(u64::MAX),
        numbered => numbered.strip_suffix('.')?.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use camino_tempfile::Utf8TempDir;

    fn zip_of(entries: &[(&str, &str)]) -> (Utf8TempDir, camino::Utf8PathBuf) {
        use std::io::Write;
        let temp = Utf8TempDir::new().expect("a temporary directory");
        let path = temp.path().join("release.zip");
        let mut archive = rawzip::ZipArchiveWriter::new(File::create(&path).expect("a new file"));
        for (index, (name, contents)) in entries.iter().enumerate() {
            let method = if index % 2 == 0 { CompressionMethod::DEFLATE } else { CompressionMethod::STORE };
            let (mut entry, config) =
                archive.new_file(name).compression_method(method).start().expect("a new entry");
            let descriptor = if index % 2 == 0 {
                let encoder = flate2::write::DeflateEncoder::new(&mut entry, flate2::Compression::default());
                let mut writer = config.wrap(encoder);
                writer.write_all(contents.as_bytes()).expect("written");
                let (encoder, descriptor) = writer.finish().expect("finished");
                encoder.finish().expect("finished");
                descriptor
            } else {
                let mut writer = config.wrap(&mut entry);
                writer.write_all(contents.as_bytes()).expect("written");
                writer.finish().expect("finished").1
            };
            entry.finish(descriptor).expect("finished");
        }
        archive.finish().expect("finished");
        (temp, path)
    }

    #[test]
    fn the_lowest_root_version_is_found_with_and_without_repo() {
        let (_temp, zip) = zip_of(&[
            ("repo/targets/1.root.json", "no"),
            ("repo/metadata/10.root.json", "ten"),
            ("repo/metadata/2.root.json", "two"),
            ("repo/metadata/root.json", "latest"),
        ]);
        assert_eq!(root_in_zip(&zip).unwrap(), b"two");
        let (_temp, zip) = zip_of(&[("metadata/1.root.json", "one"), ("metadata/snapshot.json", "no")]);
        assert_eq!(root_in_zip(&zip).unwrap(), b"one");
        let (_temp, zip) = zip_of(&[("x", "no"), ("metadata/root.json", "only")]);
        assert_eq!(root_in_zip(&zip).unwrap(), b"only");
    }

    #[test]
    fn zips_without_a_root_and_files_that_are_no_zips_are_refused() {
        let (_temp, zip) = zip_of(&[("metadata/targets.json", "no"), ("metadata/x.root.json", "no")]);
        assert!(format!("{:#}", root_in_zip(&zip).unwrap_err()).contains("no metadata/root.json"));
        let temp = Utf8TempDir::new().unwrap();
        let path = temp.path().join("text");
        std::fs::write(&path, "no zip").unwrap();
        assert!(format!("{:#}", root_in_zip(&path).unwrap_err()).contains("not a zip"));
        assert!(root_in_zip(&temp.path().join("absent")).is_err());
    }
}
