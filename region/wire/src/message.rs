//! The parts that messages have in common.

use bytes::Bytes;
use ids::RegionId;
use region::{
    List, ListVersion, MEMBERS_MAX, Member, Position, Promotion, SEAL, Seal, What,
    fields::{Fields, PutFields},
};
use uuid::Uuid;

/// Bytes of blocks in one write, read or copy at most.
pub const WRITE_BYTES_MAX: usize = crate::frame::BULK_MAX;

/// Blocks of one zeroing at most.
pub const ZERO_MAX: u64 = 8_192;

/// Blocks that are looked at by one message at most.
pub const LOOK_MAX: u64 = 8_192;

/// Blocks that follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blocks {
    /// The first one.
    pub first: u64,
    /// How many; at least one.
    pub count: u32,
}

impl Blocks {
    /// As a range.
    #[must_use]
    pub fn range(self) -> std::ops::Range<u64> {
        self.first..self.first + u64::from(self.count)
    }
}

/// Bytes of blocks that follow each other, and what they are checked by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockData {
    /// The first one.
    pub first: u64,
    /// A checksum for each.
    pub checksums: Vec<u64>,
    /// A seal for each, or none at all.
    pub seals: Vec<Seal>,
    /// Their bytes.
    pub bytes: Bytes,
}

impl BlockData {
    /// Which blocks.
    #[must_use]
    pub fn blocks(&self) -> Blocks {
        Blocks { first: self.first, count: u32::try_from(self.checksums.len()).expect("a message is small") }
    }
}

const NEVER: u8 = 0;
const ZEROS: u8 = 1;
const BYTES: u8 = 2;
const LOST: u8 = 3;

pub(crate) fn put_blocks(into: &mut Vec<u8>, blocks: Blocks) {
    into.put_u48(blocks.first);
    into.put_u32(blocks.count);
}

/// Of at most so many.
pub(crate) fn blocks(fields: &mut Fields<'_>, max: u64) -> Option<Blocks> {
    let blocks = Blocks { first: fields.u48()?, count: fields.u32()? };
    (1..=max).contains(&u64::from(blocks.count)).then_some(blocks)
}

pub(crate) fn put_data(into: &mut Vec<u8>, data: &BlockData) {
    put_blocks(into, data.blocks());
    into.put_u8(u8::from(!data.seals.is_empty()));
    data.checksums.iter().for_each(|checksum| into.put_u64(*checksum));
    data.seals.iter().for_each(|seal| into.put(seal));
}

pub(crate) fn data(fields: &mut Fields<'_>, bytes: Bytes) -> Option<BlockData> {
    let Blocks { first, count } = blocks(fields, (WRITE_BYTES_MAX / 512) as u64)?;
    let is_sealed = fields.u8()? != 0;
    let checksums = (0..count).map(|_| fields.u64()).collect::<Option<_>>()?;
    let seals = if is_sealed { count } else { 0 };
    let seals = (0..seals).map(|_| fields.bytes(SEAL)?.try_into().ok()).collect::<Option<_>>()?;
    Some(BlockData { first, checksums, seals, bytes })
}

pub(crate) fn put_whats<'a>(into: &mut Vec<u8>, whats: impl Iterator<Item = &'a What>, is_sealed: bool) {
    for what in whats {
        match what {
            What::Never => into.put_u8(NEVER),
            What::Zeros => into.put_u8(ZEROS),
            What::Bytes { checksum, seal } => put_checks(into, BYTES, *checksum, seal, is_sealed),
            What::Lost { checksum, seal } => put_checks(into, LOST, *checksum, seal, is_sealed),
        }
    }
}

fn put_checks(into: &mut Vec<u8>, kind: u8, checksum: u64, seal: &Seal, is_sealed: bool) {
    into.put_u8(kind);
    into.put_u64(checksum);
    if is_sealed {
        into.put(seal);
    }
}

pub(crate) fn what(fields: &mut Fields<'_>, is_sealed: bool) -> Option<What> {
    match fields.u8()? {
        NEVER => Some(What::Never),
        ZEROS => Some(What::Zeros),
        kind @ (BYTES | LOST) => {
            let checksum = fields.u64()?;
            let seal = if is_sealed { fields.bytes(SEAL)?.try_into().ok()? } else { [0; SEAL] };
            Some(if kind == BYTES { What::Bytes { checksum, seal } } else { What::Lost { checksum, seal } })
        }
        _ => None,
    }
}

pub(crate) fn put_promotion(into: &mut Vec<u8>, promotion: Promotion) {
    into.put_u32(promotion.epoch);
    into.put_u128(promotion.session.as_u128());
}

pub(crate) fn promotion(fields: &mut Fields<'_>) -> Option<Promotion> {
    Some(Promotion { epoch: fields.u32()?, session: Uuid::from_u128(fields.u128()?) })
}

pub(crate) fn put_list(into: &mut Vec<u8>, list: &List) {
    into.put_u32(list.version.epoch);
    into.put_u32(list.version.number);
    into.put_position(list.base);
    into.put_u8(u8::try_from(list.full.len()).expect("a list is short"));
    for member in &list.full {
        into.put_u128(member.region.0.as_u128());
        into.put_u64(member.incarnation);
    }
}

pub(crate) fn list(fields: &mut Fields<'_>) -> Option<List> {
    let version = ListVersion { epoch: fields.u32()?, number: fields.u32()? };
    let (base, count) = (fields.position()?, usize::from(fields.u8()?));
    if count > MEMBERS_MAX {
        return None;
    }
    let mut member =
        || Some(Member { region: RegionId(Uuid::from_u128(fields.u128()?)), incarnation: fields.u64()? });
    let full: Vec<Member> = (0..count).map(|_| member()).collect::<Option<_>>()?;
    // One that is there twice would be taken for two.
    if (1..full.len()).any(|at| full[..at].contains(&full[at])) {
        return None;
    }
    Some(List { version, base, full })
}

/// A version that a write may have.
pub(crate) fn version(fields: &mut Fields<'_>) -> Option<Position> {
    fields.position().filter(|position| position.epoch > 0 && position.counter > 0)
}
