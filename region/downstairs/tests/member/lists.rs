//! Who is full, and what a member does that is not.

use crate::desk::{Desk, at, data, list, promotion, read, write};
use bytes::Bytes;
use downstairs::Rule;
use region::{Held, List, Position, SEAL, What};
use region_wire::{BlockCopy, BlockData, Blocks, Haste, Refusal, Reply, Request};

fn set(id: u64, list: List) -> Request {
    Request::SetList { id, list }
}

#[test]
fn a_newer_list_of_the_writer_is_kept_and_any_other_refused() {
    let mut desk = Desk::new();
    let writer = desk.promoted(promotion(5, 1));
    assert_eq!(desk.ask(writer, set(1, list(5, 1, &[1, 2]))), [Reply::ListKept { id: 1 }]);
    assert_eq!(desk.ask(writer, set(2, list(5, 1, &[1, 2]))), [Reply::ListKept { id: 2 }], "the same again");
    for wrong in [list(5, 1, &[1, 3]), list(0, 9, &[1, 2]), list(6, 1, &[1, 2])] {
        let said = desk.ask(writer, set(3, wrong));
        assert!(matches!(said[..], [Reply::Refused(Refusal::List { id: 3, .. })]), "{said:?}");
    }
    desk.restart();
    assert_eq!(desk.member.region().control().list, list(5, 1, &[1, 2]));
}

fn a_list_from_a_position_that_it_does_not_have_is_refused() {
    let mut desk = Desk::new();
    let writer = desk.promoted(promotion(5, 1));
    let from = |base: Position| List { base, ..list(5, 1, &[1, 2]) };
    assert_eq!(desk.ask(writer, write(5, 1, 0, 1)), [Reply::Applied(at(5, 1))]);
    let said = desk.ask(writer, set(1, from(at(5, 2))));
    assert!(matches!(said[..], [Reply::Refused(Refusal::List { .. })]), "{said:?}");
    assert_eq!(desk.ask(writer, set(1, from(at(5, 1)))), [Reply::ListKept { id: 1 }]);
}

#[test]
fn a_list_is_kept_only_by_those_who_have_what_is_before_it() {
    a_list_from_a_position_that_it_does_not_have_is_refused();
}

#[test]
fn leaving_out_that_the_base_is_applied_is_noticed() {
    Rule::BaseIsApplied.is_missed_by(a_list_from_a_position_that_it_does_not_have_is_refused);
}

/// What a member that is not full is given is durable before the list that makes it full is: whatever the power cut leaves.
fn what_makes_it_full_never_lasts_longer_than_what_fills_it() {
    for seed in 0..200 {
        let mut desk = Desk::with_list(list(0, 1, &[2, 3]));
        let writer = desk.promoted(promotion(5, 1));
        let install =
            Request::Install { id: 1, copy: BlockCopy::Bytes(at(4, 9), data(7, 42)), haste: Haste::Alone };
        desk.ask_all(writer, vec![Request::Join(at(4, 9)), install]);
        // The power fails somewhere within the keeping of the list.
        desk.machine.stop_after_changes(desk.machine.changes() + seed % 5);
        desk.ask(writer, set(2, List { base: at(4, 9), ..list(5, 1, &[1, 2, 3]) }));
        desk.lose_power(seed);
        if desk.member.region().is_full() {
            assert_eq!(
                (desk.fill_of(7), desk.member.region().applied()),
                (Some(42), at(4, 9)),
                "seed {seed}"
            );
        }
    }
}

#[test]
fn a_member_is_full_only_with_everything_durable() {
    what_makes_it_full_never_lasts_longer_than_what_fills_it();
}

#[test]
fn leaving_out_that_the_full_are_durable_is_noticed() {
    Rule::FullIsDurable.is_missed_by(what_makes_it_full_never_lasts_longer_than_what_fills_it);
}

fn a_full_member_takes_no_copies_and_no_other_place_in_the_stream() {
    let install =
        Request::Install { id: 1, copy: BlockCopy::Bytes(at(4, 9), data(7, 42)), haste: Haste::Alone };
    for request in [install, Request::Join(at(4, 9))] {
        let mut desk = Desk::new();
        let writer = desk.promoted(promotion(5, 1));
        let said = desk.ask(writer, request);
        assert!(matches!(said[..], [Reply::Wrong(_)]), "{said:?}");
        assert_eq!(desk.fill_of(7), None);
    }
}

