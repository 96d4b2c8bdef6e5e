//! Depots that no sled should believe: each answers by a script of its own, byte by byte.

use ids::ArtifactHash;
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// A depot that runs. It ends when it is dropped.
pub(crate) struct Source {
    pub(crate) url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    serving: JoinHandle<()>,
}

/// One request that it got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) path: String,
    /// The first byte of the range, if one was asked for.
    pub(crate) from: Option<u64>,
}

/// What it does with a request.
pub(crate) struct Script {
    head: String,
    body: Vec<u8>,
    then: Then,
}

#[derive(Clone, Copy)]
enum Then {
    Close,
    Hang,
    GoOnForEver,
}

impl Script {
    /// The bytes as they are, with their length.
    pub(crate) fn whole(body: &[u8]) -> Script {
        Script::announcing(body.len() as u64, body)
    }

    /// Announces so many bytes, sends these, and closes.
    pub(crate) fn announcing(length: u64, body: &[u8]) -> Script {
        Script { head: format!("200 OK\r\ncontent-length: {length}"), body: body.to_vec(), then: Then::Close }
    }

    /// The rest of the bytes from an offset on, as a depot answers a range.
    pub(crate) fn rest(all: &[u8], from: u64) -> Script {
        let start = usize::try_from(from).expect("a small offset");
        if start >= all.len() {
            let problem =
                br#"{"type":"","title":"","status":416,"detail":"","code":"range_not_satisfiable"}"#;
            let head = format!("416 Range Not Satisfiable\r\ncontent-length: {}", problem.len());
            return Script { head, body: problem.to_vec(), then: Then::Close };
        }
        let (total, last) = (all.len(), all.len() - 1);
        let head = format!(
            "206 Partial Content\r\ncontent-length: {}\r\ncontent-range: bytes {from}-{last}/{total}",
            total - start
        );
        Script { head, body: all[start..].to_vec(), then: Then::Close }
    }

    /// Bytes without an end, and without a length.
    pub(crate) fn endless() -> Script {
        Script { head: "200 OK".to_owned(), body: Vec::new(), then: Then::GoOnForEver }
    }

    /// Any head, no body.
    pub(crate) fn bare(head: &str) -> Script {
        Script { head: head.to_owned(), body: Vec::new(), then: Then::Close }
    }

    /// Says nothing more after this, and keeps the connection.
    pub(crate) fn then_hang(self) -> Script {
        Script { then: Then::Hang, ..self }
    }
}

impl Source {
    /// A depot that answers each request as the script for it says.
    pub(crate) async fn start(script: impl Fn(&Asked) -> Script + Send + Sync + 'static) -> Source {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address: SocketAddr = listener.local_addr().expect("it listens");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (script, log) = (Arc::new(script), Arc::clone(&asked));
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&script), Arc::clone(&log)));
            }
        });
        Source { url: format!("http://{address}"), asked, serving }
    }

    /// An honest depot of one artifact, which knows ranges.
    pub(crate) async fn honest(bytes: &[u8]) -> Source {
        let bytes = bytes.to_vec();
        Source::start(move |asked| match asked.from {
            Some(from) => Script::rest(&bytes, from),
            None => Script::whole(&bytes),
        })
        .await
    }

    /// The URL of a depot that is not there: the port was free a moment ago.
    pub(crate) async fn dead() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        format!("http://{}", listener.local_addr().expect("it listens"))
    }

    /// What it was asked so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("nothing panics while it holds the log").clone()
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(
    mut stream: TcpStream,
    script: Arc<impl Fn(&Asked) -> Script>,
    log: Arc<Mutex<Vec<Asked>>>,
) -> std::io::Result<()> {
    let asked = read_request(&mut stream).await?;
    log.lock().expect("nothing panics while it holds the log").push(asked.clone());
    let Script { head, body, then } = script(&asked);
    stream.write_all(format!("HTTP/1.1 {head}\r\nconnection: close\r\n\r\n").as_bytes()).await?;
    stream.write_all(&body).await?;
    match then {
        Then::Close => stream.shutdown().await,
        // Reading waits until the other side goes.
        Then::Hang => stream.read_to_end(&mut Vec::new()).await.map(drop),
        Then::GoOnForEver => loop {
            stream.write_all(&[0; 64 << 10]).await?;
        },
    }
}

async fn read_request(stream: &mut TcpStream) -> std::io::Result<Asked> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    let range = head.lines().find_map(|line| line.strip_prefix("range: bytes="));
    let from = range.and_then(|range| range.trim_end_matches('-').parse().ok());
    Ok(Asked { path, from })
}

/// The name of some bytes.
pub(crate) fn hash_of(bytes: &[u8]) -> ArtifactHash {
    use sha2::Digest;
    ArtifactHash(sha2::Sha256::digest(bytes).into())
}

/// Bytes of which no two stretches are alike.
pub(crate) fn varied(length: usize, seed: u8) -> Vec<u8> {
    let mut state = u32::from(seed) + 1;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    std::iter::repeat_with(next).take(length).collect()
}
