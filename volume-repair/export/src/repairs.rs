//! The repairs of a volume: which members are filled, since when, how far, and how that has ended. Pure: it is shown what the volume believes, and
//! says what the coordinator is to be told.
//!
//! ```text
//!   a member is filling ──start──► open ──────────────full──────────────► ended: completed
//!                                   │ ▲ progress     dismissed, or the volume has ended, or the export was told to stop ──► ended: interrupted
//!                                   └─┘
//!   what an outbox of an earlier life has open ──► open, under the same id: its start was told
//! ```
//! A filling that begins again (the member was away, another source is used, the Upstairs was killed) is the same repair: nothing was said to be its
//! end. Whoever is filled again after it was full has a new one.
//!
//! **Nothing is missed** that is looked at often enough: a member becomes full, or no member that is full, only by a list. Before a list is
//! in force its members are told it, and the loop lets this look at that instant, when who is to be full is still filling, and who is to be left out is
//! still full.

use ids::{RegionId, RegionSetId, RepairId, VolumeId};
use jiff::Timestamp;
use nexus_client::repairs::{
    Repair, RepairFinish, RepairInterruption, RepairNotice, RepairOutcome, RepairPhase, RepairProgress,
    RepairReason, RepairRegion, RepairStart, RepairWait, Stamp,
};
use region::Member;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use upstairs::{FillStatus, MemberStatus, PhaseName, Role, Status};
use volume_layers::VolumeStatus;
use volume_notices::OpenRepair;
use volume_repair::{ConstructionRequest, RegionSet};

/// How often it is told how far a repair is, while only its bytes change. Nobody acts on it; people look at it.
const PROGRESS: Duration = Duration::from_secs(2);

/// Repairs that have ended and are still shown: those of the last hours of a member that comes and goes.
const SHOWN_MAX: usize = 16;

/// Repairs that have ended, and whose end nobody has taken yet. More end only if the disk of the outbox refuses for days; then the oldest is not told.
const UNTOLD_MAX: usize = 128;

/// Now: by the clock of the loop, and by that of people.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) now: Duration,
    pub(crate) at: Timestamp,
}

/// A repair, as an export shows it. A part of the outside contract, as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepairStatus {
    /// Which, as the coordinator is told.
    pub id: RepairId,
    /// The region set.
    pub region_set_id: RegionSetId,
    /// Who is filled.
    pub region: RepairRegion,
    /// Whose place it takes, if that is known.
    pub replaces: Option<RepairRegion>,
    /// Why; none if an earlier life of the export has begun it, and has told.
    pub why: Option<RepairReason>,
    /// When it began; none if an earlier life has begun it.
    pub started_at: Option<Timestamp>,
    /// What is done for it, or what it waits for; none if this one has not looked yet.
    pub phase: Option<RepairPhase>,
    /// The full member that it is copied from; none while nobody copies.
    pub source: Option<RegionId>,
    /// Bytes of which it was made sure that the region has them, by this export or by an earlier one that has begun the repair. Never less than before;
    /// of what an earlier one has done a 64th part may not be known, if it was killed. What is the same already is only compared.
    pub bytes_done: u64,
    /// Bytes of the region set.
    pub bytes: u64,
    /// What does not go on in the region set meanwhile.
    pub waits: BTreeSet<RepairWait>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// How.
    pub outcome: Option<RepairOutcome>,
    /// By what, if it was interrupted.
    pub interrupted_by: Option<RepairInterruption>,
}

/// How a repair has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Completed,
    Interrupted(RepairInterruption),
}

/// One of them.
#[derive(Debug)]
struct Known {
    repair: Repair,
    /// Bytes that an earlier life has told to be done.
    done_before: u64,
    /// The right, and the request, by which it was looked at last.
    epoch: u32,
    config_version: u64,
    start: Option<(RepairReason, Timestamp)>,
    is_start_told: bool,
    /// Whom it is copied from now.
    source: Option<RegionId>,
    progress: Option<Progress>,
    told: Option<(Progress, Duration)>,
    end: Option<(End, Timestamp)>,
    is_end_told: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Progress {
    phase: RepairPhase,
    bytes_done: u64,
    waits: BTreeSet<RepairWait>,
}

/// The repairs of a volume.
#[derive(Debug)]
pub(crate) struct Repairs {
    /// Oldest first.
    known: Vec<Known>,
    /// Whose place a member takes, as requests have said that were applied while this looked.
    replaced: BTreeMap<(RegionSetId, Member), (RepairReason, RepairRegion)>,
    /// Whether anybody is told.
    tells: bool,
    /// Ends that were not told, because nobody has taken them for too long.
    dropped: u64,
}

impl Repairs {
    /// Nobody is told.
    pub(crate) fn new() -> Repairs {
        Repairs { known: Vec::new(), replaced: BTreeMap::new(), tells: false, dropped: 0 }
    }

