//! A disk served over real sockets: what is answered, what is refused, and that one peer's trouble is nobody else's.

mod parts;

use ids::SnapshotId;
use parts::{BLOCK, Peer, Served, hello, hello_of, read, region, set, write};
use region::{Position, Promotion};
use region_wire::{Blocks, Hello, NotWelcome, Outbox, Refusal, Reply, Request, VERSION};
use std::{
    collections::BTreeSet,
    io::{ErrorKind, IoSlice, Read, Write},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};
use uuid::Uuid;

#[test]
fn what_was_written_and_flushed_is_read_also_after_a_restart() {
    let mut served = Served::new(1);
    let mut peer = served.promoted(1, 1);
    peer.say(&[write(1, 0, 256, 7), write(2, 3, 1, 8), read(1, 0, 5), Request::Flush { id: 2 }]);
    let mut expected = vec![7; 5 * BLOCK];
    expected[3 * BLOCK..4 * BLOCK].fill(8);
    let (mut was_read, mut is_flushed) = (false, false);
    while !was_read || !is_flushed {
        match peer.hear().expect("the connection goes on") {
            Reply::Read { id: 1, bytes, .. } => was_read = bytes == expected,
            Reply::Flushed { id: 2, durable } => is_flushed = durable == Position { epoch: 1, counter: 2 },
            Reply::Applied(_) => {}
            other => panic!("{other:?}"),
        }
    }
    served.stop();
    assert_eq!(peer.hear(), None);
    served.start();
    let mut peer = served.promoted(1, 2);
    peer.say(&[read(1, 0, 5)]);
    assert_eq!(peer.hear_read(), expected);
}

#[test]
fn a_newer_writer_takes_over_and_the_older_one_is_told() {
    let served = Served::new(1);
    let mut older = served.promoted(1, 1);
    let mut newer = served.promoted(1, 2);
    assert!(matches!(older.hear(), Some(Reply::Fenced(Promotion { epoch: 2, .. }))));
    older.say(&[write(1, 0, 1, 9)]);
    assert!(matches!(older.hear(), Some(Reply::Fenced(_))));
    assert_eq!(older.hear(), None);
    newer.say(&[read(1, 0, 1)]);
    assert_eq!(newer.hear_read(), Vec::<u8>::new(), "nobody ever wrote it");
}

#[test]
fn one_process_serves_many_regions() {
    let served = Served::new(40);
    let mut peers: Vec<Peer> = (1..=40).map(|number| served.promoted(number, 1)).collect();
    for (fill, peer) in (1..).zip(&mut peers) {
        peer.say(&[write(1, 0, 1, fill), read(1, 0, 1)]);
    }
    for (fill, peer) in (1..).zip(&mut peers) {
        assert_eq!(peer.hear_read(), vec![fill; BLOCK]);
    }
}

#[test]
fn garbage_ends_its_own_connection_and_no_other() {
    let served = Served::new(1);
    let mut good = served.promoted(1, 1);
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n                 "[..], &[0; 64], &[255; 4_000]] {
        let mut peer = served.connect();
        peer.socket.write_all(garbage).expect("it is sent");
        assert_eq!(peer.hear(), None);
        let mut peer = served.connect();
        peer.say(&[hello(1)]);
        assert!(matches!(peer.hear(), Some(Reply::Welcome(_))));
        peer.socket.write_all(garbage).expect("it is sent");
        assert_eq!(peer.hear(), None);
    }
    let mut early = served.connect();
    early.say(&[write(1, 0, 1, 1)]);
    assert!(matches!(early.hear(), Some(Reply::Wrong(_))));
    assert_eq!(early.hear(), None);
    good.say(&[Request::Ping { id: 5 }]);
    assert_eq!(good.hear(), Some(Reply::Pong { id: 5 }));
}

