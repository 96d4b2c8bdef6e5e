//! A small API behind the edge, on a port of its own.

use crate::wire::{Answer, Wire};
use axum::{
    Extension, Router,
    body::{Body, Bytes},
    extract::{Request, State},
    routing::{get, post, put},
};
use futures::stream;
use http_edge::{
    ApiError, ApiJson, ApiPath, ApiQuery, Edge, Metrics, PeerAddress, Readiness, Role, Server, ServerOptions,
    TokenTable, body::BoundedBody,
};
use problem::Code;
use serde::{Deserialize, Serialize};
use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    sync::{Notify, watch},
    task::JoinHandle,
};

/// Bytes that `PUT /bytes` takes.
pub(crate) const BYTES_MAX: u64 = 1024;

/// How long the sender of `PUT /bytes` may be silent.
const IDLE_LIMIT: Duration = Duration::from_millis(200);

/// The header of an operator, who may do all.
pub(crate) const OPERATOR: &str = "authorization: Bearer operator-token-0001\r\n";
/// The header of a sled, whom this API lets in.
pub(crate) const SLED: &str = "authorization: Bearer sled-token-00000001\r\n";
/// The header of a coordinator, whom this API does not let in.
pub(crate) const COORDINATOR: &str = "authorization: Bearer coordinator-token-1\r\n";

/// A server that runs.
pub(crate) struct Served {
    pub(crate) address: SocketAddr,
    pub(crate) readiness: Readiness,
    /// Lets `GET /slow` answer.
    pub(crate) gate: Arc<Gate>,
    pub(crate) stop: watch::Sender<bool>,
    pub(crate) running: JoinHandle<()>,
}

/// Where `GET /slow` says that it has begun, and waits.
#[derive(Default)]
pub(crate) struct Gate {
    pub(crate) entered: Notify,
    pub(crate) opened: Notify,
    /// Told when the answer to `GET /endless` is given up.
    pub(crate) given_up: Notify,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Thing {
    id: u32,
}

#[derive(Deserialize)]
struct Wait {
    #[serde(default)]
    wait_ms: u64,
}

impl Served {
    pub(crate) async fn start() -> Served {
        Served::with(ServerOptions::default()).await
    }

    pub(crate) async fn with(options: ServerOptions) -> Served {
        let server = Server::bind(([127, 0, 0, 1], 0).into()).await.expect("a port is free");
        let address = server.local_address();
        let readiness = Readiness::waiting_for(&["disk"]);
        let gate = Arc::new(Gate::default());
        let tokens = TokenTable::default()
            .with("operator-token-0001", Role::Operator)
            .with("sled-token-00000001", Role::Sled)
            .with("coordinator-token-1", Role::Coordinator);
        let edge = Edge {
            api: "test",
            tokens: Some(Arc::new(tokens)),
            allowed: &[Role::Sled],
            readiness: readiness.clone(),
            metrics: Metrics::new("tested", "1.2.3"),
        };
        let document = utoipa::openapi::OpenApiBuilder::new().build();
        let router = edge.around(calls(Arc::clone(&gate)), &document);
        let (stop, stopped) = watch::channel(false);
        let running = tokio::spawn(server.run(router, options, stopped));
        Served { address, readiness, gate, stop, running }
    }

    pub(crate) async fn wire(&self) -> Wire {
        Wire::connect(self.address).await
    }

    /// One request without a body, as an operator, on a connection of its own.
    pub(crate) async fn ask(&self, method: &str, path: &str) -> Answer {
        self.wire().await.ask(method, path, OPERATOR).await
    }
}

fn calls(gate: Arc<Gate>) -> Router {
    Router::new()
        .route("/things/{id}", get(thing))
        .route("/things", post(make))
        .route("/bytes", put(count))
        .route("/never", put(refuse))
        .route("/slow", get(slow))
        .route("/defect", get(defect))
        .route("/whence", get(whence))
        .route("/endless", get(endless))
        .with_state(gate)
}

async fn thing(
    ApiPath(id): ApiPath<u32>,
    ApiQuery(query): ApiQuery<Wait>,
) -> Result<ApiJson<Thing>, ApiError> {
    match id {
        _ if query.wait_ms > 0 => {
            Err(problem::Problem::new(Code::Unavailable, "not now").with_retry_after(7).into())
        }
        0 => Err(ApiError::new(Code::NotFound, "there is no thing 0")),
        id => Ok(ApiJson(Thing { id })),
    }
}

async fn make(ApiJson(thing): ApiJson<Thing>) -> ApiJson<Thing> {
    ApiJson(thing)
}

async fn count(request: Request) -> Result<String, ApiError> {
    let body = BoundedBody::new(request.into_body(), BYTES_MAX, IDLE_LIMIT)?;
    Ok(body.read_to_end().await?.len().to_string())
}

/// Turns the body away early, and answers when others have had their turn.
async fn refuse(request: Request) -> ApiError {
    drop(request);
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    ApiError::new(Code::VersionConflict, "never, whatever you send")
}

async fn defect() -> String {
    panic!("a secret that nobody outside may read")
}

/// Tells the caller where it calls from.
async fn whence(Extension(PeerAddress(address)): Extension<PeerAddress>) -> String {
    address.to_string()
}

async fn slow(State(gate): State<Arc<Gate>>) -> &'static str {
    gate.entered.notify_one();
    gate.opened.notified().await;
    "done"
}

/// Answers without an end, until nobody takes it any more.
async fn endless(State(gate): State<Arc<Gate>>) -> Body {
    struct GivenUp(Arc<Gate>);
    impl Drop for GivenUp {
        fn drop(&mut self) {
            self.0.given_up.notify_one();
        }
    }
    let piece = Bytes::from(vec![0; 64 * 1024]);
    Body::from_stream(stream::unfold(GivenUp(gate), move |held| {
        let piece = piece.clone();
        async move { Some((Ok::<_, Infallible>(piece), held)) }
    }))
}
