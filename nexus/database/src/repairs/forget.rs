//! How many repairs of a volume are remembered.
//!
//! The oldest go, by the order of their newest notices; and up to where they have gone is remembered in their place, one row for
//! each volume. Without it, a late duplicate of a notice would begin a row again that nobody would ever finish. What is dropped
//! by it beyond such duplicates is a notice as old as all that was forgotten, of a repair that has no row: its row would be the next to go.

use super::{notice::Notice, rows};
use crate::{
    DatabaseError,
    error::during,
    rows::{key, signed, unsigned},
    sql::{Connection, Row, sql},
};
use ids::VolumeId;

/// Repairs that have ended, the newest of a volume. A replaced disk makes one for each region set, a member that comes and goes one each
/// time: what an operator looks at after a bad night. With those that have not ended, a volume's repairs are one page.
pub const FINISHED_MAX: u32 = 32;

/// Repairs whose end was not told, the newest of a volume. Of a region set two members at most are filled at once; the others are of
/// Upstairs that died, and whose sled has never come back to say so.
pub const OPEN_MAX: u32 = 64;

const OPERATION: &str = "forget old repairs of a volume";

/// Whether a notice of a repair that has no row is as old as what was forgotten.
pub(super) async fn is_forgotten(
    connection: &mut Connection,
    notice: &Notice,
) -> Result<bool, DatabaseError> {
    let forgotten = sql("SELECT epoch, sequence FROM volume_repair_forgotten WHERE volume_id = $1")
        .bind(key(&notice.subject.volume))
        .fetch_optional(connection)
        .await
        .map_err(during(OPERATION))?;
    let forgotten = forgotten.as_ref().map(|row| place(row, ["epoch", "sequence"])).transpose()?;
    Ok(forgotten.is_some_and(|forgotten| notice.stamp.place() <= forgotten))
}

/// Forgets what is too much.
pub(super) async fn the_oldest(connection: &mut Connection, volume: VolumeId) -> Result<(), DatabaseError> {
    let finished = "SELECT id, newest_epoch, newest_sequence FROM volume_repair
        WHERE volume_id = $1 AND outcome IS NOT NULL
        ORDER BY newest_epoch DESC, newest_sequence DESC, id DESC LIMIT $2 OFFSET $3";
    let open = "SELECT id, newest_epoch, newest_sequence FROM volume_repair
        WHERE volume_id = $1 AND outcome IS NULL
        ORDER BY newest_epoch DESC, newest_sequence DESC, id DESC LIMIT $2 OFFSET $3";
    for (text, max) in [(finished, FINISHED_MAX), (open, OPEN_MAX)] {
        let too_many = sql(text).bind(key(&volume)).bind(i64::MAX).bind(i64::from(max));
        let too_many = too_many.fetch_all(&mut *connection).await.map_err(during(OPERATION))?;
        for row in &too_many {
            forget(connection, volume, row).await?;
        }
    }
    Ok(())
}

async fn forget(connection: &mut Connection, volume: VolumeId, row: &Row) -> Result<(), DatabaseError> {
    let (epoch, sequence) = place(row, ["newest_epoch", "newest_sequence"])?;
    sql("DELETE FROM volume_repair WHERE id = $1")
        .bind(rows::id(row)?)
        .execute(&mut *connection)
        .await
        .map_err(during(OPERATION))?;
    sql("INSERT INTO volume_repair_forgotten (volume_id, epoch, sequence) VALUES ($1, $2, $3)
         ON CONFLICT (volume_id) DO UPDATE SET epoch = excluded.epoch, sequence = excluded.sequence
         WHERE volume_repair_forgotten.epoch < excluded.epoch OR (volume_repair_forgotten.epoch = excluded.epoch
             AND volume_repair_forgotten.sequence < excluded.sequence)")
    .bind(key(&volume))
    .bind(i64::from(epoch))
    .bind(signed(sequence))
    .execute(connection)
    .await
    .map_err(during(OPERATION))?;
    Ok(())
}

fn place(row: &Row, [epoch, sequence]: [&'static str; 2]) -> Result<(u32, u64), DatabaseError> {
    Ok((rows::epoch(row, epoch)?, unsigned(row, sequence)?))
}
