//! What a region keeps of who may write it, and of who its fellow members are.
//!
//! | field | bytes | |
//! |---|---|---|
//! | promoted | 4 + 16 | the epoch and session that may write; (0, 0) before the first one |
//! | incarnation | 8 | of this region: one that was made again under the same id has another one |
//! | boot | 16 | the boot of the machine in which it was last opened |
//! | suspect | 1 | whether the machine has lost its power since something was applied that may not have been durable |
//! | list: version, base | 4 + 4, 4 + 6 | |
//! | list: members | 1, and 16 + 8 for each | the full ones |
//! | clone: state | 1 | 0: it is none; 1: it is to be one; 2: it is proven to be one |
//! | clone: snapshot, hash | 16 + 32 | of which snapshot; what it holds, once that is proven |
//!
//! Behind what an older program has written there are zeros.
//!
//! Written whenever it changes, both copies durable before anybody is told. The generation of its page counts the changes.

use crate::{
    fields::{Fields, PutFields},
    position::Position,
    sealed::{HEADER, Page},
};
use ids::{RegionId, SnapshotId};
use std::fmt;
use uuid::Uuid;

/// What is said of a clone.
const UNPROVEN: u8 = 1;
const PROVEN: u8 = 2;

/// Full members of a list at most.
pub const MEMBERS_MAX: usize = 8;

/// Who may write: a right, and the one process that has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Promotion {
    /// The right; a higher one takes it from a lower one.
    pub epoch: u32,
    /// The process: a random number of its own.
    pub session: Uuid,
}

/// Which of the lists of a region set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ListVersion {
    /// The epoch of its maker; 0 for the one that the regions were made with.
    pub epoch: u32,
    /// Its number among that maker's.
    pub number: u32,
}

impl fmt::Display for ListVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.number)
    }
}

/// One copy of the blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Member {
    /// Its id.
    pub region: RegionId,
    /// Which of the regions that had this id.
    pub incarnation: u64,
}

/// Which members are full. What it means, and how it changes: `docs/BLOCK.md`, "Lists".
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct List {
    /// Newer ones replace older ones.
    pub version: ListVersion,
    /// The position from which on it holds.
    pub base: Position,
    /// The full ones; [`MEMBERS_MAX`] at most.
    pub full: Vec<Member>,
}

/// What is only read: a copy of what the set held at a snapshot, made by nobody who writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloneOf {
    /// Which snapshot; the clone has one of the same name, and nothing else.
    pub snapshot: SnapshotId,
    /// The hash of its content, once that was read back from its own disk and was the source's: before, nobody reads it.
    pub proven: Option<[u8; 32]>,
}

/// All of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Control {
    /// Who may write.
    pub promoted: Promotion,
    /// Which region of this id it is.
    pub incarnation: u64,
    /// The boot of its machine.
    pub boot: Uuid,
    /// Whether a power cut may have taken something that was applied.
    pub is_suspect: bool,
    /// The newest list that it was told.
    pub list: List,
    /// Of what it is a clone, if it is one. Then nobody is ever promoted.
    pub clone_of: Option<CloneOf>,
}

impl Control {
    pub(crate) fn write(&self, page: &mut Page) {
        assert!(self.list.full.len() <= MEMBERS_MAX, "a list has {} members", self.list.full.len());
        let mut body = &mut page[HEADER..];
        body.put_u32(self.promoted.epoch);
        body.put_u128(self.promoted.session.as_u128());
        body.put_u64(self.incarnation);
        body.put_u128(self.boot.as_u128());
        body.put_u8(u8::from(self.is_suspect));
        body.put_u32(self.list.version.epoch);
        body.put_u32(self.list.version.number);
        body.put_position(self.list.base);
        body.put_u8(self.list.full.len() as u8);
        for member in &self.list.full {
            body.put_u128(member.region.0.as_u128());
            body.put_u64(member.incarnation);
        }
        if let Some(CloneOf { snapshot, proven }) = self.clone_of {
            body.put_u8(if proven.is_some() { PROVEN } else { UNPROVEN });
            body.put_u128(snapshot.0.as_u128());
            body.put(&proven.unwrap_or_default());
        }
        body.fill(0);
    }

    pub(crate) fn read(page: &Page) -> Option<Control> {
        let mut fields = Fields(&page[HEADER..]);
        let promoted = Promotion { epoch: fields.u32()?, session: Uuid::from_u128(fields.u128()?) };
        let (incarnation, boot, is_suspect) =
            (fields.u64()?, Uuid::from_u128(fields.u128()?), fields.u8()? != 0);
        let version = ListVersion { epoch: fields.u32()?, number: fields.u32()? };
        let base = fields.position()?;
        let count = fields.u8()?;
        if usize::from(count) > MEMBERS_MAX {
            return None;
        }
        let mut member =
            || Some(Member { region: RegionId(Uuid::from_u128(fields.u128()?)), incarnation: fields.u64()? });
        let full = (0..count).map(|_| member()).collect::<Option<_>>()?;
        let list = List { version, base, full };
        let clone_of = match fields.u8()? {
            0 => None,
            state => {
                let snapshot = SnapshotId(Uuid::from_u128(fields.u128()?));
                let hash: [u8; 32] = fields.bytes(32)?.try_into().ok()?;
                Some(CloneOf { snapshot, proven: (state == PROVEN).then_some(hash) })
            }
        };
        Some(Control { promoted, incarnation, boot, is_suspect, list, clone_of })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sealed::PAGE;

    #[test]
    fn it_is_read_as_it_was_written_also_with_the_longest_list() {
        let member = |number: u128| Member { region: RegionId(Uuid::from_u128(number)), incarnation: 9 };
        let control = Control {
            promoted: Promotion { epoch: 3, session: Uuid::from_u128(4) },
            incarnation: 5,
            boot: Uuid::from_u128(6),
            is_suspect: true,
            list: List {
                version: ListVersion { epoch: 2, number: 7 },
                base: Position { epoch: 2, counter: 8 },
                full: (0..MEMBERS_MAX as u128).map(member).collect(),
            },
            clone_of: None,
        };
        let mut page = [0; PAGE];
        control.write(&mut page);
        assert_eq!(Control::read(&page), Some(control.clone()));
        for proven in [None, Some([6; 32])] {
            let clone_of = Some(CloneOf { snapshot: SnapshotId(Uuid::from_u128(10)), proven });
            let control = Control { clone_of, ..control.clone() };
            control.write(&mut page);
            assert_eq!(Control::read(&page), Some(control));
        }
        page[HEADER + 4 + 16 + 8 + 16 + 1 + 8 + 10] = 9;
        assert_eq!(Control::read(&page), None, "more members than there may be");
    }
}
