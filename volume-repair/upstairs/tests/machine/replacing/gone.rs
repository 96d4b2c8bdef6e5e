//! Members that are called gone for good, or are only away: who begins, who goes on, and who stays.

use super::{are_the_same, full, members, status, volume, wait};
use crate::trio::{SIZE, Trio, Writer, named};
use upstairs::{Job, JobId, MembersError, PhaseName, Role, Rule, Status, WaitCode};

#[test]
fn of_three_one_that_is_gone_is_left_out_and_a_new_one_is_filled() {
    let (mut trio, mut writer) = volume(1);
    let change = members(&[0, 1, 3], &[]);
    let refused = writer.set_members(&mut trio, &change).unwrap_err();
    assert_eq!(refused, MembersError::Here { members: vec![named(2).region] });
    trio.away = vec![2];
    wait(&mut trio, &mut writer, 60);
    writer.set_members(&mut trio, &change).unwrap();
    wait(&mut trio, &mut writer, 60);
    assert_eq!(full(&writer), [0, 1, 3]);
    are_the_same(&mut trio, &[0, 1, 3]);
}

/// Two are gone, and the third one is alone, with a write that only it has.
fn alone() -> (Trio, Writer, JobId) {
    let (mut trio, mut writer) = volume(2);
    trio.away = vec![1, 2];
    wait(&mut trio, &mut writer, 60);
    // The new ones are not there yet.
    trio.away = vec![1, 2, 3, 4];
    writer.set_members(&mut trio, &members(&[0, 3, 4], &[])).expect("two are gone");
    wait(&mut trio, &mut writer, 8);
    assert_eq!(full(&writer), [0]);
    assert_eq!(writer.read(&mut trio, 3, 1), Ok(vec![1; SIZE]), "nobody else can be the writer");
    let write = Job::Write { first: 9, bytes: vec![5; SIZE].into(), is_durable: false };
    let write = writer.ask(&mut trio, write);
    assert_eq!(writer.end_of(write), None, "nobody is told that it is done");
    (trio, writer, write)
}

#[test]
fn of_two_that_are_gone_the_one_that_stays_fills_two_new_ones() {
    let (mut trio, mut writer, write) = alone();
    trio.away = vec![1, 2];
    wait(&mut trio, &mut writer, 60);
    assert_eq!(writer.end_of(write), Some(Ok(())));
    assert_eq!(full(&writer), [0, 3, 4]);
    are_the_same(&mut trio, &[0, 3, 4]);
}

#[test]
fn who_begins_with_the_one_that_was_alone_has_everything() {
    let (mut trio, writer, _) = alone();
    drop(writer);
    let mut writer = Writer::start_of(members(&[0, 3, 4], &[]), &mut trio, 2);
    wait(&mut trio, &mut writer, 20);
    assert_eq!(status(&writer).phase, PhaseName::Active);
    assert_eq!(writer.read(&mut trio, 3, 1), Ok(vec![1; SIZE]));
}

fn what_one_alone_loses_with_its_power_comes_again() {
    let (mut trio, mut writer, write) = alone();
    let applied = trio.members[0].region().applied();
    trio.away = vec![0, 1, 2, 3, 4];
    trio.lose_power(0, 2);
    assert!(trio.members[0].region().applied() < applied, "it has lost the write");
    wait(&mut trio, &mut writer, 60);
    trio.away = vec![1, 2];
    wait(&mut trio, &mut writer, 60);
    assert_eq!(status(&writer).phase, PhaseName::Active, "nothing is lost that anybody was told of");
    assert_eq!(writer.end_of(write), Some(Ok(())));
    assert_eq!(full(&writer), [0, 3, 4]);
    assert_eq!(writer.read(&mut trio, 9, 1), Ok(vec![5; SIZE]));
    are_the_same(&mut trio, &[0, 3, 4]);
}

#[test]
fn one_that_is_alone_may_lose_with_its_power_what_nobody_was_told_of() {
    what_one_alone_loses_with_its_power_comes_again();
}

#[test]
fn leaving_out_that_it_is_kept_is_noticed() {
    Rule::UntoldIsKept.is_missed_by(what_one_alone_loses_with_its_power_comes_again);
}

