//! Between what is told of repairs and their rows: types of the wire on one side, the database's on the other.

use nexus_client::repairs::{
    Repair, RepairInterruption, RepairNotice, RepairOutcome, RepairPhase, RepairReason, RepairRegion,
    RepairState, RepairWait, ShownRegion, ShownStamp, VolumeRepair,
};
use nexus_database::repairs::{self as stored, Finish, Notice, Outcome, Progress, RegionLife, Said, Start};

/// What is kept of a notice.
pub(crate) fn notice(notice: &RepairNotice) -> Notice {
    let Repair { id, volume_id, region_set_id, region, replaces, bytes } = *notice.repair();
    let life = |region: RepairRegion| RegionLife { id: region.region_id, incarnation: region.incarnation };
    let subject = stored::Subject {
        id,
        volume: volume_id,
        region_set: region_set_id,
        region: life(region),
        replaces: replaces.map(life),
        bytes,
    };
    let nexus_client::repairs::Stamp { epoch, sequence, config_version, told_at } = *notice.stamp();
    let stamp = stored::Stamp { epoch, sequence, config_version, told_at };
    let said = match notice {
        RepairNotice::Start(start) => Said::Start(Start { why: start.why.word().to_owned() }),
        RepairNotice::Progress(progress) => Said::Progress(Progress {
            phase: progress.phase.word().to_owned(),
            waits: progress.waits.iter().map(|wait| wait.word().to_owned()).collect(),
            bytes_done: progress.bytes_done,
        }),
        RepairNotice::Finish(finish) => Said::Finish(Finish {
            outcome: match finish.outcome {
                RepairOutcome::Completed => Outcome::Completed,
                // No notice is read that has a word which is not known.
                RepairOutcome::Interrupted | RepairOutcome::Unrecognized => Outcome::Interrupted,
            },
            interrupted_by: finish.interrupted_by.map(|by| by.word().to_owned()),
        }),
    };
    Notice { subject, stamp, said }
}

/// What is shown of a row.
pub(crate) fn shown(row: &stored::Repair) -> VolumeRepair {
    let stored::Repair { subject, newest, start, progress, finish } = row;
    let region = |life: RegionLife| ShownRegion { region_id: life.id, incarnation: life.incarnation };
    let state = match finish.as_ref().map(|part| part.said.outcome) {
        None => RepairState::Running,
        Some(Outcome::Completed) => RepairState::Completed,
        Some(Outcome::Interrupted) => RepairState::Interrupted,
    };
    let told = progress.as_ref().map_or(0, |part| part.said.bytes_done);
    let waits = progress.iter().flat_map(|part| &part.said.waits);
    VolumeRepair {
        id: subject.id,
        volume_id: subject.volume,
        region_set_id: subject.region_set,
        region: region(subject.region),
        replaces: subject.replaces.map(region),
        state,
        why: start.as_ref().map(|part| RepairReason::of(&part.said.why)),
        phase: progress.as_ref().map(|part| RepairPhase::of(&part.said.phase)),
        // The last progress may never have been told: whoever is full has everything.
        bytes_done: if state == RepairState::Completed { subject.bytes } else { told },
        bytes: subject.bytes,
        waits: waits.map(|word| RepairWait::of(word)).collect(),
        interrupted_by: finish
            .as_ref()
            .and_then(|part| part.said.interrupted_by.as_deref())
            .map(RepairInterruption::of),
        started_at: start.as_ref().map(|part| part.told_at),
        progressed_at: progress.as_ref().map(|part| part.told_at),
        finished_at: finish.as_ref().map(|part| part.told_at),
        newest: ShownStamp {
            epoch: newest.epoch,
            sequence: newest.sequence,
            config_version: newest.config_version,
            told_at: newest.told_at,
        },
    }
}
