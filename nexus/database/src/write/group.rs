//! SQLite's writes: one task owns the one connection that writes, and writes that come together share a commit.
//!
//! A commit waits for the disk; what comes before it does not. So while one commit runs, writes queue up, and the next
//! transaction takes them all in, each in a savepoint of its own:
//!
//! ```text
//!   callers ──► queue ──► BEGIN IMMEDIATE
//!                           SAVEPOINT ─ the caller's work, on the caller's task ─┬ well ──► RELEASE
//!                           │   the connection is lent to it                     └ not ───► ROLLBACK TO: only its own
//!                           … once for each, until the queue is empty or the group is large enough
//!                         COMMIT ──► each caller hears what became of it
//! ```
//!
//! | what happens | then |
//! |---|---|
//! | a work fails, or its caller goes away | its savepoint is rolled back; the others do not notice |
//! | SQLite ends the transaction by itself, or COMMIT finds no room | nothing was committed: each of the group runs again, alone |
//! | the same to a write that is alone | the error |
//! | COMMIT fails otherwise | nobody knows: [`DatabaseError::CommitUnknown`] for each |
//! | the disk hangs: a caller gives up in the queue | it is left out: certainly not done |
//! | … after the writer has taken its work over | doubt; the writer goes on with it once the disk lets it |
//!
//! So no write fails for what another one of its group did, and none is told that it was written before it was.
//! Readers have connections of their own, and wait for nothing here.

use super::{
    End, Tx, Working, Writing,
    append::{self, Appended, Rows, Waiting},
    judge,
    transaction::{Purpose, Transaction},
};
use crate::{
    DatabaseError, ErrorClass, SqlError, dialect,
    error::during,
    sql::{Connection, Pool},
};
use std::{io, time::Duration};
use tokio::{
    sync::{
        mpsc::{self, error::TrySendError},
        oneshot,
    },
    time::Instant,
};

/// Writes that wait at most; more wait outside for a place, under the same limit of time, or are refused at once while the
/// writer is held up.
pub(super) const QUEUE_MAX: usize = 1_024;

/// Writes that share a commit at most: past some hundred, its cost is spread thin enough.
const GROUP_MAX: usize = 256;

/// How long a group takes in more before it commits: the first of it waits for the last.
const GROUP_LIMIT: Duration = Duration::from_millis(10);

/// The way to the task that writes.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    queue: mpsc::Sender<Job>,
}

/// What became of a write after its work.
#[derive(Clone, Debug)]
pub(super) enum Verdict {
    /// Of a write with a turn, always [`Appended::Now`].
    Committed(Appended),
    /// Nothing was committed.
    NotCommitted(SqlError),
    /// It may have been committed.
    Unknown(SqlError),
    /// It was refused for what it is; others have nothing to do with it.
    Refused(SqlError),
}

/// What the task is asked to do.
#[derive(Debug)]
enum Job {
    /// To lend the connection.
    Turn { is_alone: bool, lend: oneshot::Sender<Result<Turn, SqlError>> },
    /// To insert rows.
    Append(Rows),
    /// To end, once all that was asked before is done.
    Close(oneshot::Sender<()>),
}

impl Job {
    fn is_alone(&self) -> bool {
        match self {
            Job::Turn { is_alone, .. } => *is_alone,
            Job::Append(rows) => rows.is_alone,
            Job::Close(_) => true,
        }
    }

    /// Whether nobody waits for it any more. It has not begun, so it is as if it had never been asked for.
    fn is_withdrawn(&self) -> bool {
        match self {
            Job::Turn { lend, .. } => lend.is_closed(),
            Job::Append(rows) => rows.is_withdrawn(),
            Job::Close(_) => false,
        }
    }
}

/// What a caller wants done with its savepoint.
#[derive(Clone, Copy, Debug)]
enum Wish {
    Keep,
    Undo,
}

/// The connection, lent. Dropped, it goes back and its savepoint is undone.
#[derive(Debug)]
struct Turn {
    connection: Option<Connection>,
    back: Option<oneshot::Sender<(Connection, Wish)>>,
    verdict: oneshot::Receiver<Verdict>,
}

impl Turn {
    fn connection(&mut self) -> &mut Connection {
        self.connection.as_mut().expect("the connection goes back only at the end")
    }

    fn undo(mut self) {
        self.give_back(Wish::Undo);
    }

    async fn keep(mut self) -> Verdict {
        self.give_back(Wish::Keep);
        let verdict = (&mut self.verdict).await;
        verdict.unwrap_or_else(|_| Verdict::Unknown(sqlx::Error::PoolClosed.into()))
    }

