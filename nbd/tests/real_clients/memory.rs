//! A disk in memory that remembers which blocks were written, and has bad blocks if it is told to. Owns the bytes; knows no NBD but
//! the shape of an extent.

use nbd_server::Extent;
use std::{
    ops::Range,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Bytes of a block.
pub(crate) const BLOCK_BYTES: usize = 512;

/// A disk.
#[derive(Debug)]
pub(crate) struct MemoryDisk {
    content: Mutex<Content>,
}

#[derive(Debug)]
struct Content {
    bytes: Vec<u8>,
    blocks: Vec<Block>,
    /// Offset of a block that cannot be read.
    bad: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Block {
    /// Never written, or trimmed.
    Hole,
    /// Zeroed, with storage.
    Zero,
    Data,
}

impl MemoryDisk {
    pub(crate) fn new(size_bytes: usize) -> Self {
        let blocks = vec![Block::Hole; size_bytes / BLOCK_BYTES];
        let content = Content { bytes: vec![0; size_bytes], blocks, bad: None };
        MemoryDisk { content: Mutex::new(content) }
    }

    /// The bytes, or the offset of the block that cannot be read.
    pub(crate) fn read(&self, offset: u64, length: u64) -> Result<Vec<u8>, u64> {
        let content = self.content();
        match content.bad {
            Some(bad) if (offset..offset + length).contains(&bad) => Err(bad),
            _ => Ok(content.bytes[bytes_of(offset, length)].to_vec()),
        }
    }

    /// From now on the block at this offset cannot be read.
    pub(crate) fn go_bad(&self, offset: u64) {
        self.content().bad = Some(offset);
    }

    pub(crate) fn write(&self, offset: u64, data: &[u8]) {
        let mut content = self.content();
        content.bytes[bytes_of(offset, data.len() as u64)].copy_from_slice(data);
        content.blocks[blocks_of(offset, data.len() as u64)].fill(Block::Data);
    }

    pub(crate) fn zero(&self, offset: u64, length: u64, no_hole: bool) {
        let mut content = self.content();
        content.bytes[bytes_of(offset, length)].fill(0);
        content.blocks[blocks_of(offset, length)].fill(if no_hole { Block::Zero } else { Block::Hole });
    }

    /// What the range is made of, from its start on, up to its end.
    pub(crate) fn extents(&self, offset: u64, length: u64) -> Vec<Extent> {
        let content = self.content();
        content.blocks[blocks_of(offset, length)]
            .chunk_by(|a, b| a == b)
            .map(|run| Extent {
                length: (run.len() * BLOCK_BYTES) as u64,
                hole: run[0] == Block::Hole,
                zero: run[0] != Block::Data,
            })
            .collect()
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn bytes_of(offset: u64, length: u64) -> Range<usize> {
    offset as usize..(offset + length) as usize
}

fn blocks_of(offset: u64, length: u64) -> Range<usize> {
    offset as usize / BLOCK_BYTES..(offset + length) as usize / BLOCK_BYTES
}
