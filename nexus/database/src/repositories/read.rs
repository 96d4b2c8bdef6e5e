//! What is known of repositories.

use super::{ArtifactRow, RepositoryRow, StagedRow};
use crate::{
    Database, DatabaseError,
    error::during,
    rows::{key, of_table, optional_text, parsed, text, unsigned},
    sql::{Row, sql},
};
use ids::{CoordinatorId, RepositoryId};

impl Database {
    /// Repositories uploaded before the given one, newest first, at most `limit`.
    pub async fn repositories(
        &self,
        before: Option<RepositoryId>,
        limit: u32,
    ) -> Result<Vec<RepositoryRow>, DatabaseError> {
        let rows = sql(
            "SELECT r.id, r.system_version, r.sha256, r.file_name, r.trust_root_id, r.created_at,
                    (SELECT CAST(COALESCE(SUM(a.size), 0) AS BIGINT) FROM repository_artifact a
                     WHERE a.repository_id = r.id) AS size_bytes,
                    (SELECT COUNT(*) FROM repository_artifact a WHERE a.repository_id = r.id) AS artifact_count,
                    (SELECT MIN(s.coordinator_id) FROM staged_repository s
                     WHERE s.repository_id = r.id) AS staged_on
             FROM repository r WHERE $1 IS NULL OR r.id < $1 ORDER BY r.id DESC LIMIT $2",
        )
        .bind(before.map(|id| key(&id)))
        .bind(i64::from(limit))
        .fetch_all(&self.read)
        .await
        .map_err(during("list repositories"))?;
        rows.iter().map(read_repository).collect()
    }

    /// One repository.
    pub async fn repository(&self, system_version: &str) -> Result<Option<RepositoryRow>, DatabaseError> {
        let row = sql(
            "SELECT r.id, r.system_version, r.sha256, r.file_name, r.trust_root_id, r.created_at,
                    (SELECT CAST(COALESCE(SUM(a.size), 0) AS BIGINT) FROM repository_artifact a
                     WHERE a.repository_id = r.id) AS size_bytes,
                    (SELECT COUNT(*) FROM repository_artifact a WHERE a.repository_id = r.id) AS artifact_count,
                    (SELECT MIN(s.coordinator_id) FROM staged_repository s
                     WHERE s.repository_id = r.id) AS staged_on
             FROM repository r WHERE r.system_version = $1",
        )
        .bind(system_version)
        .fetch_optional(&self.read)
        .await
        .map_err(during("read a repository"))?;
        row.as_ref().map(read_repository).transpose()
    }

    /// A repository's artifacts, by name.
    pub async fn repository_artifacts(&self, id: RepositoryId) -> Result<Vec<ArtifactRow>, DatabaseError> {
        let rows = sql("SELECT name, version, kind, target, entry, hash, size FROM repository_artifact
             WHERE repository_id = $1 ORDER BY name, version, kind")
        .bind(key(&id))
        .fetch_all(&self.read)
        .await
        .map_err(during("list a repository's artifacts"))?;
        rows.iter().map(read_artifact).collect()
    }

    /// What a coordinator has staged.
    pub async fn staged(&self, coordinator_id: CoordinatorId) -> Result<Vec<StagedRow>, DatabaseError> {
        let rows = sql("SELECT repository_id, file, size FROM staged_repository WHERE coordinator_id = $1
             ORDER BY repository_id")
        .bind(key(&coordinator_id))
        .fetch_all(&self.read)
        .await
        .map_err(during("list staged repositories"))?;
        rows.iter().map(read_staged).collect()
    }
}

fn read_staged(row: &Row) -> Result<StagedRow, DatabaseError> {
    of_table(row, ("staged_repository", "repository_id"), |row| {
        Ok(StagedRow {
            repository_id: parsed(row, "repository_id")?,
            file: text(row, "file")?,
            size: unsigned(row, "size")?,
        })
    })
}

fn read_repository(row: &Row) -> Result<RepositoryRow, DatabaseError> {
    of_table(row, ("repository", "id"), read_repository_values)
}

fn read_repository_values(row: &Row) -> Result<RepositoryRow, DatabaseError> {
    let staged_on = optional_text(row, "staged_on")?;
    Ok(RepositoryRow {
        id: parsed(row, "id")?,
        system_version: text(row, "system_version")?,
        sha256: text(row, "sha256")?,
        file_name: optional_text(row, "file_name")?,
        trust_root_id: parsed(row, "trust_root_id")?,
        created_at: parsed(row, "created_at")?,
        size_bytes: unsigned(row, "size_bytes")?,
        artifact_count: unsigned(row, "artifact_count")?,
        staged_on: match staged_on {
            None => None,
            Some(_) => Some(parsed(row, "staged_on")?),
        },
    })
}

pub(super) fn read_artifact(row: &Row) -> Result<ArtifactRow, DatabaseError> {
    of_table(row, ("repository_artifact", "name"), read_artifact_values)
}

fn read_artifact_values(row: &Row) -> Result<ArtifactRow, DatabaseError> {
    Ok(ArtifactRow {
        name: text(row, "name")?,
        version: text(row, "version")?,
        kind: text(row, "kind")?,
        target: text(row, "target")?,
        entry: optional_text(row, "entry")?,
        hash: parsed(row, "hash")?,
        size: unsigned(row, "size")?,
    })
}
