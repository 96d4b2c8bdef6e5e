//! Repairs of volumes: what is left of the notices that Upstairs send of them. Nothing reacts to them yet.
//!
//! - [`notice`]: what is told. [`repair`]: what comes of all that was told of one repair; pure.
//! - [`rows`]: its row. [`forget`]: how many rows a volume may have.
//!
//! ```text
//!   notice ──► row of the repair ──► is there, and of another member? ── yes ──► conflict; nothing changes
//!                    │ none                     │ no
//!                    ▼                          ▼
//!           not newer than what        Repair::take ──► the same as before: nothing is written
//!           was forgotten?                      │
//!             │ yes      │ no                   ▼
//!             ▼          └──────────────► row is written ──► too many of the volume: the oldest are forgotten
//!        nothing changes
//! ```
//!
//! Words (`copying`, `replaces_gone`) are kept as they are told, and mean nothing here: a coordinator that knows more of them needs no
//! other schema.

mod forget;
mod notice;
mod repair;
mod rows;

pub use forget::{FINISHED_MAX, OPEN_MAX};
pub use notice::{Finish, Notice, Outcome, Progress, RegionLife, Said, Stamp, Start, Subject};
pub use repair::{Conflict, Part, Repair};

use crate::{Database, DatabaseError, error::during, rows::key, sql::sql};
use ids::{RepairId, VolumeId};

/// What became of a notice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoticeOutcome {
    /// It was news.
    Changed(Box<Repair>),
    /// It was told before, or something newer was; nothing was written.
    Unchanged,
    /// It is about a repair that is forgotten, or as old as those; nothing was written.
    Forgotten,
    /// It contradicts what was told before; nothing was written.
    Conflict(Conflict),
}

impl Database {
    /// Takes a notice in. The same any number of times, among others in any order, leaves the same row.
    ///
    /// # Errors
    /// As for every write.
    pub async fn repair_notice(&self, notice: &Notice) -> Result<NoticeOutcome, DatabaseError> {
        let operation = "take a notice of a repair";
        self.write(operation, |mut tx| {
            Box::pin(async move {
                let subject = &notice.subject;
                let known = rows::read(&mut tx, subject.id, operation).await?;
                let taken = match known {
                    None if forget::is_forgotten(&mut tx, notice).await? => {
                        return Ok(NoticeOutcome::Forgotten);
                    }
                    None => Ok(Some(Repair::begun_by(notice))),
                    Some(repair) => repair.take(notice),
                };
                match taken {
                    Err(conflict) => Ok(NoticeOutcome::Conflict(conflict)),
                    Ok(None) => Ok(NoticeOutcome::Unchanged),
                    Ok(Some(repair)) => {
                        rows::write(&mut tx, &repair).await.map_err(during(operation))?;
                        forget::the_oldest(&mut tx, subject.volume).await?;
                        Ok(NoticeOutcome::Changed(Box::new(repair)))
                    }
                }
            })
        })
        .await
    }

    /// Repairs of a volume, newest first by their ids, from the one after the given one on, at most `limit`.
    ///
    /// # Errors
    /// [`DatabaseError::Query`], and a row that cannot be read.
    pub async fn volume_repairs(
        &self,
        volume: VolumeId,
        after: Option<RepairId>,
        limit: u32,
    ) -> Result<Vec<Repair>, DatabaseError> {
        // No id is as large.
        let before = after.map_or_else(|| "g".to_owned(), |id| key(&id));
        let rows =
            sql("SELECT * FROM volume_repair WHERE volume_id = $1 AND id < $2 ORDER BY id DESC LIMIT $3")
                .bind(key(&volume))
                .bind(before)
                .bind(i64::from(limit))
                .fetch_all(&self.read)
                .await
                .map_err(during("list repairs of a volume"))?;
        rows.iter().map(rows::repair).collect()
    }
}
