//! What is done in which order, what has to wait, and what a bad disk makes of it.

use crate::desk::{BLOCKS, Desk, at, data, promotion, read, write};
use downstairs::{ConnectionId, Rule, Work};
use region_wire::{BlockData, Blocks, Reply, Request};

fn flush(id: u64) -> Request {
    Request::Flush { id }
}

fn nothing_behind_a_gap_is_done() {
    let mut desk = Desk::new();
    let writer = desk.promoted(promotion(5, 1));
    let said = desk.ask_all(writer, vec![write(5, 1, 0, 1), write(5, 3, 1, 3), write(5, 4, 2, 4)]);
    assert!(matches!(said[..], [Reply::Applied(_), Reply::Wrong(_)] | [Reply::Wrong(_)]), "{said:?}");
    assert_eq!((desk.fill_of(1), desk.fill_of(2)), (None, None));
}

#[test]
fn a_gap_in_the_stream_is_refused_and_nothing_behind_it_is_done() {
    nothing_behind_a_gap_is_done();
}

#[test]
fn leaving_out_that_there_are_no_gaps_is_noticed() {
    Rule::NoGaps.is_missed_by(nothing_behind_a_gap_is_done);
}

#[test]
fn a_read_sees_what_was_written_before_it_on_its_connection() {
    let mut desk = Desk::new();
    let writer = desk.promoted(promotion(5, 1));
    let said = desk.ask_all(writer, vec![write(5, 1, 0, 1), read(0), write(5, 2, 0, 2), read(0)]);
    let fills: Vec<u8> = said
        .iter()
        .filter_map(|reply| if let Reply::Read { bytes, .. } = reply { bytes.first().copied() } else { None })
        .collect();
    assert_eq!(fills, [1, 2]);
    assert_eq!(said.last(), Some(&Reply::Applied(at(5, 2))));
}

fn a_flush_is_answered_by_a_sync_that_began_behind_it() {
    let mut desk = Desk::new();
    desk.runs_work = false;
    let writer = desk.promoted(promotion(5, 1));
    assert_eq!(desk.ask_all(writer, vec![write(5, 1, 0, 1), flush(1)]), [Reply::Applied(at(5, 1))]);
    let first = desk.work.pop().expect("a sync was begun");
    let first = first.run();
    assert_eq!(desk.ask_all(writer, vec![write(5, 2, 1, 2), flush(2)]), [Reply::Applied(at(5, 2))]);
    desk.end(first);
    assert_eq!(desk.heard(writer), [Reply::Flushed { id: 1, durable: at(5, 1) }]);
    desk.work();
    assert_eq!(desk.heard(writer), [Reply::Flushed { id: 2, durable: at(5, 2) }]);
}

#[test]
fn a_flush_waits_for_a_sync_of_its_own() {
    a_flush_is_answered_by_a_sync_that_began_behind_it();
}

#[test]
fn leaving_out_that_a_flush_is_behind_its_sync_is_noticed() {
    Rule::FlushIsBehindItsSync.is_missed_by(a_flush_is_answered_by_a_sync_that_began_behind_it);
}

#[test]
fn what_was_flushed_is_there_after_a_power_cut() {
    for seed in 0..30 {
        let mut desk = Desk::new();
        let writer = desk.promoted(promotion(5, 1));
        let said = desk.ask_all(writer, vec![write(5, 1, 0, 1), flush(1), write(5, 2, 0, 2)]);
        assert!(said.contains(&Reply::Flushed { id: 1, durable: at(5, 1) }) || said.len() == 2, "{said:?}");
        desk.lose_power(seed);
        assert!(desk.member.region().applied() >= at(5, 1));
        assert!(matches!(desk.fill_of(0), Some(1 | 2)));
    }
}

