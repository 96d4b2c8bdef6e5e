//! A member that speaks another version of the protocol: whoever comes to it is told so, by a code, and does not come again and again.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use camino_tempfile::{Utf8TempDir, tempdir};
use downstairs::{CloneState, CloneStatus, Disk, Server, Source};
use durable_fs::RealDisk;
use ids::{RegionId, RegionSetId, SnapshotId};
use region::{BlockSize, Geometry, Identity, List, NewRegion, Position, Promotion};
use region_wire::{
    Hello, Inbox, NotWelcome, Outbox, Refusal, Reply, Request, SnapshotWelcome, UnfitCode, VERSION, Welcome,
};
use std::{
    io::{IoSlice, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};
use upstairs::TroubleCode;
use uuid::Uuid;
use volume_export::{Address, Export, Offer};
use volume_layers::VolumeStatus;
use volume_repair::{ConstructionRequest, Member, RegionSet, SubVolume};

const GEOMETRY: Geometry = Geometry { block_size: BlockSize::B4096, blocks: 100, is_sealed: false };
const SNAPSHOT: SnapshotId = SnapshotId(Uuid::from_u128(5));
const SET: RegionSetId = RegionSetId(Uuid::from_u128(9));

/// Long enough for whatever is waited for.
const LIMIT: Duration = Duration::from_secs(60);

/// What a member says to Hello whose program speaks another version.
type Answer = fn(&Hello) -> Reply;

/// As every program does.
fn refuses(theirs: u16) -> Reply {
    Reply::Refused(Refusal::Hello(NotWelcome::Version(theirs, theirs)))
}

/// One that has not looked at what Hello says.
fn welcomes(theirs: u16, hello: &Hello) -> Reply {
    let (version, geometry, incarnation) = (theirs, GEOMETRY, 7);
    match hello.snapshot {
        None => Reply::Welcome(Welcome { version, geometry, incarnation, promoted: Promotion::default() }),
        Some(_) => {
            let applied = Position { epoch: 1, counter: 1 };
            Reply::SnapshotWelcome(SnapshotWelcome { version, geometry, incarnation, applied })
        }
    }
}

/// Members of another version at one address, until this is dropped. No other request may come to them.
struct Other {
    address: SocketAddr,
    is_ending: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Other {
    fn start(answer: Answer) -> Other {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, is_ending) = (listener.local_addr().unwrap(), Arc::new(AtomicBool::new(false)));
        let until = Arc::clone(&is_ending);
        let accept = move || {
            let mut connections = Vec::new();
            for socket in listener.incoming() {
                if until.load(Ordering::SeqCst) {
                    break;
                }
                connections.push(thread::spawn(move || serve(socket.unwrap(), answer)));
            }
            connections.into_iter().for_each(|connection| connection.join().unwrap());
        };
        Other { address, is_ending, thread: Some(thread::spawn(accept)) }
    }

    /// Its members' ends: each of them has heard Hello, and nothing that it does not know.
    fn end(mut self) {
        self.is_ending.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.address));
        self.thread.take().unwrap().join().unwrap();
    }
}

fn serve(mut socket: TcpStream, answer: Answer) {
    let mut inbox = Inbox::new();
    while let Some(request) = heard(&mut socket, &mut inbox) {
        let Request::Hello(hello) = request else { panic!("it was told {request:?}") };
        let mut out = Outbox::new();
        answer(&hello).encode(&mut out);
        while !out.is_empty() {
            let mut slices = [IoSlice::new(&[]); 4];
            let count = out.slices(&mut slices);
            let sent = socket.write_vectored(&slices[..count]).unwrap();
            out.sent(sent);
        }
        let _ = socket.shutdown(Shutdown::Write);
    }
}

fn heard(socket: &mut TcpStream, inbox: &mut Inbox) -> Option<Request> {
    loop {
        if let Some(frame) = inbox.next_frame().unwrap() {
            return Some(Request::parse(frame).unwrap());
        }
        let mut some = [0; 4_096];
        match socket.read(&mut some) {
            Ok(0) | Err(_) => return None,
            Ok(count) => inbox.fill().extend_from_slice(&some[..count]),
        }
    }
}

