//! A volume over NBD, beside imports, snapshots and volumes that wait.

use super::{
    BLOCK, BLOCKS, HELD, SIZE, attached, content, elsewhere, ended, id, import, import_from, is, is_active,
    is_fenced, left, pantry_was_killed, put, read, sockets, state, uri, whole,
};
use crate::{
    agent::{Agent, Owned},
    set::{self, Made},
    web::Web,
};
use camino::Utf8PathBuf;
use ids::{JobId, SnapshotId};
use problem::Code;
use sled_client::{
    ClientError,
    disks::DownstairsState,
    pantry::{
        Activate, ExportListen, ExportRequest, Exported, PantryExport, PantryJobKind, PantryJobState,
        PantryVolumeState, ScrubRequest, UnexportAnswer, UnexportRequest, UnexportResult,
    },
};
use std::{
    fs::{self, File},
    io::{Read, Write},
    net::{IpAddr, TcpListener, TcpStream},
    num::NonZeroU16,
    os::unix::net::UnixStream,
    process::{Command, Stdio},
    time::Duration,
};
use volume_repair::{ConstructionRequest, SubVolume};

#[tokio::test]
async fn a_volume_that_is_held_elsewhere_is_refused_by_name_and_nothing_has_changed() {
    let agent = Agent::served(3).await;
    let Made { request, .. } = set::make(&agent, BLOCK, BLOCKS).await;
    let request = ConstructionRequest { epoch: 4, ..request };
    let mut holder = elsewhere(&agent, &ConstructionRequest { epoch: 5, ..request.clone() }, 5);
    agent
        .eventually(async || {
            let look = agent.command(&["volume", "look", "5.json"]).status().unwrap();
            if look.success() { Ok(()) } else { Err(look) }
        })
        .await;
    is_active(&agent, 5);
    is(put(&agent, &request, Activate::Now).await, Code::PantryFenced);
    is(agent.client.pantry_volume(id(&request)).await, Code::PantryVolumeNotFound);
    assert!(sockets(&agent).is_empty());
    is_active(&agent, 5);
    // It is attached, and hears that it is held elsewhere when it is to be used.
    put(&agent, &request, Activate::Later).await.unwrap();
    is(put(&agent, &request, Activate::Now).await, Code::PantryFenced);
    assert_eq!(state(&agent, &request).await, PantryVolumeState::Fenced);
    for read_only in [false, true] {
        let refusal = uri(&agent, &request, read_only).await.unwrap_err();
        assert!(refusal.is(Code::PantryFenced));
        assert!(refusal.to_string().contains("epoch 5"), "{refusal}");
    }
    is(import(&agent, &request, &whole(), &content(3)).await, Code::PantryFenced);
    is(agent.client.pantry_snapshot(id(&request), SnapshotId::generate(), 1).await, Code::PantryFenced);
    is_active(&agent, 5);
    // With a higher epoch it takes over, and is taken over from.
    let request = ConstructionRequest { epoch: 6, ..request };
    let taken = put(&agent, &request, Activate::Now).await.unwrap();
    assert_eq!(taken.volume.unwrap().state, PantryVolumeState::Active);
    import(&agent, &request, &whole(), &content(3)).await.unwrap();
    assert!(!agent.command(&["volume", "wait", "5.json", "--for", "active"]).status().unwrap().success());
    assert!(agent.command(&["volume", "stop", "5.json"]).status().unwrap().success());
    assert!(holder.0.wait().unwrap().success());
    let _next = elsewhere(&agent, &ConstructionRequest { epoch: 7, ..request.clone() }, 7);
    is_fenced(&agent, &request).await;
    is(uri(&agent, &request, false).await, Code::PantryFenced);
    let request = ConstructionRequest { epoch: 8, ..request };
    put(&agent, &request, Activate::Now).await.unwrap();
    assert!(read(&agent, &request).await == content(3));
}

