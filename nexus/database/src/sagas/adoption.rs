//! Another coordinator takes a saga over: owner and adoption epoch, by compare-and-set.
//!
//! | step | a crash after it leaves |
//! |---|---|
//! | the row's owner and epoch are moved, if its epoch is still the expected one | a row of the new owner, which its recovery finds |
//! | *after the commit*, its log is loaded, in a transaction of its own | the same |
//!
//! The order is a condition of the fence of appended rows: what an earlier owner was told is durable is then in the log, and
//! nothing of it comes later.

use super::DatabaseSagaStore;
use crate::{
    DatabaseError,
    error::during,
    rows::{key, signed},
    sql::sql,
};
use ids::{AdoptionEpoch, SagaId};

impl DatabaseSagaStore {
    /// Makes an unfinished saga, whoever owned it, this coordinator's, if its adoption epoch is still `from`. The new epoch,
    /// or none if it has another one, has ended or does not exist.
    ///
    /// # Errors
    /// Those of a write. After [`DatabaseError::CommitUnknown`] it may be this coordinator's: its listing tells.
    pub async fn adopt(
        &self,
        saga: SagaId,
        from: AdoptionEpoch,
    ) -> Result<Option<AdoptionEpoch>, DatabaseError> {
        let operation = "adopt a saga";
        let next = AdoptionEpoch(from.0 + 1);
        let update = &sql("UPDATE saga SET owner = $3, adoption_epoch = $4 \
                           WHERE id = $1 AND adoption_epoch = $2 AND state = 'unfinished'")
        .bind(key(&saga))
        .bind(signed(from.0))
        .bind(key(&self.owner))
        .bind(signed(next.0));
        let changed = self.database.write_row_wise(operation, |mut tx| {
            Box::pin(async move { update.clone().execute(&mut *tx).await.map_err(during(operation)) })
        });
        Ok((changed.await? == 1).then_some(next))
    }
}
