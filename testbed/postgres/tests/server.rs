//! What a server promises: it is there when it is asked for, and gone with its owner.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::process::{Command, Stdio};
use test_postgres::{Programs, Server, Standing, fresh_database};

/// Makes this test's program the owner that is killed.
const OWNER: &str = "BOBSLED_TEST_POSTGRES_OWNER";

fn is_running(directory: &camino::Utf8Path) -> bool {
    let pid = std::fs::read_to_string(directory.join("data/postmaster.pid")).unwrap_or_default();
    let pid = pid.lines().next().unwrap_or_default();
    !pid.is_empty() && std::path::Path::new("/proc").join(pid).exists()
}

#[test]
fn two_tests_have_two_databases() {
    let Some(one) = fresh_database().unwrap() else { return };
    let two = fresh_database().unwrap().unwrap();
    assert_ne!(one.url, two.url);
    assert!(one.password_file.is_file());
}

#[test]
fn a_standing_server_goes_on_with_what_it_had() {
    if Programs::find().is_none() {
        return;
    }
    let dir = camino_tempfile::tempdir().unwrap();
    set_mode(dir.path(), 0o755);
    let directory = dir.path().join("postgres");
    let server = Standing::at(&directory);
    server.end(false).unwrap();
    let mut urls = Vec::new();
    for at_once in [false, true] {
        server.start().unwrap();
        urls.push(server.database("kept").unwrap());
        assert!(is_running(&directory));
        Standing::at(&directory).end(at_once).unwrap();
        assert!(!is_running(&directory));
    }
    assert_eq!(urls[0], urls[1], "it is found where it was");
}

#[test]
fn a_directory_out_of_reach_is_named() {
    if Programs::find().is_none() || !rustix::process::geteuid().is_root() {
        return;
    }
    let dir = camino_tempfile::tempdir().unwrap();
    set_mode(dir.path(), 0o700);
    let refused = Standing::at(&dir.path().join("postgres")).start().unwrap_err().to_string();
    assert!(refused.contains(dir.path().as_str()), "{refused}");
}

#[test]
fn a_killed_owner_takes_its_server_with_it() {
    if Programs::find().is_none() {
        return;
    }
    if let Ok(directory) = std::env::var(OWNER) {
        let _server = Server::start(camino::Utf8Path::new(&directory)).unwrap();
        println!("started");
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).unwrap();
        unreachable!("it is killed");
    }
    let dir = camino_tempfile::tempdir().unwrap();
    set_mode(dir.path(), 0o755);
    let directory = dir.path().join("postgres");
    let mut owner = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_killed_owner_takes_its_server_with_it", "--nocapture"])
        .env(OWNER, &directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = std::io::BufRead::lines(std::io::BufReader::new(owner.stdout.take().unwrap()));
    assert!(lines.map_while(Result::ok).any(|line| line.contains("started")));
    assert!(is_running(&directory));
    owner.kill().unwrap();
    owner.wait().unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while directory.exists() {
        assert!(std::time::Instant::now() < deadline, "the server outlives its owner");
        std::thread::yield_now();
    }
}

/// Says whether the server's user may pass.
fn set_mode(directory: &camino::Utf8Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(directory, std::fs::Permissions::from_mode(mode)).unwrap();
}