#[tokio::test]
async fn exports_are_read_only_or_read_write_and_nobody_writes_beside_an_import() {
    let agent = Agent::served(3).await;
    let request = attached(&agent).await;
    let all = content(10);
    let web = Web::start(all.clone(), &HELD).await;
    let order = import_from(&web);
    let job = agent.client.pantry_import_url(id(&request), &order).await.unwrap();
    is(uri(&agent, &request, false).await, Code::PantryWritten);
    is(import(&agent, &request, &whole(), &all).await, Code::PantryWritten);
    let read_only = uri(&agent, &request, true).await.unwrap();
    // Cancelled in the middle: what is in stays, and others may write.
    agent.client.cancel_pantry_job(id(&request), job.id, 1).await.unwrap();
    let job = ended(&agent, &request, job.id).await;
    assert_eq!((job.state, job.error.unwrap().code), (PantryJobState::Cancelled, "cancelled".to_owned()));
    is(agent.client.cancel_pantry_job(id(&request), JobId::generate(), 1).await, Code::PantryJobNotFound);
    let read_write = uri(&agent, &request, false).await.unwrap();
    let qemu = |uri: &str, arguments: &[&str]| {
        let done = Command::new("qemu-io").args(["-f", "raw", uri]).args(arguments).output();
        done.expect("qemu-io is there")
    };
    let written = qemu(&read_write, &["-c", "write -P 7 64k 64k", "-c", "flush"]);
    assert!(written.status.success(), "{written:?}");
    assert!(!qemu(&read_only, &["-c", "write -P 8 64k 64k"]).status.success());
    let held = read(&agent, &request).await;
    assert!(held[65_536..131_072].iter().all(|byte| *byte == 7));
    is(import(&agent, &request, &whole(), &all).await, Code::PantryWritten);
    let shown = agent.client.pantry_volume(id(&request)).await.unwrap();
    assert_eq!(shown.exported, Some(Exported::ReadWrite));
    // Detached, its clients are served no more.
    agent.client.delete_pantry_volume(id(&request), 1).await.unwrap();
    assert!(!qemu(&read_write, &["-c", "read 0 4k"]).status.success());
    // A volume that is only read takes neither.
    let file: Utf8PathBuf = agent.temp.path().join("image");
    fs::write(&file, &all).unwrap();
    let part = SubVolume::File(volume_repair::FilePart { path: file });
    let only_read = ConstructionRequest::first(uuid::Uuid::now_v7(), 0, BLOCK, vec![part]);
    let answer = put(&agent, &only_read, Activate::Now).await.unwrap();
    assert!(answer.volume.unwrap().read_only);
    is(uri(&agent, &only_read, false).await, Code::PantryReadOnly);
    is(import(&agent, &only_read, &whole(), &all).await, Code::PantryReadOnly);
    assert!(read(&agent, &only_read).await == all);
}

#[tokio::test]
async fn a_volume_whose_members_are_away_holds_up_no_other_one() {
    let agent = Agent::served(3).await;
    let Made { mut request, .. } = set::make(&agent, BLOCK, BLOCKS).await;
    let SubVolume::RegionSet(set) = &mut request.sub_volumes[0] else { panic!("it is a set") };
    // Nobody listens there.
    set.members.iter_mut().for_each(|member| member.address = "127.0.0.1:9".parse().unwrap());
    let hangs = put(&agent, &request, Activate::Now);
    let works = async {
        let request = attached(&agent).await;
        import(&agent, &request, &whole(), &content(11)).await.unwrap();
        request
    };
    let (hangs, works) = tokio::join!(hangs, works);
    assert_eq!(hangs.unwrap().volume.unwrap().state, PantryVolumeState::Activating);
    is(uri(&agent, &request, true).await, Code::PantryNotActive);
    is(import(&agent, &request, &whole(), &content(11)).await, Code::PantryNotActive);
    // A job that waits for a server, and one that reads all.
    let web = Web::start(content(12), &HELD).await;
    let order = import_from(&web);
    let waits = agent.client.pantry_import_url(id(&works), &order).await.unwrap();
    let order = ScrubRequest { executor_epoch: 1, job_id: None };
    let scrub = agent.client.pantry_scrub(id(&works), &order).await.unwrap();
    let scrub = ended(&agent, &works, scrub.id).await;
    assert_eq!(
        (scrub.kind, scrub.state, scrub.bytes_done),
        (PantryJobKind::Scrub, PantryJobState::Done, SIZE as u64)
    );
    assert_eq!(
        agent.client.pantry_job(id(&works), waits.id, Duration::ZERO).await.unwrap().state,
        PantryJobState::Running
    );
    // Both are detached, whatever they wait for.
    for request in [&request, &works] {
        agent.client.delete_pantry_volume(id(request), 1).await.unwrap();
    }
    assert!(sockets(&agent).is_empty());
}

