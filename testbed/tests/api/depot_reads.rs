//! Public reads of artifacts by hash.

use crate::{
    call::{Api, Reply},
    stage::{LIMIT, Stage, toml},
};
use futures::{StreamExt, stream::FuturesUnordered};
use reqwest::{
    Method,
    header::{HeaderMap, IF_NONE_MATCH, IF_RANGE, RANGE},
};
use sample_release::SampleRelease;
use sha2::{Digest, Sha256};
use std::sync::Arc;
use tokio::time::timeout;

/// A sled's depot, and an artifact that is on it: its path, its hash, its bytes.
struct Held {
    /// Keeps the sled there.
    _stage: Arc<Stage>,
    depot: Api,
    path: String,
    hash: String,
    bytes: Vec<u8>,
}

async fn held() -> Held {
    let stage = Stage::shared().await;
    let depot = stage.depot().await;
    let artifacts = stage.operator.get("/v1/artifacts").await.ok();
    let hash = artifacts["items"][0]["hash"].as_str().expect("a hash").to_owned();
    let path = format!("/artifact/sha256/{hash}");
    let bytes = depot.get(&path).await.body;
    assert_eq!(ids::ArtifactHash(Sha256::digest(&bytes).into()).to_string(), hash);
    Held { _stage: stage, depot, path, hash, bytes }
}

impl Held {
    async fn read(&self, method: Method, headers: &[(reqwest::header::HeaderName, &str)]) -> Reply {
        let headers =
            headers.iter().map(|(name, value)| (name.clone(), value.parse().expect("a header value")));
        self.depot.call_with(method, &self.path, HeaderMap::from_iter(headers), "").await
    }

    fn etag(&self) -> String {
        format!("\"{}\"", self.hash)
    }
}

/// Bytes from base64 with padding.
fn from_base64(text: &str) -> Vec<u8> {
    const DIGITS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digit = |digit| u32::try_from(DIGITS.find(digit).expect("a digit")).expect("six bits");
    let digits: Vec<u32> = text.trim_end_matches('=').chars().map(digit).collect();
    let mut bytes = Vec::new();
    for group in digits.chunks(4) {
        let word = group.iter().fold(0, |word, digit| word << 6 | digit) << (6 * (4 - group.len()));
        bytes.extend_from_slice(&word.to_be_bytes()[1..group.len()]);
    }
    bytes
}

#[tokio::test]
async fn a_whole_artifact_comes_with_all_that_a_cache_or_a_proxy_needs() {
    let held = held().await;
    let (get, head) = (held.read(Method::GET, &[]).await, held.read(Method::HEAD, &[]).await);
    for reply in [&get, &head] {
        assert_eq!(reply.status, 200);
        assert_eq!(reply.header("content-length"), Some(held.bytes.len().to_string().as_str()));
        assert_eq!(reply.header("content-type"), Some("application/octet-stream"));
        assert_eq!(reply.header("etag"), Some(held.etag().as_str()));
        assert_eq!(reply.header("accept-ranges"), Some("bytes"));
        assert!(reply.header("cache-control").unwrap().split(", ").any(|word| word == "immutable"));
        let digest = reply.header("repr-digest").and_then(|text| text.strip_prefix("sha-256=:")).unwrap();
        assert_eq!(from_base64(digest.strip_suffix(':').unwrap()), Sha256::digest(&held.bytes).to_vec());
    }
    assert!(get.body == held.bytes && head.body.is_empty());
}

#[tokio::test]
async fn ranges_are_served_as_they_are_asked_for() {
    let held = held().await;
    let size = held.bytes.len();
    for (range, part) in [
        ("bytes=0-0".to_owned(), 0..1),
        ("bytes=10-19".to_owned(), 10..20),
        (format!("bytes={}-", size - 5), size - 5..size),
        ("bytes=-5".to_owned(), size - 5..size),
        (format!("bytes=10-{}", size * 2), 10..size),
    ] {
        let reply = held.read(Method::GET, &[(RANGE, &range)]).await;
        assert_eq!(reply.status, 206, "{range}");
        let shown = format!("bytes {}-{}/{size}", part.start, part.end - 1);
        assert_eq!(reply.header("content-range"), Some(shown.as_str()), "{range}");
        assert_eq!(reply.header("content-length"), Some(part.len().to_string().as_str()), "{range}");
        assert!(reply.body == held.bytes[part], "{range}");
        // The digest is the whole artifact's, whatever part of it comes.
        assert!(
            reply.header("repr-digest").is_some() && reply.header("etag") == Some(&held.etag()),
            "{range}"
        );
    }
    for range in ["bytes=5-1", "bytes=0-1,4-5", "lines=1-2", "bytes=x-", &format!("bytes=0-{}", size - 1)] {
        let reply = held.read(Method::GET, &[(RANGE, range)]).await;
        assert!(reply.status == 200 && reply.body == held.bytes, "{range}");
    }
}

