//! One saga of a pass of recovery: what was adopted and loaded is executed on, or ended, if an operator has given it up.

use nexus_database::{DatabaseSagaStore, sagas::PartlyRead};
use nexus_saga_recovery::Adopted;
use nexus_sagas::{Buried, Cause, Engine, StoredSaga, taking::NotTaken};
use problem::chain;
use std::collections::BTreeMap;

/// Why a saga was not resumed.
#[derive(Debug)]
pub(super) enum NotResumed {
    /// Perhaps the next time.
    Failed(String),
    /// For a reason that lasts as long as this life.
    ForGood(String),
    /// Something of it cannot be read.
    Unreadable(String),
}

/// A saga that was adopted, as far as it can be read; or one that is not to be had now, and why.
pub(super) enum Taken {
    Whole(Adopted, StoredSaga),
    Partly(Adopted, PartlyRead),
    Not(String),
}

impl NotResumed {
    pub(super) fn words(&self) -> &str {
        match self {
            NotResumed::Failed(words) | NotResumed::ForGood(words) | NotResumed::Unreadable(words) => words,
        }
    }
}

/// What of those that could not be loaded can be read.
pub(super) async fn read_in_part(
    store: &DatabaseSagaStore,
    taken: Vec<Result<(Adopted, StoredSaga), NotTaken>>,
) -> Vec<Taken> {
    let not_loaded = taken.iter().filter_map(|taken| taken.as_ref().err()?.adopted.as_ref());
    let ids: Vec<_> = not_loaded.map(|adopted| adopted.key().id).collect();
    let (mut partly, mut why_not) = (BTreeMap::new(), None);
    if !ids.is_empty() {
        match store.load_readable(&ids).await {
            Ok(loaded) => {
                partly.extend(loaded.partly.into_iter().map(|one| (one.readable.row.key.id, one)));
            }
            Err(error) => why_not = Some(chain(&error)),
        }
    }
    let part = |taken| match taken {
        Ok((adopted, stored)) => Taken::Whole(adopted, stored),
        Err(NotTaken { adopted: None, words, .. }) => Taken::Not(words),
        Err(NotTaken { adopted: Some(adopted), words, .. }) => match partly.remove(&adopted.key().id) {
            Some(one) => Taken::Partly(adopted, one),
            None => Taken::Not(why_not.clone().unwrap_or(words)),
        },
    };
    taken.into_iter().map(part).collect()
}

/// Executes on what was taken, or ends it for the operator's reason.
pub(super) async fn resume_one(
    engine: &Engine,
    taken: Taken,
    given_up: Option<String>,
) -> Result<(), NotResumed> {
    let (adopted, stored, cause, reason) = match (taken, given_up) {
        (Taken::Not(words), _) => return Err(NotResumed::Failed(words)),
        (Taken::Whole(adopted, stored), None) => {
            let resumed = engine.resume(adopted, stored).await;
            return resumed.map_err(|error| match error.is_lasting() {
                true => NotResumed::ForGood(chain(&error)),
                false => NotResumed::Failed(chain(&error)),
            });
        }
        (Taken::Partly(adopted, PartlyRead { unreadable, .. }), None) => {
            adopted.failed();
            return Err(NotResumed::Unreadable(unreadable.to_string()));
        }
        (Taken::Whole(adopted, stored), Some(reason)) => {
            let cause = Cause::new("cannot_be_executed", "no coordinator could go on with it");
            (adopted, stored, cause, reason)
        }
        (Taken::Partly(adopted, PartlyRead { readable, unreadable }), Some(reason)) => {
            (adopted, readable, Cause::new("cannot_be_read", unreadable.to_string()), reason)
        }
    };
    let buried = engine.bury(adopted, stored, Buried { cause, reason }).await;
    // It can be ended; the store did not take it.
    buried.map_err(NotResumed::Failed)
}
