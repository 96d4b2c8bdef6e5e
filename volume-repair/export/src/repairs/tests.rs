use super::*;
use std::net::SocketAddr;
use upstairs::{FillPhase, Wait, WaitCode};
use uuid::Uuid;
use volume_layers::Volume;

const MIB: u64 = 1 << 20;

/// A member's region by its number.
fn region(number: u128) -> RepairRegion {
    RepairRegion { region_id: RegionId(Uuid::from_u128(number)), incarnation: 1 }
}

fn request(version: u64, members: &[u128]) -> ConstructionRequest {
    let member = |number: &u128| volume_repair::Member {
        region_id: region(*number).region_id,
        incarnation: 1,
        address: SocketAddr::from(([127, 0, 0, 1], 1)),
    };
    let set = RegionSet::of(RegionSetId(Uuid::from_u128(80)), 256, members.iter().map(member).collect());
    let part = volume_repair::SubVolume::RegionSet(set);
    let first = ConstructionRequest::first(Uuid::from_u128(9), 3, 4_096, vec![part]);
    ConstructionRequest { config_version: version, ..first }
}

fn set_of(request: &mut ConstructionRequest) -> &mut RegionSet {
    match &mut request.sub_volumes[0] {
        volume_repair::SubVolume::RegionSet(set) => set,
        other => panic!("no set: {other:?}"),
    }
}

/// The next request: this member takes the place of that one.
fn replaced(before: &ConstructionRequest, old: u128, new: u128, is_gone: bool) -> ConstructionRequest {
    let mut newer = ConstructionRequest { config_version: before.config_version + 1, ..before.clone() };
    let set = set_of(&mut newer);
    let place = set.members.iter_mut().find(|member| member.region_id == region(old).region_id);
    let place = place.expect("it is a member");
    let left = std::mem::replace(place, volume_repair::Member { region_id: region(new).region_id, ..*place });
    if is_gone {
        set.gone.push(left.region_id);
    } else {
        set.leaving.push(left);
    }
    newer
}

/// What a volume of this request believes when all are full and it is active.
fn active(request: &ConstructionRequest) -> VolumeStatus {
    let volume = Volume::new(request.build(Uuid::nil(), None).expect("it is one"), &[]);
    let mut status = volume.status(Duration::ZERO);
    change(&mut status, |set| {
        (set.phase, set.epoch) = (PhaseName::Active, Some(request.epoch));
        set.waits.clear();
        set.members.iter_mut().for_each(|member| member.role = Role::Full);
    });
    status
}

fn change(status: &mut VolumeStatus, change: impl FnOnce(&mut Status)) {
    let VolumeStatus::Upstairs(set) = status else { panic!("it is one region set") };
    change(set);
}

/// This member is filled, and is so far.
fn fill(status: &mut VolumeStatus, number: u128, phase: FillPhase, bytes_done: u64) {
    change(status, |set| {
        let mut members = set.members.iter_mut();
        let member = members.find(|member| region_of(member) == region(number)).expect("it is a member");
        let source = (phase == FillPhase::Copying).then_some(region(1).region_id);
        (member.role, member.fill) =
            (Role::Filling, Some(FillStatus { phase, source, bytes_done, bytes: MIB }));
    });
}

/// Something that happens to a volume.
type Change = fn(&mut VolumeStatus);

/// Repairs, the time, and what was told.
struct Scene {
    repairs: Repairs,
    now: Duration,
    request: ConstructionRequest,
}

impl Scene {
    fn new(request: ConstructionRequest) -> Scene {
        let mut repairs = Repairs::new();
        repairs.tell([]);
        Scene { repairs, now: Duration::ZERO, request }
    }

    fn at(&self) -> Timestamp {
        Timestamp::from_second(self.now.as_secs().cast_signed()).expect("it is a time")
    }

    /// Looks a second later; what is told then.
    fn look(&mut self, status: &VolumeStatus) -> Vec<RepairNotice> {
        self.now += Duration::from_secs(1);
        self.repairs.look(self.at(), &self.request, status);
        self.told()
    }

