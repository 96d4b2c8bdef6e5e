//! Why a member is not of use. Owns the words for people, and the names for programs.

use region_wire::{Unfit, UnfitCode};
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
    /// It is not the one that the volume names, or speaks another version of the protocol, or its region does not open.
    #[error(transparent)]
    Unfit(#[from] Unfit),
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
    /// It is not the one that the volume names; by the name that this has everywhere.
    #[serde(untagged)]
    Unfit(UnfitCode),
}

impl Trouble {
    /// Its name.
    #[must_use]
    pub fn code(&self) -> TroubleCode {
        match self {
            Trouble::Unreachable => TroubleCode::Unreachable,
            Trouble::Disconnected => TroubleCode::Disconnected,
            Trouble::Silent => TroubleCode::Silent,
            Trouble::Unfit(unfit) => TroubleCode::Unfit(unfit.code()),
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

#[cfg(test)]
mod tests {
    use super::*;
    use region::{BlockSize, Geometry};
    use region_wire::NotWelcome;

    #[test]
    fn who_is_unfit_has_one_code_for_every_program() {
        let geometry = Geometry { block_size: BlockSize::B512, blocks: 1, is_sealed: false };
        for unfit in [
            Unfit::from(NotWelcome::Version(1, 1)),
            NotWelcome::NoRegion(String::new()).into(),
            NotWelcome::OtherSet(String::new()).into(),
            NotWelcome::NotOpened(String::new()).into(),
            NotWelcome::ReadOnly(String::new()).into(),
            Unfit::OtherBlocks { theirs: geometry, ours: geometry },
            Unfit::OtherIncarnation { theirs: 1, ours: 2 },
        ] {
            let trouble = Trouble::from(unfit.clone());
            let name = serde_json::to_value(trouble.code()).expect("it has a name");
            assert_eq!((name.as_str(), trouble.to_string()), (Some(unfit.code().name()), unfit.to_string()));
            assert_eq!(serde_json::from_value::<TroubleCode>(name).expect("it is read"), trouble.code());
        }
    }
}
