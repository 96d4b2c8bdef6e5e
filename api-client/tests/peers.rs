//! Peers that misbehave, byte by byte on a real socket: what the caller is told, and how often the peer is asked.

use api_client::{ApiClient, ClientError, ClientOptions, ErrorClass};
use reqwest::Method;
use serde_json::Value;
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// A peer that does `act` with each connection once a request's head has arrived on it; and how many there were.
async fn peer<F: Future<Output = ()> + Send + 'static>(
    act: impl Fn(usize, TcpStream) -> F + Send + 'static,
) -> (ApiClient, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let url = format!("http://{}", listener.local_addr().expect("it listens"));
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.expect("it accepts");
            let mut head = Vec::new();
            while !head.windows(4).any(|window| window == b"\r\n\r\n") {
                assert!(stream.read_buf(&mut head).await.expect("the head arrives") > 0);
            }
            tokio::spawn(act(count.fetch_add(1, Ordering::SeqCst), stream));
        }
    });
    (ApiClient::new(&url, &ClientOptions::default()).expect("a plain URL"), asked)
}

async fn answer(mut stream: TcpStream, bytes: &str) {
    // A client that has read enough goes away.
    let _ = stream.write_all(bytes.as_bytes()).await;
}

const EMPTY: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";

#[tokio::test]
async fn a_read_whose_connection_breaks_before_an_answer_is_sent_again() {
    let (client, asked) =
        peer(|nth, stream| async move { if nth < 2 { drop(stream) } else { answer(stream, EMPTY).await } })
            .await;
    client.get_json::<Value>(&["thing"], &()).await.expect("the third try is answered");
    assert_eq!(asked.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn a_peer_that_breaks_every_connection_is_not_asked_for_ever() {
    let (client, asked) = peer(|_, stream| async move { drop(stream) }).await;
    let error = client.get_json::<Value>(&["thing"], &()).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Unreachable);
    assert_eq!(asked.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn a_change_is_sent_once_whatever_happens_to_it() {
    for method in [Method::POST, Method::PUT, Method::DELETE] {
        let (client, asked) = peer(|_, stream| async move { drop(stream) }).await;
        client.send(client.request(method.clone(), &["thing"])).await.unwrap_err();
        assert_eq!(asked.load(Ordering::SeqCst), 1, "{method}");
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_in_the_middle_is_the_callers_to_judge() {
    let (client, asked) =
        peer(|_, stream| answer(stream, "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{")).await;
    let error = client.get_json::<Value>(&["thing"], &()).await.unwrap_err();
    assert!(matches!(error, ClientError::Transport { .. }), "{error:?}");
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn an_endless_document_is_read_to_the_limit_and_no_further() {
    let (client, _) = peer(|_, mut stream| async move {
        answer_head(&mut stream, "transfer-encoding: chunked").await;
        let piece = [b' '; 0x10000];
        while stream.write_all(b"10000\r\n").await.is_ok()
            && stream.write_all(&piece).await.is_ok()
            && stream.write_all(b"\r\n").await.is_ok()
        {}
    })
    .await;
    let error = client.get_json::<Value>(&["thing"], &()).await.unwrap_err();
    assert!(matches!(error, ClientError::TooLarge { .. }), "{error:?}");
    assert_eq!(error.class(), ErrorClass::Broken);
}

#[tokio::test]
async fn a_document_that_declares_too_much_is_not_read_at_all() {
    let (client, _) = peer(|_, mut stream| async move {
        answer_head(&mut stream, "content-length: 99999999999").await;
        // Nothing follows: who waits for it waits until the idle limit.
        let mut nothing = [0];
        let _ = stream.read(&mut nothing).await;
    })
    .await;
    let error = client.get_json::<Value>(&["thing"], &()).await.unwrap_err();
    assert!(matches!(error, ClientError::TooLarge { .. }), "{error:?}");
}

#[tokio::test]
async fn a_bare_408_says_to_try_again() {
    let (client, _) =
        peer(|_, stream| answer(stream, "HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n\r\n")).await;
    let error = client.send(client.request(Method::POST, &["thing"])).await.unwrap_err();
    assert!(error.is(problem::Code::SenderSilent), "{error}");
    assert_eq!(error.class(), ErrorClass::Unreachable);
}

async fn answer_head(stream: &mut TcpStream, header: &str) {
    let head = format!("HTTP/1.1 200 OK\r\n{header}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.expect("the head is taken");
}
