//! An export as a [`Holder`]: by its handle, for whoever runs it in his own process, and by its control socket.

use crate::{
    handle::{Handle, NoAnswer},
    talk::{Answer, AskError, Refusal, RefusalCode, Request, ask},
};
use camino::{Utf8Path, Utf8PathBuf};
use volume_repair::{Applied, ChangeError, ConstructionRequest, Holder, NotApplied};

/// Why an export in this process does not apply a request.
#[derive(Debug, thiserror::Error)]
pub enum NotAppliedHere {
    /// It goes on as it is.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// Its loop has not answered.
    #[error(transparent)]
    NoAnswer(#[from] NoAnswer),
}

impl NotApplied for NotAppliedHere {
    fn code(&self) -> Option<String> {
        match self {
            NotAppliedHere::Change(error) => Some(error.code().to_owned()),
            // It was not asked.
            NotAppliedHere::NoAnswer(NoAnswer::Busy | NoAnswer::Full) => Some(RefusalCode::Busy.to_string()),
            NotAppliedHere::NoAnswer(NoAnswer::Late(_) | NoAnswer::Gone) => None,
        }
    }
}

/// Not for a thread that runs futures: new members are looked at before, for 2 s at most.
impl Holder for Handle {
    type Error = NotAppliedHere;

    fn apply(&self, request: &ConstructionRequest) -> Result<Applied, NotAppliedHere> {
        Ok(self.change(request.clone(), false)??)
    }
}

/// The export that listens for orders at a place of this machine, if there is one.
#[derive(Clone, Debug)]
pub struct ExportAt(Utf8PathBuf);

/// Why it does not apply a request.
#[derive(Debug, thiserror::Error)]
pub enum NotAppliedThere {
    /// It says so.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It has not answered.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// It answers something else than it was asked.
    #[error("the export at {0} answers something else than it was asked")]
    Strange(Utf8PathBuf),
}

impl NotApplied for NotAppliedThere {
    fn code(&self) -> Option<String> {
        match self {
            NotAppliedThere::Refused(refusal) if refusal.code != RefusalCode::NoAnswer => {
                Some(refusal.code.to_string())
            }
            NotAppliedThere::Refused(_) | NotAppliedThere::Ask(_) | NotAppliedThere::Strange(_) => None,
        }
    }
}

impl ExportAt {
    /// Of this control socket.
    #[must_use]
    pub fn new(socket: &Utf8Path) -> ExportAt {
        ExportAt(socket.to_owned())
    }

    /// What it would answer to the request; nothing changes.
    ///
    /// # Errors
    /// As if it was applied.
    pub fn check(&self, request: &ConstructionRequest) -> Result<Applied, NotAppliedThere> {
        self.told(&Request::Check { volume: Box::new(request.clone()) })
    }

    fn told(&self, request: &Request) -> Result<Applied, NotAppliedThere> {
        match ask(&self.0, request) {
            Ok(Answer::Applied(applied)) => Ok(applied),
            Ok(Answer::Refused(refusal)) => Err(refusal.into()),
            Ok(Answer::Status(_) | Answer::Done | Answer::Snapshotted(_) | Answer::Compared(_)) => {
                Err(NotAppliedThere::Strange(self.0.clone()))
            }
            Err(AskError::NotThere { .. }) => Ok(Applied::Missing),
            Err(error) => Err(error.into()),
        }
    }
}

impl From<NotAppliedHere> for Refusal {
    fn from(error: NotAppliedHere) -> Refusal {
        match error {
            NotAppliedHere::Change(error) => error.into(),
            NotAppliedHere::NoAnswer(error) => error.into(),
        }
    }
}

impl Holder for ExportAt {
    type Error = NotAppliedThere;

    fn apply(&self, request: &ConstructionRequest) -> Result<Applied, NotAppliedThere> {
        self.told(&Request::Apply { volume: Box::new(request.clone()) })
    }
}
