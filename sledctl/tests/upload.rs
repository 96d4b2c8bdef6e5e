//! `repo upload` with the real program: what it sends, what it shows, how refusals read.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod double;

use axum::{
    Router,
    body::Body,
    extract::{RawQuery, Request},
    response::Response,
    routing::{get, put},
};
use double::{Double, Program, Run, answer, interrupted, never, page, refuse, routes};
use http_body_util::BodyExt;
use nexus_client::releases::{Repository, UploadResult};
use problem::{Code, Finding, Problem};
use serde_json::json;
use sha2::{Digest, Sha256};
use sledctl::upload_source::hexadecimal;
use std::{
    process::Stdio,
    sync::{Arc, Mutex},
};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::ChildStderr,
    sync::Notify,
};

const ZIP: &[u8] = b"PK, or so the tests say";

fn result(sha256: &str, warnings: &[&str]) -> UploadResult {
    serde_json::from_value(json!({
        "system_version": "1.2.3", "sha256": sha256, "status": "inserted", "warnings": warnings,
        "durable_on": ["nexus-1"],
    }))
    .unwrap()
}

/// The number of bytes and the SHA-256 of a body, read piece by piece.
async fn digest(mut body: Body) -> (u64, String) {
    let (mut bytes, mut hasher) = (0, Sha256::new());
    while let Some(frame) = body.frame().await {
        // A sender that stops early has its reasons; what it sent is what counts.
        let Ok(frame) = frame else { break };
        if let Ok(data) = frame.into_data() {
            bytes += data.len() as u64;
            hasher.update(&data);
        }
    }
    (bytes, hexadecimal(&hasher.finalize()))
}

/// A coordinator that answers an upload like this.
async fn refusing(problem: Problem) -> Double {
    let upload = |request: Request| async {
        // As the real one does: what is still on its way is read into nothing, so that the answer gets through.
        tokio::spawn(digest(request.into_body()));
        refuse(problem)
    };
    Double::coordinator(routes().route("/v1/repositories", put(upload))).await
}

#[tokio::test]
async fn file_arrives_whole_with_its_name_and_what_became_of_it_is_shown() {
    let seen: Arc<Mutex<Vec<String>>> = Arc::default();
    let record = Arc::clone(&seen);
    let upload = |RawQuery(query): RawQuery, request: Request| async move {
        let length = request.headers()["content-length"].to_str().unwrap().to_owned();
        let (bytes, sha256) = digest(request.into_body()).await;
        record.lock().unwrap().push(format!("{} {length} {bytes}", query.unwrap()));
        answer(&result(&sha256, &["timestamp.json expires tomorrow"]))
    };
    let double = Double::coordinator(routes().route("/v1/repositories", put(upload))).await;
    let program = Program::of(&double);
    let path = program.file("release.zip", ZIP);
    let run = program.run(&["repo", "upload", &path, "--system-version", "1.2.3"]).await.ended(0);
    let run = run.shows("release     1.2.3").says("warning: timestamp.json expires tomorrow");
    run.says("uploading 0 B of 23 B").says("sledctl artifact matrix 1.2.3");
    assert_eq!(*seen.lock().unwrap(), ["file_name=release.zip&system_version=1.2.3 23 23"]);
    let run = program.run(&["repo", "upload", &path, "-o", "json"]).await.ended(0);
    let sha256 = hexadecimal(&Sha256::digest(ZIP));
    let expected = result(&sha256, &["timestamp.json expires tomorrow"]);
    assert_eq!(serde_json::from_str::<UploadResult>(&run.stdout).unwrap(), expected);
}

/// A coordinator that has stored what it received, and keeps the upload waiting until it is told to answer.
async fn keeping_waiting(go_on: Arc<Notify>) -> Double {
    let listed: Arc<Mutex<Vec<Repository>>> = Arc::default();
    let insert = Arc::clone(&listed);
    let upload = |RawQuery(query): RawQuery, request: Request| async move {
        assert!(query.unwrap().ends_with("wait=replicated&wait_seconds=9"));
        let (_, sha256) = digest(request.into_body()).await;
        insert.lock().unwrap().push(repository(&sha256));
        go_on.notified().await;
        answer(&result(&sha256, &[]))
    };
    let list = || async move { page(&*listed.lock().unwrap()) };
    let hash = "ab".repeat(32);
    let replication = json!({
        "generation": 1, "fully_replicated": false, "artifacts_complete": 0,
        "artifacts": [{"hash": hash, "name": "kernel", "version": "1", "size": 4096, "staged": true}],
        "sleds": [{
            "id": "00000001-3c1e-7000-8000-0123456789ab", "name": "sled-1", "state": "active",
            "config_generation": 1, "observed_at": null, "datasets_healthy": 2, "cells": {&hash: {"copies": 1}},
        }],
    });
    let routes = routes()
        .route("/v1/repositories", put(upload).get(list))
        .route("/v1/repositories/1.2.3/replication", get(|| async move { answer(&replication) }));
    Double::coordinator(routes).await
}