#[tokio::test]
async fn a_snapshot_keeps_what_was_there_and_is_read_beside_the_volume() {
    let agent = Agent::served(3).await;
    let request = attached(&agent).await;
    let (old, new) = (content(13), content(14));
    import(&agent, &request, &whole(), &old).await.unwrap();
    let snapshot = SnapshotId::generate();
    let taken = agent.client.pantry_snapshot(id(&request), snapshot, 1).await.unwrap();
    assert_eq!((taken.id, taken.regions.len()), (snapshot, 3));
    // The same one once more, whatever was written since.
    assert_eq!(agent.client.pantry_snapshot(id(&request), snapshot, 1).await.unwrap(), taken);
    import(&agent, &request, &whole(), &new).await.unwrap();
    assert_eq!(agent.client.pantry_snapshot(id(&request), snapshot, 1).await.unwrap(), taken);
    let mut kept = ConstructionRequest { id: uuid::Uuid::now_v7(), epoch: 0, ..request.clone() };
    let SubVolume::RegionSet(set) = &mut kept.sub_volumes[0] else { panic!("it is a set") };
    set.snapshot = Some(snapshot);
    put(&agent, &kept, Activate::Now).await.unwrap();
    assert!(read(&agent, &kept).await == old);
    assert!(read(&agent, &request).await == new);
    is(agent.client.pantry_snapshot(id(&kept), SnapshotId::generate(), 1).await, Code::PantryReadOnly);
}

/// An export over TCP, at the sled's own address and a port that is free, unless said.
fn tcp(read_only: bool) -> ExportRequest {
    ExportRequest { listen: ExportListen::Tcp, ..ExportRequest::unix(1, read_only) }
}

async fn export(
    agent: &Agent,
    request: &ConstructionRequest,
    order: ExportRequest,
) -> Result<String, ClientError> {
    agent.client.pantry_export(id(request), &order).await.map(|answer| answer.uri)
}

async fn unexport(
    agent: &Agent,
    request: &ConstructionRequest,
    of: ExportRequest,
    force: bool,
) -> Result<UnexportAnswer, ClientError> {
    let ExportRequest { executor_epoch, read_only, listen, .. } = of;
    let order = UnexportRequest { executor_epoch, read_only, listen, force };
    agent.client.pantry_unexport(id(request), &order).await
}

fn answer(result: UnexportResult, clients: u64) -> UnexportAnswer {
    UnexportAnswer { result, clients, flushed: true }
}

async fn exports(agent: &Agent, request: &ConstructionRequest) -> Vec<PantryExport> {
    agent.client.pantry_volume(id(request)).await.unwrap().exports
}

fn own_address(agent: &Agent) -> IpAddr {
    agent.address().parse::<std::net::SocketAddr>().unwrap().ip()
}

/// The port of `nbd://ADDRESS:PORT/NAME`.
fn port_of(uri: &str) -> u16 {
    let place = uri.strip_prefix("nbd://").unwrap().split('/').next().unwrap();
    place.rsplit(':').next().unwrap().parse().unwrap()
}

fn qemu_io(uri: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new("qemu-io");
    command.args(["-f", "raw"]).args(arguments).arg(uri);
    command.output().expect("qemu-io is there").status.success()
}

/// A client that is there until it is told to do something, and then until it has done that.
struct Sits(Owned);

