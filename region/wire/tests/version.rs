//! What each message of this version looks like. Whoever adds one, or changes one, finds the table here wrong, and reads `src/version.rs`: the
//! version is raised, and then the table is.

use bytes::Bytes;
use ids::{RegionId, RegionSetId, SnapshotId};
use region::{BlockSize, Geometry, Held, List, ListVersion, Member, Position, Promotion, SEAL, What};
use region_wire::{
    BULK_MAX, BlockCopy, BlockData, Blocks, FIELDS_MAX, Haste, Hello, Inbox, LOOK_MAX, NotWelcome, Outbox,
    Promoted, Refusal, Reply, Request, SnapshotWelcome, VERSION, WRITE_BYTES_MAX, Welcome, ZERO_MAX,
};
use std::{collections::BTreeSet, io::IoSlice};
use uuid::Uuid;

const AT: Position = Position { epoch: 2, counter: 3 };
const BLOCKS: Blocks = Blocks { first: 4, count: 5 };
const GEOMETRY: Geometry = Geometry { block_size: BlockSize::B4096, blocks: 6, is_sealed: true };

fn promotion() -> Promotion {
    Promotion { epoch: 7, session: Uuid::from_u128(8) }
}

fn list() -> List {
    let full = vec![Member { region: RegionId(Uuid::from_u128(9)), incarnation: 10 }];
    List { version: ListVersion { epoch: 11, number: 12 }, base: AT, full }
}

fn snapshot() -> SnapshotId {
    SnapshotId(Uuid::from_u128(13))
}

fn data() -> BlockData {
    let bytes = Bytes::from(vec![14; 512]);
    BlockData { first: 15, checksums: vec![16], seals: vec![[17; SEAL]], bytes }
}

fn whats() -> Vec<What> {
    let (checksum, seal) = (18, [19; SEAL]);
    vec![What::Never, What::Zeros, What::Bytes { checksum, seal }, What::Lost { checksum, seal }]
}

fn why() -> String {
    "why".to_owned()
}

fn requests() -> Vec<Request> {
    let (region, set) = (RegionId(Uuid::from_u128(20)), RegionSetId(Uuid::from_u128(21)));
    // Of Hello the fields alone are of interest here.
    let hello = |snapshot| Request::Hello(Hello { version_min: 1, version_max: 2, region, set, snapshot });
    let copies = [
        BlockCopy::Never(BLOCKS),
        BlockCopy::Zeros(AT, BLOCKS),
        BlockCopy::Bytes(AT, data()),
        BlockCopy::Mixed(vec![AT], data()),
        BlockCopy::Lost(AT, BlockData { bytes: Bytes::new(), ..data() }),
    ];
    let id = 22;
    let mut all = vec![
        hello(None),
        hello(Some(snapshot())),
        Request::Promote(promotion()),
        Request::SetList { id, list: list() },
        Request::Join(AT),
        Request::Write(AT, data()),
        Request::Zero(AT, BLOCKS),
        Request::Pass(AT),
        Request::Flush { id },
        Request::Read { id, blocks: BLOCKS, haste: Haste::Later },
        Request::Look { id, blocks: BLOCKS },
        Request::Digest { id, blocks: BLOCKS },
        Request::Hash { id, blocks: BLOCKS },
        Request::Commit { id, applied: AT },
        Request::Ping { id },
        Request::Snapshot { id, snapshot: snapshot(), at: AT },
        Request::DeleteSnapshot { id, snapshot: snapshot() },
        Request::Heal { id, copy: BlockCopy::Bytes(AT, data()) },
        Request::Stage { id, copy: BlockCopy::Never(BLOCKS) },
    ];
    all.extend(copies.map(|copy| Request::Install { id, copy, haste: Haste::Alone }));
    all
}

