//! Sagas as rows, and what the saga engine asks of a store: the adapter of its port over this database.
//!
//! ```text
//!   engine ── SagaStore ──► DatabaseSagaStore ─┬ events, marks ──► Database::append, fenced: bulk statements, shared commits
//!                                              ├ create, end, … ─► short writes; each statement names the epoch it relies on
//!                                              └ load, unfinished ► reads of one moment, in chunks; what cannot be read apart
//!   operator ──► listing: pages, one saga, its log, counts
//!   the task that prunes ──► retention: archive, then delete
//!   who takes over ──► adoption: owner and epoch, by compare-and-set
//! ```
//!
//! # Who may write
//!
//! A saga's row says who executes it: `owner`, and `adoption_epoch`, which grows by one with each adoption. Every write of an
//! executor takes effect only while the row has its epoch; the argument for appended rows, and for what an adopter may rely
//! on when it reads the log, is in the module of appending. Ended rows change no more, but for their removal.
//!
//! A mark is fenced by the adoption alone, and not by the end: an operator's *cancel* that meets the end is kept beside a saga
//! that has ended, and answered as done. Nothing follows from it, because nobody executes the saga any more; and if the saga is
//! archived at that moment, it is not in the archive.
//!
//! # Doubt
//!
//! A commit whose answer is lost is [`StoreFault::Unknown`](nexus_sagas::StoreFault::Unknown). Every write may be asked for again, and then says what it finds:
//! an event, a mark and a creation have keys, an end finds an ended row.
//!
//! - [`store`]: the port. [`rows`]: its types as columns. [`load`]: many logs in few queries. [`sizes`]: how much of it at once. [`mod@unfinished`]: what recovery lists.
//! - [`mod@unreadable`]: what cannot be read, in words; everybody reads the rest.
//! - [`adoption`], [`listing`], [`mod@detail`], [`owners`], [`retention`]; [`check`]: whether all of it is what it should be.

mod adoption;
pub(crate) mod check;
mod detail;
mod listing;
mod load;
mod owners;
mod retention;
mod rows;
mod sizes;
mod store;
mod unfinished;
mod unreadable;

pub use detail::{SagaDetail, SagaEvent, SagaLog};
pub use listing::{SagaCount, SagaCounts, SagaFilter, SagaPosition, SagaState, SagaSummary};
pub use load::{LoadedSagas, PartlyRead};
pub use owners::OthersSaga;
pub use retention::{LINE_FORMAT, RetentionError, RetentionReport};

pub use unfinished::UnfinishedRows;
pub use unreadable::Unreadable;

use crate::Database;
use ids::CoordinatorId;
use std::sync::Arc;
use tokio::sync::watch;

/// Where a coordinator's sagas are durable. Cheap to clone.
#[derive(Clone, Debug)]
pub struct DatabaseSagaStore {
    database: Database,
    owner: CoordinatorId,
    /// That of the coordinator's start in this process.
    epoch: u64,
    superseded: Arc<watch::Sender<bool>>,
}

impl DatabaseSagaStore {
    /// The store of one coordinator in its life of that epoch ([`Database::coordinator_start`]): rows that it creates are
    /// its own, [`unfinished`] lists no others, and once the coordinator has a later life it does neither any more.
    ///
    /// [`unfinished`]: nexus_sagas::SagaStore::unfinished
    #[must_use]
    pub fn new(database: Database, owner: CoordinatorId, epoch: u64) -> DatabaseSagaStore {
        DatabaseSagaStore { database, owner, epoch, superseded: Arc::default() }
    }
}
