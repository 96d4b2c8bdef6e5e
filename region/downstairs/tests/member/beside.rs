//! Long reads: made beside the member's turns, and answered as if they had been made in one.

use crate::desk::{BLOCKS, Desk, at, promotion, read, write};
use downstairs::{ConnectionId, Rule, Work};
use region_wire::{Blocks, Haste, Reply, Request};

/// The fewest that are read beside.
const LONG: u32 = 8;

fn read_long(id: u64) -> Request {
    Request::Read { id, blocks: Blocks { first: 0, count: LONG }, haste: Haste::Client }
}

/// A writer that has written all blocks, and whose work is held back from now on.
fn desk_with_blocks(fill: u8) -> (Desk, ConnectionId) {
    let mut desk = Desk::new();
    let writer = desk.promoted(promotion(5, 1));
    let writes = (0..BLOCKS).map(|block| write(5, block + 1, block, fill)).collect();
    assert_eq!(desk.ask_all(writer, writes), [Reply::Applied(at(5, BLOCKS))]);
    desk.member.region_mut().sync().expect("the disk works");
    desk.runs_work = false;
    (desk, writer)
}

/// The ids of what was read, and the one byte that all of its blocks have.
fn fills(said: &[Reply]) -> Vec<(u64, u8)> {
    let fill = |reply: &Reply| match reply {
        Reply::Read { id, bytes, whats, .. } => {
            assert_eq!(bytes.len(), 512 * whats.len());
            let fills: std::collections::BTreeSet<u8> = bytes.iter().copied().collect();
            assert_eq!(fills.len(), 1, "not of one moment: {fills:?}");
            Some((*id, bytes[0]))
        }
        _ => None,
    };
    said.iter().filter_map(fill).collect()
}

fn reads_under_way(desk: &mut Desk) -> Vec<Work> {
    let all = std::mem::take(&mut desk.work).into_iter();
    let (reads, others) = all.partition(|work| matches!(work, Work::Read(..)));
    desk.work = others;
    reads
}

/// The long blocks anew, with the next positions.
fn write_long(desk: &mut Desk, writer: ConnectionId, fill: u8) {
    let next = desk.member.region().applied().counter + 1;
    let writes = (0..u64::from(LONG)).map(|block| write(5, next + block, block, fill)).collect();
    assert_eq!(desk.ask_all(writer, writes), [Reply::Applied(at(5, next + u64::from(LONG) - 1))]);
}

#[test]
fn writes_go_on_beside_a_long_read_which_is_of_its_turn() {
    let (mut desk, writer) = desk_with_blocks(1);
    let next = BLOCKS + 1;
    let said = desk.ask_all(writer, vec![read_long(7), write(5, next, 0, 2), read(0)]);
    assert!(
        matches!(said[..], [Reply::Read { id: 99, .. }, Reply::Applied(reached)] if reached == at(5, next))
    );
    for work in reads_under_way(&mut desk) {
        desk.end(work.run());
    }
    assert_eq!(fills(&desk.heard(writer)), [(7, 1)], "what was written behind it is not in it");
}

#[test]
fn what_was_written_over_before_its_bytes_were_read_is_read_again_and_all_of_one_moment() {
    let (mut desk, writer) = desk_with_blocks(1);
    let said = desk.ask(writer, read_long(7));
    assert!(said.is_empty(), "{said:?}");
    let reads = reads_under_way(&mut desk);
    // Each round replaces what the one before it has written, into what is free by then.
    for fill in 2..60 {
        write_long(&mut desk, writer, fill);
        desk.member.region_mut().sync().expect("the disk works");
    }
    for work in reads {
        desk.end(work.run());
    }
    assert_eq!(fills(&desk.heard(writer)), [(7, 59)]);
}

#[test]
fn what_is_written_over_while_an_answer_waits_for_its_turn_is_of_the_turn_it_was_asked_in() {
    let (mut desk, writer) = desk_with_blocks(1);
    desk.ask(writer, read_long(7));
    let read: Vec<_> = reads_under_way(&mut desk).into_iter().map(Work::run).collect();
    write_long(&mut desk, writer, 2);
    read.into_iter().for_each(|ended| desk.end(ended));
    assert_eq!(fills(&desk.heard(writer)), [(7, 1)]);
}

#[test]
fn a_copys_read_lets_others_go_first_beside_clients_and_is_made_in_its_turn_without() {
    let (mut desk, writer) = desk_with_blocks(1);
    let blocks = Blocks { first: 0, count: LONG };
    for (haste, is_later) in
        [(Haste::Later, [true].as_slice()), (Haste::Client, &[false]), (Haste::Alone, &[])]
    {
        let said =
            desk.ask_all(writer, vec![Request::Read { id: 7, blocks, haste }, Request::Flush { id: 8 }]);
        assert_eq!(!fills(&said).is_empty(), is_later.is_empty());
        let reads = reads_under_way(&mut desk);
        assert_eq!(reads.iter().map(Work::is_later).collect::<Vec<_>>(), is_later);
        assert!(desk.work.iter().all(|work| !work.is_later()));
        reads.into_iter().for_each(|work| desk.end(work.run()));
        assert_eq!(fills(&desk.heard(writer)).len(), is_later.len());
    }
}

