//! What an operator sees of sagas: pages without gaps or repetitions, one saga with all that belongs to it, counts.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

#[macro_use]
mod store;
mod sagas_made;

use jiff::Timestamp;
use nexus_database::{
    Database,
    sagas::{SagaCount, SagaFilter, SagaState, SagaSummary},
};
use nexus_sagas::{Attention, EndState, Mark, SagaStore};
use sagas_made::{created, end, failure, line, new_saga, store_of, write_line};
use serde_json::json;
use std::collections::BTreeMap;
use store::Store;

/// Every page, with so many in each.
async fn pages(database: &Database, filter: &SagaFilter, limit: u32) -> Vec<SagaSummary> {
    let mut all: Vec<SagaSummary> = Vec::new();
    loop {
        let page =
            database.sagas(filter, all.last().map(SagaSummary::position).as_ref(), limit).await.unwrap();
        assert!(page.len() <= limit as usize);
        if page.is_empty() {
            return all;
        }
        all.extend(page);
    }
}

on_both! {
    async fn pages_have_what_their_filter_says_newest_first(store: Store) {
        let database = store.open().await;
        let ours = store_of(&database);
        // Several of each time: only the id tells their order.
        for number in 0..60_i64 {
            let kind = if number % 2 == 0 { "even" } else { "odd" };
            let saga = new_saga(kind, Timestamp::from_second(number / 7).unwrap());
            ours.create(&saga).await.unwrap();
            match number % 5 {
                0 => end(&ours, saga.key, &EndState::Succeeded { output: json!(number) }).await,
                1 => end(&ours, saga.key, &EndState::Failed { failure: failure() }).await,
                2 => {
                    let attention = Attention { failure: failure(), since: Timestamp::UNIX_EPOCH };
                    let _ = ours.set_attention(saga.key, Some(&attention)).await.unwrap();
                }
                _ => {}
            }
        }
        let all = pages(&database, &SagaFilter::default(), 7).await;
        assert_eq!(all.len(), 60);
        assert!(all.windows(2).all(|pair| pair[0].position() > pair[1].position()), "newest first");
        let since = Timestamp::from_second(4).unwrap();
        for kind in [None, Some("even".to_owned()), Some("none".to_owned())] {
            for state in [None, Some(SagaState::Failed), Some(SagaState::Unfinished), Some(SagaState::Abandoned)] {
                for needs_attention in [false, true] {
                    for since in [None, Some(since)] {
                        let filter = SagaFilter { kind: kind.clone(), state, needs_attention, since };
                        let is_meant = |saga: &SagaSummary| {
                            kind.as_ref().is_none_or(|kind| saga.kind == *kind)
                                && state.is_none_or(|state| saga.state == state)
                                && (!needs_attention || saga.attention.is_some())
                                && since.is_none_or(|since| saga.created.is_some_and(|created| created >= since))
                        };
                        let expected: Vec<_> = all.iter().filter(|saga| is_meant(saga)).cloned().collect();
                        assert_eq!(pages(&database, &filter, 4).await, expected, "{filter:?}");
                    }
                }
            }
        }
        let failed = all.iter().find(|saga| saga.state == SagaState::Failed).unwrap();
        assert_eq!(failed.end_node.as_deref(), Some("inner/one"));
        assert_eq!(failed.end_error.as_deref(), Some("the sled is gone (lost)"));
        assert!(failed.ended.is_some());
    }

    async fn counts_are_exact_up_to_their_limit(store: Store) {
        let database = store.open().await;
        let ours = store_of(&database);
        for number in 0..12 {
            let key = created(&ours, "any").await;
            if number < 7 {
                end(&ours, key, &EndState::Succeeded { output: json!(null) }).await;
            }
        }
        let exact = |count| SagaCount { count, is_at_least: false };
        for (max, succeeded) in [(100, exact(7)), (7, exact(7)), (6, SagaCount { count: 6, is_at_least: true })] {
            let counts = database.saga_counts(max).await.unwrap();
            let expected = BTreeMap::from([
                (SagaState::Unfinished, exact(5)),
                (SagaState::Succeeded, succeeded),
                (SagaState::Failed, exact(0)),
                (SagaState::Abandoned, exact(0)),
            ]);
            assert_eq!((counts.states, counts.needs_attention), (expected, 0));
        }
    }

    async fn one_saga_is_shown_with_all_that_belongs_to_it(store: Store) {
        let database = store.open().await;
        let ours = store_of(&database);
        let key = created(&ours, "shown").await;
        created(&ours, "another").await;
        for node in 0..5 {
            write_line(&ours, key, node, "started").await;
            write_line(&ours, key, node, "succeeded").await;
        }
        let _ = ours.mark(key, &Mark::CancelRequested).await.unwrap();
        ours.put_signal(key.id, "go", &json!([1])).await.unwrap();
        ours.timer(key.id, "nap", Timestamp::from_second(9).unwrap()).await.unwrap();
        let failed = EndState::Failed { failure: failure() };
        end(&ours, key, &failed).await;

        let shown = database.saga(key.id).await.unwrap().unwrap();
        assert_eq!((shown.summary.key, shown.summary.state), (key, SagaState::Failed));
        assert_eq!((shown.params, shown.end, shown.events), (json!({"of": "shown"}), Some(failed), 10));
        assert_eq!(shown.marks, [Mark::CancelRequested]);
        assert_eq!(shown.signals, BTreeMap::from([("go".to_owned(), json!([1]))]));
        assert_eq!(shown.timers, BTreeMap::from([("nap".to_owned(), Timestamp::from_second(9).unwrap())]));
        assert_eq!(database.saga(ids::SagaId::generate()).await.unwrap(), None);

        let mut log = Vec::new();
        loop {
            let page = database.saga_events(key.id, log.len() as u64, 3).await.unwrap();
            log.extend(page.lines.into_iter().map(|event| event.event));
            if !page.more {
                break;
            }
        }
        let written: Vec<_> =
            (0..5).flat_map(|node| [line(node, "started"), line(node, "succeeded")]).collect();
        assert_eq!(log, written, "in the order of writing");
    }
}
