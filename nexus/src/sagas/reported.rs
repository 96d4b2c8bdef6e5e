//! What recovery publishes: its report, and by id what it could not read, what it could not go on with, and what others own.
//! Readable at any time, without the database.

use ids::SagaId;
use jiff::Timestamp;
use nexus_database::{cluster::CoordinatorRow, sagas::OthersSaga};
use nexus_saga_recovery::{
    Claims, PassReport, RecoveryReport,
    report::{LastPass, RecentSaga},
};
use nexus_sagas::StoreFault;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// What recovery has done since the start. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Reported {
    published: Arc<Mutex<Published>>,
}

#[derive(Debug, Default)]
struct Published {
    report: RecoveryReport,
    unreadable: UnreadableSagas,
    failing: BTreeMap<SagaId, String>,
    others: Others,
}

/// What others own, as of the last pass that could read it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Others {
    /// Unfinished sagas of theirs, [`OTHERS_MAX`] at most.
    pub sagas: Vec<OthersSaga>,
    /// Every coordinator, if they have any.
    pub coordinators: Vec<CoordinatorRow>,
    /// When that was read: how long they have been quiet is told from then, not from now.
    pub read_at: Timestamp,
}

/// Unfinished sagas of other coordinators that a pass looks at: their logs are asked for their last lines.
pub const OTHERS_MAX: u32 = 1_000;

/// Unfinished sagas that cannot be executed on because something of them cannot be read, as of the last pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnreadableSagas {
    /// Which, and what of them.
    pub sagas: BTreeMap<SagaId, String>,
    /// Rows that do not even say which saga they are: what of them cannot be read.
    pub without_key: Vec<String>,
}

impl UnreadableSagas {
    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        (self.sagas.len() + self.without_key.len()) as u64
    }
}

impl Reported {
    /// The report, with the totals of now.
    #[must_use]
    pub fn now(&self, claims: &Claims) -> RecoveryReport {
        let report = self.lock().report.clone();
        RecoveryReport { totals: claims.totals(), ..report }
    }

    /// What the last pass could not read.
    #[must_use]
    pub fn unreadable(&self) -> UnreadableSagas {
        self.lock().unreadable.clone()
    }

    /// What could not be gone on with when it was tried last, and why: every one of them, as of the last pass.
    #[must_use]
    pub fn failing(&self) -> BTreeMap<SagaId, String> {
        self.lock().failing.clone()
    }

    /// What others own.
    #[must_use]
    pub fn others(&self) -> Others {
        self.lock().others.clone()
    }

    pub(super) fn passed(
        &self,
        pass: PassReport,
        unreadable: UnreadableSagas,
        failing: BTreeMap<SagaId, String>,
    ) {
        let mut published = self.lock();
        published.report.last_pass = LastPass::Completed(pass);
        (published.unreadable, published.failing) = (unreadable, failing);
    }

    pub(super) fn listing_failed(&self, fault: &StoreFault) {
        self.lock().report.last_pass = LastPass::ListingFailed { reason: fault.to_string() };
    }

    pub(super) fn note(&self, one: RecentSaga) {
        self.lock().report.note(one);
    }

    pub(super) fn others_are(&self, others: Others) {
        self.lock().others = others;
    }

    fn lock(&self) -> MutexGuard<'_, Published> {
        self.published.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
