//! PostgreSQL's way to append: one connection writes what has come while it wrote before; where its server is far away or
//! slow, others help it.
//!
//! ```text
//!   callers ──► queue ──► a lane: all that has queued up, a table at a time
//!                           │
//!                           ├─ fenced ──► one statement, which is its own transaction ─┬ all ───► everybody: Now
//!                           │                                                          ├ not all, refused ──┐ nothing is there
//!                           │                                                          └ no answer: doubt ──┤
//!                           └─ not fenced ────────────────────────────────────────────────────────────────►┴─► a transaction,
//!                                                                                               each caller by itself if need be
//! ```
//!
//! # How many
//!
//! Rows that are written together cost little more than one of them, and two lanes halve what comes together: on a server
//! that answers within a millisecond, one lane writes a third more than four. Where an answer takes long, one lane is idle most
//! of the time. So a lane that finds another one at work waits for it, but no longer than [`PATIENCE`].
//!
//! # One statement
//!
//! A transaction of several statements costs a round trip for each: BEGIN, SAVEPOINT, some INSERTs, RELEASE, COMMIT. Nearly
//! always all the rows are new and their fences hold, and then one statement says it all: the rows come as one array for
//! each column, and if fewer were inserted than were asked for, it divides by zero, which undoes it.
//!
//! **No answer.** A statement that is its own transaction may have been committed, whenever no answer came; even one that a
//! server has not read yet may run later, though its client is gone. Nothing of it comes late, for all that: whoever repeats
//! it has put the same rows there, so it inserts none, and undoes itself; whoever has moved the fence has put it out of date.
//! So after a loss the same rows are tried in a transaction, on another connection, and what that finds is the answer. If
//! that fails too, the callers hear *unknown*, whatever it failed of.

use super::{
    append::{self, AppendTable, Appended, Fence, Rows, TextOf},
    group::{self, Verdict},
    transaction::Purpose,
};
use crate::{
    SqlError, dialect,
    sql::{Column, Connection, Pool},
};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{Mutex as AsyncMutex, OwnedSemaphorePermit, Semaphore, mpsc, watch},
    time::timeout,
};

/// Connections that append at once, at most.
const LANES: usize = 4;

/// How long rows wait for the lane that is at work before another one takes them.
const PATIENCE: Duration = Duration::from_millis(3);

/// Callers whose rows wait at most.
const QUEUE_MAX: usize = 1_024;

/// Callers that share a commit at most.
const CALLERS_MAX: usize = 256;

/// The way to the tasks that append.
#[derive(Clone, Debug)]
pub(crate) struct Lanes {
    pub(super) queue: mpsc::Sender<Rows>,
    closing: Arc<watch::Sender<bool>>,
    /// A place for each task that has not ended.
    running: Arc<Semaphore>,
}

impl Lanes {
    /// Starts the tasks.
    pub(crate) fn start(pool: &Pool) -> Lanes {
        let (queue, rows) = mpsc::channel(QUEUE_MAX);
        let rows = Arc::new(AsyncMutex::new(rows));
        let closing = Arc::new(watch::Sender::new(false));
        let running = Arc::new(Semaphore::new(LANES));
        let at_work = Arc::new(watch::Sender::new(0));
        for _ in 0..LANES {
            let place = Arc::clone(&running).try_acquire_owned();
            let place = place.expect("there is a place for each of them");
            let lane = Lane { pool: pool.clone(), link: None, at_work: Arc::clone(&at_work) };
            tokio::spawn(lane.run(Arc::clone(&rows), closing.subscribe(), place));
        }
        Lanes { queue, closing, running }
    }

    /// Takes no more rows, and ends the tasks once those that were taken are written.
    pub(crate) async fn close(&self) {
        self.closing.send_replace(true);
        let places = u32::try_from(LANES).expect("they are few");
        // Nobody closes the semaphore, so this is when all have given their places back.
        let _all = self.running.acquire_many(places).await;
    }
}

