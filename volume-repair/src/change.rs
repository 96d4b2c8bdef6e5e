//! The replacement executor: a newer construction request is applied to the volume that runs by an older one. Compares the two, and tells
//! each region set which members there are to be, and the volume whether it goes on without a parent; whether it may, and how it comes about, is the Upstairs'.
//!
//! ```text
//!   request of version v ──newer one──► differs in members alone? ──no──► refused: nothing has changed
//!                                          └─yes──► would every region set do it? ──no──► refused: nothing has changed
//!                                                        └─yes──► all are told; it runs by the newer request: started
//!   (members that a snapshot is read from are others at once: all of them hold the same, and nobody is filled)
//!   no parent any more, and nothing else of that kind ──is all of it the volume's own, durably? yes──► nothing is seen through to it any more
//!
//!   the same version once more ──► vcr_matches, if the volume was built by it; started_already or completed_already, if it was changed to it
//! ```

use crate::{
    newcomers::{Newcomer, newcomers},
    request::{ConstructionRequest, RegionSet, SubVolume},
};
use ids::{RegionId, RegionSetId, SnapshotId};
use region::Member;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::Duration,
};
use upstairs::{Action, MEMBERS_MAX, MembersError, Trouble};
use uuid::Uuid;
use volume_layers::{ParentNeeded, SourceId, Volume};

/// What has become of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Applied {
    /// Members are replaced from now on, or nothing lies under the volume any more.
    Started,
    /// Members are being replaced since an earlier time.
    StartedAlready,
    /// They were replaced.
    CompletedAlready,
    /// There is nothing to do: it has the members that the volume was built with.
    VcrMatches,
    /// No such volume runs here.
    Missing,
}

/// Why the volume goes on as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// It is of something else.
    #[error("the request is of volume {theirs}, and this is volume {ours}")]
    OtherVolume {
        /// In the request.
        theirs: Uuid,
        /// That runs.
        ours: Uuid,
    },
    /// Somebody has changed it since.
    #[error("the request has version {theirs}, and the volume runs by version {ours}")]
    Older {
        /// Of the request.
        theirs: u64,
        /// Of the one that it runs by.
        ours: u64,
    },
    /// Two requests of one version.
    #[error("the volume runs by another request of version {0}: a request that differs has a higher version")]
    VersionTaken(u64),
    /// Only members may be changed while it runs.
    #[error(
        "the request changes {what} of the volume, and only members of region sets may change while it runs, and what lies under it may be given up when \
         it is not needed"
    )]
    Differs {
        /// What it changes.
        what: &'static str,
    },
    /// What nobody ever wrote in the volume would be lost.
    #[error("the request has no parent any more, and the volume needs the one that it has")]
    ParentNeeded(#[source] ParentNeeded),
    /// It would be written twice, or read while it is written.
    #[error("region {0} is there twice: a volume has each of its regions once")]
    RegionTwice(RegionId),
    /// A snapshot is read from 1 to 3 regions, each of them once, and nothing else is known of it.
    #[error(
        "snapshot {snapshot} is to be read from {members} regions, with {others} that leave, are gone or are there twice: it is read from 1 to {MEMBERS_MAX}"
    )]
    SnapshotMembers {
        /// Which.
        snapshot: SnapshotId,
        /// How many it names.
        members: usize,
        /// And of others.
        others: usize,
    },
    /// It is another one than the request means, and says so.
    #[error("region {region} can be no member of region set {set}")]
    Unfit {
        /// Which.
        region: RegionId,
        /// Of which set.
        set: RegionSetId,
        /// What it says.
        #[source]
        source: Trouble,
    },
    /// A region set keeps its members.
    #[error("the members of region set {set} stay as they are")]
    Members {
        /// Which.
        set: RegionSetId,
        /// Why.
        #[source]
        source: MembersError,
    },
}

