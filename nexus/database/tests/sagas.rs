//! The store of sagas keeps the port's contract, whichever database is below, also when answers are lost.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

#[macro_use]
mod store;
mod sagas_made;

use futures::FutureExt;
use ids::{AdoptionEpoch, CoordinatorId, SagaId};
use nexus_database::DatabaseSagaStore;
use nexus_saga_recovery::SagaKey;
use nexus_sagas::{Created, EndState, SagaStore, StoreFault, Written, contract::keeps_the_contract};
use sagas_made::{adopt, created, line, store_of};
use serde_json::json;
use std::sync::Arc;
use store::Store;
use tokio::task::JoinSet;

fn first(id: SagaId) -> SagaKey {
    SagaKey { id, epoch: AdoptionEpoch::default() }
}

on_both! {
    async fn the_store_keeps_the_contract(store: Store) {
        let database = store.open().await;
        let (ours, other) = (store_of(&database), store_of(&database));
        keeps_the_contract(&ours, async |id| {
            let epoch = adopt(&other, first(id)).await.expect("it is adopted");
            assert!(ours.unfinished().await.unwrap().is_empty(), "it is another one's now");
            assert_eq!(adopt(&ours, first(id)).await, None, "once");
            SagaKey { id, epoch }
        })
        .await;
    }

    async fn a_batch_tells_each_caller_of_its_own_event(store: Store) {
        let database = store.open().await;
        let ours = Arc::new(store_of(&database));
        let (fresh, repeated, fenced) =
            (created(&ours, "a").await, created(&ours, "b").await, created(&ours, "c").await);
        assert_eq!(ours.append(repeated, &[line(1, "started")]).await, Ok(Written::Now));
        adopt(&store_of(&database), fenced).await.unwrap();
        let unknown = SagaKey { id: SagaId::generate(), ..fresh };
        let mut tasks = JoinSet::new();
        for round in 0..40 {
            for (key, node, expected) in [
                (fresh, round, Written::Now),
                (repeated, 1, Written::Already),
                (fenced, round, Written::Fenced),
                (unknown, round, Written::Fenced),
            ] {
                let ours = Arc::clone(&ours);
                tasks.spawn(async move {
                    assert_eq!(ours.append(key, &[line(node, "started")]).await, Ok(expected), "{node}");
                });
            }
        }
        tasks.join_all().await;
        let loaded = ours.load(&[fresh.id, repeated.id, fenced.id, unknown.id]).await.unwrap();
        let counts: Vec<(String, usize)> =
            loaded.into_iter().map(|saga| (saga.row.kind, saga.events.len())).collect();
        assert_eq!(counts, [("a".to_owned(), 40), ("b".to_owned(), 1), ("c".to_owned(), 0)]);
    }

    async fn the_same_event_twice_in_one_batch_is_there_once(store: Store) {
        let database = store.open().await;
        let ours = Arc::new(store_of(&database));
        let key = created(&ours, "a").await;
        let mut tasks = JoinSet::new();
        for _ in 0..20 {
            for node in 0..10 {
                let ours = Arc::clone(&ours);
                tasks.spawn(async move { (node, ours.append(key, &[line(node, "started")]).await.unwrap()) });
            }
        }
        let answers = tasks.join_all().await;
        for node in 0..10 {
            let now = answers.iter().filter(|answer| **answer == (node, Written::Now)).count();
            let already = answers.iter().filter(|answer| **answer == (node, Written::Already)).count();
            assert_eq!((now, already), (1, 19));
        }
        assert_eq!(ours.load(&[key.id]).await.unwrap()[0].events.len(), 10);
    }

    async fn what_a_saga_does_not_exist_for_is_not_kept(store: Store) {
        let database = store.open().await;
        let ours = store_of(&database);
        let nobody = SagaId::generate();
        assert!(ours.put_signal(nobody, "go", &json!(1)).await.is_err());
        assert!(ours.timer(nobody, "nap", jiff::Timestamp::UNIX_EPOCH).await.is_err());
        assert_eq!(ours.signal(nobody, "go").await, Ok(None));
        let end = EndState::Succeeded { output: json!(null) };
        assert_eq!(ours.end(SagaKey { id: nobody, epoch: AdoptionEpoch(0) }, &end, &[]).await, Ok(Written::Fenced));
    }

    async fn thousands_are_loaded_each_with_its_own_log(store: Store) {
        let database = store.open().await;
        let ours = Arc::new(store_of(&database));
        let mut tasks = JoinSet::new();
        for number in 0..1_200_u32 {
            let ours = Arc::clone(&ours);
            tasks.spawn(async move {
                let key = created(&ours, &number.to_string()).await;
                for node in 0..number % 4 {
                    assert_eq!(ours.append(key, &[line(node, "started")]).await, Ok(Written::Now));
                }
                key.id
            });
        }
        let ids = tasks.join_all().await;
        let loaded = ours.load(&ids).await.unwrap();
        assert_eq!(loaded.len(), ids.len());
        for saga in loaded {
            let number: u32 = saga.row.kind.parse().unwrap();
            assert_eq!(saga.events.len() as u32, number % 4);
        }
        assert_eq!(ours.unfinished().await.unwrap().len(), ids.len());
        assert!(store_of(&database).unfinished().await.unwrap().is_empty());
    }

    async fn of_many_who_adopt_one_does(store: Store) {
        let database = store.open().await;
        let ours = store_of(&database);
        let key = created(&ours, "wanted").await;
        let mut tasks = JoinSet::new();
        for _ in 0..16 {
            let other = store_of(&database);
            tasks.spawn(async move { (adopt(&other, key).await, other) });
        }
        let mut adopted = tasks.join_all().await;
        adopted.retain(|(epoch, _)| epoch.is_some());
        assert_eq!(adopted.len(), 1);
        assert_eq!(adopted[0].0, Some(AdoptionEpoch(1)));
        assert_eq!(adopted[0].1.unfinished().await.unwrap().len(), 1);
        sagas_made::end(&adopted[0].1, SagaKey { epoch: AdoptionEpoch(1), ..key }, &EndState::Succeeded { output: json!(0) })
            .await;
        assert_eq!(adopt(&ours, SagaKey { epoch: AdoptionEpoch(1), ..key }).await, None, "what has ended is not adopted");
    }

    async fn hundreds_are_adopted_together_and_only_those_that_are_as_they_were_listed(store: Store) {
        let database = store.open().await;
        let (ours, other) = (store_of(&database), store_of(&database));
        let mut listed = Vec::new();
        for number in 0..300 {
            listed.push(created(&ours, &format!("kind {number}")).await);
        }
        let (ended, taken) = (listed[7], listed[299]);
        sagas_made::end(&ours, ended, &EndState::Succeeded { output: json!(0) }).await;
        assert_eq!(adopt(&other, taken).await, Some(AdoptionEpoch(1)));
        listed.push(first(SagaId::generate()));
        let adopted = ours.adopt(&listed).await.unwrap();
        assert_eq!(adopted.len(), 298);
        assert!(adopted.iter().all(|key| key.epoch == AdoptionEpoch(1) && ![ended.id, taken.id].contains(&key.id)));
        assert_eq!(ours.append(listed[0], &[line(1, "started")]).await, Ok(Written::Fenced), "of the life before");
        assert_eq!(ours.append(adopted[0], &[line(1, "started")]).await, Ok(Written::Now));
        assert_eq!(ours.adopt(&[]).await, Ok(Vec::new()));
    }

    async fn once_a_coordinator_has_started_again_its_earlier_life_takes_nothing_more(store: Store) {
        let database = store.open().await;
        let id = CoordinatorId::generate();
        let start = async || {
            let epoch = database.coordinator_start(id, "twice", "0").await.unwrap().epoch;
            DatabaseSagaStore::new(database.clone(), id, epoch)
        };
        let earlier = start().await;
        let (left, running) = (created(&earlier, "left").await, created(&earlier, "running").await);
        assert!(earlier.superseded().now_or_never().is_none());
        let later = start().await;
        let late = sagas_made::new_saga("late", jiff::Timestamp::UNIX_EPOCH);
        assert_eq!(earlier.create(&late).await, Err(StoreFault::Superseded));
        assert_eq!(earlier.adopt(&[left]).await, Err(StoreFault::Superseded));
        assert_eq!(earlier.unfinished().await, Err(StoreFault::Superseded));
        earlier.superseded().await;
        // What it executes, it executes on until somebody has taken it.
        assert_eq!(earlier.append(running, &[line(1, "started")]).await, Ok(Written::Now));
        assert_eq!(later.unfinished().await.unwrap().len(), 2);
        assert_eq!(later.adopt(&[left, running]).await.unwrap().len(), 2);
        assert_eq!(earlier.append(running, &[line(2, "started")]).await, Ok(Written::Fenced));
        assert_eq!(later.create(&late).await, Ok(Created::Ours));
        assert!(later.superseded().now_or_never().is_none());
    }

    async fn coordinators_start_under_epochs_that_nobody_had_before(store: Store) {
        let database = store.open().await;
        let (one, other) = (CoordinatorId::generate(), CoordinatorId::generate());
        let mut epochs = Vec::new();
        for id in [one, other, other, one] {
            epochs.push(database.coordinator_start(id, "any", "0").await.unwrap().epoch);
        }
        assert_eq!(epochs, [1, 2, 3, 4]);
    }

    async fn an_adopter_finds_all_that_was_acknowledged_and_nothing_comes_later(store: Store) {
        let database = store.open().await;
        let mut tasks = JoinSet::new();
        for number in 0..30_u32 {
            let (old, new) = (store_of(&database), store_of(&database));
            tasks.spawn(async move {
                let key = created(&old, "taken over").await;
                let (written, mut is_written) = tokio::sync::watch::channel(0);
                let writer = tokio::spawn(async move {
                    let mut node = 0;
                    loop {
                        match old.append(key, &[line(node, "started")]).await.unwrap() {
                            Written::Now => node += 1,
                            Written::Fenced => return node,
                            other => panic!("each is written once: {other:?}"),
                        }
                        written.send_replace(node);
                    }
                });
                is_written.wait_for(|written| *written >= number % 7).await.unwrap();
                adopt(&new, key).await.unwrap();
                let found = new.load(&[key.id]).await.unwrap()[0].events.len();
                let acknowledged = writer.await.unwrap();
                let later = new.load(&[key.id]).await.unwrap()[0].events.len();
                assert_eq!((found, later), (acknowledged as usize, acknowledged as usize));
            });
        }
        tasks.join_all().await;
    }
}
