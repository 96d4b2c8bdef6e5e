//! Connections to PostgreSQL: a pool that neither trusts silence nor waits for it.
//!
//! ```text
//!   acquire ──► idle for long? ── yes ──► ping, within a limit ──┐
//!      │                └─ no ───────────────────────────────────┼──► asked … answered ──► given back: ping, within a limit
//!      └─ opened before the last loss? ──► closed, another one   │        │
//!                                                                └────────┴─ lost, silent, or its caller went away while
//!                                                                            it was asked ──► dropped without a word
//! ```
//!
//! A connection is not asked whether it lives before each use: that would cost every call a round trip. Instead, the first
//! one that is found dead or silent condemns all that were opened before it, and whoever found it tries again on one that
//! is new ([`crate::write`] and reads that stand alone do, where nothing can have been done).
//!
//! "Without a word" is the point: an orderly goodbye waits for the other side. The server sees the end of the connection,
//! and rolls back. [`crate::limits`] has every limit of time.

use crate::{
    dialect,
    limits::{CONNECT_LIMIT, PING_LIMIT, TRUSTED_IDLE},
};
use sqlx::{
    Connection, PgConnection, Postgres,
    pool::PoolConnection,
    postgres::{PgConnectOptions, PgPool, PgPoolOptions},
};
use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::{runtime::Handle, time::timeout};

/// Connections of one coordinator, whose server's default is 100 in all: room for several coordinators.
const CONNECTIONS_MAX: u32 = 16;

/// What each session says first.
const SESSION: &[&str] = &[
    // What is acknowledged must be durable. A server that waits for more than its own disk keeps doing so.
    "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'",
    // Every statement of ours has its index. A planner that believes a table to be small reads all of it; then it locks all
    // of it against serialisable writes, and goes on so when the table has grown. What is no transaction of its own by words
    // locks what it relies on. The rest are limits of time: which one guards what is told where they are named.
    "SELECT set_config('enable_seqscan', 'off', false), set_config('enable_bitmapscan', 'off', false),
            set_config('jit', 'off', false),
            set_config('default_transaction_isolation', 'read committed', false),
            set_config('lock_timeout', '2s', false),
            set_config('idle_in_transaction_session_timeout', '10s', false),
            set_config('tcp_keepalives_idle', '10', false), set_config('tcp_keepalives_interval', '5', false),
            set_config('tcp_keepalives_count', '3', false), set_config('tcp_user_timeout', '15000', false)",
    // Servers before version 14 have no such setting, and those of some systems refuse it.
    "SELECT set_config(name, '2s', false) FROM pg_settings
     WHERE name = 'client_connection_check_interval' AND current_setting('server_version_num')::integer >= 140000",
];

/// The pool of a server. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Server {
    pool: PgPool,
    losses: Losses,
    /// How long it may take to answer one statement.
    answer_limit: Duration,
}

/// When a connection was found dead or silent last.
#[derive(Clone, Debug, Default)]
struct Losses(Arc<Mutex<Option<Instant>>>);

impl Losses {
    fn note(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Whether a connection that was there at this time is to be used no more.
    fn condemn(&self, there_at: Instant) -> bool {
        let last = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.is_some_and(|last| there_at <= last)
    }
}

impl Server {
    /// A pool, and the proof that the server answers.
    pub(crate) async fn connect(
        options: PgConnectOptions,
        answer_limit: Duration,
    ) -> Result<Server, sqlx::Error> {
        // A pool would try until its limit and then say only that time is up.
        let proof = async { PgConnection::connect_with(&options).await?.close().await };
        within(CONNECT_LIMIT, proof).await?;
        let losses = Losses::default();
        let known = losses.clone();
        let pool = PgPoolOptions::new()
            .max_connections(CONNECTIONS_MAX)
            .acquire_timeout(CONNECT_LIMIT)
            .test_before_acquire(false)
            .before_acquire(move |connection, metadata| {
                let opened = Instant::now().checked_sub(metadata.age);
                let is_condemned = opened.is_some_and(|opened| known.condemn(opened));
                Box::pin(async move {
                    if !is_condemned && metadata.idle_for > TRUSTED_IDLE {
                        within(PING_LIMIT, connection.ping()).await?;
                    }
                    Ok(!is_condemned)
                })
            })
            .after_connect(|connection, _| {
                Box::pin(async move {
                    for words in SESSION.iter().copied() {
                        sqlx::query(words).execute(&mut *connection).await?;
                    }
                    Ok(())
                })
            })
            .connect_lazy_with(options);
        Ok(Server { pool, losses, answer_limit })
    }

