//! `nexus db check` names the rows of sagas that are not what they should be, and says what that means.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

#[macro_use]
mod store;
mod sagas_made;

use jiff::Timestamp;
use nexus_database::{Database, check, during, sql::sql};
use nexus_saga_recovery::SagaKey;
use nexus_sagas::{Attention, EndState, Mark, NodeEvent, SagaStore, Written};
use sagas_made::{created, end, failure, line, store_of, write_line};
use serde_json::json;
use store::Store;

async fn spoil(database: &Database, words: &str, key: SagaKey) {
    // The words of a test are no input.
    let words: &'static str = words.replace("$1", &format!("'{}'", key.id)).leak();
    let done = database.write("spoil a row", |mut tx| {
        Box::pin(async move { sql(words).execute(&mut *tx).await.map_err(during("spoil a row")) })
    });
    assert!(done.await.unwrap() > 0, "{words}");
}

async fn found(store: &Store) -> Vec<String> {
    check(&store.location).await.unwrap().findings.iter().map(ToString::to_string).collect()
}

on_both! {
    async fn what_the_program_writes_is_as_it_should_be(store: Store) {
        let database = store.open().await;
        let ours = store_of(&database);
        know(&database).await;
        for number in 0..3_u32 {
            let key = created(&ours, "whole").await;
            for node in 0..3 {
                write_line(&ours, key, node, "started").await;
                write_line(&ours, key, node, "succeeded").await;
            }
            let _ = ours.mark(key, &Mark::CancelRequested).await.unwrap();
            ours.put_signal(key.id, "go", &json!(null)).await.unwrap();
            ours.timer(key.id, "nap", Timestamp::UNIX_EPOCH).await.unwrap();
            let attention = Attention { failure: failure(), since: Timestamp::UNIX_EPOCH };
            let _ = ours.set_attention(key, Some(&attention)).await.unwrap();
            match number {
                0 => end(&ours, key, &EndState::Succeeded { output: json!(1) }).await,
                1 => {
                    for node in 0..3 {
                        write_line(&ours, key, node, "undo_started").await;
                        write_line(&ours, key, node, "undo_finished").await;
                    }
                    end(&ours, key, &EndState::Failed { failure: failure() }).await;
                }
                _ => {}
            }
        }
        own(&database).await;
        assert_eq!(found(&store).await, Vec::<String>::new());
        // More than are in memory at once.
        let many = created(&ours, "many").await;
        let lines: Vec<NodeEvent> = (0..2_500).map(|node| line(node, "started")).collect();
        for some in lines.chunks(500) {
            assert_eq!(ours.append(many, some).await, Ok(Written::Now));
        }
        own(&database).await;
        assert_eq!(found(&store).await, Vec::<String>::new());
        spoil(&database, "UPDATE saga_event SET body = '' WHERE node = 2499 AND saga_id = $1", many).await;
        let found = found(&store).await;
        assert!(found.len() == 1 && found[0].contains(" 2499 started: "), "{found:?}");
    }

    async fn each_rule_names_table_and_row_and_says_what_it_means(store: Store) {
        let database = store.open().await;
        let ours = store_of(&database);
        know(&database).await;
        for (words, state, expected) in [
            ("UPDATE saga SET created_at = 'yesterday' WHERE id = $1", "", "saga, row ID: \"yesterday\" is no created_at; "),
            ("UPDATE saga SET owner = 'nobody' WHERE id = $1", "", "saga, row ID: \"nobody\" is no owner; no coordinator finds it"),
            ("UPDATE saga SET owner = '00000000-0000-0000-0000-000000000009' WHERE id = $1", "",
             "saga, row ID 00000000-0000-0000-0000-000000000009: is of a coordinator that is not there"),
            ("UPDATE saga SET adoption_epoch = 9223372036854775807 WHERE id = $1", "",
             "saga, row ID: \"9223372036854775807\" is no adoption_epoch; nobody can adopt it"),
            ("UPDATE saga SET version = 0 WHERE id = $1", "", "saga, row ID: \"0\" is no version; "),
            ("UPDATE saga SET attention = '{}' WHERE id = $1", "", "saga, row ID: \"{}\" is no attention; "),
            ("UPDATE saga SET attention = '{}' WHERE id = $1", "succeeded", "saga, row ID: has ended, and is said to wait"),
            ("UPDATE saga SET outcome = NULL WHERE id = $1", "failed", "saga, row ID: has ended, and does not say how"),
            ("UPDATE saga SET ended_at = 'then' WHERE id = $1", "failed", "saga, row ID: \"then\" is no ended_at; it is not archived"),
            ("DELETE FROM saga_definition WHERE saga_id = $1", "", "saga, row ID: has no definition"),
            ("UPDATE saga_definition SET params = '{' WHERE saga_id = $1", "", "saga_definition, row ID: \"{\" is no params; "),
            ("UPDATE saga_definition SET dag = '{' WHERE saga_id = $1", "succeeded", "saga_definition, row ID: \"{\" is no dag; "),
            ("UPDATE saga_definition SET digest = 'x' WHERE saga_id = $1", "", "saga_definition, row ID: \"x\" is no digest; "),
            ("UPDATE saga_event SET body = 'no JSON' WHERE node = 0 AND event = 'started' AND saga_id = $1", "succeeded",
             "saga_event, row ID 0 started: \"no JSON\" is no body; "),
            ("UPDATE saga_event SET event = 'begun' WHERE node = 0 AND event = 'started' AND saga_id = $1", "",
             "saga_event, row ID 0 begun: \"begun\" is no event; "),
            ("UPDATE saga_event SET adoption_epoch = 9 WHERE node = 0 AND event = 'started' AND saga_id = $1", "",
             "saga_event, row ID 0 started: was written under an adoption that has not been yet"),
            ("DELETE FROM saga_event WHERE node = 1 AND event = 'succeeded' AND saga_id = $1", "succeeded",
             "saga_event, row ID 1 started: was begun and has no end"),
            ("DELETE FROM saga_event WHERE event LIKE 'undo%' AND saga_id = $1", "failed",
             "saga_event, row ID 0 succeeded: is of a node whose effect may still be there"),
            ("UPDATE saga SET state = 'succeeded' WHERE id = $1", "failed",
             "saga_event, row ID 0 undo_finished: is of a node that failed or was undone, and its saga has succeeded"),
            ("UPDATE saga_mark SET mark = '{\"mark\":\"of_a_newer_program\"}' WHERE saga_id = $1", "",
             "saga_mark, row ID DIGEST: \"{\\\"mark\\\":\\\"of_a_newer_program\\\"}\" is no mark; "),
            ("UPDATE saga_mark SET digest = 'other' WHERE saga_id = $1", "", "saga_mark, row ID other: its digest is not that of its mark"),
            ("UPDATE saga_signal SET value = '' WHERE saga_id = $1", "", "saga_signal, row ID go: \"\" is no value; who waits for it waits"),
            ("UPDATE saga_timer SET due = 'soon' WHERE saga_id = $1", "", "saga_timer, row ID nap: \"soon\" is no due; who waits for it waits"),
            ("UPDATE saga_mark SET adoption_epoch = 9 WHERE saga_id = $1", "",
             "saga_mark, row ID {\"mark\":\"cancel_requested\"}: was written under an adoption that has not been yet"),
            ("DELETE FROM saga WHERE id = $1", "", "saga_definition, row ID: is of no saga"),
            ("DELETE FROM saga WHERE id = $1", "", "saga_event, row ID 1 succeeded: is of no saga"),
            ("DELETE FROM saga WHERE id = $1", "", "saga_mark, row ID {\"mark\":\"cancel_requested\"}: is of no saga"),
            ("DELETE FROM saga WHERE id = $1", "", "saga_signal, row ID go: is of no saga"),
            ("DELETE FROM saga WHERE id = $1", "", "saga_timer, row ID nap: is of no saga"),
        ] {
            let key = created(&ours, "checked").await;
            for node in 0..2 {
                write_line(&ours, key, node, "started").await;
                write_line(&ours, key, node, "succeeded").await;
            }
            let _ = ours.mark(key, &Mark::CancelRequested).await.unwrap();
            ours.put_signal(key.id, "go", &json!(null)).await.unwrap();
            ours.timer(key.id, "nap", Timestamp::UNIX_EPOCH).await.unwrap();
            match state {
                "succeeded" => end(&ours, key, &EndState::Succeeded { output: json!(1) }).await,
                "failed" => {
                    for node in 0..2 {
                        write_line(&ours, key, node, "undo_started").await;
                        write_line(&ours, key, node, "undo_finished").await;
                    }
                    end(&ours, key, &EndState::Failed { failure: failure() }).await;
                }
                _ => {}
            }
            own(&database).await;
            assert_eq!(found(&store).await, Vec::<String>::new(), "before {words}");
            spoil(&database, words, key).await;
            let found = found(&store).await;
            let expected = expected.replace("ID", &key.id.to_string());
            let is_it = |found: &&String| match expected.split_once("DIGEST") {
                Some((before, after)) => found.starts_with(before) && found.contains(after),
                None => found.starts_with(&expected),
            };
            assert!(found.iter().any(|found| is_it(&found)), "{words}: {expected}: {found:#?}");
            forget(&database).await;
        }
    }
}

async fn write(database: &Database, words: &'static str) {
    let done = database.write("change rows", |mut tx| {
        Box::pin(async move { sql(words).execute(&mut *tx).await.map_err(during("change rows")) })
    });
    done.await.unwrap();
}

/// A coordinator that is there.
async fn know(database: &Database) {
    database
        .coordinator_start("00000000-0000-0000-0000-00000000000a".parse().unwrap(), "nexus-1", "0")
        .await
        .unwrap();
}

/// Its sagas.
async fn own(database: &Database) {
    write(database, "UPDATE saga SET owner = '00000000-0000-0000-0000-00000000000a'").await;
}

async fn forget(database: &Database) {
    for table in ["saga", "saga_definition", "saga_event", "saga_mark", "saga_signal", "saga_timer"] {
        write(database, format!("DELETE FROM {table}").leak()).await;
    }
}
