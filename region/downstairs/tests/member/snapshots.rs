//! Snapshots, as a member is asked for them.

use crate::desk::{Desk, at, list, promotion, write};
use downstairs::{ConnectionId, Rule};
use ids::SnapshotId;
use region::Position;
use region_wire::{Reply, Request};
use uuid::Uuid;

fn id(number: u128) -> SnapshotId {
    SnapshotId(Uuid::from_u128(number))
}

fn snapshot(number: u128, at: Position) -> Request {
    Request::Snapshot { id: 7, snapshot: id(number), at }
}

fn delete(number: u128) -> Request {
    Request::DeleteSnapshot { id: 8, snapshot: id(number) }
}

fn fill_in(desk: &mut Desk, number: u128, block: u64) -> Option<u8> {
    let mut bytes = Vec::new();
    let read = desk.member.region_mut().read_snapshot(id(number), block..block + 1, &mut bytes);
    read.expect("it can be read");
    bytes.first().copied()
}

fn taken(epoch: u32, counter: u64) -> Reply {
    Reply::Snapshotted { id: 7, applied: at(epoch, counter) }
}

fn refusal(said: &[Reply]) -> &str {
    let [Reply::SnapshotRefused { id: 7, why }] = said else { panic!("{said:?}") };
    why
}

#[test]
fn it_has_what_was_written_before_it_on_its_connection_and_nothing_behind_it() {
    let mut desk = Desk::new();
    let writer = desk.promoted(promotion(5, 1));
    let said = desk.ask_all(
        writer,
        vec![
            write(5, 1, 0, 1),
            write(5, 2, 1, 2),
            snapshot(1, at(5, 2)),
            write(5, 3, 0, 3),
            write(5, 4, 1, 4),
        ],
    );
    assert!(said.contains(&taken(5, 2)), "{said:?}");
    assert_eq!([fill_in(&mut desk, 1, 0), fill_in(&mut desk, 1, 1)], [Some(1), Some(2)]);
    assert_eq!([desk.fill_of(0), desk.fill_of(1)], [Some(3), Some(4)]);
    desk.lose_power(3);
    assert_eq!([fill_in(&mut desk, 1, 0), fill_in(&mut desk, 1, 1)], [Some(1), Some(2)]);
}

#[test]
fn the_stream_goes_on_while_it_is_taken_and_it_is_told_when_it_is_durable() {
    let mut desk = Desk::new();
    desk.runs_work = false;
    let writer = desk.promoted(promotion(5, 1));
    let said = desk.ask_all(writer, vec![write(5, 1, 0, 1), snapshot(1, at(5, 1)), write(5, 2, 0, 2)]);
    assert_eq!(said, [Reply::Applied(at(5, 2))]);
    // The next one waits for this one, and what comes behind it waits, too.
    assert_eq!(desk.ask_all(writer, vec![snapshot(2, at(5, 2)), write(5, 3, 0, 3)]), []);
    desk.work();
    let said = desk.heard(writer);
    assert_eq!(said, [taken(5, 1), Reply::Applied(at(5, 3))]);
    desk.work();
    assert_eq!(desk.heard(writer), [taken(5, 2)]);
    assert_eq!([fill_in(&mut desk, 1, 0), fill_in(&mut desk, 2, 0)], [Some(1), Some(2)]);
}

fn asked_once_more_it_says_of_which_position_it_is_and_of_one_where_it_is_not_none_is_taken() {
    let mut desk = Desk::new();
    let writer = desk.promoted(promotion(5, 1));
    desk.ask_all(writer, vec![write(5, 1, 0, 1), snapshot(1, at(5, 1)), write(5, 2, 0, 2)]);
    assert_eq!(desk.ask(writer, snapshot(1, at(5, 1))), [taken(5, 1)]);
    assert_eq!(desk.ask(writer, snapshot(1, at(5, 2))), [taken(5, 1)]);
    for elsewhere in [at(5, 1), at(5, 3)] {
        let said = desk.ask(writer, snapshot(2, elsewhere));
        let expected = format!("it has applied 5.2, and is asked for a snapshot of {elsewhere}");
        assert_eq!(refusal(&said), expected);
    }
    assert_eq!(desk.member.region().snapshots().count(), 1);
}

#[test]
fn one_name_has_one_content_and_that_is_of_the_position_that_was_asked_for() {
    asked_once_more_it_says_of_which_position_it_is_and_of_one_where_it_is_not_none_is_taken();
}

#[test]
fn leaving_out_that_a_snapshot_is_of_its_position_is_noticed() {
    Rule::SnapshotAtItsPosition.is_missed_by(
        asked_once_more_it_says_of_which_position_it_is_and_of_one_where_it_is_not_none_is_taken,
    );
}

