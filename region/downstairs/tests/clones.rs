//! Clones and snapshots by the control socket of a Downstairs, over real sockets and files: what is ordered, what becomes of it, and what is refused.

use bytes::Bytes;
use camino_tempfile::Utf8TempDir;
use downstairs::{
    Answer, CloneState, CloneStatus, Control, Disk, Order, Server, Source, StewardError, ask, socket_of,
};
use durable_fs::RealDisk;
use ids::{RegionId, RegionSetId, SnapshotId};
use region::{
    BlockSize, Geometry, Identity, List, ListVersion, Member, NewContent, NewRegion, Onto, Position,
    Promotion, TakingEnd, Write, checksum,
};
use region_wire::{BlockData, Hello, Inbox, Outbox, Reply, Request};
use std::{
    io::{self, IoSlice, Read, Write as _},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    os::unix::{fs::PermissionsExt, net::UnixStream},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};
use uuid::Uuid;

const BLOCK: usize = 4_096;
const BLOCKS: u64 = 3_000;
const GEOMETRY: Geometry = Geometry { block_size: BlockSize::B4096, blocks: BLOCKS, is_sealed: false };

fn region(number: u128) -> RegionId {
    RegionId(Uuid::from_u128(number))
}

fn set() -> RegionSetId {
    RegionSetId(Uuid::from_u128(50))
}

fn snapshot(number: u128) -> SnapshotId {
    SnapshotId(Uuid::from_u128(number))
}

fn new_region(number: u128, geometry: Geometry) -> NewRegion {
    let version = ListVersion { epoch: 0, number: 1 };
    let full = vec![Member { region: region(number), incarnation: 7 }];
    let list = List { version, base: Position::NONE, full };
    let identity = Identity { region: region(number), set: set(), geometry };
    NewRegion { identity, incarnation: 7, list, salt: 3 }
}

/// A directory, served or not.
struct Place {
    directory: Utf8TempDir,
    served: Option<(Control, Server)>,
}

impl Place {
    fn new() -> Place {
        Place { directory: camino_tempfile::tempdir().expect("there is room for a directory"), served: None }
    }

    /// With region 1, of which a snapshot has a half that is written.
    fn with_snapshot() -> Place {
        let place = Place::new();
        place.disk().create(&new_region(1, GEOMETRY)).expect("it is made");
        let mut member = place.disk().open(region(1)).expect("it opens");
        let here = member.region_mut();
        for (counter, first) in (1..).zip((0..BLOCKS).step_by(500)) {
            let bytes: Vec<u8> =
                (first..first + 250).flat_map(|block| [(block % 251) as u8; BLOCK]).collect();
            let checksums: Vec<u64> =
                (first..).zip(bytes.chunks_exact(BLOCK)).map(|(block, own)| checksum(block, own)).collect();
            let content = NewContent::Bytes { bytes: &bytes, checksums: &checksums, seals: &[] };
            let version = Position { epoch: 1, counter };
            let write = Write { version, block: first, content, onto: Onto::Older };
            here.write(version, &[write]).expect("there is room");
        }
        let taking = here.begin_snapshot(snapshot(1)).expect("it begins");
        assert!(matches!(here.end_snapshot(taking.run()), Ok(TakingEnd::Taken)));
        here.settle().expect("the disk works");
        place
    }

    /// With region 2, which is to be a clone.
    fn to_be_clone(geometry: Geometry) -> Place {
        let place = Place::new();
        let new = NewRegion { list: List::default(), ..new_region(2, geometry) };
        place.disk().create_clone(&new, snapshot(1)).expect("it is made");
        place
    }

    fn disk(&self) -> Disk {
        Disk::new(Arc::new(RealDisk::new(self.directory.path())))
    }

    fn start_at(mut self, address: SocketAddr) -> Place {
        let server = Server::start(self.disk(), address).expect("it starts");
        let control = Control::start(self.directory.path(), server.steward()).expect("it listens");
        self.served = Some((control, server));
        self
    }

    fn start(self) -> Place {
        self.start_at("127.0.0.1:0".parse().expect("it is an address"))
    }

    fn stop(&mut self) {
        let (control, server) = self.served.take().expect("it runs");
        drop(control);
        server.stop();
    }

    fn server(&self) -> &Server {
        &self.served.as_ref().expect("it runs").1
    }

    fn address(&self) -> SocketAddr {
        self.server().address()
    }

    fn ask(&self, order: &Order) -> Answer {
        ask(self.directory.path(), order).expect("it answers")
    }

