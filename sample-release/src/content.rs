//! The bytes of an artifact: made from a seed, so that they need not be kept anywhere.

/// Bytes made at a time.
pub(crate) const BLOCK_BYTES: usize = 64 << 10;
/// Compressible content is made of lines of this length ...
const LINE_BYTES: usize = 64;
/// ... of which there are so many different ones ...
const LINES: usize = 64;
/// ... each with so many random bytes in front. Deflate makes an eighth of it, quickly.
const RANDOM_BYTES_PER_LINE: usize = 4;

/// What an artifact consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// `size` bytes that depend on nothing but `seed` and `compressible`.
    Seeded {
        /// Bytes.
        size: u64,
        /// Whether deflate makes something of it; also decides whether it is stored or deflated.
        compressible: bool,
        /// Where the bytes come from.
        seed: u64,
    },
    /// These bytes.
    Bytes(Vec<u8>),
}

impl Content {
    /// Content whose seed is a name: equal names, equal bytes.
    #[must_use]
    pub fn named(name: &str, size: u64, compressible: bool) -> Content {
        // FNV-1a: stable for ever and good enough to tell names apart.
        let seed = name.bytes().fold(0xcbf2_9ce4_8422_2325, |seed: u64, byte| {
            (seed ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        });
        Content::Seeded { size, compressible, seed }
    }

    /// Bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        match self {
            Content::Seeded { size, .. } => *size,
            Content::Bytes(bytes) => bytes.len() as u64,
        }
    }

    /// Whether it is worth to be deflated.
    #[must_use]
    pub fn is_compressible(&self) -> bool {
        match self {
            Content::Seeded { compressible, .. } => *compressible,
            Content::Bytes(bytes) => bytes.len() > LINE_BYTES,
        }
    }

    /// Gives the content to `receive`, block by block.
    ///
    /// # Errors
    /// The first error of `receive`.
    pub(crate) fn for_each_block<E>(
        &self,
        mut receive: impl FnMut(&mut [u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        match self {
            Content::Bytes(bytes) => bytes.clone().chunks_mut(BLOCK_BYTES).try_for_each(receive),
            Content::Seeded { size, compressible, seed } => {
                let mut source = Source::new(*seed, *compressible);
                let mut block = vec![0u8; BLOCK_BYTES];
                let mut left = *size;
                while left > 0 {
                    let count = usize::try_from(left).unwrap_or(BLOCK_BYTES).min(BLOCK_BYTES);
                    source.fill(&mut block);
                    receive(&mut block[..count])?;
                    left -= count as u64;
                }
                Ok(())
            }
        }
    }
}

/// A stream of bytes from a seed (splitmix64: its output will never change with a dependency).
struct Source {
    state: u64,
    lines: Option<Vec<u8>>,
}

impl Source {
    fn new(seed: u64, compressible: bool) -> Source {
        let mut source = Source { state: seed, lines: None };
        if compressible {
            let mut lines = vec![0u8; LINES * LINE_BYTES];
            source.fill_random(&mut lines);
            source.lines = Some(lines);
        }
        source
    }

    /// Fills a whole block.
    fn fill(&mut self, block: &mut [u8]) {
        let Some(lines) = self.lines.take() else { return self.fill_random(block) };
        for out in block.chunks_exact_mut(LINE_BYTES) {
            let random = self.next().to_le_bytes();
            let line = usize::from(random[7]) % LINES;
            out.copy_from_slice(&lines[line * LINE_BYTES..][..LINE_BYTES]);
            out[..RANDOM_BYTES_PER_LINE].copy_from_slice(&random[..RANDOM_BYTES_PER_LINE]);
        }
        self.lines = Some(lines);
    }

    fn fill_random(&mut self, out: &mut [u8]) {
        for word in out.chunks_exact_mut(8) {
            word.copy_from_slice(&self.next().to_le_bytes());
        }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{convert::Infallible, io::Write};

    fn bytes_of(content: &Content) -> Vec<u8> {
        let mut bytes = Vec::new();
        let Ok(()) = content.for_each_block(|block| {
            bytes.extend_from_slice(block);
            Ok::<(), Infallible>(())
        });
        bytes
    }

    fn deflated(bytes: &[u8]) -> usize {
        let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap().len()
    }

    #[test]
    fn equal_names_make_equal_bytes_and_other_names_make_others() {
        let one = bytes_of(&Content::named("a", 100_001, false));
        assert_eq!(one.len(), 100_001);
        assert_eq!(one, bytes_of(&Content::named("a", 100_001, false)));
        assert_ne!(one, bytes_of(&Content::named("b", 100_001, false)));
        assert_eq!(one[..1000], bytes_of(&Content::named("a", 1000, false)), "a prefix is the same");
    }

    #[test]
    fn compressible_content_compresses_and_the_other_does_not() {
        let size = 1 << 20;
        assert!(deflated(&bytes_of(&Content::named("a", size, true))) < 300_000);
        assert!(deflated(&bytes_of(&Content::named("a", size, false))) > 1_000_000);
    }
}
