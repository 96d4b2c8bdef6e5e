//! Why a member is not of use. Owns the words for people, and the names for programs.

use region::Geometry;
use serde::{Deserialize, Serialize};

/// Why a member is not of use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// No connection.
    #[error("it cannot be reached")]
    Unreachable,
    /// There was one.
    #[error("its connection broke")]
    Disconnected,
    /// There is one, and nothing comes.
    #[error("it does not answer")]
    Silent,
    /// Its region has another size, other blocks, or seals where none should be, or none where they should.
    #[error(
        "its blocks are not those of the volume: it has {}, and the volume {}",
        in_words(.theirs),
        in_words(.ours)
    )]
    OtherBlocks {
        /// Of the region.
        theirs: Geometry,
        /// Of the volume.
        ours: Geometry,
    },
    /// Another region had this id before, or has it now.
    #[error("it is another region under the same id: its incarnation is {theirs}, and should be {ours}")]
    OtherIncarnation {
        /// Of the region.
        theirs: u64,
        /// As the volume names it.
        ours: u64,
    },
    /// Nothing that both understand.
    #[error("it speaks versions {min} to {max} of the protocol, and this speaks {ours}")]
    OtherVersion {
        /// From this one.
        min: u16,
        /// To this one.
        max: u16,
        /// Ours.
        ours: u16,
    },
    /// There is no such region; in its words.
    #[error("{0}")]
    NoRegion(String),
    /// It is a member of another set; in its words.
    #[error("{0}")]
    OtherSet(String),
    /// It is there, and does not open; in its words.
    #[error("{0}")]
    NotOpened(String),
    /// The epoch of this writer is much higher than any that it has heard of; in its words.
    #[error("{0}")]
    EpochTooHigh(String),
    /// It does not keep a list; in its words.
    #[error("{0}")]
    ListRefused(String),
    /// It lacks what is not kept any more.
    #[error("it is too far behind, and is filled again")]
    TooFarBehind,
    /// Nobody is sure of anything any more.
    #[error("all members are asked again what they have")]
    AskedAgain,
    /// Its region is of no use until somebody looks at it; in its words.
    #[error("{0}")]
    Failed(String),
    /// What it was asked is wrong, it says.
    #[error("{0}")]
    Refused(String),
    /// What it says is wrong.
    #[error("{0}")]
    WrongAnswer(&'static str),
    /// Its disk is full; in its words.
    #[error("{0}")]
    NoRoom(String),
    /// Its disk has an error, and is tried again; in its words.
    #[error("{0}")]
    DiskError(String),
}

/// The same for programs. The names do not change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TroubleCode {
    /// No connection.
    Unreachable,
    /// There was one.
    Disconnected,
    /// There is one, and nothing comes.
    Silent,
    /// Its region has another size or other blocks.
    OtherBlocks,
    /// It is another region under the same id.
    OtherIncarnation,
    /// It speaks no version of the protocol that is spoken here.
    OtherVersion,
    /// There is no such region.
    NoRegion,
    /// It is a member of another set.
    OtherSet,
    /// It is there, and does not open.
    NotOpened,
    /// The epoch of this writer is much higher than any that it has heard of.
    EpochTooHigh,
    /// It does not keep a list.
    ListRefused,
    /// It lacks what is not kept any more.
    TooFarBehind,
    /// All members are asked again what they have.
    AskedAgain,
    /// Its region is of no use until somebody looks at it.
    Failed,
    /// What it was asked is wrong, it says.
    Refused,
    /// What it says is wrong.
    WrongAnswer,
    /// Its disk is full.
    NoRoom,
    /// Its disk has an error, and is tried again.
    DiskError,
}

impl Trouble {
    /// Its name.
    #[must_use]
    pub fn code(&self) -> TroubleCode {
        match self {
            Trouble::Unreachable => TroubleCode::Unreachable,
            Trouble::Disconnected => TroubleCode::Disconnected,
            Trouble::Silent => TroubleCode::Silent,
            Trouble::OtherBlocks { .. } => TroubleCode::OtherBlocks,
            Trouble::OtherIncarnation { .. } => TroubleCode::OtherIncarnation,
            Trouble::OtherVersion { .. } => TroubleCode::OtherVersion,
            Trouble::NoRegion(_) => TroubleCode::NoRegion,
            Trouble::OtherSet(_) => TroubleCode::OtherSet,
            Trouble::NotOpened(_) => TroubleCode::NotOpened,
            Trouble::EpochTooHigh(_) => TroubleCode::EpochTooHigh,
            Trouble::ListRefused(_) => TroubleCode::ListRefused,
            Trouble::TooFarBehind => TroubleCode::TooFarBehind,
            Trouble::AskedAgain => TroubleCode::AskedAgain,
            Trouble::Failed(_) => TroubleCode::Failed,
            Trouble::Refused(_) => TroubleCode::Refused,
            Trouble::WrongAnswer(_) => TroubleCode::WrongAnswer,
            Trouble::NoRoom(_) => TroubleCode::NoRoom,
            Trouble::DiskError(_) => TroubleCode::DiskError,
        }
    }
}

fn in_words(geometry: &Geometry) -> String {
    let sealed = if geometry.is_sealed { ", with seals" } else { "" };
    format!("{} of {} bytes{sealed}", geometry.blocks, geometry.block_size.bytes())
}
