//! `artifact get` with the real program: from whom it reads, what it believes, what it leaves behind.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod double;

use axum::{
    Router,
    body::Body,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use double::{Double, Program, Run, answer, interrupted, never, page};
use futures::StreamExt;
use nexus_client::releases::Artifact;
use serde_json::json;
use sha2::{Digest, Sha256};
use sledctl::upload_source::hexadecimal;
use std::{
    fs,
    sync::{Arc, Mutex},
};
use tokio::sync::Notify;

/// More than one piece on its way, less than anybody waits for.
const SIZE: usize = 1 << 20;

fn bytes() -> Vec<u8> {
    (0..SIZE).map(|index| (index / 251) as u8).collect()
}

fn bad_bytes() -> Vec<u8> {
    let mut bytes = bytes();
    bytes[SIZE / 2] ^= 1;
    bytes
}

/// What one depot does with a read.
#[derive(Clone, Copy, Debug)]
enum Depot {
    /// Serves the bytes, ranges too.
    Honest,
    /// Serves other bytes.
    Lying,
    /// Serves this many bytes, then closes the connection.
    CutOffAfter(usize),
    /// Answers everything whole, also a request for the rest.
    NoRanges,
    /// Has fewer bytes, and says so.
    Short,
    /// Has lost it.
    Empty,
}

/// The offsets at which the depots were asked, in order: `1@0`.
type Asked = Arc<Mutex<Vec<String>>>;

async fn depot(number: usize, kind: Depot, asked: Asked) -> Double {
    let path = format!("/artifact/sha256/{}", hexadecimal(&Sha256::digest(bytes())));
    let read = move |headers: HeaderMap| async move {
        let offset = headers.get(header::RANGE).map_or(0, |range| {
            let range = range.to_str().unwrap();
            range.strip_prefix("bytes=").unwrap().strip_suffix('-').unwrap().parse().unwrap()
        });
        asked.lock().unwrap().push(format!("{number}@{offset}"));
        serve(kind, offset)
    };
    Double::start(Router::new().route(&path, get(read))).await
}

fn serve(kind: Depot, offset: usize) -> Response {
    match kind {
        Depot::Honest => part(bytes(), offset),
        Depot::Lying => part(bad_bytes(), offset),
        Depot::NoRanges => bytes().into_response(),
        Depot::Short => bytes()[..SIZE - 1].to_vec().into_response(),
        Depot::Empty => StatusCode::NOT_FOUND.into_response(),
        Depot::CutOffAfter(end) => {
            let sent: Result<Vec<u8>, std::io::Error> = Ok(bytes()[offset..end].to_vec());
            let torn = Err(std::io::Error::other("torn"));
            let body = futures::stream::iter([sent, torn]).then(|piece| async {
                // Lets the piece leave before the connection is torn.
                tokio::task::yield_now().await;
                piece
            });
            ([(header::CONTENT_LENGTH, (SIZE - offset).to_string())], Body::from_stream(body)).into_response()
        }
    }
}

fn part(bytes: Vec<u8>, offset: usize) -> Response {
    if offset == 0 {
        return bytes.into_response();
    }
    let range = format!("bytes {offset}-{}/{SIZE}", SIZE - 1);
    (StatusCode::PARTIAL_CONTENT, [(header::CONTENT_RANGE, range)], bytes[offset..].to_vec()).into_response()
}

/// A coordinator that knows one artifact, on these depots.
struct Cluster {
    coordinator: Double,
    _depots: Vec<Double>,
    asked: Asked,
}

impl Cluster {
    async fn of(kinds: &[Depot]) -> Cluster {
        let asked = Asked::default();
        let mut depots = Vec::new();
        for (number, kind) in kinds.iter().enumerate() {
            depots.push(depot(number, *kind, Arc::clone(&asked)).await);
        }
        let holders: Vec<_> = depots
            .iter()
            .enumerate()
            .map(|(number, depot)| {
                json!({
                    "sled_id": format!("{number:08x}-3c1e-7000-8000-0123456789ab"),
                    "sled_name": format!("sled-{number}"), "copies": 2, "depot_url": depot.url,
                })
            })
            .collect();
        let artifact: Artifact = serde_json::from_value(json!({
            "hash": hexadecimal(&Sha256::digest(bytes())), "size": SIZE, "name": "images/kernel", "version": "6.1",
            "kind": "file", "repositories": ["1.2.3"], "holders": holders,
        }))
        .unwrap();
        let one = artifact.clone();
        let routes = Router::new()
            .route("/v1/artifacts", get(|| async move { page(&[artifact]) }))
            .route("/v1/artifacts/{hash}", get(|| async move { answer(&one) }));
        Cluster { coordinator: Double::coordinator(routes).await, _depots: depots, asked }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn nothing_is_left_in(program: &Program) {
    let left: Vec<_> =
        fs::read_dir(program.folder()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.is_empty(), "{left:?} was left");
}

#[tokio::test]
async fn artifact_is_fetched_by_name_and_by_hash_into_a_file_of_its_name() {
    let cluster = Cluster::of(&[Depot::Honest]).await;
    let program = Program::of(&cluster.coordinator);
    let run = program.run(&["artifact", "get", "images/kernel"]).await.ended(0);
    assert_eq!(run.stdout, "");
    run.says("1.0 MiB from sled-0, SHA-256 verified, written to kernel");
    assert!(fs::read(program.folder().join("kernel")).unwrap() == bytes());
    let hash = hexadecimal(&Sha256::digest(bytes()));
    program.run(&["artifact", "get", &hash, "-O", "other"]).await.ended(0);
    program.run(&["artifact", "get", &hash[..8], "-O", "third"]).await.ended(0);
    assert_eq!(fs::read_dir(program.folder()).unwrap().count(), 3);
}

#[tokio::test]
async fn next_holder_goes_on_where_the_last_one_stopped() {
    let cluster = Cluster::of(&[Depot::Empty, Depot::CutOffAfter(SIZE / 3), Depot::Honest]).await;
    let program = Program::of(&cluster.coordinator);
    let run = program.run(&["artifact", "get", "images/kernel"]).await.ended(0);
    let run = run.says("sled-0: ").says("sled-1: ");
    run.says("1.0 MiB from sled-1 and sled-2, SHA-256 verified");
    assert!(fs::read(program.folder().join("kernel")).unwrap() == bytes());
    assert_eq!(cluster.asked(), ["0@0", "1@0", &format!("2@{}", SIZE / 3)]);
}

#[tokio::test]
async fn holder_that_knows_no_ranges_begins_again() {
    let cluster = Cluster::of(&[Depot::CutOffAfter(SIZE / 3), Depot::NoRanges]).await;
    let program = Program::of(&cluster.coordinator);
    program.run(&["artifact", "get", "images/kernel"]).await.ended(0).says("1.0 MiB from sled-1,");
    assert!(fs::read(program.folder().join("kernel")).unwrap() == bytes());
}

#[tokio::test]
async fn holder_that_lies_is_asked_once_and_another_one_delivers() {
    let cluster = Cluster::of(&[Depot::Lying, Depot::Short, Depot::Honest]).await;
    let program = Program::of(&cluster.coordinator);
    let run = program.run(&["artifact", "get", "images/kernel"]).await.ended(0);
    run.says("sled-0: the bytes hash to ").says("sled-1: says it has 1048575 bytes").says("from sled-2,");
    assert!(fs::read(program.folder().join("kernel")).unwrap() == bytes());
    assert_eq!(cluster.asked(), ["0@0", "1@0", "2@0"]);
}

#[tokio::test]
async fn bad_rest_of_a_good_beginning_is_not_blamed_on_the_beginning() {
    let cluster = Cluster::of(&[Depot::CutOffAfter(SIZE / 3), Depot::Lying]).await;
    let program = Program::of(&cluster.coordinator);
    let run = program.run(&["artifact", "get", "images/kernel"]).await.ended(1);
    run.says("none of the sleds that hold images/kernel 6.1 could deliver it")
        .says("sled-1: the bytes hash to ");
    let third = format!("1@{}", SIZE / 3);
    assert_eq!(cluster.asked(), ["0@0", third.as_str(), "0@0", third.as_str()], "each is asked twice");
    nothing_is_left_in(&program);
}

#[tokio::test]
async fn nothing_is_left_when_every_holder_lies() {
    let cluster = Cluster::of(&[Depot::Lying, Depot::Lying]).await;
    let program = Program::of(&cluster.coordinator);
    program.run(&["artifact", "get", "images/kernel"]).await.ended(1).says("sled-0: ").says("sled-1: ");
    assert_eq!(cluster.asked(), ["0@0", "1@0"], "a holder that lied was asked again");
    nothing_is_left_in(&program);
}

#[tokio::test]
async fn artifact_without_holders_says_what_to_look_at() {
    let cluster = Cluster::of(&[]).await;
    let run = Program::of(&cluster.coordinator).run(&["artifact", "get", "images/kernel"]).await;
    run.ended(1)
        .says("no sled holds a verified copy")
        .says("hint: see how far it is: sledctl artifact matrix");
}

#[tokio::test]
async fn file_that_is_there_is_replaced_only_with_force() {
    let cluster = Cluster::of(&[Depot::Honest]).await;
    let program = Program::of(&cluster.coordinator);
    let path = program.file("kernel", b"mine");
    for arguments in
        [vec!["artifact", "get", "images/kernel"], vec!["artifact", "get", "images/kernel", "-O", &path]]
    {
        program.run(&arguments).await.ended(1).says("exists already").says("hint: add --force");
    }
    assert_eq!(fs::read(&path).unwrap(), b"mine");
    assert!(cluster.asked().is_empty(), "bytes were fetched for nothing");
    program.run(&["artifact", "get", "images/kernel", "--force"]).await.ended(0);
    assert!(fs::read(&path).unwrap() == bytes());
}

#[tokio::test]
async fn standard_output_gets_the_last_piece_only_when_all_is_right() {
    let honest = Cluster::of(&[Depot::CutOffAfter(SIZE / 3), Depot::Honest]).await;
    let program = Program::of(&honest.coordinator);
    let output = program.command(&["artifact", "get", "images/kernel", "-O", "-"]).output().await.unwrap();
    assert!(output.stdout == bytes(), "standard output has other bytes");
    assert_eq!(output.status.code(), Some(0));

    let lying = Cluster::of(&[Depot::Lying, Depot::Honest]).await;
    let program = Program::of(&lying.coordinator);
    let output = program.command(&["artifact", "get", "images/kernel", "-O", "-"]).output().await.unwrap();
    assert!(output.stdout.len() < SIZE, "all of the bad bytes were written");
    let run = Run::of(std::process::Output { stdout: Vec::new(), ..output });
    run.ended(1)
        .says("what was written to standard output is not the artifact")
        .says("throw the output away");
}

#[tokio::test]
async fn interrupt_leaves_nothing_from_the_first_call_to_the_last_byte() {
    let asked = Arc::new(Notify::new());
    let tell = Arc::clone(&asked);
    let hangs = Double::coordinator(Router::new().route("/v1/artifacts", get(move || never(tell)))).await;
    let program = Program::of(&hangs);
    let run = interrupted(&program, &["artifact", "get", "images/kernel"], &asked).await;
    run.ended(130).says("interrupted while fetching: nothing was kept");
    nothing_is_left_in(&program);
}