#[test]
fn a_flush_with_nothing_to_flush_is_answered_at_once() {
    let mut desk = Desk::new();
    desk.runs_work = false;
    let writer = desk.promoted(promotion(5, 1));
    assert_eq!(desk.ask(writer, flush(4)), [Reply::Flushed { id: 4, durable: at(0, 0) }]);
    assert!(desk.work.is_empty());
}

#[test]
fn what_was_written_is_durable_a_moment_later_though_nobody_asks() {
    let mut desk = Desk::new();
    let writer = desk.promoted(promotion(5, 1));
    desk.ask(writer, write(5, 1, 0, 1));
    assert!(desk.member.region().durable() < at(5, 1));
    desk.tick();
    assert_eq!(desk.member.region().durable(), at(5, 1));
    desk.runs_work = false;
    desk.tick();
    assert!(desk.work.is_empty(), "there is nothing more to do");
}

#[test]
fn writes_that_need_room_wait_for_a_sync_and_those_behind_them_wait_too() {
    let mut desk = Desk::new();
    desk.runs_work = false;
    let writer = desk.promoted(promotion(5, 1));
    // The region has as many data blocks more as it has blocks: the third round waits.
    let mut requests: Vec<Request> = (1..=3 * BLOCKS)
        .map(|counter| write(5, counter, (counter - 1) % BLOCKS, (counter / BLOCKS) as u8))
        .collect();
    requests.push(read(0));
    requests.push(Request::Ping { id: 8 });
    let said = desk.ask_all(writer, requests);
    let Some(Reply::Applied(reached)) = said.last() else { panic!("{said:?}") };
    assert!(*reached < at(5, 3 * BLOCKS) && desk.member.is_waiting(writer), "{reached}");
    assert!(!said.contains(&Reply::Pong { id: 8 }));
    while desk.member.is_waiting(writer) {
        assert!(matches!(desk.work[0], Work::Sync(_)));
        desk.work();
    }
    let said = desk.heard(writer);
    assert!(said.contains(&Reply::Pong { id: 8 }) && said.contains(&Reply::Applied(at(5, 3 * BLOCKS))));
}

#[test]
fn a_full_disk_makes_writes_wait_until_there_is_room() {
    let mut desk = Desk::new();
    let writer = desk.promoted(promotion(5, 1));
    desk.faults.full();
    let said = desk.ask_all(writer, vec![write(5, 1, 0, 1), Request::Ping { id: 6 }, read(0)]);
    assert!(
        matches!(&said[..], [Reply::Waits { is_full: true, why }, Reply::Pong { id: 6 }] if why.contains("refuses writes")),
        "{said:?}"
    );
    for _ in 0..20 {
        desk.tick();
    }
    assert_eq!(desk.heard(writer), []);
    // It is there all the same, and hears what more is asked, to a bound. Also if that came with what waits.
    assert_eq!(desk.ask(writer, Request::Ping { id: 7 }), [Reply::Pong { id: 7 }]);
    assert!(!desk.member.is_waiting(writer));
    let reads = |count| (0..count).map(|_| read(0)).collect();
    assert_eq!(desk.ask_all(writer, reads(4_094)), []);
    assert!(desk.member.is_waiting(writer), "4,096 wait");
    desk.faults.heal();
    desk.tick();
    let said = desk.heard(writer);
    assert!(said.contains(&Reply::Applied(at(5, 1))) && said.len() == 4_096, "{said:?}");
    assert!(!desk.member.is_waiting(writer));
    desk.faults.full();
    let said = desk.ask_all(writer, vec![write(5, 2, 0, 2)]);
    assert!(
        matches!(said[..], [Reply::Waits { is_full: true, .. }]),
        "it waits anew, and says so anew: {said:?}"
    );
}

#[test]
fn what_was_applied_before_the_disk_was_full_is_told_first() {
    let mut desk = Desk::new();
    let writer = desk.promoted(promotion(5, 1));
    desk.ask(writer, write(5, 1, 0, 1));
    desk.faults.full();
    // The first one is not news, and the second one finds no room.
    let said = desk.ask_all(writer, vec![write(5, 1, 0, 1), read(0), write(5, 2, 0, 2)]);
    assert!(
        matches!(said[..], [Reply::Read { .. }, Reply::Applied(_), Reply::Waits { is_full: true, .. }]),
        "{said:?}"
    );
}