#[tokio::test]
async fn ranges_outside_the_artifact_are_refused_with_its_length() {
    let held = held().await;
    let size = held.bytes.len();
    for range in [format!("bytes={size}-"), format!("bytes={}-{}", size + 1, size + 2), "bytes=-0".to_owned()]
    {
        let reply = held.read(Method::GET, &[(RANGE, &range)]).await;
        assert_eq!(reply.refusal(), (416, "range_not_satisfiable".to_owned()), "{range}");
        assert_eq!(reply.header("content-range"), Some(format!("bytes */{size}").as_str()), "{range}");
    }
}

#[tokio::test]
async fn a_range_of_another_artifact_is_answered_with_the_whole() {
    let held = held().await;
    let etag = held.etag();
    for (if_range, status) in [(etag.as_str(), 206), ("\"other\"", 200), (&format!("W/{etag}"), 200)] {
        let reply = held.read(Method::GET, &[(RANGE, "bytes=1-2"), (IF_RANGE, if_range)]).await;
        assert_eq!(reply.status, status, "{if_range}");
    }
}

#[tokio::test]
async fn ranges_are_for_get_only() {
    let held = held().await;
    for range in ["bytes=1-2", "bytes=99999999-"] {
        let head = held.read(Method::HEAD, &[(RANGE, range)]).await;
        assert_eq!(head.status, 200, "{range}");
        assert_eq!(head.header("content-length"), Some(held.bytes.len().to_string().as_str()), "{range}");
        assert_eq!(head.header("content-range"), None, "{range}");
    }
}

#[tokio::test]
async fn who_has_it_already_is_not_sent_it_again() {
    let held = held().await;
    let etag = held.etag();
    for method in [Method::GET, Method::HEAD] {
        for tags in [etag.clone(), format!("W/{etag}"), format!("\"other\", {etag}"), "*".to_owned()] {
            let reply = held.read(method.clone(), &[(IF_NONE_MATCH, &tags), (RANGE, "bytes=1-2")]).await;
            assert_eq!(reply.status, 304, "{method} {tags}");
            assert!(reply.body.is_empty() && reply.header("etag") == Some(&etag), "{method} {tags}");
            assert!(reply.header("cache-control").is_some(), "{method} {tags}");
        }
        assert_eq!(held.read(method, &[(IF_NONE_MATCH, "\"other\"")]).await.status, 200);
    }
}

#[tokio::test]
async fn what_is_not_held_and_what_is_no_hash_are_told_apart() {
    let stage = Stage::shared().await;
    let depot = stage.depot().await;
    let unknown = format!("/artifact/sha256/{}", "00".repeat(32));
    assert_eq!(depot.get(&unknown).await.refusal(), (404, "artifact_not_found".to_owned()));
    assert_eq!(depot.call(Method::HEAD, &unknown, "").await.status, 404);
    for bad in ["abc", &"0".repeat(63), &"0".repeat(65), &"zz".repeat(32), "..%2f..%2fetc%2fpasswd"] {
        let reply = depot.get(&format!("/artifact/sha256/{bad}")).await;
        assert_eq!(reply.refusal(), (400, "bad_request".to_owned()), "{bad}");
    }
}

#[tokio::test]
async fn one_read_too_many_is_told_when_to_come_back_and_disturbs_nobody() {
    let stage =
        Stage::with(|builder| builder.sleds(1).agent_config(toml("depot.max_concurrent_reads = 2"))).await;
    let release = stage.make(&SampleRelease::small("1.0.0"));
    assert_eq!(stage.upload(&release, "").await.status, 201);
    stage.cluster.wait_replicated(&mut |_| {}).await.expect("the release reaches the sled");
    let depot = stage.depot().await;
    let artifacts = stage.operator.get("/v1/artifacts").await.ok();
    let path = format!("/artifact/sha256/{}", artifacts["items"][0]["hash"].as_str().expect("a hash"));
    let faults = stage.cluster.fault_client("sled-a").expect("the process is known");
    faults.hold("depot.piece", 0).await.expect("the process takes the hold");
    let mut reads: FuturesUnordered<_> = (0..10).map(|_| depot.get(&path)).collect();
    for _ in 0..8 {
        let refused = timeout(LIMIT, reads.next()).await.expect("it is answered").expect("a read");
        assert_eq!(refused.status, 429);
        assert_eq!(refused.json::<serde_json::Value>()["code"], "too_many_requests");
        assert!(refused.headers.contains_key("retry-after"));
    }
    assert_eq!(depot.call(Method::HEAD, &path, "").await.status, 200, "a look costs nothing");
    faults.release("depot.piece").await.expect("the hold was set");
    for _ in 0..2 {
        assert_eq!(timeout(LIMIT, reads.next()).await.expect("it goes on").expect("a read").status, 200);
    }
    assert_eq!(depot.get(&path).await.status, 200, "the places are free again");
}
