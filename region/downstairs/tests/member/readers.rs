//! Who reads a snapshot, beside the one that writes.

use crate::desk::{Desk, at, data, list, promotion, read, write};
use downstairs::ConnectionId;
use durable_fs::Storage;
use ids::SnapshotId;
use region_wire::{Blocks, Haste, Hello, NotWelcome, Refusal, Reply, Request, VERSION};
use std::io::IoSlice;
use uuid::Uuid;

fn id(number: u128) -> SnapshotId {
    SnapshotId(Uuid::from_u128(number))
}

fn of_snapshot(number: u128) -> Hello {
    Hello { snapshot: Some(id(number)), ..Desk::hello() }
}

/// A member of which block 0 was 1 and block 1 zeros at a snapshot, and are 3 now; and its writer.
fn desk() -> (Desk, ConnectionId) {
    let mut desk = Desk::new();
    let writer = desk.promoted(promotion(5, 1));
    let snapshot = Request::Snapshot { id: 7, snapshot: id(1), at: at(5, 2) };
    let zero = Request::Zero(at(5, 2), Blocks { first: 1, count: 1 });
    let said =
        desk.ask_all(writer, vec![write(5, 1, 0, 1), zero, snapshot, write(5, 3, 0, 3), write(5, 4, 1, 3)]);
    assert!(said.contains(&Reply::Snapshotted { id: 7, applied: at(5, 2) }), "{said:?}");
    (desk, writer)
}

fn reader(desk: &mut Desk) -> ConnectionId {
    let (reader, said) = desk.try_connect(&of_snapshot(1));
    let [Reply::SnapshotWelcome(welcome)] = said[..] else { panic!("{said:?}") };
    assert_eq!((welcome.version, welcome.incarnation, welcome.applied), (VERSION, 7, at(5, 2)));
    reader
}

/// The first bytes of those that it is told, and of how many blocks.
fn told(desk: &mut Desk, reader: ConnectionId, blocks: Blocks) -> (Option<u8>, usize) {
    match &desk.ask(reader, Request::Read { id: 4, blocks, haste: Haste::Client })[..] {
        [Reply::Read { id: 4, first, whats, bytes }] if *first == blocks.first => {
            (bytes.first().copied(), whats.len())
        }
        said => panic!("{said:?}"),
    }
}

fn refused(said: &[Reply]) -> &str {
    let [Reply::Refused(Refusal::NoSnapshot(why))] = said else { panic!("{said:?}") };
    why
}

#[test]
fn it_reads_what_was_there_while_the_writer_goes_on_and_neither_notices_the_other() {
    let (mut desk, writer) = desk();
    let (first, second) = (reader(&mut desk), reader(&mut desk));
    let one = Blocks { first: 0, count: 1 };
    assert_eq!(told(&mut desk, first, one), (Some(1), 1));
    assert_eq!(desk.ask(writer, write(5, 5, 0, 4)), [Reply::Applied(at(5, 5))]);
    assert_eq!(told(&mut desk, second, one), (Some(1), 1));
    // Zeros and what nobody wrote have no bytes.
    assert_eq!(told(&mut desk, first, Blocks { first: 1, count: 99 }), (None, 99));
    // A newer writer fences the older one, and no reader; nor is a reader fenced itself.
    let newer = desk.promoted(promotion(6, 2));
    assert!(matches!(desk.heard(writer)[..], [Reply::Fenced(_)]));
    assert_eq!((desk.heard(first), desk.heard(second)), (vec![], vec![]));
    assert_eq!(told(&mut desk, first, one), (Some(1), 1));
    assert!(matches!(desk.ask(newer, read(0))[..], [Reply::Read { .. }]));
    assert!(desk.closed.is_empty());
    desk.disconnect(newer);
    assert!(desk.member.is_connected(), "readers count");
    desk.disconnect(first);
    desk.disconnect(second);
    desk.disconnect(writer);
    assert!(!desk.member.is_connected());
}

#[test]
fn looks_and_digests_are_those_of_a_region_that_holds_the_same() {
    let (mut desk, writer) = desk();
    let reader = reader(&mut desk);
    let blocks = Blocks { first: 0, count: 100 };
    let ask = [Request::Look { id: 1, blocks }, Request::Digest { id: 2, blocks }];
    let of_snapshot = desk.ask_all(reader, ask.to_vec());
    assert_ne!(desk.ask_all(writer, ask.to_vec()), of_snapshot);
    let mut then = Desk::new();
    let writer = then.promoted(promotion(5, 1));
    then.ask_all(
        writer,
        vec![write(5, 1, 0, 1), Request::Zero(at(5, 2), Blocks { first: 1, count: 1 }), ask[0].clone()],
    );
    assert_eq!(then.ask_all(writer, ask.to_vec()), of_snapshot);
}

