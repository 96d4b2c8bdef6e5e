//! What is measured of requests, and that no caller can make it grow.

use crate::served::{OPERATOR, Served};

#[tokio::test]
async fn requests_are_counted_by_route_and_never_by_what_callers_choose() {
    let served = Served::start().await;
    let mut wire = served.wire().await;
    for id in 1..=3 {
        wire.ask("GET", &format!("/things/{id}?wait_ms=0"), OPERATOR).await;
    }
    for word in 0..20 {
        wire.ask(&format!("BREW{word}"), "/things/7", OPERATOR).await;
        wire.ask("GET", &format!("/nowhere/{word}"), OPERATOR).await;
    }
    let metrics = wire.ask("GET", "/metrics", OPERATOR).await;
    let text = metrics.text();
    let count = |labels: &str| {
        let line = format!("bobsled_http_request_duration_seconds_count{{{labels}}}");
        text.lines().find_map(|text| text.strip_prefix(&line)).map(str::trim)
    };
    assert_eq!(count(r#"api="test",method="GET",route="/things/{id}",status="200""#), Some("3"), "{text}");
    assert_eq!(count(r#"api="test",method="other",route="/things/{id}",status="405""#), Some("20"), "{text}");
    assert_eq!(count(r#"api="test",method="GET",route="none",status="404""#), Some("20"), "{text}");
    assert!(!text.contains("BREW") && !text.contains("nowhere") && !text.contains("wait_ms"), "{text}");
    assert!(text.contains(r#"bobsled_build_info{program="tested",version="1.2.3"} 1"#), "{text}");
    assert!(text.ends_with("# EOF\n"), "{text}");
}

#[tokio::test]
async fn refused_callers_are_counted_too() {
    let served = Served::start().await;
    let mut wire = served.wire().await;
    wire.ask("GET", "/things/1", "").await;
    let metrics = wire.ask("GET", "/metrics", OPERATOR).await;
    let line = r#"bobsled_http_request_duration_seconds_count{api="test",method="GET",route="/things/{id}",status="401"} 1"#;
    assert!(metrics.text().contains(line), "{}", metrics.text());
}
