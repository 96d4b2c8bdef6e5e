//! What the database promises about repositories and the generation.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

#[macro_use]
mod store;

use ids::{ArtifactHash, CoordinatorId, Generation, TrustRootId};
use nexus_database::{
    Database, DatabaseError, during,
    repositories::{ArtifactRow, InsertOutcome, NewRepository},
    sql::sql,
    trust_roots::NewTrustRoot,
};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use store::Store;

struct Fixture {
    database: Database,
    coordinator: CoordinatorId,
    root: TrustRootId,
}

async fn fixture(store: &Store) -> Fixture {
    let database = store.open().await;
    let coordinator = CoordinatorId::generate();
    database.coordinator_start(coordinator, "nexus-1", "0").await.unwrap();
    let new = NewTrustRoot {
        fingerprint: "ab".repeat(32),
        root_json: "{}".to_owned(),
        version: 1,
        expires: jiff::Timestamp::UNIX_EPOCH,
    };
    let root = database.trust_root_insert(&new).await.unwrap().0.id;
    Fixture { database, coordinator, root }
}

/// Does to the database what no caller of it can.
async fn run(database: &Database, statement: &'static str) {
    database
        .write("run a statement", |mut tx| {
            Box::pin(async move {
                sql(statement).execute(&mut *tx).await.map(drop).map_err(during("run a statement"))
            })
        })
        .await
        .unwrap();
}

fn release(by: (CoordinatorId, TrustRootId), version: &str, hashes: &[u8]) -> NewRepository {
    NewRepository {
        system_version: version.to_owned(),
        sha256: "00".repeat(32),
        file_name: None,
        trust_root_id: by.1,
        artifacts: hashes
            .iter()
            .map(|hash| ArtifactRow {
                name: format!("artifact-{hash}"),
                version: "1".to_owned(),
                kind: "file".to_owned(),
                target: hash.to_string(),
                entry: Some(format!("targets/{hash}")),
                hash: ArtifactHash([*hash; 32]),
                size: u64::from(*hash),
            })
            .collect(),
        coordinator_id: by.0,
        staged_file: format!("{version}.zip"),
        staged_bytes: 1,
    }
}

/// What a random history does to one release: its artifacts come, or it goes.
type Step = (u8, Option<BTreeSet<u8>>);

fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec((0u8..4, prop::option::of(prop::collection::btree_set(1u8..6, 1..4))), 1..14)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn the_generation_moves_if_and_only_if_the_wanted_set_changes_on_sqlite(steps in steps()) {
        check_generations(&Store::sqlite(), steps)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, ..ProptestConfig::default() })]

    #[test]
    fn the_generation_moves_if_and_only_if_the_wanted_set_changes_on_postgres(steps in steps()) {
        if let Some(store) = Store::postgres() {
            check_generations(&store, steps)?;
        }
    }
}

/// The generation moves if and only if the wanted set changes, whatever comes and goes in which order.
fn check_generations(store: &Store, steps: Vec<Step>) -> Result<(), TestCaseError> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        let fixture = fixture(store).await;
        let mut model: BTreeMap<u8, BTreeSet<u8>> = BTreeMap::new();
        let mut before = fixture.database.wanted().await.unwrap();
        for (version, change) in steps {
            let name = format!("{version}.0.0");
            match change {
                Some(hashes) => {
                    let hashes_list: Vec<u8> = hashes.iter().copied().collect();
                    let new = release((fixture.coordinator, fixture.root), &name, &hashes_list);
                    let outcome = fixture.database.repository_insert(&new).await.unwrap();
                    match model.get(&version) {
                        None => {
                            prop_assert!(matches!(outcome, InsertOutcome::Inserted { .. }), "{outcome:?}");
                            model.insert(version, hashes);
                        }
                        Some(known) if *known == hashes => {
                            prop_assert!(
                                matches!(outcome, InsertOutcome::AlreadyExists { .. }),
                                "{outcome:?}"
                            );
                        }
                        Some(_) => {
                            prop_assert!(matches!(outcome, InsertOutcome::Conflict { .. }), "{outcome:?}");
                        }
                    }
                }
                None => {
                    let gone = fixture.database.repository_delete(&name, fixture.coordinator).await.unwrap();
                    prop_assert_eq!(gone.is_some(), model.remove(&version).is_some());
                }
            }
            let after = fixture.database.wanted().await.unwrap();
            let expected: BTreeSet<ArtifactHash> =
                model.values().flatten().map(|hash| ArtifactHash([*hash; 32])).collect();
            prop_assert_eq!(after.hashes(), expected);
            let moved = after.generation != before.generation;
            prop_assert_eq!(moved, after.hashes() != before.hashes());
            prop_assert!(after.generation >= before.generation);
            before = after;
        }
        Ok(())
    })
}

on_both! {
    async fn a_repository_of_long_unwanted_artifacts_moves_the_generation(store: Store) {
        let Fixture { database, coordinator, root } = fixture(&store).await;
        database.repository_insert(&release((coordinator, root), "1.0.0", &[1, 2])).await.unwrap();
        database.repository_delete("1.0.0", coordinator).await.unwrap();
        let before = database.generation().await.unwrap();
        database.repository_insert(&release((coordinator, root), "2.0.0", &[1])).await.unwrap();
        assert_eq!(database.generation().await.unwrap(), before.next());
    }
}

