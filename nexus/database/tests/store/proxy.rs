//! A wire to PostgreSQL that is cut at a COMMIT: before the server hears it, or after it has answered; or that swallows it.

use nexus_database::Location;
use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
};
use test_postgres::TestDatabase;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};

/// As the driver says it: a simple query.
const COMMIT: &[u8] = b"COMMIT\0";

/// What happens at the next COMMIT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// It arrives, and its answer does not.
    Answer = 1,
    /// It does not arrive.
    Commit = 2,
    /// It does not arrive, nor anything after it, and nobody is told.
    Silence = 3,
}

/// The wire.
pub(crate) struct Proxy {
    port: u16,
    next: Arc<AtomicU8>,
}

impl Proxy {
    /// Before a server, and the way to its database over this.
    pub(crate) async fn to(server: &TestDatabase) -> (Proxy, Location) {
        let port: u16 = server.url.rsplit([':', '/']).nth(1).unwrap().parse().unwrap();
        let proxy = Proxy::before(port).await;
        let url = server.url.replace(&format!(":{port}/"), &format!(":{}/", proxy.port));
        let location = Location::parse(&url, Some(&server.password_file), "none".into()).unwrap();
        (proxy, location)
    }

    async fn before(server: u16) -> Proxy {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let next = Arc::new(AtomicU8::new(0));
        let cuts = Arc::clone(&next);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
                tokio::spawn(pass(client, server, Arc::clone(&cuts)));
            }
        });
        Proxy { port, next }
    }

    /// Cuts whichever connection commits next.
    pub(crate) fn cut(&self, cut: Cut) {
        self.next.store(cut as u8, Ordering::SeqCst);
    }

    /// Whether it has been cut.
    pub(crate) fn is_whole(&self) -> bool {
        self.next.load(Ordering::SeqCst) != 0
    }
}

async fn pass(client: TcpStream, server: TcpStream, cuts: Arc<AtomicU8>) {
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::select! {
        () = copy_until_cut(from_client, to_server, cuts) => {}
        () = copy(from_server, to_client) => {}
    }
}

async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
    let mut buffer = vec![0; 65_536];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}

async fn copy_until_cut(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, cuts: Arc<AtomicU8>) {
    let mut buffer = vec![0; 65_536];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        let bytes = &buffer[..count];
        let commits = bytes.windows(COMMIT.len()).any(|words| words == COMMIT);
        match if commits { cuts.swap(0, Ordering::SeqCst) } else { 0 } {
            0 => {
                if to.write_all(bytes).await.is_err() {
                    return;
                }
            }
            cut if cut == Cut::Answer as u8 => {
                // The server reads what has come before it sees that nobody listens.
                to.write_all(bytes).await.unwrap();
                to.shutdown().await.unwrap();
                return;
            }
            cut if cut == Cut::Silence as u8 => std::future::pending().await,
            _ => return,
        }
    }
}
