//! What members may see of an encrypted volume: nothing that a client has written, and no nonce twice for different bytes.
//!
//! A nonce is a session and a counter: the beginning of a seal. Bytes that are the same under the same one are the same ciphertext, which may
//! be sent as often as it pleases: to a second member, again, or as a copy.

use crate::{world::Broken, writer::FILL};
use region::Seal;
use region_wire::{BlockCopy, BlockData, Request};
use std::collections::BTreeMap;

/// Bytes of a seal that say which key and nonce it is of.
const NONCE: usize = 24;

/// What each nonce was used for: which block, the checksum of its ciphertext, and the whole seal.
#[derive(Debug, Default)]
pub(crate) struct Audit(BTreeMap<[u8; NONCE], (u64, u64, Seal)>);

impl Audit {
    /// A member is sent this.
    pub(crate) fn sent(&mut self, request: &Request, size: usize) -> Result<(), Broken> {
        match request {
            Request::Write(_, data)
            | Request::Install { copy: BlockCopy::Bytes(_, data) | BlockCopy::Mixed(_, data), .. }
            | Request::Heal { copy: BlockCopy::Bytes(_, data), .. }
            | Request::Stage { copy: BlockCopy::Bytes(_, data) | BlockCopy::Mixed(_, data), .. } => {
                self.sent_data(data, size)
            }
            _ => Ok(()),
        }
    }

    fn sent_data(&mut self, data: &BlockData, size: usize) -> Result<(), Broken> {
        check_unreadable(&data.bytes)?;
        let count = data.bytes.len() / size;
        if (data.seals.len(), data.checksums.len()) != (count, count) {
            return Err(format!("{count} blocks are sent with {} seals", data.seals.len()));
        }
        for (block, (seal, checksum)) in (data.first..).zip(data.seals.iter().zip(&data.checksums)) {
            let nonce = *seal.first_chunk().expect("a seal is longer");
            let used = (block, *checksum, *seal);
            let before = self.0.entry(nonce).or_insert(used);
            if *before != used {
                return Err(format!("a nonce is used twice: for block {} and for block {block}", before.0));
            }
        }
        Ok(())
    }

    /// How many were used.
    pub(crate) fn nonces(&self) -> u64 {
        self.0.len() as u64
    }
}

/// Whether there is nothing in it that a client has written: its blocks are the same byte for hundreds of bytes.
pub(crate) fn check_unreadable(bytes: &[u8]) -> Result<(), Broken> {
    let is_readable = bytes.chunks_exact(64).any(|part| part[..16] == [FILL; 16]);
    if is_readable { Err("what a client has written can be read without the key".to_owned()) } else { Ok(()) }
}
