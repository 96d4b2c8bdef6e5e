//! Attempts at something that may hang. Owns how long is waited and how many may hang at once; knows nothing of what is tried.
//!
//! ```text
//!   asked ──► waits for a place ──► under way ──► answered                     the place is free again
//!                   │                    └─ limit ─► given up ──► it ends, whenever ──► the place is free again
//!                   └─ limit ─► DiskHangs
//! ```
//!
//! What sleeps in the kernel over a dead disk cannot be ended, not even by SIGKILL. It keeps its place, so a disk that hangs costs
//! a few threads and processes, and whoever asks after that is told so after the same limit.
//!
//! Public for whoever looks at the files of datasets by himself: that hangs as all else does, and is to be bounded likewise.

use crate::error::DatasetError;
use std::{io, sync::Arc, thread, time::Duration};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time::timeout,
};

/// Attempts at one disk that are under way at once: more than a sled's agent has to ask at a time.
const UNDER_WAY_MAX: usize = 16;

/// The attempts at one disk. Cheap to clone; clones share their places.
#[derive(Clone, Debug)]
pub struct Attempts {
    disk: String,
    limit: Duration,
    places: Arc<Semaphore>,
}

impl Attempts {
    /// None is under way. `disk` is how errors name it; `limit` how long a place, and then an answer, is waited for.
    pub fn new(disk: impl Into<String>, limit: Duration) -> Attempts {
        Attempts { disk: disk.into(), limit, places: Arc::new(Semaphore::new(UNDER_WAY_MAX)) }
    }

    /// Which disk.
    pub(crate) fn disk(&self) -> &str {
        &self.disk
    }

    /// The same ones, for something that may take another time.
    #[must_use]
    pub fn within(&self, limit: Duration) -> Attempts {
        Attempts { limit, ..self.clone() }
    }

    /// How long is waited.
    pub(crate) fn limit(&self) -> Duration {
        self.limit
    }

    /// That it does not answer.
    pub(crate) fn hangs(&self, operation: &str) -> DatasetError {
        DatasetError::DiskHangs {
            disk: self.disk.clone(),
            operation: operation.to_owned(),
            limit: self.limit,
        }
    }

    /// A place for one attempt. It goes with the attempt, not with whoever waits for it.
    pub(crate) async fn place(&self, operation: &str) -> Result<OwnedSemaphorePermit, DatasetError> {
        match timeout(self.limit, Arc::clone(&self.places).acquire_owned()).await {
            Ok(Ok(place)) => Ok(place),
            // The semaphore is never closed, so this is the limit.
            Ok(Err(_)) | Err(_) => Err(self.hangs(operation)),
        }
    }

    /// Runs what may block, on a thread of its own: the end of a runtime waits for threads of its pool, and this one may never end.
    ///
    /// # Errors
    /// [`DatasetError::DiskHangs`] after the limit; [`DatasetError::Io`] if there is no thread; what `act` says.
    pub async fn blocking<T: Send + 'static>(
        &self,
        operation: &'static str,
        act: impl FnOnce() -> Result<T, DatasetError> + Send + 'static,
    ) -> Result<T, DatasetError> {
        let place = self.place(operation).await?;
        let (answer, answered) = oneshot::channel();
        let thread = thread::Builder::new().name("datasets".to_owned()).spawn(move || {
            // Whoever waited may have given up.
            let _ = answer.send(act());
            drop(place);
        });
        let io_error = |source| DatasetError::Io { operation, path: self.disk.as_str().into(), source };
        thread.map_err(io_error)?;
        match timeout(self.limit, answered).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(io_error(io::Error::other("the thread that tried it has panicked"))),
            Err(_) => Err(self.hangs(operation)),
        }
    }
}
