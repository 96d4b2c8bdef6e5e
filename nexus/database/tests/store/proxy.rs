//! A wire to PostgreSQL that is cut at a commit: before the server hears it, or after it has answered; or that swallows it. A
//! commit is the word, or a statement that is its own transaction.

use nexus_database::Location;
use std::sync::{Arc, Mutex};
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

/// What is in the statement that is its own transaction, and in no other.
const ALL_OF_THEM: &[u8] = b"all_of_them";

/// What happens at the next commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// It arrives, and its answer does not.
    Answer,
    /// It does not arrive.
    Commit,
    /// It does not arrive, nor anything after it, and nobody is told.
    Silence,
}

/// Cuts that are still to come.
#[derive(Clone, Default)]
struct Cuts(Arc<Mutex<Vec<Cut>>>);

impl Cuts {
    fn next(&self) -> Option<Cut> {
        self.0.lock().unwrap().pop()
    }
}

/// The wire.
pub(crate) struct Proxy {
    port: u16,
    cuts: Cuts,
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
        let cuts = Cuts::default();
        let of_all = cuts.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
                tokio::spawn(pass(client, server, of_all.clone()));
            }
        });
        Proxy { port, cuts }
    }

    /// Cuts whichever connection commits next.
    pub(crate) fn cut(&self, cut: Cut) {
        self.cut_times(cut, 1);
    }

    /// Cuts the connections of the next so many commits.
    pub(crate) fn cut_times(&self, cut: Cut, times: usize) {
        *self.cuts.0.lock().unwrap() = vec![cut; times];
    }

    /// Whether a cut is still to come.
    pub(crate) fn is_whole(&self) -> bool {
        !self.cuts.0.lock().unwrap().is_empty()
    }
}

async fn pass(client: TcpStream, server: TcpStream, cuts: Cuts) {
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

async fn copy_until_cut(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, cuts: Cuts) {
    let mut buffer = vec![0; 65_536];
    let mut prepared = None;
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        let bytes = &buffer[..count];
        // Parse: its name, and its text.
        if bytes[0] == b'P' && has(bytes, ALL_OF_THEM) {
            let name = bytes[5..].split_inclusive(|byte| *byte == 0).next().unwrap();
            prepared = Some(name.to_vec());
        }
        let runs = |name: &Vec<u8>| bytes[0] == b'B' && has(bytes, name);
        let commits = has(bytes, COMMIT) || prepared.as_ref().is_some_and(runs);
        match commits.then(|| cuts.next()).flatten() {
            None => {
                if to.write_all(bytes).await.is_err() {
                    return;
                }
            }
            Some(Cut::Answer) => {
                // The server reads what has come before it sees that nobody listens.
                to.write_all(bytes).await.unwrap();
                to.shutdown().await.unwrap();
                return;
            }
            Some(Cut::Silence) => std::future::pending().await,
            Some(Cut::Commit) => return,
        }
    }
}

fn has(bytes: &[u8], words: &[u8]) -> bool {
    bytes.windows(words.len()).any(|there| there == words)
}
