//! The table of contents of one zip file on disk: what is in it, where, and whether it may be read at all.
//!
//! Owns the checks that need no entry's content: structure, names, kinds, declared sizes, overlaps. Reading and
//! verifying an entry's bytes is [`crate::entry_reader`]; what the files mean is for the TUF rooms.
//!
//! Memory: one record of about 100 bytes and the name per entry, [`ENTRIES_MAX`] entries at most.

use crate::{
    entry_name::{check_name, shown},
    findings::Findings,
};
use camino::{Utf8Path, Utf8PathBuf};
use problem::Code;
use rawzip::{
    CompressionMethod, ErrorKind, FileReader, ReaderAt, ZipArchive, ZipFileHeaderRecord, ZipLocator,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io,
};

/// The most entries of an archive. A release has some dozens of artifacts; 16,384 entries are 16 MiB of index at
/// the very most (names of 1 KiB each), so that memory stays bounded whatever is sent.
pub(crate) const ENTRIES_MAX: u64 = 16_384;
/// The most bytes that may follow the end-of-central-directory record: the longest archive comment.
const TAIL_BYTES_MAX: u64 = 65_535 + 22;
/// Whole-archive expansion above which an archive must not claim to be this well compressed ...
const RATIO_TOTAL_MIN: u64 = 1 << 30;
/// ... and the ratio: deflate's own limit is 1032:1, real releases stay under 10:1.
const RATIO_MAX: u64 = 100;

/// One file in the archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Where its data starts.
    pub(crate) data_offset: u64,
    /// Bytes of its data in the archive.
    pub(crate) compressed_size: u64,
    /// Bytes of its content, as declared.
    pub(crate) size: u64,
    /// CRC-32 of its content, as declared.
    pub(crate) crc: u32,
    /// Deflated rather than stored.
    pub(crate) deflated: bool,
}

/// The archive, opened and indexed.
#[derive(Debug)]
pub(crate) struct ZipIndex {
    /// Where it is.
    pub(crate) path: Utf8PathBuf,
    /// The archive, read by position: shared by any number of readers.
    pub(crate) file: FileReader,
    /// The files that may be read, by name.
    pub(crate) entries: BTreeMap<String, Entry>,
    /// Names that stand in the archive, but that nobody may rely on: refused or ambiguous entries. Kept so that
    /// one fault is not reported again as a missing file.
    pub(crate) refused: BTreeSet<String>,
}

/// What came of opening an archive.
pub(crate) struct Opened {
    /// The index; `None` where the archive can not or must not be read.
    pub(crate) index: Option<ZipIndex>,
    /// What is wrong with it.
    pub(crate) findings: Findings,
}

/// Where one entry lies, for the search for overlaps.
struct Extent {
    start: u64,
    end: u64,
    name: String,
}

/// An entry is wrong, or the machine is.
enum EntryFault {
    Refused(Code, String),
    Io(io::Error),
}

/// Opens the archive and checks everything that needs no content.
///
/// # Errors
/// Only where the machine failed; what is wrong with the archive is in [`Opened::findings`].
pub(crate) fn open(path: &Utf8Path, expanded_bytes_max: u64) -> io::Result<Opened> {
    let mut findings = Findings::default();
    let Some((archive, file_bytes)) = locate(path, &mut findings)? else {
        return Ok(Opened { index: None, findings });
    };
    let local_header = vec![0u8; 2 * usize::from(u16::MAX)];
    let mut scan = Scan { expanded_bytes_max, file_bytes, local_header, ..Scan::default() };
    scan.central_directory(&archive, &mut findings)?;
    scan.expansion(&mut findings);
    scan.overlaps(archive.directory_offset(), &mut findings);
    if findings.has(Code::ZipBomb) {
        return Ok(Opened { index: None, findings });
    }
    let index = ZipIndex {
        path: path.to_owned(),
        file: archive.into_inner(),
        entries: scan.entries,
        refused: scan.refused,
    };
    Ok(Opened { index: Some(index), findings })
}