    fn told(&mut self) -> Vec<RepairNotice> {
        let moment = Moment { now: self.now, at: self.at() };
        let next = |repairs: &mut Repairs| {
            let notice = repairs.next_notice(moment)?;
            notice.clone().with_sequence(1).check().expect("it can be true");
            repairs.note_taken(&notice, moment.now);
            Some(notice)
        };
        std::iter::from_fn(|| next(&mut self.repairs)).collect()
    }

    fn apply(&mut self, newer: ConstructionRequest) {
        self.repairs.note_request(&self.request, &newer);
        self.request = newer;
    }
}

/// Each in a word, with what it says.
fn words(told: &[RepairNotice]) -> Vec<String> {
    let word = |notice: &RepairNotice| match notice {
        RepairNotice::Start(start) => {
            let replaces = start.repair.replaces.map(|old| old.region_id.0.as_u128());
            format!("start {} {} {replaces:?}", start.repair.region.region_id.0.as_u128(), start.why.word())
        }
        RepairNotice::Progress(progress) => {
            let waits: Vec<&str> = progress.waits.iter().map(|wait| wait.word()).collect();
            format!("{} {} {waits:?}", progress.phase.word(), progress.bytes_done)
        }
        RepairNotice::Finish(finish) => {
            format!("{} {:?}", finish.outcome.word(), finish.interrupted_by.map(RepairInterruption::word))
        }
    };
    told.iter().map(word).collect()
}

#[test]
fn a_member_that_is_filled_is_told_from_its_start_to_its_end_under_one_id() {
    let mut scene = Scene::new(request(1, &[1, 2, 3]));
    let mut status = active(&scene.request);
    assert_eq!(words(&scene.look(&status)), [""; 0]);
    fill(&mut status, 3, FillPhase::Away, 0);
    let begun = scene.look(&status);
    assert_eq!(words(&begun), ["start 3 catches_up None", "away 0 []"]);
    assert_eq!(words(&scene.look(&status)), [""; 0], "nothing is new");
    fill(&mut status, 3, FillPhase::Copying, 4_096);
    change(&mut status, |set| {
        set.waits = vec![Wait { code: WaitCode::DiskRoom, members: Vec::new(), words: String::new() }];
    });
    assert_eq!(words(&scene.look(&status)), ["copying 4096 [\"disk_room\"]"]);
    // Bytes alone are told every two seconds.
    change(&mut status, |set| set.waits.clear());
    fill(&mut status, 3, FillPhase::Copying, 8_192);
    assert_eq!(words(&scene.look(&status)), ["copying 8192 []"], "it waits for nothing any more");
    fill(&mut status, 3, FillPhase::Copying, 12_288);
    assert_eq!(words(&scene.look(&status)), [""; 0]);
    assert_eq!(words(&scene.look(&status)), ["copying 12288 []"]);
    assert_eq!(scene.repairs.status()[0].source, Some(region(1).region_id));
    // It begins again: the same one, and no step back.
    fill(&mut status, 3, FillPhase::Away, 0);
    assert_eq!(words(&scene.look(&status)), ["away 12288 []"]);
    assert_eq!(scene.repairs.status()[0].source, None, "nobody copies");
    let whole = active(&scene.request);
    let ended = scene.look(&whole);
    assert_eq!(words(&ended), ["completed None"]);
    assert_eq!(ended[0].repair().id, begun[0].repair().id);
    assert_eq!(ended[0].stamp().epoch, 3);
    let shown = &scene.repairs.status()[0];
    assert_eq!((shown.bytes_done, shown.outcome), (MIB, Some(RepairOutcome::Completed)));
    assert_eq!(shown.source, None);
    // Whoever is filled again has a new id.
    fill(&mut status, 3, FillPhase::Copying, 0);
    let again = scene.look(&status);
    assert_eq!(words(&again), ["start 3 catches_up None", "copying 0 []"]);
    assert_ne!(again[0].repair().id, begun[0].repair().id);
}

