//! `/metrics` in the Prometheus text format, and what every API measures of its requests.
//!
//! Names: prefix `bobsled_`, base units, labels of few values that no caller chooses (the route's pattern, never its
//! parameters).

use axum::{
    Router,
    extract::{MatchedPath, Request, State},
    http::{Method, header},
    middleware::Next,
    response::{IntoResponse, Response},
    routing::get,
};
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{family::Family, histogram::Histogram, info::Info},
    registry::{Registry, Unit},
};
use std::{
    fmt,
    sync::{Arc, Mutex},
    time::Instant,
};

/// The media type of the metrics' text.
pub(crate) const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Bounds of the latency histogram, in seconds: from a heartbeat to a bulk upload.
const LATENCY_BOUNDS: [f64; 9] = [0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10.0, 60.0, 600.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    api: &'static str,
    method: &'static str,
    route: String,
    status: u16,
}

/// The method as a label. Any word may be sent as a method, and each would become a series that is kept for good.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::PUT => "PUT",
        Method::POST => "POST",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

/// One process's metrics. Cheap to clone; every clone speaks of the same registry.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
    requests: Family<RequestLabels, Histogram, fn() -> Histogram>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    /// A registry with the request histogram and `bobsled_build_info`.
    #[must_use]
    pub fn new(program: &'static str, version: &'static str) -> Metrics {
        let mut registry = Registry::with_prefix("bobsled");
        let requests: Family<RequestLabels, Histogram, fn() -> Histogram> =
            Family::new_with_constructor(|| Histogram::new(LATENCY_BOUNDS));
        registry.register_with_unit(
            "http_request_duration",
            "Time from the request's head to the answer's head",
            Unit::Seconds,
            requests.clone(),
        );
        let build = Info::new([("program", program), ("version", version)]);
        registry.register("build", "The program and its version", build);
        Metrics { registry: Arc::new(Mutex::new(registry)), requests }
    }

    /// Adds metrics of the caller's own.
    pub fn register(&self, add: impl FnOnce(&mut Registry)) {
        add(&mut self.registry.lock().expect("no metric panics while it is registered"));
    }

    fn text(&self) -> String {
        let mut text = String::new();
        let registry = self.registry.lock().expect("no metric panics while it is read");
        encode(&mut text, &registry).expect("writing to a string succeeds");
        text
    }
}

/// The route.
pub fn routes(metrics: Metrics) -> Router {
    Router::new().route("/metrics", get(serve_text)).with_state(metrics)
}

async fn serve_text(State(metrics): State<Metrics>) -> Response {
    ([(header::CONTENT_TYPE, MEDIA_TYPE)], metrics.text()).into_response()
}

/// Where a layer puts its measurements.
#[derive(Clone, Debug)]
pub(crate) struct Meter {
    pub(crate) metrics: Metrics,
    pub(crate) api: &'static str,
}

/// Measures one request.
pub(crate) async fn measure(State(meter): State<Meter>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let method = method_label(request.method());
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| "none".to_owned(), |path| path.as_str().to_owned());
    let response = next.run(request).await;
    let labels = RequestLabels { api: meter.api, method, route, status: response.status().as_u16() };
    meter.metrics.requests.get_or_create(&labels).observe(started.elapsed().as_secs_f64());
    response
}