/// Finds the end of the archive and with it the central directory.
fn locate(path: &Utf8Path, findings: &mut Findings) -> io::Result<Option<(ZipArchive<FileReader>, u64)>> {
    let file = File::open(path)?;
    let file_bytes = file.metadata()?.len();
    let mut start = [0u8; 4];
    let looks_like_zip = match FileReader::from(file.try_clone()?).read_at(&mut start, 0)? {
        4 => matches!(&start, b"PK\x03\x04" | b"PK\x05\x06" | b"PK\x06\x06"),
        _ => false,
    };
    let mut buffer = vec![0u8; rawzip::RECOMMENDED_BUFFER_SIZE];
    let located = ZipLocator::new().max_search_space(TAIL_BYTES_MAX).locate_in_file(file, &mut buffer);
    let archive = match located {
        Ok(archive) => archive,
        Err((_, error)) => {
            if let Some(io_error) = machine_fault(error.kind()) {
                return Err(io_error);
            }
            if looks_like_zip || !matches!(error.kind(), ErrorKind::MissingEndOfCentralDirectory) {
                findings.add(
                    Code::ZipTruncated,
                    format!(
                        "the end of the archive is missing or damaged in its {file_bytes} bytes: {error}"
                    ),
                );
            } else {
                findings
                    .add(Code::NotAZip, format!("no zip archive in the {file_bytes} bytes of the upload"));
            }
            return Ok(None);
        }
    };
    if archive.end_offset() != file_bytes {
        findings.add(
            Code::ZipTruncated,
            format!("the archive ends at byte {}, the file at byte {file_bytes}", archive.end_offset()),
        );
    }
    Ok(Some((archive, file_bytes)))
}

/// The running state of one pass over the central directory.
#[derive(Default)]
struct Scan {
    expanded_bytes_max: u64,
    file_bytes: u64,
    entries: BTreeMap<String, Entry>,
    refused: BTreeSet<String>,
    extents: Vec<Extent>,
    expanded_bytes: u64,
    /// Room for the name and extra fields of one entry's own header, used again for each.
    local_header: Vec<u8>,
}

impl Scan {
    fn central_directory(
        &mut self,
        archive: &ZipArchive<FileReader>,
        findings: &mut Findings,
    ) -> io::Result<()> {
        if archive.entries_hint() > ENTRIES_MAX {
            findings.add(
                Code::ZipBomb,
                format!("the archive has {} entries, {ENTRIES_MAX} are accepted", archive.entries_hint()),
            );
            return Ok(());
        }
        let mut buffer = vec![0u8; rawzip::MAX_CENTRAL_DIRECTORY_RECORD_SIZE];
        let mut records = archive.entries(&mut buffer);
        let mut count = 0u64;
        loop {
            match records.next_entry() {
                Ok(Some(_)) if count == ENTRIES_MAX => {
                    findings.add(Code::ZipBomb, format!("the archive has more than {ENTRIES_MAX} entries"));
                    return Ok(());
                }
                Ok(Some(record)) => {
                    count += 1;
                    self.record(archive, &record, findings)?;
                }
                Ok(None) => break,
                Err(error) => {
                    if let Some(io_error) = machine_fault(error.kind()) {
                        return Err(io_error);
                    }
                    findings.add(
                        Code::ZipTruncated,
                        format!("the central directory is damaged after {count} entries: {error}"),
                    );
                    return Ok(());
                }
            }
        }
        if count != archive.entries_hint() {
            findings.add(
                Code::ZipTruncated,
                format!("the archive says it has {} entries, {count} are there", archive.entries_hint()),
            );
        }
        Ok(())
    }

    fn record(
        &mut self,
        archive: &ZipArchive<FileReader>,
        record: &ZipFileHeaderRecord<'_>,
        findings: &mut Findings,
    ) -> io::Result<()> {
        let path = record.file_path();
        let raw = path.as_bytes();
        self.expanded_bytes = self.expanded_bytes.saturating_add(record.uncompressed_size_hint());
        let name = match check_name(raw) {
            Ok(name) => name.to_owned(),
            Err((code, reason)) => {
                findings.about(code, shown(raw), reason);
                return Ok(());
            }
        };
        match self.entry(archive, record, &name) {
            Ok(entry) => self.keep(name, entry, findings),
            Err(EntryFault::Refused(code, reason)) => {
                findings.about(code, name.clone(), reason);
                self.refused.insert(name);
            }
            Err(EntryFault::Io(error)) => return Err(error),
        }
        Ok(())
    }

    /// Files the entry under its name, which must be its own.
    fn keep(&mut self, name: String, entry: Option<Entry>, findings: &mut Findings) {
        let Some(entry) = entry else { return };
        if self.refused.contains(&name) || self.entries.remove(&name).is_some() {
            findings.about(Code::ZipDuplicateName, name.clone(), "two entries have this name");
            self.refused.insert(name);
        } else {
            self.entries.insert(name, entry);
        }
    }