    fn order(&self, sources: &[SocketAddr], bytes_per_second: Option<u64>) -> CloneStatus {
        let source =
            |address: &SocketAddr| Source { region: region(1), incarnation: Some(7), address: *address };
        let sources = sources.iter().map(source).collect();
        match self.ask(&Order::Clone { region: region(2), sources, bytes_per_second }) {
            Answer::Clone(status) => status,
            other => panic!("{other:?}"),
        }
    }

    fn status(&self) -> CloneStatus {
        match self.ask(&Order::CloneStatus { region: region(2) }) {
            Answer::Clone(status) => status,
            other => panic!("{other:?}"),
        }
    }

    /// As it is at last.
    fn status_where(&self, is_so: impl Fn(&CloneStatus) -> bool) -> CloneStatus {
        let began = Instant::now();
        loop {
            let status = self.status();
            if is_so(&status) {
                return status;
            }
            assert!(began.elapsed() < Duration::from_secs(60), "{status:?}");
            thread::yield_now();
        }
    }

    fn refused(&self, order: &Order) -> (String, String) {
        match self.ask(order) {
            Answer::Refused { code, words } => (code, words),
            other => panic!("{order:?}: {other:?}"),
        }
    }

    /// What a snapshot holds; nobody must serve it.
    fn held(&self, number: u128, of: SnapshotId) -> (Vec<region::Held>, Vec<u8>) {
        let (mut member, mut bytes) = (self.disk().open(region(number)).expect("it opens"), Vec::new());
        let held = member.region_mut().read_snapshot(of, 0..BLOCKS, &mut bytes).expect("it is there");
        (held, bytes)
    }
}

/// Where nobody listens.
fn nowhere() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("there is one")
}

#[test]
fn a_clone_is_made_from_who_is_there_goes_on_in_the_next_process_and_is_proven() {
    let mut source = Place::with_snapshot().start();
    let mut target = Place::to_be_clone(GEOMETRY).start();
    assert_eq!(target.status().state, CloneState::Idle);
    // So slowly that it is not done before it is ended.
    target.order(&[nowhere(), source.address()], Some(2 << 20));
    let half = target.status_where(|status| status.copied_bytes > 1 << 20);
    assert_eq!((half.state, half.size_bytes), (CloneState::Copying, BLOCKS * BLOCK as u64));
    target.stop();
    target = target.start();
    assert_eq!((target.status().state, target.status().hash), (CloneState::Idle, None));
    target.order(&[source.address()], None);
    let proven = target.status_where(|status| status.state == CloneState::Proven);
    // What had been copied is not copied again.
    assert!(
        proven.copied_bytes > 0 && proven.copied_bytes < BLOCKS / 2 * BLOCK as u64 - (1 << 20),
        "{proven:?}"
    );
    assert_eq!(proven.hash.as_ref().map(String::len), Some(64));
    // Ordered once more it is what it is, in this process and the next one; and it is a source itself.
    assert_eq!(target.order(&[nowhere()], None).hash, proven.hash);
    target.stop();
    target = target.start();
    assert_eq!(target.status().hash, proven.hash);
    let mut next = Place::to_be_clone(GEOMETRY).start();
    let of_clone = Source { region: region(2), incarnation: None, address: target.address() };
    next.ask(&Order::Clone { region: region(2), sources: vec![of_clone], bytes_per_second: None });
    assert_eq!(next.status_where(|status| status.state == CloneState::Proven).hash, proven.hash);
    source.stop();
    target.stop();
    next.stop();
    let expected = source.held(1, snapshot(1));
    assert!(target.held(2, snapshot(1)) == expected && next.held(2, snapshot(1)) == expected);
}

#[test]
fn a_clone_whose_source_goes_and_comes_back_does_not_begin_at_nothing_again() {
    let mut source = Place::with_snapshot().start();
    let address = source.address();
    let target = Place::to_be_clone(GEOMETRY).start();
    target.order(&[address], Some(1 << 20));
    target.status_where(|status| status.copied_bytes > 1 << 20);
    source.stop();
    let waits = target.status_where(|status| status.state == CloneState::Waiting && status.why.is_some());
    assert!(waits.done_bytes > 1 << 20, "{waits:?}");
    let _source = source.start_at(address);
    let goes_on = target.status_where(|status| status.state == CloneState::Copying);
    assert!(goes_on.done_bytes >= waits.done_bytes, "{goes_on:?}");
    target.order(&[address], None);
    target.status_where(|status| status.state == CloneState::Proven);
}

