//! The program among other programs: exit codes, streams, colour, contexts, completion.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod double;

use axum::{Router, routing::get};
use double::{Double, Program, Run, answer, page, routes, status};
use std::{fs, os::unix::fs::PermissionsExt, process::Stdio};

#[tokio::test]
async fn usage_errors_end_with_2_and_help_with_0() {
    let program = Program::new();
    program.run(&["no-such-command"]).await.ended(2).says("no-such-command");
    program.run(&["sled", "set-policy", "sled-a", "gone"]).await.ended(2).says("in_service");
    program.run(&["repo", "upload", "f.zip", "--wait-seconds", "3"]).await.ended(2).says("--wait");
    program.run(&["--help"]).await.ended(0).shows("Exit codes: 0 ok, 1 error, 2 usage, 6 degraded");
}

#[tokio::test]
async fn version_and_completion_need_neither_coordinator_nor_context_file() {
    let program = Program::new();
    let folder = program.folder().join(".config/sledctl");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("contexts.toml"), "nonsense").unwrap();
    program.run(&["version"]).await.ended(0).shows(env!("CARGO_PKG_VERSION"));
    for shell in ["bash", "zsh", "fish"] {
        program.run(&["completion", shell]).await.ended(0).shows("trust-root");
    }
}

#[tokio::test]
async fn unreachable_coordinator_is_named_with_the_origin_of_its_url() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let refused = |run: Run, origin: &str| {
        let run =
            run.ended(1).says(&format!("error: no answer from the coordinator at {url}: ")).says("refused");
        run.says(&format!("this URL comes from {origin}"));
    };
    let program = Program::new();
    refused(program.run(&["status", "--url", &url]).await, "--url");
    refused(Program::new().with("SLEDCTL_URL", &url).run(&["status"]).await, "SLEDCTL_URL");
    program.run(&["context", "set", "lab", "--url", &url]).await.ended(0);
    refused(program.run(&["status"]).await, "context \"lab\" in ");
}

#[tokio::test]
async fn unusable_url_is_refused_before_anything_is_sent() {
    let run = Program::new().run(&["status", "--url", "https://127.0.0.1:1"]).await;
    run.ended(1).says("only http:// is spoken so far").says("comes from --url");
}

#[tokio::test]
async fn colour_follows_flag_and_surroundings() {
    let double =
        Double::coordinator(Router::new().route("/v1/status", get(|| async { answer(&status(&["x"])) })))
            .await;
    let program = Program::of(&double);
    let piped = program.run(&["status"]).await.ended(6);
    assert!(!piped.stdout.contains('\u{1b}'), "a pipe got colour");
    let forced = program.run(&["status", "--color", "always"]).await.ended(6);
    assert!(forced.stdout.contains("\u{1b}[31m! sled_offline x"), "{}", forced.stdout);
    let never = program.run(&["status", "--color", "never"]).await.ended(6);
    assert_eq!(never.stdout, piped.stdout);
    let no_color = Program::of(&double).with("NO_COLOR", "1").run(&["status"]).await.ended(6);
    assert_eq!(no_color.stdout, piped.stdout);
}