/// Reads lines until one says this; gives all that were read.
async fn read_until(lines: &mut Lines<BufReader<ChildStderr>>, words: &str) -> Vec<String> {
    let mut read = Vec::new();
    while let Some(line) = lines.next_line().await.unwrap() {
        read.push(line);
        if read.last().unwrap().contains(words) {
            return read;
        }
    }
    panic!("standard error ended without {words:?}: {read:?}");
}

const WAITING: [&str; 6] = ["repo", "upload", "release.zip", "--wait", "--wait-seconds", "9"];

#[tokio::test]
async fn waiting_shows_the_phases_in_their_order() {
    let go_on = Arc::new(Notify::new());
    let double = keeping_waiting(Arc::clone(&go_on)).await;
    let program = Program::of(&double);
    program.file("release.zip", ZIP);
    let mut child = program.command(&WAITING).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let read = read_until(&mut lines, "replicating").await;
    let expected =
        ["uploading 0 B of 23 B", "checking", "replicating 2.0 KiB of 4.0 KiB, 0/1 sleds have all of it"];
    assert_eq!(read, expected);
    go_on.notify_one();
    Run::of(child.wait_with_output().await.unwrap()).ended(0).shows("1.2.3");
}

#[tokio::test]
async fn interrupt_says_what_goes_on() {
    let double = keeping_waiting(Arc::default()).await;
    let program = Program::of(&double);
    program.file("release.zip", ZIP);
    let mut child = program.command(&WAITING).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    read_until(&mut lines, "replicating").await;
    let process = rustix::process::Pid::from_raw(child.id().unwrap().cast_signed()).unwrap();
    rustix::process::kill_process(process, rustix::process::Signal::INT).unwrap();
    let read = read_until(&mut lines, "error: ").await;
    assert!(
        read.last().unwrap().contains("interrupted while replicating: the release is stored"),
        "{read:?}"
    );
    assert_eq!(child.wait().await.unwrap().code(), Some(130));
}

#[tokio::test]
async fn interrupt_before_the_first_byte_says_that_nothing_was_stored() {
    let asked = Arc::new(Notify::new());
    let tell = Arc::clone(&asked);
    let hangs = Double::coordinator(Router::new().route("/v1/status", get(move || never(tell)))).await;
    let program = Program::of(&hangs);
    program.file("release.zip", ZIP);
    let run = interrupted(&program, &["repo", "upload", "release.zip"], &asked).await;
    run.ended(130).says("interrupted while uploading: nothing was stored");
}

fn repository(sha256: &str) -> Repository {
    serde_json::from_value(json!({
        "id": "0191bbbb-0000-7000-8000-000000000001", "system_version": "1.2.3", "sha256": sha256,
        "file_name": null, "size_bytes": 9, "artifact_count": 1,
        "trust_root_id": "0191aaaa-0000-7000-8000-000000000001", "created_at": "2026-11-20T12:00:00Z",
        "staged_on": null, "state": "replicating", "sleds_complete": 0, "sleds_total": 4,
    }))
    .unwrap()
}

#[tokio::test]
async fn every_finding_of_a_refusal_is_shown() {
    let problem = Problem::new(Code::TargetDigestMismatch, "2 targets are wrong").with_problems(vec![
        Finding::about(Code::TargetDigestMismatch, "targets/kernel", "other bytes than signed"),
        Finding::about(Code::TargetMissing, "targets/tools", "not in the archive"),
    ]);
    let double = refusing(problem).await;
    let program = Program::of(&double);
    let path = program.file("release.zip", ZIP);
    let run = program.run(&["repo", "upload", &path]).await.ended(1);
    let run = run.says("error: 2 targets are wrong (400 target_digest_mismatch)\n");
    let run = run.says("\n  target_digest_mismatch targets/kernel: other bytes than signed\n");
    run.says("\n  target_missing targets/tools: not in the archive\n")
        .says("\nrequest id request-of-the-test\n");
}

