//! The repo depot: public reads of artifacts by hash.
//!
//! A whole artifact is hashed while it is sent, and its last bytes are held back until the digest is right: a copy
//! that has rotted ends in a broken connection, never in a whole body with a success status. Parts are sent as they
//! are; whoever puts them together hashes the whole.
//!
//! Reads at once are bounded ([`read_slots`](super::read_slots)): each holds memory and, for each piece, a thread of a
//! disk. One too many is told so at once (429) and tries again, or asks another sled, rather than to slow down all others.
//!
//! What a hash stands for never changes, so who has it needs no second look at it: `If-None-Match` is answered 304.

use crate::http::{
    Context, problems,
    read_slots::{NoSlot, ReadSlot},
};
use artifact_store::StoreError;
use axum::{
    Extension,
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use futures::{StreamExt, stream};
use http_edge::{
    ApiError, ApiPath, PeerAddress,
    document::{self, Access},
};
use ids::ArtifactHash;
use problem::{Code, Problem};
use std::ops::Range;
use utoipa::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};

/// Seconds after which a reader that was one too many may try again: artifacts take seconds, not minutes.
const READ_RETRY_SECONDS: u32 = 2;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Bobsled sled agent, repo depot",
        description = "Public reads of artifacts by hash. What is read is to be hashed by whoever reads it."
    ),
    // Only the schemas of bodies are found; this one is of a path.
    components(schemas(ArtifactHash))
)]
struct Document;

/// The calls of this API.
pub fn router() -> OpenApiRouter<Context> {
    let mut router = OpenApiRouter::with_openapi(Document::openapi()).routes(routes!(get, head));
    document::complete(router.get_openapi_mut(), Access::Open);
    router
}

/// Reads an artifact, or one range of it.
#[utoipa::path(
    get, path = "/artifact/sha256/{hash}", operation_id = "artifact_read",
    params(("hash" = ArtifactHash, Path)),
    responses(
        (status = 200, content_type = "application/octet-stream", body = Vec<u8>),
        (status = 206, content_type = "application/octet-stream", body = Vec<u8>),
        (status = 304), (status = 404, body = Problem), (status = 416, body = Problem),
        (status = 429, body = Problem)
    )
)]
async fn get(
    State(context): State<Context>,
    Extension(peer): Extension<PeerAddress>,
    ApiPath(hash): ApiPath<ArtifactHash>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    serve(&context, peer, hash, &method, &headers)
}

/// What a read would answer, without the bytes.
#[utoipa::path(
    head, path = "/artifact/sha256/{hash}", operation_id = "artifact_head",
    params(("hash" = ArtifactHash, Path)),
    responses((status = 200), (status = 304), (status = 404))
)]
async fn head(
    State(context): State<Context>,
    Extension(peer): Extension<PeerAddress>,
    ApiPath(hash): ApiPath<ArtifactHash>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    serve(&context, peer, hash, &method, &headers)
}