/// One of the tasks.
struct Lane {
    pool: Pool,
    /// Kept between two statements: the pool would ask it each time whether it lives.
    link: Option<Connection>,
    /// How many of them write now.
    at_work: Arc<watch::Sender<usize>>,
}

impl Lane {
    async fn run(
        mut self,
        queue: Arc<AsyncMutex<mpsc::Receiver<Rows>>>,
        mut closing: watch::Receiver<bool>,
        _place: OwnedSemaphorePermit,
    ) {
        while let Some(mut rest) = gather(&queue, &mut closing, &self.at_work).await {
            self.at_work.send_modify(|lanes| *lanes += 1);
            while let Some(first) = rest.first() {
                let table = first.table();
                let (now, later) = rest.into_iter().partition(|rows| std::ptr::eq(rows.table(), table));
                rest = later;
                self.append(table, now).await;
            }
            self.at_work.send_modify(|lanes| *lanes -= 1);
        }
    }

    async fn append(&mut self, table: &'static AppendTable, mut all: Vec<Rows>) {
        if let Some(fence) = &table.fence {
            match self.at_once(table, fence, &all).await {
                AtOnce::All => {
                    let kept = all.into_iter().map(|rows| rows.waits_for(Appended::Now)).collect();
                    return group::tell(kept, &Verdict::Committed(Appended::Now));
                }
                AtOnce::None => {}
                AtOnce::NotBegun(error) => {
                    return all.into_iter().for_each(|rows| rows.refuse(error.clone()));
                }
                AtOnce::InDoubt(error) => {
                    tracing::debug!(error = %error, "rows that may have been appended are appended again");
                    all.iter_mut().for_each(Rows::doubt);
                }
            }
        }
        self.in_transaction(all).await;
    }

    /// Inserts all of these rows, or none, by one statement that is its own transaction.
    async fn at_once(&mut self, table: &'static AppendTable, fence: &Fence, all: &[Rows]) -> AtOnce {
        let mut link = match self.link.take().filter(Connection::is_trusted) {
            Some(link) => link,
            None => match self.pool.acquire().await {
                Ok(link) => link,
                Err(error) => return AtOnce::NotBegun(error),
            },
        };
        let (columns, asked) = columns_of(table, all);
        let text = append::made_once(table, TextOf::All, || written(table, fence, &columns));
        match link.run_by_columns(text, columns, asked).await {
            Ok(()) => {
                self.link = Some(link);
                AtOnce::All
            }
            Err(error) if dialect::has_undone_itself(error.driver()) => {
                self.link = Some(link);
                AtOnce::None
            }
            Err(error) if dialect::is_undone(error.driver()) => {
                tracing::debug!(error = %error, "rows are not appended by one statement");
                AtOnce::None
            }
            Err(error) => AtOnce::InDoubt(error),
        }
    }

    /// Inserts each caller's rows, or says what they found.
    async fn in_transaction(&self, all: Vec<Rows>) {
        let mut transaction = match self.pool.begin(Purpose::RowWise).await {
            Ok(transaction) => transaction,
            Err(error) => return all.into_iter().for_each(|rows| rows.refuse(error.clone())),
        };
        let mut kept = Vec::new();
        // Those that have a fence were tried together before.
        let taken = match all.first().and_then(|rows| rows.table().fence.as_ref()) {
            Some(_) => append::one_by_one(&mut transaction, all, &mut kept).await,
            None => append::take_in(&mut transaction, all, &mut kept).await,
        };
        let verdict = match taken {
            Ok(()) => match transaction.commit().await {
                Ok(_connection) => Verdict::Committed(Appended::Now),
                Err(error) if dialect::is_rolled_back(error.driver()) => Verdict::NotCommitted(error),
                Err(error) => Verdict::Unknown(error),
            },
            Err(error) => {
                transaction.roll_back().await;
                Verdict::NotCommitted(error)
            }
        };
        group::tell(kept, &verdict);
    }
}

