//! Every message arrives as it was sent, however the stream is cut; and whatever else arrives is refused.

use bytes::Bytes;
use ids::{RegionId, RegionSetId, SnapshotId};
use proptest::prelude::*;
use rand::{Rng, SeedableRng, rngs::SmallRng};
use region::{
    BlockSize, Geometry, Held, List, ListVersion, MEMBERS_MAX, Member, Position, Promotion, SEAL, What,
};
use region_wire::{
    BULK_MAX, BlockCopy, BlockData, Blocks, FIELDS_MAX, Haste, Hello, Inbox, NotWelcome, Outbox, Promoted,
    Refusal, Reply, Request, SnapshotWelcome, Welcome, WireError,
};
use std::io::IoSlice;
use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Messages of any kind, by a seed.
struct Any(SmallRng);

impl Any {
    fn new(seed: u64) -> Any {
        Any(SmallRng::seed_from_u64(seed))
    }

    fn uuid(&mut self) -> Uuid {
        Uuid::from_u128(self.0.random())
    }

    fn position(&mut self) -> Position {
        Position { epoch: self.0.random_range(1..=u32::MAX), counter: self.0.random_range(1..1 << 48) }
    }

    fn promotion(&mut self) -> Promotion {
        Promotion { epoch: self.0.random(), session: self.uuid() }
    }

    fn blocks(&mut self, max: u32) -> Blocks {
        Blocks { first: self.0.random_range(0..1 << 48), count: self.0.random_range(1..=max) }
    }

    fn data(&mut self) -> BlockData {
        let (count, is_sealed) = (self.0.random_range(1..20_usize), self.0.random());
        let mut bytes = vec![0; count * 512];
        self.0.fill(&mut bytes[..]);
        let mut seal = || {
            let mut seal = [0; SEAL];
            self.0.fill(&mut seal);
            seal
        };
        let seals = if is_sealed { (0..count).map(|_| seal()).collect() } else { Vec::new() };
        let checksums = (0..count).map(|_| self.0.random()).collect();
        BlockData { first: self.0.random_range(0..1 << 48), checksums, seals, bytes: bytes.into() }
    }

    fn list(&mut self) -> List {
        let count = self.0.random_range(0..=MEMBERS_MAX);
        List {
            version: ListVersion { epoch: self.0.random(), number: self.0.random() },
            base: self.position(),
            full: (0..count)
                .map(|_| Member { region: RegionId(self.uuid()), incarnation: self.0.random() })
                .collect(),
        }
    }

    fn what(&mut self, is_sealed: bool) -> What {
        let seal = if is_sealed { [self.0.random_range(1..=255); SEAL] } else { [0; SEAL] };
        match self.0.random_range(0..4) {
            0 => What::Never,
            1 => What::Zeros,
            2 => What::Lost { checksum: self.0.random(), seal },
            _ => What::Bytes { checksum: self.0.random(), seal },
        }
    }

    fn whats(&mut self, max: usize) -> Vec<What> {
        let (count, is_sealed) = (self.0.random_range(1..=max), self.0.random());
        (0..count).map(|_| self.what(is_sealed)).collect()
    }

    fn copy(&mut self) -> BlockCopy {
        match self.0.random_range(0..5) {
            0 => BlockCopy::Never(self.blocks(8_192)),
            4 => {
                let data = self.data();
                BlockCopy::Mixed(data.checksums.iter().map(|_| self.position()).collect(), data)
            }
            1 => BlockCopy::Zeros(self.position(), self.blocks(8_192)),
            2 => BlockCopy::Lost(self.position(), BlockData { bytes: Bytes::new(), ..self.data() }),
            _ => BlockCopy::Bytes(self.position(), self.data()),
        }
    }

    /// Of one version.
    fn copy_that_heals(&mut self) -> BlockCopy {
        match self.copy() {
            BlockCopy::Mixed(versions, data) => BlockCopy::Bytes(versions[0], data),
            other => other,
        }
    }

    fn haste(&mut self) -> Haste {
        [Haste::Client, Haste::Alone, Haste::Later][self.0.random_range(0..3)]
    }