on_both! {
    async fn the_same_release_again_is_staged_again_and_names_the_file_it_replaces(store: Store) {
        let Fixture { database, coordinator, root } = fixture(&store).await;
        let mut new = release((coordinator, root), "1.0.0", &[1]);
        database.repository_insert(&new).await.unwrap();
        new.staged_file = "second.zip".to_owned();
        new.artifacts[0].target = "elsewhere/1".to_owned();
        new.artifacts[0].entry = Some("targets/ff.elsewhere/1".to_owned());
        let InsertOutcome::AlreadyExists { id, replaced_file } = database.repository_insert(&new).await.unwrap()
        else {
            panic!("the same artifacts were taken for another release");
        };
        assert_eq!(replaced_file.as_deref(), Some("1.0.0.zip"));
        let wanted = database.wanted().await.unwrap();
        let staged = &wanted.artifacts[&ArtifactHash([1; 32])].staged;
        assert_eq!(
            (staged.len(), staged[0].file.as_str(), staged[0].target.as_str()),
            (1, "second.zip", "elsewhere/1")
        );
        assert_eq!(staged[0].entry.as_deref(), Some("targets/ff.elsewhere/1"));

        // A pass that still thinks of the first file must not unstage the second.
        assert!(!database.unstage(id, coordinator, "1.0.0.zip").await.unwrap());
        assert!(database.unstage(id, coordinator, "second.zip").await.unwrap());
        assert!(database.staged(coordinator).await.unwrap().is_empty());
    }
}

on_both! {
    async fn a_conflict_names_the_differences_and_changes_nothing(store: Store) {
        let Fixture { database, coordinator, root } = fixture(&store).await;
        database.repository_insert(&release((coordinator, root), "1.0.0", &[1, 2])).await.unwrap();
        let before = database.wanted().await.unwrap();
        let outcome = database.repository_insert(&release((coordinator, root), "1.0.0", &[1, 3])).await.unwrap();
        let InsertOutcome::Conflict { differences } = outcome else {
            panic!("other content was taken: {outcome:?}")
        };
        assert_eq!(differences.len(), 2, "{differences:?}");
        assert_eq!(database.wanted().await.unwrap(), before);
    }
}

on_both! {
    async fn a_trust_root_that_was_deleted_meanwhile_vouches_for_nothing(store: Store) {
        let Fixture { database, coordinator, root } = fixture(&store).await;
        database.trust_root_delete(root).await.unwrap();
        let outcome = database.repository_insert(&release((coordinator, root), "1.0.0", &[1])).await.unwrap();
        assert_eq!(outcome, InsertOutcome::TrustRootGone);
        assert!(database.wanted().await.unwrap().artifacts.is_empty());
    }
}

on_both! {
    async fn a_row_of_the_first_schema_is_still_read(store: Store) {
        let Fixture { database, coordinator, root } = fixture(&store).await;
        database.repository_insert(&release((coordinator, root), "1.0.0", &[1])).await.unwrap();
        run(&database, "UPDATE repository_artifact SET entry = NULL").await;
        let wanted = database.wanted().await.unwrap();
        assert_eq!(wanted.artifacts[&ArtifactHash([1; 32])].staged[0].entry, None);
    }
}

on_both! {
    async fn repositories_are_paged_newest_first(store: Store) {
        let Fixture { database, coordinator, root } = fixture(&store).await;
        for version in ["1.0.0", "2.0.0", "3.0.0"] {
            database.repository_insert(&release((coordinator, root), version, &[1])).await.unwrap();
        }
        let first = database.repositories(None, 2).await.unwrap();
        assert_eq!(first.iter().map(|row| row.system_version.as_str()).collect::<Vec<_>>(), ["3.0.0", "2.0.0"]);
        let second = database.repositories(Some(first[1].id), 2).await.unwrap();
        assert_eq!(second.iter().map(|row| row.system_version.as_str()).collect::<Vec<_>>(), ["1.0.0"]);
    }
}

on_both! {
    async fn what_was_committed_is_there_after_reopening_and_the_cluster_stays_the_same(store: Store) {
        let Fixture { database, coordinator, root } = fixture(&store).await;
        database.repository_insert(&release((coordinator, root), "1.0.0", &[1])).await.unwrap();
        let cluster = database.cluster_id().await.unwrap();
        let wanted = database.wanted().await.unwrap();
        assert_eq!(wanted.generation, Generation(2));
        database.close().await;
        let reopened = store.open().await;
        assert_eq!(reopened.cluster_id().await.unwrap(), cluster);
        assert_eq!(reopened.wanted().await.unwrap(), wanted);
        assert_eq!(reopened.coordinator_start(coordinator, "nexus-1", "0").await.unwrap().epoch, 2);
    }
}

on_both! {
    async fn a_database_of_a_newer_schema_is_refused(store: Store) {
        let Fixture { database, .. } = fixture(&store).await;
        run(
            &database,
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
             SELECT 999, 'from the future', success, checksum, 0 FROM _sqlx_migrations WHERE version = 1",
        )
        .await;
        database.close().await;
        let error = Database::open(&store.location).await.unwrap_err();
        assert!(matches!(error, DatabaseError::NewerSchema { found: 999, .. }), "{error}");
    }
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused_and_left_alone() {
    let dir = camino_tempfile::tempdir().unwrap();
    let path = dir.path().join("nexus.db");
    let content = "this is not a database, but it may be the only copy of something".repeat(40);
    std::fs::write(&path, &content).unwrap();
    assert!(Database::open(&path).await.is_err());
    assert_eq!(std::fs::read_to_string(&path).unwrap(), content);
}
