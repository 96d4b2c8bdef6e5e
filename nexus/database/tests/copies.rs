//! What check, backup and restore promise.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod sagas_made;
#[macro_use]
mod store;

use camino::Utf8PathBuf;
use ids::CoordinatorId;
use nexus_database::{
    BackupError, Database, DatabaseError, DatabaseSagaStore, Location, backup, check, during, restore,
    sql::sql,
};
use nexus_sagas::{EndState, SagaStore};
use serde_json::json;
use std::fs;
use store::Store;

async fn run(database: &Database, statement: &'static str) {
    let operation = "change what nobody may";
    database
        .write(operation, |mut tx| {
            Box::pin(
                async move { sql(statement).execute(&mut *tx).await.map(drop).map_err(during(operation)) },
            )
        })
        .await
        .unwrap();
}

async fn started(store: &Store) -> (Database, CoordinatorId) {
    let database = store.open().await;
    let coordinator = CoordinatorId::generate();
    database.coordinator_start(coordinator, "nexus-1", "0").await.unwrap();
    (database, coordinator)
}

on_both! {
    async fn a_database_in_order_has_no_findings_also_while_it_is_used(store: Store) {
        let (database, _) = started(&store).await;
        let report = check(&store.location).await.unwrap();
        assert_eq!(report.findings, []);
        assert_eq!((report.schema, report.rows), (report.known, 2));
        database.probe_write().await.unwrap();
    }

    async fn what_breaks_our_rules_is_named_with_its_row(store: Store) {
        let (database, coordinator) = started(&store).await;
        run(&database, "UPDATE coordinator SET started_at = 'yesterday'").await;
        run(&database, "UPDATE cluster SET wanted_digest = 'none'").await;
        run(
            &database,
            "INSERT INTO trust_root (id, fingerprint, root_json, version, expires, created_at)
             VALUES ('x', 'y', '{}', 1, '2026-01-01T00:00:00Z', '2026-01-01T00:00:00Z')",
        )
        .await;
        let findings: Vec<String> =
            check(&store.location).await.unwrap().findings.iter().map(ToString::to_string).collect();
        let has = |words: &str| assert!(findings.iter().any(|finding| finding.contains(words)), "{findings:#?}");
        has(&format!("coordinator, row {coordinator}: \"yesterday\" is no started_at"));
        has("cluster: wanted_digest is none");
        has("trust_root, row x: fingerprint is y");
        has("trust_root, row x: \"x\" is no id");
        assert_eq!(findings.len(), 4);
    }

    async fn a_newer_schema_is_not_judged(store: Store) {
        let (database, _) = started(&store).await;
        run(&database, "UPDATE _sqlx_migrations SET version = 999 WHERE version = 1").await;
        let refused = check(&store.location).await.unwrap_err();
        assert!(matches!(refused, DatabaseError::NewerSchema { found: 999, .. }), "{refused}");
    }
}

fn path_of(store: &Store) -> Utf8PathBuf {
    match &store.location {
        Location::Sqlite(path) => path.clone(),
        Location::Postgres(_) => panic!("it is SQLite"),
    }
}

#[tokio::test]
async fn a_file_that_is_not_there_is_named_and_not_created() {
    let store = Store::sqlite();
    let refused = check(&store.location).await.unwrap_err();
    assert!(refused.to_string().contains(path_of(&store).as_str()), "{refused}");
    assert!(!path_of(&store).exists());
}