#[test]
fn only_members_that_are_not_full_are_filled() {
    a_full_member_takes_no_copies_and_no_other_place_in_the_stream();
}

#[test]
fn leaving_out_that_only_filling_ones_are_filled_is_noticed() {
    Rule::OnlyFillingInstalls.is_missed_by(a_full_member_takes_no_copies_and_no_other_place_in_the_stream);
}

fn a_full_member_is_passed_over_by_no_write() {
    let mut desk = Desk::new();
    let writer = desk.promoted(promotion(5, 1));
    let said = desk.ask_all(writer, vec![write(5, 1, 0, 1), Request::Pass(at(5, 2)), write(5, 3, 1, 3)]);
    assert!(matches!(said[..], [.., Reply::Wrong(_)]), "{said:?}");
    assert_eq!((desk.member.region().applied(), desk.fill_of(1)), (Position::NONE, None), "{said:?}");
}

#[test]
fn no_write_passes_over_a_full_member() {
    a_full_member_is_passed_over_by_no_write();
}

#[test]
fn leaving_out_that_none_passes_over_a_full_one_is_noticed() {
    Rule::OnlyFillingIsPassedOver.is_missed_by(a_full_member_is_passed_over_by_no_write);
}

#[test]
fn a_member_that_is_not_full_is_passed_over_and_its_place_in_the_stream_goes_on() {
    let mut desk = Desk::with_list(list(0, 1, &[2, 3]));
    let writer = desk.promoted(promotion(5, 1));
    let stream =
        vec![Request::Join(at(5, 40)), write(5, 41, 0, 41), Request::Pass(at(5, 42)), write(5, 43, 1, 43)];
    assert_eq!(desk.ask_all(writer, stream), [Reply::Applied(at(5, 43))]);
    assert_eq!((desk.fill_of(0), desk.fill_of(1)), (Some(41), Some(43)));
    let said = desk.ask_all(writer, vec![Request::Pass(at(5, 45))]);
    assert!(matches!(said[..], [Reply::Wrong(_)]), "it leaves one out: {said:?}");
}

#[test]
fn a_member_that_is_not_full_takes_part_in_the_stream_and_is_filled_behind_it() {
    let mut desk = Desk::with_list(list(0, 1, &[2, 3]));
    let writer = desk.promoted(promotion(5, 1));
    let copy = |version: Position, block: u64, fill: u8| Request::Install {
        id: 1,
        copy: BlockCopy::Bytes(version, data(block, fill)),
        haste: Haste::Alone,
    };
    let said = desk.ask_all(
        writer,
        vec![
            Request::Join(at(5, 40)),
            write(5, 41, 0, 41),
            // What the source had before is older than what the stream has brought.
            copy(at(5, 30), 0, 30),
            copy(at(5, 30), 1, 30),
            Request::Install {
                id: 2,
                copy: BlockCopy::Never(Blocks { first: 2, count: 3 }),
                haste: Haste::Alone,
            },
        ],
    );
    let taken = |id: u64, blocks: u64| Reply::Taken { id, blocks };
    assert_eq!(said, [taken(1, 0), taken(1, 1), taken(2, 0), Reply::Applied(at(5, 41))]);
    assert_eq!((desk.fill_of(0), desk.fill_of(1)), (Some(41), Some(30)));
}

#[test]
fn what_an_older_epoch_left_is_overwritten_by_what_the_source_has() {
    let mut desk = Desk::new();
    let before = desk.promoted(promotion(4, 1));
    desk.ask_all(before, vec![write(4, 1, 0, 1), write(4, 2, 1, 2)]);
    // Nobody else ever had these two, and it is not full any more.
    let writer = desk.promoted(promotion(5, 1));
    assert_eq!(desk.ask(writer, set(1, list(5, 1, &[2, 3]))), [Reply::ListKept { id: 1 }]);
    let said = desk.ask_all(
        writer,
        vec![
            Request::Join(at(3, 7)),
            Request::Install {
                id: 1,
                copy: BlockCopy::Never(Blocks { first: 0, count: 1 }),
                haste: Haste::Alone,
            },
            Request::Install { id: 2, copy: BlockCopy::Bytes(at(3, 7), data(1, 37)), haste: Haste::Alone },
        ],
    );
    assert_eq!(said, [Reply::Taken { id: 1, blocks: 1 }, Reply::Taken { id: 2, blocks: 1 }]);
    assert_eq!((desk.fill_of(0), desk.fill_of(1)), (None, Some(37)));
}

