//! An upload comes in, or comes again.
//!
//! | the version is | and its artifacts | then |
//! |---|---|---|
//! | not known | | it is inserted, and the generation moves if it brings anything new |
//! | known | the same | the upload takes the place of what this coordinator had staged of it |
//! | known | others | a conflict: nothing is changed |
//!
//! In the same transaction the trust root that vouched for it is looked for: one that was deleted while the upload ran
//! vouches for nothing any more.

use super::{ArtifactRow, InsertOutcome, NewRepository, read::read_artifact};
use crate::{
    Database, DatabaseError,
    error::during,
    rows::{key, now, parsed, signed, text},
    sql::{Connection, sql},
    trust_roots, wanted,
};
use ids::{ArtifactHash, RepositoryId};
use jiff::Timestamp;
use std::collections::BTreeSet;

/// What a new repository gets, made before the transaction so that this can be repeated.
struct Fresh {
    id: RepositoryId,
    created_at: Timestamp,
}

impl Database {
    /// Takes an upload into the database. A release is its set of artifacts: the same set signed or zipped again is
    /// the same release.
    pub async fn repository_insert(&self, new: &NewRepository) -> Result<InsertOutcome, DatabaseError> {
        let fresh = &Fresh { id: RepositoryId::generate(), created_at: now() };
        self.write("insert a repository", |mut tx| {
            Box::pin(async move { take_in(&mut tx, fresh, new).await })
        })
        .await
    }
}

async fn take_in(
    tx: &mut Connection,
    fresh: &Fresh,
    new: &NewRepository,
) -> Result<InsertOutcome, DatabaseError> {
    if !trust_roots::is_known(tx, new.trust_root_id).await? {
        return Ok(InsertOutcome::TrustRootGone);
    }
    let known = sql("SELECT id FROM repository WHERE system_version = $1")
        .bind(&new.system_version)
        .fetch_optional(&mut *tx)
        .await
        .map_err(during("look for a version"))?;
    if let Some(row) = known {
        return restage(tx, parsed(&row, "id")?, fresh.created_at, new).await;
    }
    insert(tx, fresh, new).await?;
    stage(tx, fresh.id, fresh.created_at, new).await?;
    Ok(InsertOutcome::Inserted { id: fresh.id, generation: wanted::settle(tx).await? })
}

async fn insert(tx: &mut Connection, fresh: &Fresh, new: &NewRepository) -> Result<(), DatabaseError> {
    let operation = "insert a repository";
    sql("INSERT INTO repository (id, system_version, sha256, file_name, trust_root_id, created_at)
         VALUES ($1, $2, $3, $4, $5, $6)")
    .bind(key(&fresh.id))
    .bind(&new.system_version)
    .bind(&new.sha256)
    .bind(&new.file_name)
    .bind(key(&new.trust_root_id))
    .bind(key(&fresh.created_at))
    .execute(&mut *tx)
    .await
    .map_err(during(operation))?;
    for artifact in &new.artifacts {
        sql("INSERT INTO repository_artifact (repository_id, name, version, kind, target, entry, hash, size)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)")
        .bind(key(&fresh.id))
        .bind(&artifact.name)
        .bind(&artifact.version)
        .bind(&artifact.kind)
        .bind(&artifact.target)
        .bind(&artifact.entry)
        .bind(key(&artifact.hash))
        .bind(signed(artifact.size))
        .execute(&mut *tx)
        .await
        .map_err(during(operation))?;
    }
    Ok(())
}

/// A known version comes again: with the same artifacts its bytes are staged anew, with others it is refused.
async fn restage(
    tx: &mut Connection,
    id: RepositoryId,
    now: Timestamp,
    new: &NewRepository,
) -> Result<InsertOutcome, DatabaseError> {
    let operation = "compare with the known repository";
    let rows = sql(
        "SELECT name, version, kind, target, entry, hash, size FROM repository_artifact WHERE repository_id = $1",
    )
    .bind(key(&id))
    .fetch_all(&mut *tx)
    .await
    .map_err(during(operation))?;
    let known: Vec<ArtifactRow> = rows.iter().map(read_artifact).collect::<Result<_, _>>()?;
    let differences = differences(&known, &new.artifacts);
    if !differences.is_empty() {
        return Ok(InsertOutcome::Conflict { differences });
    }
    let staged = sql("SELECT file FROM staged_repository WHERE repository_id = $1 AND coordinator_id = $2")
        .bind(key(&id))
        .bind(key(&new.coordinator_id))
        .fetch_optional(&mut *tx)
        .await
        .map_err(during(operation))?;
    let replaced_file = staged.as_ref().map(|row| text(row, "file")).transpose()?;
    // The new zip may keep its targets under other paths. Then another coordinator's zip no longer fits the rows:
    // it is let go, which loses nothing, because every byte of it is durable in this one.
    let moved = known.iter().any(|known| !new.artifacts.contains(known));
    if moved {
        sql("DELETE FROM staged_repository WHERE repository_id = $1 AND coordinator_id <> $2")
            .bind(key(&id))
            .bind(key(&new.coordinator_id))
            .execute(&mut *tx)
            .await
            .map_err(during(operation))?;
    }
    for artifact in &new.artifacts {
        sql("UPDATE repository_artifact SET target = $1, entry = $2
             WHERE repository_id = $3 AND name = $4 AND version = $5 AND kind = $6")
        .bind(&artifact.target)
        .bind(&artifact.entry)
        .bind(key(&id))
        .bind(&artifact.name)
        .bind(&artifact.version)
        .bind(&artifact.kind)
        .execute(&mut *tx)
        .await
        .map_err(during(operation))?;
    }
    sql("UPDATE repository SET sha256 = $1, file_name = $2, trust_root_id = $3 WHERE id = $4")
        .bind(&new.sha256)
        .bind(&new.file_name)
        .bind(key(&new.trust_root_id))
        .bind(key(&id))
        .execute(&mut *tx)
        .await
        .map_err(during(operation))?;
    stage(tx, id, now, new).await?;
    Ok(InsertOutcome::AlreadyExists { id, replaced_file })
}

async fn stage(
    tx: &mut Connection,
    id: RepositoryId,
    now: Timestamp,
    new: &NewRepository,
) -> Result<(), DatabaseError> {
    sql("INSERT INTO staged_repository (repository_id, coordinator_id, file, size, created_at)
         VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (repository_id, coordinator_id) DO UPDATE SET file = excluded.file,
             size = excluded.size, created_at = excluded.created_at")
    .bind(key(&id))
    .bind(key(&new.coordinator_id))
    .bind(&new.staged_file)
    .bind(signed(new.staged_bytes))
    .bind(key(&now))
    .execute(&mut *tx)
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