    /// The checks of one entry. `None`: a directory, of which nothing needs to be known.
    fn entry(
        &mut self,
        archive: &ZipArchive<FileReader>,
        record: &ZipFileHeaderRecord<'_>,
        name: &str,
    ) -> Result<Option<Entry>, EntryFault> {
        let deflated = supported(record)?;
        let entry = archive.get_entry(record.wayfinder()).map_err(|error| local_fault(&error))?;
        let (start, end) = entry.compressed_data_range();
        if end > self.file_bytes {
            let reason = format!("the data ends at byte {end}, the file at byte {}", self.file_bytes);
            return Err(EntryFault::Refused(Code::ZipTruncated, reason));
        }
        // The local header repeats the name; a tool that reads the one must see what we read in the other.
        let local = entry.local_header(&mut self.local_header).map_err(|error| local_fault(&error))?;
        if local.file_path().as_bytes() != record.file_path().as_bytes()
            || local.compression_method() != record.compression_method()
            || local.flags().is_encrypted()
        {
            let reason = "the entry's own header contradicts the central directory";
            return Err(EntryFault::Refused(Code::ZipEntryUnsupported, reason.to_owned()));
        }
        self.extents.push(Extent { start: record.local_header_offset(), end, name: name.to_owned() });
        if record.is_dir() {
            return Ok(None);
        }
        Ok(Some(Entry {
            data_offset: start,
            compressed_size: end - start,
            size: record.uncompressed_size_hint(),
            crc: record.crc32(),
            deflated,
        }))
    }

    /// Declared sizes against the limit and against the size of the archive.
    fn expansion(&self, findings: &mut Findings) {
        let total = self.expanded_bytes;
        if total > self.expanded_bytes_max {
            findings.add(
                Code::ZipBomb,
                format!("the entries expand to {total} bytes, the limit is {}", self.expanded_bytes_max),
            );
        } else if total > RATIO_TOTAL_MIN && total / self.file_bytes.max(1) > RATIO_MAX {
            findings.add(
                Code::ZipBomb,
                format!(
                    "{} bytes expand to {total}, which is more than {RATIO_MAX} times as much",
                    self.file_bytes
                ),
            );
        }
    }

    /// Entries that share bytes with each other or with the central directory are how an archive expands to
    /// more than deflate could do.
    fn overlaps(&mut self, directory_offset: u64, findings: &mut Findings) {
        self.extents.sort_by_key(|extent| (extent.start, extent.end));
        for pair in self.extents.windows(2) {
            if pair[1].start < pair[0].end {
                let reason = format!("the entry shares bytes of the archive with {:?}", pair[0].name);
                findings.about(Code::ZipBomb, pair[1].name.clone(), reason);
            }
        }
        for extent in self.extents.iter().filter(|extent| extent.end > directory_offset) {
            let reason = "the entry shares bytes of the archive with its central directory";
            findings.about(Code::ZipBomb, extent.name.clone(), reason);
        }
        self.extents = Vec::new();
    }
}

/// Whether this kind of entry is accepted, and if so whether it is deflated.
fn supported(record: &ZipFileHeaderRecord<'_>) -> Result<bool, EntryFault> {
    // The kind of file in Unix modes, which stand in the upper half. Most writers give none.
    const KIND_MASK: u32 = 0o170_000;
    const KIND_NONE: u32 = 0;
    const KIND_FILE: u32 = 0o100_000;
    const KIND_DIRECTORY: u32 = 0o040_000;
    const KIND_LINK: u32 = 0o120_000;
    let refuse = |reason: String| Err(EntryFault::Refused(Code::ZipEntryUnsupported, reason));
    if record.flags().is_encrypted() || record.flags().has_strong_encryption() {
        return refuse("the entry is encrypted".to_owned());
    }
    match (record.external_attributes() >> 16) & KIND_MASK {
        KIND_NONE | KIND_FILE => {}
        KIND_DIRECTORY if record.is_dir() => {}
        KIND_LINK => return refuse("the entry is a symbolic link".to_owned()),
        kind => return refuse(format!("the entry is neither a file nor a directory (mode {kind:o})")),
    }
    if record.is_dir() && record.uncompressed_size_hint() > 0 {
        return refuse("the entry is a directory with content".to_owned());
    }
    match record.compression_method() {
        CompressionMethod::STORE if record.compressed_size_hint() != record.uncompressed_size_hint() => {
            refuse("the entry is stored, but its two sizes differ".to_owned())
        }
        CompressionMethod::STORE => Ok(false),
        CompressionMethod::DEFLATE => Ok(true),
        other => refuse(format!("the entry's compression method is {other}")),
    }
}

/// What a fault in an entry's own header means.
fn local_fault(error: &rawzip::Error) -> EntryFault {
    match machine_fault(error.kind()) {
        Some(io_error) => EntryFault::Io(io_error),
        None => EntryFault::Refused(Code::ZipTruncated, format!("the entry's header is damaged: {error}")),
    }
}

/// The operating system's error, where the fault is the machine's and not the archive's. Reading past the end,
/// or at an offset that no file can have, is the archive's.
fn machine_fault(kind: &ErrorKind) -> Option<io::Error> {
    match kind {
        ErrorKind::IO(error)
            if matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidInput) =>
        {
            None
        }
        ErrorKind::IO(error) => Some(match error.raw_os_error() {
            Some(number) => io::Error::from_raw_os_error(number),
            None => io::Error::new(error.kind(), error.to_string()),
        }),
        _ => None,
    }
}
