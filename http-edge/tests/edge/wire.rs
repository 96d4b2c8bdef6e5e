//! A client that decides over every byte that it sends, and over when.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// Far longer than anything here takes: hanging is the failure.
const LIMIT: Duration = Duration::from_secs(20);

/// One connection.
pub(crate) struct Wire {
    stream: TcpStream,
    unread: Vec<u8>,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body is text")
    }

    /// The problem, after checking that it is one: its media type, its status, its request id.
    pub(crate) fn problem(&self) -> problem::Problem {
        assert_eq!(self.header("content-type"), Some(problem::MEDIA_TYPE), "{self:?}");
        let problem: problem::Problem = serde_json::from_slice(&self.body).expect("the body is a problem");
        assert_eq!(problem.status, self.status);
        assert_eq!(Some(problem.request_id.as_str()), self.header("x-request-id"));
        problem
    }

    pub(crate) fn code(&self) -> String {
        self.problem().code
    }
}

impl Wire {
    pub(crate) async fn connect(address: SocketAddr) -> Wire {
        Wire { stream: TcpStream::connect(address).await.expect("it listens"), unread: Vec::new() }
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        tokio::time::timeout(LIMIT, self.stream.write_all(bytes.as_ref()))
            .await
            .expect("the server reads")
            .expect("the server keeps the connection");
    }

    /// Sends if the server still takes it.
    pub(crate) async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.stream.write_all(bytes.as_ref()).await
    }

    /// Sends one request without a body and reads the answer.
    pub(crate) async fn ask(&mut self, method: &str, path: &str, headers: &str) -> Answer {
        self.send(format!("{method} {path} HTTP/1.1\r\nhost: x\r\n{headers}\r\n")).await;
        if method == "HEAD" { self.head().await } else { self.answer().await }
    }

    /// The next answer's head; its body stays unread.
    pub(crate) async fn head(&mut self) -> Answer {
        let end = loop {
            if let Some(end) = self.unread.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            assert!(self.read_more().await > 0, "the connection ended before an answer: {:?}", self.unread);
        };
        let head = String::from_utf8(self.unread.drain(..end).collect()).expect("a head is text");
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).expect("a status line");
        let headers = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        Answer { status: status.parse().expect("a status"), headers, body: Vec::new() }
    }

    /// The next answer.
    pub(crate) async fn answer(&mut self) -> Answer {
        let mut answer = self.head().await;
        if answer.status >= 200 {
            let length: usize = answer.header("content-length").expect("a length").parse().expect("a number");
            while self.unread.len() < length {
                assert!(self.read_more().await > 0, "the connection ended in a body");
            }
            answer.body = self.unread.drain(..length).collect();
        }
        answer
    }

    /// Waits until the server ends the connection; what it still sent.
    pub(crate) async fn end(mut self) -> Vec<u8> {
        while self.read_more().await > 0 {}
        self.unread
    }

    async fn read_more(&mut self) -> usize {
        let mut piece = vec![0; 16 << 10];
        let read = tokio::time::timeout(LIMIT, self.stream.read(&mut piece)).await;
        let read = read.expect("the server answers or ends").expect("the connection is not reset");
        self.unread.extend_from_slice(&piece[..read]);
        read
    }
}