#[test]
fn a_source_that_is_away_is_waited_for_and_one_that_cannot_be_is_told_in_its_words() {
    let place = nowhere();
    let target = Place::to_be_clone(GEOMETRY).start();
    target.order(&[place], None);
    let waits = target.status_where(|status| status.why.is_some());
    assert_eq!(waits.state, CloneState::Waiting);
    assert!(waits.why.is_some_and(|why| why.contains(&format!("{place}: it cannot be reached"))));
    // It comes where it was expected.
    let source = Place::with_snapshot().start_at(place);
    target.status_where(|status| status.state == CloneState::Proven);

    let failed = |geometry: Geometry, source: Source| {
        let target = Place::to_be_clone(geometry).start();
        target.ask(&Order::Clone { region: region(2), sources: vec![source], bytes_per_second: None });
        let why = target.status_where(|status| status.state == CloneState::Failed).why;
        why.expect("it is told why")
    };
    let right = Source { region: region(1), incarnation: None, address: source.address() };
    let smaller = Geometry { blocks: BLOCKS - 1, ..GEOMETRY };
    let wrong = [
        (smaller, right, "its blocks are"),
        (GEOMETRY, Source { region: region(5), ..right }, "there is no region"),
        (GEOMETRY, Source { incarnation: Some(8), ..right }, "its incarnation is 7, and should be 8"),
    ];
    for (geometry, source, words) in wrong {
        let why = failed(geometry, source);
        assert!(why.contains(words), "{why}");
    }
    // Nobody but the control socket tells it where to connect to; and it tells nobody else either.
    let mode =
        std::fs::metadata(socket_of(target.directory.path())).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

/// From where somebody comes, at last.
fn comes_from(listener: &TcpListener) -> IpAddr {
    let began = Instant::now();
    listener.set_nonblocking(true).expect("it is a socket");
    loop {
        match listener.accept() {
            Ok((_, from)) => return from.ip(),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
        }
        assert!(began.elapsed() < Duration::from_secs(60), "nobody comes");
        thread::yield_now();
    }
}

#[test]
fn a_clone_is_copied_from_the_address_at_which_its_disk_is_served() {
    for (served_at, expected) in [("127.9.8.7:0", "127.9.8.7"), ("0.0.0.0:0", "127.0.0.1")] {
        let listener = TcpListener::bind("127.0.0.1:0").expect("there is a port");
        let target = Place::to_be_clone(GEOMETRY).start_at(served_at.parse().expect("it is an address"));
        target.order(&[listener.local_addr().expect("it listens")], None);
        assert_eq!(comes_from(&listener).to_string(), expected);
        // Bound to one or not, a clone is made.
        let source = Place::with_snapshot().start();
        target.order(&[source.address()], None);
        target.status_where(|status| status.state == CloneState::Proven);
    }
}

#[test]
fn a_clone_is_let_go_at_any_time_and_nothing_has_its_file_open() {
    let source = Place::with_snapshot().start();
    let target = Place::to_be_clone(GEOMETRY).start();
    target.order(&[source.address()], Some(1 << 20));
    target.status_where(|status| status.copied_bytes > 0);
    assert_eq!(target.ask(&Order::Release { region: region(2) }), Answer::Done);
    let here = target.directory.path().join(format!("{}.region", region(2)));
    let open = std::fs::read_dir("/proc/self/fd").expect("Linux tells");
    let open: Vec<_> = open.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok()).collect();
    assert!(!open.is_empty() && open.iter().all(|open| open != here.as_std_path()), "{open:?}");
    assert_eq!(target.status().state, CloneState::Idle);
    // It may be ordered again.
    target.order(&[source.address()], None);
    target.status_where(|status| status.state == CloneState::Proven);
}