    fn give_back(&mut self, wish: Wish) {
        let (Some(connection), Some(back)) = (self.connection.take(), self.back.take()) else { return };
        if let Err((connection, _)) = back.send((connection, wish)) {
            connection.abandon();
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.give_back(Wish::Undo);
    }
}

impl Group {
    /// Starts the task on a pool that has one connection.
    pub(crate) fn start(pool: Pool) -> Group {
        let (queue, jobs) = mpsc::channel(QUEUE_MAX);
        tokio::spawn(Task { pool, held: None, jobs, next: None }.run());
        Group { queue }
    }

    /// Ends the task once everything that was asked before is done.
    pub(crate) async fn close(&self) {
        let (ended, has_ended) = oneshot::channel();
        if self.queue.send(Job::Close(ended)).await.is_ok() {
            let _ = has_ended.await;
        }
    }

    pub(super) async fn write<'w, T>(
        &self,
        writing: &Writing<'_>,
        is_held_up: impl Fn() -> bool,
        work: impl for<'t> Fn(Tx<'t, 'w>) -> Working<'t, T>,
    ) -> Result<T, DatabaseError> {
        let &Writing { operation, end, in_doubt, .. } = writing;
        let mut is_alone = false;
        loop {
            let mut turn = self.turn(is_alone, &is_held_up).await.map_err(during(operation))?;
            let result = work(Tx::on(turn.connection())).await;
            let value = match (judge(turn.connection(), operation, result), end) {
                (Ok(value), End::Commit) => value,
                // What it wrote may have found no room only for what the others wrote.
                (Err(error), _) if error.class() == ErrorClass::Full && !is_alone => {
                    is_alone = true;
                    continue;
                }
                (result, _) => {
                    turn.undo();
                    return result;
                }
            };
            in_doubt.set(true);
            let verdict = turn.keep().await;
            in_doubt.set(false);
            match verdict {
                Verdict::Committed(_) => return Ok(value),
                Verdict::NotCommitted(_) if !is_alone => is_alone = true,
                Verdict::NotCommitted(source) | Verdict::Refused(source) => {
                    return Err(DatabaseError::Query { operation, source });
                }
                Verdict::Unknown(source) => return Err(DatabaseError::CommitUnknown { operation, source }),
            }
        }
    }

    async fn turn(&self, is_alone: bool, is_held_up: &impl Fn() -> bool) -> Result<Turn, SqlError> {
        let (lend, lent) = oneshot::channel();
        self.ask(Job::Turn { is_alone, lend }, is_held_up).await?;
        lent.await.unwrap_or_else(|_| Err(sqlx::Error::PoolClosed.into()))
    }

    /// Hands rows over; what became of them is told to their caller.
    pub(super) async fn append(&self, rows: Rows, is_held_up: impl Fn() -> bool) -> Result<(), SqlError> {
        self.ask(Job::Append(rows), &is_held_up).await
    }

    async fn ask(&self, job: Job, is_held_up: &impl Fn() -> bool) -> Result<(), SqlError> {
        into_queue(&self.queue, job, is_held_up).await
    }
}

/// Waits for a place in a queue; while the writes before it are held up, without a place there is nothing to wait for.
pub(super) async fn into_queue<T>(
    queue: &mpsc::Sender<T>,
    job: T,
    is_held_up: &impl Fn() -> bool,
) -> Result<(), SqlError> {
    let closed = || SqlError::from(sqlx::Error::PoolClosed);
    match queue.try_send(job) {
        Ok(()) => Ok(()),
        Err(TrySendError::Closed(_)) => Err(closed()),
        Err(TrySendError::Full(_)) if is_held_up() => {
            let words = format!("it is held up, and {} writes wait for it already", queue.max_capacity());
            Err(sqlx::Error::from(io::Error::new(io::ErrorKind::WouldBlock, words)).into())
        }
        Err(TrySendError::Full(job)) => queue.send(job).await.map_err(|_| closed()),
    }
}

/// The task.
struct Task {
    pool: Pool,
    /// The connection, kept from one group to the next.
    held: Option<Connection>,
    jobs: mpsc::Receiver<Job>,
    /// What was taken from the queue and belongs to the next group.
    next: Option<Job>,
}

/// The transaction is over, by SQLite's will or because nobody knows what is open in it.
struct Swept(SqlError);

impl Task {
    async fn run(mut self) {
        loop {
            let job = match self.next.take() {
                Some(job) => Some(job),
                None => self.jobs.recv().await,
            };
            if job.as_ref().is_some_and(Job::is_withdrawn) {
                continue;
            }
            match job {
                None => return,
                Some(Job::Close(ended)) => {
                    self.jobs.close();
                    drop(self.held.take());
                    let _ = ended.send(());
                    return;
                }
                Some(job) => self.group(job).await,
            }
        }
    }

