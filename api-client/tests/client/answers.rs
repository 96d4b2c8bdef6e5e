//! What becomes of an answer, and of none.

use crate::peer::{Peer, SILENCE, Then};
use api_client::{ApiClient, ClientError, ClientOptions, ErrorClass};
use problem::Code;
use serde_json::Value;
use std::time::{Duration, Instant};

async fn ask(peer: &Peer) -> Result<Value, ClientError> {
    peer.client().get_json(&["things"], &()).await
}

/// The problem that an answer with this status and body becomes.
async fn problem_of(status: &str, headers: &str, body: &str) -> (problem::Problem, ErrorClass) {
    let error = ask(&Peer::answering(status, headers, body).await).await.expect_err("it is no success");
    let class = error.class();
    match error {
        ClientError::Problem { problem, .. } => (*problem, class),
        other => panic!("{status} became {other:?}"),
    }
}

#[tokio::test]
async fn a_problem_is_handed_on_as_it_was_sent() {
    let sent = problem::Problem {
        request_id: "r1".to_owned(),
        ..problem::Problem::new(Code::NoSpace, "no room for 5 bytes").with_retry_after(9)
    };
    let body = serde_json::to_string(&sent).unwrap();
    let (problem, class) =
        problem_of("507 Insufficient Storage", "content-type: application/problem+json\r\n", &body).await;
    assert_eq!((problem, class), (sent, ErrorClass::Broken));
}

#[tokio::test]
async fn an_error_without_a_problem_becomes_one_of_its_status() {
    for (status, code, class) in [
        ("401 Unauthorized", Code::Unauthorized, ErrorClass::Refused),
        ("403 Forbidden", Code::Forbidden, ErrorClass::Refused),
        ("404 Not Found", Code::NotFound, ErrorClass::Refused),
        ("413 Payload Too Large", Code::BodyTooLarge, ErrorClass::Refused),
        ("418 I'm a teapot", Code::BadRequest, ErrorClass::Refused),
        ("429 Too Many Requests", Code::TooManyRequests, ErrorClass::Unreachable),
        ("500 Internal Server Error", Code::Internal, ErrorClass::Broken),
        ("502 Bad Gateway", Code::Internal, ErrorClass::Unreachable),
        ("503 Service Unavailable", Code::Unavailable, ErrorClass::Unreachable),
        ("504 Gateway Timeout", Code::Internal, ErrorClass::Unreachable),
    ] {
        let (problem, found) = problem_of(status, "", "<html>nginx</html>").await;
        assert_eq!((problem.code.as_str(), found), (code.name(), class), "{status}");
        assert_eq!(problem.status, status[..3].parse::<u16>().unwrap());
        assert!(problem.detail.contains("<html>nginx</html>"), "what it said is lost: {problem}");
    }
}

#[tokio::test]
async fn when_to_come_back_is_read_from_the_header_where_the_problem_does_not_say() {
    let (problem, _) = problem_of("503 Service Unavailable", "retry-after: 12\r\n", "").await;
    assert_eq!(problem.retry_after_seconds, Some(12));
    let (problem, _) =
        problem_of("503 Service Unavailable", "retry-after: Fri, 31 Dec 1999 23:59:59 GMT\r\n", "").await;
    assert_eq!(problem.retry_after_seconds, None);
}

#[tokio::test]
async fn a_redirect_is_an_error_and_is_not_followed() {
    let elsewhere = Peer::answering("200 OK", "", "{}").await;
    let location = format!("location: {}\r\n", elsewhere.url);
    let (problem, class) = problem_of("302 Found", &location, "").await;
    assert_eq!((problem.status, class), (302, ErrorClass::Refused));
    assert!(elsewhere.asked().is_empty(), "the token went to another peer");
}

#[tokio::test]
async fn a_success_that_is_not_understood_names_the_call_and_the_place() {
    for body in ["", "{", "[1]", "\"text\""] {
        let peer = Peer::answering("200 OK", "", body).await;
        let error = peer.client().get_json::<u32>(&["things"], &()).await.unwrap_err();
        assert!(matches!(error, ClientError::Decode { status: 200, .. }), "{body:?} became {error:?}");
        assert_eq!(error.class(), ErrorClass::Broken);
        assert!(error.to_string().contains(&format!("{}/things", peer.url)), "{error}");
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_no_answer() {
    for start in ["HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n{", "HTTP/1.1 200", ""] {
        let error = ask(&Peer::start(start, Then::Close).await).await.unwrap_err();
        assert!(matches!(error, ClientError::Transport { .. }), "{start:?} became {error:?}");
        assert_eq!(error.class(), ErrorClass::Unreachable);
    }
}

#[tokio::test]
async fn a_peer_that_falls_silent_is_given_up() {
    for start in ["", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n{"] {
        let peer = Peer::start(start, Then::Hang).await;
        let begun = Instant::now();
        let error = ask(&peer).await.unwrap_err();
        assert!(matches!(error, ClientError::Transport { .. }), "{start:?} became {error:?}");
        assert!(
            (SILENCE..Duration::from_secs(20)).contains(&begun.elapsed()),
            "{start:?}: {:?}",
            begun.elapsed()
        );
    }
}

#[tokio::test]
async fn an_error_without_an_end_is_read_only_so_far() {
    let head = "HTTP/1.1 500 Internal Server Error\r\n\r\nit begins like this";
    let error = ask(&Peer::start(head, Then::GoOn).await).await.unwrap_err();
    let detail = &error.problem().expect("the status is an answer").detail;
    assert!(detail.contains("it begins like this") && detail.len() < 1_000, "{} bytes", detail.len());
}

#[tokio::test]
async fn an_error_that_falls_silent_is_still_an_error_with_its_status() {
    let head = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 100\r\n\r\nhalf";
    let error = ask(&Peer::start(head, Then::Hang).await).await.unwrap_err();
    assert!(error.is(Code::Unavailable), "{error:?}");
}

#[tokio::test]
async fn nobody_at_the_address_is_told_with_the_address_once() {
    let url = Peer::answering("200 OK", "", "").await.url.clone();
    let client = ApiClient::new(&url, &ClientOptions::default()).unwrap();
    let error = loop {
        // The port is given back when the peer's task has ended.
        match client.get_json::<Value>(&["things"], &()).await {
            Err(error @ ClientError::Transport { .. }) if problem::chain(&error).contains("refused") => {
                break error;
            }
            _ => tokio::task::yield_now().await,
        }
    };
    assert_eq!(error.class(), ErrorClass::Unreachable);
    let told = problem::chain(&error);
    assert_eq!(told.matches(&url).count(), 1, "{told}");
}
