//! The row of a repair.

use super::{
    notice::{Finish, Progress, RegionLife, Stamp, Start, Subject},
    repair::{Part, Repair},
};
use crate::{
    DatabaseError, SqlError,
    error::during,
    rows::{corrupt, key, of_table, optional_text, parsed, signed, text, unsigned},
    sql::{Connection, Row, sql},
};
use ids::RepairId;
use jiff::Timestamp;
use std::str::FromStr;

/// What is known of a repair.
pub(super) async fn read(
    connection: &mut Connection,
    id: RepairId,
    operation: &'static str,
) -> Result<Option<Repair>, DatabaseError> {
    let row = sql("SELECT * FROM volume_repair WHERE id = $1").bind(key(&id));
    let row = row.fetch_optional(connection).await.map_err(during(operation))?;
    row.as_ref().map(repair).transpose()
}

/// Writes it, whether or not it has a row.
pub(super) async fn write(connection: &mut Connection, repair: &Repair) -> Result<(), SqlError> {
    let Repair { subject, newest, start, progress, finish } = repair;
    let epoch = |place: Option<(u32, u64)>| place.map(|(epoch, _)| i64::from(epoch));
    let sequence = |place: Option<(u32, u64)>| place.map(|(_, sequence)| signed(sequence));
    let started = start.as_ref().map(|part| part.place);
    let progressed = progress.as_ref().map(|part| part.place);
    let finished = finish.as_ref().map(|part| part.place);
    let waits = progress.as_ref().map(|part| {
        serde_json::to_string(&part.said.waits).expect("a list of words has nothing that JSON cannot say")
    });
    sql("INSERT INTO volume_repair (id, volume_id, region_set_id, region_id, incarnation, replaces_region_id,
             replaces_incarnation, bytes, newest_epoch, newest_sequence, config_version, told_at, start_epoch,
             start_sequence, started_at, why, progress_epoch, progress_sequence, progressed_at, phase, waits, bytes_done,
             finish_epoch, finish_sequence, finished_at, outcome, interrupted_by)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22,
             $23, $24, $25, $26, $27)
         ON CONFLICT (id) DO UPDATE SET newest_epoch = excluded.newest_epoch,
             newest_sequence = excluded.newest_sequence, config_version = excluded.config_version,
             told_at = excluded.told_at, start_epoch = excluded.start_epoch,
             start_sequence = excluded.start_sequence, started_at = excluded.started_at, why = excluded.why,
             progress_epoch = excluded.progress_epoch, progress_sequence = excluded.progress_sequence,
             progressed_at = excluded.progressed_at, phase = excluded.phase, waits = excluded.waits,
             bytes_done = excluded.bytes_done, finish_epoch = excluded.finish_epoch,
             finish_sequence = excluded.finish_sequence, finished_at = excluded.finished_at,
             outcome = excluded.outcome, interrupted_by = excluded.interrupted_by")
    .bind(key(&subject.id))
    .bind(key(&subject.volume))
    .bind(key(&subject.region_set))
    .bind(key(&subject.region.id))
    .bind(signed(subject.region.incarnation))
    .bind(subject.replaces.map(|old| key(&old.id)))
    .bind(subject.replaces.map(|old| signed(old.incarnation)))
    .bind(signed(subject.bytes))
    .bind(i64::from(newest.epoch))
    .bind(signed(newest.sequence))
    .bind(signed(newest.config_version))
    .bind(key(&newest.told_at))
    .bind(epoch(started))
    .bind(sequence(started))
    .bind(start.as_ref().map(|part| key(&part.told_at)))
    .bind(start.as_ref().map(|part| part.said.why.clone()))
    .bind(epoch(progressed))
    .bind(sequence(progressed))
    .bind(progress.as_ref().map(|part| key(&part.told_at)))
    .bind(progress.as_ref().map(|part| part.said.phase.clone()))
    .bind(waits)
    .bind(signed(progress.as_ref().map_or(0, |part| part.said.bytes_done)))
    .bind(epoch(finished))
    .bind(sequence(finished))
    .bind(finish.as_ref().map(|part| key(&part.told_at)))
    .bind(finish.as_ref().map(|part| part.said.outcome.as_str().to_owned()))
    .bind(finish.as_ref().and_then(|part| part.said.interrupted_by.clone()))
    .execute(connection)
    .await
    .map(drop)
}

/// Reads a row.
pub(super) fn repair(row: &Row) -> Result<Repair, DatabaseError> {
    of_table(row, ("volume_repair", "id"), values)
}

fn values(row: &Row) -> Result<Repair, DatabaseError> {
    let replaces = match optional::<ids::RegionId>(row, "replaces_region_id")? {
        Some(id) => Some(RegionLife { id, incarnation: unsigned(row, "replaces_incarnation")? }),
        None => None,
    };
    let subject = Subject {
        id: parsed(row, "id")?,
        volume: parsed(row, "volume_id")?,
        region_set: parsed(row, "region_set_id")?,
        region: RegionLife { id: parsed(row, "region_id")?, incarnation: unsigned(row, "incarnation")? },
        replaces,
        bytes: unsigned(row, "bytes")?,
    };
    let newest = Stamp {
        epoch: epoch(row, "newest_epoch")?,
        sequence: unsigned(row, "newest_sequence")?,
        config_version: unsigned(row, "config_version")?,
        told_at: parsed(row, "told_at")?,
    };
    let start = match optional_text(row, "why")? {
        Some(why) => Some(part(row, ["start_epoch", "start_sequence", "started_at"], Start { why })?),
        None => None,
    };
    let progress = match optional_text(row, "phase")? {
        Some(phase) => {
            let waits = optional_text(row, "waits")?.unwrap_or_default();
            let waits = serde_json::from_str(&waits).map_err(|_| corrupt("waits", &waits))?;
            let said = Progress { phase, waits, bytes_done: unsigned(row, "bytes_done")? };
            Some(part(row, ["progress_epoch", "progress_sequence", "progressed_at"], said)?)
        }
        None => None,
    };
    let finish = match optional(row, "outcome")? {
        Some(outcome) => {
            let said = Finish { outcome, interrupted_by: optional_text(row, "interrupted_by")? };
            Some(part(row, ["finish_epoch", "finish_sequence", "finished_at"], said)?)
        }
        None => None,
    };
    Ok(Repair { subject, newest, start, progress, finish })
}

fn part<T>(row: &Row, columns: [&'static str; 3], said: T) -> Result<Part<T>, DatabaseError> {
    let [epoch_column, sequence, told_at] = columns;
    let place = (epoch(row, epoch_column)?, unsigned(row, sequence)?);
    Ok(Part { place, told_at: parsed::<Timestamp>(row, told_at)?, said })
}

/// Text that must parse, or NULL.
fn optional<T: FromStr>(row: &Row, column: &'static str) -> Result<Option<T>, DatabaseError> {
    if optional_text(row, column)?.is_none() { Ok(None) } else { parsed(row, column).map(Some) }
}

/// The right to write a volume.
pub(super) fn epoch(row: &Row, column: &'static str) -> Result<u32, DatabaseError> {
    let epoch = unsigned(row, column)?;
    u32::try_from(epoch).map_err(|_| corrupt(column, &epoch.to_string()))
}

/// The key of a row.
pub(super) fn id(row: &Row) -> Result<String, DatabaseError> {
    text(row, "id")
}