#[test]
fn a_disk_that_fails_is_tried_a_few_times_and_then_everybody_is_told() {
    let mut desk = Desk::new();
    let writer = desk.promoted(promotion(5, 1));
    let other = desk.connect();
    desk.faults.fail();
    let said = desk.ask(writer, write(5, 1, 0, 1));
    assert!(matches!(said[..], [Reply::Waits { is_full: false, .. }]), "{said:?}");
    for _ in 0..5 {
        desk.tick();
    }
    for connection in [writer, other] {
        let said = desk.heard(connection);
        assert!(matches!(&said[..], [Reply::Failed(why)] if why.contains("write")), "{said:?}");
        assert!(desk.closed.contains(&connection));
    }
    desk.faults.heal();
    let (_, said) = desk.try_connect(&Desk::hello());
    assert!(matches!(said[..], [Reply::Failed(_)]), "until somebody looks at it: {said:?}");
}

#[test]
fn a_sync_that_fails_is_the_end_of_the_region_and_no_flush_is_answered() {
    let mut desk = Desk::new();
    let writer = desk.promoted(promotion(5, 1));
    assert_eq!(desk.ask(writer, write(5, 1, 0, 1)), [Reply::Applied(at(5, 1))]);
    desk.faults.fail();
    let said = desk.ask(writer, flush(1));
    assert!(matches!(said[..], [Reply::Failed(_)]), "{said:?}");
}

/// As on Linux: what the sync was for counts as written, is read from the cache, and a later sync succeeds.
#[test]
fn nothing_is_said_to_be_durable_behind_a_sync_that_failed_alone() {
    let mut desk = Desk::new();
    desk.runs_work = false;
    let mut lost = std::collections::BTreeSet::new();
    for _ in 0..40 {
        let writer = desk.promoted(promotion(5, 1));
        let first = desk.member.region().applied().counter + 1;
        let fill = |counter: u64| u8::try_from(counter).expect("it is small");
        desk.ask_all(writer, vec![write(5, first, 0, fill(first)), flush(1)]);
        desk.work();
        assert_eq!(desk.heard(writer), [Reply::Flushed { id: 1, durable: at(5, first) }]);
        desk.ask_all(writer, vec![write(5, first + 1, 0, fill(first + 1)), flush(2)]);
        desk.faults.fail_next_sync();
        desk.work();
        let said = desk.heard(writer);
        assert!(matches!(&said[..], [Reply::Failed(why)] if why.contains("durable")), "{said:?}");
        desk.restart();
        // What is left is a whole state, not older than what was flushed, and says that it may be older than what was applied.
        let region = desk.member.region();
        assert!(region.applied() >= at(5, first) && region.control().is_suspect);
        let found = region.applied().counter;
        lost.insert(found == first);
        assert_eq!(desk.fill_of(0), Some(fill(found)));
    }
    assert_eq!(lost.len(), 2, "some syncs that fail have done what they were for");
}

#[test]
fn wrong_requests_end_the_connection_and_change_nothing() {
    let two = |first: u64| BlockData { checksums: vec![1, 2], ..data(first, 1) };
    let damaged = BlockData { checksums: vec![5], ..data(0, 1) };
    let wrong = [
        write(5, 1, BLOCKS, 1),
        write(4, 1, 0, 1),
        write(6, 1, 0, 1),
        Request::Write(at(5, 1), two(0)),
        Request::Write(at(5, 1), damaged),
        Request::Zero(at(5, 1), Blocks { first: BLOCKS - 1, count: 2 }),
        read(BLOCKS),
        Request::Look { id: 1, blocks: Blocks { first: 0, count: 101 } },
        Request::Digest { id: 1, blocks: Blocks { first: u64::MAX >> 20, count: 1 } },
        Request::Hello(Desk::hello()),
        Request::Promote(promotion(0, 1)),
    ];
    for request in wrong {
        let mut desk = Desk::new();
        let writer = desk.promoted(promotion(5, 1));
        let said = desk.ask(writer, request.clone());
        assert!(matches!(said[..], [Reply::Wrong(_)]), "{request:?}: {said:?}");
        assert_eq!(desk.closed, [writer]);
        assert_eq!((desk.fill_of(0), desk.member.region().applied()), (None, at(0, 0)));
        desk.promoted(promotion(5, 1));
    }
}