#[test]
fn what_cannot_be_ordered_is_refused_by_name() {
    let mut place = Place::to_be_clone(GEOMETRY);
    place.disk().create(&new_region(1, GEOMETRY)).expect("it is made");
    place = place.start();
    let source = Source { region: region(1), incarnation: None, address: nowhere() };
    let clone = |number: u128, count: usize| Order::Clone {
        region: region(number),
        sources: vec![source; count],
        bytes_per_second: None,
    };
    for (order, expected) in [
        (clone(1, 1), "no_clone"),
        (clone(2, 0), "clone_sources"),
        (clone(2, 4), "clone_sources"),
        (clone(3, 1), "no_region"),
        (Order::CloneStatus { region: region(1) }, "no_clone"),
        (Order::Snapshot { region: region(3), snapshot: snapshot(1) }, "no_region"),
        (Order::Snapshot { region: region(2), snapshot: snapshot(5) }, "snapshot_refused"),
        (Order::DeleteSnapshot { region: region(2), snapshot: snapshot(1) }, "snapshot_refused"),
    ] {
        let (code, words) = place.refused(&order);
        assert_eq!(code, expected, "{order:?}: {words}");
    }
    let path = socket_of(place.directory.path());
    for garbage in ["", "\n", "{}\n", "{\"request\":\"clone\"}\n", "GET / HTTP/1.1\r\n"] {
        let mut socket = UnixStream::connect(&path).expect("it accepts");
        socket.write_all(garbage.as_bytes()).expect("it is sent");
        socket.shutdown(std::net::Shutdown::Write).expect("it is connected");
        let mut said = String::new();
        socket.read_to_string(&mut said).expect("it answers");
        assert!(said.contains("not_a_request"), "{garbage:?}: {said}");
    }
    // Nobody is there any more.
    place.stop();
    ask(place.directory.path(), &clone(2, 1)).expect_err("nobody answers");
}

/// Somebody who writes region 1.
fn writer(address: SocketAddr) -> TcpStream {
    let mut socket = TcpStream::connect(address).expect("it accepts");
    say(&mut socket, &Request::Hello(Hello::new(region(1), set(), None)));
    assert!(matches!(hear(&mut socket), Reply::Welcome(_)));
    say(&mut socket, &Request::Promote(Promotion { epoch: 2, session: Uuid::from_u128(1) }));
    assert!(matches!(hear(&mut socket), Reply::Promoted(_)));
    socket
}

fn say(socket: &mut TcpStream, request: &Request) {
    let mut out = Outbox::new();
    request.encode(&mut out);
    while !out.is_empty() {
        let mut slices = [IoSlice::new(&[]); 4];
        let count = out.slices(&mut slices);
        let sent = socket.write_vectored(&slices[..count]).expect("it is sent");
        out.sent(sent);
    }
}

/// One answer to one question.
fn hear(socket: &mut TcpStream) -> Reply {
    let mut inbox = Inbox::new();
    loop {
        if let Some(frame) = inbox.next_frame().expect("it is a frame") {
            return Reply::parse(frame).expect("it is a reply");
        }
        let mut some = [0; 4_096];
        let count = socket.read(&mut some).expect("it goes on");
        assert!(count > 0, "it has ended");
        inbox.fill().extend_from_slice(&some[..count]);
    }
}

#[test]
fn snapshots_are_taken_where_nobody_writes_and_deleted_at_any_time() {
    let mut place = Place::with_snapshot().start();
    let steward = place.server().steward();
    steward.snapshot(region(1), snapshot(2)).expect("nobody writes");
    // Of the same content, once more; and one that is not there.
    steward.snapshot(region(1), snapshot(2)).expect("it is there");
    steward.delete_snapshot(region(1), snapshot(9)).expect("it is not there");
    let mut names = place.disk().snapshots(region(1)).expect("the disk tells");
    names.sort();
    assert_eq!(names, [snapshot(1), snapshot(2)]);

    let mut writes = writer(place.address());
    let bytes = Bytes::from(vec![99; BLOCK]);
    let data = BlockData { first: 0, checksums: vec![checksum(0, &bytes)], seals: Vec::new(), bytes };
    say(&mut writes, &Request::Write(Position { epoch: 2, counter: 1 }, data));
    assert!(matches!(hear(&mut writes), Reply::Applied(_)));
    steward.snapshot(region(1), snapshot(2)).expect("it is there, whatever was written since");
    for (number, words) in [(3, "somebody writes the region"), (9, "somebody writes the region")] {
        let refused = steward.snapshot(region(1), snapshot(number)).expect_err("somebody writes");
        assert!(matches!(&refused, StewardError::Refused(why) if why.contains(words)), "{refused}");
    }
    steward.delete_snapshot(region(1), snapshot(1)).expect("it needs no writer's word");
    // The writer goes on.
    say(&mut writes, &Request::Ping { id: 1 });
    assert!(matches!(hear(&mut writes), Reply::Pong { id: 1 }));
    drop(writes);
    let began = Instant::now();
    while let Err(error) = steward.snapshot(region(1), snapshot(3)) {
        assert!(
            error.to_string().contains("somebody writes") && began.elapsed() < Duration::from_secs(20),
            "{error}"
        );
        thread::yield_now();
    }
    place.stop();
    assert_eq!(place.held(1, snapshot(2)).1[..4], [0; 4]);
    assert_eq!(place.held(1, snapshot(3)).1[..4], [99; 4]);
}