#[tokio::test]
async fn reader_that_goes_away_is_no_error() {
    let double = Double::coordinator(routes()).await;
    let program = Program::of(&double);
    let mut child =
        program.command(&["status"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    Run::of(child.wait_with_output().await.unwrap()).ended(0).says("");
    let mut child = program
        .command(&["completion", "bash"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let run = Run::of(child.wait_with_output().await.unwrap()).ended(0);
    assert_eq!(run.stderr, "");
}

#[tokio::test]
async fn full_disk_does_not_pass_for_success() {
    let double = Double::coordinator(routes()).await;
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let program = Program::of(&double);
    let child = program.command(&["status"]).stdout(full).stderr(Stdio::piped()).spawn().unwrap();
    Run::of(child.wait_with_output().await.unwrap())
        .ended(1)
        .says("error: standard output could not be written: No space left");
}

#[tokio::test]
async fn data_goes_to_stdout_and_talk_to_stderr() {
    let double = Double::coordinator(Router::new().route("/v1/sleds", get(|| async { page(&[0; 0]) }))).await;
    let program = Program::of(&double);
    let run = program.run(&["sled", "list"]).await.ended(0).says("note: no sled has registered yet");
    assert_eq!(run.stdout, "SLED POLICY STATE ARTIFACTS M.2 SEEN REASON\n");
    let run = program.run(&["sled", "list", "--no-headers"]).await.ended(0);
    assert_eq!(run.stdout, "");
    let run = program.run(&["sled", "list", "-o", "json"]).await.ended(0);
    let json: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(json, serde_json::json!({"items": [], "next_page": null}));
    assert_eq!(run.stderr, "");
}

#[tokio::test]
async fn contexts_are_stored_listed_chosen_and_shown_without_their_tokens() {
    let double = Double::coordinator(routes()).await;
    let program = Program::new();
    program.run(&["context", "set", "lab"]).await.ended(2).says("--url URL is needed");
    program.run(&["context", "set", "lab", "--url", &double.url]).await.ended(0);
    program.run(&["status"]).await.ended(1).says("no token was sent to");

    let token_file = program.file("token", format!("{}\n", double::TOKEN).as_bytes());
    program.run(&["context", "set", "lab", "--token-file", &token_file]).await.ended(0);
    program.run(&["status"]).await.ended(0);
    program.run(&["context", "set", "other", "--url", "http://127.0.0.1:9"]).await.ended(0);
    program.run(&["context", "list"]).await.ended(0).shows("lab     *").shows("other");
    program
        .run(&["context", "use", "none"])
        .await
        .ended(1)
        .says("has no context \"none\"; it has: lab, other");
    program.run(&["context", "use", "other"]).await.ended(0);
    program.run(&["status", "--context", "lab"]).await.ended(0);
    program.run(&["context", "show", "lab"]).await.ended(0).shows(&token_file);
    let effective = program.run(&["context", "show"]).await.ended(0);
    effective.shows("http://127.0.0.1:9").shows("context \"other\" in ");
}

#[tokio::test]
async fn token_from_stdin_is_stored_but_never_shown() {
    use tokio::io::AsyncWriteExt;
    let double = Double::coordinator(routes()).await;
    let program = Program::new();
    let arguments = ["context", "set", "lab", "--token-stdin", "--url", &double.url];
    let mut child = program.command(&arguments).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(double::TOKEN.as_bytes()).await.unwrap();
    drop(stdin);
    assert!(child.wait().await.unwrap().success());
    program.run(&["status"]).await.ended(0);
    for arguments in
        [vec!["context", "list"], vec!["context", "show", "lab", "-o", "json"], vec!["context", "show"]]
    {
        let run = program.run(&arguments).await.ended(0);
        assert!(!run.stdout.contains(double::TOKEN), "the token is in:\n{}", run.stdout);
    }
}

#[tokio::test]
async fn context_file_with_an_unknown_key_is_refused_with_line_and_hint() {
    let program = Program::new();
    let folder = program.folder().join("xdg/sledctl");
    fs::create_dir_all(&folder).unwrap();
    let path = folder.join("contexts.toml");
    fs::write(&path, "current = \"lab\"\n[contexts.lab]\nurl = \"http://127.0.0.1:9\"\ntokn = \"x\"\n")
        .unwrap();
    let program = program.with("XDG_CONFIG_HOME", folder.parent().unwrap().as_str());
    program.run(&["status"]).await.ended(1).says("has mode 0644").says(&format!("hint: chmod 600 {path}"));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let run = program.run(&["status"]).await.ended(1);
    run.says(&format!("error: {path}:4:1: unknown field `tokn`"))
        .says("hint: known keys: current, contexts.NAME.url");
}