#[test]
fn one_that_is_not_full_takes_none() {
    let mut desk = Desk::with_list(list(0, 1, &[2, 3]));
    let writer = desk.promoted(promotion(5, 1));
    let said = desk.ask(writer, snapshot(1, Position::NONE));
    assert_eq!(refusal(&said), "it is not full: it has no content of one position");
}

#[test]
fn who_does_not_write_takes_and_deletes_none() {
    let mut desk = Desk::new();
    let writer = desk.promoted(promotion(5, 1));
    desk.ask_all(writer, vec![write(5, 1, 0, 1), snapshot(1, at(5, 1))]);
    let other = desk.connect();
    assert!(matches!(desk.ask(other, delete(1))[..], [Reply::Wrong(_)]));
    let newer = desk.promoted(promotion(6, 2));
    assert!(!desk.ask(writer, snapshot(2, at(5, 1))).contains(&taken(5, 1)));
    assert_eq!(desk.ask(newer, snapshot(3, at(5, 1))), [taken(5, 1)]);
    assert_eq!(desk.member.region().snapshots().count(), 2);
}

fn takes_one(desk: &mut Desk, writer: ConnectionId, counter: u64) {
    let said = desk.ask_all(writer, vec![write(5, counter, 0, 1), snapshot(counter.into(), at(5, counter))]);
    assert!(said.contains(&taken(5, counter)), "{said:?}");
}

#[test]
fn deleting_may_be_asked_again_and_a_disk_that_refuses_is_tried_again_later() {
    let mut desk = Desk::new();
    let writer = desk.promoted(promotion(5, 1));
    (1..4).for_each(|counter| takes_one(&mut desk, writer, counter));
    assert_eq!(desk.ask(writer, delete(9)), [Reply::SnapshotDeleted { id: 8 }]);
    assert_eq!(desk.ask(writer, delete(1)), [Reply::SnapshotDeleted { id: 8 }]);
    desk.runs_work = false;
    assert_eq!(desk.ask(writer, delete(2)), []);
    assert_eq!(desk.member.region().snapshots().filter(|there| there.is_going).count(), 1);
    // The process dies before what is left of it has gone, and the next one lets it go.
    desk.restart();
    assert_eq!(desk.member.region().snapshots().filter(|there| there.is_going).count(), 1);
    desk.runs_work = true;
    desk.tick();
    let left: Vec<SnapshotId> = desk.member.region().snapshots().map(|there| there.snapshot).collect();
    assert_eq!(left, [id(3)]);
}

#[test]
fn without_room_it_is_refused_and_the_stream_goes_on() {
    let mut desk = Desk::new();
    let writer = desk.promoted(promotion(5, 1));
    desk.ask(writer, write(5, 1, 0, 1));
    desk.runs_work = false;
    assert_eq!(desk.ask(writer, snapshot(1, at(5, 1))), []);
    desk.faults.full_after(0);
    desk.work();
    desk.faults.make_room();
    let said = desk.heard(writer);
    assert!(refusal(&said).contains("No space left"), "{said:?}");
    desk.runs_work = true;
    takes_one(&mut desk, writer, 2);
    assert_eq!(fill_in(&mut desk, 2, 0), Some(1));
}

#[test]
fn one_that_is_deleted_while_it_is_taken_is_taken_and_then_deleted() {
    let mut desk = Desk::new();
    desk.runs_work = false;
    let writer = desk.promoted(promotion(5, 1));
    // Nobody is told that it is not there while it may come.
    assert_eq!(desk.ask_all(writer, vec![snapshot(1, Position::NONE), delete(1)]), []);
    desk.work();
    assert_eq!(desk.heard(writer), [Reply::Snapshotted { id: 7, applied: Position::NONE }]);
    desk.work();
    assert_eq!(desk.heard(writer), [Reply::SnapshotDeleted { id: 8 }]);
    assert_eq!(desk.member.region().snapshots().count(), 0);
}

#[test]
fn one_that_was_deleted_is_not_taken_again_though_it_was_never_there_and_the_power_fails() {
    let mut desk = Desk::new();
    let writer = desk.promoted(promotion(5, 1));
    takes_one(&mut desk, writer, 1);
    for number in [1, 2] {
        assert_eq!(desk.ask(writer, delete(number)), [Reply::SnapshotDeleted { id: 8 }]);
    }
    desk.lose_power(3);
    let writer = desk.promoted(promotion(6, 2));
    let now = desk.member.region().applied();
    for number in [1, 2] {
        let said = desk.ask(writer, snapshot(number, now));
        let expected = format!("snapshot {} was deleted, and is not taken again", id(number));
        assert_eq!(refusal(&said), expected);
    }
    assert_eq!(desk.ask(writer, snapshot(3, now)), [Reply::Snapshotted { id: 7, applied: now }]);
}
