//! What a region is, and which checkpoint of it is in force: the first thing that is read.
//!
//! | field | bytes | |
//! |---|---|---|
//! | format | 4 | refused if it is not this one |
//! | needed | 8 | features that whoever opens it must know; refused if one is not |
//! | region, set | 16 + 16 | |
//! | salt | 8 | random, of this file: what is in every other checksum |
//! | block size, seals | 4 + 1 | |
//! | blocks | 8 | |
//! | cut | 8 | the journal's record up to which the pages of the checkpoint have everything |
//! | journal: where the record after it is, and the chain that it continues | 8 + 8 | |
//! | applied | 4 + 6 | the position at the cut |
//! | top | 4, and 8 for each | how many highest pages of the tree of checksums there are, and theirs |
//! | lost | 8 | blocks whose bytes nobody has right, at the cut; none, if the feature is not named |
//! | groups | 4, and 8 for each | the same of the index pages of groups of tracts |
//!
//! The generation of its page counts checkpoints.

use crate::{
    fields::{Fields, PutFields},
    layout::{BlockSize, GROUPS_MAX, Geometry},
    position::Position,
    sealed::{HEADER, Page},
    tree::{TOP_MAX, Tops},
};
use ids::{RegionId, RegionSetId};
use uuid::Uuid;

/// The only format so far.
const FORMAT: u32 = 1;

/// The map and the journal may say of a block that its bytes are lost. Named by every region that was ever opened by a program
/// that knows it, so that an older one does not take a record that says it for a torn one.
const LOST_BLOCKS: u64 = 1;

/// It may have snapshots, whose files lie beside it and whose data blocks are not to be written over; and tracts.
const SNAPSHOTS: u64 = 2;

/// It is a clone of a snapshot, which nobody may write, and nobody may read before control says that it is proven. Named by clones alone:
/// every other region stays what an older program knows.
pub(crate) const CLONE: u64 = 4;

/// The features that this program names of every region.
pub(crate) const NAMED: u64 = LOST_BLOCKS | SNAPSHOTS;

/// The features that this program knows.
const KNOWN: u64 = NAMED | CLONE;

/// Where the features are in the page.
const FEATURES: std::ops::Range<usize> = HEADER + 4..HEADER + 4 + 8;

/// Which region, and how it is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The region.
    pub region: RegionId,
    /// The set that it is a member of.
    pub set: RegionSetId,
    /// What it is like.
    pub geometry: Geometry,
}

/// The whole of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Super {
    /// Those that whoever opens it must know.
    pub(crate) features: u64,
    pub(crate) identity: Identity,
    pub(crate) salt: u64,
    pub(crate) cut: Cut,
    /// Checksums of the highest pages of the trees.
    pub(crate) tops: Tops,
    /// Blocks that are lost, at the cut.
    pub(crate) lost: u64,
}

/// What the checkpoint has, and where the journal goes on from it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cut {
    /// The last record whose changes are in the pages.
    pub(crate) record: u64,
    /// Where in the ring the one after it is.
    pub(crate) next_at: u64,
    /// What the one after it continues.
    pub(crate) chain: u64,
    /// The position that was applied then.
    pub(crate) applied: Position,
}

/// Why it is not to be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unusable {
    /// Of a later program: this format, or these features.
    #[error(
        "it has format {format} with features {needed:#x}; this program knows format {FORMAT} with features {KNOWN:#x}"
    )]
    Newer { format: u32, needed: u64 },
    /// It has the right checksum, and makes no sense.
    #[error("its checksum is right, but {0}")]
    Wrong(&'static str),
}

impl Super {
    pub(crate) fn write(&self, page: &mut Page) {
        let Identity { region, set, geometry } = self.identity;
        let mut body = &mut page[HEADER..];
        body.put_u32(FORMAT);
        body.put_u64(self.features);
        body.put_u128(region.0.as_u128());
        body.put_u128(set.0.as_u128());
        body.put_u64(self.salt);
        body.put_u32(geometry.block_size.bytes() as u32);
        body.put_u8(u8::from(geometry.is_sealed));
        body.put_u64(geometry.blocks);
        body.put_u64(self.cut.record);
        body.put_u64(self.cut.next_at);
        body.put_u64(self.cut.chain);
        body.put_position(self.cut.applied);
        let mut put_all = |checksums: &[u64], before: &[u8]| {
            body.put(before);
            body.put_u32(u32::try_from(checksums.len()).expect("few pages are the highest"));
            checksums.iter().for_each(|checksum| body.put_u64(*checksum));
        };
        put_all(&self.tops.upper, &[]);
        put_all(&self.tops.groups, &self.lost.to_le_bytes());
        body.fill(0);
    }

    /// Makes a page that was read name all the features that this program names.
    pub(crate) fn upgrade(page: &mut Page) {
        let there = Super::read(page).map_or(0, |kept| kept.features);
        page[FEATURES].copy_from_slice(&(there | NAMED).to_le_bytes());
    }