impl ChangeError {
    /// A name for programs, which does not change.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            ChangeError::OtherVolume { .. } => "request_other_volume",
            ChangeError::Older { .. } => "request_older",
            ChangeError::VersionTaken(_) => "request_version_taken",
            ChangeError::Differs { .. } => "request_differs",
            ChangeError::ParentNeeded(_) => "request_parent_needed",
            ChangeError::RegionTwice(_) => "volume_region_twice",
            ChangeError::SnapshotMembers { .. } => "volume_snapshot_members",
            ChangeError::Unfit { .. } => "volume_member_unfit",
            ChangeError::Members { source, .. } => members_code(source),
        }
    }
}

/// The same for a region set's reasons.
#[must_use]
pub fn members_code(error: &MembersError) -> &'static str {
    match error {
        MembersError::Count(_) | MembersError::LeavingCount(_) => "volume_members",
        MembersError::Twice(_) => "volume_region_twice",
        MembersError::Ended { .. } => "volume_ended",
        MembersError::NotActive => "volume_not_active",
        MembersError::NobodyStays => "volume_nobody_stays",
        MembersError::NotGone { .. } => "volume_member_not_gone",
        MembersError::Here { .. } => "volume_member_is_here",
    }
}

/// By which request a volume runs.
#[derive(Clone, Debug)]
pub struct Executor {
    request: ConstructionRequest,
    /// Whether it was built by an earlier one, with other members.
    has_changed: bool,
}

impl Executor {
    /// Of a volume that was built by this request.
    #[must_use]
    pub fn new(request: ConstructionRequest) -> Executor {
        Executor { request, has_changed: false }
    }

    /// The newest request that was applied.
    #[must_use]
    pub fn request(&self) -> &ConstructionRequest {
        &self.request
    }

    /// Where members are served.
    #[must_use]
    pub fn addresses(&self) -> BTreeMap<Member, SocketAddr> {
        let members = self.request.region_sets().flat_map(RegionSet::all);
        members.map(|member| ((*member).into(), member.address)).collect()
    }

