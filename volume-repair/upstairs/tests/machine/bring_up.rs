//! Members that cannot be brought up.

use crate::trio::{SIZE, Trio, Writer};
use durable_fs::DiskFaults;
use upstairs::{Job, MemberState, PhaseName, Role, TroubleCode};

/// The second member lacks a few writes.
fn one_short() -> Trio {
    let mut trio = Trio::new(false);
    let mut writer = Writer::start(&mut trio, 1, 0);
    writer.write(&mut trio, 3, &[1]);
    trio.away = vec![1];
    for fill in 2..6 {
        writer.write(&mut trio, 3, &[fill]);
    }
    trio
}

fn wait(trio: &mut Trio, writer: &mut Writer, ticks: u32) {
    for _ in 0..ticks {
        writer.tick_members(trio);
        writer.tick(trio);
    }
}

#[test]
fn one_that_has_no_room_to_be_brought_up_is_left_out_and_filled_later() {
    let mut trio = one_short();
    trio.away = vec![0, 2];
    let mut writer = Writer::start(&mut trio, 2, 0);
    trio.faults[1].full();
    trio.away.clear();
    wait(&mut trio, &mut writer, 6);
    let status = writer.upstairs.status(writer.now);
    assert_eq!(
        (status.phase, status.members[1].trouble_code),
        (PhaseName::Active, Some(TroubleCode::NoRoom))
    );
    let write = Job::Write { first: 3, bytes: vec![7; SIZE].into(), is_durable: true };
    assert_eq!(writer.job(&mut trio, write), Ok(()));
    assert_eq!(writer.read(&mut trio, 3, 1), Ok(vec![7; SIZE]));

    trio.faults[1].heal();
    wait(&mut trio, &mut writer, 60);
    let member = writer.upstairs.status(writer.now).members[1].clone();
    assert_eq!((member.state, member.role), (MemberState::Streaming, Role::Full));
    let digests = trio.digests();
    assert!(digests.iter().all(|digest| *digest == digests[0]), "{digests:?}");
}

#[test]
fn of_two_both_are_needed_and_waited_for() {
    let mut trio = one_short();
    trio.away = vec![2];
    let mut writer = Writer::start(&mut trio, 2, 0);
    // The third one is waited for.
    wait(&mut trio, &mut writer, 6);
    trio.faults[1].full();
    wait(&mut trio, &mut writer, 200);
    let status = writer.upstairs.status(writer.now);
    assert_eq!(status.phase, PhaseName::BringingUp, "{:?}", status.members);
    assert_eq!(status.members[1].trouble_code, Some(TroubleCode::NoRoom));

    trio.faults.iter().for_each(DiskFaults::heal);
    wait(&mut trio, &mut writer, 10);
    assert_eq!(writer.upstairs.status(writer.now).phase, PhaseName::Active);
    assert_eq!(writer.read(&mut trio, 3, 1), Ok(vec![5; SIZE]));
}