    pub(crate) fn read(page: &Page) -> Result<Super, Unusable> {
        const SHORT: Unusable = Unusable::Wrong("it is shorter than it can be");
        let mut fields = Fields(&page[HEADER..]);
        let format = fields.u32().ok_or(SHORT)?;
        let needed = fields.u64().ok_or(SHORT)?;
        if format != FORMAT || needed & !KNOWN != 0 {
            return Err(Unusable::Newer { format, needed });
        }
        let mut identity = || {
            let region = RegionId(Uuid::from_u128(fields.u128()?));
            let set = RegionSetId(Uuid::from_u128(fields.u128()?));
            Some((region, set, fields.u64()?, fields.u32()?, fields.u8()?, fields.u64()?))
        };
        let (region, set, salt, block_size, is_sealed, blocks) = identity().ok_or(SHORT)?;
        let block_size = BlockSize::of(block_size).ok_or(Unusable::Wrong("its block size is none"))?;
        let geometry = Geometry { block_size, blocks, is_sealed: is_sealed != 0 };
        if !geometry.is_possible() {
            return Err(Unusable::Wrong("its number of blocks is none"));
        }
        let mut rest = || {
            let cut = Cut {
                record: fields.u64()?,
                next_at: fields.u64()?,
                chain: fields.u64()?,
                applied: fields.position()?,
            };
            let upper = checksums(&mut fields, TOP_MAX)?;
            // Behind what an older program has written there are zeros.
            let lost = fields.u64()?;
            Some((cut, Tops { upper, groups: checksums(&mut fields, GROUPS_MAX)? }, lost))
        };
        let (cut, tops, lost) = rest().ok_or(SHORT)?;
        Ok(Super { features: needed, identity: Identity { region, set, geometry }, salt, cut, tops, lost })
    }
}

/// How many, and so many; no more than there may be.
fn checksums(fields: &mut Fields<'_>, most: u64) -> Option<Vec<u64>> {
    let count = Some(u64::from(fields.u32()?)).filter(|count| *count <= most)?;
    (0..count).map(|_| fields.u64()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{List, NewRegion, Opening, layout::Layout, sealed::PAGE};
    use camino::Utf8Path;
    use durable_fs::{SimMachine, Storage};
    use std::sync::Arc;

    fn example() -> Super {
        Super {
            features: NAMED,
            identity: Identity {
                region: RegionId(Uuid::from_u128(1)),
                set: RegionSetId(Uuid::from_u128(2)),
                geometry: Geometry { block_size: BlockSize::B512, blocks: 77, is_sealed: true },
            },
            salt: 3,
            cut: Cut { record: 4, next_at: 5, chain: 6, applied: Position { epoch: 7, counter: 8 } },
            tops: Tops { upper: (0..TOP_MAX).collect(), groups: (0..GROUPS_MAX).collect() },
            lost: 9,
        }
    }

    #[test]
    fn it_is_read_as_it_was_written_also_with_the_largest_tree() {
        let mut page = [0; PAGE];
        example().write(&mut page);
        assert_eq!(Super::read(&page), Ok(example()));
    }

    #[test]
    fn what_an_older_program_has_written_is_read_and_names_all_features_from_the_next_opening_on() {
        let disk = SimMachine::new().add_disk(1 << 24);
        let path = Utf8Path::new("region");
        let identity = example().identity;
        let new = NewRegion { identity, incarnation: 1, list: List::default(), salt: 3 };
        crate::create(&disk, path, &new).expect("it is made");
        let kept = || {
            let file = disk.open_in_place(path).expect("it is there");
            Layout::super_mirror().read(file.as_ref()).expect("it can be read").expect("it is right")
        };
        let file = disk.open_in_place(path).expect("it is there");
        let older = Super { features: 0, ..Super::read(&kept().page).expect("it makes sense") };
        let mut page = [0; PAGE];
        older.write(&mut page);
        Layout::super_mirror().write_twice(file.as_ref(), &mut page, 1).expect("the disk works");
        drop(
            crate::open(Arc::new(disk.clone()), path, Opening { life: 1, boot: Uuid::nil() })
                .expect("it opens"),
        );
        let upgraded = kept();
        assert_eq!(Super::read(&upgraded.page), Ok(Super { features: NAMED, ..older }));
        assert!(upgraded.is_twice);
    }

    #[test]
    fn a_later_format_an_unknown_feature_and_nonsense_are_refused() {
        let changed = |at: usize, byte: u8| {
            let mut page = [0; PAGE];
            example().write(&mut page);
            page[HEADER + at] = byte;
            Super::read(&page).expect_err("it should be refused")
        };
        assert_eq!(changed(0, 2), Unusable::Newer { format: 2, needed: NAMED });
        assert_eq!(changed(11, 0x80), Unusable::Newer { format: 1, needed: NAMED | 1 << 63 });
        assert_eq!(changed(53, 3), Unusable::Wrong("its block size is none"));
        assert_eq!(changed(57 + 7, 1), Unusable::Wrong("its number of blocks is none"));
        assert_eq!(changed(57 + 8 + 24 + 10 + 2, 1), Unusable::Wrong("it is shorter than it can be"));
        let groups = 57 + 8 + 24 + 10 + 4 + 8 * usize::try_from(TOP_MAX).expect("few") + 8;
        assert_eq!(changed(groups, 65), Unusable::Wrong("it is shorter than it can be"));
    }
}
