//! A peer that answers every connection with the same bytes, and notes what it was asked.

use api_client::{ApiClient, ClientOptions};
use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// How long the tests' clients let a peer be silent.
pub(crate) const SILENCE: Duration = Duration::from_millis(300);

/// A peer that runs. It ends when it is dropped.
pub(crate) struct Peer {
    pub(crate) url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    serving: JoinHandle<()>,
}

/// One request that it got.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) from: IpAddr,
    /// The request line and the headers, in lower case but for the path.
    pub(crate) head: String,
}

/// What it does after its bytes.
#[derive(Clone, Copy)]
pub(crate) enum Then {
    Close,
    Hang,
    /// Sends blanks until nobody takes them any more.
    GoOn,
}

impl Peer {
    pub(crate) async fn start(answer: impl Into<Vec<u8>>, then: Then) -> Peer {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let url = format!("http://{}", listener.local_addr().expect("it listens"));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (answer, log) = (Arc::new(answer.into()), Arc::clone(&asked));
        let serving = tokio::spawn(async move {
            while let Ok((stream, from)) = listener.accept().await {
                tokio::spawn(serve(stream, from, Arc::clone(&answer), then, Arc::clone(&log)));
            }
        });
        Peer { url, asked, serving }
    }

    /// A peer that answers with this status and body.
    pub(crate) async fn answering(status: &str, headers: &str, body: &str) -> Peer {
        let length = body.len();
        let head =
            format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n{headers}\r\n");
        Peer::start(format!("{head}{body}"), Then::Close).await
    }

    pub(crate) fn client(&self) -> ApiClient {
        self.client_with(ClientOptions::default())
    }

    pub(crate) fn client_with(&self, options: ClientOptions) -> ApiClient {
        let options = ClientOptions { read_idle_timeout: Some(SILENCE), ..options };
        ApiClient::new(&self.url, &options).expect("its URL is one")
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("nothing panics while it holds the log").clone()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Asked {
    pub(crate) fn line(&self) -> &str {
        self.head.lines().next().unwrap_or_default()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

async fn serve(
    mut stream: TcpStream,
    from: SocketAddr,
    answer: Arc<Vec<u8>>,
    then: Then,
    log: Arc<Mutex<Vec<Asked>>>,
) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    log.lock().expect("nothing panics while it holds the log").push(Asked { from: from.ip(), head });
    stream.write_all(&answer).await?;
    match then {
        Then::Close => stream.shutdown().await,
        Then::Hang => stream.read_to_end(&mut Vec::new()).await.map(drop),
        Then::GoOn => loop {
            stream.write_all(&[b' '; 16 << 10]).await?;
        },
    }
}