    /// Members that snapshots are read from, of each source that is one.
    pub fn readers_members(&self) -> impl Iterator<Item = (SourceId, Vec<(Member, SocketAddr)>)> + '_ {
        let parts = self.request.layers().flat_map(|layer| &layer.sub_volumes);
        let sources = parts.filter(|part| match part {
            SubVolume::RegionSet(set) => set.snapshot.is_some(),
            SubVolume::File(_) | SubVolume::Url(_) => true,
        });
        sources.enumerate().filter_map(|(number, part)| match part {
            SubVolume::RegionSet(set) => {
                let members = set.members.iter().map(|member| ((*member).into(), member.address));
                Some((SourceId(number), members.collect()))
            }
            SubVolume::File(_) | SubVolume::Url(_) => None,
        })
    }

    /// Who is to be looked at before a request is applied: nobody, if it changes nothing or would be refused anyway.
    #[must_use]
    pub fn newcomers(&self, now: Duration, volume: &Volume, newer: &ConstructionRequest) -> Vec<Newcomer> {
        match self.check(now, volume, newer) {
            Ok(Applied::Started) => newcomers(&self.request, newer),
            _ => Vec::new(),
        }
    }

    /// What [`Executor::apply`] would answer; nothing changes.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub fn check(
        &self,
        now: Duration,
        volume: &Volume,
        newer: &ConstructionRequest,
    ) -> Result<Applied, ChangeError> {
        let (ours, theirs) = (&self.request, newer);
        if theirs.id != ours.id {
            return Err(ChangeError::OtherVolume { theirs: theirs.id, ours: ours.id });
        }
        if theirs.config_version < ours.config_version {
            return Err(ChangeError::Older { theirs: theirs.config_version, ours: ours.config_version });
        }
        // The right to write it is nobody's to change by this.
        let is_same = ConstructionRequest { epoch: ours.epoch, ..theirs.clone() } == *ours;
        if theirs.config_version == ours.config_version && !is_same {
            return Err(ChangeError::VersionTaken(ours.config_version));
        }
        // It was applied, or it is what the volume began with: what has become of its members since is nobody's mistake.
        if is_same {
            return Ok(self.how_far(volume));
        }
        check_layers(ours, theirs)?;
        let is_given_up = gives_up_parents(ours, theirs);
        if is_given_up {
            volume.may_drop_parents().map_err(ChangeError::ParentNeeded)?;
        }
        let mut regions = BTreeSet::new();
        let mut all = theirs.region_sets().flat_map(RegionSet::all);
        if let Some(twice) = all.find(|member| !regions.insert(member.region_id)) {
            return Err(ChangeError::RegionTwice(twice.region_id));
        }
        for (number, set) in theirs.region_sets().enumerate() {
            let may = volume.may_set_members(now, number, &set.named());
            may.map_err(|source| ChangeError::Members { set: set.id, source })?;
        }
        let wanted = |request: &ConstructionRequest| {
            request.region_sets().map(|set| set.named().wanted).collect::<Vec<_>>()
        };
        let read = |request: &ConstructionRequest| {
            let sets = snapshots(request).map(|(_, set)| set.members.clone());
            sets.collect::<Vec<_>>()
        };
        let is_other = || wanted(ours) != wanted(theirs) || read(ours) != read(theirs);
        Ok(if is_given_up || is_other() { Applied::Started } else { self.how_far(volume) })
    }

    /// Of a request that changes nothing.
    fn how_far(&self, volume: &Volume) -> Applied {
        match () {
            () if !self.has_changed => Applied::VcrMatches,
            () if volume.is_replacing() => Applied::StartedAlready,
            () => Applied::CompletedAlready,
        }
    }

    /// Applies a newer request, or the same one once more, to the volume that runs. What is to be done for it is told, too.
    ///
    /// # Errors
    /// [`ChangeError`]; nothing has changed.
    ///
    /// # Panics
    /// If the volume was not built by the request that this one began with.
    pub fn apply(
        &mut self,
        now: Duration,
        volume: &mut Volume,
        newer: ConstructionRequest,
    ) -> Result<(Applied, Vec<Action>), ChangeError> {
        let applied = self.check(now, volume, &newer)?;
        let mut actions = Vec::new();
        if newer.config_version == self.request.config_version {
            // A later right to write it, at most.
            self.request = newer;
            return Ok((applied, actions));
        }
        for (number, set) in newer.region_sets().enumerate() {
            let set_members = volume.set_members(now, number, &set.named());
            actions.extend(set_members.expect("it was asked whether it may be"));
        }
        if gives_up_parents(&self.request, &newer) {
            actions.extend(volume.drop_parents(now).expect("it was asked whether it may be"));
        }
        self.has_changed |= applied == Applied::Started;
        self.request = newer;
        Ok((applied, actions))
    }
}

/// Whether nothing is to lie under it any more.
fn gives_up_parents(ours: &ConstructionRequest, theirs: &ConstructionRequest) -> bool {
    ours.read_only_parent.is_some() && theirs.read_only_parent.is_none()
}

/// Whether they differ in nothing but members, what lies under one and not under the newer one, and what counts up.
fn check_layers(ours: &ConstructionRequest, theirs: &ConstructionRequest) -> Result<(), ChangeError> {
    let differs = |what| Err(ChangeError::Differs { what });
    if ours.layers().count() != theirs.layers().count() && !gives_up_parents(ours, theirs) {
        return differs("what lies under it");
    }
    for (ours, theirs) in ours.layers().zip(theirs.layers()) {
        if ours.id != theirs.id {
            return differs("what lies under it");
        }
        if ours.block_size != theirs.block_size {
            return differs("the size of blocks");
        }
        if ours.sub_volumes.len() != theirs.sub_volumes.len() {
            return differs("the number of parts");
        }
        for parts in ours.sub_volumes.iter().zip(&theirs.sub_volumes) {
            match parts {
                (SubVolume::RegionSet(ours), SubVolume::RegionSet(theirs))
                    if ours.snapshot == theirs.snapshot =>
                {
                    check_set(ours, theirs)?;
                }
                (ours, theirs) if ours == theirs => {}
                _ => return differs("a part that is only read, or makes one of it,"),
            }
        }
    }
    snapshots(theirs).try_for_each(|(snapshot, set)| check_readers_members(snapshot, set))
}