fn serve(
    context: &Context,
    peer: PeerAddress,
    hash: ArtifactHash,
    method: &Method,
    headers: &HeaderMap,
) -> Result<Response, ApiError> {
    let of_store = |error: StoreError| problems::of_store(&error);
    let size = context
        .store
        .artifact_size(&hash)
        .ok_or_else(|| problems::of_store(&StoreError::ArtifactNotFound { hash }))?;
    if has_it_already(headers, &hash) {
        let mut response = StatusCode::NOT_MODIFIED.into_response();
        describe(response.headers_mut(), &hash);
        return Ok(response);
    }
    // Ranges are defined for GET only (RFC 9110 §14.2).
    let asked = if method == Method::GET { asked_range(headers, &hash, size) } else { Asked::Whole };
    let range = match asked {
        Asked::Whole => None,
        Asked::Part(range) => Some(range),
        Asked::Outside => return Ok(outside(hash, size)),
    };
    let mut response = match &range {
        _ if method == Method::HEAD => Response::new(Body::empty()),
        None => {
            let slot = read_slot(context, peer)?;
            let whole = context.store.open_artifact(hash).map_err(of_store)?;
            Response::new(body_of(whole.into_stream(), slot))
        }
        Some(range) => {
            let slot = read_slot(context, peer)?;
            let part = context.store.read_range(hash, range.clone()).map_err(of_store)?;
            Response::new(body_of(part.into_stream(), slot))
        }
    };
    let length = range.as_ref().map_or(size, |range| range.end - range.start);
    let headers = response.headers_mut();
    describe(headers, &hash);
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    if let Some(range) = range {
        let shown = format!("bytes {}-{}/{size}", range.start, range.end - 1);
        headers.insert(header::CONTENT_RANGE, value(&shown));
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    Ok(response)
}

/// What is true of an artifact whether or not its bytes come along.
fn describe(headers: &mut HeaderMap, hash: &ArtifactHash) {
    headers.insert(header::ETAG, value(&format!("\"{hash}\"")));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=31536000, immutable"));
    headers.insert("repr-digest", value(&format!("sha-256=:{}:", base64(&hash.0))));
}

/// Reads `If-None-Match` (RFC 9110 §13.1.2): a list of entity tags, compared weakly, or `*` for any.
fn has_it_already(headers: &HeaderMap, hash: &ArtifactHash) -> bool {
    let ours = format!("\"{hash}\"");
    let lists = headers.get_all(header::IF_NONE_MATCH).into_iter().filter_map(|value| value.to_str().ok());
    lists.flat_map(|list| list.split(',')).any(|tag| {
        let tag = tag.trim();
        tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == ours
    })
}

/// The right to one read, held until its last byte was handed on or its reader is gone.
fn read_slot(context: &Context, PeerAddress(address): PeerAddress) -> Result<ReadSlot, ApiError> {
    context.depot_reads.take(address).map_err(|refusal| {
        let detail = match refusal {
            NoSlot::Full(max) => format!("this depot serves {max} reads at once"),
            NoSlot::AddressFull(max) => format!("this depot serves {max} reads at once to {address}"),
        };
        Problem::new(Code::TooManyRequests, detail).with_retry_after(READ_RETRY_SECONDS).into()
    })
}

/// An error in the stream breaks the connection off, which is what a client must see.
fn body_of<S>(stream: S, slot: ReadSlot) -> Body
where
    S: stream::Stream<Item = Result<bytes::Bytes, StoreError>> + Send + 'static,
{
    let stream = stream.map(move |piece| {
        let _held = &slot;
        piece
    });
    Body::from_stream(stream.then(async |piece| {
        fault_points::reach("depot.piece").await;
        if let Err(error) = &piece {
            tracing::error!(error = error as &dyn std::error::Error, "an artifact was not served to its end");
        }
        piece
    }))
}

fn outside(hash: ArtifactHash, size: u64) -> Response {
    let detail = format!("artifact {hash} has {size} bytes");
    let mut response = ApiError::new(Code::RangeNotSatisfiable, detail).into_response();
    response.headers_mut().insert(header::CONTENT_RANGE, value(&format!("bytes */{size}")));
    response
}

fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("digits, hexadecimal and punctuation are a header value")
}

/// What of an artifact a client asks for.
#[derive(Debug, PartialEq, Eq)]
enum Asked {
    Whole,
    Part(Range<u64>),
    Outside,
}