    /// The coordinator is told; these are repairs whose end an earlier life has not put.
    pub(crate) fn tell(&mut self, open: impl IntoIterator<Item = OpenRepair>) {
        self.tells = true;
        self.known.extend(open.into_iter().map(|OpenRepair { repair, bytes_done }| Known {
            repair,
            done_before: bytes_done,
            epoch: 0,
            config_version: 0,
            start: None,
            is_start_told: true,
            source: None,
            progress: None,
            told: None,
            end: None,
            is_end_told: false,
        }));
    }

    /// Members are to be replaced, by a request that was applied in the place of another one.
    pub(crate) fn note_request(&mut self, before: &ConstructionRequest, newer: &ConstructionRequest) {
        for set in newer.region_sets() {
            let Some(old) = before.region_sets().find(|old| old.id == set.id) else { continue };
            let is_in = |all: &[volume_repair::Member], one: &volume_repair::Member| {
                all.iter().any(|other| Member::from(*other) == Member::from(*one))
            };
            let new = set.members.iter().filter(|member| !is_in(&old.members, member));
            let left = old.members.iter().filter(|member| !is_in(&set.members, member));
            for (new, left) in new.zip(left) {
                let why = match set.gone.contains(&left.region_id) {
                    true => RepairReason::ReplacesGone,
                    false => RepairReason::ReplacesLeaving,
                };
                let left = RepairRegion { region_id: left.region_id, incarnation: left.incarnation };
                self.replaced.insert((set.id, Member::from(*new)), (why, left));
            }
        }
        // What is no member any more will not be filled.
        let is_member = |set: RegionSetId, member: &Member| {
            let mut sets = newer.region_sets().filter(|other| other.id == set);
            sets.any(|set| set.members.iter().any(|other| Member::from(*other) == *member))
        };
        self.replaced.retain(|(set, member), _| is_member(*set, member));
    }

    /// Looks at what the volume believes, which runs by this request.
    pub(crate) fn look(&mut self, at: Timestamp, request: &ConstructionRequest, volume: &VolumeStatus) {
        for set in volume.sets() {
            let (Some(epoch), Some((layer, of))) = (set.epoch, layer_of(request, set.set)) else { continue };
            let by = By { epoch, config_version: request.config_version, at };
            match set.phase {
                PhaseName::Fenced => {
                    self.end_all(set.set, by, End::Interrupted(RepairInterruption::NewerEpoch));
                }
                PhaseName::Lost => {
                    self.end_all(set.set, by, End::Interrupted(RepairInterruption::WritesLost));
                }
                PhaseName::Active => {
                    self.go_on(set, by);
                    self.begin(set, by, VolumeId(layer.id), of);
                }
                // All members are asked again what they have: nobody copies meanwhile.
                _ => {
                    let open = self.known.iter_mut().filter(|known| known.is_open_in(set.set));
                    open.for_each(|known| known.source = None);
                }
            }
        }
        // Of a set that the volume has no more, nobody is filled.
        if let (PhaseName::Active, Some(epoch)) = (volume.phase(), volume.epoch()) {
            let by = By { epoch, config_version: request.config_version, at };
            let is_here = |set: RegionSetId| volume.sets().any(|status| status.set == set);
            let left = self.known.iter_mut().filter(|known| !is_here(known.repair.region_set_id));
            left.for_each(|known| known.end(by, End::Interrupted(RepairInterruption::MemberDismissed)));
        }
        self.forget();
    }

    /// The export was told to stop: whoever begins anew begins anew.
    pub(crate) fn stop(&mut self, at: Timestamp) {
        for known in self.known.iter_mut().filter(|known| known.epoch > 0) {
            let by = By { epoch: known.epoch, config_version: known.config_version, at };
            known.end(by, End::Interrupted(RepairInterruption::Stopped));
        }
        self.forget();
    }

    /// The next thing that is to be told.
    pub(crate) fn next_notice(&self, moment: Moment) -> Option<RepairNotice> {
        if !self.tells {
            return None;
        }
        self.known.iter().find_map(|known| known.next_notice(moment))
    }

