//! Writes one zip, front to back, in bounded memory, and hashes what it writes on the way.

use crate::{content::Content, keys::hex};
use aws_lc_rs::digest::{Context, SHA256, SHA512};
use flate2::{Compression, Crc, write::DeflateEncoder};
use rawzip::{
    CompressionMethod, Crc32Option, ZipArchiveWriter, ZipDataWriterConfig, ZipEntryWriter, path::EntryPath,
};
use std::io::{self, Write};

/// How the bytes that are written differ from the content that is signed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Twist {
    /// Not at all.
    #[default]
    None,
    /// The first byte is another one.
    OtherByte,
    /// There is one byte more.
    OneByteMore,
}

/// The length and SHA-256 of a content.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hashed {
    pub(crate) length: u64,
    pub(crate) sha256: [u8; 32],
}

/// An entry that says something else about itself than is true.
pub(crate) struct OddEntry<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) method: CompressionMethod,
    pub(crate) mode: Option<u32>,
    pub(crate) encrypted: bool,
    /// The compressed bytes as they are to stand in the archive.
    pub(crate) data: &'a [u8],
    pub(crate) declared_crc: u32,
    pub(crate) declared_size: u64,
}

pub(crate) struct ZipWriter<W: Write> {
    archive: ZipArchiveWriter<W>,
}

impl<W: Write> ZipWriter<W> {
    pub(crate) fn new(writer: W) -> ZipWriter<W> {
        ZipWriter { archive: ZipArchiveWriter::new(writer) }
    }

    /// Writes one file: deflated where that is worth it, stored otherwise. Returns what is to be signed.
    pub(crate) fn file(&mut self, name: &str, content: &Content, twist: Twist) -> io::Result<Hashed> {
        let deflate = content.is_compressible();
        let method = if deflate { CompressionMethod::DEFLATE } else { CompressionMethod::STORE };
        let (mut entry, _) = self
            .archive
            .new_file(name)
            .compression_method(method)
            .unix_permissions(0o100_644)
            .crc32(Crc32Option::Skip)
            .start()
            .map_err(io::Error::other)?;
        let mut sums = Sums::new();
        if deflate {
            let mut encoder = DeflateEncoder::new(&mut entry, Compression::fast());
            sums.copy(content, twist, &mut encoder)?;
            encoder.finish()?;
        } else {
            sums.copy(content, twist, &mut entry)?;
        }
        finish(entry, sums.crc.sum(), sums.written)?;
        Ok(sums.hashed())
    }

    pub(crate) fn odd_entry(&mut self, odd: &OddEntry<'_>) -> io::Result<()> {
        let mut builder = self
            .archive
            .new_file(EntryPath::verbatim(odd.name))
            .compression_method(odd.method)
            .encrypted(odd.encrypted)
            .crc32(Crc32Option::Skip);
        if let Some(mode) = odd.mode {
            builder = builder.unix_permissions(mode);
        }
        let (mut entry, _): (_, ZipDataWriterConfig) = builder.start().map_err(io::Error::other)?;
        entry.write_all(odd.data)?;
        finish(entry, odd.declared_crc, odd.declared_size)
    }

    /// Writes the central directory and hands the writer back.
    pub(crate) fn finish(self) -> io::Result<W> {
        self.archive.finish().map_err(io::Error::other)
    }
}

/// The hash of a content, without writing it anywhere.
pub(crate) fn hash(content: &Content) -> io::Result<Hashed> {
    let mut sums = Sums::new();
    sums.copy(content, Twist::None, &mut io::sink())?;
    Ok(sums.hashed())
}

/// The SHA-512 of a content, hexadecimal.
pub(crate) fn sha512(content: &Content) -> io::Result<String> {
    let mut digesting = Digesting(Context::new(&SHA512));
    Sums::new().copy(content, Twist::None, &mut digesting)?;
    Ok(hex(digesting.0.finish().as_ref()))
}

/// Digests what is written to it.
struct Digesting(Context);

impl Write for Digesting {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn finish<W: Write>(entry: ZipEntryWriter<'_, W>, crc: u32, size: u64) -> io::Result<()> {
    entry.finish(rawzip::DataDescriptorOutput::new(crc, size)).map_err(io::Error::other)?;
    Ok(())
}

/// What is known of the bytes that went by.
struct Sums {
    /// Of the content as it is signed.
    sha256: Context,
    length: u64,
    /// Of the bytes as they are written.
    crc: Crc,
    written: u64,
}

impl Sums {
    fn new() -> Sums {
        Sums { sha256: Context::new(&SHA256), length: 0, crc: Crc::new(), written: 0 }
    }

    fn copy(&mut self, content: &Content, twist: Twist, out: &mut impl Write) -> io::Result<()> {
        content.for_each_block(|block| {
            self.sha256.update(block);
            if twist == Twist::OtherByte && self.length == 0 {
                block[0] ^= 1;
            }
            self.length += block.len() as u64;
            self.write(block, out)
        })?;
        if twist == Twist::OneByteMore { self.write(b"+", out) } else { Ok(()) }
    }

    fn write(&mut self, bytes: &[u8], out: &mut impl Write) -> io::Result<()> {
        self.crc.update(bytes);
        self.written += bytes.len() as u64;
        out.write_all(bytes)
    }

    fn hashed(self) -> Hashed {
        let mut sha256 = [0u8; 32];
        sha256.copy_from_slice(self.sha256.finish().as_ref());
        Hashed { length: self.length, sha256 }
    }
}
