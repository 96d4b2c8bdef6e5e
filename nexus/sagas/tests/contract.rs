//! The store in memory is a store.

use nexus_sagas::{contract::keeps_the_contract, testing::Disk};

#[tokio::test]
async fn the_store_in_memory_keeps_the_contract() {
    let disk = Disk::new();
    let store = disk.store();
    keeps_the_contract(store.as_ref(), async |id| disk.adopt(id).expect("the saga is there")).await;
}