fn replies() -> Vec<Reply> {
    let id = 23;
    let refusals = [
        Refusal::Hello(NotWelcome::Version(1, 2)),
        Refusal::Hello(NotWelcome::NoRegion(why())),
        Refusal::Hello(NotWelcome::OtherSet(why())),
        Refusal::Hello(NotWelcome::NotOpened(why())),
        Refusal::Hello(NotWelcome::ReadOnly(why())),
        Refusal::NoSnapshot(why()),
        Refusal::Epoch(promotion()),
        Refusal::EpochTooHigh(why()),
        Refusal::List { id, why: why() },
    ];
    let held = whats().into_iter().map(|what| Held { version: AT, what }).collect();
    let bytes = Bytes::from(vec![24; 512]);
    let mut all = vec![
        Reply::Welcome(Welcome { version: 1, geometry: GEOMETRY, incarnation: 25, promoted: promotion() }),
        Reply::SnapshotWelcome(SnapshotWelcome {
            version: 1,
            geometry: GEOMETRY,
            incarnation: 25,
            applied: AT,
        }),
        Reply::Promoted(Promoted { list: list(), applied: AT, durable: AT, is_suspect: true }),
        Reply::ListKept { id },
        Reply::Applied(AT),
        Reply::Flushed { id, durable: AT },
        Reply::Read { id, first: 26, whats: whats(), bytes },
        Reply::Looked { id, held },
        Reply::Digested { id, digest: 27 },
        Reply::Hashed { id, hash: Ok([28; 32]) },
        Reply::Hashed { id, hash: Err(29) },
        Reply::Taken { id, blocks: 30 },
        Reply::Pong { id },
        Reply::Snapshotted { id, applied: AT },
        Reply::SnapshotRefused { id, why: why() },
        Reply::SnapshotDeleted { id },
        Reply::Fenced(promotion()),
        Reply::Waits { is_full: true, why: why() },
        Reply::Failed(why()),
        Reply::Wrong(why()),
    ];
    all.extend(refusals.map(Reply::Refused));
    all
}

/// A place for each request, so that one that is new does not compile before it has one, and is looked for.
fn place_of_request(request: &Request) -> usize {
    match request {
        Request::Hello(_) => 0,
        Request::Promote(_) => 1,
        Request::SetList { .. } => 2,
        Request::Join(_) => 3,
        Request::Write(..) => 4,
        Request::Zero(..) => 5,
        Request::Pass(_) => 6,
        Request::Flush { .. } => 7,
        Request::Read { .. } => 8,
        Request::Look { .. } => 9,
        Request::Digest { .. } => 10,
        Request::Hash { .. } => 11,
        Request::Heal { .. } => 12,
        Request::Stage { .. } => 13,
        Request::Commit { .. } => 14,
        Request::Ping { .. } => 15,
        Request::Snapshot { .. } => 16,
        Request::DeleteSnapshot { .. } => 17,
        Request::Install { copy: BlockCopy::Never(_), .. } => 18,
        Request::Install { copy: BlockCopy::Zeros(..), .. } => 19,
        Request::Install { copy: BlockCopy::Bytes(..), .. } => 20,
        Request::Install { copy: BlockCopy::Mixed(..), .. } => 21,
        Request::Install { copy: BlockCopy::Lost(..), .. } => 22,
    }
}

fn place_of_reply(reply: &Reply) -> usize {
    match reply {
        Reply::Welcome(_) => 0,
        Reply::SnapshotWelcome(_) => 1,
        Reply::Promoted(_) => 2,
        Reply::ListKept { .. } => 3,
        Reply::Applied(_) => 4,
        Reply::Flushed { .. } => 5,
        Reply::Read { .. } => 6,
        Reply::Looked { .. } => 7,
        Reply::Digested { .. } => 8,
        Reply::Hashed { hash: Ok(_), .. } => 9,
        Reply::Hashed { hash: Err(_), .. } => 10,
        Reply::Taken { .. } => 11,
        Reply::Pong { .. } => 12,
        Reply::Snapshotted { .. } => 13,
        Reply::SnapshotRefused { .. } => 14,
        Reply::SnapshotDeleted { .. } => 15,
        Reply::Fenced(_) => 16,
        Reply::Waits { .. } => 17,
        Reply::Failed(_) => 18,
        Reply::Wrong(_) => 19,
        Reply::Refused(Refusal::Hello(NotWelcome::Version(..))) => 20,
        Reply::Refused(Refusal::Hello(NotWelcome::NoRegion(_))) => 21,
        Reply::Refused(Refusal::Hello(NotWelcome::OtherSet(_))) => 22,
        Reply::Refused(Refusal::Hello(NotWelcome::NotOpened(_))) => 23,
        Reply::Refused(Refusal::Hello(NotWelcome::ReadOnly(_))) => 24,
        Reply::Refused(Refusal::NoSnapshot(_)) => 25,
        Reply::Refused(Refusal::Epoch(_)) => 26,
        Reply::Refused(Refusal::EpochTooHigh(_)) => 27,
        Reply::Refused(Refusal::List { .. }) => 28,
    }
}

/// A message as it is sent: its kind, and what its header says that it holds.
fn sent(encode: impl Fn(&mut Outbox)) -> (Vec<u8>, (u8, u64)) {
    let mut out = Outbox::new();
    encode(&mut out);
    let mut all = Vec::new();
    while !out.is_empty() {
        let mut slices = [IoSlice::new(&[]); 4];
        let count = out.slices(&mut slices);
        let before = all.len();
        slices[..count].iter().for_each(|slice| all.extend_from_slice(slice));
        out.sent(all.len() - before);
    }
    let checksum = u64::from_le_bytes(all[12..20].try_into().expect("eight bytes"));
    let kind = all[2];
    (all, (kind, checksum))
}