#[tokio::test]
async fn a_backup_of_a_used_database_is_restored_ahead_of_all_that_was_seen() {
    let store = Store::sqlite();
    let (database, coordinator) = started(&store).await;
    let cluster = database.cluster_id().await.unwrap();
    let generation = database.generation().await.unwrap();
    let sagas = DatabaseSagaStore::new(database.clone(), coordinator, 1);
    let (going, ended) =
        (sagas_made::created(&sagas, "going").await, sagas_made::created(&sagas, "ended").await);
    sagas_made::end(&sagas, ended, &EndState::Succeeded { output: json!(1) }).await;
    let file = store.dir.path().join("backup");
    let written = backup(&store.location, &file).await.unwrap();
    assert_eq!(written.bytes, fs::metadata(&file).unwrap().len());
    assert!(matches!(backup(&store.location, &file).await.unwrap_err(), BackupError::Exists { .. }));
    // What comes after the backup is lost by its restore.
    database.coordinator_start(CoordinatorId::generate(), "late", "0").await.unwrap();
    database.close().await;

    let restored = restore(&store.location, &file).await.unwrap();
    assert_eq!(restored.sha256, written.sha256);
    let database = store.open().await;
    assert_eq!(database.cluster_id().await.unwrap(), cluster);
    assert_eq!(database.coordinators().await.unwrap().len(), 1);
    assert!(database.generation().await.unwrap().0 > generation.0 + 1000);
    assert!(database.coordinator_start(coordinator, "nexus-1", "0").await.unwrap().epoch > 1000);
    let epoch = async |id| database.saga(id).await.unwrap().unwrap().summary.key.epoch;
    assert!(epoch(going.id).await.0 > 1000, "it goes on under an epoch that no sled has seen");
    assert_eq!(epoch(ended.id).await, ended.epoch);
    assert!(check(&store.location).await.unwrap().findings.is_empty());
    let old = Database::open(&restored.kept.unwrap()).await.unwrap();
    assert_eq!(old.coordinators().await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_backup_of_a_program_without_sagas_is_restored() {
    let store = Store::sqlite();
    let (database, coordinator) = started(&store).await;
    for statement in [
        "DROP TABLE saga",
        "DROP TABLE saga_definition",
        "DROP TABLE saga_event",
        "DROP TABLE saga_mark",
        "DROP TABLE saga_signal",
        "DROP TABLE saga_timer",
        "DROP TABLE volume_repair",
        "DROP TABLE volume_repair_forgotten",
        "DELETE FROM _sqlx_migrations WHERE version > 3",
    ] {
        run(&database, statement).await;
    }
    let file = store.dir.path().join("backup");
    backup(&store.location, &file).await.unwrap();
    database.close().await;
    restore(&store.location, &file).await.unwrap();
    let database = store.open().await;
    assert!(database.coordinator_start(coordinator, "nexus-1", "0").await.unwrap().epoch > 1000);
    assert!(sagas_made::store_of(&database).unfinished().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_file_that_is_no_backup_is_refused_and_the_database_stays() {
    let store = Store::sqlite();
    let (database, _) = started(&store).await;
    let file = store.dir.path().join("backup");
    backup(&store.location, &file).await.unwrap();
    database.close().await;
    let before = fs::read(path_of(&store)).unwrap();
    let checksum = store.dir.path().join("backup.sha256");
    let good = fs::read_to_string(&checksum).unwrap();

    let mut rotten = fs::read(&file).unwrap();
    rotten[5000] ^= 1;
    fs::write(&file, &rotten).unwrap();
    assert!(matches!(restore(&store.location, &file).await.unwrap_err(), BackupError::Checksum { .. }));
    fs::write(&checksum, "no checksum").unwrap();
    assert!(matches!(restore(&store.location, &file).await.unwrap_err(), BackupError::NoChecksum { .. }));
    fs::remove_file(&checksum).unwrap();
    assert!(matches!(restore(&store.location, &file).await.unwrap_err(), BackupError::NoChecksum { .. }));
    let text = store.dir.path().join("text");
    fs::write(&text, "hello").unwrap();
    let sum = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
    fs::write(store.dir.path().join("text.sha256"), format!("{sum}  text\n")).unwrap();
    assert!(matches!(restore(&store.location, &text).await.unwrap_err(), BackupError::Database(_)));
    assert!(good.starts_with(|first: char| first.is_ascii_hexdigit()));
    assert_eq!(fs::read(path_of(&store)).unwrap(), before);
}

#[tokio::test]
async fn a_database_that_breaks_our_rules_is_backed_up_and_said_to_break_them() {
    let store = Store::sqlite();
    let (database, _) = started(&store).await;
    run(&database, "UPDATE cluster SET wanted_digest = 'none'").await;
    let file = store.dir.path().join("backup");
    assert_eq!(backup(&store.location, &file).await.unwrap().broken_rules, 1);
    database.close().await;
    assert_eq!(restore(&store.location, &file).await.unwrap().broken_rules, 1);
}

#[tokio::test]
async fn postgres_is_left_to_its_own_programs_by_their_exact_command_lines() {
    let dir = camino_tempfile::tempdir().unwrap();
    let password = dir.path().join("password");
    fs::write(&password, "hunter2").unwrap();
    let url = "postgres://nexus@db/bobsled";
    let location = Location::parse(url, Some(&password), &password).unwrap();
    let file = Utf8PathBuf::from("/backups/b");
    let said = backup(&location, &file).await.unwrap_err().to_string();
    let command = format!(
        "PGPASSWORD=\"$(cat '{password}')\" pg_dump --format=custom --file='/backups/b' --dbname='{url}'"
    );
    assert!(said.ends_with(&command), "{said}");
    let said = restore(&location, &file).await.unwrap_err().to_string();
    assert!(said.contains("pg_restore --clean --if-exists --single-transaction '/backups/b'"), "{said}");
}