#[test]
fn what_is_staged_is_seen_when_all_of_it_is() {
    let mut desk = Desk::new();
    let writer = desk.promoted(promotion(5, 1));
    let stage = |counter: u64, block: u64| Request::Stage {
        id: counter,
        copy: BlockCopy::Bytes(at(4, counter), data(block, 9)),
    };
    desk.ask_all(writer, vec![stage(1, 0), stage(2, 1)]);
    assert_eq!((desk.fill_of(0), desk.fill_of(1)), (None, None));
    let said = desk.ask(writer, Request::Commit { id: 3, applied: at(4, 2) });
    assert_eq!(said, [Reply::Taken { id: 3, blocks: 2 }]);
    assert_eq!((desk.fill_of(0), desk.fill_of(1)), (Some(9), Some(9)));
    assert_eq!(desk.member.region().applied(), at(4, 2));
    // What another connection has staged is not committed by the next one.
    desk.ask(writer, Request::Stage { id: 5, copy: BlockCopy::Bytes(at(4, 5), data(2, 9)) });
    let next = desk.promoted(promotion(6, 2));
    assert_eq!(
        desk.ask(next, Request::Commit { id: 6, applied: at(4, 6) }),
        [Reply::Taken { id: 6, blocks: 0 }]
    );
    assert_eq!(desk.fill_of(2), None);
}

#[test]
fn what_could_never_be_committed_is_not_staged() {
    let mut desk = Desk::new();
    let writer = desk.promoted(promotion(5, 1));
    let stage =
        |id: u64| Request::Stage { id, copy: BlockCopy::Zeros(at(4, 1), Blocks { first: 0, count: 1 }) };
    // The journal of the smallest region has 64 KiB, and each of them takes a part of it.
    let said = (1..10_000).flat_map(|id| desk.ask(writer, stage(id))).find(|reply| !is_taken(reply));
    assert!(matches!(&said, Some(Reply::Wrong(why)) if why.contains("more was staged")), "{said:?}");
}

fn is_taken(reply: &Reply) -> bool {
    matches!(reply, Reply::Taken { .. })
}

#[test]
fn wrong_bytes_are_healed_by_those_of_the_same_version_only() {
    let mut desk = Desk::new();
    let writer = desk.promoted(promotion(5, 1));
    desk.ask(writer, write(5, 1, 0, 1));
    let heal = |version: Position| Request::Heal { id: 1, copy: BlockCopy::Bytes(version, data(0, 200)) };
    assert_eq!(desk.ask(writer, heal(at(5, 2))), [Reply::Taken { id: 1, blocks: 0 }]);
    assert_eq!(desk.ask(writer, heal(at(4, 1))), [Reply::Taken { id: 1, blocks: 0 }]);
    assert_eq!(desk.ask(writer, heal(at(5, 1))), [Reply::Taken { id: 1, blocks: 1 }]);
    assert_eq!(desk.fill_of(0), Some(200));
}

fn lost(version: Position, block: u64, fill: u8) -> BlockCopy {
    BlockCopy::Lost(version, BlockData { bytes: Bytes::new(), ..data(block, fill) })
}

#[test]
fn a_block_that_is_lost_never_takes_the_place_of_bytes_of_its_version() {
    let mut desk = Desk::with_list(list(0, 1, &[2, 3]));
    let writer = desk.promoted(promotion(5, 1));
    let said = desk.ask_all(
        writer,
        vec![
            Request::Join(at(5, 0)),
            write(5, 1, 0, 1),
            Request::Install { id: 1, copy: lost(at(5, 1), 0, 1), haste: Haste::Alone },
            Request::Stage { id: 2, copy: lost(at(5, 1), 0, 1) },
            Request::Commit { id: 3, applied: at(5, 1) },
            Request::Install { id: 4, copy: lost(at(5, 1), 1, 7), haste: Haste::Alone },
        ],
    );
    let taken: Vec<u64> = said.iter().filter_map(taken_blocks).collect();
    assert_eq!(taken, [0, 1, 0, 1], "{said:?}");
    assert_eq!((desk.fill_of(0), desk.fill_of(1)), (Some(1), None));
    assert_eq!(desk.member.region().lost_blocks(), 1);
}

