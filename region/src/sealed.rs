//! Pages that say themselves what they are and whether they are right.
//!
//! ```text
//!   0       4      8        16           24         32                                4096
//!   ┌───────┬──────┬────────┬────────────┬──────────┬──────────────────────────────────┐
//!   │ magic │ kind │ number │ generation │ checksum │ body                             │
//!   └───────┴──────┴────────┴────────────┴──────────┴──────────────────────────────────┘
//! ```
//!
//! The checksum is over the whole page and the region's salt: a page of another region, of another kind, or from another place
//! is as wrong as a torn one. Each page has two places, its *halves*, one behind the other:
//!
//! | pages | which half counts | written |
//! |---|---|---|
//! | super, control: [`Mirror`] | the newest that is right | the one not relied on, synced, then the other, synced: one that rots later is not missed |
//! | all others: [`crate::tree`] | the one whose checksum is said above it | the half that does not count |

use crate::{
    fields::{Fields, PutFields},
    rules::Rule,
};
use durable_fs::{InPlaceFile, StorageError};
use std::io::IoSlice;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Bytes of a page.
pub(crate) const PAGE: usize = 4096;

/// Bytes before its body.
pub(crate) const HEADER: usize = 32;

/// Bytes of a page's two places.
pub(crate) const PAIR: u64 = 2 * PAGE as u64;

const MAGIC: u32 = u32::from_le_bytes(*b"bobr");

/// Where the checksum is.
const CHECKSUM: std::ops::Range<usize> = 24..32;

/// A page's bytes.
pub(crate) type Page = [u8; PAGE];

/// What a page is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Super = 1,
    Control = 2,
    Map = 3,
    Free = 4,
    Lower = 5,
    Upper = 6,
    Tract = 7,
    Group = 8,
    /// The pages of a snapshot's own file.
    Snapshot = 9,
    Used = 10,
    Kept = 11,
    /// Which snapshots were deleted.
    Deleted = 12,
}

/// Which page it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Label {
    pub(crate) kind: Kind,
    pub(crate) number: u64,
    pub(crate) salt: u64,
}

impl Label {
    /// Gives a page with a body its header; its checksum, which is never 0.
    pub(crate) fn seal(self, page: &mut Page, generation: u64) -> u64 {
        let mut header = &mut page[..HEADER];
        header.put_u32(MAGIC);
        header.put_u32(self.kind as u32);
        header.put_u64(self.number);
        header.put_u64(generation);
        header.put_u64(0);
        let checksum = xxh3_64_with_seed(page, self.salt).max(1);
        page[CHECKSUM].copy_from_slice(&checksum.to_le_bytes());
        checksum
    }

    /// Generation and checksum of a page that is right.
    pub(crate) fn check(self, page: &Page) -> Option<(u64, u64)> {
        let mut fields = Fields(page);
        let is_it =
            fields.u32()? == MAGIC && fields.u32()? == self.kind as u32 && fields.u64()? == self.number;
        let (generation, kept) = (fields.u64()?, fields.u64()?);
        if !is_it {
            return None;
        }
        let mut bare = *page;
        bare[CHECKSUM].fill(0);
        (xxh3_64_with_seed(&bare, self.salt).max(1) == kept).then_some((generation, kept))
    }
}

/// The generation that a page says that it has.
pub(crate) fn generation(page: &Page) -> u64 {
    Fields(&page[16..]).u64().expect("a page has a header")
}

/// The one or the other place of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Half {
    First,
    Second,
}

impl Half {
    pub(crate) const BOTH: [Half; 2] = [Half::First, Half::Second];

    pub(crate) fn other(self) -> Half {
        match self {
            Half::First => Half::Second,
            Half::Second => Half::First,
        }
    }

    /// Where it is, of a page whose places begin at `offset`.
    pub(crate) fn of(self, offset: u64) -> u64 {
        match self {
            Half::First => offset,
            Half::Second => offset + PAGE as u64,
        }
    }
}

/// A page whose halves say the same, but for the moment in which it is changed.
///
/// ```text
///   both right ──write A──► B is relied on ──sync──► A is relied on, and newer ──write B, sync──► both right
///       ▲                                                                                            │
///       └────────────────────────────────────────────────────────────────────────────────────────────┘
/// ```
///
/// Where the power fails, or the disk, only one is right. The next writing begins with the wrong one: what is written in place may be torn
/// once more, and then neither would be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mirror {
    pub(crate) offset: u64,
    pub(crate) label: Label,
}

impl Mirror {
    /// The newest half that is right, its generation, and whether the other half says the same; none if neither is right.
    pub(crate) fn read(&self, file: &dyn InPlaceFile) -> Result<Option<Mirrored>, StorageError> {
        let mut newest: Option<Mirrored> = None;
        let mut refused = None;
        for half in Half::BOTH {
            let mut page = Box::new([0; PAGE]);
            // A half that the disk does not give back is one that is wrong.
            if let Err(error) = file.read_exact_at(half.of(self.offset), page.as_mut_slice()) {
                refused = Some(error);
                continue;
            }
            let Some((generation, _)) = self.label.check(&page) else { continue };
            newest = match newest {
                Some(kept) if kept.generation == generation => {
                    Some(Mirrored { is_twice: *kept.page == *page, ..kept })
                }
                Some(kept) if kept.generation > generation => Some(kept),
                _ => Some(Mirrored { page, generation, half, is_twice: false }),
            };
        }
        match (newest, refused) {
            (None, Some(error)) => Err(error),
            (newest, _) => Ok(newest),
        }
    }

    /// Writes both, one after the other, and last the one that is relied on, which is right until then. On return both are durable, with
    /// everything that was written before; where it fails, too, `relied` is one that is.
    pub(crate) fn write(
        &self,
        file: &dyn InPlaceFile,
        page: &mut Page,
        generation: u64,
        relied: &mut Half,
    ) -> Result<(), StorageError> {
        self.label.seal(page, generation);
        let last = if Rule::WrongCopyFirst.is_kept() { *relied } else { Half::Second };
        for half in [last.other(), last] {
            file.write_all_at(half.of(self.offset), &mut [IoSlice::new(page)])?;
            if half == last || Rule::OneCopyAtATime.is_kept() {
                file.sync_data()?;
                *relied = half;
            }
        }
        Ok(())
    }

    /// The same of one whose halves are both right, or both not there.
    pub(crate) fn write_twice(
        &self,
        file: &dyn InPlaceFile,
        page: &mut Page,
        generation: u64,
    ) -> Result<(), StorageError> {
        self.write(file, page, generation, &mut { Half::Second })
    }
}

/// What a mirror says.
#[derive(Debug)]
pub(crate) struct Mirrored {
    pub(crate) page: Box<Page>,
    pub(crate) generation: u64,
    /// The one that says it, or one of the two.
    pub(crate) half: Half,
    /// Whether both halves say it.
    pub(crate) is_twice: bool,
}
