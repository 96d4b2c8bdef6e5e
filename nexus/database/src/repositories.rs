//! Repositories: uploaded releases, their artifacts, and who still holds the uploaded bytes.

use crate::{
    Database, DatabaseError,
    error::during,
    rows::{key, now, optional_text, parsed, signed, text, unsigned},
    wanted,
};
use ids::{ArtifactHash, CoordinatorId, Generation, RepositoryId, TrustRootId};
use jiff::Timestamp;
use sqlx::{Sqlite, Transaction, sqlite::SqliteRow};
use std::collections::BTreeSet;

/// One repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepositoryRow {
    /// Its id; ids sort by time of upload.
    pub id: RepositoryId,
    /// The release's version; unique.
    pub system_version: String,
    /// SHA-256 of the zip that was uploaded last, hexadecimal.
    pub sha256: String,
    /// The name under which it was uploaded.
    pub file_name: Option<String>,
    /// The trust root that vouched for it.
    pub trust_root_id: TrustRootId,
    /// When it was uploaded first.
    pub created_at: Timestamp,
    /// Bytes of its artifacts.
    pub size_bytes: u64,
    /// Its artifacts.
    pub artifact_count: u64,
    /// The coordinator that holds the uploaded bytes, if one still does.
    pub staged_on: Option<CoordinatorId>,
}

/// One artifact of one repository.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ArtifactRow {
    /// Its name in the release.
    pub name: String,
    /// Its version in the release.
    pub version: String,
    /// Its kind.
    pub kind: String,
    /// The target's path in the TUF repository.
    pub target: String,
    /// Its hash.
    pub hash: ArtifactHash,
    /// Its bytes.
    pub size: u64,
}

/// An examined upload whose zip is durable in this coordinator's staging directory.
#[derive(Clone, Debug)]
pub struct NewRepository {
    /// The release's version.
    pub system_version: String,
    /// SHA-256 of the zip, hexadecimal.
    pub sha256: String,
    /// The name under which it was uploaded.
    pub file_name: Option<String>,
    /// The trust root that vouched for it.
    pub trust_root_id: TrustRootId,
    /// Its artifacts.
    pub artifacts: Vec<ArtifactRow>,
    /// The coordinator that holds the zip.
    pub coordinator_id: CoordinatorId,
    /// The zip's name in the staging directory.
    pub staged_file: String,
    /// The zip's bytes.
    pub staged_bytes: u64,
}

/// What became of an insert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InsertOutcome {
    /// The version was not known.
    Inserted {
        /// The new repository.
        id: RepositoryId,
        /// The generation from now on.
        generation: Generation,
    },
    /// The version was known, with the same artifacts; it is staged under the new file now.
    AlreadyExists {
        /// The repository.
        id: RepositoryId,
        /// The file that was staged before, to be removed.
        replaced_file: Option<String>,
    },
    /// The version was known with other artifacts; nothing was changed.
    Conflict {
        /// Where they differ, in words.
        differences: Vec<String>,
    },
}

/// A zip in a coordinator's staging directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StagedRow {
    /// The repository.
    pub repository_id: RepositoryId,
    /// The zip's name in the staging directory.
    pub file: String,
    /// The zip's bytes.
    pub size: u64,
}

impl Database {
    /// Takes an upload into the database. A release is its set of artifacts: the same set signed or zipped again is
    /// the same release.
    pub async fn repository_insert(&self, new: &NewRepository) -> Result<InsertOutcome, DatabaseError> {
        let operation = "insert a repository";
        let mut transaction = self.begin().await?;
        let known = sqlx::query("SELECT id FROM repository WHERE system_version = $1")
            .bind(&new.system_version)
            .fetch_optional(&mut *transaction)
            .await
            .map_err(during(operation))?;
        let outcome = match known {
            Some(row) => restage(&mut transaction, parsed(&row, "id")?, new).await?,
            None => {
                let id = insert(&mut transaction, new).await?;
                stage(&mut transaction, id, new).await?;
                InsertOutcome::Inserted { id, generation: wanted::settle(&mut transaction).await? }
            }
        };
        transaction.commit().await.map_err(during(operation))?;
        Ok(outcome)
    }

    /// Takes a repository away; `None` if there is none of this version, else the files that this coordinator had
    /// staged for it.
    pub async fn repository_delete(
        &self,
        system_version: &str,
        coordinator_id: CoordinatorId,
    ) -> Result<Option<Vec<String>>, DatabaseError> {
        let operation = "delete a repository";
        let mut transaction = self.begin().await?;
        let staged = sqlx::query(
            "SELECT s.file FROM staged_repository s JOIN repository r ON r.id = s.repository_id
             WHERE r.system_version = $1 AND s.coordinator_id = $2",
        )
        .bind(system_version)
        .bind(key(&coordinator_id))
        .fetch_all(&mut *transaction)
        .await
        .map_err(during(operation))?;
        let result = sqlx::query("DELETE FROM repository WHERE system_version = $1")
            .bind(system_version)
            .execute(&mut *transaction)
            .await
            .map_err(during(operation))?;
        wanted::settle(&mut transaction).await?;
        transaction.commit().await.map_err(during(operation))?;
        if result.rows_affected() == 0 {
            return Ok(None);
        }
        staged.iter().map(|row| text(row, "file")).collect::<Result<_, _>>().map(Some)
    }

