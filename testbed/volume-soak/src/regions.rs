//! The three files afterwards: whether they say the same of every block, whether all bytes have their checksums, and whether they are
//! what the book says. Reads files that nobody serves, or copies of them.

use crate::{
    block::{BLOCK, Seen, see},
    cell::Content,
    opener::Opener,
};
use anyhow::{Context, Result, anyhow, bail};
use camino::{Utf8Path, Utf8PathBuf};
use durable_fs::RealDisk;
use region::{Held, Opening, Region, What};
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::{collections::BTreeMap, sync::Arc};
use uuid::Uuid;
use volume_seals::VolumeKey;

/// Blocks that are read at a time.
const PIECE: u64 = 1_024;

/// What the blocks of each of the regions are, when all are the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Blocks {
    /// The list that all members have: the epoch of its maker, and its number among that one's. Each time that a member is left out,
    /// and each time that it is full again, is one.
    pub list: (u32, u32),
    /// All.
    pub all: u64,
    /// Nobody ever wrote them.
    pub never: u64,
    /// Zeroed, or trimmed.
    pub zeros: u64,
    /// They hold bytes, whose checksums are right.
    pub bytes: u64,
    /// Of those with bytes or zeros: they were held against the book of a client.
    pub in_the_book: u64,
}

/// Something in which the files are not as they should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Difference {
    pub(crate) block: Option<u64>,
    pub(crate) what: String,
}

/// What the blocks are to hold, as far as that is known.
#[derive(Clone, Debug)]
pub(crate) struct Book {
    pub(crate) salt: u64,
    /// Of an encrypted volume.
    pub(crate) key: Option<Arc<VolumeKey>>,
    pub(crate) contents: BTreeMap<u64, Content>,
}

/// Copies the files into `dir`, and compares the copies. What they say is only worth something if nobody writes meanwhile; but
/// members that are still being filled are seen.
pub(crate) fn compare_copies(
    files: &[Utf8PathBuf],
    dir: &Utf8Path,
    book: &Book,
) -> Result<Result<Blocks, Difference>> {
    let mut copies = Vec::new();
    for (number, file) in files.iter().enumerate() {
        let copy = dir.join(format!("copy{number}.region"));
        std::fs::copy(file, &copy).with_context(|| format!("copying {file}"))?;
        copies.push(copy);
    }
    let compared = compare(&copies, book);
    for copy in copies {
        std::fs::remove_file(&copy).with_context(|| format!("removing {copy}"))?;
    }
    compared
}

/// Compares the files. Opening a region writes into it.
pub(crate) fn compare(files: &[Utf8PathBuf], book: &Book) -> Result<Result<Blocks, Difference>> {
    let mut regions = Vec::new();
    for file in files {
        match open(file)? {
            Ok(region) => regions.push((file.as_path(), region)),
            Err(what) => return Ok(Err(Difference { block: None, what })),
        }
    }
    if let Some(what) = difference_of_heads(&regions) {
        return Ok(Err(Difference { block: None, what }));
    }
    let Some((_, first)) = regions.first() else { bail!("there is nothing to compare") };
    let all = first.identity().geometry.blocks;
    let list = first.control().list.version;
    if first.identity().geometry.is_sealed != book.key.is_some() {
        bail!("the volume was to be encrypted: {}, and its regions are another one's", book.key.is_some());
    }
    let mut opener = Opener::of(book.key.as_deref(), first);
    let mut blocks = Blocks { list: (list.epoch, list.number), all, ..Blocks::default() };
    for start in (0..all).step_by(PIECE as usize) {
        let piece = start..all.min(start + PIECE);
        let mut held: Option<(&Utf8Path, Vec<Held>)> = None;
        for (name, region) in &mut regions {
            let mut bytes = Vec::new();
            let these = region.read(piece.clone(), &mut bytes).with_context(|| format!("reading {name}"))?;
            if let Some((first, held)) = &held
                && let Some(at) = held.iter().zip(&these).position(|(one, other)| one != other)
            {
                let what = format!("{first} has {:?}, {name} has {:?}", held[at], these[at]);
                return Ok(Err(Difference { block: Some(start + at as u64), what }));
            }
            if let Some((block, what)) = wrong_bytes(start, &these, &bytes, book, &mut opener) {
                let what = format!("{name}: {what}");
                return Ok(Err(Difference { block: Some(block), what }));
            }
            held.get_or_insert((*name, these));
        }
        let held = held.map(|(_, held)| held).unwrap_or_default();
        count(&mut blocks, start, &held, book);
    }
    Ok(Ok(blocks))
}

