//! Snapshots of members of which some go away meanwhile.

use crate::trio::{Trio, Writer};
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
    let (begun, id) = (writer.now, writer.ask(&mut trio, Job::Snapshot(snapshot)));
    let mut end = writer.end_of(id);
    while end.is_none() && writer.now < begun + Duration::from_secs(60) {
        writer.tick(&mut trio);
        end = writer.end_of(id);
    }
    let waited = writer.now - begun;
    assert!((Duration::from_secs(10)..Duration::from_secs(11)).contains(&waited), "{waited:?}");
    let Some(Err(JobError::Snapshot { why, .. })) = end else { panic!("{end:?}") };
    let first = ids::RegionId(Uuid::from_u128(1)).to_string();
    assert!(why.contains(&first) && why.contains("delete it"), "{why}");

    // Its name is free again: nothing of it is waited for.
    trio.away.clear();
    for _ in 0..60 {
        writer.tick(&mut trio);
    }
    let delete = writer.ask(&mut trio, Job::DeleteSnapshot(snapshot));
    assert_eq!(writer.end_of(delete), Some(Ok(())));
    let again = writer.ask(&mut trio, Job::Snapshot(snapshot));
    assert_eq!((writer.end_of(again), writer.snapshots[&again].len()), (Some(Ok(())), 3));
}
