//! Uploads that run in this process: whose files the clean-up leaves alone.
//!
//! An upload is live from before its file is made until after its row was written or refused, so that a file of an
//! upload that is not live has its row, or will never have one.

use ids::UploadId;
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard},
};

/// The uploads that run.
#[derive(Clone, Debug, Default)]
pub(super) struct LiveUploads {
    ids: Arc<Mutex<BTreeSet<UploadId>>>,
}

/// One of them. It ends when its last handle is dropped.
#[derive(Clone, Debug)]
pub(super) struct LiveUpload {
    entry: Arc<Entry>,
}

#[derive(Debug)]
struct Entry {
    uploads: LiveUploads,
    id: UploadId,
}

impl LiveUploads {
    /// A new upload.
    pub(super) fn begin(&self) -> LiveUpload {
        let id = UploadId::generate();
        self.lock().insert(id);
        LiveUpload { entry: Arc::new(Entry { uploads: self.clone(), id }) }
    }

    /// Whether a file, whose name starts with its upload's id, belongs to one that runs.
    pub(super) fn own(&self, file: &str) -> bool {
        let id = file.split('.').next().and_then(|id| id.parse().ok());
        id.is_some_and(|id| self.lock().contains(&id))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<UploadId>> {
        self.ids.lock().expect("nothing panics while it holds ids")
    }
}

impl LiveUpload {
    pub(super) fn id(&self) -> UploadId {
        self.entry.id
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.uploads.lock().remove(&self.id);
    }
}