#[test]
fn a_region_that_nobody_uses_writes_a_checkpoint_once_and_then_rests() {
    let mut desk = Desk::new();
    let writer = desk.promoted(promotion(5, 1));
    desk.ask(writer, write(5, 1, 0, 1));
    assert!(desk.member.region().may_checkpoint());
    // Who only says that he is there is no use.
    let mut ticks = 0;
    while desk.member.region().may_checkpoint() {
        desk.ask(writer, Request::Ping { id: 9 });
        desk.tick();
        ticks += 1;
        assert!(ticks < 10, "it never rests");
    }
    assert!(ticks > 2, "it is in use as long as it was a moment ago");
    desk.runs_work = false;
    (0..10).for_each(|_| desk.tick());
    assert!(desk.work.is_empty(), "there is nothing more to do");
    assert_eq!(desk.fill_of(0), Some(1));
    desk.runs_work = true;
    desk.ask(writer, write(5, 2, 0, 2));
    assert!(desk.member.region().may_checkpoint(), "it is in use again at once, and not at the next tick");
    desk.lose_power(1);
    assert!(matches!(desk.fill_of(0), Some(1 | 2)));
}

/// Writes until the journal is full, and its checkpoint finds no room: what the writer is told.
fn fill_the_journal(desk: &mut Desk, writer: ConnectionId) -> (u64, Vec<Reply>) {
    desk.runs_work = false;
    for counter in 1..100_000 {
        let said = desk.ask(writer, write(5, counter, counter % BLOCKS, 1));
        if said.is_empty() {
            desk.faults.full();
            let ended: Vec<_> = std::mem::take(&mut desk.work).into_iter().map(Work::run).collect();
            ended.into_iter().for_each(|ended| desk.end(ended));
            return (counter, desk.heard(writer));
        }
        // Syncs end; checkpoints are held back.
        let begun = std::mem::take(&mut desk.work);
        let (syncs, held): (Vec<Work>, _) = begun.into_iter().partition(|work| matches!(work, Work::Sync(_)));
        desk.work = held;
        syncs.into_iter().for_each(|sync| desk.end(sync.run()));
    }
    panic!("the journal is never full")
}

#[test]
fn a_checkpoint_that_finds_no_room_is_made_again_when_there_is_some_and_the_region_goes_on() {
    let mut desk = Desk::new();
    let writer = desk.promoted(promotion(5, 1));
    let (waiting, said) = fill_the_journal(&mut desk, writer);
    assert!(matches!(&said[..], [Reply::Waits { is_full: true, .. }]), "{said:?}");
    // It is there, also while the next one is under way.
    for round in 0..20 {
        desk.tick();
        assert_eq!(desk.ask(writer, Request::Ping { id: round }), [Reply::Pong { id: round }]);
        desk.work();
        assert_eq!(desk.ask(writer, Request::Ping { id: round }), [Reply::Pong { id: round }]);
    }
    desk.runs_work = true;
    assert!(desk.member.region().failed().is_none());
    desk.faults.heal();
    desk.tick();
    desk.work();
    desk.tick();
    assert_eq!(desk.heard(writer), [Reply::Applied(at(5, waiting))]);
    desk.restart();
    assert_eq!(desk.member.region().applied(), at(5, waiting));
}