fn who_leaves_and_is_away_is_not_gone() {
    let (mut trio, mut writer) = volume(2);
    trio.away = vec![1, 2];
    wait(&mut trio, &mut writer, 60);
    writer.set_members(&mut trio, &members(&[0, 3, 4], &[1, 2])).expect("two leave");
    wait(&mut trio, &mut writer, 60);
    // Somebody else may have begun with the two, and write.
    assert_eq!(full(&writer), [0, 1, 2]);
    assert!(status(&writer).waits.iter().any(|wait| wait.code == WaitCode::SecondMember));
    trio.away = vec![2];
    wait(&mut trio, &mut writer, 60);
    assert_eq!(full(&writer), [0, 3, 4]);
    are_the_same(&mut trio, &[0, 3, 4]);
}

#[test]
fn of_two_that_leave_and_are_away_one_has_to_come_back() {
    who_leaves_and_is_away_is_not_gone();
}

#[test]
fn leaving_out_that_one_is_alone_only_if_others_are_gone_is_noticed() {
    Rule::AloneOnlyIfOthersAreGone.is_missed_by(who_leaves_and_is_away_is_not_gone);
}

#[test]
fn one_that_was_alone_because_loss_was_accepted_is_not_enough_for_whoever_begins_next() {
    let (mut trio, writer) = volume(0);
    drop(writer);
    // Two are away, and somebody begins with the third one all the same; then somebody else with those two.
    trio.away = vec![1, 2];
    let mut lossy = Writer::start_lossy(&mut trio, 2);
    wait(&mut trio, &mut lossy, 20);
    assert_eq!(full(&lossy), [0]);
    drop(lossy);
    trio.away = vec![0];
    let mut writer = Writer::start(&mut trio, 3, 0);
    wait(&mut trio, &mut writer, 20);
    writer.write(&mut trio, 3, &[9]);
    drop(writer);
    // Whoever hears of the first one alone waits.
    trio.away = vec![1, 2];
    let mut writer = Writer::start(&mut trio, 4, 0);
    wait(&mut trio, &mut writer, 60);
    assert_eq!(status(&writer).phase, PhaseName::Gathering);
    trio.away.clear();
    wait(&mut trio, &mut writer, 60);
    assert_eq!(writer.read(&mut trio, 3, 1), Ok(vec![9; SIZE]));
}

/// The first two are full, the third one leaves and is away, and the fourth one was to be filled, and was told who is full, or has
/// never been there; when the first one is gone for good, and the Upstairs with it.
fn two_of_which_one_is_gone(is_told: bool) -> Trio {
    let (mut trio, mut writer) = volume(2);
    trio.away = vec![2, 3];
    writer.set_members(&mut trio, &members(&[0, 1, 3], &[2])).expect("one is replaced");
    wait(&mut trio, &mut writer, 60);
    assert_eq!(full(&writer), [0, 1]);
    writer.write(&mut trio, 3, &[9]);
    if is_told {
        trio.away = vec![2];
        trio.behind_an_install = Some(|trio| trio.away = vec![0, 2, 3]);
        wait(&mut trio, &mut writer, 30);
        assert!(trio.behind_an_install.is_none() && full(&writer) == [0, 1]);
    }
    trio.away = vec![0, 2];
    trio
}

/// The second one has it, and the new ones are filled.
fn begins_with_everything(trio: &mut Trio, writer: &mut Writer) {
    wait(trio, writer, 60);
    assert_eq!(full(writer), [1, 3, 4]);
    assert_eq!(writer.read(trio, 3, 1), Ok(vec![9; SIZE]));
    are_the_same(trio, &[1, 3, 4]);
}

#[test]
fn who_was_full_with_one_that_is_gone_begins_alone_if_another_one_says_so() {
    let mut trio = two_of_which_one_is_gone(true);
    // The third one is lost, too, as far as anybody says.
    let mut writer = Writer::start_of(members(&[1, 3, 4], &[]), &mut trio, 2);
    begins_with_everything(&mut trio, &mut writer);
}

#[test]
fn who_was_full_with_the_only_one_that_is_gone_begins_alone() {
    let mut trio = two_of_which_one_is_gone(false);
    let one_leaves = || members(&[1, 3, 4], &[2]);
    let mut writer = Writer::start_of(one_leaves(), &mut trio, 2);
    wait(&mut trio, &mut writer, 60);
    assert_eq!(
        status(&writer).phase,
        PhaseName::Gathering,
        "the third one may have gone on with the first one"
    );
    drop(writer);
    trio.away = vec![0];
    let mut writer = Writer::start_of(one_leaves(), &mut trio, 3);
    begins_with_everything(&mut trio, &mut writer);
}

