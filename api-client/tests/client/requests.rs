//! What is sent: path, token, request id, and from which address.

use crate::peer::Peer;
use api_client::ClientOptions;
use reqwest::Method;
use serde_json::Value;
use std::{collections::BTreeSet, net::IpAddr};

#[tokio::test]
async fn a_request_carries_the_token_and_an_id_of_its_own() {
    let peer = Peer::answering("200 OK", "", "{}").await;
    let client =
        peer.client_with(ClientOptions { token: Some("secret".to_owned()), ..ClientOptions::default() });
    for _ in 0..3 {
        client.get_json::<Value>(&["v1", "status"], &()).await.unwrap();
    }
    let asked = peer.asked();
    assert!(asked.iter().all(|asked| asked.line() == "GET /v1/status HTTP/1.1"), "{asked:?}");
    assert!(asked.iter().all(|asked| asked.header("authorization") == Some("Bearer secret")), "{asked:?}");
    let ids: BTreeSet<&str> = asked.iter().filter_map(|asked| asked.header("x-request-id")).collect();
    assert_eq!(ids.len(), 3, "ids are missing or repeat: {asked:?}");
}

#[tokio::test]
async fn without_a_token_none_is_sent() {
    let peer = Peer::answering("200 OK", "", "{}").await;
    peer.client().get_json::<Value>(&[], &()).await.unwrap();
    assert_eq!(peer.asked()[0].header("authorization"), None);
    assert_eq!(peer.asked()[0].line(), "GET / HTTP/1.1");
}

#[tokio::test]
async fn what_a_caller_puts_into_a_path_stays_one_segment_of_it() {
    let peer = Peer::answering("200 OK", "", "{}").await;
    let client = peer.client();
    for (segment, sent) in
        [("a/b", "a%2Fb"), ("a?b=c", "a%3Fb=c"), ("a#b", "a%23b"), ("a b", "a%20b"), ("%2e", "%252e")]
    {
        client.send(client.request(Method::DELETE, &["things", segment])).await.unwrap();
        assert_eq!(peer.asked().last().unwrap().line(), format!("DELETE /things/{sent} HTTP/1.1"));
    }
}

#[tokio::test]
async fn calls_come_from_the_address_that_was_given() {
    let peer = Peer::answering("200 OK", "", "{}").await;
    let address: IpAddr = "127.0.0.77".parse().unwrap();
    let client =
        peer.client_with(ClientOptions { source_address: Some(address), ..ClientOptions::default() });
    client.get_json::<Value>(&["x"], &()).await.unwrap();
    assert_eq!(peer.asked()[0].from, address);
}
