//! A refused client reads why, whatever it was about to send.

use crate::{
    served::{BYTES_MAX, OPERATOR, Served},
    wire::Answer,
};

/// More than the sockets' buffers hold, less than what the edge drains.
const LARGE: usize = 8 << 20;

/// Sends a head that waits for `100 Continue` before a body of that many bytes; the first answer to it.
async fn announce(served: &Served, path: &str, headers: &str, bytes: u64) -> Answer {
    let mut wire = served.wire().await;
    let head = format!(
        "PUT {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {bytes}\r\nexpect: 100-continue\r\n{headers}\r\n"
    );
    wire.send(head).await;
    wire.answer().await
}

#[tokio::test]
async fn a_body_that_is_refused_is_not_asked_for() {
    let served = Served::start().await;
    for (path, headers, code) in [
        ("/bytes", OPERATOR, "body_too_large"),
        ("/never", OPERATOR, "version_conflict"),
        ("/bytes", "", "unauthorized"),
        ("/nowhere", OPERATOR, "no_such_route"),
        ("/slow", OPERATOR, "method_not_allowed"),
    ] {
        let answer = announce(&served, path, headers, LARGE as u64).await;
        assert_eq!(answer.code(), code, "PUT {path}");
    }
}

#[tokio::test]
async fn a_body_that_is_wanted_is_asked_for() {
    let served = Served::start().await;
    let mut wire = served.wire().await;
    wire.send(format!(
        "PUT /bytes HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\nexpect: 100-continue\r\n{OPERATOR}\r\n"
    ))
    .await;
    assert_eq!(wire.answer().await.status, 100);
    wire.send("12345").await;
    assert_eq!(wire.answer().await.text(), "5");
}

#[tokio::test]
async fn a_client_that_sends_all_the_same_reads_the_answer() {
    let served = Served::start().await;
    let body = vec![b'x'; LARGE];
    for (path, headers, code) in [
        ("/never", OPERATOR, "version_conflict"),
        ("/bytes", OPERATOR, "body_too_large"),
        ("/bytes", "", "unauthorized"),
        ("/nowhere", OPERATOR, "no_such_route"),
    ] {
        let mut wire = served.wire().await;
        wire.send(format!("PUT {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {LARGE}\r\n{headers}\r\n"))
            .await;
        wire.send(&body).await;
        assert_eq!(wire.answer().await.code(), code, "PUT {path}");
    }
}

#[tokio::test]
async fn a_body_of_unknown_length_is_refused_where_it_passes_the_limit() {
    let served = Served::start().await;
    let mut wire = served.wire().await;
    wire.send(format!("PUT /bytes HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n{OPERATOR}\r\n"))
        .await;
    wire.send(format!("{:x}\r\n{}\r\n", BYTES_MAX, "x".repeat(BYTES_MAX as usize))).await;
    wire.send("1\r\nx\r\n").await;
    let problem = wire.answer().await.problem();
    assert_eq!(problem.code, "body_too_large");
    assert!(problem.detail.contains("1024"), "the limit is not told: {problem}");
}

#[tokio::test]
async fn a_body_as_long_as_the_limit_is_taken() {
    let served = Served::start().await;
    let mut wire = served.wire().await;
    wire.send(format!("PUT /bytes HTTP/1.1\r\nhost: x\r\ncontent-length: {BYTES_MAX}\r\n{OPERATOR}\r\n"))
        .await;
    wire.send("x".repeat(BYTES_MAX as usize)).await;
    assert_eq!(wire.answer().await.text(), "1024");
}

#[tokio::test]
async fn a_sender_that_falls_silent_is_cut_off() {
    let served = Served::start().await;
    let mut wire = served.wire().await;
    wire.send(format!("PUT /bytes HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n{OPERATOR}\r\n12345")).await;
    let problem = wire.answer().await.problem();
    assert_eq!((problem.code.as_str(), problem.status), ("sender_silent", 408));
    assert!(problem.detail.contains("after 5 bytes"), "{problem}");
    assert!(wire.end().await.is_empty(), "something came after the answer");
}

#[tokio::test]
async fn a_connection_goes_on_after_a_small_body_was_refused() {
    let served = Served::start().await;
    let mut wire = served.wire().await;
    wire.send(format!("PUT /never HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n{OPERATOR}\r\n12345")).await;
    assert_eq!(wire.answer().await.code(), "version_conflict");
    assert_eq!(wire.ask("GET", "/things/1", OPERATOR).await.status, 200);
}

#[tokio::test]
async fn json_that_is_none_or_another_is_refused_with_the_place() {
    let served = Served::start().await;
    for (body, place) in [
        ("", "the body is empty"),
        ("[1]", "not a JSON object"),
        ("{", "line 1 column 1"),
        ("{\"id\":\"x\"}", "line 1 column 9"),
    ] {
        let mut wire = served.wire().await;
        let length = body.len();
        wire.send(format!(
            "POST /things HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n{OPERATOR}\r\n{body}"
        ))
        .await;
        let problem = wire.answer().await.problem();
        assert_eq!((problem.code.as_str(), problem.status), ("bad_json", 400));
        assert!(problem.detail.contains(place), "{problem}");
    }
}

#[tokio::test]
async fn json_beyond_the_limit_is_refused_unread() {
    let served = Served::start().await;
    let mut wire = served.wire().await;
    wire.send(format!(
        "POST /things HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\nexpect: 100-continue\r\n{OPERATOR}\r\n",
        (64 << 10) + 1
    ))
    .await;
    assert_eq!(wire.answer().await.code(), "body_too_large");
}
