//! Reading blocks beside the writer: where their bytes are is looked up at one moment, and they are read later, while others are written.
//!
//! **Theory.** Nobody writes over a data block while the map names it. But when its block has been written again, and that is durable, it is
//! free, and may have another block's bytes by the time it is read. So all bytes are held against the checksums that were looked up. A
//! checksum is of a block's number and its bytes: what passes is what the block held at that moment. What does not was written over, or
//! rots; it is read again where nobody writes meanwhile, all of it, so that an answer is always of one moment.
//!
//! ```text
//!   begin_read: looked up ──► run: read and checked, on any thread ──all is right──► end_read: what was there at begin_read
//!                                                                  └──something is not──► end_read: read again, what is there now
//! ```

use crate::{
    fail_stop::FailStop,
    layout::Layout,
    map::{Content, Entry},
    region::{Failed, Held, Region, checksum, held},
    rules::Rule,
};
use durable_fs::InPlaceFile;
use std::{ops::Range, sync::Arc};

/// Blocks that were looked up, and are not read yet.
#[derive(Debug)]
#[must_use = "nothing is read before it is run, and ended"]
pub struct Reading {
    file: Arc<FailStop>,
    layout: Layout,
    block_bytes: usize,
    blocks: Range<u64>,
    entries: Vec<Entry>,
}

/// Blocks that were read, or of which some are to be read once more.
#[derive(Debug)]
#[must_use = "what is not right is read again when it is ended"]
pub struct ReadBeside {
    blocks: Range<u64>,
    held: Vec<Held>,
    bytes: Vec<u8>,
    is_right: bool,
}

impl Reading {
    /// Bytes that it reads at most.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.entries.len() * self.block_bytes
    }

    /// Reads them, and waits for the disk. [`Region::end_read`] wants the result.
    pub fn run(self) -> ReadBeside {
        let mut bytes = Vec::with_capacity(self.bytes());
        let size = self.block_bytes;
        read_entries((self.file.as_ref(), &self.layout, size), &self.entries, &mut bytes);
        let kept = self.blocks.clone().zip(&self.entries).filter_map(|(block, entry)| match entry.content {
            Content::Bytes { checksum, .. } => Some((block, checksum)),
            _ => None,
        });
        let mut read = kept.zip(bytes.chunks_exact(size));
        let is_right = read.all(|((block, kept), bytes)| checksum(block, bytes) == kept);
        let is_right = is_right || !Rule::ReadBesideIsChecked.is_kept();
        ReadBeside { blocks: self.blocks, held: self.entries.iter().map(held).collect(), bytes, is_right }
    }
}

impl ReadBeside {
    /// Which ones.
    #[must_use]
    pub fn blocks(&self) -> Range<u64> {
        self.blocks.clone()
    }
}

impl Region {
    /// Begins to read these blocks, as they are now.
    ///
    /// # Errors
    /// If its map cannot be read; then it has failed.
    ///
    /// # Panics
    /// If it has no such blocks.
    pub fn begin_read(&mut self, blocks: Range<u64>) -> Result<Reading, Failed> {
        let mut entries = Vec::new();
        self.each_entry(blocks.clone(), |entry| entries.push(entry))?;
        let block_bytes = self.identity.geometry.block_size.bytes();
        Ok(Reading { file: Arc::clone(&self.file), layout: self.layout, block_bytes, blocks, entries })
    }

    /// What they held when it was begun; or, if bytes were not what they had to be, what they hold now. Like [`Region::read`].
    ///
    /// # Errors
    /// If its map cannot be read; then it has failed.
    pub fn end_read(&mut self, read: ReadBeside) -> Result<(Vec<Held>, Vec<u8>), Failed> {
        let ReadBeside { blocks, held, mut bytes, is_right } = read;
        if is_right {
            return Ok((held, bytes));
        }
        bytes.clear();
        Ok((self.read(blocks, &mut bytes)?, bytes))
    }
}

/// The bytes of those that have some.
pub(crate) fn read_entries(of: (&dyn InPlaceFile, &Layout, usize), entries: &[Entry], bytes: &mut Vec<u8>) {
    let mut runs: Vec<Range<u64>> = Vec::new();
    for entry in entries {
        let Content::Bytes { place, .. } = entry.content else { continue };
        match runs.last_mut() {
            Some(run) if run.end == place => run.end += 1,
            _ => runs.push(place..place + 1),
        }
    }
    for run in runs.into_iter().flat_map(|run| of.1.parts(run)) {
        read_places(of, run, bytes);
    }
}

/// The bytes of places that follow each other in the file. If the disk does not give them back together, one by one.
fn read_places(
    (file, layout, size): (&dyn InPlaceFile, &Layout, usize),
    run: Range<u64>,
    bytes: &mut Vec<u8>,
) {
    let (start, count) = (bytes.len(), (run.end - run.start) as usize);
    if file.append_exact_at(layout.data_at(run.start), count * size, bytes).is_ok() {
        return;
    }
    bytes.resize(start + count * size, 0);
    for (place, block) in run.zip(bytes[start..].chunks_exact_mut(size)) {
        if file.read_exact_at(layout.data_at(place), block).is_err() {
            block.fill(0);
        }
    }
}
