//! Connections: how many, how slow, and how they end.

use crate::{
    served::{OPERATOR, Served},
    wire::Wire,
};
use http_edge::ServerOptions;
use std::time::Duration;

/// Long enough for an answer that comes, short enough to wait for one that does not.
const MOMENT: Duration = Duration::from_millis(300);

fn options() -> ServerOptions {
    ServerOptions { head_limit: Duration::from_millis(200), ..ServerOptions::default() }
}

#[tokio::test]
async fn a_head_that_takes_too_long_ends_the_connection() {
    let served = Served::with(options()).await;
    let silent = served.wire().await;
    let mut slow = served.wire().await;
    slow.send("GET /things/1 HTTP/1.1\r\nhost: x\r\nx-half").await;
    // Their ends are not before the limit, and not so late that the client's own limit strikes first.
    silent.end().await;
    slow.end().await;
    assert_eq!(served.ask("GET", "/things/1").await.status, 200);
}

#[tokio::test]
async fn a_trickle_of_header_lines_does_not_keep_the_connection() {
    let served = Served::with(options()).await;
    let mut wire = served.wire().await;
    wire.send("GET /things/1 HTTP/1.1\r\n").await;
    let trickle = async {
        let mut tick = tokio::time::interval(Duration::from_millis(20));
        for line in 0.. {
            tick.tick().await;
            if wire.try_send(format!("x-{line}: x\r\n")).await.is_err() {
                break;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), trickle).await.expect("the server cuts the trickle off");
}

#[tokio::test]
async fn an_idle_connection_is_not_kept_for_ever() {
    let served = Served::with(options()).await;
    let mut wire = served.wire().await;
    assert_eq!(wire.ask("GET", "/things/1", OPERATOR).await.status, 200);
    wire.end().await;
}

#[tokio::test]
async fn a_reader_that_stops_reading_does_not_hold_its_connection_for_ever() {
    let options = ServerOptions {
        unread_limit: Duration::from_millis(500),
        connections_max: 1,
        ..ServerOptions::default()
    };
    let served = Served::with(options).await;
    let mut wire = served.wire().await;
    wire.send(format!("GET /endless HTTP/1.1\r\nhost: x\r\n{OPERATOR}\r\n")).await;
    let given_up = served.gate.given_up.notified();
    tokio::time::timeout(Duration::from_secs(20), given_up).await.expect("the server cuts the reader off");
    assert_eq!(served.ask("GET", "/things/1").await.status, 200, "its slot is free again");
    drop(wire);
}

#[tokio::test]
async fn a_connection_more_than_there_may_be_waits_its_turn() {
    let served = Served::with(ServerOptions { connections_max: 1, ..ServerOptions::default() }).await;
    let mut first = served.wire().await;
    assert_eq!(first.ask("GET", "/things/1", OPERATOR).await.status, 200);
    let mut second = served.wire().await;
    let mut asked = std::pin::pin!(second.ask("GET", "/things/2", OPERATOR));
    assert!(tokio::time::timeout(MOMENT, &mut asked).await.is_err(), "it was served beside the first");
    drop(first);
    assert_eq!(asked.await.status, 200);
}

#[tokio::test]
async fn a_stop_lets_running_requests_end_and_takes_no_new_ones() {
    let served = Served::start().await;
    let mut wire = served.wire().await;
    wire.send(format!("GET /slow HTTP/1.1\r\nhost: x\r\n{OPERATOR}\r\n")).await;
    served.gate.entered.notified().await;
    served.stop.send_replace(true);
    while tokio::net::TcpStream::connect(served.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(!served.running.is_finished(), "a request was cut off");
    served.gate.opened.notify_one();
    assert_eq!(wire.answer().await.text(), "done");
    served.running.await.unwrap();
}

#[tokio::test]
async fn a_request_that_does_not_end_is_cut_off_at_the_stop_limit() {
    let served = Served::with(ServerOptions { stop_limit: MOMENT, ..ServerOptions::default() }).await;
    let mut wire = served.wire().await;
    wire.send(format!("GET /slow HTTP/1.1\r\nhost: x\r\n{OPERATOR}\r\n")).await;
    served.gate.entered.notified().await;
    served.stop.send_replace(true);
    tokio::time::timeout(Duration::from_secs(10), served.running)
        .await
        .expect("the stop has a limit")
        .unwrap();
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let served = Served::start().await;
    let error = http_edge::Server::bind(served.address).await.unwrap_err();
    let told = problem::chain(&error);
    assert!(told.contains(&served.address.to_string()) && told.contains("in use"), "{told}");
    drop(Wire::connect(served.address).await);
}
