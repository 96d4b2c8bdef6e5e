//! Who holds the Upstairs of a volume, as whoever commands replacements sees it: a port.
//!
//! ```text
//!   a construction request ──► Holder ──┬── Nobody: missing
//!                                       ├── an export: by its handle in the same process, by its control socket in another one
//!                                       ├── a Pantry's volume, which is an export behind the sled's API
//!                                       └── later a VM, which has an export's handle
//! ```
//!
//! Whoever it is, the same request gets the same answer, because one [`Executor`](crate::Executor) decides: what it does the first time, that
//! the very same one once more is never an error, by which name it is refused, and what the coordinator is told of it. So whoever commands needs to know who holds the volume to reach
//! him, and for nothing else. The contract is kept by one suite over all of them: `testbed/tests/disks/holders.rs`.
//!
//! That there is no answer says nothing: the same request is made again, and the answer to that one tells.

use crate::{
    change::{Applied, ChangeError},
    request::ConstructionRequest,
};
use std::{convert::Infallible, error::Error};

/// Somebody who may hold a volume. A call takes some seconds at most, and may block so long.
pub trait Holder {
    /// Why a request is not applied, or not known to be.
    type Error: NotApplied;

    /// Applies a newer request, or the same one once more, to the volume that runs. [`Applied::Missing`] if none runs here that was built by a
    /// request.
    ///
    /// # Errors
    /// [`NotApplied`].
    fn apply(&self, request: &ConstructionRequest) -> Result<Applied, Self::Error>;
}

/// What a holder says that does not apply a request.
pub trait NotApplied: Error {
    /// The refusal's name, which is the same whoever holds the volume ([`ChangeError::code`]): nothing has changed. None if it is not known
    /// whether the request was applied.
    fn code(&self) -> Option<String>;
}

/// Nobody holds any volume here.
#[derive(Clone, Copy, Debug, Default)]
pub struct Nobody;

impl Holder for Nobody {
    type Error = Infallible;

    fn apply(&self, _request: &ConstructionRequest) -> Result<Applied, Infallible> {
        Ok(Applied::Missing)
    }
}

impl NotApplied for Infallible {
    fn code(&self) -> Option<String> {
        match *self {}
    }
}

impl NotApplied for ChangeError {
    fn code(&self) -> Option<String> {
        Some(ChangeError::code(self).to_owned())
    }
}