fn taken_blocks(reply: &Reply) -> Option<u64> {
    if let Reply::Taken { blocks, .. } = reply { Some(*blocks) } else { None }
}

#[test]
fn a_block_that_is_lost_is_healed_by_its_version_or_written_and_heals_none() {
    let mut desk = Desk::with_list(list(0, 1, &[2, 3]));
    let writer = desk.promoted(promotion(5, 1));
    let install =
        |block: u64| Request::Install { id: 1, copy: lost(at(4, 9), block, 9), haste: Haste::Alone };
    desk.ask_all(writer, vec![Request::Join(at(4, 9)), install(0), install(1), install(2)]);
    let said = desk.ask(writer, Request::Look { id: 2, blocks: Blocks { first: 0, count: 1 } });
    let what = What::Lost { checksum: data(0, 9).checksums[0], seal: [0; SEAL] };
    assert_eq!(said, [Reply::Looked { id: 2, held: vec![Held { version: at(4, 9), what }] }]);
    let said = desk.ask(writer, read(0));
    assert_eq!(said, [Reply::Read { id: 99, first: 0, whats: vec![what], bytes: Bytes::new() }]);

    let heal = |version: Position| Request::Heal { id: 3, copy: BlockCopy::Bytes(version, data(0, 9)) };
    assert_eq!(desk.ask(writer, heal(at(4, 8))), [Reply::Taken { id: 3, blocks: 0 }]);
    assert_eq!(desk.ask(writer, heal(at(4, 9))), [Reply::Taken { id: 3, blocks: 1 }]);
    desk.ask(writer, write(5, 1, 1, 8));
    assert_eq!((desk.fill_of(0), desk.fill_of(1), desk.fill_of(2)), (Some(9), Some(8), None));
    assert_eq!(desk.member.region().lost_blocks(), 1);

    let said = desk.ask(writer, Request::Heal { id: 4, copy: lost(at(4, 9), 0, 9) });
    assert!(matches!(&said[..], [Reply::Wrong(why)] if why.contains("lost")), "{said:?}");
    assert_eq!(desk.fill_of(0), Some(9));
}

/// Has lost its power with writes that may not have been durable, and is promoted again.
fn suspect() -> (Desk, downstairs::ConnectionId) {
    let mut desk = Desk::new();
    let writer = desk.promoted(promotion(5, 1));
    desk.ask_all(writer, vec![set(1, list(5, 1, &[1, 2, 3])), write(5, 1, 0, 1)]);
    desk.lose_power_and_boot(3);
    assert!(desk.member.region().control().is_suspect);
    let writer = desk.promoted(promotion(5, 1));
    (desk, writer)
}

#[test]
fn a_suspect_member_is_one_until_its_writer_says_again_that_it_is_full() {
    let (mut desk, writer) = suspect();
    assert_eq!(desk.ask(writer, set(2, list(5, 1, &[1, 2, 3]))), [Reply::ListKept { id: 2 }]);
    assert!(!desk.member.region().control().is_suspect);
    assert_eq!(desk.member.region().durable(), desk.member.region().applied());
    desk.restart_in_boot(3);
    assert!(!desk.member.region().control().is_suspect, "it is kept");
}

#[test]
fn a_list_of_another_writer_ends_no_suspicion() {
    let mut desk = Desk::new();
    let writer = desk.promoted(promotion(5, 1));
    desk.ask_all(writer, vec![set(1, list(5, 1, &[1, 2, 3])), write(5, 1, 0, 1)]);
    desk.lose_power_and_boot(3);
    let next = desk.promoted(promotion(6, 2));
    assert_eq!(desk.ask(next, set(2, list(5, 1, &[1, 2, 3]))), [Reply::ListKept { id: 2 }]);
    assert!(desk.member.region().control().is_suspect);
}