    fn request(&mut self) -> Request {
        let id = self.0.random();
        match self.0.random_range(0..19) {
            18 => Request::Pass(self.position()),
            17 => Request::Hash { id, blocks: self.blocks(2_048) },
            15 => Request::Snapshot { id, snapshot: SnapshotId(self.uuid()), at: self.position() },
            16 => Request::DeleteSnapshot { id, snapshot: SnapshotId(self.uuid()) },
            0 => Request::Hello(Hello {
                version_min: self.0.random(),
                version_max: self.0.random(),
                region: RegionId(self.uuid()),
                set: RegionSetId(self.uuid()),
                snapshot: self.0.random::<bool>().then(|| SnapshotId(self.uuid())),
            }),
            1 => Request::Promote(self.promotion()),
            2 => Request::SetList { id, list: self.list() },
            3 => Request::Join(self.position()),
            4 => Request::Write(self.position(), self.data()),
            5 => Request::Zero(self.position(), self.blocks(8_192)),
            6 => Request::Flush { id },
            7 => Request::Read { id, blocks: self.blocks(2_048), haste: self.haste() },
            8 => Request::Look { id, blocks: self.blocks(8_192) },
            9 => Request::Digest { id, blocks: self.blocks(8_192) },
            10 => Request::Install { id, copy: self.copy(), haste: self.haste() },
            11 => Request::Heal { id, copy: self.copy_that_heals() },
            12 => Request::Stage { id, copy: self.copy() },
            13 => Request::Commit { id, applied: self.position() },
            _ => Request::Ping { id },
        }
    }

    fn geometry(&mut self) -> Geometry {
        Geometry { block_size: BlockSize::B4096, blocks: self.0.random(), is_sealed: self.0.random() }
    }

    fn refusal(&mut self) -> Refusal {
        match self.0.random_range(0..9) {
            8 => Refusal::Hello(NotWelcome::ReadOnly("it is a clone".to_owned())),
            7 => Refusal::NoSnapshot("it is deleted".to_owned()),
            5 => Refusal::Hello(NotWelcome::OtherSet("it is of another set".to_owned())),
            6 => Refusal::Hello(NotWelcome::NotOpened("it is rotten".to_owned())),
            4 => Refusal::EpochTooHigh("it is much higher".to_owned()),
            0 => Refusal::Hello(NotWelcome::Version(self.0.random(), self.0.random())),
            1 => Refusal::Hello(NotWelcome::NoRegion("there is nö such region".to_owned())),
            2 => Refusal::Epoch(self.promotion()),
            _ => Refusal::List { id: self.0.random(), why: String::new() },
        }
    }

    fn reply(&mut self) -> Reply {
        let id = self.0.random();
        match self.0.random_range(0..19) {
            18 => Reply::SnapshotWelcome(SnapshotWelcome {
                version: self.0.random(),
                geometry: self.geometry(),
                incarnation: self.0.random(),
                applied: self.position(),
            }),
            15 => Reply::Snapshotted { id, applied: self.position() },
            16 => Reply::SnapshotRefused { id, why: "it is elsewhere".to_owned() },
            17 => Reply::SnapshotDeleted { id },
            0 => Reply::Welcome(Welcome {
                version: self.0.random(),
                geometry: self.geometry(),
                incarnation: self.0.random(),
                promoted: self.promotion(),
            }),
            1 => Reply::Promoted(Promoted {
                list: self.list(),
                applied: self.position(),
                durable: self.position(),
                is_suspect: self.0.random(),
            }),
            2 => Reply::Refused(self.refusal()),
            3 => Reply::ListKept { id },
            4 => Reply::Applied(self.position()),
            5 => Reply::Flushed { id, durable: self.position() },
            6 => {
                let whats = self.whats(2_048);
                let first = self.0.random_range(0..1 << 48);
                Reply::Read { id, first, whats, bytes: self.data().bytes }
            }
            7 => {
                let whats = self.whats(8_192);
                let held = whats.into_iter().map(|what| Held { version: self.position(), what });
                Reply::Looked { id, held: held.collect() }
            }
            8 => Reply::Digested { id, digest: self.0.random() },
            9 => Reply::Taken { id, blocks: self.0.random() },
            10 => Reply::Pong { id },
            11 => Reply::Fenced(self.promotion()),
            12 => Reply::Failed("the disk".to_owned()),
            13 => Reply::Waits { is_full: self.0.random(), why: "no room".to_owned() },
            _ => Reply::Wrong("a gap".to_owned()),
        }
    }
}

