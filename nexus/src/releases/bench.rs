//! What tests of this folder start from: a database and a staging directory of one coordinator, with nothing in them.

use crate::releases::StagingArea;
use camino_tempfile::Utf8TempDir;
use ids::{ArtifactHash, CoordinatorId};
use nexus_database::{
    Database,
    repositories::{ArtifactRow, NewRepository},
    trust_roots::NewTrustRoot,
};

pub(crate) struct Bench {
    pub(crate) dir: Utf8TempDir,
    pub(crate) database: Database,
    pub(crate) staging: StagingArea,
    pub(crate) coordinator_id: CoordinatorId,
}

impl Bench {
    pub(crate) async fn new() -> Bench {
        let dir = camino_tempfile::tempdir().unwrap();
        let database = Database::open(&dir.path().join("nexus.db")).await.unwrap();
        let staging = StagingArea::open(&dir.path().join("staging"), None).unwrap();
        let coordinator_id = CoordinatorId::generate();
        database.coordinator_start(coordinator_id, "nexus-1", "0").await.unwrap();
        Bench { dir, database, staging, coordinator_id }
    }
}

/// Writes release 1.0.0, whose zip is this file.
pub(crate) async fn record(database: &Database, coordinator_id: CoordinatorId, file: &str) {
    let root = NewTrustRoot {
        fingerprint: "f".to_owned(),
        root_json: "{}".to_owned(),
        version: 1,
        expires: jiff::Timestamp::UNIX_EPOCH,
    };
    let trust_root_id = database.trust_root_insert(&root).await.unwrap().0.id;
    let artifact = ArtifactRow {
        name: "a".to_owned(),
        version: "1".to_owned(),
        kind: "file".to_owned(),
        target: "a".to_owned(),
        entry: None,
        hash: ArtifactHash([1; 32]),
        size: 1,
    };
    let new = NewRepository {
        system_version: "1.0.0".to_owned(),
        sha256: "00".repeat(32),
        file_name: None,
        trust_root_id,
        artifacts: vec![artifact],
        coordinator_id,
        staged_file: file.to_owned(),
        staged_bytes: 1,
    };
    database.repository_insert(&new).await.unwrap();
}
