//! On which database the coordinators of a test keep their state. Owns the choice; a scene asks for it when it starts.

use std::cell::RefCell;
use test_postgres::TestDatabase;
use testbed::ClusterBuilder;

thread_local! {
    /// The database of the scenes that this thread starts, instead of SQLite. A test starts its scenes on its own thread.
    static DATABASE: RefCell<Option<TestDatabase>> = const { RefCell::new(None) };
}

/// Runs a test, as it is, on PostgreSQL.
pub(crate) fn on_postgres(test: fn()) {
    let database = test_postgres::fresh_database().expect("PostgreSQL starts");
    if database.is_none() {
        eprintln!("left out: there is no PostgreSQL on this machine");
        return;
    }
    DATABASE.set(database);
    test();
    let database = DATABASE.take();
    assert!(database.is_some(), "the scene was started on another thread, and so on SQLite");
}

/// A cluster on the database that was chosen for this thread.
pub(crate) fn on_chosen_database(builder: ClusterBuilder) -> ClusterBuilder {
    DATABASE.with_borrow(|database| match database {
        Some(database) => builder.external_database(&database.url, &database.password_file),
        None => builder,
    })
}
