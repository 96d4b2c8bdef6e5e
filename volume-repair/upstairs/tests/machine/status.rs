//! What an Upstairs tells of itself: who is waited for, and what does not go on.

use ids::{RegionId, RegionSetId};
use region::{BlockSize, Geometry, List, ListVersion, Member, Position, Promotion};
use region_wire::{Promoted, Reply, Request, VERSION, Welcome};
use std::{collections::VecDeque, time::Duration};
use upstairs::{
    Action, ActivateError, At, Behind, Config, Job, JobId, Limits, MemberState, Patience, PeerId, PhaseName,
    Role, Status, TroubleCode, Upstairs, WaitCode,
};
use uuid::Uuid;

fn named(number: u128) -> Member {
    Member { region: RegionId(Uuid::from_u128(number)), incarnation: 1 }
}

fn geometry() -> Geometry {
    Geometry { block_size: BlockSize::B512, blocks: 64, is_sealed: false }
}

fn upstairs() -> Upstairs {
    Upstairs::new(Config {
        set: RegionSetId(Uuid::from_u128(9)),
        geometry: geometry(),
        members: upstairs::Members::only((1..=3).map(named).collect()),
        promotion: Promotion { epoch: 2, session: Uuid::from_u128(7) },
        accepts_possible_loss: false,
        limits: Limits::default(),
        patience: Patience::default(),
        sealer: None,
    })
}

/// What a member answers that does all it is told. Flushes of nobody and pings are answered, too.
fn answer(request: &Request) -> Option<Reply> {
    let first = List {
        version: ListVersion { epoch: 0, number: 1 },
        base: Position::NONE,
        full: (1..=3).map(named).collect(),
    };
    let none = Position::NONE;
    Some(match request {
        Request::Hello(_) => Reply::Welcome(Welcome {
            version: VERSION,
            geometry: geometry(),
            incarnation: 1,
            promoted: Promotion::default(),
        }),
        Request::Promote(_) => {
            Reply::Promoted(Promoted { list: first, applied: none, durable: none, is_suspect: true })
        }
        Request::SetList { id, .. } => Reply::ListKept { id: *id },
        Request::Ping { id } => Reply::Pong { id: *id },
        Request::Write(position, _) | Request::Zero(position, _) => Reply::Applied(*position),
        _ => return None,
    })
}

/// Lets those of these members answer that are reached, until nobody says anything more.
fn settle(upstairs: &mut Upstairs, now: Duration, there: &[usize], actions: Vec<Action>) {
    let mut actions = VecDeque::from(actions);
    while let Some(action) = actions.pop_front() {
        match action {
            Action::Connect(peer) => {
                actions.extend(upstairs.connected(now, peer, there.contains(&peer.0)));
            }
            Action::Send(peer, request) if there.contains(&peer.0) => {
                actions.extend(upstairs.received(now, peer, answer(&request).into_iter().collect()));
            }
            _ => {}
        }
    }
}

const SECOND: Duration = Duration::from_secs(1);

fn codes(status: &Status) -> Vec<WaitCode> {
    status.waits.iter().map(|wait| wait.code).collect()
}

#[test]
fn who_is_waited_for_is_told_from_the_first_member_to_the_last() {
    let mut upstairs = upstairs();
    assert_eq!(codes(&upstairs.status(SECOND)), [WaitCode::Activation]);
    let actions = upstairs.activate_with(SECOND, 4).expect("it is higher");
    settle(&mut upstairs, SECOND, &[], actions);
    let actions = upstairs.tick(SECOND);
    settle(&mut upstairs, SECOND, &[1], actions);

    let status = upstairs.status(SECOND);
    assert_eq!((status.phase, status.epoch), (PhaseName::Gathering, Some(4)));
    assert_eq!(codes(&status), [WaitCode::TooFewMembers]);
    assert_eq!(status.waits[0].members, [named(1).region, named(3).region]);
    assert_eq!((status.members[1].state, status.members[1].is_suspect), (MemberState::Told, true));
    assert_eq!(status.members[0].trouble.as_deref(), Some("it cannot be reached"));
    assert_eq!(status.members[0].retry_in_ms, Some(500));
    assert_eq!(status.members[0].role, Role::Unknown);

    let later = 2 * SECOND;
    let actions = upstairs.tick(later);
    settle(&mut upstairs, later, &[0, 1], actions);
    let status = upstairs.status(later + SECOND);
    assert_eq!(codes(&status), [WaitCode::AnotherMember]);
    assert_eq!(status.waits[0].members, [named(3).region]);
    assert!(status.waits[0].words.ends_with(" 29 s longer"), "{}", status.waits[0].words);

    let mut tick = |now| {
        let actions = upstairs.tick(now);
        settle(&mut upstairs, now, &[0, 1], actions);
        upstairs.status(now)
    };
    for waited in 2..30 {
        assert_eq!(tick(later + waited * SECOND).phase, PhaseName::Gathering, "after {waited} s");
    }
    let status = tick(later + 30 * SECOND);
    assert_eq!((status.phase, codes(&status)), (PhaseName::Active, vec![]));
    let list = status.list.expect("one is in force");
    assert_eq!((list.epoch, list.number, list.full.len()), (4, 1, 2));
    assert_eq!(status.members[2].role, Role::Filling);
}

