//! What is said of repairs, and of telling the coordinator of them, for people. Pure: data in, text out.

use super::view::bytes;
use nexus_client::repairs::{RepairInterruption, RepairPhase, RepairReason};
use volume_export::{ExportStatus, NoticesStatus, RepairStatus};

/// The members that are filled, and the last ones that were; and what of that was not told.
pub(super) fn repairs(status: &ExportStatus) -> Vec<String> {
    let mut lines: Vec<String> = status.repairs.iter().map(repair).collect();
    lines.extend(status.notices.as_ref().map(notices));
    let refused = status.notices.iter().flat_map(|notices| &notices.outbox.refused);
    lines.extend(refused.map(|refused| {
        format!("notice {} of repair {} is refused: {}", refused.sequence, refused.repair, refused.words)
    }));
    lines
}

fn repair(repair: &RepairStatus) -> String {
    let RepairStatus { id, region, replaces, why, phase, bytes_done, bytes: all, .. } = repair;
    let why = match (why, replaces) {
        (Some(why), None) => format!(", {}", reason(*why)),
        (_, Some(old)) => format!(", in the place of {}", old.region_id),
        (None, None) => String::new(),
    };
    let since = repair.started_at.map(|at| format!(", since {at:.0}")).unwrap_or_default();
    let state = match (repair.finished_at, repair.interrupted_by) {
        (Some(at), None) => format!("completed at {at:.0}"),
        (Some(at), Some(by)) => format!("interrupted at {at:.0}: {}", interruption(by)),
        (None, _) => {
            let phase = phase.map_or("not looked at yet", RepairPhase::word);
            format!("{phase}, {} of {}", bytes(*bytes_done), bytes(*all))
        }
    };
    format!("repair {id} of region {}{why}{since}: {state}", region.region_id)
}

fn reason(why: RepairReason) -> &'static str {
    match why {
        RepairReason::ReplacesGone => "in the place of one that is gone",
        RepairReason::ReplacesLeaving => "in the place of one that leaves",
        RepairReason::CatchesUp => "which catches up",
        RepairReason::Unrecognized => "for an unknown reason",
    }
}

fn interruption(by: RepairInterruption) -> &'static str {
    match by {
        RepairInterruption::NewerEpoch => "somebody with a higher epoch has the volume",
        RepairInterruption::MemberDismissed => "it is to be a member no more",
        RepairInterruption::WritesLost => "acknowledged writes are lost",
        RepairInterruption::Stopped => "the export was told to stop",
        RepairInterruption::Unrecognized => "for an unknown reason",
    }
}

fn notices(notices: &NoticesStatus) -> String {
    let waiting = notices.outbox.waiting as u64 + notices.not_kept;
    let why = notices.outbox.away.as_ref().or(notices.trouble.as_ref());
    let why = why.map(|why| format!(" ({why})")).unwrap_or_default();
    match waiting {
        0 => format!("told of repairs: {} has everything", notices.url),
        1 => format!("told of repairs: 1 notice waits for {}{why}", notices.url),
        waiting => format!("told of repairs: {waiting} notices wait for {}{why}", notices.url),
    }
}
