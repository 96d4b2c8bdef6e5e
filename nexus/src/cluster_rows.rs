//! What the database says about the cluster as a whole, and what it said last: a status is also asked for, and above all,
//! when the database does not answer.

use jiff::Timestamp;
use nexus_database::{Database, DatabaseError, ErrorClass, Trouble, sleds::SledRow, wanted::Wanted};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// How long a status waits for rows. They take milliseconds.
const READ_LIMIT: Duration = Duration::from_secs(1);

/// The rows, as they were at one time.
#[derive(Debug)]
pub struct ClusterRows {
    /// What every sled should hold.
    pub wanted: Wanted,
    /// Sleds in service.
    pub sleds: Vec<SledRow>,
    /// How many repositories there are.
    pub repositories: u64,
    /// Bytes of the database.
    pub database_bytes: u64,
    /// When they were read.
    pub read_at: Timestamp,
}

/// The rows that were read last. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct LastRows(Arc<Mutex<Option<Arc<ClusterRows>>>>);

/// Rows, and why they are not of now.
#[derive(Clone, Debug)]
pub struct Known {
    /// The rows.
    pub rows: Arc<ClusterRows>,
    /// Why the database did not give newer ones.
    pub stale: Option<String>,
}

impl LastRows {
    /// The rows as they are, or within a second, as they were.
    ///
    /// # Errors
    /// The database says that they cannot be read; or it does not answer, and never did.
    pub async fn read(&self, database: &Database) -> Result<Known, DatabaseError> {
        match tokio::time::timeout(READ_LIMIT, read(database)).await {
            Ok(Ok(rows)) => {
                let rows = Arc::new(rows);
                *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&rows));
                Ok(Known { rows, stale: None })
            }
            Ok(Err(error)) if error.class() == ErrorClass::Retryable => {
                let stale = problem::chain(&error);
                self.last(Some(stale)).ok_or(error)
            }
            Ok(Err(error)) => Err(error),
            Err(_) => {
                let stale = format!("its answer takes longer than {} s", READ_LIMIT.as_secs());
                match self.last(Some(stale)) {
                    Some(known) => Ok(known),
                    None => Ok(Known { rows: Arc::new(read(database).await?), stale: None }),
                }
            }
        }
    }

    fn last(&self, stale: Option<String>) -> Option<Known> {
        let rows = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        Some(Known { rows, stale })
    }
}

async fn read(database: &Database) -> Result<ClusterRows, DatabaseError> {
    Ok(ClusterRows {
        wanted: database.wanted().await?,
        sleds: database.sleds_in_service().await?,
        repositories: database.repositories(None, u32::MAX).await?.len() as u64,
        database_bytes: database.size_bytes().await,
        read_at: Timestamp::now(),
    })
}

/// What an operator is told of a database that does not answer.
#[must_use]
pub fn issue(subject: &str, trouble: Option<&Trouble>, known: &Known) -> Option<nexus_client::issues::Issue> {
    use nexus_client::issues::{Issue, IssueCode};
    let mut detail = match (trouble, &known.stale) {
        (None, None) => return None,
        (Some(trouble), _) => format!("since {:.0}: {}", trouble.since, trouble.words),
        (None, Some(stale)) => stale.clone(),
    };
    if known.stale.is_some() {
        detail.push_str(&format!("; sleds and artifacts are shown as of {:.0}", known.rows.read_at));
    }
    let hint = "look at its disk or its server, and for what else has it open; nothing acknowledged is lost, and all \
                goes on by itself once it answers";
    Some(Issue::new(IssueCode::DatabaseUnavailable, subject, detail).with_hint(hint))
}
