//! `/metrics` of every process: text that any OpenMetrics reader takes, and counts by route.

use crate::{
    call::Api,
    stage::{LIMIT, Stage},
};
use std::collections::BTreeMap;

/// One line of the text: its name, its labels, its value.
#[derive(Debug)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

/// Reads the text as the OpenMetrics specification says (1.0, without exemplars), and fails where it breaks a rule.
fn parse(text: &str) -> Vec<Sample> {
    let body = text.strip_suffix("# EOF\n").expect("the text ends with # EOF");
    let mut families: BTreeMap<&str, &str> = BTreeMap::new();
    let mut current = "";
    let mut samples = Vec::new();
    for line in body.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            let mut words = comment.splitn(3, ' ');
            let (kind, family) = (words.next().expect("a kind"), words.next().expect("a family"));
            let rest = words.next().unwrap_or_default();
            assert!(["HELP", "TYPE", "UNIT"].contains(&kind), "{line}");
            check_name(family);
            match kind {
                "TYPE" => assert!(families.insert(family, rest).is_none(), "{family} has two types"),
                "UNIT" => assert!(family.ends_with(&format!("_{rest}")), "{line}"),
                _ => assert!(rest.ends_with('.'), "{line} is no sentence"),
            }
            current = family;
            continue;
        }
        let sample = parse_sample(line);
        let kind = families.get(current).unwrap_or_else(|| panic!("{line} has no type before it"));
        let suffixes: &[&str] = match *kind {
            "counter" => &["_total"],
            "gauge" => &[""],
            "info" => &["_info"],
            "histogram" => &["_bucket", "_sum", "_count"],
            other => panic!("{current} is of the type {other}"),
        };
        let fits = suffixes.iter().any(|suffix| sample.name == format!("{current}{suffix}"));
        assert!(fits, "{line} does not belong to the {kind} {current}");
        samples.push(sample);
    }
    samples
}

fn check_name(name: &str) {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    assert!(name.starts_with("bobsled_") && name.chars().all(plain), "{name:?} is no name of ours");
}

fn parse_sample(line: &str) -> Sample {
    let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line:?} has no value"));
    let value = value.parse().unwrap_or_else(|_| panic!("{line:?} has no number"));
    let (name, labels) = match series.split_once('{') {
        None => (series, BTreeMap::new()),
        Some((name, labels)) => (name, parse_labels(labels.strip_suffix('}').expect("a closing brace"))),
    };
    check_name(name);
    Sample { name: name.to_owned(), labels, value }
}

/// Labels have no escapes here: their values are routes, numbers and words of our own.
fn parse_labels(text: &str) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    for label in text.split("\",") {
        let (name, value) = label.split_once("=\"").unwrap_or_else(|| panic!("{label:?} is no label"));
        let value = value.trim_end_matches('"');
        assert!(!value.contains(['"', '\\', '\n']), "{label:?} needs a reader of escapes");
        assert!(labels.insert(name.to_owned(), value.to_owned()).is_none(), "{text} has {name} twice");
    }
    labels
}

async fn read(api: &Api) -> Vec<Sample> {
    let reply = api.get("/metrics").await;
    assert_eq!(
        reply.header("content-type"),
        Some("application/openmetrics-text; version=1.0.0; charset=utf-8")
    );
    parse(std::str::from_utf8(&reply.body).expect("metrics are text"))
}

/// How often a route was answered with a status.
fn count(samples: &[Sample], api: &str, route: &str, status: &str) -> f64 {
    let of = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let wanted =
        BTreeMap::from([of("api", api), of("method", "GET"), of("route", route), of("status", status)]);
    let name = "bobsled_http_request_duration_seconds_count";
    let found = samples.iter().find(|sample| sample.name == name && sample.labels == wanted);
    found.map_or(0.0, |sample| sample.value)
}

#[tokio::test]
async fn metrics_of_every_api_are_read_by_the_rules_and_say_what_runs() {
    let stage = Stage::shared().await;
    let programs = [
        (stage.operator.clone(), "nexus"),
        (stage.internal.clone(), "nexus"),
        (stage.sled().await, "sled-agent"),
        (stage.depot().await, "sled-agent"),
    ];
    for (api, program) in programs {
        let samples = read(&api).await;
        let build = samples.iter().find(|sample| sample.name == "bobsled_build_info").expect("a build");
        assert_eq!(build.labels["program"], program);
        assert_eq!(build.value, 1.0);
    }
}

#[tokio::test]
async fn the_coordinator_counts_its_passes_and_shows_each_m2() {
    let stage = Stage::shared().await;
    let look = async || {
        let samples = read(&stage.operator).await;
        let value = |name: &str, label: (&str, &str)| {
            let fits = |sample: &&Sample| {
                sample.name == name && sample.labels.get(label.0).is_some_and(|value| value == label.1)
            };
            samples.iter().find(fits).map(|sample| sample.value)
        };
        let healthy = ["m2-0", "m2-1"].map(|m2| value("bobsled_m2_healthy", ("m2", m2)));
        let passes = value("bobsled_background_task_passes_total", ("result", "succeeded"));
        let seconds = value("bobsled_background_task_last_pass_seconds", ("task", "artifact_replication"));
        let task = ("task", "artifact_replication");
        let counted = value("bobsled_background_task_pass_duration_seconds_count", task);
        let success = value("bobsled_background_task_last_success_timestamp_seconds", task);
        let running = value("bobsled_background_task_running", task);
        let told = healthy == [Some(1.0); 2]
            && passes.is_some_and(|it| it >= 1.0)
            && counted >= passes
            && success.is_some_and(|it| it > 1.7e9)
            && running.is_some_and(|it| it <= 1.0)
            && seconds.is_some();
        if told { Ok(()) } else { Err(format!("{samples:?}")) }
    };
    testbed::wait_for("the metrics to show both M.2s", LIMIT, look).await.expect("they do");
}

#[tokio::test]
async fn requests_are_counted_by_route_never_by_id() {
    let stage = Stage::shared().await;
    let depot = stage.depot().await;
    let hash = "ab".repeat(32);
    let route = "/artifact/sha256/{hash}";
    let before = count(&read(&depot).await, "depot", route, "404");
    for _ in 0..3 {
        assert_eq!(depot.get(&format!("/artifact/sha256/{hash}")).await.status, 404);
    }
    let reply = depot.get("/metrics").await;
    let text = String::from_utf8(reply.body).expect("metrics are text");
    assert!(!text.contains(&hash), "a hash became a label");
    // Other tests may read the same depot at the same time.
    assert!(count(&parse(&text), "depot", route, "404") >= before + 3.0);
}

#[tokio::test]
async fn latencies_add_up() {
    let stage = Stage::shared().await;
    stage.operator.get("/v1/status").await;
    let samples = read(&stage.operator).await;
    let buckets: Vec<&Sample> = samples
        .iter()
        .filter(|sample| {
            sample.name.ends_with("_bucket") && sample.labels.get("route").is_some_and(|r| r == "/v1/status")
        })
        .filter(|sample| sample.labels["status"] == "200" && sample.labels["method"] == "GET")
        .collect();
    assert!(buckets.windows(2).all(|pair| pair[0].value <= pair[1].value), "{buckets:?}");
    let last = buckets.last().expect("the call was measured");
    assert_eq!(last.labels["le"], "+Inf");
    assert_eq!(last.value, count(&samples, "operator", "/v1/status", "200"));
}