    /// Repositories uploaded before the given one, newest first, at most `limit`.
    pub async fn repositories(
        &self,
        before: Option<RepositoryId>,
        limit: u32,
    ) -> Result<Vec<RepositoryRow>, DatabaseError> {
        let rows = sqlx::query(
            "SELECT r.id, r.system_version, r.sha256, r.file_name, r.trust_root_id, r.created_at,
                    (SELECT COALESCE(SUM(a.size), 0) FROM repository_artifact a
                     WHERE a.repository_id = r.id) AS size_bytes,
                    (SELECT COUNT(*) FROM repository_artifact a WHERE a.repository_id = r.id) AS artifact_count,
                    (SELECT MIN(s.coordinator_id) FROM staged_repository s
                     WHERE s.repository_id = r.id) AS staged_on
             FROM repository r WHERE r.id < $1 ORDER BY r.id DESC LIMIT $2",
        )
        // '~' sorts behind every UUID.
        .bind(before.map_or_else(|| "~".to_owned(), |id| key(&id)))
        .bind(i64::from(limit))
        .fetch_all(&self.read)
        .await
        .map_err(during("list repositories"))?;
        rows.iter().map(read_repository).collect()
    }

    /// One repository.
    pub async fn repository(&self, system_version: &str) -> Result<Option<RepositoryRow>, DatabaseError> {
        let row = sqlx::query(
            "SELECT r.id, r.system_version, r.sha256, r.file_name, r.trust_root_id, r.created_at,
                    (SELECT COALESCE(SUM(a.size), 0) FROM repository_artifact a
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
        let rows = sqlx::query(
            "SELECT name, version, kind, target, hash, size FROM repository_artifact
             WHERE repository_id = $1 ORDER BY name, version, kind",
        )
        .bind(key(&id))
        .fetch_all(&self.read)
        .await
        .map_err(during("list a repository's artifacts"))?;
        rows.iter().map(read_artifact).collect()
    }

    /// What a coordinator has staged.
    pub async fn staged(&self, coordinator_id: CoordinatorId) -> Result<Vec<StagedRow>, DatabaseError> {
        let rows = sqlx::query(
            "SELECT repository_id, file, size FROM staged_repository WHERE coordinator_id = $1
             ORDER BY repository_id",
        )
        .bind(key(&coordinator_id))
        .fetch_all(&self.read)
        .await
        .map_err(during("list staged repositories"))?;
        rows.iter()
            .map(|row| {
                Ok(StagedRow {
                    repository_id: parsed(row, "repository_id")?,
                    file: text(row, "file")?,
                    size: unsigned(row, "size")?,
                })
            })
            .collect()
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
        let mut transaction = self.begin().await?;
        let result = sqlx::query(
            "DELETE FROM staged_repository
             WHERE repository_id = $1 AND coordinator_id = $2 AND file = $3",
        )
        .bind(key(&repository_id))
        .bind(key(&coordinator_id))
        .bind(file)
        .execute(&mut *transaction)
        .await
        .map_err(during(operation))?;
        transaction.commit().await.map_err(during(operation))?;
        Ok(result.rows_affected() > 0)
    }
}

async fn insert(
    transaction: &mut Transaction<'_, Sqlite>,
    new: &NewRepository,
) -> Result<RepositoryId, DatabaseError> {
    let operation = "insert a repository";
    let id = RepositoryId::generate();
    sqlx::query(
        "INSERT INTO repository (id, system_version, sha256, file_name, trust_root_id, created_at)
         VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(key(&id))
    .bind(&new.system_version)
    .bind(&new.sha256)
    .bind(&new.file_name)
    .bind(key(&new.trust_root_id))
    .bind(key(&now()))
    .execute(&mut **transaction)
    .await
    .map_err(during(operation))?;
    for artifact in &new.artifacts {
        sqlx::query(
            "INSERT INTO repository_artifact (repository_id, name, version, kind, target, hash, size)
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(key(&id))
        .bind(&artifact.name)
        .bind(&artifact.version)
        .bind(&artifact.kind)
        .bind(&artifact.target)
        .bind(key(&artifact.hash))
        .bind(signed(artifact.size))
        .execute(&mut **transaction)
        .await
        .map_err(during(operation))?;
    }
    Ok(id)
}

/// A known version comes again: with the same artifacts its bytes are staged anew, with others it is refused.
async fn restage(
    transaction: &mut Transaction<'_, Sqlite>,
    id: RepositoryId,
    new: &NewRepository,
) -> Result<InsertOutcome, DatabaseError> {
    let operation = "compare with the known repository";
    let rows = sqlx::query(
        "SELECT name, version, kind, target, hash, size FROM repository_artifact WHERE repository_id = $1",
    )
    .bind(key(&id))
    .fetch_all(&mut **transaction)
    .await
    .map_err(during(operation))?;
    let known: Vec<ArtifactRow> = rows.iter().map(read_artifact).collect::<Result<_, _>>()?;
    let differences = differences(&known, &new.artifacts);
    if !differences.is_empty() {
        return Ok(InsertOutcome::Conflict { differences });
    }
    let staged =
        sqlx::query("SELECT file FROM staged_repository WHERE repository_id = $1 AND coordinator_id = $2")
            .bind(key(&id))
            .bind(key(&new.coordinator_id))
            .fetch_optional(&mut **transaction)
            .await
            .map_err(during(operation))?;
    let replaced_file = staged.as_ref().map(|row| text(row, "file")).transpose()?;
    // The new zip may keep its targets under other paths. Then another coordinator's zip no longer fits the rows:
    // it is let go, which loses nothing, because every byte of it is durable in this one.
    let moved = known.iter().any(|known| !new.artifacts.contains(known));
    if moved {
        sqlx::query("DELETE FROM staged_repository WHERE repository_id = $1 AND coordinator_id <> $2")
            .bind(key(&id))
            .bind(key(&new.coordinator_id))
            .execute(&mut **transaction)
            .await
            .map_err(during(operation))?;
    }
    for artifact in &new.artifacts {
        sqlx::query(
            "UPDATE repository_artifact SET target = $1
             WHERE repository_id = $2 AND name = $3 AND version = $4 AND kind = $5",
        )
        .bind(&artifact.target)
        .bind(key(&id))
        .bind(&artifact.name)
        .bind(&artifact.version)
        .bind(&artifact.kind)
        .execute(&mut **transaction)
        .await
        .map_err(during(operation))?;
    }
    sqlx::query("UPDATE repository SET sha256 = $1, file_name = $2, trust_root_id = $3 WHERE id = $4")
        .bind(&new.sha256)
        .bind(&new.file_name)
        .bind(key(&new.trust_root_id))
        .bind(key(&id))
        .execute(&mut **transaction)
        .await
        .map_err(during(operation))?;
    stage(transaction, id, new).await?;
    Ok(InsertOutcome::AlreadyExists { id, replaced_file })
}

async fn stage(
    transaction: &mut Transaction<'_, Sqlite>,
    id: RepositoryId,
    new: &NewRepository,
) -> Result<(), DatabaseError> {
    sqlx::query(
        "INSERT INTO staged_repository (repository_id, coordinator_id, file, size, created_at)
         VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (repository_id, coordinator_id) DO UPDATE SET file = excluded.file,
             size = excluded.size, created_at = excluded.created_at",
    )
    .bind(key(&id))
    .bind(key(&new.coordinator_id))
    .bind(&new.staged_file)
    .bind(signed(new.staged_bytes))
    .bind(key(&now()))
    .execute(&mut **transaction)
    .await
    .map(drop)
    .map_err(during("record a staged repository"))
}

/// Differences that are listed in words; more are counted.
const DIFFERENCES_MAX: usize = 20;

/// Where two releases differ, in words. Where a target is kept inside the archive is no difference.
fn differences(known: &[ArtifactRow], new: &[ArtifactRow]) -> Vec<String> {
    let identity = |row: &ArtifactRow| (row.name.clone(), row.version.clone(), row.kind.clone(), row.hash);
    let known: BTreeSet<_> = known.iter().map(identity).collect();
    let new: BTreeSet<_> = new.iter().map(identity).collect();
    let words = |what: &str, (name, version, kind, hash): &(String, String, String, ArtifactHash)| {
        format!("{what}: {name} {version} ({kind}) {}", hash.short())
    };
    let mut all: Vec<String> =
        known.difference(&new).map(|row| words("only in the known release", row)).collect();
    all.extend(new.difference(&known).map(|row| words("only in the upload", row)));
    if all.len() > DIFFERENCES_MAX {
        let more = all.len() - DIFFERENCES_MAX;
        all.truncate(DIFFERENCES_MAX);
        all.push(format!("and {more} more"));
    }
    all
}

fn read_repository(row: &SqliteRow) -> Result<RepositoryRow, DatabaseError> {
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

fn read_artifact(row: &SqliteRow) -> Result<ArtifactRow, DatabaseError> {
    Ok(ArtifactRow {
        name: text(row, "name")?,
        version: text(row, "version")?,
        kind: text(row, "kind")?,
        target: text(row, "target")?,
        hash: parsed(row, "hash")?,
        size: unsigned(row, "size")?,
    })
}
