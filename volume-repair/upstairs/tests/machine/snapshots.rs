//! Snapshots of members of which some go away meanwhile.

use crate::trio::{SIZE, Trio, Writer};
use ids::SnapshotId;
use std::time::Duration;
use upstairs::{Job, JobError, Patience};
use uuid::Uuid;

#[test]
fn one_that_only_one_member_has_ends_in_time_and_says_which_one_has_it() {
    let mut trio = Trio::new(false);
    let mut writer = Writer::start_with(&mut trio, 1, 0, Patience::default());
    writer.write(&mut trio, 3, &[1]);
    trio.away = vec![1, 2];
    let snapshot = SnapshotId(Uuid::from_u128(77));
    let id = writer.ask(&mut trio, Job::Snapshot(snapshot));
    let (end, waited) = writer.wait_for(&mut trio, id);
    assert!((Duration::from_secs(10)..Duration::from_secs(11)).contains(&waited), "{waited:?}");
    let Some(Err(JobError::Snapshot { why, .. })) = end else { panic!("{end:?}") };
    let first = ids::RegionId(Uuid::from_u128(1)).to_string();
    assert!(why.contains(&first) && why.contains("delete it"), "{why}");

    // Nothing of it is waited for, and it is not taken again.
    trio.away.clear();
    for _ in 0..60 {
        writer.tick(&mut trio);
    }
    let delete = writer.ask(&mut trio, Job::DeleteSnapshot(snapshot));
    assert_eq!(writer.end_of(delete), Some(Ok(())));
    let again = writer.ask(&mut trio, Job::Snapshot(snapshot));
    let Some(Err(JobError::Snapshot { why, .. })) = writer.end_of(again) else { panic!("it is taken again") };
    assert!(why.contains("was deleted, and is not taken again"), "{why}");
    let other = writer.ask(&mut trio, Job::Snapshot(SnapshotId(Uuid::from_u128(78))));
    assert_eq!((writer.end_of(other), writer.snapshots[&other].len()), (Some(Ok(())), 3));
}

#[test]
fn asked_for_once_more_it_is_the_one_that_is_there_whatever_was_written_since() {
    let mut trio = Trio::new(false);
    let mut writer = Writer::start_with(&mut trio, 1, 0, Patience::default());
    writer.write(&mut trio, 3, &[1]);
    let snapshot = SnapshotId(Uuid::from_u128(77));
    trio.away = vec![2];
    let first = writer.ask(&mut trio, Job::Snapshot(snapshot));
    let (end, _) = writer.wait_for(&mut trio, first);
    assert_eq!((end, writer.snapshots[&first].len()), (Some(Ok(())), 2));

    // The third one takes it now: what it has is another content.
    trio.away.clear();
    for _ in 0..60 {
        writer.tick(&mut trio);
    }
    writer.write(&mut trio, 3, &[2]);
    let again = writer.ask(&mut trio, Job::Snapshot(snapshot));
    assert_eq!(writer.end_of(again), Some(Ok(())));
    assert_eq!(writer.snapshots[&again], writer.snapshots[&first]);
    let mut bytes = Vec::new();
    trio.members[0].region_mut().read_snapshot(snapshot, 3..4, &mut bytes).expect("it is there");
    assert_eq!(bytes[0], 1);
}

#[test]
fn one_that_only_one_member_had_is_not_taken_by_the_others_later() {
    let mut trio = Trio::new(false);
    let mut writer = Writer::start_with(&mut trio, 1, 0, Patience::default());
    writer.write(&mut trio, 3, &[1]);
    let snapshot = SnapshotId(Uuid::from_u128(77));
    let applied = trio.members[1].region().applied();
    let taking = trio.members[1].region_mut().begin_snapshot(snapshot).expect("it is begun").run();
    let end = trio.members[1].region_mut().end_snapshot(taking).expect("it is in order");
    assert!(matches!(end, region::TakingEnd::Taken));
    writer.write(&mut trio, 3, &[2]);
    let id = writer.ask(&mut trio, Job::Snapshot(snapshot));
    let Some(Err(JobError::Snapshot { why, .. })) = writer.end_of(id) else { panic!("it is taken") };
    assert!(why.contains(&format!("has one of position {applied}")), "{why}");
}

#[test]
fn one_that_cannot_be_begun_is_not_begun_later_than_it_is_waited_for() {
    let mut trio = Trio::new(false);
    // One write at a time.
    trio.limits.window_entries = 1;
    let mut writer = Writer::start_with(&mut trio, 1, 0, Patience::default());
    trio.away = vec![0, 1, 2];
    let write = |block| Job::Write { first: block, bytes: vec![1; SIZE].into(), is_durable: false };
    let writes: Vec<_> = (0..3).map(|block| writer.ask(&mut trio, write(block))).collect();
    let id = writer.ask(&mut trio, Job::Snapshot(SnapshotId(Uuid::from_u128(77))));
    let (end, waited) = writer.wait_for(&mut trio, id);
    assert!((Duration::from_secs(10)..Duration::from_secs(11)).contains(&waited), "{waited:?}");
    let Some(Err(JobError::Snapshot { why, .. })) = end else { panic!("{end:?}") };
    assert!(why.contains("no member was asked"), "{why}");
    trio.away.clear();
    for _ in 0..60 {
        writer.tick(&mut trio);
    }
    assert!(writes.into_iter().all(|id| writer.end_of(id) == Some(Ok(()))));
    assert!(trio.members.iter().all(|member| member.region().snapshots().count() == 0));
}