#[test]
fn nobody_is_the_source_while_all_members_are_asked_again_or_nobody_fills_the_member() {
    let mut scene = Scene::new(request(1, &[1, 2, 3]));
    let mut copied = active(&scene.request);
    fill(&mut copied, 3, FillPhase::Copying, 4_096);
    let changes: [Change; 4] = [
        |status| change(status, |set| set.phase = PhaseName::Gathering),
        |status| change(status, |set| set.phase = PhaseName::BringingUp),
        |status| change(status, |set| set.phase = PhaseName::Listing),
        |status| change(status, |set| set.members.iter_mut().for_each(|member| member.fill = None)),
    ];
    for change in changes {
        scene.look(&copied);
        assert_eq!(scene.repairs.status()[0].source, Some(region(1).region_id));
        let mut status = copied.clone();
        change(&mut status);
        scene.look(&status);
        let [shown] = &scene.repairs.status()[..] else { panic!("it is the same repair") };
        assert_eq!((shown.source, shown.bytes_done, shown.outcome), (None, 4_096, None));
    }
}

#[test]
fn whose_place_it_takes_is_told_as_the_request_has_it() {
    for (is_gone, why) in
        [(false, "start 4 replaces_leaving Some(2)"), (true, "start 4 replaces_gone Some(2)")]
    {
        let mut scene = Scene::new(request(1, &[1, 2, 3]));
        scene.look(&active(&scene.request.clone()));
        let newer = replaced(&scene.request, 2, 4, is_gone);
        scene.apply(newer);
        let mut status = active(&scene.request);
        fill(&mut status, 4, FillPhase::Queued, 0);
        let begun = scene.look(&status);
        assert_eq!(words(&begun)[0], why);
        assert_eq!(begun[0].stamp().config_version, 2);
        scene.look(&active(&scene.request.clone()));
        // It is a member as any other by now, once nobody leaves and nobody is gone.
        set_of(&mut scene.request).gone.clear();
        change(&mut status, |set| set.members.retain(|member| !member.is_leaving));
        fill(&mut status, 4, FillPhase::Copying, 0);
        assert_eq!(words(&scene.look(&status))[0], "start 4 catches_up None");
    }
}

#[test]
fn who_was_built_with_members_that_leave_says_whose_place_is_taken_while_they_do() {
    let mut scene = Scene::new(replaced(&request(1, &[1, 2, 3]), 2, 4, false));
    let mut status = active(&scene.request);
    assert!(matches!(&status, VolumeStatus::Upstairs(set) if set.members[3].is_leaving));
    fill(&mut status, 4, FillPhase::Copying, 0);
    fill(&mut status, 1, FillPhase::Queued, 0);
    let told = words(&scene.look(&status));
    assert_eq!(told[0], "start 1 replaces_leaving Some(2)", "{told:?}");
    assert_eq!(told[2], "start 4 catches_up None", "one place is taken once: {told:?}");
}

#[test]
fn what_interrupts_a_repair_is_told() {
    let ends: [(&str, Change); 4] = [
        ("newer_epoch", |status| change(status, |set| set.phase = PhaseName::Fenced)),
        ("writes_lost", |status| change(status, |set| set.phase = PhaseName::Lost)),
        ("member_dismissed", |status| change(status, |set| drop(set.members.remove(2)))),
        ("member_dismissed", |status| change(status, |set| set.members[2].is_leaving = true)),
    ];
    for (by, end) in ends {
        let mut scene = Scene::new(request(1, &[1, 2, 3]));
        let mut status = active(&scene.request);
        fill(&mut status, 3, FillPhase::Copying, 0);
        scene.look(&status);
        // Until it knows who counts, it says nothing.
        change(&mut status, |set| set.phase = PhaseName::Gathering);
        assert_eq!(words(&scene.look(&status)), [""; 0]);
        change(&mut status, |set| set.phase = PhaseName::Active);
        end(&mut status);
        // Who leaves is not filled.
        change(&mut status, |set| {
            set.members.iter_mut().filter(|member| member.is_leaving).for_each(|member| member.fill = None);
        });
        assert_eq!(words(&scene.look(&status)), [format!("interrupted Some({by:?})")]);
        assert_eq!(words(&scene.look(&status)), [""; 0], "once");
    }
    let mut scene = Scene::new(request(1, &[1, 2, 3]));
    let mut status = active(&scene.request);
    fill(&mut status, 3, FillPhase::Copying, 0);
    scene.look(&status);
    scene.repairs.stop(scene.at());
    assert_eq!(words(&scene.told()), ["interrupted Some(\"stopped\")"]);
}

