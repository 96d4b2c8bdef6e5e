//! What a volume has to hold, and what it holds, as an NBD client is told. Owns the bytes that are known; they are in memory.

use anyhow::{Context, Result};
use camino::Utf8Path;
use sha2::{Digest, Sha256};
use std::ops::Range;
use volume_soak::NbdClient;

/// Hexadecimal digits that are enough to tell two contents apart at a glance.
const SHORT: usize = 12;

/// All bytes of a volume.
pub(super) struct Content {
    bytes: Vec<u8>,
}

impl Content {
    /// What the volume at this socket holds.
    pub(super) async fn read(socket: &Utf8Path) -> Result<Content> {
        let mut bytes = Vec::new();
        NbdClient::connect(socket).await?.read_all(|piece| bytes.extend_from_slice(piece)).await?;
        Ok(Content { bytes })
    }

    /// From now on it has this byte there.
    pub(super) fn fill(&mut self, place: Range<u64>, byte: u8) -> Result<()> {
        let place = in_memory(place)?;
        self.bytes.get_mut(place).context("what is written lies in the volume")?.fill(byte);
        Ok(())
    }

    /// What it has there.
    pub(super) fn at(&self, place: Range<u64>) -> Result<&[u8]> {
        self.bytes.get(in_memory(place)?).context("what is read lies in the volume")
    }

    pub(super) fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    pub(super) fn sha256(&self) -> String {
        hex(&Sha256::digest(&self.bytes))
    }
}

/// SHA-256 of what the volume at this socket holds.
pub(super) async fn sha256_of(socket: &Utf8Path) -> Result<String> {
    let mut sha256 = Sha256::new();
    NbdClient::connect(socket).await?.read_all(|piece| sha256.update(piece)).await?;
    Ok(hex(&sha256.finalize()))
}

/// Its first digits.
pub(super) fn short(sha256: &str) -> String {
    format!("{}…", sha256.get(..SHORT).unwrap_or(sha256))
}

fn in_memory(place: Range<u64>) -> Result<Range<usize>> {
    let index = |offset: u64| usize::try_from(offset).context("a volume that is in memory is no larger");
    Ok(index(place.start)?..index(place.end)?)
}

fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