/// The region sets of which a snapshot is read.
fn snapshots(request: &ConstructionRequest) -> impl Iterator<Item = (SnapshotId, &RegionSet)> {
    request.layers().flat_map(|layer| &layer.sub_volumes).filter_map(|part| match part {
        SubVolume::RegionSet(set) => Some((set.snapshot?, set)),
        SubVolume::File(_) | SubVolume::Url(_) => None,
    })
}

fn check_readers_members(snapshot: SnapshotId, set: &RegionSet) -> Result<(), ChangeError> {
    let different: BTreeSet<RegionId> = set.members.iter().map(|member| member.region_id).collect();
    let members = set.members.len();
    let others = set.leaving.len() + set.gone.len() + members - different.len();
    if (1..=MEMBERS_MAX).contains(&members) && others == 0 {
        Ok(())
    } else {
        Err(ChangeError::SnapshotMembers { snapshot, members, others })
    }
}

fn check_set(ours: &RegionSet, theirs: &RegionSet) -> Result<(), ChangeError> {
    let differs = |what| Err(ChangeError::Differs { what });
    let blocks = |set: &RegionSet| set.blocks_per_extent.saturating_mul(set.extent_count);
    if ours.id != theirs.id {
        differs("a region set")
    } else if blocks(ours) != blocks(theirs) {
        differs("the size")
    } else if ours.encryption != theirs.encryption {
        differs("the encryption")
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::examples::{encrypted, example, file, of, over, set, snapshot_of};
    use crate::request::Member as Region;

    /// A volume that runs by this request, and was not activated.
    fn running(request: ConstructionRequest) -> (Executor, Volume) {
        let sources = request.build(Uuid::nil(), None).expect("it is one").sources().len();
        running_over(request, &vec![2_000; sources])
    }

    /// The same, with sources of so many blocks.
    fn running_over(request: ConstructionRequest, source_blocks: &[u64]) -> (Executor, Volume) {
        let composition = request.build(Uuid::nil(), None).expect("it is one");
        (Executor::new(request), Volume::new(composition, source_blocks))
    }

    fn apply(
        (executor, volume): &mut (Executor, Volume),
        newer: &ConstructionRequest,
    ) -> Result<Applied, ChangeError> {
        let before = executor.request().clone();
        let checked = executor.check(Duration::ZERO, volume, newer);
        assert_eq!(*executor.request(), before);
        let applied = executor.apply(Duration::ZERO, volume, newer.clone()).map(|(applied, _)| applied);
        assert_eq!(applied, checked);
        applied
    }

    fn set_of(request: &mut ConstructionRequest) -> &mut RegionSet {
        match &mut request.sub_volumes[0] {
            SubVolume::RegionSet(set) => set,
            other => panic!("no set: {other:?}"),
        }
    }

    /// The next version, with a new region in the place of the last one.
    fn replaced(request: &ConstructionRequest) -> ConstructionRequest {
        let mut newer = ConstructionRequest { config_version: request.config_version + 1, ..request.clone() };
        let set = set_of(&mut newer);
        let new = Region {
            region_id: RegionId(Uuid::from_u128(u128::from(request.config_version) + 5_000)),
            ..set.members[2]
        };
        let old = std::mem::replace(&mut set.members[2], new);
        set.leaving = vec![old];
        newer
    }

    #[test]
    fn a_newer_request_is_applied_once_and_told_what_has_become_of_it() {
        let mut running = running(example());
        assert_eq!(apply(&mut running, &example()), Ok(Applied::VcrMatches));
        let only_newer = ConstructionRequest { config_version: 2, epoch: 9, ..example() };
        assert_eq!(apply(&mut running, &only_newer), Ok(Applied::VcrMatches));
        let newer = replaced(&only_newer);
        assert_eq!(apply(&mut running, &newer), Ok(Applied::Started));
        assert_eq!(apply(&mut running, &newer), Ok(Applied::StartedAlready));
        let named = newer.region_sets().next().map(RegionSet::named).expect("there is one");
        // Those that leave may be needed, and keep their places.
        assert_eq!(running.0.addresses().len(), 4);
        assert_eq!(running.1.member_at(upstairs::PeerId(3)), Some(named.wanted[2]));
        let mut without = ConstructionRequest { config_version: 4, ..newer };
        set_of(&mut without).leaving.clear();
        let refused = apply(&mut running, &without).expect_err("nobody knows who is full");
        assert_eq!(refused.code(), "volume_not_active");
        assert_eq!(running.0.addresses().len(), 4);
    }

    #[test]
    fn the_same_request_again_is_told_what_has_become_of_it_also_when_the_volume_is_another_ones() {
        let mut running = running(example());
        let newer = replaced(&example());
        assert_eq!(apply(&mut running, &newer), Ok(Applied::Started));
        let volume = &mut running.1;
        drop(volume.activate(Duration::ZERO));
        drop(volume.tick(Duration::from_secs(1)));
        drop(volume.connected(Duration::from_secs(1), upstairs::PeerId(0), true));
        let other = region::Promotion { epoch: 90, session: Uuid::from_u128(4) };
        let fenced = vec![region_wire::Reply::Fenced(other)];
        drop(volume.received(Duration::from_secs(1), upstairs::PeerId(0), fenced));
        assert_eq!(apply(&mut running, &newer), Ok(Applied::StartedAlready));
        let refused = apply(&mut running, &replaced(&newer)).expect_err("it is no volume of ours");
        assert_eq!(refused.code(), "volume_ended");
    }

    #[test]
    fn members_that_a_snapshot_is_read_from_are_others_at_once_and_told_so_once() {
        let beside = SubVolume::RegionSet(snapshot_of(set(8)));
        let before = of(vec![file("/a"), beside, file("/b")]);
        let before = over(before, of(vec![SubVolume::RegionSet(snapshot_of(set(7)))]));
        let newer = |change: fn(&mut RegionSet)| {
            let mut newer =
                ConstructionRequest { config_version: before.config_version + 1, ..before.clone() };
            let SubVolume::RegionSet(set) = &mut newer.sub_volumes[1] else { panic!("no set") };
            change(set);
            newer
        };
        let mut running = running(before.clone());
        let others = newer(|set| {
            set.members.truncate(2);
            set.members[0].region_id = RegionId(Uuid::from_u128(777));
        });
        assert_eq!(apply(&mut running, &others), Ok(Applied::Started));
        assert_eq!(apply(&mut running, &others), Ok(Applied::CompletedAlready));
        let told: Vec<_> = running.0.readers_members().collect();
        let numbers: Vec<_> = told.iter().map(|(source, members)| (source.0, members.len())).collect();
        // The file is the first source, and the parent's set the last one.
        assert_eq!(numbers, [(1, 2), (3, 3)]);
        assert_eq!(told[0].1[0].0.region, RegionId(Uuid::from_u128(777)));
        for wrong in [
            (|set| set.members.clear()) as fn(&mut RegionSet),
            |set| set.members.push(set.members[0]),
            |set| set.members[1] = set.members[0],
            |set| set.leaving.push(set.members[0]),
            |set| set.gone.push(set.members[0].region_id),
        ] {
            let mut running = self::running(before.clone());
            let refused = apply(&mut running, &newer(wrong)).expect_err("it is refused");
            assert_eq!(refused.code(), "volume_snapshot_members");
            assert_eq!(running.0.readers_members().next().map(|(_, members)| members.len()), Some(3));
        }
        for (change, words) in [
            ((|set| set.snapshot = Some(SnapshotId(Uuid::from_u128(99)))) as fn(&mut RegionSet), "a part"),
            (|set| set.id = RegionSetId(Uuid::from_u128(99)), "a region set"),
            (|set| set.extent_count += 1, "the size"),
        ] {
            let mut running = self::running(before.clone());
            let refused = apply(&mut running, &newer(change)).expect_err("it is another part");
            assert!(refused.code() == "request_differs" && refused.to_string().contains(words), "{refused}");
        }
    }

    #[test]
    fn a_parent_is_given_up_only_when_it_is_not_needed_and_none_comes_back() {
        let mut running = running_over(over(example(), of(vec![file("/a")])), &[1_000]);
        let without = ConstructionRequest { config_version: 2, ..example() };
        let refused = apply(&mut running, &without).expect_err("nothing was copied");
        assert_eq!(refused.code(), "request_parent_needed");
        let words = std::error::Error::source(&refused).expect("why").to_string();
        assert!(words.contains("4096000 of 4096000 bytes"), "{words}");
        running.1.start_scrub(Duration::ZERO).expect("it is begun");
        assert_eq!(apply(&mut running, &without).map_err(|error| error.code()), Err("request_parent_needed"));
        // Another parent, or one below it that is gone, is another volume.
        for newer in [
            over(without.clone(), of(vec![file("/b")])),
            over(without, over(of(vec![file("/a")]), of(vec![file("/b")]))),
        ] {
            assert_eq!(apply(&mut running, &newer).map_err(|error| error.code()), Err("request_differs"));
        }
    }

    #[test]
    fn what_is_not_a_newer_request_of_the_same_volume_is_refused() {
        let refused = |change: fn(&mut ConstructionRequest)| {
            let mut running = running(ConstructionRequest { config_version: 5, ..example() });
            let mut newer = ConstructionRequest { config_version: 6, ..example() };
            change(&mut newer);
            let before = running.1.status(Duration::ZERO);
            let error = apply(&mut running, &newer).expect_err("it is refused");
            assert_eq!(running.1.status(Duration::ZERO), before);
            (error.code(), error.to_string())
        };
        let code = |change| refused(change).0;
        assert_eq!(code(|request| request.id = Uuid::from_u128(1)), "request_other_volume");
        assert_eq!(code(|request| request.config_version = 4), "request_older");
        assert_eq!(
            code(|request| {
                request.config_version = 5;
                set_of(request).members.swap(0, 1);
            }),
            "request_version_taken"
        );
        for (change, what) in [
            ((|request| request.block_size = 512) as fn(&mut ConstructionRequest), "size of blocks"),
            (|request| set_of(request).extent_count = 3, "the size"),
            (|request| set_of(request).id = RegionSetId(Uuid::from_u128(77)), "a region set"),
            (|request| set_of(request).encryption = set_of(&mut encrypted()).encryption, "the encryption"),
            (|request| request.sub_volumes.push(SubVolume::RegionSet(set(9))), "number of parts"),
            (|request| request.sub_volumes[0] = file("/a"), "a part"),
            (|request| set_of(request).snapshot = Some(SnapshotId(Uuid::nil())), "a part"),
            (|request| *request = over(request.clone(), of(vec![file("/a")])), "under it"),
        ] {
            let (code, words) = refused(change);
            assert_eq!(code, "request_differs");
            assert!(words.contains(what), "{words}");
        }
        assert_eq!(code(|request| set_of(request).members.truncate(1)), "volume_members");
        assert_eq!(
            code(|request| {
                let one = set_of(request).members[0];
                set_of(request).leaving.push(one);
            }),
            "volume_region_twice"
        );
    }
}
