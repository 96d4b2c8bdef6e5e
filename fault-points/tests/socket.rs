//! The fault socket end to end: a client, a server, and a program that reaches points.

use camino::{Utf8Path, Utf8PathBuf};
use camino_tempfile::Utf8TempDir;
use fault_points::{DiskControl, DiskFault, FaultClient, FaultClientError, reach, serve};
use serde_json::{Value, json};
use std::{os::unix::fs::PermissionsExt, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    task::JoinHandle,
};

/// Far longer than anything here takes: hanging is the failure.
const LIMIT: Duration = Duration::from_secs(20);

struct RecordingDisks;

impl DiskControl for RecordingDisks {
    fn apply(&self, disk: &str, fault: &DiskFault) -> Result<Value, String> {
        match disk {
            "m2-0" => Ok(json!({ "disk": disk, "fault": fault })),
            "m2-panic" => panic!("deliberate"),
            other => Err(format!("no disk {other:?}; there is m2-0")),
        }
    }
}

async fn open(socket: Utf8PathBuf) -> (FaultClient, JoinHandle<std::io::Result<()>>) {
    let server = tokio::spawn(serve(socket.clone(), Some(Arc::new(RecordingDisks))));
    let client = FaultClient::new(socket);
    let ready = async {
        while client.list().await.is_err() {
            assert!(!server.is_finished(), "the server ended");
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LIMIT, ready).await.expect("the server opens its socket");
    (client, server)
}

#[tokio::test]
async fn holds_tells_and_releases_a_running_task() {
    let dir = Utf8TempDir::new().unwrap();
    let (client, _server) = open(dir.path().join("faults.sock")).await;
    client.hold("test.hold_release", 1).await.unwrap();
    reach("test.hold_release").await;
    let task = tokio::spawn(reach("test.hold_release"));
    tokio::time::timeout(LIMIT, client.wait_held("test.hold_release")).await.unwrap().unwrap();
    assert!(!task.is_finished());
    let status =
        client.list().await.unwrap().into_iter().find(|one| one.point == "test.hold_release").unwrap();
    assert_eq!((status.passes, status.on_hold, status.held), (2, true, 1));
    assert_eq!(client.release("test.hold_release").await.unwrap(), 1);
    tokio::time::timeout(LIMIT, task).await.unwrap().unwrap();
}

#[tokio::test]
async fn disk_faults_reach_the_owner_of_the_disks_and_its_refusals_come_back() {
    let dir = Utf8TempDir::new().unwrap();
    let (client, _server) = open(dir.path().join("faults.sock")).await;
    let told = client.disk("m2-0", DiskFault::Corrupt { count: 2, seed: 7 }).await.unwrap();
    assert_eq!(told, json!({"disk": "m2-0", "fault": {"kind": "corrupt", "count": 2, "seed": 7}}));
    let refused = client.disk("m2-9", DiskFault::Fail).await.unwrap_err();
    assert!(matches!(&refused, FaultClientError::Refused { reason, .. } if reason.contains("there is m2-0")));
    let panicked = client.disk("m2-panic", DiskFault::Fail).await.unwrap_err();
    assert!(matches!(&panicked, FaultClientError::Refused { reason, .. } if reason.contains("panicked")));
    client.list().await.unwrap();
}

async fn say(socket: &Utf8Path, bytes: &[u8]) -> Value {
    let mut stream = UnixStream::connect(socket).await.expect("somebody listens");
    // The server may answer and hang up before it has read all: that is no failure of the test.
    let _ = stream.write_all(bytes).await;
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer).await;
    serde_json::from_str(answer.trim()).expect("the answer is JSON")
}

#[tokio::test]
async fn bad_requests_are_answered_with_an_error_and_the_server_goes_on() {
    let dir = Utf8TempDir::new().unwrap();
    let socket = dir.path().join("faults.sock");
    let (client, _server) = open(socket.clone()).await;
    for bad in [
        "nonsense\n",
        "\n",
        "{}\n",
        "{\"request\":\"explode\"}\n",
        "{\"request\":\"hold\",\"point\":\"a\",\"often\":1}\n",
        "{\"request\":\"disk\",\"disk\":\"m2-0\",\"fault\":{\"kind\":\"slow\",\"ms\":-1}}\n",
        "{\"request\":\"wait_held\",\"point\":\"test.never_on_hold\"}\n",
        "{\"request\":\"release\",\"point\":\"test.never_on_hold\"}\n",
    ] {
        assert!(say(&socket, bad.as_bytes()).await["error"].is_string(), "{bad:?} was not refused");
    }
    assert!(say(&socket, &[0xff, 0xfe, b'\n']).await["error"].is_string());
    client.list().await.unwrap();
}

#[tokio::test]
async fn an_endless_line_is_cut_off() {
    let dir = Utf8TempDir::new().unwrap();
    let socket = dir.path().join("faults.sock");
    let (client, _server) = open(socket.clone()).await;
    let mut stream = UnixStream::connect(&socket).await.unwrap();
    let chunk = vec![b'x'; 64 * 1024];
    let cut_off = async { while stream.write_all(&chunk).await.is_ok() {} };
    tokio::time::timeout(LIMIT, cut_off).await.expect("the server reads an endless line for ever");
    client.list().await.unwrap();
}

#[tokio::test]
async fn the_socket_is_private_and_replaces_one_that_a_crash_left() {
    let dir = Utf8TempDir::new().unwrap();
    let socket = dir.path().join("faults.sock");
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let (client, _server) = open(socket.clone()).await;
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    client.list().await.unwrap();
}

#[tokio::test]
async fn a_file_in_the_sockets_place_is_left_alone() {
    let dir = Utf8TempDir::new().unwrap();
    let socket = dir.path().join("faults.sock");
    std::fs::write(&socket, "precious").unwrap();
    let error = serve(socket.clone(), None).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::AlreadyExists);
    assert_eq!(std::fs::read_to_string(&socket).unwrap(), "precious");
}

#[tokio::test]
async fn a_path_longer_than_a_socket_address_works() {
    let dir = Utf8TempDir::new().unwrap();
    let deep = dir.path().join("d".repeat(90)).join("e".repeat(90));
    std::fs::create_dir_all(&deep).unwrap();
    let (client, _server) = open(deep.join("faults.sock")).await;
    client.list().await.unwrap();
}

#[tokio::test]
async fn a_client_of_nobody_is_told_so() {
    let dir = Utf8TempDir::new().unwrap();
    let error = FaultClient::new(dir.path().join("faults.sock")).list().await.unwrap_err();
    assert!(matches!(error, FaultClientError::Connect { .. }));
}