/// Reads `Range` and `If-Range` (RFC 9110 §14). What is not understood, several ranges among it, is answered with the
/// whole, as the RFC allows; so is a range that covers everything, which is then verified like any whole.
fn asked_range(headers: &HeaderMap, hash: &ArtifactHash, size: u64) -> Asked {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let Some(range) = text(header::RANGE) else { return Asked::Whole };
    if text(header::IF_RANGE).is_some_and(|etag| etag != format!("\"{hash}\"")) {
        return Asked::Whole;
    }
    let Some((first, last)) = range.strip_prefix("bytes=").and_then(|range| range.trim().split_once('-'))
    else {
        return Asked::Whole;
    };
    let number = |text: &str| {
        text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u64>().ok()).flatten()
    };
    let asked = match (first, last) {
        ("", last) => match number(last) {
            Some(0) => return Asked::Outside,
            Some(length) => size.saturating_sub(length)..size,
            None => return Asked::Whole,
        },
        (first, "") => match number(first) {
            Some(first) => first..size,
            None => return Asked::Whole,
        },
        (first, last) => match (number(first), number(last)) {
            (Some(first), Some(last)) if first <= last => first..size.min(last.saturating_add(1)),
            _ => return Asked::Whole,
        },
    };
    match asked {
        range if range.start == 0 && range.end == size && size > 0 => Asked::Whole,
        range if range.start < range.end => Asked::Part(range),
        _ => Asked::Outside,
    }
}

/// Base64 with padding, as `Repr-Digest` (RFC 9530) wants it.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |i: usize| u32::from(group.get(i).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for i in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * i) & 63) as usize];
            text.push(if i <= group.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: ArtifactHash = ArtifactHash([7; 32]);

    fn asked(range: &str) -> Asked {
        let mut headers = HeaderMap::new();
        headers.insert(header::RANGE, range.parse().unwrap());
        asked_range(&headers, &HASH, 100)
    }

    #[test]
    fn ranges_are_read_as_the_rfc_says() {
        for (range, expected) in [
            ("bytes=0-9", Asked::Part(0..10)),
            ("bytes=90-", Asked::Part(90..100)),
            ("bytes=-10", Asked::Part(90..100)),
            ("bytes=50-1000", Asked::Part(50..100)),
            ("bytes=100-", Asked::Outside),
            ("bytes=-0", Asked::Outside),
            ("bytes=0-", Asked::Whole),
            ("bytes=-200", Asked::Whole),
            ("bytes=9-0", Asked::Whole),
            ("bytes=0-1,5-6", Asked::Whole),
            ("bytes=+1-2", Asked::Whole),
            ("bytes=99999999999999999999-", Asked::Whole),
            ("lines=0-1", Asked::Whole),
        ] {
            assert_eq!(asked(range), expected, "{range}");
        }
    }

    #[test]
    fn a_range_of_another_representation_is_answered_with_the_whole() {
        let mut headers = HeaderMap::new();
        headers.insert(header::RANGE, "bytes=1-2".parse().unwrap());
        headers.insert(header::IF_RANGE, "\"other\"".parse().unwrap());
        assert_eq!(asked_range(&headers, &HASH, 100), Asked::Whole);
        headers.insert(header::IF_RANGE, format!("\"{HASH}\"").parse().unwrap());
        assert_eq!(asked_range(&headers, &HASH, 100), Asked::Part(1..3));
    }

    #[test]
    fn who_has_the_artifact_is_recognised_by_any_of_the_tags_that_he_sends() {
        let has = |lists: &[String]| {
            let mut headers = HeaderMap::new();
            for list in lists {
                headers.append(header::IF_NONE_MATCH, list.parse().unwrap());
            }
            has_it_already(&headers, &HASH)
        };
        let ours = format!("\"{HASH}\"");
        assert!(has(std::slice::from_ref(&ours)));
        assert!(has(&[format!("W/{ours}")]));
        assert!(has(&["*".to_owned()]));
        assert!(has(&[format!("\"other\", {ours}")]));
        assert!(has(&["\"other\"".to_owned(), ours]));
        assert!(!has(&[]));
        assert!(!has(&[HASH.to_string()]), "without quotes it is no entity tag");
        assert!(!has(&["\"other\"".to_owned()]));
    }

    #[test]
    fn base64_agrees_with_rfc_4648() {
        for (bytes, text) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }
}
