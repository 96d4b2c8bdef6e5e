//! On which database the coordinators of a test keep their state. Owns the choice; a scene asks for it when it starts.

use camino::Utf8PathBuf;
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

/// The URL of the database that was chosen for this thread, and the file of its password; none if it is SQLite.
pub(crate) fn chosen() -> Option<(String, Utf8PathBuf)> {
    DATABASE.with_borrow(|database| {
        let database = database.as_ref()?;
        Some((database.url.clone(), database.password_file.clone()))
    })
}

/// A cluster on it.
pub(crate) fn on_chosen_database(builder: ClusterBuilder) -> ClusterBuilder {
    match chosen() {
        Some((url, password_file)) => builder.external_database(&url, &password_file),
        None => builder,
    }
}
