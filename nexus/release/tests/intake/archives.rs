//! Takes archives apart and puts them together again, to change one thing in a good one.

use flate2::bufread::DeflateDecoder;
use rawzip::{CompressionMethod, ZipArchive, ZipArchiveWriter};
use std::io::{Read, Write};

/// Every file of an archive: name and content.
pub(crate) fn unpack(archive: &[u8]) -> Vec<(String, Vec<u8>)> {
    let archive = ZipArchive::from_slice(archive).unwrap();
    let mut files = Vec::new();
    let mut records = archive.entries();
    while let Some(record) = records.next_entry().unwrap() {
        if record.is_dir() {
            continue;
        }
        let name = String::from_utf8(record.file_path().as_bytes().to_vec()).unwrap();
        let data = archive.get_entry(record.wayfinder()).unwrap();
        let mut content = Vec::new();
        match record.compression_method() {
            CompressionMethod::STORE => content.extend_from_slice(data.data()),
            _ => drop(DeflateDecoder::new(data.data()).read_to_end(&mut content).unwrap()),
        }
        files.push((name, content));
    }
    files
}

/// An archive of these files, stored, with right checksums.
pub(crate) fn pack(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut archive = ZipArchiveWriter::new(Vec::new());
    for (name, content) in files {
        let (mut entry, config) = archive.new_file(name.as_str()).start().unwrap();
        let mut writer = config.wrap(&mut entry);
        writer.write_all(content).unwrap();
        let (_, descriptor) = writer.finish().unwrap();
        entry.finish(descriptor).unwrap();
    }
    archive.finish().unwrap()
}
