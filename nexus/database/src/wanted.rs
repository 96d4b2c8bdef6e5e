//! What every sled should hold, and its generation.
//!
//! The wanted set is the union of the artifacts of all repositories. Its digest is kept beside the generation:
//! [`settle`] computes the digest anew at the end of each transaction that touches repositories and moves the
//! generation if and only if the digest has changed. So a repository that brings nothing new moves nothing, and one
//! whose artifacts were wanted long ago, and are not any more, does.

use crate::{
    Database, DatabaseError,
    error::during,
    rows::{of_table, optional_text, parsed, signed, text, unsigned},
    sql::{Connection, Row, sql},
};
use ids::{ArtifactHash, CoordinatorId, Generation, RepositoryId};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};

/// What every sled should hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The version of the set.
    pub generation: Generation,
    /// The set, with what is known of each artifact.
    pub artifacts: BTreeMap<ArtifactHash, WantedArtifact>,
}

/// One wanted artifact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedArtifact {
    /// Its bytes.
    pub size: u64,
    /// Its name in the newest repository that has it.
    pub name: String,
    /// Its version in the newest repository that has it.
    pub version: String,
    /// Its kind in the newest repository that has it.
    pub kind: String,
    /// Repositories that have it, oldest first.
    pub repositories: Vec<RepositoryId>,
    /// Where its uploaded bytes still are.
    pub staged: Vec<StagedTarget>,
}

/// One place where an artifact's uploaded bytes still are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StagedTarget {
    /// The repository that was uploaded.
    pub repository_id: RepositoryId,
    /// The coordinator that holds them.
    pub coordinator_id: CoordinatorId,
    /// The zip in its staging directory.
    pub file: String,
    /// The target's path inside.
    pub target: String,
    /// The name of the zip's entry that holds it; none in rows of an older schema.
    pub entry: Option<String>,
}

/// The digest of a wanted set: hashes in order, a line each.
pub(crate) fn digest(hashes: &[ArtifactHash]) -> String {
    let mut hasher = Sha256::new();
    for hash in hashes {
        hasher.update(hash.0);
    }
    ArtifactHash(hasher.finalize().into()).to_string()
}

/// Moves the generation if and only if the wanted set is another than before; the last step of every transaction
/// that touches repositories.
pub(crate) async fn settle(tx: &mut Connection) -> Result<Generation, DatabaseError> {
    let operation = "settle the generation";
    let rows = sql("SELECT DISTINCT hash FROM repository_artifact ORDER BY hash")
        .fetch_all(&mut *tx)
        .await
        .map_err(during(operation))?;
    let hashes: Vec<ArtifactHash> = rows
        .iter()
        .map(|row| of_table(row, ("repository_artifact", "hash"), |row| parsed(row, "hash")))
        .collect::<Result<_, _>>()?;
    let row = sql("SELECT generation, wanted_digest FROM cluster")
        .fetch_one(&mut *tx)
        .await
        .map_err(during(operation))?;
    let current = generation_of(&row)?;
    let digest = digest(&hashes);
    if text(&row, "wanted_digest")? == digest {
        return Ok(current);
    }
    sql("UPDATE cluster SET generation = $1, wanted_digest = $2")
        .bind(signed(current.next().0))
        .bind(&digest)
        .execute(&mut *tx)
        .await
        .map_err(during(operation))?;
    Ok(current.next())
}

impl Database {
    /// What every sled should hold, as of one moment.
    pub async fn wanted(&self) -> Result<Wanted, DatabaseError> {
        let operation = "read the wanted set";
        self.read_at_once(operation, |mut tx| {
            Box::pin(async move {
                let cluster = sql("SELECT generation FROM cluster")
                    .fetch_one(&mut *tx)
                    .await
                    .map_err(during(operation))?;
                let rows = sql(
                    "SELECT a.repository_id, a.name, a.version, a.kind, a.target, a.entry, a.hash, a.size,
                    s.coordinator_id, s.file
             FROM repository_artifact a LEFT JOIN staged_repository s ON s.repository_id = a.repository_id
             ORDER BY a.repository_id, a.name",
                )
                .fetch_all(&mut *tx)
                .await
                .map_err(during(operation))?;
                let generation = generation_of(&cluster)?;
                let mut wanted = Wanted { generation, artifacts: BTreeMap::new() };
                for row in &rows {
                    let table = ("repository_artifact", "name");
                    of_table(row, table, |row| add(&mut wanted.artifacts, row))?;
                }
                Ok(wanted)
            })
        })
        .await
    }

    /// The generation of the wanted set, without the set.
    pub async fn generation(&self) -> Result<Generation, DatabaseError> {
        let row = sql("SELECT generation FROM cluster")
            .fetch_one(&self.read)
            .await
            .map_err(during("read the generation"))?;
        generation_of(&row)
    }
}

impl Wanted {
    /// The hashes alone.
    #[must_use]
    pub fn hashes(&self) -> BTreeSet<ArtifactHash> {
        self.artifacts.keys().copied().collect()
    }
}

/// Of the one row of its table.
fn generation_of(cluster: &Row) -> Result<Generation, DatabaseError> {
    of_table(cluster, ("cluster", "id"), |row| unsigned(row, "generation").map(Generation))
}

fn add(artifacts: &mut BTreeMap<ArtifactHash, WantedArtifact>, row: &Row) -> Result<(), DatabaseError> {
    let repository: RepositoryId = parsed(row, "repository_id")?;
    let entry = artifacts.entry(parsed(row, "hash")?).or_insert_with(|| WantedArtifact {
        size: 0,
        name: String::new(),
        version: String::new(),
        kind: String::new(),
        repositories: Vec::new(),
        staged: Vec::new(),
    });
    // Rows come oldest repository first, so the newest one's words stay.
    entry.size = unsigned(row, "size")?;
    entry.name = text(row, "name")?;
    entry.version = text(row, "version")?;
    entry.kind = text(row, "kind")?;
    if entry.repositories.last() != Some(&repository) {
        entry.repositories.push(repository);
    }
    if let Some(file) = optional_text(row, "file")? {
        let coordinator_id = parsed(row, "coordinator_id")?;
        let target = text(row, "target")?;
        let zip_entry = optional_text(row, "entry")?;
        entry.staged.push(StagedTarget {
            repository_id: repository,
            coordinator_id,
            file,
            target,
            entry: zip_entry,
        });
    }
    Ok(())
}
