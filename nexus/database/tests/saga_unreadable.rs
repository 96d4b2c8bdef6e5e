//! One row that cannot be read hides no other, and not the rest of itself; and it does not stay for ever.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

#[macro_use]
mod store;
mod sagas_made;

use camino::Utf8Path;
use durable_fs::{SimMachine, Storage};
use flate2::read::GzDecoder;
use ids::CoordinatorId;
use jiff::{SignedDuration, Timestamp};
use nexus_database::{
    Database, DatabaseSagaStore, during,
    sagas::{SagaFilter, SagaLog, SagaState},
    sql::sql,
};
use nexus_sagas::{EndState, Mark, SagaStore, StoreFault};
use sagas_made::{created, end, store_of, write_line};
use serde_json::{Value, json};
use std::{fmt::Display, io::Read, sync::Arc};
use store::Store;

/// Somebody's hand.
async fn spoil(database: &Database, words: &'static str, id: impl Display) {
    let id = &id.to_string();
    let done = database.write("spoil a row", |mut tx| {
        Box::pin(async move { sql(words).bind(id).execute(&mut *tx).await.map_err(during("spoil a row")) })
    });
    assert_eq!(done.await.unwrap(), 1, "{words}");
}

on_both! {
    async fn a_list_shows_every_row_and_says_what_of_one_cannot_be_read(store: Store) {
        let database = store.open().await;
        let ours = store_of(&database);
        let mut keys = Vec::new();
        for _ in 0..6 {
            keys.push(created(&ours, "listed").await);
        }
        for (key, words) in keys.iter().zip([
            "UPDATE saga SET owner = 'nobody' WHERE id = $1",
            "UPDATE saga SET attention = '{' WHERE id = $1",
            "UPDATE saga SET created_at = 'yesterday' WHERE id = $1",
            "UPDATE saga SET version = 99999999999 WHERE id = $1",
        ]) {
            spoil(&database, words, key.id).await;
        }
        for limit in [1, 100] {
            let mut all = Vec::new();
            loop {
                let after = all.last().map(nexus_database::sagas::SagaSummary::position);
                let page = database.sagas(&SagaFilter::default(), after.as_ref(), limit).await.unwrap();
                if page.is_empty() {
                    break;
                }
                all.extend(page);
            }
            assert_eq!(all.len(), 6, "with {limit} a page");
            for (key, wrong) in keys.iter().zip([
                Some("\"nobody\" as owner"), Some("\"{\" as attention"), Some("\"yesterday\" as created_at"),
                Some("\"99999999999\" as version"), None, None,
            ]) {
                let saga = all.iter().find(|saga| saga.key.id == key.id).unwrap();
                assert_eq!((saga.kind.as_str(), saga.state), ("listed", SagaState::Unfinished));
                let words = saga.unreadable.as_ref().map(ToString::to_string);
                match wrong {
                    None => assert_eq!(words, None),
                    Some(wrong) => {
                        let words = words.unwrap();
                        let named = format!("saga, row {}: ", key.id);
                        assert!(words.starts_with(&named) && words.contains(wrong), "{words}");
                        assert!(words.ends_with("(nexus db check)"), "{words}");
                    }
                }
            }
        }
    }

    async fn a_saga_is_shown_with_what_can_be_read_of_it(store: Store) {
        let database = store.open().await;
        let ours = store_of(&database);
        let (key, bare) = (created(&ours, "shown").await, created(&ours, "bare").await);
        write_line(&ours, key, 0, "started").await;
        write_line(&ours, key, 0, "succeeded").await;
        let _ = ours.mark(key, &Mark::CancelRequested).await.unwrap();
        ours.put_signal(key.id, "go", &json!(1)).await.unwrap();
        ours.timer(key.id, "nap", Timestamp::UNIX_EPOCH).await.unwrap();
        for words in [
            "UPDATE saga_definition SET params = 'half {' WHERE saga_id = $1",
            "UPDATE saga_event SET body = 'no JSON' WHERE event = 'succeeded' AND saga_id = $1",
            "UPDATE saga_mark SET mark = '{\"mark\":\"of_a_newer_program\"}' WHERE saga_id = $1",
            "UPDATE saga_signal SET value = '' WHERE saga_id = $1",
            "UPDATE saga_timer SET due = 'soon' WHERE saga_id = $1",
        ] {
            spoil(&database, words, key.id).await;
        }
        spoil(&database, "DELETE FROM saga_definition WHERE saga_id = $1", bare.id).await;

        let shown = database.saga(key.id).await.unwrap().unwrap();
        assert_eq!((shown.params, shown.signals["go"].clone()), (json!("half {"), json!("")));
        let words = shown.unreadable.unwrap().to_string();
        let id = key.id;
        for wrong in [
            format!("saga_definition, row {id}: "), format!("saga_mark, row {id} "),
            format!("saga_signal, row {id} go: "), format!("saga_timer, row {id} nap: "),
        ] {
            assert!(words.contains(&wrong), "{wrong}: {words}");
        }
        let log = database.saga_events(key.id, 0, 10).await.unwrap();
        assert_eq!((log.lines.len(), log.lines[1].event.body.clone()), (2, json!("no JSON")));
        assert!(log.unreadable().unwrap().to_string().contains(&format!("saga_event, row {id} succeeded: ")));

        let shown = database.saga(bare.id).await.unwrap().unwrap();
        assert_eq!((shown.summary.kind.as_str(), shown.params), ("bare", Value::Null));
        assert!(shown.unreadable.unwrap().to_string().contains("saga_definition, row"));
        // What an executor asks for names its row as well.
        let Err(StoreFault::NotDone(words)) = ours.signal(key.id, "go").await else { panic!("it is no JSON") };
        assert!(words.starts_with(&format!("saga_signal, row {id} go: ")), "{words}");
        let Err(StoreFault::NotDone(words)) = ours.timer(key.id, "nap", Timestamp::MAX).await else {
            panic!("it is no time")
        };
        assert!(words.starts_with(&format!("saga_timer, row {id} nap: ")), "{words}");
    }

    async fn a_line_that_cannot_be_read_does_not_end_its_log(store: Store) {
        let database = store.open().await;
        let ours = store_of(&database);
        let key = created(&ours, "long").await;
        for node in 0..6 {
            write_line(&ours, key, node, "started").await;
        }
        for words in [
            "UPDATE saga_event SET node = -2, body = '{' WHERE node = 1 AND saga_id = $1",
            "UPDATE saga_event SET body = 'no JSON' WHERE node = 2 AND saga_id = $1",
            // It sorts last now.
            "UPDATE saga_event SET written_at = 'then' WHERE node = 3 AND saga_id = $1",
        ] {
            spoil(&database, words, key.id).await;
        }
        for limit in [1, 2, 3, 100] {
            let (mut nodes, mut lost, mut after) = (Vec::new(), Vec::new(), 0);
            loop {
                let page = database.saga_events(key.id, after, limit).await.unwrap();
                nodes.extend(page.lines.iter().map(|line| (line.number, line.event.node)));
                lost.extend(page.lost.into_keys());
                after += u64::from(limit);
                if !page.more {
                    break;
                }
            }
            assert_eq!(nodes, [(1, 0), (3, 2), (4, 4), (5, 5)], "with {limit} a page");
            assert_eq!(lost, [2, 3, 6], "with {limit} a page");
        }
        assert_eq!(database.saga_events(key.id, u64::MAX, 1).await.unwrap(), SagaLog::default());
    }

    async fn recovery_gets_each_saga_and_apart_what_can_be_read_of_those_that_cannot(store: Store) {
        let database = store.open().await;
        let ours = store_of(&database);
        let mut keys = Vec::new();
        for _ in 0..6 {
            let key = created(&ours, "loaded").await;
            write_line(&ours, key, 3, "started").await;
            write_line(&ours, key, 3, "undo_finished").await;
            let _ = ours.mark(key, &Mark::CancelRequested).await.unwrap();
            keys.push(key);
        }
        for (key, words) in keys.iter().zip([
            "UPDATE saga SET version = -1 WHERE id = $1",
            "UPDATE saga_definition SET dag = '' WHERE saga_id = $1",
            "UPDATE saga_event SET event = 'of_a_newer_program' WHERE event = 'undo_finished' AND saga_id = $1",
            "UPDATE saga_mark SET mark = '' WHERE saga_id = $1",
            "DELETE FROM saga_definition WHERE saga_id = $1",
        ]) {
            spoil(&database, words, key.id).await;
        }
        let listed = ours.unfinished_rows().await.unwrap();
        assert_eq!((listed.sagas.len(), listed.without_key.len()), (6, 0));
        assert_eq!(listed.unreadable.keys().collect::<Vec<_>>(), [&keys[0].id]);
        assert_eq!(ours.unfinished().await.unwrap().len(), 5, "whoever executes gets those that can be");

        let ids: Vec<_> = keys.iter().map(|key| key.id).collect();
        let loaded = ours.load_readable(&ids).await.unwrap();
        assert_eq!(loaded.sagas.iter().map(|saga| saga.row.key).collect::<Vec<_>>(), keys[5..]);
        assert_eq!(ours.load(&ids).await.unwrap(), loaded.sagas);
        for (number, table) in
            [(0, "saga"), (1, "saga_definition"), (2, "saga_event"), (3, "saga_mark"), (4, "saga_definition")]
        {
            let one = loaded.partly.iter().find(|one| one.readable.row.key == keys[number]).unwrap();
            let words = one.unreadable.to_string();
            assert!(words.starts_with(&format!("{table}, row {}", keys[number].id)), "{words}");
            assert_eq!(one.readable.events.len(), 2, "{words}");
        }
        // What is lost may have left something.
        let of = |number: usize| loaded.partly.iter().find(|one| one.readable.row.key == keys[number]).unwrap();
        assert!(of(2).readable.events.iter().all(|event| event.event == "started"));
        assert!(matches!(&of(3).readable.marks[..], [Mark::UndoSkipped { .. }]));
    }

    async fn what_cannot_be_read_is_archived_as_it_is_and_pruned(store: Store) {
        let database = store.open().await;
        let ours = store_of(&database);
        let (key, other) = (created(&ours, "archived").await, created(&ours, "other").await);
        write_line(&ours, key, 0, "started").await;
        for key in [key, other] {
            end(&ours, key, &EndState::Succeeded { output: json!(null) }).await;
        }
        for words in [
            "UPDATE saga SET version = -7, owner = 'nobody', outcome = '{' WHERE id = $1",
            "UPDATE saga_definition SET params = 'half {' WHERE saga_id = $1",
            "UPDATE saga_event SET body = 'no JSON', written_at = 'then', adoption_epoch = -1 WHERE saga_id = $1",
        ] {
            spoil(&database, words, key.id).await;
        }
        let archive: Arc<dyn Storage> = Arc::new(SimMachine::new().add_disk(1 << 24));
        let soon = Timestamp::now() + SignedDuration::from_secs(60);
        let done = database.archive_and_prune_sagas(&archive, soon, u64::MAX).await.unwrap();
        assert_eq!((done.archived, done.pruned), (2, 2));
        assert!(database.sagas(&SagaFilter::default(), None, 10).await.unwrap().is_empty());
        let saga = archived(archive.as_ref(), &key.id.to_string());
        assert_eq!((&saga["version"], &saga["owner"], &saga["outcome"]), (&json!(-7), &json!("nobody"), &json!("{")));
        assert_eq!(saga["params"], json!("half {"));
        let written = &saga["events"][0];
        assert_eq!((&written["body"], &written["adoption_epoch"]), (&json!("no JSON"), &json!(-1)));
    }

    async fn an_adoption_that_cannot_be_followed_by_another_keeps_no_saga_from_being_recovered(store: Store) {
        let database = store.open().await;
        let ours = store_of(&database);
        let (whole, largest) = (created(&ours, "whole").await, created(&ours, "largest").await);
        let first_too_large = created(&ours, "first too large").await;
        let words = "UPDATE saga SET adoption_epoch = 9223372036854775807 WHERE id = $1";
        spoil(&database, words, largest.id).await;
        let words = "UPDATE saga SET adoption_epoch = 4611686018427387904 WHERE id = $1";
        spoil(&database, words, first_too_large.id).await;

        let listed = ours.unfinished_rows().await.unwrap();
        assert_eq!(listed.sagas.iter().map(|saga| saga.key).collect::<Vec<_>>(), [whole]);
        let without_key: Vec<_> = listed.without_key.iter().map(ToString::to_string).collect();
        assert_eq!(without_key.len(), 2);
        assert!(without_key.iter().all(|words| words.contains(" as adoption_epoch")), "{without_key:?}");
        let keys: Vec<_> = listed.sagas.iter().map(|saga| saga.key).collect();
        let adopted = ours.adopt(&keys).await.unwrap();
        assert_eq!(adopted.len(), 1);
        assert_eq!(ours.load(&[whole.id, largest.id]).await.unwrap()[0].row.key, adopted[0]);
    }

    async fn a_coordinator_that_cannot_be_read_hides_no_other(store: Store) {
        let database = store.open().await;
        let (one, other) = (CoordinatorId::generate(), CoordinatorId::generate());
        for id in [one, other] {
            database.coordinator_start(id, "nexus", "0").await.unwrap();
        }
        spoil(&database, "UPDATE coordinator SET started_at = 'then' WHERE id = $1", one).await;
        let listed = database.coordinators().await.unwrap();
        assert_eq!(listed.iter().map(|row| row.id).collect::<Vec<_>>(), [other]);
    }

    async fn an_epoch_that_no_start_can_follow_stops_the_start_and_is_named(store: Store) {
        let database = store.open().await;
        let (one, other) = (CoordinatorId::generate(), CoordinatorId::generate());
        database.coordinator_start(one, "nexus-1", "0").await.unwrap();
        spoil(&database, "UPDATE coordinator SET epoch = 9223372036854775807 WHERE id = $1", one).await;
        for id in [one, other] {
            let refused = database.coordinator_start(id, "nexus", "0").await.unwrap_err().to_string();
            let place = format!("holds \"9223372036854775807\" as epoch of row {one}");
            assert!(refused.contains("table coordinator") && refused.contains(&place), "{refused}");
        }
        let report = nexus_database::check(&store.location).await.unwrap();
        let found: Vec<_> = report.findings.iter().map(ToString::to_string).collect();
        assert_eq!(found, [format!("coordinator, row {one}: \"9223372036854775807\" is no epoch")]);
    }

    async fn sagas_whose_owner_is_nobody_come_before_the_many_of_others(store: Store) {
        let database = store.open().await;
        let (ours, theirs) = (store_of(&database), CoordinatorId::generate());
        database.coordinator_start(theirs, "nexus-2", "0").await.unwrap();
        created(&ours, "ours").await;
        let other = DatabaseSagaStore::new(database.clone(), theirs, 1);
        for _ in 0..4 {
            created(&other, "theirs").await;
        }
        let (lost, left) = (created(&ours, "lost").await, created(&ours, "left").await);
        spoil(&database, "UPDATE saga SET owner = 'nobody' WHERE id = $1", lost.id).await;
        let words = "UPDATE saga SET owner = 'ffffffff-ffff-ffff-ffff-ffffffffffff' WHERE id = $1";
        spoil(&database, words, left.id).await;
        for (limit, all) in [(3, 3), (100, 6)] {
            let found = ours.of_others(u32::try_from(limit).unwrap()).await.unwrap();
            let ids = ours.ids_of_others(limit).await.unwrap();
            assert_eq!((found.len(), ids.len()), (all, all));
            for key in [lost, left] {
                assert!(ids.contains(&key.id) && found.iter().any(|saga| saga.id == key.id.to_string()));
            }
        }
    }
}

fn archived(archive: &dyn Storage, id: &str) -> Value {
    for entry in archive.list(Utf8Path::new("")).unwrap() {
        let file = archive.open(Utf8Path::new(&entry.name)).unwrap();
        let mut bytes = vec![0; usize::try_from(entry.metadata.size).unwrap()];
        assert_eq!(file.read_at(0, &mut bytes).unwrap(), bytes.len());
        let mut text = String::new();
        GzDecoder::new(bytes.as_slice()).read_to_string(&mut text).unwrap();
        let mut lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        if let Some(saga) = lines.find(|saga| saga["id"] == id) {
            return saga;
        }
    }
    panic!("{id} is not in the archive")
}
