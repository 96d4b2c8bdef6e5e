//! Looks for what clients have written in the files of members that are not to know it. Knows nothing of the format: two words of a block,
//! anywhere in a file, are enough. What fio has written is not told from anything else, and not looked for.

use crate::block::find_words;
use anyhow::{Context, Result};
use camino::Utf8Path;
use std::{fs::File, os::unix::fs::FileExt};

/// Bytes that are read at a time.
const PIECE: usize = 1 << 20;

/// How far a piece reaches into the next one: what lies across their border is in one of them.
const OVERLAP: usize = 16;

/// Where in the file there is something that a client has written.
pub(crate) fn find(path: &Utf8Path) -> Result<Option<u64>> {
    let file = File::open(path).with_context(|| format!("opening {path}"))?;
    let size = file.metadata().with_context(|| format!("asking for the size of {path}"))?.len();
    let mut piece = vec![0; PIECE + OVERLAP];
    for start in (0..size).step_by(PIECE) {
        let length = usize::try_from(size - start).map_or(piece.len(), |left| left.min(piece.len()));
        let piece = &mut piece[..length];
        file.read_exact_at(piece, start).with_context(|| format!("reading {path}"))?;
        // Most of a region was never written.
        if piece.iter().all(|byte| *byte == 0) {
            continue;
        }
        if let Some(at) = find_words(piece) {
            return Ok(Some(start + at as u64));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::{BLOCK, fill};
    use camino_tempfile::tempdir;

    #[test]
    fn two_words_are_found_also_where_two_pieces_meet_and_at_the_end() {
        let dir = tempdir().unwrap();
        let path = dir.path().join("file");
        let mut block = vec![0; BLOCK];
        fill(&mut block, 7, 3, 9);
        let size = 3 * PIECE + 100;
        for place in [0, 5, PIECE - 16, PIECE - 8, PIECE - 1, PIECE, 2 * PIECE + 1, size - 16] {
            let mut bytes = vec![0; size];
            bytes[place..place + 16].copy_from_slice(&block[800..816]);
            std::fs::write(&path, &bytes).unwrap();
            assert_eq!(find(&path).unwrap(), Some(place as u64));
            // Half of it is nothing.
            bytes[place + 8] ^= 1;
            std::fs::write(&path, &bytes).unwrap();
            assert_eq!(find(&path).unwrap(), None, "{place}");
        }
    }
}