/// All three are there, and it is active.
fn active() -> Upstairs {
    let mut upstairs = upstairs();
    let mut actions = upstairs.activate(SECOND);
    actions.extend(upstairs.tick(SECOND));
    settle(&mut upstairs, SECOND, &[0, 1, 2], actions);
    assert_eq!(upstairs.status(SECOND).phase, PhaseName::Active);
    upstairs
}

#[test]
fn what_one_member_alone_keeps_waiting_is_told_and_for_whom() {
    let mut upstairs = active();
    for peer in [PeerId(1), PeerId(2)] {
        let actions = upstairs.disconnected(SECOND, peer);
        settle(&mut upstairs, SECOND, &[0], actions);
    }
    let write = Job::Write { first: 0, bytes: vec![1; 1_024].into(), is_durable: false };
    let actions = upstairs.submit(SECOND, JobId(1), write);
    settle(&mut upstairs, SECOND, &[0], actions);

    let status = upstairs.status(SECOND);
    assert_eq!(codes(&status), [WaitCode::SecondMember]);
    assert_eq!(status.waits[0].members, [named(2).region, named(3).region]);
    assert_eq!((status.jobs.writes, status.totals.writes, status.totals.written_bytes), (1, 1, 1_024));
    assert_eq!(status.members[0].behind, Some(Behind::default()));
    assert_eq!(status.members[1].behind, Some(Behind { writes: 1, bytes: 1_024 }));
    assert_eq!(status.acknowledged, At::default());
    let silent = upstairs.status(6 * SECOND);
    assert_eq!(codes(&silent), [WaitCode::SecondMember, WaitCode::Silence]);
    assert_eq!(silent.members[1].heard_ms_ago, Some(5_000));
}

#[test]
fn a_member_whose_disk_is_full_is_told_until_it_goes_on() {
    let mut upstairs = active();
    let write = Job::Write { first: 0, bytes: vec![1; 512].into(), is_durable: false };
    upstairs.submit(SECOND, JobId(1), write);
    upstairs.received(
        SECOND,
        PeerId(2),
        vec![Reply::Waits { is_full: true, why: "its disk is full".to_owned() }],
    );
    let member = upstairs.status(SECOND).members[2].clone();
    assert_eq!((member.state, member.trouble.as_deref()), (MemberState::Streaming, Some("its disk is full")));
    upstairs.received(SECOND, PeerId(2), vec![Reply::Applied(Position { epoch: 2, counter: 1 })]);
    assert_eq!(upstairs.status(SECOND).members[2].trouble, None);
}

/// What a member is sent that comes back with so much, and may have lost some.
fn sent_when_it_comes_back(upstairs: &mut Upstairs, applied: Position) -> Vec<Request> {
    let peer = PeerId(2);
    let kept = upstairs.status(SECOND).list.expect("one is in force");
    let list = List {
        version: ListVersion { epoch: kept.epoch, number: kept.number },
        base: Position::NONE,
        full: (1..=3).map(named).collect(),
    };
    upstairs.disconnected(SECOND, peer);
    upstairs.tick(2 * SECOND);
    upstairs.connected(2 * SECOND, peer, true);
    let welcome =
        Welcome { version: VERSION, geometry: geometry(), incarnation: 1, promoted: Promotion::default() };
    upstairs.received(2 * SECOND, peer, vec![Reply::Welcome(welcome)]);
    let promoted = Promoted { list, applied, durable: applied, is_suspect: true };
    let actions = upstairs.received(2 * SECOND, peer, vec![Reply::Promoted(promoted)]);
    sent_to(peer, actions)
}

