//! Defects that no writer makes: changes to the bytes of a finished archive.

use crate::{defect::Defect, release::SampleRelease};
use camino::Utf8Path;
use rawzip::ZipArchive;
use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
};

/// The entry that is to overlap the one after it.
pub(crate) const OVERLAPPING_ENTRY: &str = "targets/overlapping.bin";
/// The entry that is to have another name in its own header.
pub(crate) const TWO_NAMES_ENTRY: &str = "targets/two-names.bin";
/// Where the compressed size is in a record of the central directory; the declared size follows.
const CENTRAL_COMPRESSED_SIZE_OFFSET: u64 = 20;
/// Where the name is in an entry's own header.
const LOCAL_NAME_OFFSET: u64 = 30;

/// Makes the changes that the release's defects ask for. Other defects than these change nothing here.
pub(crate) fn operate(release: &SampleRelease, zip: &Utf8Path) -> io::Result<()> {
    for defect in &release.defects {
        match defect {
            Defect::OverlappingEntries => overlap(zip)?,
            Defect::TwoNames => {
                let place = find(zip, TWO_NAMES_ENTRY)?;
                flip(zip, place.local_header + LOCAL_NAME_OFFSET + TWO_NAMES_ENTRY.len() as u64 - 1)?;
            }
            Defect::DamagedOnTheWay => {
                let stored = release.artifacts.iter().find(|artifact| !artifact.content.is_compressible());
                let target = stored.or(release.artifacts.first()).map_or("", |artifact| &artifact.target);
                flip(zip, find(zip, target)?.data)?;
            }
            _ => {}
        }
    }
    if release.has(Defect::Truncated) {
        let file = File::options().write(true).open(zip)?;
        file.set_len(file.metadata()?.len() / 4 * 3)?;
    }
    if release.has(Defect::NotAZip) {
        fs::write(zip, "this is a text about releases, and no release\n".repeat(100))?;
    }
    Ok(())
}

/// Where an entry is.
struct Place {
    central_record: u64,
    local_header: u64,
    data: u64,
    compressed_size: u32,
}

/// Finds an entry by the end of its name: names may have a hash in front, in a folder of their own.
fn find(zip: &Utf8Path, name_end: &str) -> io::Result<Place> {
    let mut buffer = vec![0u8; rawzip::RECOMMENDED_BUFFER_SIZE];
    let archive = ZipArchive::from_file(File::open(zip)?, &mut buffer).map_err(io::Error::other)?;
    let mut records = archive.entries(&mut buffer);
    while let Some(record) = records.next_entry().map_err(io::Error::other)? {
        if record.file_path().as_bytes().ends_with(name_end.as_bytes()) {
            let entry = archive.get_entry(record.wayfinder()).map_err(io::Error::other)?;
            return Ok(Place {
                central_record: record.central_directory_offset(),
                local_header: record.local_header_offset(),
                data: entry.compressed_data_range().0,
                compressed_size: u32::try_from(record.compressed_size_hint()).map_err(io::Error::other)?,
            });
        }
    }
    Err(io::Error::new(io::ErrorKind::NotFound, format!("no entry {name_end} to operate on")))
}

/// Lets an entry end in the middle of the next one.
fn overlap(zip: &Utf8Path) -> io::Result<()> {
    /// Past this entry's data descriptor, into the next one's header.
    const INTO_THE_NEXT_BYTES: u32 = 40;
    let place = find(zip, OVERLAPPING_ENTRY)?;
    let longer = (place.compressed_size + INTO_THE_NEXT_BYTES).to_le_bytes();
    let file = File::options().write(true).open(zip)?;
    file.write_all_at(&longer, place.central_record + CENTRAL_COMPRESSED_SIZE_OFFSET)?;
    file.write_all_at(&longer, place.central_record + CENTRAL_COMPRESSED_SIZE_OFFSET + 4)
}

/// Flips the lowest bit of one byte.
fn flip(zip: &Utf8Path, offset: u64) -> io::Result<()> {
    let file = File::options().read(true).write(true).open(zip)?;
    let mut byte = [0u8];
    file.read_exact_at(&mut byte, offset)?;
    file.write_all_at(&[byte[0] ^ 1], offset)
}
