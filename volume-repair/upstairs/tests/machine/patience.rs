//! Clients that do not wait for ever: what they are told, when, and that what was numbered is done all the same.

use crate::trio::{SIZE, Trio, Writer};
use std::time::Duration;
use upstairs::{Job, JobError, JobId, Patience, WaitCode};

const LIMIT: Duration = Duration::from_secs(6);

fn volume(patience: Patience) -> (Trio, Writer) {
    let mut trio = Trio::new(false);
    let mut writer = Writer::start_with(&mut trio, 1, 0, patience);
    writer.write(&mut trio, 3, &[1]);
    (trio, writer)
}

fn write(fill: u8) -> Job {
    Job::Write { first: 3, bytes: vec![fill; SIZE].into(), is_durable: false }
}

fn read() -> Job {
    Job::Read { first: 3, count: 1 }
}

/// Lets time go by until the first of them has ended. Milliseconds, and how it has ended; none if it has not within a minute.
fn wait_for(writer: &mut Writer, trio: &mut Trio, id: JobId) -> (Duration, Option<Result<(), JobError>>) {
    let begun = writer.now;
    while writer.now < begun + Duration::from_secs(60) {
        if let Some(end) = writer.end_of(id) {
            return (writer.now - begun, Some(end));
        }
        writer.tick(trio);
    }
    (writer.now - begun, None)
}

#[test]
fn without_two_members_everything_ends_with_an_error_in_time_and_goes_on_when_they_are_back() {
    let (mut trio, mut writer) = volume(Patience { for_members: Some(LIMIT), for_room: None });
    trio.away = vec![1, 2];
    let jobs = [write(2), Job::Flush, write(3)].map(|job| writer.ask(&mut trio, job));
    // It is known for a while that nobody else may write.
    assert_eq!(writer.read(&mut trio, 3, 1), Ok(vec![3; SIZE]));
    let (waited, end) = wait_for(&mut writer, &mut trio, jobs[0]);
    // Two members that say nothing are noticed after 4 s; from then on clients wait.
    assert!((LIMIT..LIMIT + Duration::from_secs(6)).contains(&waited), "{waited:?}");
    let is_told = |end: &Option<Result<(), JobError>>| matches!(end, Some(Err(JobError::TooFewMembers { waited })) if *waited >= LIMIT);
    assert!(is_told(&end), "{end:?}");
    let others: Vec<_> = jobs[1..].iter().map(|job| writer.end_of(*job)).collect();
    assert!(others.iter().all(is_told), "{others:?}");
    assert!(writer.upstairs.status(writer.now).is_giving_up);
    // What is asked from now on need not wait for as long again.
    for job in [write(4), Job::Flush, read()] {
        let id = writer.ask(&mut trio, job);
        let end = writer.end_of(id);
        assert!(is_told(&end), "{end:?}");
    }
    let status = writer.upstairs.status(writer.now);
    assert_eq!(
        (status.jobs.waiting, status.jobs.reads, status.jobs.writes, status.jobs.flushes),
        (0, 0, 0, 0)
    );

    trio.away.clear();
    let id = writer.ask(&mut trio, Job::Flush);
    for _ in 0..60 {
        writer.tick(&mut trio);
    }
    assert!(writer.end_of(id).is_some());
    assert!(!writer.upstairs.status(writer.now).is_giving_up);
    // Those that had a number were done, in their order; the one that came behind them never will be.
    assert_eq!(writer.read(&mut trio, 3, 1), Ok(vec![3; SIZE]));
    writer.write(&mut trio, 3, &[5]);
    assert_eq!(writer.read(&mut trio, 3, 1), Ok(vec![5; SIZE]));
    let digests = trio.digests();
    assert!(digests.iter().all(|digest| *digest == digests[0]), "{digests:?}");
}

#[test]
fn without_room_writes_end_with_an_error_and_reads_go_on() {
    let (mut trio, mut writer) = volume(Patience { for_members: None, for_room: Some(LIMIT) });
    trio.faults[0].full();
    trio.faults[1].full();
    let id = writer.ask(&mut trio, write(2));
    let status = writer.upstairs.status(writer.now);
    let codes: Vec<WaitCode> = status.waits.iter().map(|wait| wait.code).collect();
    assert_eq!(codes, [WaitCode::DiskRoom]);
    assert_eq!(status.waits[0].members.len(), 2);
    let (waited, end) = wait_for(&mut writer, &mut trio, id);
    assert!((LIMIT..LIMIT + Duration::from_secs(2)).contains(&waited), "{waited:?}");
    assert!(matches!(end, Some(Err(JobError::NoRoom { .. }))), "{end:?}");
    let flush = writer.ask(&mut trio, Job::Flush);
    assert!(matches!(writer.end_of(flush), Some(Err(JobError::NoRoom { .. }))));
    // The third one has room, and is read from; what it has was asked for.
    let read = writer.read(&mut trio, 3, 1);
    assert!(read == Ok(vec![1; SIZE]) || read == Ok(vec![2; SIZE]), "{read:?}");

    trio.faults.iter().for_each(durable_fs::DiskFaults::heal);
    writer.tick_members(&mut trio);
    writer.tick(&mut trio);
    writer.write(&mut trio, 4, &[9]);
    assert_eq!(writer.read(&mut trio, 3, 2), Ok([vec![2; SIZE], vec![9; SIZE]].concat()));
    let digests = trio.digests();
    assert!(digests.iter().all(|digest| *digest == digests[0]), "{digests:?}");
}

#[test]
fn one_full_disk_of_three_is_waited_for_by_nobody() {
    let (mut trio, mut writer) = volume(Patience { for_members: Some(LIMIT), for_room: Some(LIMIT) });
    trio.faults[2].full();
    for fill in 2..50 {
        let id = writer.ask(&mut trio, write(fill));
        assert_eq!(writer.end_of(id), Some(Ok(())));
        writer.tick(&mut trio);
    }
    assert!(!writer.upstairs.status(writer.now).is_giving_up);
}

#[test]
fn whoever_was_not_told_otherwise_waits_for_ever() {
    let (mut trio, mut writer) = volume(Patience::default());
    trio.away = vec![1, 2];
    let id = writer.ask(&mut trio, write(2));
    assert_eq!(wait_for(&mut writer, &mut trio, id).1, None);
    trio.away.clear();
    assert_eq!(wait_for(&mut writer, &mut trio, id).1, Some(Ok(())));
}

#[test]
fn before_it_is_activated_clients_wait() {
    let mut trio = Trio::new(false);
    let patience = Patience { for_members: Some(Duration::ZERO), for_room: Some(Duration::ZERO) };
    let mut writer = Writer::idle(&trio, 1, 0, patience);
    let id = writer.ask(&mut trio, write(2));
    assert_eq!(wait_for(&mut writer, &mut trio, id).1, None);
}
