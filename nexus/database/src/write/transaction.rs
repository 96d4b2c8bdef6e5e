//! A transaction that is never left half open.
//!
//! ```text
//!   BEGIN ──► work ──► COMMIT ──► the connection may be used again
//!     │         │         │
//!     └─ failed ┴─────────┴──► ROLLBACK ──┬─► no transaction is open: it may be used again
//!                                         └─► in doubt: it is closed, and the pool opens another
//!              dropped anywhere (the caller went away) ─► in doubt
//! ```
//!
//! A full or failing disk makes SQLite end a transaction by itself, in the middle of a statement. Whoever counts
//! transactions beside SQLite then counts wrongly from that moment on, and refuses every later write. So nobody counts
//! here: the database is told in words, and what it answers to `ROLLBACK` decides whether the connection is used again.

use crate::{SqlError, dialect, limits::CALL_LIMIT, sql::Connection};

pub(crate) use crate::dialect::Purpose;

/// A connection on which a transaction may be open. Dropped before it was ended, it is closed.
#[derive(Debug)]
pub(crate) struct Transaction {
    /// None while it is lent, and once it was given back.
    connection: Option<Connection>,
}

impl Transaction {
    pub(crate) async fn begin(connection: Connection, purpose: Purpose) -> Result<Transaction, SqlError> {
        let words = dialect::begin(connection.is_postgres(), purpose);
        let mut transaction = Transaction { connection: Some(connection) };
        match transaction.connection().say(words).await {
            Ok(()) => Ok(transaction),
            Err(error) => {
                transaction.roll_back().await;
                Err(error)
            }
        }
    }

    pub(crate) fn connection(&mut self) -> &mut Connection {
        self.connection.as_mut().expect("nobody asks for the connection while it is lent")
    }

    /// Lends the connection; until it is [taken back](Self::take_back), nothing can be done.
    pub(super) fn lend(&mut self) -> Connection {
        self.connection.take().expect("the connection is lent once at a time")
    }

    pub(super) fn take_back(&mut self, connection: Connection) {
        self.connection = Some(connection);
    }

    /// Commits. The connection can be used again.
    pub(crate) async fn commit(mut self) -> Result<Connection, SqlError> {
        // Not the limit of a statement: whoever gives up waiting for this answer does not know what it is.
        match self.connection().say_within(CALL_LIMIT, "COMMIT").await {
            Ok(()) => Ok(self.lend()),
            Err(error) => {
                self.roll_back().await;
                Err(error)
            }
        }
    }

    /// Rolls back. The connection, if it can be used again.
    pub(crate) async fn roll_back(mut self) -> Option<Connection> {
        let connection = self.connection.as_mut()?;
        connection.take_failure();
        // SQLite refuses ROLLBACK when it has ended the transaction by itself. Then the next one can begin.
        let is_idle = connection.say("ROLLBACK").await.is_ok()
            || (connection.say("BEGIN").await.is_ok() && connection.say("ROLLBACK").await.is_ok());
        if is_idle { self.connection.take() } else { None }
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            tracing::warn!("a connection to the database whose state is in doubt is closed");
            connection.abandon();
        }
    }
}