    /// It was taken.
    pub(crate) fn note_taken(&mut self, notice: &RepairNotice, now: Duration) {
        let Some(known) = self.known.iter_mut().find(|known| known.repair == *notice.repair()) else {
            return;
        };
        match notice {
            RepairNotice::Start(_) => known.is_start_told = true,
            RepairNotice::Progress(_) => {
                known.told = known.progress.clone().map(|progress| (progress, now));
            }
            RepairNotice::Finish(_) => known.is_end_told = true,
        }
    }

    /// What there is: those that are open, and the last ones that have ended.
    pub(crate) fn status(&self) -> Vec<RepairStatus> {
        let ended = self.known.iter().filter(|known| known.end.is_some()).count();
        let mut hidden = ended.saturating_sub(SHOWN_MAX);
        let mut is_shown = |known: &&Known| {
            let is_hidden = known.end.is_some() && hidden > 0;
            hidden -= usize::from(is_hidden);
            !is_hidden
        };
        self.known.iter().filter(|known| is_shown(known)).map(Known::status).collect()
    }

    fn go_on(&mut self, set: &Status, by: By) {
        for known in self.known.iter_mut().filter(|known| known.is_open_in(set.set)) {
            let member = set.members.iter().find(|member| region_of(member) == known.repair.region);
            match member {
                Some(MemberStatus { role: Role::Full, is_leaving: false, .. }) => {
                    known.end(by, End::Completed);
                }
                Some(MemberStatus { is_leaving: false, fill, .. }) => {
                    (known.epoch, known.config_version) = (by.epoch, by.config_version);
                    match fill {
                        Some(fill) => known.note_progress(set, *fill),
                        None => known.source = None,
                    }
                }
                _ => known.end(by, End::Interrupted(RepairInterruption::MemberDismissed)),
            }
        }
    }

    fn begin(&mut self, set: &Status, by: By, volume_id: VolumeId, of: &RegionSet) {
        for member in &set.members {
            let (Some(fill), region) = (member.fill, region_of(member)) else { continue };
            let is_known = |known: &Known| known.is_open_in(set.set) && known.repair.region == region;
            if self.known.iter().any(is_known) {
                continue;
            }
            let (why, replaces) = self.why(set, of, member);
            let repair = Repair {
                id: RepairId::generate(),
                volume_id,
                region_set_id: set.set,
                region,
                replaces,
                bytes: fill.bytes,
            };
            let mut known = Known {
                repair,
                done_before: 0,
                epoch: by.epoch,
                config_version: by.config_version,
                start: Some((why, by.at)),
                is_start_told: false,
                source: None,
                progress: None,
                told: None,
                end: None,
                is_end_told: false,
            };
            known.note_progress(set, fill);
            self.known.push(known);
        }
    }

    /// Why it is filled. What was applied while this looked says it for sure, once. What the volume was built with names those that leave, and those
    /// that are gone until all are full again, and not who takes whose place: then one that still leaves is the one.
    fn why(
        &mut self,
        set: &Status,
        of: &RegionSet,
        member: &MemberStatus,
    ) -> (RepairReason, Option<RepairRegion>) {
        let named = Member { region: member.region, incarnation: member.incarnation };
        if let Some((why, left)) = self.replaced.remove(&(set.set, named)) {
            return (why, Some(left));
        }
        let is_taken = |region: &RepairRegion| {
            let mut others = self.known.iter().filter(|known| known.is_open_in(set.set));
            others.any(|known| known.repair.replaces == Some(*region))
        };
        let mut leaving = set.members.iter().filter(|other| other.is_leaving).map(region_of);
        if let Some(left) = leaving.find(|region| !is_taken(region)) {
            return (RepairReason::ReplacesLeaving, Some(left));
        }
        let is_gone = !of.gone.is_empty();
        (if is_gone { RepairReason::ReplacesGone } else { RepairReason::CatchesUp }, None)
    }

    fn end_all(&mut self, set: RegionSetId, by: By, end: End) {
        self.known.iter_mut().filter(|known| known.is_open_in(set)).for_each(|known| known.end(by, end));
    }

