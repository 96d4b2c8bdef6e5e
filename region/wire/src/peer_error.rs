//! Why a member that is asked for a snapshot does not give it: the same for a clone that is made and for a volume that is read. Each of them
//! has a connection of its own kind, and tells what came of it by this. What each of them finds in what it was given is an error of its own, which
//! wraps this one.

use crate::{
    frame::WireError,
    handshake::{Expected, Unfit},
    reply::{Refusal, Reply, SnapshotWelcome},
};
use region::Position;
use std::{io, time::Duration};

/// Why a member does not give what it is asked for.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// Nobody is there.
    #[error("it cannot be reached")]
    NotConnected(#[source] io::Error),
    /// It is gone.
    #[error("its connection broke")]
    Broken(#[source] io::Error),
    /// It says nothing.
    #[error("it has not answered within {} s", .0.as_secs())]
    Silent(Duration),
    /// It is not the one that was wanted.
    #[error(transparent)]
    Unfit(#[from] Unfit),
    /// It has no such snapshot, in its words.
    #[error("{0}")]
    NoSnapshot(String),
    /// It says no, in its words.
    #[error("it refuses: {0}")]
    Refused(String),
    /// Garbage.
    #[error("what it says is no message")]
    Wire(#[from] WireError),
    /// Nonsense.
    #[error("it says what cannot be: {0}")]
    Strange(&'static str),
    /// Rotten there, or on the way; or a lie.
    #[error("block {0} is not what was written there")]
    WrongBlock(u64),
}

/// Two members have snapshots of one name that are not of one position: whoever asks several of them sees it, and each of them is right by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "its snapshot of that name is another one: it is of position {theirs}, and that of others is of {ours}"
)]
pub struct OtherSnapshot {
    /// There.
    pub theirs: Position,
    /// Elsewhere.
    pub ours: Position,
}

impl OtherSnapshot {
    /// Whether a member's snapshot is that of the others, by their positions.
    ///
    /// # Errors
    /// If it is another one.
    pub fn check(theirs: Position, ours: Position) -> Result<(), OtherSnapshot> {
        if theirs == ours { Ok(()) } else { Err(OtherSnapshot { theirs, ours }) }
    }
}

impl PeerError {
    /// Whether it may be otherwise in a moment.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        matches!(self, PeerError::NotConnected(_) | PeerError::Broken(_) | PeerError::Silent(_))
    }

    /// A name for programs, which does not change.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            PeerError::NotConnected(_) => "unreachable",
            PeerError::Broken(_) => "disconnected",
            PeerError::Silent(_) => "silent",
            PeerError::Unfit(unfit) => unfit.code().name(),
            PeerError::NoSnapshot(_) => "no_snapshot",
            PeerError::Refused(_) => "refused",
            PeerError::Wire(_) | PeerError::Strange(_) => "wrong_answer",
            PeerError::WrongBlock(_) => "wrong_block",
        }
    }
}

impl From<Refusal> for PeerError {
    fn from(refusal: Refusal) -> PeerError {
        match refusal {
            Refusal::Hello(why) => Unfit::from(why).into(),
            Refusal::NoSnapshot(why) => PeerError::NoSnapshot(why),
            Refusal::EpochTooHigh(why) | Refusal::List { why, .. } => PeerError::Refused(why),
            Refusal::Epoch(_) => {
                PeerError::Refused("it wants an epoch, which nobody needs who only reads".to_owned())
            }
        }
    }
}

impl Reply {
    /// What a member has answered; or, if that is a no, why.
    ///
    /// # Errors
    /// [`PeerError`].
    pub fn answered(self) -> Result<Reply, PeerError> {
        match self {
            Reply::Refused(refusal) => Err(refusal.into()),
            Reply::Failed(why) | Reply::Wrong(why) => Err(PeerError::Refused(why)),
            reply => Ok(reply),
        }
    }

    /// What was answered to who wants to read a snapshot, by the member that is wanted.
    ///
    /// # Errors
    /// [`PeerError`].
    pub fn welcomed(self, expected: &Expected) -> Result<SnapshotWelcome, PeerError> {
        match self.answered()? {
            Reply::SnapshotWelcome(welcome) => {
                expected.check_snapshot(&welcome)?;
                Ok(welcome)
            }
            _ => Err(PeerError::Strange("it does not welcome who wants to read a snapshot")),
        }
    }
}