#[test]
fn who_cannot_know_whether_others_went_on_says_what_it_waits_for_and_begins_with_possible_loss() {
    let mut trio = two_of_which_one_is_gone(false);
    let two_gone = members(&[1, 3, 4], &[]);
    let mut writer = Writer::start_of(two_gone.clone(), &mut trio, 2);
    wait(&mut trio, &mut writer, 200);
    let Status { phase, waits, .. } = status(&writer);
    assert_eq!((phase, waits.len()), (PhaseName::Gathering, 1));
    assert_eq!((waits[0].code, &waits[0].members[..]), (WaitCode::TooFewMembers, &[named(0).region][..]));
    assert!(waits[0].words.ends_with("begin with possible loss"), "{}", waits[0].words);
    drop(writer);
    let mut writer = Writer::start_lossy_of(two_gone, &mut trio, 3);
    wait(&mut trio, &mut writer, 60);
    assert_eq!(full(&writer), [1, 3, 4]);
    assert_eq!(writer.read(&mut trio, 3, 1), Ok(vec![9; SIZE]));
}

#[test]
fn one_that_has_lost_what_is_not_kept_any_more_is_not_enough_to_stay() {
    let (mut trio, mut writer) = volume(2);
    let write = Job::Write { first: 5, bytes: vec![6; SIZE].into(), is_durable: false };
    assert_eq!(writer.job(&mut trio, write), Ok(()));
    let applied = trio.members[2].region().applied();
    trio.away = vec![2];
    trio.lose_power(2, 2);
    assert!(trio.members[2].region().applied() < applied, "it has lost the write");
    wait(&mut trio, &mut writer, 44);
    // It comes back, and the others are not noticed to be away before it is to be left out.
    trio.away = vec![0, 1];
    wait(&mut trio, &mut writer, 60);
    let known = status(&writer).members;
    assert!(known[2].is_condemned && known[2].role == Role::Full, "{known:?}");
    let two_gone = members(&[2, 3, 4], &[]);
    assert_eq!(writer.set_members(&mut trio, &two_gone), Err(MembersError::NobodyStays));
    trio.away.clear();
    wait(&mut trio, &mut writer, 60);
    assert_eq!(full(&writer), [0, 1, 2]);
    assert_eq!(writer.read(&mut trio, 5, 1), Ok(vec![6; SIZE]));
}

/// The third one is far behind, and is to be left out: the second one does not answer any more.
fn one_laggard() -> (Trio, Writer) {
    let (mut trio, mut writer) = volume(2);
    trio.faults[2].full();
    writer.write(&mut trio, 3, &[9]);
    trio.away = vec![1];
    for fill in 0..1_700_u32 {
        let bytes = vec![fill.to_le_bytes()[0]; SIZE * 40].into();
        writer.ask(&mut trio, Job::Write { first: 0, bytes, is_durable: false });
    }
    wait(&mut trio, &mut writer, 60);
    let known = status(&writer).members;
    assert!(known[2].is_condemned && known[2].role == Role::Full, "{known:?}");
    (trio, writer)
}

#[test]
fn who_was_to_be_left_out_for_being_behind_stays_if_another_one_is_gone() {
    let (mut trio, mut writer) = one_laggard();
    writer.set_members(&mut trio, &members(&[0, 2, 3], &[])).expect("the second one is gone");
    trio.faults[2].heal();
    wait(&mut trio, &mut writer, 100);
    assert_eq!(full(&writer), [0, 2, 3]);
    are_the_same(&mut trio, &[0, 2, 3]);
}

#[test]
fn who_was_to_be_left_out_for_being_behind_stays_if_all_others_are_gone() {
    let (mut trio, mut writer) = one_laggard();
    trio.away = vec![0, 1];
    wait(&mut trio, &mut writer, 60);
    writer.set_members(&mut trio, &members(&[2, 3, 4], &[])).expect("it gets what it lacks");
    trio.faults[2].heal();
    wait(&mut trio, &mut writer, 200);
    assert_eq!(full(&writer), [2, 3, 4]);
    assert_eq!(writer.read(&mut trio, 3, 1), Ok(vec![1_699_u32.to_le_bytes()[0]; SIZE]));
    are_the_same(&mut trio, &[2, 3, 4]);
}
