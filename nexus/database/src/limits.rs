//! How long the database may say nothing, and which limit guards what.
//!
//! A database that neither answers nor breaks the connection (a stopped process, a network that swallows packets, a disk
//! whose fsync hangs) must cost its callers a bounded time and no more. Each call ends within [`Limits::call`]; what it
//! says then is the truth: *not done* where its COMMIT was never sent, *unknown* where it was, and for a read an error.
//!
//! | what hangs | SQLite | PostgreSQL |
//! |---|---|---|
//! | the whole call | [`Limits::call`] | [`Limits::call`] |
//! | waiting for a connection, or for the writer | [`Limits::call`]; a reader [`Limits::reader`] | [`CONNECT_LIMIT`] |
//! | one statement, or COMMIT | the call's | [`ANSWER_LIMIT`]; the connection is then dropped without a word |
//! | another process that holds the write lock | [`BUSY_LIMIT`] | – |
//! | a row that another transaction has locked | – | `lock_timeout`: less than [`ANSWER_LIMIT`], so that it is told from silence |
//! | a transaction whose client fell silent and which holds locks | – | `idle_in_transaction_session_timeout` |
//! | a client that is gone without a word (host, network) | – | the server's `tcp_keepalives_*` and `tcp_user_timeout`, which each session sets |
//! | a statement whose client was dropped | – | the server's `client_connection_check_interval` |
//! | a connection that died while nobody used it | – | asked after [`TRUSTED_IDLE`], within [`PING_LIMIT`] |
//! | giving a connection back | – | [`PING_LIMIT`] |
//!
//! There is no `statement_timeout`: it would count work as silence, and nothing of a statement is left once its client was
//! dropped. The driver lets nobody set the options of its own sockets; it needs none, because no call waits for them.
//!
//! # What may still happen after a call has given up
//!
//! - **PostgreSQL**: before its COMMIT was sent, nothing: the server rolls back what the dropped connection had. A COMMIT
//!   that was sent may take effect until the server has read the end of the connection. Until then its transaction *holds
//!   the locks of every row that it wrote or relied on*, so whoever asks again, or adopts the saga, waits for it (and hears
//!   "locked" after `lock_timeout`), and never gets past it.
//!   Rows that are appended by one statement ([`crate::write::lanes`]) may take effect later without having held a lock before,
//!   if the server had not even read it. It finds the rows of whoever asked again, or its fence moved, and undoes itself.
//! - **SQLite**: a statement that the disk holds up cannot be broken off, so the one writer goes on with what it has begun
//!   once the disk lets it. What is still queued is withdrawn by its caller going away: the writer leaves it out. Later
//!   calls queue behind, so none gets past it either. The queue is bounded, and while the writer is held up, what finds no
//!   place is refused at once.
//!
//! So in both, *no later write overtakes one in doubt*, or it makes it void. That is what makes asking again safe; the engine's
//! ports say what follows from it for sagas.

use std::time::Duration;

/// A call, from asking to its answer. Less than the 10 s within which the operator's API answers; far more than what a
/// disk or a server under load needs.
pub(crate) const CALL_LIMIT: Duration = Duration::from_secs(8);

/// How long a read of SQLite waits for one of its readers. They take milliseconds each.
pub(crate) const READER_LIMIT: Duration = Duration::from_secs(5);

/// How long a statement waits for another process (a backup, a second coordinator on this file) to let go. Less than a
/// call, so that its caller hears the reason.
pub(crate) const BUSY_LIMIT: Duration = Duration::from_secs(5);

/// How long one waits for a connection to PostgreSQL. A server that restarts is there again by then.
pub(crate) const CONNECT_LIMIT: Duration = Duration::from_secs(6);

/// How long PostgreSQL may take to answer one statement. Ours take milliseconds; two of them, on two connections, are
/// less than a call, so that one frozen connection is not yet a failure.
pub(crate) const ANSWER_LIMIT: Duration = Duration::from_secs(3);

/// How long PostgreSQL may take to answer nothing at all.
pub(crate) const PING_LIMIT: Duration = Duration::from_secs(2);

/// Idle for longer, a connection to PostgreSQL is asked before it is used: firewalls forget quiet connections.
pub(crate) const TRUSTED_IDLE: Duration = Duration::from_secs(30);

/// A write under way for longer is trouble that an operator is told of. In peace writes take milliseconds.
pub(crate) const SLOW_AFTER: Duration = Duration::from_secs(2);

/// The limits that tests shorten.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// See [`CALL_LIMIT`].
    pub(crate) call: Duration,
    /// See [`READER_LIMIT`].
    pub(crate) reader: Duration,
    /// See [`SLOW_AFTER`].
    pub(crate) slow_after: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { call: CALL_LIMIT, reader: READER_LIMIT, slow_after: SLOW_AFTER }
    }
}