#[test]
fn who_does_not_say_hello_soon_keeps_no_place() {
    let served = Served::new(1);
    let mut out = Outbox::new();
    hello(1).encode(&mut out);
    let mut slices = [IoSlice::new(&[]); 16];
    let count = out.slices(&mut slices);
    let all: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.iter().copied()).collect();
    // A byte now and then, which would take all day.
    let mut slow = served.connect();
    slow.socket.set_read_timeout(Some(Duration::from_millis(300))).expect("it can be set");
    let (began, mut bytes) = (Instant::now(), all.iter().cycle());
    loop {
        let byte = bytes.next().expect("they come again and again");
        if slow.socket.write_all(&[*byte]).is_err() {
            break;
        }
        match slow.socket.read(&mut [0; 64]) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            // Closed, with or without what it has said being read.
            Ok(0) | Err(_) => break,
            Ok(count) => panic!("{count} bytes are answered to a part of a Hello"),
        }
        assert!(began.elapsed() < Duration::from_secs(10), "it is still there");
    }
    assert!(began.elapsed() >= Duration::from_secs(4), "{:?}", began.elapsed());

    // The head of a frame with a megabyte: nobody waits for it.
    let mut large = served.connect();
    let mut out = Outbox::new();
    write(1, 0, 200, 1).encode(&mut out);
    let mut slices = [IoSlice::new(&[]); 16];
    out.slices(&mut slices);
    large.socket.write_all(&slices[0][..40]).expect("it is sent");
    let began = Instant::now();
    assert_eq!(large.hear(), None);
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}