    /// What has ended long ago, and was told.
    fn forget(&mut self) {
        let is_told = |known: &Known| known.end.is_some() && (known.is_end_told || !self.tells);
        let told = self.known.iter().filter(|known| is_told(known)).count();
        let untold = self.known.iter().filter(|known| known.end.is_some() && !is_told(known)).count();
        let (mut told, mut untold) = (told.saturating_sub(SHOWN_MAX), untold.saturating_sub(UNTOLD_MAX));
        let tells = self.tells;
        let mut dropped = 0;
        self.known.retain(|known| {
            let is_told = known.is_end_told || !tells;
            let left = if known.end.is_none() {
                return true;
            } else if is_told {
                &mut told
            } else {
                &mut untold
            };
            let is_over = *left > 0;
            *left -= usize::from(is_over);
            dropped += u64::from(is_over && !is_told);
            !is_over
        });
        if dropped > 0 {
            self.dropped += dropped;
            tracing::error!(
                dropped = self.dropped,
                "ends of repairs are not told: nobody has taken them for too long"
            );
        }
    }
}

/// By which right, by which request, and when something was seen.
#[derive(Clone, Copy, Debug)]
struct By {
    epoch: u32,
    config_version: u64,
    at: Timestamp,
}

impl Known {
    fn is_open_in(&self, set: RegionSetId) -> bool {
        self.end.is_none() && self.repair.region_set_id == set
    }

    /// Never less than before, whoever has told of it.
    fn bytes_done(&self) -> u64 {
        self.progress.as_ref().map_or(self.done_before, |progress| progress.bytes_done)
    }

    fn note_progress(&mut self, set: &Status, fill: FillStatus) {
        self.source = fill.source;
        let bytes_done = fill.bytes_done.min(self.repair.bytes);
        let bytes_done = self.bytes_done().max(bytes_done);
        let waits = set.waits.iter().map(|wait| volume_notices::wait(wait.code)).collect();
        self.progress = Some(Progress { phase: volume_notices::phase(fill.phase), bytes_done, waits });
    }

    fn end(&mut self, by: By, end: End) {
        self.source = None;
        if self.end.is_none() {
            (self.epoch, self.config_version) = (by.epoch, by.config_version);
            self.end = Some((end, by.at));
            if let (End::Completed, Some(progress)) = (end, &mut self.progress) {
                progress.bytes_done = self.repair.bytes;
            }
        }
    }

    fn next_notice(&self, moment: Moment) -> Option<RepairNotice> {
        let repair = self.repair;
        // The outbox gives the number.
        let stamp =
            Stamp { epoch: self.epoch, sequence: 0, config_version: self.config_version, told_at: moment.at };
        if !self.is_start_told {
            let (why, told_at) = self.start?;
            return Some(RepairNotice::Start(RepairStart { repair, stamp: Stamp { told_at, ..stamp }, why }));
        }
        if let Some((end, told_at)) = self.end {
            let (outcome, interrupted_by) = end.words();
            let stamp = Stamp { told_at, ..stamp };
            let finish = RepairFinish { repair, stamp, outcome, interrupted_by };
            return (!self.is_end_told).then_some(RepairNotice::Finish(finish));
        }
        let progress = self.progress.as_ref()?;
        let is_due = self.told.as_ref().is_none_or(|(told, at)| {
            let is_other = told.phase != progress.phase || told.waits != progress.waits;
            is_other || (told != progress && moment.now.saturating_sub(*at) >= PROGRESS)
        });
        let Progress { phase, bytes_done, waits } = progress.clone();
        is_due.then_some(RepairNotice::Progress(RepairProgress { repair, stamp, phase, bytes_done, waits }))
    }

    fn status(&self) -> RepairStatus {
        let end = self.end.map(|(end, _)| end.words());
        RepairStatus {
            id: self.repair.id,
            region_set_id: self.repair.region_set_id,
            region: self.repair.region,
            replaces: self.repair.replaces,
            why: self.start.map(|(why, _)| why),
            started_at: self.start.map(|(_, at)| at),
            phase: self.progress.as_ref().map(|progress| progress.phase),
            source: self.source,
            bytes_done: self.bytes_done(),
            bytes: self.repair.bytes,
            waits: self.progress.as_ref().map(|progress| progress.waits.clone()).unwrap_or_default(),
            finished_at: self.end.map(|(_, at)| at),
            outcome: end.map(|(outcome, _)| outcome),
            interrupted_by: end.and_then(|(_, by)| by),
        }
    }
}

impl End {
    fn words(self) -> (RepairOutcome, Option<RepairInterruption>) {
        match self {
            End::Completed => (RepairOutcome::Completed, None),
            End::Interrupted(by) => (RepairOutcome::Interrupted, Some(by)),
        }
    }
}

fn region_of(member: &MemberStatus) -> RepairRegion {
    RepairRegion { region_id: member.region, incarnation: member.incarnation }
}

/// The volume that has this set among its own parts, and what is said of the set there.
fn layer_of(request: &ConstructionRequest, set: RegionSetId) -> Option<(&ConstructionRequest, &RegionSet)> {
    request.layers().find_map(|layer| Some((layer, layer.own_region_sets().find(|own| own.id == set)?)))
}

#[cfg(test)]
mod tests;
