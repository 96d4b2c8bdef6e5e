//! At most one writer: the scenarios in which another block store had two, and what follows from them.

use crate::desk::{Desk, at, promotion, read, write};
use downstairs::{EPOCHS_AT_ONCE, Rule};
use proptest::prelude::*;
use region_wire::{NotWelcome, Refusal, Reply, Request, VERSION};

fn refused(said: &[Reply], epoch: u32, session: u128) -> bool {
    said == [Reply::Refused(Refusal::Epoch(promotion(epoch, session)))]
}

/// A lower epoch is refused, comes again, breaks its connection, and is refused again; whoever writes does not notice.
fn a_lower_epoch_never_gets_in() {
    let mut desk = Desk::new();
    let writer = desk.promoted(promotion(5, 1));
    for _ in 0..3 {
        let other = desk.connect();
        assert!(refused(&desk.ask(other, Request::Promote(promotion(3, 2))), 5, 1));
        desk.disconnect(other);
    }
    assert_eq!(desk.ask(writer, write(5, 1, 0, 7)), [Reply::Applied(at(5, 1))]);
    assert!(desk.heard(writer).is_empty());
}

/// Somebody with a higher epoch says Hello and is gone; whoever writes goes on, and is told when the other one comes for good.
fn a_broken_attempt_opens_no_door() {
    let mut desk = Desk::new();
    let writer = desk.promoted(promotion(5, 1));
    let other = desk.connect();
    desk.disconnect(other);
    assert_eq!(desk.ask(writer, write(5, 1, 0, 7)), [Reply::Applied(at(5, 1))]);
    let newer = desk.promoted(promotion(6, 2));
    assert_eq!(desk.heard(writer), [Reply::Fenced(promotion(6, 2))]);
    assert_eq!(desk.ask(newer, write(6, 1, 0, 8)), [Reply::Applied(at(6, 1))]);
    let said = desk.ask(writer, write(5, 2, 0, 9));
    assert_eq!(said, [Reply::Fenced(promotion(6, 2))]);
    assert!(desk.closed.contains(&writer));
    assert_eq!(desk.fill_of(0), Some(8));
}

/// The connection of the writer breaks; what it may is not free for a lower epoch.
fn a_broken_connection_leaves_the_right_behind() {
    let mut desk = Desk::new();
    let writer = desk.promoted(promotion(5, 1));
    desk.disconnect(writer);
    let other = desk.connect();
    assert!(refused(&desk.ask(other, Request::Promote(promotion(3, 2))), 5, 1));
    assert!(refused(&desk.ask(other, Request::Promote(promotion(5, 2))), 5, 1), "another session");
    desk.promoted(promotion(5, 1));
}

/// The power fails right behind the answer, with any choice of what is left.
fn a_promotion_outlives_the_power() {
    for seed in 0..20 {
        let mut desk = Desk::new();
        desk.promoted(promotion(5, 1));
        desk.lose_power(seed);
        let other = desk.connect();
        assert!(refused(&desk.ask(other, Request::Promote(promotion(4, 2))), 5, 1));
    }
}

#[test]
fn there_is_never_a_second_writer() {
    a_lower_epoch_never_gets_in();
    a_broken_attempt_opens_no_door();
    a_broken_connection_leaves_the_right_behind();
    a_promotion_outlives_the_power();
    a_stranger_does_not_lock_everybody_out();
}

/// One message of anybody who reaches the port.
fn a_stranger_does_not_lock_everybody_out() {
    let mut desk = Desk::new();
    let writer = desk.promoted(promotion(5, 1));
    let stranger = desk.connect();
    let said = desk.ask(stranger, Request::Promote(promotion(u32::MAX, 9)));
    let highest = 5 + EPOCHS_AT_ONCE;
    let is_said = matches!(
        &said[..],
        [Reply::Refused(Refusal::EpochTooHigh(why))] if why.ends_with(&format!("takes is {highest}"))
    );
    assert!(is_said, "{said:?}");
    assert_eq!(desk.ask(writer, write(5, 1, 0, 7)), [Reply::Applied(at(5, 1))]);
    desk.restart();
    desk.promoted(promotion(6, 2));
}

proptest! {
    /// Whatever is asked, in whatever order: an epoch that is kept is at most so much higher than the one before, what is refused changes
    /// nothing, and the next one is always taken.
    #[test]
    fn epochs_rise_and_never_by_much(
        first in 1..=u32::MAX - 1,
        asked in prop::collection::vec(prop_oneof![any::<u32>(), 0..4_u32, (1 << 20) - 2..(1 << 20) + 3_u32], 1..12),
        is_relative: bool,
    ) {
        let mut desk = Desk::new();
        desk.promoted(promotion(first, 1));
        let mut kept = first;
        for (session, asked) in (2..).zip(asked) {
            let epoch = if is_relative { kept.saturating_add(asked) } else { asked };
            let connection = desk.connect();
            let said = desk.ask(connection, Request::Promote(promotion(epoch, session)));
            let is_taken = matches!(said[..], [Reply::Promoted(_)]);
            let may_be = epoch > kept && epoch - kept <= EPOCHS_AT_ONCE;
            prop_assert_eq!(is_taken, may_be, "{} after {}: {:?}", epoch, kept, said);
            kept = if is_taken { epoch } else { kept };
            prop_assert_eq!(desk.member.region().control().promoted.epoch, kept);
        }
        if kept < u32::MAX {
            desk.promoted(promotion(kept + 1, 1_000));
        }
    }
}