/// What became of rows that were to be inserted at once.
enum AtOnce {
    /// All of them are there, and new.
    All,
    /// None of them was inserted.
    None,
    /// Nothing was sent.
    NotBegun(SqlError),
    /// Perhaps all, perhaps none.
    InDoubt(SqlError),
}

/// What has queued up when nobody writes, or when whoever writes takes long; waits for the first of it.
async fn gather(
    queue: &AsyncMutex<mpsc::Receiver<Rows>>,
    closing: &mut watch::Receiver<bool>,
    at_work: &watch::Sender<usize>,
) -> Option<Vec<Rows>> {
    let mut queue = queue.lock().await;
    let first = tokio::select! {
        biased;
        () = is_closing(closing) => {
            // Then what is in it still comes out, and after that nothing.
            queue.close();
            queue.recv().await
        }
        first = queue.recv() => first,
    };
    let mut all = vec![first?];
    // Time that is up says what is to be done, too.
    let _ = timeout(PATIENCE, at_work.subscribe().wait_for(|lanes| *lanes == 0)).await;
    while all.len() < CALLERS_MAX && !all[0].is_alone {
        let Ok(more) = queue.try_recv() else { break };
        all.push(more);
    }
    all.retain(Rows::take);
    Some(all)
}

async fn is_closing(closing: &mut watch::Receiver<bool>) {
    // An error says that nobody is left who could ask for anything.
    let _ = closing.wait_for(|closing| *closing).await;
}

/// The values of all rows, column by column, and how many rows they are.
fn columns_of(table: &AppendTable, all: &[Rows]) -> (Vec<Column>, i64) {
    let width = table.columns.len();
    let asked = all.iter().map(|rows| rows.values().len() / width).sum::<usize>();
    let column = |number| {
        let values = all.iter().flat_map(|rows| rows.values().iter().skip(number).step_by(width));
        Column::of(values.cloned())
    };
    let columns = (0..width).map(column).collect();
    (columns, i64::try_from(asked).expect("rows are counted in memory"))
}

/// The statement that inserts all rows or none.
fn written(table: &AppendTable, fence: &Fence, columns: &[Column]) -> String {
    let numbered =
        |word: &dyn Fn(usize) -> String| (1..=columns.len()).map(word).collect::<Vec<_>>().join(", ");
    let arrays = numbered(&|number| format!("${number}::{}[]", columns[number - 1].element()));
    let new = format!("unnest({arrays}) AS new ({})", numbered(&|number| format!("column{number}")));
    let insert = append::insert_fenced(table, fence, true, &new);
    let asked = columns.len() + 1;
    format!(
        "WITH inserted AS ({insert} RETURNING 1) \
         SELECT 1 / CAST(COUNT(*) = ${asked} AS INTEGER) AS all_of_them FROM inserted"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::Value;

    #[test]
    fn the_statement_has_an_array_for_each_column_and_counts() {
        let fence = Fence { table: "t", equal: &[("id", "a")], same: &["a"] };
        let table = AppendTable { name: "u", columns: &["a", "b"], fence: None };
        let columns = [Column::of([Value::from("x")].into_iter()), Column::of([Value::from(1)].into_iter())];
        assert_eq!(
            written(&table, &fence, &columns),
            "WITH inserted AS (INSERT INTO u (a, b) SELECT new.column1, new.column2 FROM \
             unnest($1::text[], $2::bigint[]) AS new (column1, column2) CROSS JOIN LATERAL \
             (SELECT 1 FROM t WHERE t.id = new.column1 FOR SHARE) AS held ON CONFLICT DO NOTHING RETURNING 1) \
             SELECT 1 / CAST(COUNT(*) = $3 AS INTEGER) AS all_of_them FROM inserted"
        );
    }
}
