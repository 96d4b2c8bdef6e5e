//! What the database promises about sleds.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

#[macro_use]
mod store;

use ids::{AgentEpoch, SledId};
use nexus_database::{
    Location, during,
    sleds::{Policy, RegisterOutcome, Registration, SledAddress},
    sql::sql,
};
use store::Store;

fn registration(id: SledId, epoch: u64, host: u8) -> Registration {
    Registration {
        id,
        name: "sled-a".to_owned(),
        agent_epoch: AgentEpoch(epoch),
        address: SledAddress {
            agent_url: format!("http://127.0.1.{host}:12345"),
            depot_url: format!("http://127.0.1.{host}:12348"),
        },
    }
}

on_both! {
    async fn a_heartbeat_changes_nothing_and_a_new_life_changes_the_row(store: Store) {
        let database = store.open().await;
        let id = SledId::generate();
        assert!(matches!(
            database.sled_register(&registration(id, 1, 1)).await.unwrap(),
            RegisterOutcome::Changed(_)
        ));
        assert!(matches!(
            database.sled_register(&registration(id, 1, 1)).await.unwrap(),
            RegisterOutcome::Unchanged(_)
        ));
        let RegisterOutcome::Changed(row) = database.sled_register(&registration(id, 2, 7)).await.unwrap() else {
            panic!("a new life at a new address was not written");
        };
        assert_eq!(row.address.unwrap().agent_url, "http://127.0.1.7:12345");
    }
}

on_both! {
    async fn an_earlier_life_and_a_cloned_state_directory_are_refused(store: Store) {
        let database = store.open().await;
        let id = SledId::generate();
        database.sled_register(&registration(id, 5, 1)).await.unwrap();
        assert_eq!(
            database.sled_register(&registration(id, 4, 1)).await.unwrap(),
            RegisterOutcome::StaleEpoch { current: AgentEpoch(5) }
        );
        assert_eq!(
            database.sled_register(&registration(id, 5, 2)).await.unwrap(),
            RegisterOutcome::Cloned { agent_url: "http://127.0.1.1:12345".to_owned() }
        );
    }
}

on_both! {
    async fn a_rebuilt_host_takes_the_address_from_the_sled_that_it_was(store: Store) {
        let database = store.open().await;
        let (old, new) = (SledId::generate(), SledId::generate());
        database.sled_register(&registration(old, 1, 1)).await.unwrap();
        database.sled_register(&registration(new, 1, 1)).await.unwrap();
        assert_eq!(database.sled(old).await.unwrap().unwrap().address, None);
        assert!(database.sled(new).await.unwrap().unwrap().address.is_some());
        // The old one comes back elsewhere, in the same life: it may.
        assert!(matches!(
            database.sled_register(&registration(old, 1, 9)).await.unwrap(),
            RegisterOutcome::Changed(_)
        ));
    }
}

on_both! {
    async fn an_expunged_sled_stays_out(store: Store) {
        let database = store.open().await;
        let id = SledId::generate();
        database.sled_register(&registration(id, 1, 1)).await.unwrap();
        assert_eq!(
            database.sled_set_policy(id, Policy::Expunged).await.unwrap().unwrap().policy,
            Policy::Expunged
        );
        assert_eq!(database.sled_register(&registration(id, 2, 1)).await.unwrap(), RegisterOutcome::Expunged);
        assert!(database.sleds_in_service().await.unwrap().is_empty());
        assert_eq!(database.sleds(None, 10).await.unwrap().len(), 1);
        assert_eq!(database.sled_set_policy(id, Policy::InService).await.unwrap(), None, "it came back");
        assert_eq!(database.sled(id).await.unwrap().unwrap().policy, Policy::Expunged);
        assert_eq!(database.sled_set_policy(SledId::generate(), Policy::InService).await.unwrap(), None);
    }
}

on_both! {
    async fn a_value_that_cannot_be_read_is_told_with_its_database_table_row_and_what_to_do(store: Store) {
        let database = store.open().await;
        let id = SledId::generate();
        database.sled_register(&registration(id, 1, 1)).await.unwrap();
        let operation = "change what nobody may";
        let spoil = database.write(operation, |mut tx| {
            Box::pin(async move {
                sql("UPDATE sled SET created_at = 'noon'").execute(&mut *tx).await.map_err(during(operation))
            })
        });
        spoil.await.unwrap();
        let words = database.sled(id).await.unwrap_err().to_string();
        let named = match &store.location {
            Location::Sqlite(file) => file.to_string(),
            Location::Postgres(server) => {
                let (host, name) = server.url().rsplit_once('@').unwrap().1.split_once('/').unwrap();
                format!("{name} on {host}")
            }
        };
        assert_eq!(
            words,
            format!(
                "table sled of database {named} holds \"noon\" as created_at of row {id}, which is not one: \
                 `nexus db check` tells all that is wrong with it"
            )
        );
    }
}