#[test]
fn what_an_earlier_life_has_begun_goes_on_or_is_ended() {
    let mut scene = Scene::new(request(1, &[1, 2, 3]));
    let mut status = active(&scene.request);
    for number in [1, 2, 3] {
        fill(&mut status, number, FillPhase::Copying, 8_192);
    }
    let begun = scene.look(&status);
    let open: Vec<Repair> = begun.iter().map(RepairNotice::repair).copied().collect();
    let [one, two, three] = [open[0], open[2], open[4]];

    // The next life has one of them as it was, one that is full by now, and one that is no member any more.
    let mut next = Scene::new(ConstructionRequest { epoch: 4, ..replaced(&scene.request, 3, 4, true) });
    next.repairs.tell([one, two, three].map(|repair| OpenRepair { repair, bytes_done: 8_192 }));
    assert_eq!(next.repairs.status()[0].bytes_done, 8_192, "nobody has looked yet");
    let mut status = active(&next.request);
    fill(&mut status, 1, FillPhase::Copying, 4_096);
    let told = next.look(&status);
    // The first one is compared once more: that is no step back.
    let said: Vec<(RepairId, String)> =
        told.iter().map(|notice| notice.repair().id).zip(words(&told)).collect();
    assert_eq!(
        said,
        [
            (one.id, "copying 8192 []".to_owned()),
            (two.id, "completed None".to_owned()),
            (three.id, "interrupted Some(\"member_dismissed\")".to_owned()),
        ]
    );
    assert!(told.iter().all(|notice| notice.stamp().epoch == 4));
    assert_eq!(next.repairs.status()[0].bytes_done, 8_192);
    next.now += PROGRESS;
    fill(&mut status, 1, FillPhase::Copying, 12_288);
    assert_eq!(words(&next.look(&status)), ["copying 12288 []"]);
}

#[test]
fn what_is_not_taken_comes_again_and_nothing_grows_without_end() {
    let mut scene = Scene::new(request(1, &[1, 2, 3]));
    let (whole, mut filled) = (active(&scene.request), active(&scene.request));
    fill(&mut filled, 3, FillPhase::Copying, 0);
    for _ in 0..2 * UNTOLD_MAX {
        scene.repairs.look(Timestamp::UNIX_EPOCH, &scene.request, &filled);
        scene.repairs.look(Timestamp::UNIX_EPOCH, &scene.request, &whole);
    }
    assert_eq!((scene.repairs.known.len(), scene.repairs.dropped), (UNTOLD_MAX, UNTOLD_MAX as u64));
    assert_eq!(scene.repairs.status().len(), SHOWN_MAX);
    let told = words(&scene.told());
    assert_eq!(told.iter().filter(|word| word.starts_with("start")).count(), UNTOLD_MAX);
    assert_eq!(told.iter().filter(|word| word.starts_with("completed")).count(), UNTOLD_MAX);
    scene.look(&whole);
    assert_eq!(scene.repairs.known.len(), SHOWN_MAX);

    // If nobody is told, they are shown all the same.
    let mut silent = Repairs::new();
    silent.look(Timestamp::UNIX_EPOCH, &scene.request, &filled);
    silent.look(Timestamp::UNIX_EPOCH, &scene.request, &whole);
    let moment = Moment { now: Duration::from_secs(100), at: Timestamp::UNIX_EPOCH };
    assert!(silent.next_notice(moment).is_none());
    assert_eq!(silent.status()[0].outcome, Some(RepairOutcome::Completed));
}
