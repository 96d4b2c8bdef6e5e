//! Who asks, what was asked, and under which id: tokens, routes, problems, request ids.

use crate::served::{COORDINATOR, OPERATOR, SLED, Served};

#[tokio::test]
async fn only_known_tokens_of_fitting_roles_get_in() {
    let served = Served::start().await;
    for (headers, status, code) in [
        ("", 401, "unauthorized"),
        ("authorization: Bearer operator-token-0002\r\n", 401, "unauthorized"),
        ("authorization: Basic operator-token-0001\r\n", 401, "unauthorized"),
        (COORDINATOR, 403, "forbidden"),
    ] {
        for path in ["/things/1", "/metrics", "/nowhere"] {
            let answer = served.wire().await.ask("GET", path, headers).await;
            assert_eq!((answer.status, answer.code().as_str()), (status, code), "{path} with {headers:?}");
            assert_eq!(answer.header("www-authenticate").is_some(), status == 401, "{path} with {headers:?}");
        }
    }
    for headers in [OPERATOR, SLED] {
        assert_eq!(served.wire().await.ask("GET", "/things/1", headers).await.status, 200);
    }
}

#[tokio::test]
async fn health_and_the_document_are_open_to_all() {
    let served = Served::start().await;
    let mut wire = served.wire().await;
    assert_eq!(wire.ask("GET", "/healthz", "").await.text(), "ok\n");
    assert_eq!(wire.ask("GET", "/openapi.json", "").await.header("content-type"), Some("application/json"));
    let waiting = wire.ask("GET", "/readyz", "").await;
    assert_eq!((waiting.status, waiting.text()), (503, "[-]disk not started\n"));
    assert!(waiting.header("retry-after").is_some());
    served.readiness.report("disk", Ok(()));
    assert_eq!(wire.ask("GET", "/readyz", "").await.text(), "[+]disk ok\n");
}

#[tokio::test]
async fn a_defect_costs_one_request_and_tells_no_secret() {
    let served = Served::start().await;
    let mut wire = served.wire().await;
    let answer = wire.ask("GET", "/defect", OPERATOR).await;
    assert_eq!((answer.status, answer.code().as_str()), (500, "internal"));
    assert!(!answer.text().contains("secret"), "{}", answer.text());
    assert!(answer.header("x-request-id").is_some());
    assert_eq!(wire.ask("GET", "/things/1", OPERATOR).await.status, 200, "on the same connection");
    let metrics = wire.ask("GET", "/metrics", OPERATOR).await;
    let counted =
        metrics.text().lines().any(|line| line.contains("/defect") && line.contains("status=\"500\""));
    assert!(counted, "{}", metrics.text());
}

#[tokio::test]
async fn a_handler_knows_where_its_caller_is() {
    let served = Served::start().await;
    assert_eq!(served.ask("GET", "/whence").await.text(), "127.0.0.1");
}

#[tokio::test]
async fn what_is_not_there_is_told_as_a_problem() {
    let served = Served::start().await;
    for (method, path, status, code) in [
        ("GET", "/nowhere", 404, "no_such_route"),
        ("GET", "/things/", 404, "no_such_route"),
        ("DELETE", "/things/1", 405, "method_not_allowed"),
        ("DELETE", "/healthz", 405, "method_not_allowed"),
        ("POST", "/openapi.json", 405, "method_not_allowed"),
        ("BREW", "/things/1", 405, "method_not_allowed"),
        ("GET", "/things/0", 404, "not_found"),
        ("GET", "/things/x", 400, "bad_request"),
        ("GET", "/things/%ff", 400, "bad_request"),
        ("GET", "/things/1?wait_mss=5", 400, "bad_request"),
        ("GET", "/things/1?wait_ms=x", 400, "bad_request"),
    ] {
        let answer = served.ask(method, path).await;
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{method} {path}");
        assert_eq!(answer.header("allow").is_some(), status == 405, "{method} {path}");
    }
}

#[tokio::test]
async fn when_to_come_back_is_told_in_the_header_and_in_the_problem() {
    let served = Served::start().await;
    let answer = served.ask("GET", "/things/1?wait_ms=5").await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("7")));
    assert_eq!(answer.problem().retry_after_seconds, Some(7));
}

#[tokio::test]
async fn head_answers_as_get_does_without_the_body() {
    let served = Served::start().await;
    let mut wire = served.wire().await;
    for path in ["/things/1", "/things/0"] {
        let head = wire.ask("HEAD", path, OPERATOR).await;
        let get = wire.ask("GET", path, OPERATOR).await;
        assert_eq!(head.status, get.status);
        assert_eq!(head.header("content-length"), get.header("content-length"));
        assert_eq!(head.header("content-type"), get.header("content-type"));
    }
}

#[tokio::test]
async fn a_sane_request_id_is_kept_and_any_other_is_replaced() {
    let served = Served::start().await;
    let mut wire = served.wire().await;
    for id in ["a", "0191f2a0-3c1e-7000-8000-0123456789ab", "A_b-9", &"x".repeat(64)] {
        let answer = wire.ask("GET", "/things/0", &format!("{OPERATOR}x-request-id: {id}\r\n")).await;
        assert_eq!(answer.problem().request_id, id);
    }
    let mut seen = std::collections::BTreeSet::new();
    for id in ["", "two words", "a=b", "é", &"x".repeat(65)] {
        let answer = wire.ask("GET", "/things/0", &format!("{OPERATOR}x-request-id: {id}\r\n")).await;
        let given = answer.problem().request_id;
        assert!(given.len() == 32 && given.bytes().all(|b| b.is_ascii_hexdigit()), "{id:?} became {given:?}");
        assert!(seen.insert(given), "an id was given twice");
    }
    assert!(
        wire.ask("GET", "/things/1", OPERATOR).await.header("x-request-id").is_some(),
        "only errors have ids"
    );
}
