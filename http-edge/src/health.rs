//! `/healthz` (the process lives) and `/readyz` (it can do its work), both without a token and terse.

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use std::{collections::BTreeMap, fmt::Write, sync::Arc};
use tokio::sync::watch;

/// What must hold before a process is ready, each named. Cheap to clone; every clone speaks of the same process.
#[derive(Clone, Debug)]
pub struct Readiness {
    checks: Arc<watch::Sender<BTreeMap<&'static str, Result<(), String>>>>,
}

impl Readiness {
    /// Not ready until each of these has been reported well.
    #[must_use]
    pub fn waiting_for(names: &[&'static str]) -> Readiness {
        let checks = names.iter().map(|name| (*name, Err("not started".to_owned()))).collect();
        Readiness { checks: Arc::new(watch::Sender::new(checks)) }
    }

    /// Reports one check: well, or why not.
    pub fn report(&self, name: &'static str, state: Result<(), String>) {
        self.checks.send_modify(|checks| {
            checks.insert(name, state);
        });
    }

    /// `[+]name ok` or `[-]name reason`, a line each, and whether all are well.
    fn lines(&self) -> (bool, String) {
        let mut text = String::new();
        let mut ready = true;
        for (name, state) in self.checks.borrow().iter() {
            let line = match state {
                Ok(()) => writeln!(text, "[+]{name} ok"),
                Err(reason) => {
                    ready = false;
                    writeln!(text, "[-]{name} {reason}")
                }
            };
            line.expect("writing to a string succeeds");
        }
        (ready, text)
    }
}

/// The two routes.
pub fn routes(readiness: Readiness) -> Router {
    Router::new().route("/healthz", get(async || "ok\n")).route("/readyz", get(readyz)).with_state(readiness)
}

async fn readyz(State(readiness): State<Readiness>) -> Response {
    let (ready, text) = readiness.lines();
    if ready {
        return text.into_response();
    }
    let mut headers = HeaderMap::new();
    headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    (StatusCode::SERVICE_UNAVAILABLE, headers, text).into_response()
}