#[test]
fn many_reads_that_came_at_once_are_answered_once_each_as_they_are_taken() {
    let served = Served::new(1);
    let mut peer = served.promoted(1, 1);
    peer.say(&[write(1, 0, 256, 7)]);
    let count = 200;
    let reads: Vec<Request> = (1..=count).map(|id| read(id, 0, 256)).collect();
    peer.say(&reads);
    let mut left: BTreeSet<u64> = (1..=count).collect();
    while !left.is_empty() {
        match peer.hear() {
            Some(Reply::Read { id, bytes, .. }) => {
                assert_eq!(bytes.len(), 256 * BLOCK);
                assert!(left.remove(&id), "{id} is answered twice, or was not asked");
            }
            Some(Reply::Applied(_)) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_region_that_is_not_there_is_refused_by_name() {
    let served = Served::new(1);
    let mut peer = served.connect();
    peer.say(&[hello(9)]);
    let Some(Reply::Refused(Refusal::Hello(NotWelcome::NoRegion(why)))) = peer.hear() else {
        panic!("it should be refused")
    };
    assert!(why.contains(&region(9).to_string()), "{why}");
    assert_eq!(peer.hear(), None);
}

#[test]
fn who_speaks_another_version_is_refused_before_any_region_is_looked_for() {
    let served = Served::new(1);
    for number in [1, 9] {
        let mut peer = served.connect();
        let (version_min, version_max) = (VERSION + 1, VERSION + 3);
        let hello = Hello { version_min, version_max, ..Hello::new(region(number), set(), None) };
        peer.say(&[Request::Hello(hello)]);
        let refused = Reply::Refused(Refusal::Hello(NotWelcome::Version(VERSION, VERSION)));
        assert_eq!((peer.hear(), peer.hear()), (Some(refused), None));
    }
}

#[test]
fn a_region_whose_file_is_spoilt_is_refused_by_name_and_another_one_is_served() {
    let served = Served::new(2);
    let file = served.directory.path().join(format!("{}.region", region(1)));
    std::fs::write(&file, b"no region").expect("it is written");
    let mut peer = served.connect();
    peer.say(&[hello(1)]);
    let Some(Reply::Refused(Refusal::Hello(NotWelcome::NotOpened(why)))) = peer.hear() else {
        panic!("it should be refused")
    };
    assert!(why.contains("cannot be opened"), "{why}");
    assert_eq!(std::fs::read(&file).expect("it is there"), b"no region", "nothing is changed");
    served.promoted(2, 1);
}

#[test]
fn a_peer_that_does_not_read_keeps_nobody_waiting() {
    let served = Served::new(2);
    let mut deaf = served.promoted(1, 1);
    deaf.say(&[write(1, 0, 256, 7)]);
    assert!(matches!(deaf.hear(), Some(Reply::Applied(_))));
    // Some 100 MiB of answers: more than sockets and outboxes hold.
    for id in 0..100 {
        deaf.say(&[read(id, 0, 256)]);
    }
    let mut other = served.promoted(2, 1);
    other.say(&[write(1, 0, 1, 3), read(1, 0, 1)]);
    assert_eq!(other.hear_read(), vec![3; BLOCK]);
    // The same region, by somebody newer: the deaf one is cut off.
    let mut newer = served.promoted(1, 2);
    newer.say(&[read(1, 0, 1)]);
    assert_eq!(newer.hear_read(), vec![7; BLOCK]);
    // What was read for it before is all that it gets, and no more than that was ever kept.
    let mut left: BTreeSet<u64> = (0..100).collect();
    loop {
        match deaf.hear() {
            Some(Reply::Read { id, bytes, .. }) => {
                assert_eq!(bytes.len(), 256 * BLOCK);
                assert!(left.remove(&id), "{id} is answered twice, or was not asked");
            }
            Some(Reply::Applied(_)) => {}
            other => {
                assert!(matches!(&other, Some(Reply::Fenced(by)) if by.epoch == 2), "{other:?}");
                break;
            }
        }
    }
    let answers = 100 - left.len();
    assert!(answers < 40, "{answers} answers of 1 MiB were kept");
}

#[test]
fn readers_of_a_snapshot_have_what_was_there_beside_a_writer_until_it_is_deleted() {
    let served = Served::full(2);
    let snapshot = SnapshotId(Uuid::from_u128(9));
    let mut writer = served.promoted(1, 1);
    let at = Position { epoch: 1, counter: 1 };
    writer.say(&[write(1, 0, 256, 7), Request::Snapshot { id: 1, snapshot, at }, write(2, 0, 256, 8)]);
    let mut taken = false;
    while !taken {
        taken = matches!(writer.hear().expect("the connection goes on"), Reply::Snapshotted { id: 1, .. });
    }
    let mut readers: Vec<Peer> = (0..3).map(|_| served.connect()).collect();
    for reader in &mut readers {
        reader.say(&[hello_of(1, Some(snapshot))]);
        let said = reader.hear();
        assert!(matches!(&said, Some(Reply::SnapshotWelcome(welcome)) if welcome.applied == at), "{said:?}");
        reader.say(&[read(1, 0, 256), read(2, 999, 1)]);
    }
    writer.say(&[write(3, 0, 1, 9), read(3, 0, 1)]);
    assert_eq!(writer.hear_read(), vec![9; BLOCK]);
    for reader in &mut readers {
        assert_eq!(reader.hear_read(), vec![7; 256 * BLOCK]);
        assert_eq!(reader.hear_read(), Vec::<u8>::new(), "nobody ever wrote it");
    }
    // Another region has none of that name.
    let mut stranger = served.connect();
    stranger.say(&[hello_of(2, Some(snapshot))]);
    assert!(matches!(stranger.hear(), Some(Reply::Refused(Refusal::NoSnapshot(_)))));
    assert_eq!(stranger.hear(), None);
    let mut wrong = readers.pop().expect("there are three");
    wrong.say(&[write(4, 0, 1, 9)]);
    assert!(matches!(wrong.hear(), Some(Reply::Wrong(_))));
    assert_eq!(wrong.hear(), None);

    writer.say(&[Request::DeleteSnapshot { id: 4, snapshot }, Request::Ping { id: 5 }]);
    let mut deleted = false;
    while !deleted {
        deleted = writer.hear().expect("the connection goes on") == Reply::SnapshotDeleted { id: 4 };
    }
    for reader in &mut readers {
        reader.say(&[Request::Ping { id: 6 }, read(7, 0, 1), read(8, 0, 1)]);
        assert_eq!(reader.hear(), Some(Reply::Pong { id: 6 }));
        assert!(matches!(reader.hear(), Some(Reply::Refused(Refusal::NoSnapshot(_)))));
        assert_eq!(reader.hear(), None);
    }
    writer.say(&[read(9, 0, 1)]);
    assert_eq!(writer.hear_read(), vec![9; BLOCK]);
}

/// A region of which all was written, its writer, and a snapshot of it.
fn with_snapshot() -> (Served, Peer, SnapshotId) {
    let served = Served::full(1);
    let snapshot = SnapshotId(Uuid::from_u128(9));
    let mut writer = served.promoted(1, 1);
    let at = Position { epoch: 1, counter: 4 };
    let mut all: Vec<Request> = (0..4).map(|piece| write(1 + piece, piece * 250, 250, 7)).collect();
    all.push(Request::Snapshot { id: 1, snapshot, at });
    writer.say(&all);
    while !matches!(writer.hear().expect("the connection goes on"), Reply::Snapshotted { id: 1, .. }) {}
    (served, writer, snapshot)
}

/// Those who do something beside a test end with it, also if it fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Has a reader ask for the hashes of 250 blocks, so many times before it hears the first one, until it is over. Tells how many were answered.
fn hashes(served: &Served, snapshot: SnapshotId, at_once: u64, answered: &AtomicU64, is_over: &AtomicBool) {
    let mut reader = served.connect();
    reader.say(&[hello_of(1, Some(snapshot))]);
    assert!(matches!(reader.hear(), Some(Reply::SnapshotWelcome(_))));
    // A hash is all work and no bytes: what is counted is who had the region, not who was heard.
    let hash = |id| Request::Hash { id, blocks: Blocks { first: 0, count: 250 } };
    while !is_over.load(Ordering::Relaxed) {
        reader.say(&(0..at_once).map(hash).collect::<Vec<_>>());
        for _ in 0..at_once {
            if is_over.load(Ordering::Relaxed) {
                return;
            }
            assert!(matches!(reader.hear(), Some(Reply::Hashed { .. })));
            answered.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Waits until so many were answered.
fn wait_for_answers(answered: &AtomicU64, count: u64) {
    let since = Instant::now();
    while answered.load(Ordering::Relaxed) < count {
        assert!(since.elapsed() < Duration::from_secs(60), "the readers are not answered");
        std::thread::yield_now();
    }
}

/// Writes so many times, each behind the answer to the one before. How long that has taken, and the longest of them.
fn write_some(writer: &mut Peer, writes: u64) -> (Duration, Duration) {
    let (since, mut longest) = (Instant::now(), Duration::ZERO);
    for counter in 5..5 + writes {
        let asked = Instant::now();
        writer.say(&[write(counter, 0, 1, 8)]);
        let applied = Reply::Applied(Position { epoch: 1, counter });
        while writer.hear().expect("the connection goes on") != applied {}
        longest = longest.max(asked.elapsed());
    }
    (since.elapsed(), longest)
}

/// Each of them has the region to itself while it reads, and so has whoever writes. How many turns of theirs pass for a write does not grow with how many they are:
/// without an order among them it was 17 to 44 here.
#[test]
fn who_writes_waits_for_few_of_the_many_who_read_a_snapshot() {
    const READERS: u64 = 160;
    const WRITES: u64 = 100;
    let (served, mut writer, snapshot) = with_snapshot();
    let (answered, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
    let (turns, waited) = std::thread::scope(|scope| {
        let _ends = Over(&is_over);
        for _ in 0..READERS {
            scope.spawn(|| hashes(&served, snapshot, 1, &answered, &is_over));
        }
        wait_for_answers(&answered, READERS);
        let before = answered.load(Ordering::Relaxed);
        let waited = write_some(&mut writer, WRITES);
        (answered.load(Ordering::Relaxed) - before, waited)
    });
    assert!(turns < 8 * WRITES, "{turns} readers' turns for {WRITES} writes, {waited:?}");
}

/// What one of them has asked in one breath is more than one turn. Without that, a write waited for more than a thousand.
#[test]
fn who_writes_waits_for_one_turn_of_who_asks_much_of_a_snapshot_at_once() {
    const WRITES: u64 = 10;
    let (served, mut writer, snapshot) = with_snapshot();
    let (answered, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
    let (hashes, waited) = std::thread::scope(|scope| {
        let _ends = Over(&is_over);
        scope.spawn(|| hashes(&served, snapshot, 4_000, &answered, &is_over));
        wait_for_answers(&answered, 1);
        let before = answered.load(Ordering::Relaxed);
        let waited = write_some(&mut writer, WRITES);
        (answered.load(Ordering::Relaxed) - before, waited)
    });
    // A turn has four.
    assert!(hashes < 40 * WRITES, "{hashes} hashes for {WRITES} writes, {waited:?}");
}
