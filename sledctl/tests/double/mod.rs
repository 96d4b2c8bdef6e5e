//! A coordinator for the command line's own tests: HTTP on a loopback port of its own, answering with API objects made
//! of the client's types. It decides nothing; what real servers do is tested elsewhere, end to end.

#![allow(dead_code, reason = "each test binary uses its part")]

use axum::{
    Router,
    extract::Request,
    http::{HeaderMap, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use camino::Utf8Path;
use camino_tempfile::Utf8TempDir;
use nexus_client::system::SystemStatus;
use problem::{Code, Problem};
use serde::Serialize;
use serde_json::json;
use std::{
    process::{Output, Stdio},
    sync::Arc,
};
use test_processes::Group;
use tokio::sync::Notify;
use tokio::{net::TcpListener, process::Command, task::JoinHandle};

/// The token that the double believes.
pub(crate) const TOKEN: &str = "test-token";

/// A server that runs until it is dropped.
pub(crate) struct Double {
    pub(crate) url: String,
    server: JoinHandle<()>,
}

impl Double {
    /// Serves the routes to whoever has the token.
    pub(crate) async fn coordinator(routes: Router) -> Double {
        Double::start(guarded(routes)).await
    }

    /// Serves the routes to everybody.
    pub(crate) async fn start(routes: Router) -> Double {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Double { url, server }
    }
}

impl Drop for Double {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// The routes, for whoever has the token.
pub(crate) fn guarded(routes: Router) -> Router {
    routes.layer(middleware::from_fn(believe_the_token))
}

async fn believe_the_token(headers: HeaderMap, request: Request, next: Next) -> Response {
    let expected = format!("Bearer {TOKEN}");
    if headers.get(header::AUTHORIZATION).is_some_and(|value| value == expected.as_str()) {
        return next.run(request).await;
    }
    refuse(Problem::new(Code::Unauthorized, "the token is not known"))
}

/// An API object as an answer.
pub(crate) fn answer(object: &impl Serialize) -> Response {
    axum::Json(serde_json::to_value(object).unwrap()).into_response()
}

/// One page with all items.
pub(crate) fn page(items: &impl Serialize) -> Response {
    answer(&json!({ "items": items, "next_page": null }))
}

/// A problem as an answer.
pub(crate) fn refuse(mut problem: Problem) -> Response {
    problem.request_id = "request-of-the-test".into();
    let status = StatusCode::from_u16(problem.status).unwrap();
    let body = serde_json::to_string(&problem).unwrap();
    (status, [(header::CONTENT_TYPE, problem::MEDIA_TYPE)], body).into_response()
}

/// Routes that every command may need.
pub(crate) fn routes() -> Router {
    Router::new().route("/v1/status", get(|| async { answer(&status(&[])) }))
}

/// A cluster with these sleds offline.
pub(crate) fn status(offline: &[&str]) -> SystemStatus {
    let issue = |sled: &&str| json!({"code": "sled_offline", "subject": sled, "detail": "no heartbeat", "hint": "wait for it"});
    let issues: Vec<_> = offline.iter().map(issue).collect();
    serde_json::from_value(json!({
        "cluster_id": "0191cccc-0000-7000-8000-000000000001",
        "coordinator": {
            "id": "0191dddd-0000-7000-8000-000000000001", "name": "nexus-1", "epoch": 7,
            "version": "0.1.0", "started_at": "2026-11-20T12:00:00Z",
        },
        "sleds_in_service": 4, "sleds_online": 4, "repositories": 1, "artifacts": 18, "artifacts_complete": 18,
        "sleds_complete": 4, "database_bytes": 4096, "staging_bytes": 0, "issues": issues,
    }))
    .unwrap()
}

/// The real program, with a home of its own and nothing else in its environment.
pub(crate) struct Program {
    pub(crate) home: Utf8TempDir,
    variables: Vec<(String, String)>,
}

impl Program {
    /// The program of somebody who has said nothing yet.
    pub(crate) fn new() -> Program {
        Program { home: camino_tempfile::tempdir().unwrap(), variables: Vec::new() }
    }

    /// The program of somebody who uses this coordinator.
    pub(crate) fn of(double: &Double) -> Program {
        Program::new().with("SLEDCTL_URL", &double.url).with("SLEDCTL_TOKEN", TOKEN)
    }

    /// Sets a variable.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Program {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A run of it that has not begun.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sledctl"));
        command.args(arguments).env_clear().env("HOME", self.home.path().as_str());
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.current_dir(self.home.path()).stdin(Stdio::null()).kill_on_drop(true);
        Group::of_this_process().add(command.as_std_mut());
        command
    }

    /// Runs it to its end.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Run {
        Run::of(self.command(arguments).output().await.unwrap())
    }

    /// A folder of the test's own.
    pub(crate) fn folder(&self) -> &Utf8Path {
        self.home.path()
    }

    /// A file of the test's own.
    pub(crate) fn file(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.home.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.into_string()
    }
}

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Sends Ctrl-C once this is notified; gives back the run.
pub(crate) async fn interrupted(program: &Program, arguments: &[&str], after: &Notify) -> Run {
    let mut command = program.command(arguments);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    after.notified().await;
    let process = rustix::process::Pid::from_raw(child.id().unwrap().cast_signed()).unwrap();
    rustix::process::kill_process(process, rustix::process::Signal::INT).unwrap();
    Run::of(child.wait_with_output().await.unwrap())
}

/// A handler that notifies, and never answers.
pub(crate) async fn never(asked: Arc<Notify>) -> Response {
    asked.notify_one();
    std::future::pending().await
}

impl Run {
    pub(crate) fn of(output: Output) -> Run {
        Run {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Asserts the exit code and gives the run back.
    #[track_caller]
    pub(crate) fn ended(self, code: i32) -> Run {
        assert_eq!(self.code, Some(code), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// Asserts that standard error says this.
    #[track_caller]
    pub(crate) fn says(self, words: &str) -> Run {
        assert!(self.stderr.contains(words), "{words:?} is not in stderr:\n{}", self.stderr);
        self
    }

    /// Asserts that standard output shows this.
    #[track_caller]
    pub(crate) fn shows(self, words: &str) -> Run {
        assert!(self.stdout.contains(words), "{words:?} is not in stdout:\n{}", self.stdout);
        self
    }
}
