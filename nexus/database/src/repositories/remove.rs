//! A repository goes, or its uploaded bytes do.

use crate::{
    Database, DatabaseError,
    error::during,
    rows::{key, text},
    sql::sql,
    wanted,
};
use ids::{CoordinatorId, RepositoryId};

impl Database {
    /// Takes a repository away; `None` if there is none of this version, else the files that this coordinator had
    /// staged for it.
    pub async fn repository_delete(
        &self,
        system_version: &str,
        coordinator_id: CoordinatorId,
    ) -> Result<Option<Vec<String>>, DatabaseError> {
        let operation = "delete a repository";
        self.write(operation, |mut tx| {
            Box::pin(async move {
                let staged =
                    sql("SELECT s.file FROM staged_repository s JOIN repository r ON r.id = s.repository_id
                 WHERE r.system_version = $1 AND s.coordinator_id = $2")
                    .bind(system_version)
                    .bind(key(&coordinator_id))
                    .fetch_all(&mut *tx)
                    .await
                    .map_err(during(operation))?;
                let changed = sql("DELETE FROM repository WHERE system_version = $1")
                    .bind(system_version)
                    .execute(&mut *tx)
                    .await
                    .map_err(during(operation))?;
                wanted::settle(&mut tx).await?;
                if changed == 0 {
                    return Ok(None);
                }
                staged.iter().map(|row| text(row, "file")).collect::<Result<_, _>>().map(Some)
            })
        })
        .await
    }

    /// Forgets that a coordinator has staged this file; the file may be removed afterwards. False if the row names
    /// another file by now (it was uploaded again), or is gone.
    pub async fn unstage(
        &self,
        repository_id: RepositoryId,
        coordinator_id: CoordinatorId,
        file: &str,
    ) -> Result<bool, DatabaseError> {
        let operation = "unstage a repository";
        self.write(operation, |mut tx| {
            Box::pin(async move {
                let changed = sql("DELETE FROM staged_repository
                 WHERE repository_id = $1 AND coordinator_id = $2 AND file = $3")
                .bind(key(&repository_id))
                .bind(key(&coordinator_id))
                .bind(file)
                .execute(&mut *tx)
                .await
                .map_err(during(operation))?;
                Ok(changed > 0)
            })
        })
        .await
    }
}