fn offer(address: SocketAddr, snapshot: Option<SnapshotId>) -> Offer {
    let member =
        |number: u128| Member { region_id: RegionId(Uuid::from_u128(number)), incarnation: 7, address };
    let set = RegionSet::of(SET, GEOMETRY.blocks, (1..=3).map(member).collect());
    let part = SubVolume::RegionSet(RegionSet { snapshot, ..set });
    let request =
        ConstructionRequest::first(Uuid::from_u128(8), snapshot.is_none().into(), 4_096, vec![part]);
    let composition = request.build(Uuid::new_v4(), None).unwrap();
    Offer { composition, request: Some(request), name: String::new(), source_address: None }
}

/// What it says of a member, at last.
fn trouble_of_an_upstairs(directory: &Utf8TempDir, address: SocketAddr) -> (TroubleCode, String) {
    let place = Address::Unix(directory.path().join("volume"));
    let export = Export::new(offer(address, None), place).unwrap();
    let handle = export.handle();
    handle.activate();
    let runs = thread::spawn(|| export.run());
    let began = Instant::now();
    let trouble = loop {
        let VolumeStatus::Upstairs(status) = handle.status().unwrap().volume else { panic!("it is one set") };
        let told = |member: &upstairs::MemberStatus| Some((member.trouble_code?, member.trouble.clone()?));
        let troubles: Vec<_> = status.members.iter().filter_map(told).collect();
        if let [first, rest @ ..] = &troubles[..]
            && rest.len() == 2
        {
            assert!(rest.iter().all(|other| other == first), "{troubles:?}");
            break first.clone();
        }
        assert!(began.elapsed() < LIMIT, "{status:?}");
        thread::yield_now();
    };
    handle.stop();
    runs.join().unwrap().unwrap();
    trouble
}

/// How a clone ends that is made from it.
fn end_of_a_clone(directory: &Utf8TempDir, address: SocketAddr) -> CloneStatus {
    let disk = Disk::new(Arc::new(RealDisk::new(directory.path())));
    let region = RegionId(Uuid::from_u128(2));
    let identity = Identity { region, set: SET, geometry: GEOMETRY };
    disk.create_clone(&NewRegion { identity, incarnation: 7, list: List::default(), salt: 3 }, SNAPSHOT)
        .unwrap();
    let server = Server::start(disk, "127.0.0.1:0".parse().unwrap()).unwrap();
    let steward = server.steward();
    let source = Source { region: RegionId(Uuid::from_u128(1)), incarnation: Some(7), address };
    let mut status = steward.order_clone(region, vec![source], None).unwrap();
    let began = Instant::now();
    while !matches!(status.state, CloneState::Failed | CloneState::Proven) {
        assert!(began.elapsed() < LIMIT, "{status:?}");
        thread::yield_now();
        status = steward.clone_status(region).unwrap();
    }
    server.stop();
    status
}

#[test]
fn a_member_of_another_version_is_refused_by_name_by_whoever_comes_to_it() {
    let older = VERSION - 1;
    let manners: [(u16, Answer); 3] = [
        (older, |_| refuses(VERSION - 1)),
        (VERSION + 1, |_| refuses(VERSION + 1)),
        (older, |hello| welcomes(VERSION - 1, hello)),
    ];
    for (theirs, answer) in manners {
        let words =
            format!("it speaks versions {theirs} to {theirs} of the protocol, and this speaks {VERSION}");
        let other = Other::start(answer);
        let directory = tempdir().unwrap();
        let trouble = trouble_of_an_upstairs(&directory, other.address);
        assert_eq!(trouble, (TroubleCode::Unfit(UnfitCode::OtherVersion), words.clone()));

        let place = Address::Unix(directory.path().join("snapshot"));
        let refused = Export::new(offer(other.address, Some(SNAPSHOT)), place).unwrap_err();
        assert_eq!(refused.code(), "volume_snapshot_other_version");
        let said = problem::chain(&refused);
        assert_eq!(said.matches(&format!("{words} [other_version]")).count(), 3, "{said}");

        let clone = end_of_a_clone(&directory, other.address);
        assert_eq!(clone.state, CloneState::Failed);
        let why = clone.why.unwrap();
        assert!(why.contains(&format!("{}: {words} [other_version]", other.address)), "{why}");
        other.end();
    }
}