impl Sits {
    async fn at(agent: &Agent, request: &ConstructionRequest, uri: &str) -> Sits {
        let mut command = Command::new("qemu-io");
        command.args(["-f", "raw", uri]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let sits = Sits(Owned(command.spawn().expect("qemu-io is there")));
        agent
            .eventually(async || match exports(agent, request).await {
                told if told.iter().any(|export| export.uri == uri && export.clients > 0) => Ok(()),
                told => Err(told),
            })
            .await;
        sits
    }

    /// What it says to that.
    fn does(mut self, orders: &str) -> String {
        let mut process = self.0.0.stdin.take().unwrap();
        // One that was cut off may have ended.
        let _ = process.write_all(orders.as_bytes());
        drop(process);
        let mut said = String::new();
        self.0.0.stdout.take().unwrap().read_to_string(&mut said).unwrap();
        self.0.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        said
    }
}

#[tokio::test]
async fn an_export_is_taken_back_once_and_not_from_under_its_clients_unless_by_force() {
    let agent = Agent::served(3).await;
    let request = attached(&agent).await;
    let (all, unix) = (content(50), |read_only| ExportRequest::unix(1, read_only));
    // Before it was exported nobody could write or read.
    assert!(exports(&agent, &request).await.is_empty());
    assert_eq!(
        unexport(&agent, &request, unix(true), false).await.unwrap(),
        answer(UnexportResult::GoneAlready, 0)
    );
    import(&agent, &request, &whole(), &all).await.unwrap();
    let (reads, writes) =
        (uri(&agent, &request, true).await.unwrap(), uri(&agent, &request, false).await.unwrap());
    assert_eq!(uri(&agent, &request, false).await.unwrap(), writes, "the same once more");
    let told: Vec<(bool, u64, u64)> = exports(&agent, &request)
        .await
        .iter()
        .map(|export| (export.read_only, export.clients, export.clients_max))
        .collect();
    assert_eq!(told, [(true, 0, 16), (false, 0, 16)]);
    assert_eq!(left(&agent).len(), 3, "its own, and two exports");
    assert!(!qemu_io(&reads, &["-c", "write -P 1 0 4k"]) && qemu_io(&writes, &["-c", "write -P 1 0 4k"]));

    let sits = Sits::at(&agent, &request, &writes).await;
    is(unexport(&agent, &request, unix(false), false).await, Code::PantryExportInUse);
    assert_eq!(exports(&agent, &request).await.len(), 2);
    assert!(qemu_io(&writes, &["-c", "write -P 2 4k 4k"]), "nothing has changed");
    // The other one is nobody's.
    for result in [UnexportResult::Ended, UnexportResult::GoneAlready] {
        assert_eq!(unexport(&agent, &request, unix(true), false).await.unwrap(), answer(result, 0));
    }
    assert!(!qemu_io(&reads, &["-r", "-c", "read 0 4k"]));
    is(import(&agent, &request, &whole(), &all).await, Code::PantryWritten);
    assert_eq!(
        unexport(&agent, &request, unix(false), true).await.unwrap(),
        answer(UnexportResult::Ended, 1)
    );
    assert_eq!(
        unexport(&agent, &request, unix(false), true).await.unwrap(),
        answer(UnexportResult::GoneAlready, 0)
    );
    let said = sits.does("write -P 9 0 4k\n");
    assert!(said.contains("failed"), "{said}");
    assert_eq!(agent.client.pantry_volume(id(&request)).await.unwrap().exported, None);
    assert_eq!(left(&agent), sockets(&agent), "nothing of the exports is left");
    // What they wrote is there, and an import may be again; and so may exports.
    let expected = [&[1; 4096][..], &[2; 4096], &all[8192..]].concat();
    assert!(read(&agent, &request).await == expected);
    import(&agent, &request, &whole(), &all).await.unwrap();
    assert_eq!(uri(&agent, &request, false).await.unwrap(), writes);
    assert!(qemu_io(&writes, &["-c", "read -P 0 1M 4k"]));
    let stale =
        UnexportRequest { executor_epoch: 1, read_only: false, listen: ExportListen::Unix, force: true };
    agent.client.delete_pantry_volume(id(&request), 2).await.unwrap();
    is(agent.client.pantry_unexport(id(&request), &stale).await, Code::StaleEpoch);
    let gone = UnexportRequest { executor_epoch: 2, ..stale };
    is(agent.client.pantry_unexport(id(&request), &gone).await, Code::PantryVolumeNotFound);
    assert!(left(&agent).is_empty());
}

#[tokio::test]
async fn over_tcp_a_volume_is_at_the_sleds_own_address_and_nowhere_else() {
    let agent = Agent::served(3).await;
    let request = attached(&agent).await;
    import(&agent, &request, &whole(), &content(51)).await.unwrap();
    let own = own_address(&agent);
    let reads = export(&agent, &request, tcp(true)).await.unwrap();
    let port = port_of(&reads);
    assert_eq!(reads, format!("nbd://{own}:{port}/{}", id(&request)));
    let copy = agent.temp.path().join("copy");
    assert!(Command::new("nbdcopy").arg(&reads).arg(&copy).status().expect("nbdcopy is there").success());
    assert!(fs::read(&copy).unwrap() == content(51));
    // Who comes back to a port that another volume has by then is not given that one.
    for name in ["", "/", &format!("/{}", uuid::Uuid::now_v7())] {
        assert!(!qemu_io(&format!("nbd://{own}:{port}{name}"), &["-r", "-c", "read 0 4k"]), "{name:?}");
    }
    // The same again, whether its port is said or not; another port is another export.
    let at = |order: ExportRequest, port| ExportRequest { port: NonZeroU16::new(port), ..order };
    assert_eq!(export(&agent, &request, tcp(true)).await.unwrap(), reads);
    assert_eq!(export(&agent, &request, at(tcp(true), port)).await.unwrap(), reads);
    is(export(&agent, &request, at(tcp(true), port ^ 1)).await, Code::PantryExportConflict);
    // Not anywhere, not where somebody is, and not where somebody is going to be.
    for other in ["0.0.0.0", "127.0.0.1", "192.0.2.1", "::1"] {
        let order = ExportRequest { address: Some(other.parse().unwrap()), ..tcp(false) };
        is(export(&agent, &request, order).await, Code::ExportAddress);
    }
    let taken = TcpListener::bind((own, 0)).unwrap();
    for taken in [taken.local_addr().unwrap().port(), port, 12345, 12348, 12400, 12999] {
        is(export(&agent, &request, at(tcp(false), taken)).await, Code::ExportPortTaken);
    }
    let strange = ExportRequest { listen: ExportListen::Unix, ..at(tcp(false), 10809) };
    is(export(&agent, &request, strange).await, Code::BadRequest);
    assert_eq!(exports(&agent, &request).await.len(), 1);
    // A client that reads, and one that writes.
    let order = ExportRequest { address: Some(own), ..tcp(false) };
    let writes = export(&agent, &request, order).await.unwrap();
    assert!(!qemu_io(&reads, &["-c", "write -P 3 8k 4k"]));
    assert!(qemu_io(&writes, &["-c", "write -P 3 8k 4k", "-c", "flush"]));
    assert!(qemu_io(&reads, &["-r", "-c", "read -P 3 8k 4k"]));
    let sits = Sits::at(&agent, &request, &writes).await;
    is(unexport(&agent, &request, tcp(false), false).await, Code::PantryExportInUse);
    assert_eq!(unexport(&agent, &request, tcp(false), true).await.unwrap(), answer(UnexportResult::Ended, 1));
    assert!(TcpStream::connect((own, port_of(&writes))).is_err());
    assert!(sits.does("write -P 9 0 4k\n").contains("failed"));
    // Its port is anybody's, and detached it is nowhere.
    let again = export(&agent, &request, at(tcp(false), port_of(&writes))).await.unwrap();
    assert_eq!(again, writes);
    agent.client.delete_pantry_volume(id(&request), 1).await.unwrap();
    for uri in [&reads, &writes] {
        assert!(TcpStream::connect((own, port_of(uri))).is_err());
    }
}

#[tokio::test]
async fn a_config_that_allows_no_export_over_tcp_is_obeyed() {
    let mut agent = Agent::served(3).await;
    agent.stop();
    let mut config = File::options().append(true).open(agent.temp.path().join("agent.toml")).unwrap();
    writeln!(config, "[pantry]\ntcp_exports = \"off\"").unwrap();
    agent.start();
    for disk in 0..3 {
        agent.stands(disk, DownstairsState::Running).await;
    }
    let request = attached(&agent).await;
    is(export(&agent, &request, tcp(true)).await, Code::ExportTcpNotAllowed);
    assert!(exports(&agent, &request).await.is_empty());
    uri(&agent, &request, true).await.unwrap();
}

#[tokio::test]
async fn exports_are_there_after_their_agent_was_killed_and_gone_after_their_pantry_was() {
    let mut agent = Agent::served(3).await;
    let request = attached(&agent).await;
    import(&agent, &request, &whole(), &content(52)).await.unwrap();
    let unix = uri(&agent, &request, false).await.unwrap();
    let over_tcp = export(&agent, &request, tcp(true)).await.unwrap();
    let before = exports(&agent, &request).await;
    agent.kill();
    agent.start();
    agent.eventually(async || agent.client.pantry_volume(id(&request)).await).await;
    assert_eq!(exports(&agent, &request).await, before);
    assert_eq!(export(&agent, &request, tcp(true)).await.unwrap(), over_tcp);
    assert!(qemu_io(&over_tcp, &["-r", "-c", "read -P 0 1M 4k"]));
    assert_eq!(left(&agent).len(), 2);

    pantry_was_killed(&agent).await;
    // Nobody else would ever remove what it has left.
    assert!(left(&agent).is_empty(), "{:?}", left(&agent));
    for uri in [&unix, &over_tcp] {
        assert!(!qemu_io(uri, &["-r", "-c", "read 0 4k"]));
    }
    let ended = agent.client.pantry_volume(id(&request)).await.unwrap();
    assert_eq!((ended.exported, ended.exports), (None, Vec::new()));
    is(unexport(&agent, &request, tcp(true), true).await, Code::PantryVolumeEnded);
    is(export(&agent, &request, tcp(true)).await, Code::PantryVolumeEnded);
    let next = ConstructionRequest { epoch: 2, ..request };
    put(&agent, &next, Activate::Now).await.unwrap();
    assert!(exports(&agent, &next).await.is_empty(), "nobody has asked for one in this life");
    let port = NonZeroU16::new(port_of(&over_tcp));
    assert_eq!(export(&agent, &next, ExportRequest { port, ..tcp(true) }).await.unwrap(), over_tcp);
    assert!(qemu_io(&over_tcp, &["-r", "-c", "read -P 0 1M 4k"]));
}

#[tokio::test]
async fn an_export_of_a_volume_that_is_held_elsewhere_is_refused_and_one_that_was_there_is_taken_back() {
    let agent = Agent::served(3).await;
    let request = attached(&agent).await;
    import(&agent, &request, &whole(), &content(53)).await.unwrap();
    let writes = export(&agent, &request, tcp(false)).await.unwrap();
    let sits = Sits::at(&agent, &request, &writes).await;
    let _taken = elsewhere(&agent, &ConstructionRequest { epoch: 2, ..request.clone() }, 2);
    is_active(&agent, 2);
    is_fenced(&agent, &request).await;
    for read_only in [false, true] {
        is(export(&agent, &request, tcp(read_only)).await, Code::PantryFenced);
    }
    is(unexport(&agent, &request, tcp(false), false).await, Code::PantryExportInUse);
    // What its clients have written without a flush may be lost, and that is said.
    let taken_back = UnexportAnswer { result: UnexportResult::Ended, clients: 1, flushed: false };
    assert_eq!(unexport(&agent, &request, tcp(false), true).await.unwrap(), taken_back);
    assert!(sits.does("read 0 4k\n").contains("failed"));
    is_active(&agent, 2);
}

#[tokio::test]
async fn clients_of_an_export_are_bounded_and_hold_up_neither_jobs_nor_other_exports() {
    const CLIENTS_MAX: usize = 16;
    let agent = Agent::served(3).await;
    let request = attached(&agent).await;
    import(&agent, &request, &whole(), &content(54)).await.unwrap();
    let unix = uri(&agent, &request, true).await.unwrap();
    let socket = unix.strip_prefix("nbd+unix:///?socket=").unwrap();
    let greeted = |mut client: UnixStream| {
        let mut greeting = [0; 18];
        client.read_exact(&mut greeting).map(|()| client)
    };
    let clients: Vec<UnixStream> =
        (0..CLIENTS_MAX).map(|_| greeted(UnixStream::connect(socket).unwrap()).unwrap()).collect();
    assert!(greeted(UnixStream::connect(socket).unwrap()).is_err(), "there are as many as there may be");
    let told = exports(&agent, &request).await.remove(0);
    // They have not said which export they want: they have a place, and do not use it yet.
    assert_eq!((told.clients, told.clients_max, told.clients_refused), (0, CLIENTS_MAX as u64, 1));
    let scrub = ScrubRequest { executor_epoch: 1, job_id: None };
    let scrub = agent.client.pantry_scrub(id(&request), &scrub).await.unwrap();
    assert_eq!(ended(&agent, &request, scrub.id).await.state, PantryJobState::Done);
    assert!(qemu_io(&export(&agent, &request, tcp(true)).await.unwrap(), &["-r", "-c", "read -P 0 1M 4k"]));
    drop(clients);
    agent
        .eventually(
            async || if qemu_io(&unix, &["-r", "-c", "read -P 0 1M 4k"]) { Ok(()) } else { Err(agent.log()) },
        )
        .await;
}
