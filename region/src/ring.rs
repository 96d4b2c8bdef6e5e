//! Reading the journal's ring where the medium does not give back all of it.
//!
//! A page of the ring that cannot be read is like one that is rotten: no record in it is right. Whether that matters, the records
//! decide that are there ([`mod@crate::open`]): if the page is before the cut or behind the end, it does not. A disk that gives back nothing
//! at all is another matter: it may give back everything later, so it is not taken for one whose records are gone.

use crate::layout::Layout;
use durable_fs::{InPlaceFile, StorageError};
use std::collections::BTreeSet;

/// What is read at a time where more at a time cannot be: a page of the system's cache, which is the least that it reads.
const PIECE: u64 = 4_096;

/// So many pieces of the ring may be unreadable. More are no bad sectors but a bad disk.
const UNREADABLE_MAX: usize = 8;

/// The ring, as it is read by an opening.
#[derive(Debug)]
pub(crate) struct Ring<'a> {
    file: &'a dyn InPlaceFile,
    layout: &'a Layout,
    unreadable: BTreeSet<u64>,
}

impl<'a> Ring<'a> {
    pub(crate) fn new(file: &'a dyn InPlaceFile, layout: &'a Layout) -> Ring<'a> {
        Ring { file, layout, unreadable: BTreeSet::new() }
    }

    pub(crate) fn layout(&self) -> &'a Layout {
        self.layout
    }

    /// Where from a place of the ring on there may be something else than zeros. None if there is nothing up to its end.
    pub(crate) fn next_data(&self, at: u64) -> Option<u64> {
        let there = self.file.next_data(self.layout.journal + at)?;
        Some(there - self.layout.journal).filter(|at| *at < self.layout.journal_bytes)
    }

    /// Reads from a place of the ring on. What cannot be read is zeros, in which no record begins or ends; whether there was any.
    ///
    /// # Errors
    /// If too much cannot be read, or for another reason than that the medium does not give it back.
    pub(crate) fn read(&mut self, at: u64, into: &mut [u8]) -> Result<bool, StorageError> {
        let start = self.layout.journal + at;
        match self.file.read_exact_at(start, into) {
            Ok(()) => return Ok(false),
            Err(error) if error.is_unreadable() => {}
            Err(error) => return Err(error),
        }
        let (mut offset, mut rest, mut has_holes) = (start, into, false);
        while !rest.is_empty() {
            let size = usize::try_from(PIECE - offset % PIECE).expect("a piece is small").min(rest.len());
            let (piece, behind) = rest.split_at_mut(size);
            if let Err(error) = self.file.read_exact_at(offset, piece) {
                self.unreadable.insert(offset / PIECE);
                if !error.is_unreadable() || self.unreadable.len() > UNREADABLE_MAX {
                    return Err(error);
                }
                piece.fill(0);
                has_holes = true;
            }
            offset += size as u64;
            rest = behind;
        }
        Ok(has_holes)
    }
}