/// The same message with other bytes in its fields, or fewer of them, and a header that is right: as a peer makes it that has another
/// idea of them.
fn with_other_fields(message: &[u8], changes: &[(usize, u8)], cut: usize) -> Vec<u8> {
    let length = u32::from_le_bytes(message[4..8].try_into().expect("four bytes"));
    let (head, bulk) = message.split_at(20 + length as usize);
    let mut fields = head[20..].to_vec();
    for (at, byte) in changes {
        if let Some(field) = fields.get_mut(*at) {
            *field = *byte;
        }
    }
    if !changes.is_empty() {
        fields.truncate(cut);
    }
    let mut header = head[..12].to_vec();
    header[4..8].copy_from_slice(&u32::try_from(fields.len()).expect("they are few").to_le_bytes());
    let checksum = xxh3_64_with_seed(&fields, xxh3_64_with_seed(&header, 0));
    [&header, &checksum.to_le_bytes()[..], &fields, bulk].concat()
}

/// What waits, sent in pieces of these sizes.
fn sent(mut out: Outbox, mut next: impl FnMut() -> usize) -> Vec<u8> {
    let mut all = Vec::new();
    while !out.is_empty() {
        let mut slices = [IoSlice::new(&[]); 3];
        let count = out.slices(&mut slices);
        let some: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.iter().copied()).collect();
        let taken = some.len().min(next());
        all.extend_from_slice(&some[..taken]);
        out.sent(taken);
    }
    all
}

/// The frames of a stream that arrives in pieces.
fn received<T>(
    mut stream: &[u8],
    mut next: impl FnMut() -> usize,
    parse: impl Fn(region_wire::Frame) -> Result<T, WireError>,
) -> Result<Vec<T>, WireError> {
    let (mut inbox, mut all) = (Inbox::new(), Vec::new());
    while !stream.is_empty() {
        let (piece, rest) = stream.split_at(stream.len().min(next()));
        inbox.fill().extend_from_slice(piece);
        stream = rest;
        while let Some(frame) = inbox.next_frame()? {
            all.push(parse(frame)?);
        }
        assert!(inbox.fill().capacity() <= 2 * (20 + FIELDS_MAX + BULK_MAX) + piece.len());
    }
    Ok(all)
}

proptest! {
    #[test]
    fn requests_arrive_as_they_were_sent_however_the_stream_is_cut(seed: u64, count in 1..12_usize, piece in 1..9_000_usize) {
        let mut any = Any::new(seed);
        let requests: Vec<Request> = (0..count).map(|_| any.request()).collect();
        let mut out = Outbox::new();
        requests.iter().for_each(|request| request.encode(&mut out));
        let mut sizes = Any::new(seed);
        let mut size = || sizes.0.random_range(1..=piece);
        let length = out.len();
        let stream = sent(out, &mut size);
        prop_assert_eq!(stream.len(), length);
        prop_assert_eq!(received(&stream, size, Request::parse).expect("it is right"), requests);
    }

    #[test]
    fn replies_arrive_as_they_were_sent_however_the_stream_is_cut(seed: u64, count in 1..12_usize, piece in 1..9_000_usize) {
        let mut any = Any::new(seed);
        let replies: Vec<Reply> = (0..count).map(|_| any.reply()).collect();
        let mut out = Outbox::new();
        replies.iter().for_each(|reply| reply.encode(&mut out));
        let mut sizes = Any::new(seed);
        let mut size = || sizes.0.random_range(1..=piece);
        let stream = sent(out, &mut size);
        prop_assert_eq!(received(&stream, size, Reply::parse).expect("it is right"), replies);
    }

    /// A changed byte of bulk is the block's checksum's to find.
    #[test]
    fn a_changed_byte_outside_of_bulk_is_noticed(seed: u64, at: prop::sample::Index, flip in 1..=255_u8) {
        let request = Any::new(seed).request();
        let mut out = Outbox::new();
        request.encode(&mut out);
        let mut stream = sent(out, || usize::MAX);
        let bulk = match &request {
            Request::Write(_, data)
            | Request::Install { copy: BlockCopy::Bytes(_, data) | BlockCopy::Mixed(_, data), .. }
            | Request::Heal { copy: BlockCopy::Bytes(_, data), .. }
            | Request::Stage { copy: BlockCopy::Bytes(_, data) | BlockCopy::Mixed(_, data), .. } => data.bytes.len(),
            _ => 0,
        };
        let at = at.index(stream.len() - bulk);
        stream[at] ^= flip;
        let got = received(&stream, || usize::MAX, Request::parse);
        // A longer length waits for what never comes.
        prop_assert!(got.as_ref().map_or(true, Vec::is_empty), "{:?}", got);
    }

    #[test]
    fn anything_at_all_is_refused_or_waited_for_and_never_believed(bytes: Vec<u8>, has_magic: bool, kind: u8) {
        let mut stream = bytes;
        if has_magic && stream.len() >= 4 {
            stream[..2].copy_from_slice(b"bw");
            stream[2] = kind;
        }
        let got = received(&stream, || usize::MAX, Request::parse);
        prop_assert!(got.map_or(true, |got| got.is_empty()));
    }

    /// Right frames with any fields: as a peer would make them that has another idea of them.
    #[test]
    fn fields_that_make_no_sense_are_refused_and_never_panic(seed: u64, cut: prop::sample::Index, changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4)) {
        let mut any = Any::new(seed);
        let mut out = Outbox::new();
        if seed % 2 == 0 { any.request().encode(&mut out) } else { any.reply().encode(&mut out) }
        let stream = sent(out, || usize::MAX);
        let changes: Vec<(usize, u8)> =
            changes.iter().map(|(at, byte)| (at.index(stream.len()), *byte)).collect();
        let cut = cut.index(stream.len());
        let changed = with_other_fields(&stream, &changes, cut);
        let mut inbox = Inbox::new();
        inbox.fill().extend_from_slice(&changed);
        let frame = inbox.next_frame().expect("its header is right").expect("it is whole");
        let _ = Request::parse(frame.clone());
        let _ = Reply::parse(frame);
    }
}