fn received(bytes: &[u8]) -> region_wire::Frame {
    let mut inbox = Inbox::new();
    inbox.fill().extend_from_slice(bytes);
    inbox.next_frame().expect("it is right").expect("it is whole")
}

#[test]
fn every_message_of_this_version_looks_as_it_did_when_the_version_was_made() {
    let mut seen = Vec::new();
    for request in requests() {
        let (bytes, looks) = sent(|out| request.encode(out));
        assert_eq!(Request::parse(received(&bytes)), Ok(request));
        seen.push(looks);
    }
    for reply in replies() {
        let (bytes, looks) = sent(|out| reply.encode(out));
        assert_eq!(Reply::parse(received(&bytes)), Ok(reply));
        seen.push(looks);
    }
    assert_eq!(VERSION, 4, "and here is the table of another one");
    assert_eq!(seen, LOOKS_OF_VERSION_4, "raise VERSION, and then change this table");
    let places: BTreeSet<usize> = requests().iter().map(place_of_request).collect();
    assert_eq!(places, (0..23).collect(), "one of each request is among them");
    let places: BTreeSet<usize> = replies().iter().map(place_of_reply).collect();
    assert_eq!(places, (0..29).collect(), "one of each reply is among them");
}

#[test]
fn the_bounds_of_messages_are_those_of_this_version() {
    let bounds = [WRITE_BYTES_MAX as u64, ZERO_MAX, LOOK_MAX, FIELDS_MAX as u64, BULK_MAX as u64];
    assert_eq!((VERSION, bounds), (4, [1 << 20, 8_192, 8_192, 512 << 10, 1 << 20]));
}

/// Kind, and checksum of header and fields.
const LOOKS_OF_VERSION_4: [(u8, u64); 53] = [
    (1, 0xe37c4850981e2ee9),
    (1, 0x7a6175d5aeb56a9c),
    (2, 0x2ad512ac6ed14863),
    (3, 0xed6436bf1536eafe),
    (4, 0xa53340f0c87d4f93),
    (5, 0x6089076a623ba3f7),
    (6, 0x85abe305120ccb20),
    (18, 0xfc8c1ba3844db5a1),
    (7, 0x99d8ce36b8c61ee1),
    (8, 0xac55c08e18325ad9),
    (9, 0xd16b72c9b53c1e7e),
    (10, 0x115f221d65e9662e),
    (20, 0xf44e20260d189292),
    (14, 0xb42a6a2509badbe4),
    (15, 0xc9a3e2c7c19ded29),
    (16, 0x63e7cd905b397ea6),
    (17, 0x48f6070248081f00),
    (12, 0x3d7b1e7635b0ae8a),
    (13, 0x8f6d21af48676cbf),
    (11, 0x032193aa684db8f7),
    (11, 0xc8852df92a40fb43),
    (11, 0xc0a7410903b227ce),
    (11, 0xfbadbc3cf260753d),
    (11, 0x1e522fda5aeab722),
    (101, 0xd05a6ab5078c534e),
    (126, 0x14d0624702c25faf),
    (102, 0x44d681ee215de8da),
    (103, 0x5e949b41df1eb0fd),
    (104, 0x29164c635269a55b),
    (105, 0xb79511eacabf7782),
    (106, 0x7ef7062390a96e75),
    (107, 0x478fa5b1487deeb8),
    (108, 0x67a88920b74729f1),
    (130, 0xe5555caa99ac2843),
    (131, 0xf5e3397b4d8e8278),
    (109, 0xef184456d49401c1),
    (110, 0x16fa60539043bedc),
    (122, 0x7f062a0c15a53a68),
    (123, 0x892ed6e843c22eb2),
    (124, 0x317fd7b96a59befd),
    (111, 0x21a039d924df63dd),
    (118, 0x5b3a2ff0d1019385),
    (112, 0x1b709f2e48c0d121),
    (113, 0x528334d8f72635c6),
    (114, 0x48e331aaa16528bb),
    (115, 0xd5bd92d7760d843f),
    (120, 0xaa402123ed684288),
    (121, 0xba137b692ebc951d),
    (132, 0xe9933f107747ac0f),
    (125, 0x73a05a38c96d565a),
    (116, 0x480fa4379a051c8f),
    (119, 0xee029b8cf79b3462),
    (117, 0x9858e89bbdb902d0),
];
