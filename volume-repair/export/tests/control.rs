//! The control socket of an export whose members nobody serves: what it answers, what it refuses, and that nothing harms the loop.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use camino::{Utf8Path, Utf8PathBuf};
use camino_tempfile::{Utf8TempDir, tempdir};
use ids::{RegionId, RegionSetId};
use region::{BlockSize, Geometry, Promotion};
use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener},
    num::NonZeroU64,
    os::unix::{fs::PermissionsExt, net::UnixStream},
    thread::{self, JoinHandle},
};
use upstairs::{Config, Limits, MemberState, Members, Patience, PhaseName, Status, WaitCode};
use uuid::Uuid;
use volume_export::{
    Address, Answer, Applied, AskError, Control, Export, ExportAt, ExportError, ExportStatus, Handle,
    NotAppliedThere, Offer, RefusalCode, Request, ask,
};
use volume_layers::{Composition, VolumeStatus};
use volume_repair::{ConstructionRequest, Holder, NotApplied, RegionSet, SubVolume};

/// An export with epoch 3 that was not activated, in its own thread.
struct Site {
    directory: Utf8TempDir,
    control: Option<Control>,
    handle: Handle,
    runs: Option<JoinHandle<Result<(), ExportError>>>,
    /// Takes connections, and never answers.
    member: TcpListener,
}

/// A volume of three members, which are all served here.
fn request(address: SocketAddr) -> ConstructionRequest {
    let member = |number: u128| volume_repair::Member {
        region_id: RegionId(Uuid::from_u128(number)),
        incarnation: 1,
        address,
    };
    let set = RegionSet::of(RegionSetId(Uuid::from_u128(9)), 100, (1..=3).map(member).collect());
    ConstructionRequest::first(Uuid::from_u128(8), 3, 4096, vec![SubVolume::RegionSet(set)])
}

impl Site {
    fn start() -> Site {
        let directory = tempdir().unwrap();
        let member = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = member.local_addr().unwrap();
        let request = request(address);
        let composition = request.build_unactivated(Uuid::from_u128(7), None).unwrap();
        let offer = Offer { composition, request: Some(request), name: String::new(), source_address: None };
        let export = Export::new(offer, Address::Unix(directory.path().join("nbd"))).unwrap();
        let handle = export.handle();
        let control = Control::start(&directory.path().join("control"), handle.clone()).unwrap();
        let runs = Some(thread::spawn(|| export.run()));
        Site { directory, control: Some(control), handle, runs, member }
    }

    fn socket(&self) -> Utf8PathBuf {
        self.directory.path().join("control")
    }

    fn status(&self) -> ExportStatus {
        match ask(&self.socket(), &Request::Status).unwrap() {
            Answer::Status(status) => *status,
            other => panic!("not a status: {other:?}"),
        }
    }

    /// What its Upstairs believes: it is one region set.
    fn upstairs(&self) -> Status {
        match self.status().volume {
            VolumeStatus::Upstairs(status) => *status,
            other => panic!("not one region set: {other:?}"),
        }
    }

    fn refusal(&self, request: &Request) -> String {
        match ask(&self.socket(), request).unwrap() {
            Answer::Refused(refusal) => refusal.code.to_string(),
            other => panic!("not refused: {other:?}"),
        }
    }

    /// All that is answered to these bytes, until it closes or everything was answered.
    fn says_to(&self, bytes: &[u8]) -> String {
        let mut socket = UnixStream::connect(self.socket()).unwrap();
        socket.write_all(bytes).unwrap();
        socket.shutdown(std::net::Shutdown::Write).unwrap();
        let mut said = String::new();
        socket.read_to_string(&mut said).unwrap();
        said
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // An export that has ended already answers nothing.
        let _ = ask(&self.socket(), &Request::Stop);
        if let Some(runs) = self.runs.take() {
            let _ = runs.join();
        }
        drop(self.control.take());
    }
}