fn sent_to(peer: PeerId, actions: Vec<Action>) -> Vec<Request> {
    let sent = actions.into_iter().filter_map(|action| match action {
        Action::Send(to, request) if to == peer => Some(request),
        _ => None,
    });
    sent.collect()
}

#[test]
fn a_suspect_member_is_told_that_it_is_full_again_when_it_has_all_that_it_ever_had() {
    let mut upstairs = active();
    let write = Job::Write { first: 0, bytes: vec![1; 512].into(), is_durable: false };
    // The third one is sent it, and says nothing.
    let actions = upstairs.submit(SECOND, JobId(1), write);
    settle(&mut upstairs, SECOND, &[0, 1], actions);
    let sent = sent_when_it_comes_back(&mut upstairs, Position::NONE);
    let is_list = |request: &Request| matches!(request, Request::SetList { .. });
    assert!(!sent.iter().any(is_list) && upstairs.status(SECOND).members[2].is_suspect, "{sent:?}");
    let applied = Position { epoch: 2, counter: 1 };
    let actions = upstairs.received(2 * SECOND, PeerId(2), vec![Reply::Applied(applied)]);
    let sent = sent_to(PeerId(2), actions);
    let [Request::SetList { id, list }] = &sent[..] else { panic!("{sent:?}") };
    assert_eq!(list.full.len(), 3);
    assert!(upstairs.status(SECOND).members[2].is_suspect, "until it has kept it");
    upstairs.received(2 * SECOND, PeerId(2), vec![Reply::ListKept { id: *id }]);
    assert!(!upstairs.status(SECOND).members[2].is_suspect);
    assert!(sent_to(PeerId(2), upstairs.tick(2 * SECOND)).iter().all(|request| !is_list(request)), "once");
}

#[test]
fn an_epoch_is_given_once_and_not_lower_than_the_volume_has_had() {
    let mut upstairs = upstairs();
    assert_eq!(upstairs.activate_with(SECOND, 0).err(), Some(ActivateError::NoEpoch));
    assert_eq!(upstairs.activate_with(SECOND, 1).err(), Some(ActivateError::Lower { epoch: 1, least: 2 }));
    assert!(upstairs.activate_with(SECOND, 3).is_ok() && upstairs.activate_with(SECOND, 3).is_ok());
    assert_eq!(upstairs.activate_with(SECOND, 4).err(), Some(ActivateError::Other { epoch: 4, ours: 3 }));
    assert!(upstairs.activate_with(SECOND, 2).is_err());
}

#[test]
fn whoever_has_taken_over_is_told() {
    let mut upstairs = active();
    let by = Promotion { epoch: 5, session: Uuid::from_u128(8) };
    upstairs.received(SECOND, PeerId(0), vec![Reply::Fenced(by)]);
    let status = upstairs.status(SECOND);
    assert_eq!((status.phase, status.fenced_by), (PhaseName::Fenced, Some(by.into())));
    assert_eq!(status.members[0].retry_in_ms, None, "nobody is tried any more");
    assert!(matches!(upstairs.activate_with(SECOND, 6), Err(ActivateError::Ended { .. })));
}

#[test]
fn as_json_it_is_read_again_as_it_was() {
    let status = active().status(SECOND);
    let json = serde_json::to_value(&status).expect("it is data");
    assert_eq!((&json["phase"], &json["members"][0]["state"]), (&"active".into(), &"streaming".into()));
    assert_eq!(serde_json::from_value::<Status>(json).expect("it is one"), status);
}

#[test]
fn answers_that_cannot_be_are_not_believed() {
    let never_sent = Reply::Applied(Position { epoch: 2, counter: 9 });
    let lower = Promotion { epoch: 1, session: Uuid::from_u128(8) };
    let itself = Promotion { epoch: 2, session: Uuid::from_u128(7) };
    for wrong in [never_sent, Reply::Fenced(lower), Reply::Fenced(itself)] {
        let mut upstairs = active();
        upstairs.received(SECOND, PeerId(0), vec![wrong.clone()]);
        let status = upstairs.status(SECOND);
        assert_eq!(status.phase, PhaseName::Active, "{wrong:?}");
        assert_eq!(status.members[0].trouble_code, Some(TroubleCode::WrongAnswer), "{wrong:?}");
        assert_eq!(status.members[0].state, MemberState::Away);
    }
}
