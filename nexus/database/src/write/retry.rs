//! PostgreSQL's writes: side by side at SERIALIZABLE, and again when the database asks for it.
//!
//! | what failed | what is known | then |
//! |---|---|---|
//! | a statement, or COMMIT: serialisation failure, deadlock | rolled back for the sake of another one | again |
//! | before COMMIT was sent: the connection, or its answer | the server rolls back what it has of it | again, on another connection |
//! | COMMIT: a broken rule, no space | rolled back | the error |
//! | COMMIT: anything else | nothing | [`DatabaseError::CommitUnknown`] |
//! | the work says so | rolled back | the work's error |
//! | all of it takes too long ([`crate::limits`]) | as before COMMIT, or as after it | the error, or doubt |

use super::{End, Tx, Working, Writing, judge};
use crate::{DatabaseError, SqlError, dialect, error::during, sql::Pool};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use std::time::Duration;

/// Runs of one write at most. With the waits below, a write that loses every time gives up after some 4 seconds.
pub(super) const RUNS_MAX: u32 = 12;

/// Before the second run, at most; doubled for each further one.
const WAIT_FIRST: Duration = Duration::from_millis(4);

/// Between two runs, at most.
const WAIT_MAX: Duration = Duration::from_millis(1_000);

pub(super) async fn write<'w, T>(
    pool: &Pool,
    writing: &Writing<'_>,
    work: impl for<'t> Fn(Tx<'t, 'w>) -> Working<'t, T>,
) -> Result<T, DatabaseError> {
    let &Writing { purpose, operation, end, in_doubt } = writing;
    let mut runs = 1;
    loop {
        let mut transaction = match pool.begin(purpose).await {
            Ok(transaction) => transaction,
            Err(error) if may_run_again(&error) && runs < RUNS_MAX => {
                wait(operation, &mut runs).await;
                continue;
            }
            Err(error) => return Err(during(operation)(error)),
        };
        let result = work(Tx::on(transaction.connection())).await;
        let result = judge(transaction.connection(), operation, result);
        let result = match (result, end) {
            (Ok(value), End::Commit) => {
                in_doubt.set(true);
                match transaction.commit().await {
                    Ok(_connection) => return Ok(value),
                    Err(source) => Err(DatabaseError::of_commit(operation, source)),
                }
            }
            (result, _) => {
                transaction.roll_back().await;
                result
            }
        };
        // What is not known is told at once; what is asked again was rolled back.
        in_doubt.set(false);
        match &result {
            Err(DatabaseError::Query { source, .. }) if may_run_again(source) && runs < RUNS_MAX => {
                wait(operation, &mut runs).await;
            }
            _ => return result,
        }
    }
}

/// Of an error after which nothing was committed.
pub(super) fn may_run_again(error: &SqlError) -> bool {
    dialect::is_serialization_failure(error.driver()) || dialect::is_connection_lost(error.driver())
}

/// Waits for a random time, so that writes that were in each other's way do not meet again.
pub(super) async fn wait(operation: &'static str, runs: &mut u32) {
    let limit = WAIT_FIRST.saturating_mul(1 << (*runs - 1).min(16)).min(WAIT_MAX);
    *runs += 1;
    tracing::debug!(operation, run = *runs, "a write runs again");
    tokio::time::sleep(limit.mul_f64(SmallRng::from_os_rng().random())).await;
}