#[test]
fn an_export_that_was_not_activated_says_so_and_is_activated_once_with_one_epoch() {
    let site = Site::start();
    let status = site.upstairs();
    assert_eq!((status.phase, status.epoch, site.status().clients), (PhaseName::Idle, None, 0));
    assert_eq!(status.waits[0].code, WaitCode::Activation);
    assert_eq!(status.members[0].state, MemberState::Away);
    assert!(status.members[2].address.is_some());

    assert_eq!(site.refusal(&Request::Activate { epoch: 0 }), "no_epoch");
    assert_eq!(site.refusal(&Request::Activate { epoch: 2 }), "epoch_too_low");
    assert_eq!(site.upstairs().phase, PhaseName::Idle, "what was refused changes nothing");
    for _ in 0..2 {
        assert_eq!(ask(&site.socket(), &Request::Activate { epoch: 5 }).unwrap(), Answer::Done);
    }
    assert_eq!(site.refusal(&Request::Activate { epoch: 6 }), "other_epoch");

    let upstairs = site.upstairs();
    assert_eq!((upstairs.phase, upstairs.epoch), (PhaseName::Gathering, Some(5)));
    assert_eq!((upstairs.waits[0].code, upstairs.waits[0].members.len()), (WaitCode::TooFewMembers, 3));
}

