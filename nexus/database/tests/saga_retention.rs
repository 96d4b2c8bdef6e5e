//! What has ended is archived and then pruned; a crash at any step loses nothing.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

#[macro_use]
mod store;
mod sagas_made;

use camino::Utf8Path;
use durable_fs::{DiskFaults, FaultyDisk, SimMachine, Storage};
use flate2::read::GzDecoder;
use ids::SagaId;
use jiff::{SignedDuration, Timestamp};
use nexus_database::{
    Database, DatabaseSagaStore,
    sagas::{RetentionReport, SagaFilter},
};
use nexus_sagas::{EndState, Mark, NodeEvent, SagaStore, Written};
use sagas_made::{created, end, store_of, write_line};
use serde_json::{Value, json};
use std::{collections::BTreeMap, io::Read, sync::Arc};
use store::Store;

fn from_now_on() -> Timestamp {
    Timestamp::now() + SignedDuration::from_secs(60)
}

async fn ended(store: &DatabaseSagaStore, lines: u32) -> SagaId {
    let key = created(store, "ended").await;
    for node in 0..lines {
        write_line(store, key, node, "started").await;
    }
    let _ = store.mark(key, &Mark::CancelRequested).await.unwrap();
    store.put_signal(key.id, "go", &json!("on")).await.unwrap();
    end(store, key, &EndState::Succeeded { output: json!({"lines": lines}) }).await;
    key.id
}

/// Every line of every whole file, by saga. What has a temporary name counts for nothing.
fn archived(archive: &dyn Storage) -> BTreeMap<SagaId, Vec<Value>> {
    let mut lines: BTreeMap<SagaId, Vec<Value>> = BTreeMap::new();
    for entry in archive.list(Utf8Path::new("")).unwrap() {
        if entry.name.ends_with(".new") {
            continue;
        }
        let mut bytes = vec![0; usize::try_from(entry.metadata.size).unwrap()];
        let file = archive.open(Utf8Path::new(&entry.name)).unwrap();
        let mut read = 0;
        while read < bytes.len() {
            match file.read_at(read as u64, &mut bytes[read..]).unwrap() {
                0 => panic!("{} is cut short", entry.name),
                count => read += count,
            }
        }
        let mut text = String::new();
        GzDecoder::new(bytes.as_slice()).read_to_string(&mut text).unwrap();
        for line in text.lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            lines.entry(line["id"].as_str().unwrap().parse().unwrap()).or_default().push(line);
        }
    }
    lines
}

async fn kept(database: &Database) -> Vec<SagaId> {
    let all = database.sagas(&SagaFilter::default(), None, 10_000).await.unwrap();
    all.into_iter().map(|saga| saga.key.id).collect()
}

/// A disk whose power is cut before its `changes + 1`st change, and what became of a run on it.
async fn run_until(database: &Database, machine: &SimMachine, disk: &Arc<dyn Storage>, changes: u64) -> bool {
    machine.stop_after_changes(changes);
    let done = database.archive_and_prune_sagas(disk, from_now_on(), u64::MAX).await.is_ok();
    machine.crash(changes);
    done
}

