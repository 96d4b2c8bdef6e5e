//! What recovery lists: the unfinished sagas of a coordinator.

use super::{
    DatabaseSagaStore,
    adoption::InName,
    rows::{saga_key, small},
    store::in_name,
    unreadable::{Reading, Unreadable, name_of},
};
use crate::{
    DatabaseError,
    error::during,
    rows::{key, text},
    sql::{Row, sql},
};
use ids::SagaId;
use nexus_saga_recovery::UnfinishedSaga;
use nexus_sagas::StoreFault;
use std::collections::BTreeMap;

/// Unfinished sagas, as far as their rows can be read.
#[derive(Clone, Debug, Default)]
pub struct UnfinishedRows {
    /// Those whose rows say which saga they are, under which adoption.
    pub sagas: Vec<UnfinishedSaga>,
    /// What of the rows of some of these cannot be read: the kind, which is empty then, or the version, which is 0.
    pub unreadable: BTreeMap<SagaId, Unreadable>,
    /// Rows that do not even say that.
    pub without_key: Vec<Unreadable>,
}

impl DatabaseSagaStore {
    /// Every row of this coordinator that has not ended. It reads what is committed when it is called.
    ///
    /// # Errors
    /// It cannot be read, or the coordinator has a later life.
    pub async fn unfinished_rows(&self) -> Result<UnfinishedRows, StoreFault> {
        in_name(self.list_unfinished().await)
    }

    async fn list_unfinished(&self) -> Result<InName<UnfinishedRows>, DatabaseError> {
        let operation = "list unfinished sagas";
        let listed = self.database.read_at_once(operation, |mut tx| {
            Box::pin(async move {
                if self.is_superseded(&mut tx).await? {
                    return Ok(InName::Superseded);
                }
                // Word for word the condition of the index that has only these.
                let query = sql("SELECT id, adoption_epoch, kind, version FROM saga \
                                 WHERE owner = $1 AND state = 'unfinished' ORDER BY id");
                let rows = query.bind(key(&self.owner)).fetch_all(&mut *tx).await;
                let mut found = UnfinishedRows::default();
                rows.map_err(during(operation))?.iter().for_each(|row| found.add(row));
                Ok(InName::Done(found))
            })
        });
        listed.await
    }
}

impl UnfinishedRows {
    fn add(&mut self, row: &Row) {
        let name = name_of(row, "id");
        let place = ("saga", name.as_str());
        let mut reading = Reading::default();
        let key = reading.some(place, saga_key(row));
        let kind = reading.or(place, text(row, "kind"), String::new());
        let version = reading.or(place, small(row, "version"), 0);
        let unreadable = reading.finish();
        match (key, unreadable) {
            (Some(key), unreadable) => {
                self.unreadable.extend(unreadable.map(|unreadable| (key.id, unreadable)));
                self.sagas.push(UnfinishedSaga { key, kind, version });
            }
            (None, unreadable) => self.without_key.extend(unreadable),
        }
    }
}
