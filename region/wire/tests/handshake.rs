//! Which member is taken for the one that was wanted, and what becomes of every answer that is a no.

use ids::{RegionId, RegionSetId, SnapshotId};
use region::{BlockSize, Geometry, Position, Promotion};
use region_wire::{
    Expected, Hello, NotWelcome, PeerError, Refusal, Reply, SnapshotWelcome, Unfit, VERSION, Welcome,
};
use uuid::Uuid;

const GEOMETRY: Geometry = Geometry { block_size: BlockSize::B4096, blocks: 100, is_sealed: true };
const EXPECTED: Expected = Expected { geometry: GEOMETRY, incarnation: Some(7) };

fn hello() -> Hello {
    let (region, set) = (RegionId(Uuid::from_u128(1)), RegionSetId(Uuid::from_u128(2)));
    Hello::new(region, set, Some(SnapshotId(Uuid::from_u128(3))))
}

fn welcome() -> SnapshotWelcome {
    let applied = Position { epoch: 1, counter: 2 };
    SnapshotWelcome { version: VERSION, geometry: GEOMETRY, incarnation: 7, applied }
}

#[test]
fn only_who_speaks_this_version_is_spoken_with() {
    let says = |version_min, version_max| Hello { version_min, version_max, ..hello() };
    let refused = Err(NotWelcome::Version(VERSION, VERSION));
    assert_eq!(hello().version(), Ok(VERSION));
    assert_eq!(says(0, VERSION + 1).version(), Ok(VERSION));
    assert_eq!(says(0, VERSION - 1).version(), refused);
    assert_eq!(says(VERSION + 1, u16::MAX).version(), refused);
    assert_eq!(says(VERSION + 1, VERSION - 1).version(), refused, "a range of nothing");
}

#[test]
fn who_is_another_one_than_was_wanted_is_told_by_what_it_says_of_itself() {
    let smaller = Geometry { blocks: 99, ..GEOMETRY };
    let open = Geometry { is_sealed: false, ..GEOMETRY };
    let older = VERSION - 1;
    for (said, code, words) in [
        (SnapshotWelcome { version: older, ..welcome() }, "other_version", "and this speaks"),
        (
            SnapshotWelcome { geometry: smaller, ..welcome() },
            "other_blocks",
            "it has 99 of 4096 bytes, with seals",
        ),
        (SnapshotWelcome { geometry: open, ..welcome() }, "other_blocks", "it has 100 of 4096 bytes, and"),
        (SnapshotWelcome { incarnation: 8, ..welcome() }, "other_incarnation", "is 8, and should be 7"),
    ] {
        let error = Reply::SnapshotWelcome(said).welcomed(&EXPECTED).expect_err("it is another one");
        assert_eq!((error.code(), error.may_pass()), (code, false));
        assert!(error.to_string().contains(words), "{error}");
        // Its writer sees the same.
        let SnapshotWelcome { version, geometry, incarnation, .. } = said;
        let said = Welcome { version, geometry, incarnation, promoted: Promotion::default() };
        let unfit = EXPECTED.check(&said).expect_err("it is another one");
        assert_eq!((unfit.code().name(), unfit.to_string()), (code, error.to_string()));
    }
    assert!(Reply::SnapshotWelcome(welcome()).welcomed(&EXPECTED).is_ok_and(|said| said == welcome()));
    let any = Expected { incarnation: None, ..EXPECTED };
    assert!(Reply::SnapshotWelcome(SnapshotWelcome { incarnation: 8, ..welcome() }).welcomed(&any).is_ok());
    let strange = Reply::Pong { id: 1 }.welcomed(&EXPECTED).expect_err("it is no welcome");
    assert!(matches!(strange, PeerError::Strange(_)), "{strange}");
}

#[test]
fn every_no_has_its_code_and_keeps_its_words() {
    let why = || "why".to_owned();
    let version = NotWelcome::Version(VERSION + 1, VERSION + 2);
    for (said, code, words) in [
        (Refusal::Hello(version), "other_version", format!("versions {} to {}", VERSION + 1, VERSION + 2)),
        (Refusal::Hello(NotWelcome::NoRegion(why())), "no_region", why()),
        (Refusal::Hello(NotWelcome::OtherSet(why())), "other_set", why()),
        (Refusal::Hello(NotWelcome::NotOpened(why())), "not_opened", why()),
        (Refusal::Hello(NotWelcome::ReadOnly(why())), "not_opened", why()),
        (Refusal::NoSnapshot(why()), "no_snapshot", why()),
        (Refusal::EpochTooHigh(why()), "refused", why()),
        (Refusal::List { id: 1, why: why() }, "refused", why()),
        (Refusal::Epoch(Promotion::default()), "refused", "it wants an epoch".to_owned()),
    ] {
        let error = Reply::Refused(said).answered().expect_err("it is a no");
        assert!(error.code() == code && error.to_string().contains(&words), "{code}: {error:?}");
    }
    for said in [Reply::Failed(why()), Reply::Wrong(why())] {
        let error = said.answered().expect_err("it is a no");
        assert!(matches!(&error, PeerError::Refused(words) if *words == why()), "{error:?}");
    }
    assert!(Reply::Pong { id: 4 }.answered().is_ok_and(|reply| reply == Reply::Pong { id: 4 }));
    let unfit = Unfit::from(NotWelcome::NoRegion(why()));
    assert_eq!(unfit.to_string(), why(), "what it says is said once");
}