on_both! {
    async fn what_has_ended_is_archived_with_its_log_and_pruned(store: Store) {
        let database = store.open().await;
        let ours = store_of(&database);
        let unfinished = created(&ours, "unfinished").await;
        write_line(&ours, unfinished, 0, "started").await;
        let mut all = Vec::new();
        for lines in 0..70 {
            all.push(ended(&ours, lines % 3).await);
        }
        let archive: Arc<dyn Storage> = Arc::new(SimMachine::new().add_disk(1 << 24));
        let long_ago = Timestamp::UNIX_EPOCH;
        let nothing = database.archive_and_prune_sagas(&archive, long_ago, u64::MAX).await.unwrap();
        assert_eq!(nothing, RetentionReport::default());

        let some = database.archive_and_prune_sagas(&archive, from_now_on(), 30).await.unwrap();
        assert_eq!((some.files.len(), some.archived, some.pruned), (1, 30, 30));
        let lines = archived(archive.as_ref());
        assert!(all[..30].iter().all(|id| lines.contains_key(id)), "those that ended first");
        let rest = database.archive_and_prune_sagas(&archive, from_now_on(), u64::MAX).await.unwrap();
        assert_eq!((rest.archived, rest.pruned), (40, 40));

        assert_eq!(kept(&database).await, [unfinished.id]);
        assert_eq!(ours.load(&[unfinished.id]).await.unwrap()[0].events.len(), 1);
        let lines = archived(archive.as_ref());
        for (number, id) in all.iter().enumerate() {
            let line = &lines[id][0];
            assert_eq!(line["events"].as_array().unwrap().len(), number % 3);
            assert_eq!(line["outcome"], json!({"state": "succeeded", "output": {"lines": number % 3}}));
            assert_eq!((&line["format"], &line["kind"]), (&json!(1), &json!("ended")));
            assert_eq!(line["marks"][0]["mark"], json!({"mark": "cancel_requested"}));
            assert_eq!(line["signals"][0]["value"], json!("on"));
            assert_eq!(ours.signal(*id, "go").await, Ok(None), "it went with the saga");
        }
    }

    async fn a_crash_after_any_step_loses_no_saga(store: Store) {
        let database = store.open().await;
        let ours = store_of(&database);
        let mut all = Vec::new();
        for changes in 0.. {
            // More than one transaction deletes.
            for lines in 0..65 {
                all.push(ended(&ours, lines % 2).await);
            }
            let machine = SimMachine::new();
            let disk: Arc<dyn Storage> = Arc::new(machine.add_disk(1 << 24));
            let done = run_until(&database, &machine, &disk, changes).await;
            let (lines, left) = (archived(disk.as_ref()), kept(&database).await);
            assert!(all.iter().all(|id| lines.contains_key(id) || left.contains(id)), "after {changes} changes");
            database.archive_and_prune_sagas(&disk, from_now_on(), u64::MAX).await.unwrap();
            let lines = archived(disk.as_ref());
            for id in &all {
                assert!(lines[id].windows(2).all(|pair| pair[0] == pair[1]), "lines of one saga say the same");
            }
            assert!(kept(&database).await.is_empty());
            let names = disk.list(Utf8Path::new("")).unwrap();
            assert!(names.iter().all(|entry| entry.name.ends_with(".gz")), "leftovers are removed");
            all.clear();
            if done {
                assert!(changes > 2, "there are steps to crash after");
                return;
            }
        }
    }

    async fn a_crash_while_pruning_archives_the_rest_again(store: Store) {
        let database = store.open().await;
        let ours = store_of(&database);
        let mut all = Vec::new();
        for _ in 0..130 {
            all.push(ended(&ours, 1).await);
        }
        let machine = SimMachine::new();
        let disk: Arc<dyn Storage> = Arc::new(machine.add_disk(1 << 24));
        machine.stop_at(durable_fs::StepPoint { procedure: "archive sagas", step: "pruned_some" }, 1);
        database.archive_and_prune_sagas(&disk, from_now_on(), u64::MAX).await.unwrap_err();
        machine.crash(1);
        assert_eq!(kept(&database).await.len(), 130 - 64);
        database.archive_and_prune_sagas(&disk, from_now_on(), u64::MAX).await.unwrap();
        let lines = archived(disk.as_ref());
        assert!(all.iter().all(|id| lines.contains_key(id)));
        assert_eq!(lines.values().filter(|lines| lines.len() == 2).count(), 130 - 64, "twice, and never lost");
    }

    async fn sagas_with_large_outputs_are_loaded_archived_and_pruned_a_few_at_once(store: Store) {
        const OUTPUT_BYTES: usize = 3 << 20;
        let database = store.open().await;
        let ours = store_of(&database);
        let body = json!({"succeeded": "x".repeat(OUTPUT_BYTES)});
        let mut keys = Vec::new();
        for _ in 0..5 {
            let key = created(&ours, "large").await;
            let line = NodeEvent { node: 0, event: "succeeded".to_owned(), body: body.clone() };
            assert_eq!(ours.append(key, &[line]).await, Ok(Written::Now));
            keys.push(key);
        }
        let ids: Vec<_> = keys.iter().map(|key| key.id).collect();
        let loaded = ours.load(&ids).await.unwrap();
        assert_eq!(loaded.len(), 5);
        assert!(loaded.iter().all(|saga| saga.events[0].body == body));
        for key in keys {
            end(&ours, key, &EndState::Succeeded { output: json!(null) }).await;
        }
        let archive: Arc<dyn Storage> = Arc::new(SimMachine::new().add_disk(1 << 24));
        let done = database.archive_and_prune_sagas(&archive, from_now_on(), u64::MAX).await.unwrap();
        // Two of them have less than 8 MiB.
        assert_eq!((done.files.len(), done.archived, done.pruned), (3, 5, 5));
        let lines = archived(archive.as_ref());
        assert!(ids.iter().all(|id| lines[id][0]["events"][0]["body"] == body));
        assert!(kept(&database).await.is_empty());
    }

    async fn a_full_archive_prunes_nothing(store: Store) {
        let database = store.open().await;
        let ours = store_of(&database);
        let id = ended(&ours, 1).await;
        let faults = DiskFaults::new();
        let disk = FaultyDisk::new(SimMachine::new().add_disk(1 << 24), faults.clone());
        let archive: Arc<dyn Storage> = Arc::new(disk);
        faults.full();
        database.archive_and_prune_sagas(&archive, from_now_on(), u64::MAX).await.unwrap_err();
        assert_eq!(kept(&database).await, [id]);
        faults.heal();
        database.archive_and_prune_sagas(&archive, from_now_on(), u64::MAX).await.unwrap();
        assert!(kept(&database).await.is_empty() && archived(archive.as_ref()).contains_key(&id));
    }
}
