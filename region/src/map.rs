//! What is known of each block: whose bytes it has, where they are, and what they are.
//!
//! ```text
//!   0        4          10      16         24                     64
//!   ┌────────┬──────────┬───────┬──────────┬──────────────────────┐
//!   │ epoch  │ counter  │ place │ checksum │ seal, if it has one  │
//!   └────────┴──────────┴───────┴──────────┴──────────────────────┘
//! ```
//!
//! Entries lie one after the other behind the header of a map page. All zeros is a block that nobody ever wrote, so a map page
//! that was never written says so of all its blocks. A block that is *lost* has no place, but the checksum (and the seal) of the
//! bytes that it is to have: so it is the same block as elsewhere, and whoever finds the bytes knows them.

use crate::{
    fields::{Fields, PutFields},
    position::Position,
    sealed::{HEADER, PAGE, Page},
};

/// Bytes of what an encrypting writer keeps beside a block.
pub const SEAL: usize = 40;

const PLAIN: usize = 24;

/// What an encrypting writer needs to read a block back: nothing that this crate understands.
pub type Seal = [u8; SEAL];

/// What a block holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Content {
    /// Nobody ever wrote it. It reads as zeros, or as what lies under it.
    #[default]
    Never,
    /// Zeros, which were written.
    Zeros,
    /// Bytes.
    Bytes {
        /// In which data block.
        place: u64,
        /// Their [`checksum`](crate::checksum).
        checksum: u64,
        /// Zeros where the region has none.
        seal: Seal,
    },
    /// Bytes that this region never got, because nobody had them right any more. Which they were to be is known.
    Lost {
        /// The [`checksum`](crate::checksum) of those that are right.
        checksum: u64,
        /// Zeros where the region has none.
        seal: Seal,
    },
}

/// What is known of a block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The write that it has its content from.
    pub(crate) version: Position,
    /// The content.
    pub(crate) content: Content,
}

/// `place` as it is kept: the first two numbers, and the last one, say that there are no bytes.
const NEVER: u64 = 0;
const ZEROS: u64 = 1;
const PLACES: u64 = 2;
const LOST: u64 = (1 << 48) - 1;

/// Entries of one page.
pub(crate) const fn entries(is_sealed: bool) -> usize {
    (PAGE - HEADER) / width(is_sealed)
}

const fn width(is_sealed: bool) -> usize {
    if is_sealed { PLAIN + SEAL } else { PLAIN }
}

fn range(index: usize, is_sealed: bool) -> std::ops::Range<usize> {
    let start = HEADER + index * width(is_sealed);
    start..start + width(is_sealed)
}

/// The entry of that number in its page.
pub(crate) fn entry(page: &Page, index: usize, is_sealed: bool) -> Entry {
    let mut fields = Fields(&page[range(index, is_sealed)]);
    let mut read = || {
        let version = fields.position()?;
        let (place, checksum) = (fields.u48()?, fields.u64()?);
        let mut seal = [0; SEAL];
        if is_sealed {
            seal.copy_from_slice(fields.bytes(SEAL)?);
        }
        let content = match place {
            NEVER => Content::Never,
            ZEROS => Content::Zeros,
            LOST => Content::Lost { checksum, seal },
            place => Content::Bytes { place: place - PLACES, checksum, seal },
        };
        Some(Entry { version, content })
    };
    read().expect("an entry has a fixed size")
}

/// Puts an entry into its page.
pub(crate) fn set_entry(page: &mut Page, index: usize, is_sealed: bool, entry: &Entry) {
    let mut fields = &mut page[range(index, is_sealed)];
    let (place, checksum, seal) = match entry.content {
        Content::Never => (NEVER, 0, [0; SEAL]),
        Content::Zeros => (ZEROS, 0, [0; SEAL]),
        Content::Bytes { place, checksum, seal } => (place + PLACES, checksum, seal),
        Content::Lost { checksum, seal } => (LOST, checksum, seal),
    };
    fields.put_position(entry.version);
    fields.put_u48(place);
    fields.put_u64(checksum);
    if is_sealed {
        fields.put(&seal);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn content() -> impl Strategy<Value = Content> {
        let bytes = (0..1_u64 << 47, any::<u64>()).prop_map(|(place, checksum)| Content::Bytes {
            place,
            checksum,
            seal: [0; SEAL],
        });
        let lost = any::<u64>().prop_map(|checksum| Content::Lost { checksum, seal: [0; SEAL] });
        prop_oneof![Just(Content::Never), Just(Content::Zeros), bytes, lost]
    }

    proptest! {
        #[test]
        fn an_entry_is_read_as_it_was_put_and_disturbs_no_other(
            is_sealed: bool,
            place in 0..63_usize,
            epoch: u32,
            counter in 0..Position::COUNTERS,
            content in content(),
            seal: [u8; SEAL],
        ) {
            let mut page = [0; PAGE];
            let content = match content {
                Content::Bytes { place, checksum, .. } if is_sealed => Content::Bytes { place, checksum, seal },
                Content::Lost { checksum, .. } if is_sealed => Content::Lost { checksum, seal },
                content => content,
            };
            let entry_there = Entry { version: Position { epoch, counter }, content };
            set_entry(&mut page, place, is_sealed, &entry_there);
            for index in 0..entries(is_sealed) {
                let expected = if index == place { entry_there } else { Entry::default() };
                prop_assert_eq!(entry(&page, index, is_sealed), expected);
            }
            prop_assert_eq!(&page[..HEADER], &[0; HEADER]);
        }
    }

    #[test]
    fn a_page_has_room_for_as_many_as_are_counted() {
        assert_eq!((entries(false), entries(true)), (169, 63));
    }
}