#[test]
fn whatever_else_it_asks_ends_it_and_changes_nothing() {
    let one = Blocks { first: 0, count: 1 };
    let (mut desk, writer) = desk();
    for request in [
        Request::Promote(promotion(9, 9)),
        write(5, 5, 0, 9),
        Request::Zero(at(5, 5), one),
        Request::Flush { id: 1 },
        Request::SetList { id: 1, list: list(9, 9, &[1]) },
        Request::Join(at(5, 5)),
        Request::Install {
            id: 1,
            copy: region_wire::BlockCopy::Bytes(at(5, 5), data(0, 9)),
            haste: Haste::Alone,
        },
        Request::Heal { id: 1, copy: region_wire::BlockCopy::Bytes(at(5, 3), data(0, 9)) },
        Request::Stage { id: 1, copy: region_wire::BlockCopy::Bytes(at(5, 5), data(0, 9)) },
        Request::Commit { id: 1, applied: at(5, 5) },
        Request::Snapshot { id: 1, snapshot: id(2), at: at(5, 4) },
        Request::DeleteSnapshot { id: 1, snapshot: id(1) },
        Request::Hello(of_snapshot(1)),
        Request::Read { id: 1, blocks: Blocks { first: 99, count: 2 }, haste: Haste::Client },
        Request::Look { id: 1, blocks: Blocks { first: 100, count: 1 } },
    ] {
        let reader = reader(&mut desk);
        let said = desk.ask_all(reader, vec![request.clone(), Request::Ping { id: 1 }]);
        assert!(matches!(said[..], [Reply::Wrong(_)]), "{request:?}: {said:?}");
        assert_eq!(desk.closed.pop(), Some(reader), "{request:?}");
    }
    assert_eq!(desk.heard(writer), []);
    assert_eq!(desk.ask(writer, write(5, 5, 0, 5)), [Reply::Applied(at(5, 5))]);
    assert_eq!(desk.member.region().control().promoted, promotion(5, 1));
    assert_eq!(desk.member.region().snapshots().count(), 1);
}

#[test]
fn one_that_is_not_there_is_refused_by_name() {
    let (mut desk, _) = desk();
    let (stranger, said) = desk.try_connect(&of_snapshot(2));
    let expected = format!("region {} has no snapshot {}", desk.member.region().identity().region, id(2));
    assert_eq!((refused(&said), desk.closed.pop()), (&*expected, Some(stranger)));
    let other_set = Hello { set: ids::RegionSetId(Uuid::nil()), ..of_snapshot(1) };
    let (_, said) = desk.try_connect(&other_set);
    assert!(matches!(said[..], [Reply::Refused(Refusal::Hello(NotWelcome::OtherSet(_)))]), "{said:?}");
}

#[test]
fn one_that_is_deleted_under_its_reader_is_refused_from_then_on() {
    let (mut desk, writer) = desk();
    let (reading, pinging) = (reader(&mut desk), reader(&mut desk));
    desk.runs_work = false;
    assert_eq!(desk.ask(writer, Request::DeleteSnapshot { id: 8, snapshot: id(1) }), []);
    // It is none any more, though what is left of it has not gone.
    let said = desk.ask_all(reading, vec![read(0), read(1)]);
    assert!(refused(&said).ends_with("was deleted"), "{said:?}");
    assert_eq!(desk.closed.pop(), Some(reading));
    let (_, said) = desk.try_connect(&of_snapshot(1));
    assert!(refused(&said).ends_with("was deleted"), "{said:?}");
    desk.work();
    assert_eq!(desk.heard(writer), [Reply::SnapshotDeleted { id: 8 }]);
    assert_eq!(desk.ask(pinging, Request::Ping { id: 3 }), [Reply::Pong { id: 3 }]);
    let said = desk.ask(pinging, Request::Digest { id: 1, blocks: Blocks { first: 0, count: 1 } });
    assert!(refused(&said).contains("has no snapshot"), "{said:?}");
}

#[test]
fn one_whose_file_is_rotten_is_refused_with_the_reason_and_the_region_goes_on() {
    let (mut desk, _) = desk();
    let path = camino::Utf8PathBuf::from(format!("region.{}.snapshot", id(1)));
    let file = desk.disk.open_in_place(&path).expect("it is there");
    file.write_all_at(0, &mut [IoSlice::new(&[9; 8 << 10])]).expect("it is written");
    file.sync_data().expect("it is synced");
    desk.restart();
    let (_, said) = desk.try_connect(&of_snapshot(1));
    assert!(
        refused(&said).ends_with("cannot be read: what says that it is a snapshot is rotten"),
        "{said:?}"
    );
    let writer = desk.promoted(promotion(6, 2));
    assert_eq!(desk.ask(writer, write(6, 1, 0, 5)), [Reply::Applied(at(6, 1))]);
}

#[test]
fn a_region_that_fails_tells_its_readers() {
    let (mut desk, writer) = desk();
    let reader = reader(&mut desk);
    desk.ask(writer, write(5, 5, 0, 4));
    desk.faults.fail_next_sync();
    desk.ask(writer, Request::Flush { id: 1 });
    let said = desk.heard(reader);
    assert!(matches!(said[..], [Reply::Failed(_)]), "{said:?}");
    assert!(desk.closed.contains(&reader));
    assert_eq!(desk.ask(reader, read(0)), []);
}