#[test]
fn what_is_longer_than_any_message_is_refused_by_its_header() {
    let mut header = [0; 20];
    header[..2].copy_from_slice(b"bw");
    header[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
    let mut inbox = Inbox::new();
    inbox.fill().extend_from_slice(&header);
    let refused = inbox.next_frame();
    assert!(matches!(refused, Err(WireError::TooLong { .. })), "{refused:?}");
}

#[test]
fn a_longest_message_has_room() {
    let held = vec![
        Held {
            version: Position { epoch: 1, counter: 1 },
            what: What::Bytes { checksum: 1, seal: [1; SEAL] }
        };
        8_192
    ];
    let reply = Reply::Looked { id: 1, held };
    let mut out = Outbox::new();
    reply.encode(&mut out);
    assert!(received(&sent(out, || usize::MAX), || usize::MAX, Reply::parse) == Ok(vec![reply]));
    let data = BlockData {
        first: 0,
        checksums: vec![1; 2_048],
        seals: vec![[1; SEAL]; 2_048],
        bytes: Bytes::from(vec![1; BULK_MAX]),
    };
    let request = Request::Write(Position { epoch: 1, counter: 1 }, data);
    let mut out = Outbox::new();
    request.encode(&mut out);
    assert!(received(&sent(out, || usize::MAX), || usize::MAX, Request::parse) == Ok(vec![request]));
}

#[test]
fn bulk_of_large_messages_lies_where_a_disk_takes_it_from_and_is_not_moved() {
    let write = |seal: bool, length: usize| {
        let blocks = length / 512;
        let seals = if seal { vec![[1; SEAL]; blocks] } else { Vec::new() };
        let bytes = Bytes::from(vec![7; length]);
        let data = BlockData { first: 0, checksums: vec![1; blocks], seals, bytes };
        Request::Write(Position { epoch: 1, counter: 1 }, data)
    };
    let mut out = Outbox::new();
    let large = [(false, 64 << 10), (true, 256 << 10), (false, BULK_MAX), (true, 65 << 10)];
    for (seal, length) in large {
        write(seal, length).encode(&mut out);
        // Others are between them.
        Request::Ping { id: 1 }.encode(&mut out);
    }
    let (stream, mut inbox, mut seen) = (sent(out, || usize::MAX), Inbox::new(), Vec::new());
    let (mut stream, mut before) = (&stream[..], None);
    while !stream.is_empty() {
        let needed = inbox.needed();
        let filling = inbox.fill();
        // Of a large frame of which a part is there, there is no more room than for what is missing of it, and it stays where it is.
        if needed > 64 << 10 {
            assert!(filling.capacity() <= needed + 4096, "{} for {needed}", filling.capacity());
            let now = (needed, filling.as_ptr());
            assert!(before.is_none_or(|before| before == now), "what is there was moved");
            before = Some(now);
        } else {
            before = None;
        }
        let room = filling.capacity() - filling.len();
        // As a socket gives it.
        let (piece, rest) = stream.split_at(room.min(10 << 10).min(stream.len()));
        filling.extend_from_slice(piece);
        stream = rest;
        while let Some(frame) = inbox.next_frame().unwrap() {
            if let Request::Write(_, data) = Request::parse(frame).unwrap() {
                assert!(data.bytes.iter().all(|byte| *byte == 7));
                seen.push((data.bytes.len(), data.bytes.as_ptr().align_offset(4096)));
            }
            before = None;
        }
    }
    assert_eq!(seen, large.map(|(_, length)| (length, 0)));
}

#[test]
fn a_list_with_one_member_twice_is_none_and_no_block_is_healed_by_blocks_of_many_versions() {
    let member = Member { region: RegionId(Uuid::from_u128(1)), incarnation: 2 };
    let list = |full: Vec<Member>| List {
        version: ListVersion { epoch: 1, number: 1 },
        base: Position { epoch: 1, counter: 1 },
        full,
    };
    let data =
        BlockData { first: 0, checksums: vec![1], seals: vec![], bytes: Bytes::from_static(&[0; 512]) };
    let copy = BlockCopy::Mixed(vec![Position { epoch: 1, counter: 1 }], data);
    let parsed = |request: Request| {
        let mut out = Outbox::new();
        request.encode(&mut out);
        let mut inbox = Inbox::new();
        inbox.fill().extend_from_slice(&sent(out, || usize::MAX));
        Request::parse(inbox.next_frame().unwrap().unwrap())
    };
    assert!(parsed(Request::SetList { id: 1, list: list(vec![member]) }).is_ok());
    assert!(parsed(Request::SetList { id: 1, list: list(vec![member; 2]) }).is_err());
    assert!(parsed(Request::Install { id: 1, copy: copy.clone(), haste: Haste::Client }).is_ok());
    assert!(parsed(Request::Heal { id: 1, copy }).is_err());
}

#[test]
fn a_hello_says_whether_it_is_of_a_snapshot_and_a_part_of_a_name_is_none() {
    let hello = |snapshot| {
        let (region, set) = (RegionId(Uuid::from_u128(1)), RegionSetId(Uuid::from_u128(2)));
        Request::Hello(Hello { version_min: 1, version_max: 1, region, set, snapshot })
    };
    let bytes = |snapshot| {
        let mut out = Outbox::new();
        hello(snapshot).encode(&mut out);
        sent(out, || usize::MAX)
    };
    let parsed = |bytes: &[u8]| received(bytes, || usize::MAX, Request::parse);
    // One of which all bits are 0 is one, too.
    let named = Some(SnapshotId(Uuid::nil()));
    assert_eq!(parsed(&bytes(None)), Ok(vec![hello(None)]));
    assert_eq!(parsed(&bytes(named)), Ok(vec![hello(named)]));
    assert_eq!(bytes(named).len(), bytes(None).len() + 16);
    for missing in 1..16 {
        let cut = bytes(named).len() - 20 - missing;
        let refused = parsed(&with_other_fields(&bytes(named), &[(usize::MAX, 0)], cut));
        assert!(matches!(refused, Err(WireError::Wrong { kind: 1, .. })), "{missing}: {refused:?}");
    }
}

#[test]
fn a_haste_that_is_none_is_refused() {
    let blocks = Blocks { first: 3, count: 4 };
    let (haste, copy) = (Haste::Later, BlockCopy::Never(blocks));
    // The haste of a copy is before it, and of a read behind its blocks: the last.
    for (request, at) in
        [(Request::Read { id: 1, blocks, haste }, None), (Request::Install { id: 1, copy, haste }, Some(8))]
    {
        let mut out = Outbox::new();
        request.encode(&mut out);
        let bytes = sent(out, || usize::MAX);
        let fields = bytes.len() - 20;
        let parsed = |code| {
            let other = with_other_fields(&bytes, &[(at.unwrap_or(fields - 1), code)], fields);
            received(&other, || usize::MAX, Request::parse)
        };
        assert_eq!(parsed(2), Ok(vec![request.clone()]));
        for code in [3, 255] {
            assert!(matches!(parsed(code), Err(WireError::Wrong { .. })), "{code}: {request:?}");
        }
    }
}
