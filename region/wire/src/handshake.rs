//! The first words of a connection: what is said by whoever connects, and which member it takes for the one that it wanted. Knows no socket.
//!
//! ```text
//!   Hello ──► the member ──┬── Welcome, SnapshotWelcome ──► Expected: is it the one? ──yes──► it goes on
//!                          │                                                   └───no──► Unfit
//!                          └── Refused(NotWelcome) ────────────────────────────────────► Unfit
//! ```
//!
//! Nobody who is unfit becomes fit by being asked again, so a connection ends with it.

use crate::{
    reply::{NotWelcome, SnapshotWelcome, Welcome},
    request::Hello,
    version::VERSION,
};
use ids::{RegionId, RegionSetId, SnapshotId};
use region::Geometry;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

impl Hello {
    /// To a region that is taken to be a member of this set; or to a snapshot of it.
    #[must_use]
    pub fn new(region: RegionId, set: RegionSetId, snapshot: Option<SnapshotId>) -> Hello {
        Hello { version_min: VERSION, version_max: VERSION, region, set, snapshot }
    }

    /// The version that is spoken with whoever says this.
    ///
    /// # Errors
    /// [`NotWelcome::Version`], if there is none.
    pub fn version(&self) -> Result<u16, NotWelcome> {
        match (self.version_min..=self.version_max).contains(&VERSION) {
            true => Ok(VERSION),
            false => Err(NotWelcome::Version(VERSION, VERSION)),
        }
    }
}

/// What a member has to be, for whoever connects to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    /// What its blocks are.
    pub geometry: Geometry,
    /// Which life of its id it is; any, if that is not known.
    pub incarnation: Option<u64>,
}

/// Why a member is of no use for whoever has said Hello to it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// It says so.
    #[error(transparent)]
    NotWelcome(#[from] NotWelcome),
    /// Its region has another size, other blocks, or seals where none should be, or none where they should.
    #[error(
        "its blocks are not those of the volume: it has {}, and the volume {}",
        in_words(.theirs),
        in_words(.ours)
    )]
    OtherBlocks {
        /// Of the region.
        theirs: Geometry,
        /// As expected.
        ours: Geometry,
    },
    /// Another region had this id before, or has it now.
    #[error("it is another region under the same id: its incarnation is {theirs}, and should be {ours}")]
    OtherIncarnation {
        /// Of the region.
        theirs: u64,
        /// As expected.
        ours: u64,
    },
}

/// The same for programs, wherever that is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnfitCode {
    /// It speaks no version of the protocol that is spoken here.
    OtherVersion,
    /// There is no such region.
    NoRegion,
    /// It is a member of another set.
    OtherSet,
    /// It is there, and does not open.
    NotOpened,
    /// Its region has another size or other blocks.
    OtherBlocks,
    /// It is another region under the same id.
    OtherIncarnation,
}

impl Unfit {
    /// A name for programs.
    #[must_use]
    pub fn code(&self) -> UnfitCode {
        match self {
            Unfit::NotWelcome(NotWelcome::Version(..)) => UnfitCode::OtherVersion,
            Unfit::NotWelcome(NotWelcome::NoRegion(_)) => UnfitCode::NoRegion,
            Unfit::NotWelcome(NotWelcome::OtherSet(_)) => UnfitCode::OtherSet,
            Unfit::NotWelcome(NotWelcome::NotOpened(_) | NotWelcome::ReadOnly(_)) => UnfitCode::NotOpened,
            Unfit::OtherBlocks { .. } => UnfitCode::OtherBlocks,
            Unfit::OtherIncarnation { .. } => UnfitCode::OtherIncarnation,
        }
    }
}

impl UnfitCode {
    const ALL: [UnfitCode; 6] = [
        UnfitCode::OtherVersion,
        UnfitCode::NoRegion,
        UnfitCode::OtherSet,
        UnfitCode::NotOpened,
        UnfitCode::OtherBlocks,
        UnfitCode::OtherIncarnation,
    ];

    /// The name, which does not change.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            UnfitCode::OtherVersion => "other_version",
            UnfitCode::NoRegion => "no_region",
            UnfitCode::OtherSet => "other_set",
            UnfitCode::NotOpened => "not_opened",
            UnfitCode::OtherBlocks => "other_blocks",
            UnfitCode::OtherIncarnation => "other_incarnation",
        }
    }
}

impl Serialize for UnfitCode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for UnfitCode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<UnfitCode, D::Error> {
        let said = String::deserialize(deserializer)?;
        let code = UnfitCode::ALL.into_iter().find(|code| code.name() == said);
        code.ok_or_else(|| de::Error::custom(format_args!("{said:?} is no code of who is unfit")))
    }
}

impl Expected {
    /// Whether who welcomes its writer is the one.
    ///
    /// # Errors
    /// [`Unfit`].
    pub fn check(&self, welcome: &Welcome) -> Result<(), Unfit> {
        self.check_all(welcome.version, welcome.geometry, welcome.incarnation)
    }

    /// Whether who welcomes a reader of a snapshot is the one.
    ///
    /// # Errors
    /// [`Unfit`].
    pub fn check_snapshot(&self, welcome: &SnapshotWelcome) -> Result<(), Unfit> {
        self.check_all(welcome.version, welcome.geometry, welcome.incarnation)
    }

    fn check_all(&self, version: u16, theirs: Geometry, incarnation: u64) -> Result<(), Unfit> {
        if version != VERSION {
            return Err(NotWelcome::Version(version, version).into());
        }
        if theirs != self.geometry {
            return Err(Unfit::OtherBlocks { theirs, ours: self.geometry });
        }
        match self.incarnation {
            Some(ours) if ours != incarnation => Err(Unfit::OtherIncarnation { theirs: incarnation, ours }),
            _ => Ok(()),
        }
    }
}

fn in_words(geometry: &Geometry) -> String {
    let sealed = if geometry.is_sealed { ", with seals" } else { "" };
    format!("{} of {} bytes{sealed}", geometry.blocks, geometry.block_size.bytes())
}