/// SHA-256 of what a region has from its first block to its last one, as its file keeps them: zeros where nobody ever wrote, or zeros were
/// written.
pub(crate) fn hash(file: &Utf8Path) -> Result<String> {
    let mut region = open(file)?.map_err(|what| anyhow!("{file}: {what}"))?;
    let (all, mut sha256, zeros) = (region.identity().geometry.blocks, Sha256::new(), vec![0; BLOCK]);
    for start in (0..all).step_by(PIECE as usize) {
        let mut bytes = Vec::new();
        let held = region
            .read(start..all.min(start + PIECE), &mut bytes)
            .with_context(|| format!("reading {file}"))?;
        let mut left = bytes.chunks_exact(BLOCK);
        for held in held {
            let block = match held.what {
                What::Never | What::Zeros => Some(&zeros[..]),
                What::Bytes { .. } | What::Lost { .. } => left.next(),
            };
            sha256.update(block.with_context(|| format!("{file} has given too few bytes"))?);
        }
    }
    Ok(sha256.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The region, or why it cannot be opened.
pub(crate) fn open(file: &Utf8Path) -> Result<Result<Region, String>> {
    let (dir, name) = (file.parent(), file.file_name());
    let (Some(dir), Some(name)) = (dir, name) else { bail!("{file} is no file in a directory") };
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").context("reading the boot's id")?;
    let boot = Uuid::parse_str(boot.trim()).context("the boot's id is not understood")?;
    let life = Uuid::new_v4().as_u64_pair().0;
    let opened = region::open(Arc::new(RealDisk::new(dir)), Utf8Path::new(name), Opening { life, boot });
    Ok(opened.map_err(|error| format!("{:#}", anyhow::Error::new(error))))
}

/// In what they say of themselves, but for which they are.
fn difference_of_heads(regions: &[(&Utf8Path, Region)]) -> Option<String> {
    let head = |region: &Region| (region.control().list.clone(), region.applied(), region.identity().set);
    let (first_name, first) = regions.first()?;
    for (name, region) in regions {
        let full = region.control().list.full.len();
        if full != regions.len() {
            return Some(format!("{name} has a list of {full} full members, not of {}", regions.len()));
        }
        if head(region) != head(first) {
            return Some(format!("{first_name} has {:?}, {name} has {:?}", head(first), head(region)));
        }
    }
    None
}

/// The first block that has not its checksum or its seal, or is not what the book says.
fn wrong_bytes(
    start: u64,
    held: &[Held],
    mut bytes: &[u8],
    book: &Book,
    opener: &mut Opener,
) -> Option<(u64, String)> {
    for (block, held) in (start..).zip(held) {
        let seen = match held.what {
            What::Never | What::Zeros => Seen::Zeros,
            What::Lost { .. } => return Some((block, "its bytes are lost".to_owned())),
            What::Bytes { checksum, seal } => {
                let (these, rest) = bytes.split_at(BLOCK);
                bytes = rest;
                if region::checksum(block, these) != checksum {
                    return Some((block, "its bytes do not have their checksum".to_owned()));
                }
                let Some(plain) = opener.open(block, these, seal) else {
                    return Some((block, "the volume's key has not sealed it for this place".to_owned()));
                };
                see(&plain, book.salt, block)
            }
        };
        let is_right = match book.contents.get(&block) {
            None => true,
            Some(Content::Zeros) => seen == Seen::Zeros,
            Some(Content::Write(write)) => seen == Seen::Write(*write),
        };
        if !is_right {
            return Some((block, format!("it has {seen:?}, and was to have {:?}", book.contents[&block])));
        }
    }
    None
}

fn count(blocks: &mut Blocks, start: u64, held: &[Held], book: &Book) {
    for (block, held) in (start..).zip(held) {
        match held.what {
            What::Never => blocks.never += 1,
            What::Zeros => blocks.zeros += 1,
            What::Bytes { .. } | What::Lost { .. } => blocks.bytes += 1,
        }
        if held.what != What::Never && book.contents.contains_key(&block) {
            blocks.in_the_book += 1;
        }
    }
}