#[tokio::test]
async fn refusal_that_comes_before_the_body_was_read_is_understood() {
    let double =
        refusing(Problem::new(Code::BodyTooLarge, "16777216 bytes are more than the limit of 1024")).await;
    let program = Program::of(&double);
    let path = program.file("release.zip", &vec![7; 16 << 20]);
    program.run(&["repo", "upload", &path]).await.ended(1).says("(413 body_too_large)");
}

#[tokio::test]
async fn wrong_token_is_found_out_before_the_bytes_travel() {
    let uploads: Arc<Mutex<u32>> = Arc::default();
    let record = Arc::clone(&uploads);
    // Anybody may come here, so that nobody is kept from being counted.
    let open = Router::new().route("/v1/repositories", put(|| async move { *record.lock().unwrap() += 1 }));
    let double = Double::start(double::guarded(routes()).merge(open)).await;
    let program = Program::new().with("SLEDCTL_URL", &double.url).with("SLEDCTL_TOKEN", "wrong");
    let path = program.file("release.zip", ZIP);
    program.run(&["repo", "upload", &path]).await.ended(1).says("does not know the token from SLEDCTL_TOKEN");
    assert_eq!(*uploads.lock().unwrap(), 0);
}

#[tokio::test]
async fn file_is_looked_at_before_anybody_is_called() {
    // Nobody listens there: getting to it would be another error.
    let program = Program::new().with("SLEDCTL_URL", "http://127.0.0.1:9");
    let empty = program.file("empty.zip", b"");
    program.run(&["repo", "upload", &empty]).await.ended(1).says("is empty; a release is a .zip file");
    program.run(&["repo", "upload", program.folder().as_str()]).await.ended(1).says("is a folder");
    program
        .run(&["repo", "upload", "none.zip"])
        .await
        .ended(1)
        .says("none.zip could not be read: No such file");
}

#[tokio::test]
async fn bytes_that_were_altered_on_the_way_are_noticed() {
    let upload = |request: Request| async {
        let _ = digest(request.into_body()).await;
        answer(&result(&"cd".repeat(32), &[]))
    };
    let double = Double::coordinator(routes().route("/v1/repositories", put(upload))).await;
    let program = Program::of(&double);
    let path = program.file("release.zip", ZIP);
    program.run(&["repo", "upload", &path]).await.ended(1).says("received bytes with SHA-256 cdcd");
}

/// Takes some bytes, then tears the connection.
async fn tear(request: Request) -> Response {
    let mut body = request.into_body();
    body.frame().await.unwrap().unwrap();
    panic!("this is how a handler tears its connection");
}

#[tokio::test]
async fn torn_connection_says_how_far_it_was() {
    let double = Double::coordinator(routes().route("/v1/repositories", put(tear))).await;
    let program = Program::of(&double);
    let path = program.file("release.zip", &vec![7; 64 << 20]);
    let run = program.run(&["repo", "upload", &path]).await.ended(1);
    run.says("error: the connection to the coordinator broke after ").says(" of 64 MiB were sent: ");
}

#[tokio::test]
async fn large_file_takes_no_more_memory_than_a_small_one() {
    const SIZE: u64 = 256 << 20;
    const RESIDENT_MAX_KIB: u64 = 48 * 1024;
    let (received, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (tell, wait) = (Arc::clone(&received), Arc::clone(&go_on));
    let upload = |request: Request| async move {
        let (_, sha256) = digest(request.into_body()).await;
        tell.notify_one();
        wait.notified().await;
        answer(&result(&sha256, &[]))
    };
    let routes = routes().route("/v1/repositories", put(upload).get(|| async { page(&[0; 0]) }));
    let double = Double::coordinator(routes).await;
    let program = Program::of(&double);
    let path = program.file("release.zip", b"");
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(SIZE).unwrap();
    let mut command = program.command(&["repo", "upload", &path]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    received.notified().await;
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id().unwrap())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak_kib: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    go_on.notify_one();
    Run::of(child.wait_with_output().await.unwrap()).ended(0);
    assert!(peak_kib < RESIDENT_MAX_KIB, "{peak_kib} KiB were resident at the peak");
}