#[test]
fn how_fast_members_are_filled_is_said_at_any_time_and_told() {
    let site = Site::start();
    assert_eq!(site.status().repair_bytes_per_second, None);
    let said = |more: &str| site.says_to(format!("{{\"request\":\"set_repair_rate\"{more}}}\n").as_bytes());
    for (more, told) in [
        (",\"bytes_per_second\":4096", 4096),
        ("", 0),
        (",\"bytes_per_second\":1", 1),
        (",\"bytes_per_second\":null", 0),
    ] {
        assert_eq!(said(more), "\"done\"\n");
        assert_eq!(site.status().repair_bytes_per_second, NonZeroU64::new(told));
    }
    assert_eq!(said(",\"bytes_per_second\":7"), "\"done\"\n");
    for wrong in ["0", "-1", "1.5", "\"100MiB\""] {
        let refused = said(&format!(",\"bytes_per_second\":{wrong}"));
        assert!(refused.starts_with(r#"{"refused":{"code":"not_a_request""#), "{refused}");
    }
    assert_eq!(site.status().repair_bytes_per_second, NonZeroU64::new(7), "what was refused changes nothing");
}

#[test]
fn garbage_is_refused_and_the_next_line_is_heard() {
    let site = Site::start();
    let said =
        site.says_to(b"garbage\n\xff\xfe\n{\"request\":\"stop\",\"more\":\n{\"request\":\"status\"}\n");
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 4, "{said}");
    assert!(
        lines[..3].iter().all(|line| line.starts_with(r#"{"refused":{"code":"not_a_request""#)),
        "{said}"
    );
    assert!(lines[3].starts_with(r#"{"status":{"pid":"#), "{said}");
    let status: serde_json::Value = serde_json::from_str(lines[3]).unwrap();
    let status = &status["status"];
    assert_eq!((&status["upstairs"]["phase"], &status["is_stopping"]), (&"idle".into(), &false.into()));
    assert_eq!(status.get("layers"), None, "one region set is no layers");
}

#[test]
fn a_line_has_65536_bytes_at_most() {
    let site = Site::start();
    for (length, code) in [(65_536, "not_a_request"), (65_537, "line_too_long")] {
        let mut socket = UnixStream::connect(site.socket()).unwrap();
        let mut line = vec![b'a'; length];
        line.push(b'\n');
        socket.write_all(&line).unwrap();
        let mut said = String::new();
        BufReader::new(socket).read_line(&mut said).unwrap();
        assert!(said.contains(&format!(r#""code":"{code}""#)), "{length}: {said}");
    }
}

#[test]
fn a_line_without_end_is_refused_and_closed() {
    let site = Site::start();
    let mut socket = UnixStream::connect(site.socket()).unwrap();
    socket.write_all(&[b'a'; 80_000]).unwrap();
    let mut said = String::new();
    let mut answers = BufReader::new(socket);
    answers.read_line(&mut said).unwrap();
    assert!(said.starts_with(r#"{"refused":{"code":"line_too_long""#), "{said}");
    // What was not read of it may make the end a reset.
    assert!(matches!(answers.read_line(&mut said), Ok(0) | Err(_)), "{said}");
    assert_eq!(site.upstairs().phase, PhaseName::Idle);
}

#[test]
fn too_many_that_say_nothing_keep_nobody_who_is_connected_from_an_answer() {
    let site = Site::start();
    let mut first = UnixStream::connect(site.socket()).unwrap();
    let mut answers = BufReader::new(first.try_clone().unwrap());
    let mut answer = String::new();
    first.write_all(b"{\"request\":\"status\"}\n").unwrap();
    answers.read_line(&mut answer).unwrap();
    let _silent: Vec<UnixStream> = (0..15).map(|_| UnixStream::connect(site.socket()).unwrap()).collect();
    let mut refused = String::new();
    UnixStream::connect(site.socket()).unwrap().read_to_string(&mut refused).unwrap();
    assert!(refused.starts_with(r#"{"refused":{"code":"busy""#), "{refused}");
    answer.clear();
    first.write_all(b"{\"request\":\"status\"}\n").unwrap();
    answers.read_line(&mut answer).unwrap();
    assert!(answer.starts_with(r#"{"status":"#), "{answer}");
    // There is room for the one that ends the export.
    drop((first, answers));
}

#[test]
fn only_its_user_may_ask_and_its_name_ends_with_it() {
    let mut site = Site::start();
    let socket = site.socket();
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(ask(&socket, &Request::Stop).unwrap(), Answer::Done);
    site.runs.take().unwrap().join().unwrap().unwrap();
    drop(site.control.take());
    assert!(!socket.exists() && !site.directory.path().join("nbd").exists());
    assert!(matches!(ask(&socket, &Request::Status), Err(AskError::NotThere { .. })));
}

#[test]
fn a_socket_that_a_killed_export_has_left_is_replaced_and_a_file_is_not() {
    let site = Site::start();
    let here = |name: &str| site.directory.path().join(name);
    let again = |path: &Utf8Path| {
        let address = Address::Unix(path.to_owned());
        let config = Config {
            set: RegionSetId(Uuid::from_u128(9)),
            geometry: Geometry { block_size: BlockSize::B512, blocks: 1, is_sealed: false },
            members: Members::default(),
            promotion: Promotion::default(),
            accepts_possible_loss: false,
            limits: Limits::default(),
            patience: Patience::default(),
            sealer: None,
        };
        let composition = Composition::of_region_set(config, Vec::new());
        Export::new(Offer { composition, request: None, name: String::new(), source_address: None }, address)
    };
    drop(std::os::unix::net::UnixListener::bind(here("left")).unwrap());
    assert!(again(&here("left")).is_ok());
    fs::write(here("file"), "precious").unwrap();
    assert!(again(&here("file")).is_err() && again(&here("nbd")).is_err());
    assert_eq!(fs::read_to_string(here("file")).unwrap(), "precious");
}

#[test]
fn a_newer_request_is_applied_and_what_is_none_is_refused_by_name() {
    let site = Site::start();
    let address = site.member.local_addr().unwrap();
    let asked = |request: Request| ask(&site.socket(), &request).unwrap();
    let applied = |volume: &ConstructionRequest| asked(Request::Apply { volume: Box::new(volume.clone()) });
    let ours = request(address);
    assert_eq!(applied(&ours), Answer::Applied(Applied::VcrMatches));
    let mut newer = ConstructionRequest { config_version: 2, ..ours.clone() };
    let SubVolume::RegionSet(set) = &mut newer.sub_volumes[0] else { panic!("it is a set") };
    let new = volume_repair::Member { region_id: RegionId(Uuid::from_u128(4)), ..set.members[2] };
    set.leaving.push(std::mem::replace(&mut set.members[2], new));
    let regions = || site.status().volume.members().map(|member| member.region).collect::<Vec<_>>();
    let before = regions();
    let check = Request::Check { volume: Box::new(newer.clone()) };
    assert_eq!(asked(check), Answer::Applied(Applied::Started));
    assert_eq!(regions(), before, "nothing was done yet");
    assert_eq!(applied(&newer), Answer::Applied(Applied::Started));
    assert_eq!(regions()[2..], [3, 4].map(|number| RegionId(Uuid::from_u128(number))), "one leaves");
    assert!(site.status().volume.members().all(|member| member.address == Some(address)));
    assert_eq!(applied(&newer), Answer::Applied(Applied::StartedAlready));
    let refused = |volume: &ConstructionRequest| match applied(volume) {
        Answer::Refused(refusal) => refusal.code,
        other => panic!("it is {other:?}"),
    };
    assert_eq!(refused(&ours), RefusalCode::RequestOlder);
    assert_eq!(
        refused(&ConstructionRequest { config_version: 2, ..ours.clone() }),
        RefusalCode::RequestVersionTaken
    );
    assert_eq!(
        refused(&ConstructionRequest { config_version: 3, block_size: 512, ..ours.clone() }),
        RefusalCode::RequestDiffers
    );
    assert_eq!(
        refused(&ConstructionRequest { config_version: 3, id: Uuid::nil(), ..ours }),
        RefusalCode::RequestOtherVolume
    );
    assert_eq!(regions().len(), 4, "nothing has changed");
}

#[test]
fn who_has_ended_has_no_volume_and_who_cannot_be_asked_is_not_taken_for_that() {
    let mut site = Site::start();
    let here = |name: &str| site.directory.path().join(name);
    let ours = request(site.member.local_addr().unwrap());
    let asked = |path: &Utf8Path| ExportAt::new(path).apply(&ours);
    assert_eq!(asked(&site.socket()).unwrap(), Applied::VcrMatches);
    drop(std::os::unix::net::UnixListener::bind(here("left")).unwrap());
    for nobody in ["nobody", "left"] {
        assert_eq!(asked(&here(nobody)).unwrap(), Applied::Missing, "{nobody}");
    }
    // The system does not even look: a name is too long, and what should be a directory is none.
    fs::write(here("file"), "").unwrap();
    for unknown in ["long".repeat(50), "file/control".to_owned()] {
        let error = asked(&here(&unknown)).unwrap_err();
        assert!(matches!(error, NotAppliedThere::Ask(AskError::NotAsked { .. })), "{unknown}: {error:?}");
        assert_eq!(error.code(), None, "it may be there");
    }
    // Its handle is still held, and its socket answers, for a moment longer.
    let (handle, socket) = (site.handle.clone(), site.socket());
    assert_eq!(handle.apply(&ours).unwrap(), Applied::VcrMatches);
    handle.stop();
    site.runs.take().unwrap().join().unwrap().unwrap();
    assert_eq!(handle.apply(&ours).unwrap(), Applied::Missing);
    assert_eq!(ExportAt::new(&socket).apply(&ours).unwrap(), Applied::Missing);
}

#[test]
fn copies_are_compared_of_a_volume_that_reads_and_writes_and_a_few_at_once() {
    let site = Site::start();
    let compare = |first, count| Request::Compare { first, count };
    assert_eq!(site.refusal(&compare(0, 1)), "volume_not_active");
    assert_eq!(ask(&site.socket(), &Request::Activate { epoch: 3 }).unwrap(), Answer::Done);
    assert_eq!(site.refusal(&compare(0, 1)), "volume_not_active");
    assert!(site.says_to(b"{\"request\":\"compare\",\"first\":0}\n").contains("not_a_request"));
}