    /// One transaction, from the first write of it to its commit.
    async fn group(&mut self, first: Job) {
        let mut transaction = match self.begin().await {
            Ok(transaction) => transaction,
            Err(error) => return refuse(first, &error),
        };
        let until = Instant::now() + GROUP_LIMIT;
        let mut kept = Vec::new();
        let mut job = first;
        loop {
            let is_alone = job.is_alone();
            if let Err(Swept(error)) = self.take_in(&mut transaction, job, &mut kept).await {
                self.held = transaction.roll_back().await;
                return tell(kept, &Verdict::NotCommitted(error));
            }
            if is_alone || kept.len() >= GROUP_MAX || Instant::now() >= until {
                break;
            }
            match self.next_for_this_group() {
                Some(next) => job = next,
                None => break,
            }
        }
        if kept.is_empty() {
            self.held = transaction.roll_back().await;
            return;
        }
        let verdict = match transaction.commit().await {
            Ok(connection) => {
                self.held = Some(connection);
                Verdict::Committed(Appended::Now)
            }
            Err(error) if dialect::is_rolled_back(error.driver()) => Verdict::NotCommitted(error),
            Err(error) => Verdict::Unknown(error),
        };
        tell(kept, &verdict);
    }

    async fn begin(&mut self) -> Result<Transaction, SqlError> {
        let connection = match self.held.take() {
            Some(connection) => connection,
            None => self.pool.acquire().await?,
        };
        Transaction::begin(connection, Purpose::Write).await
    }

    /// The next job, if it is there already and may share what is under way.
    fn next_for_this_group(&mut self) -> Option<Job> {
        let job = self.next.take().or_else(|| self.jobs.try_recv().ok())?;
        if job.is_alone() {
            self.next = Some(job);
            return None;
        }
        Some(job)
    }

    async fn take_in(
        &mut self,
        transaction: &mut Transaction,
        job: Job,
        kept: &mut Vec<Waiting>,
    ) -> Result<(), Swept> {
        match job {
            Job::Turn { lend, .. } => kept.extend(lend_to(transaction, lend).await?),
            Job::Append(first) => {
                let mut all = vec![first];
                while self.next.is_none() && all.len() < GROUP_MAX && !all[0].is_alone {
                    match self.jobs.try_recv() {
                        Ok(Job::Append(more)) if more.goes_with(&all[0]) => all.push(more),
                        Ok(other) => self.next = Some(other),
                        Err(_) => break,
                    }
                }
                all.retain(Rows::take);
                if !all.is_empty() {
                    append::take_in(transaction, all, kept).await.map_err(Swept)?;
                }
            }
            Job::Close(_) => unreachable!("the end is no write"),
        }
        Ok(())
    }
}

/// Lends the connection to one caller. Where to tell what became of it, if it is to be kept.
async fn lend_to(
    transaction: &mut Transaction,
    lend: oneshot::Sender<Result<Turn, SqlError>>,
) -> Result<Option<Waiting>, Swept> {
    if let Err(error) = transaction.connection().say("SAVEPOINT one").await {
        let _ = lend.send(Err(error.clone()));
        return Err(Swept(error));
    }
    let (back, returned) = oneshot::channel();
    let (tell, verdict) = oneshot::channel();
    let turn = Turn { connection: Some(transaction.lend()), back: Some(back), verdict };
    // A caller that has gone away drops its turn, which sends the connection back.
    drop(lend.send(Ok(turn)));
    let (connection, wish) = returned.await.expect("a turn gives the connection back when it is dropped");
    transaction.take_back(connection);
    match wish {
        Wish::Keep => match transaction.connection().say("RELEASE one").await {
            Ok(()) => Ok(Some(Waiting::of(tell))),
            Err(error) => {
                let _ = tell.send(Verdict::NotCommitted(error.clone()));
                Err(Swept(error))
            }
        },
        Wish::Undo => {
            undo(transaction).await.map_err(Swept)?;
            Ok(None)
        }
    }
}

/// Undoes what was done since the savepoint, and takes the savepoint away.
pub(super) async fn undo(transaction: &mut Transaction) -> Result<(), SqlError> {
    let connection = transaction.connection();
    connection.take_failure();
    connection.say("ROLLBACK TO one").await?;
    connection.say("RELEASE one").await
}

fn refuse(job: Job, error: &SqlError) {
    match job {
        Job::Turn { lend, .. } => drop(lend.send(Err(error.clone()))),
        Job::Append(rows) => rows.refuse(error.clone()),
        Job::Close(_) => {}
    }
}

/// Who has gone away hears nothing; it was written, or not, all the same.
pub(super) fn tell(kept: Vec<Waiting>, verdict: &Verdict) {
    kept.into_iter().for_each(|waiting| waiting.tell(verdict.clone()));
}
