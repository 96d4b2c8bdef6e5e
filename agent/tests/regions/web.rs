//! A web server on this machine that has one thing, and may be held in the middle of it, or break off.

use std::{
    collections::{BTreeSet, VecDeque},
    io,
    net::IpAddr,
    sync::{Arc, Mutex},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

/// What it does with one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Answers.
    Answers,
    /// Closes the connection behind so many bytes of the content.
    BreaksOffAt(usize),
    /// Waits behind so many bytes of the content, until it is released.
    HeldAt(usize),
    /// Says nothing of what its content is known by.
    Unnamed(usize),
    /// Has another content of the same length by now.
    Changed,
}

/// A web server.
pub(crate) struct Web {
    pub(crate) url: String,
    /// The ranges that it was asked for; none for all.
    pub(crate) asked: Arc<Mutex<Vec<Option<usize>>>>,
    /// From where it was asked.
    pub(crate) askers: Arc<Mutex<BTreeSet<IpAddr>>>,
    released: watch::Sender<bool>,
    serves: JoinHandle<()>,
}

impl Drop for Web {
    fn drop(&mut self) {
        self.serves.abort();
    }
}

impl Web {
    /// One that does these with the first requests, and answers the others.
    pub(crate) async fn start(content: Vec<u8>, manners: &[Manner]) -> Web {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://reader:secret@{}/image", listener.local_addr().unwrap());
        let (released, release) = watch::channel(false);
        let asked = Arc::new(Mutex::new(Vec::new()));
        let askers = Arc::new(Mutex::new(BTreeSet::new()));
        let came = Arc::clone(&askers);
        let (content, seen) = (Arc::new(content), Arc::clone(&asked));
        let mut manners: VecDeque<Manner> = manners.iter().copied().collect();
        let serves = tokio::spawn(async move {
            while let Ok((socket, from)) = listener.accept().await {
                came.lock().unwrap().insert(from.ip());
                let manner = manners.pop_front().unwrap_or(Manner::Answers);
                let (content, release, seen) = (Arc::clone(&content), release.clone(), Arc::clone(&seen));
                // One whose client is gone in the middle is nobody's trouble.
                tokio::spawn(async move { answer(socket, &content, manner, release, &seen).await });
            }
        });
        Web { url, asked, askers, released, serves }
    }

    /// Lets those go on that are held.
    pub(crate) fn release(&self) {
        self.released.send_replace(true);
    }
}

async fn answer(
    mut socket: TcpStream,
    content: &[u8],
    manner: Manner,
    mut release: watch::Receiver<bool>,
    seen: &Mutex<Vec<Option<usize>>>,
) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
    let from = head.split_once("range: bytes=").and_then(|(_, rest)| rest.split_once('-'));
    let from: Option<usize> = from.map(|(from, _)| from.parse().unwrap());
    seen.lock().unwrap().push(from);
    let (start, size) = (from.unwrap_or(0), content.len());
    let mut told = match from {
        None => "HTTP/1.1 200 OK\r\n".to_owned(),
        Some(from) => {
            format!("HTTP/1.1 206 Partial Content\r\ncontent-range: bytes {from}-{}/{size}\r\n", size - 1)
        }
    };
    told += match manner {
        Manner::Unnamed(_) => "",
        Manner::Changed => "etag: \"two\"\r\n",
        Manner::Answers | Manner::BreaksOffAt(_) | Manner::HeldAt(_) => "etag: \"one\"\r\n",
    };
    told += &format!("content-length: {}\r\nconnection: close\r\n\r\n", size - start);
    socket.write_all(told.as_bytes()).await?;
    let (Manner::BreaksOffAt(end) | Manner::HeldAt(end) | Manner::Unnamed(end)) = manner else {
        return socket.write_all(&content[start..]).await;
    };
    let end = end.max(start);
    socket.write_all(&content[start..end]).await?;
    if matches!(manner, Manner::HeldAt(_)) {
        release.wait_for(|released| *released).await.map_err(io::Error::other)?;
        socket.write_all(&content[end..]).await?;
    }
    Ok(())
}