#[test]
fn leaving_out_a_rule_of_fencing_lets_a_second_writer_in() {
    Rule::LowerEpochIsRefused.is_missed_by(a_lower_epoch_never_gets_in);
    Rule::OnlyThePromotedActs.is_missed_by(a_broken_attempt_opens_no_door);
    Rule::PromotionOutlivesConnections.is_missed_by(a_broken_connection_leaves_the_right_behind);
    Rule::PromotionIsDurable.is_missed_by(a_promotion_outlives_the_power);
    Rule::EpochsRiseSlowly.is_missed_by(a_stranger_does_not_lock_everybody_out);
}

#[test]
fn the_same_session_comes_again_and_its_older_connection_is_closed() {
    let mut desk = Desk::new();
    let before = desk.promoted(promotion(5, 1));
    assert_eq!(desk.ask(before, write(5, 1, 0, 7)), [Reply::Applied(at(5, 1))]);
    let now = desk.promoted(promotion(5, 1));
    assert_eq!(desk.closed, [before]);
    assert!(desk.ask(before, write(5, 2, 0, 8)).is_empty(), "it is gone");
    // What was under way comes twice.
    let said = desk.ask_all(now, vec![write(5, 1, 0, 7), write(5, 2, 0, 9)]);
    assert_eq!(said, [Reply::Applied(at(5, 2))]);
    assert_eq!(desk.fill_of(0), Some(9));
}

#[test]
fn nobody_acts_who_was_not_promoted() {
    for request in
        [write(1, 1, 0, 7), read(0), Request::Flush { id: 1 }, Request::Commit { id: 1, applied: at(1, 1) }]
    {
        let mut desk = Desk::new();
        let connection = desk.connect();
        let said = desk.ask(connection, request);
        assert!(matches!(said[..], [Reply::Wrong(_)]), "{said:?}");
        assert_eq!(desk.closed, [connection]);
    }
}

#[test]
fn a_fenced_one_may_come_back_with_a_higher_epoch() {
    let mut desk = Desk::new();
    let first = desk.promoted(promotion(5, 1));
    desk.promoted(promotion(6, 2));
    desk.heard(first);
    let said = desk.ask(first, Request::Promote(promotion(7, 1)));
    assert!(matches!(said[..], [Reply::Promoted(_)]), "{said:?}");
    assert_eq!(desk.ask(first, write(7, 1, 3, 4)), [Reply::Applied(at(7, 1))]);
}

#[test]
fn another_region_another_set_and_another_version_are_refused() {
    let mut desk = Desk::new();
    let hello = Desk::hello();
    let other_set = region_wire::Hello { set: ids::RegionSetId(uuid::Uuid::nil()), ..hello };
    let other_region = region_wire::Hello { region: ids::RegionId(uuid::Uuid::nil()), ..hello };
    let (connection, said) = desk.try_connect(&other_set);
    assert!(matches!(said[..], [Reply::Refused(Refusal::Hello(NotWelcome::OtherSet(_)))]), "{said:?}");
    assert!(desk.closed.contains(&connection));
    let (connection, said) = desk.try_connect(&other_region);
    assert!(matches!(said[..], [Reply::Refused(Refusal::Hello(NotWelcome::NoRegion(_)))]), "{said:?}");
    assert!(desk.closed.contains(&connection));
    let speaks = |version_min, version_max| region_wire::Hello { version_min, version_max, ..hello };
    // Whoever writes it and whoever reads a snapshot of it; and before anything else that may be wrong.
    for of in [speaks(VERSION + 1, 9), speaks(0, VERSION - 1)] {
        let snapshot = Some(ids::SnapshotId(uuid::Uuid::nil()));
        for hello in
            [of, region_wire::Hello { snapshot, ..of }, region_wire::Hello { set: other_set.set, ..of }]
        {
            let (connection, said) = desk.try_connect(&hello);
            assert_eq!(said, [Reply::Refused(Refusal::Hello(NotWelcome::Version(VERSION, VERSION)))]);
            assert!(desk.closed.contains(&connection));
        }
    }
    let (_, said) = desk.try_connect(&speaks(0, 9));
    assert!(matches!(&said[..], [Reply::Welcome(welcome)] if welcome.version == VERSION), "{said:?}");
}