#[test]
fn who_was_fenced_meanwhile_or_has_gone_is_answered_nothing() {
    let (mut desk, writer) = desk_with_blocks(1);
    desk.ask(writer, read_long(7));
    let of_the_fenced = reads_under_way(&mut desk);
    let newer = desk.promoted(promotion(6, 2));
    assert!(matches!(desk.heard(writer)[..], [Reply::Fenced(_)]));
    desk.ask(newer, read_long(8));
    let of_the_gone = reads_under_way(&mut desk);
    desk.disconnect(newer);
    let newest = desk.promoted(promotion(7, 3));
    for work in of_the_fenced.into_iter().chain(of_the_gone) {
        desk.end(work.run());
    }
    for connection in [writer, newer, newest] {
        assert_eq!(desk.heard(connection), []);
    }
}

fn a_ping_is_answered_behind_the_reads_before_it() {
    let (mut desk, writer) = desk_with_blocks(1);
    let ping = |id| Request::Ping { id };
    let said = desk.ask_all(writer, vec![ping(1), read_long(7), ping(2), read_long(8), ping(3)]);
    assert_eq!(
        said,
        [Reply::Pong { id: 1 }],
        "of a disk that gives nothing back nobody says that it is alive"
    );
    let mut reads = reads_under_way(&mut desk);
    let first = reads.remove(0);
    // The other way round: what was asked later is answered, and no Ping with it.
    for work in reads {
        desk.end(work.run());
    }
    assert_eq!(fills(&desk.heard(writer)), [(8, 1)]);
    desk.end(first.run());
    let said = desk.heard(writer);
    assert_eq!(fills(&said), [(7, 1)]);
    assert_eq!(said[1..], [Reply::Pong { id: 2 }, Reply::Pong { id: 3 }]);
    assert_eq!(desk.ask(writer, ping(4)), [Reply::Pong { id: 4 }]);
}

#[test]
fn a_disk_that_gives_nothing_back_is_not_said_to_be_alive() {
    a_ping_is_answered_behind_the_reads_before_it();
}

#[test]
fn leaving_out_that_pings_wait_for_reads_is_noticed() {
    Rule::PongIsBehindReads.is_missed_by(a_ping_is_answered_behind_the_reads_before_it);
}

#[test]
fn a_new_writer_waits_for_the_disk_that_an_older_one_waits_for() {
    let (mut desk, writer) = desk_with_blocks(1);
    desk.ask_all(writer, vec![read_long(7), Request::Ping { id: 1 }]);
    let reads = reads_under_way(&mut desk);
    let newer = desk.promoted(promotion(6, 2));
    assert_eq!(desk.ask(newer, Request::Ping { id: 5 }), []);
    for work in reads {
        desk.end(work.run());
    }
    assert_eq!(desk.heard(newer), [Reply::Pong { id: 5 }], "and the older one's Ping is forgotten");
}

#[test]
fn pings_beside_a_read_that_hangs_are_heard_to_a_bound() {
    let (mut desk, writer) = desk_with_blocks(1);
    desk.ask(writer, read_long(7));
    let reads = reads_under_way(&mut desk);
    let pings = |count| (0..count).map(|id| Request::Ping { id }).collect::<Vec<_>>();
    assert_eq!(desk.ask_all(writer, pings(1_023)), []);
    assert!(!desk.member.is_waiting(writer));
    desk.ask_all(writer, pings(1));
    assert!(desk.member.is_waiting(writer), "1,024 wait");
    for work in reads {
        desk.end(work.run());
    }
    assert_eq!(desk.heard(writer).len(), 1_025);
    assert!(!desk.member.is_waiting(writer));
}

#[test]
fn only_so_many_are_made_beside_and_the_others_in_their_turn() {
    let (mut desk, writer) = desk_with_blocks(1);
    let said = desk.ask_all(writer, (0..18).map(read_long).collect());
    assert_eq!(fills(&said), [(16, 1), (17, 1)]);
    let reads = reads_under_way(&mut desk);
    assert_eq!(reads.len(), 16);
    for work in reads {
        desk.end(work.run());
    }
    let said = desk.heard(writer);
    assert_eq!(fills(&said).iter().map(|(id, _)| *id).collect::<Vec<_>>(), (0..16).collect::<Vec<_>>());
    assert!(desk.ask(writer, read_long(20)).is_empty(), "there is room again");
}

#[test]
fn a_long_read_of_blocks_that_are_not_there_is_wrong() {
    let (mut desk, writer) = desk_with_blocks(1);
    let blocks = Blocks { first: BLOCKS - 4, count: LONG };
    let said = desk.ask(writer, Request::Read { id: 1, blocks, haste: Haste::Client });
    assert!(matches!(said[..], [Reply::Wrong(_)]), "{said:?}");
    assert!(desk.work.is_empty());
}
