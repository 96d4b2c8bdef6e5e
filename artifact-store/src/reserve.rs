//! Finding room for an artifact before its first byte is received: promises out of what is free, and if that is not
//! enough, out of the trash and the quarantine, oldest first. Blocking.

use crate::{
    copy,
    failure::FailureCause,
    inventory::{DatasetIndex, Trouble},
    layout::SetAside,
    shared::Shared,
    space::Reservation,
};
use tracing::info;

/// Reserves `needed` bytes on a dataset (0: unknown, at least one).
pub(crate) fn reserve(
    shared: &Shared,
    dataset: DatasetIndex,
    needed: u64,
) -> Result<Reservation, FailureCause> {
    let incarnation = shared.incarnation(dataset);
    loop {
        let bounds = shared.bounds(dataset).map_err(|error| shared.failed(dataset, incarnation, error))?;
        let room = match shared.datasets[dataset].reservations.reserve(needed, &bounds) {
            Ok(reservation) => return Ok(reservation),
            Err(room) => room,
        };
        // Each round removes at least one file, so this ends.
        if !make_room(shared, dataset, needed.max(1).saturating_sub(room)) {
            let trouble = Trouble::Full { needed: needed.max(1) };
            let reason = format!("no room for {needed} bytes: {room} are left for artifacts");
            shared.report_trouble(dataset, incarnation, trouble, reason);
            return Err(FailureCause::NoSpace { available: room });
        }
    }
}

/// Purges until `missing` bytes are freed; whether anything was.
fn make_room(shared: &Shared, dataset: DatasetIndex, missing: u64) -> bool {
    let (trash, quarantine) = shared.look(|inventory| {
        let state = &inventory.datasets[dataset];
        if inventory.in_force.is_none() {
            return (Vec::new(), Vec::new());
        }
        let of_no_use = state.trash.iter().filter(|(entry, _)| !inventory.is_restorable(dataset, entry));
        let trash = oldest(of_no_use, missing);
        let trashed: u64 = trash.iter().filter_map(|entry| state.trash.get(entry)).sum();
        (trash, oldest(state.quarantine.iter(), missing.saturating_sub(trashed)))
    });
    let freed =
        copy::purge_trash(shared, dataset, &trash) + copy::purge_quarantine(shared, dataset, &quarantine);
    if freed > 0 {
        info!(dataset = shared.name(dataset), freed, "made room for an artifact");
    }
    freed > 0
}

/// The oldest files that have `missing` bytes together, or all of them.
fn oldest<'a>(files: impl Iterator<Item = (&'a SetAside, &'a u64)>, missing: u64) -> Vec<SetAside> {
    let mut bytes = 0;
    let enough = files.take_while(|(_, size)| {
        let more = bytes < missing;
        bytes += **size;
        more
    });
    enough.map(|(entry, _)| *entry).collect()
}