    pub(crate) async fn acquire(&self) -> Result<ServerConnection, sqlx::Error> {
        let link = Some(self.pool.acquire().await?);
        let (losses, answer_limit, now) = (self.losses.clone(), self.answer_limit, Instant::now());
        Ok(ServerConnection { link, is_in_doubt: false, losses, answer_limit, taken: now, heard: now })
    }

    /// Which server and database, for words.
    pub(crate) fn database(&self) -> String {
        let options = self.pool.connect_options();
        let database = options.get_database().unwrap_or_else(|| options.get_username());
        format!("{database} on {}:{}", options.get_host(), options.get_port())
    }

    pub(crate) async fn close(&self) {
        self.pool.close().await;
    }
}

/// A connection. Dropped, it goes back to the pool; while it is asked something or once it is lost, it is closed.
#[derive(Debug)]
pub(crate) struct ServerConnection {
    /// None once it is gone.
    link: Option<PoolConnection<Postgres>>,
    /// It is asked something, or it was and did not answer.
    is_in_doubt: bool,
    losses: Losses,
    pub(crate) answer_limit: Duration,
    /// When it was taken from the pool.
    taken: Instant,
    /// When it was heard of last.
    heard: Instant,
}

impl ServerConnection {
    /// Whether whoever has kept it may use it without asking whether it lives: what the pool asks before it gives one out.
    pub(crate) fn is_trusted(&self) -> bool {
        !self.is_in_doubt && self.heard.elapsed() <= TRUSTED_IDLE && !self.losses.condemn(self.taken)
    }

    /// The connection, to be asked something; [`heard`](Self::heard) is told what came of it. If it never is, because its
    /// caller has gone away, the connection is of no further use.
    pub(crate) fn ask(&mut self) -> Result<&mut PgConnection, sqlx::Error> {
        let given_up = || io::Error::new(io::ErrorKind::NotConnected, "the connection was given up");
        let link = self.link.as_mut().filter(|_| !self.is_in_doubt).ok_or_else(given_up)?;
        self.is_in_doubt = true;
        Ok(link)
    }

    pub(crate) fn heard<T>(&mut self, answer: Result<T, sqlx::Error>) -> Result<T, sqlx::Error> {
        self.is_in_doubt = answer.as_ref().is_err_and(dialect::is_connection_lost);
        if self.is_in_doubt {
            self.losses.note();
        } else {
            self.heard = Instant::now();
        }
        answer
    }

    /// Closes it without a word.
    pub(crate) fn abandon(mut self) {
        self.is_in_doubt = true;
    }
}

impl Drop for ServerConnection {
    fn drop(&mut self) {
        let Some(mut link) = self.link.take() else { return };
        if self.is_in_doubt {
            return drop(link.detach());
        }
        match Handle::try_current() {
            // The driver asks it once more whether it lives. What does not answer is closed, and its place is free.
            Ok(runtime) => drop(runtime.spawn(timeout(PING_LIMIT, link.return_to_pool()))),
            Err(_) => drop(link.detach()),
        }
    }
}

/// What does not come within the limit is lost.
pub(crate) async fn within<T>(
    limit: Duration,
    answer: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    timeout(limit, answer).await.unwrap_or_else(|_| Err(silence(limit)))
}

/// The error of whatever did not answer in time.
pub(crate) fn silence(limit: Duration) -> sqlx::Error {
    let words = format!("no answer within {} s", limit.as_secs_f64());
    io::Error::new(io::ErrorKind::TimedOut, words).into()
}
