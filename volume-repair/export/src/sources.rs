//! Reading from files, URLs and snapshots, beside the loop, which never waits for them. Owns a thread, which waits for servers, and the few that wait
//! for disks.
//!
//! ```text
//!   loop ──fetch──► thread "sources" ──┬── a URL, a snapshot: asked, as often as is of use
//!        ◄──waker, blocks or why not───┴── a file: one of a few threads that wait for a disk
//! ```
//!
//! How many are under way at a time is bounded by whoever asks: [`volume_layers`].

use crate::{
    file_source::{FileError, FileSource},
    snapshot_source::{NotRead, SnapshotSource},
    url_source::{UrlError, UrlSource, client},
    web_address::web_address,
};
use camino::Utf8PathBuf;
use mio::Waker;
use region::Member;
use std::{
    collections::{BTreeMap, btree_map::Entry},
    error::Error,
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        mpsc::{self, Receiver, SyncSender},
    },
    thread::{self, JoinHandle},
};
use tokio::{
    runtime::{Builder, Runtime},
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
};
use upstairs::Data;
use volume_layers::{Fetch, FetchError, FetchId, HttpUrl, Source, SourceId};

/// Threads that wait for disks. More would not make a disk faster.
const FILE_THREADS: usize = 4;

/// Why a file, a URL or a snapshot cannot be a part of a volume.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The file is not to be had.
    #[error("the file {path} cannot be opened")]
    NotOpened {
        /// Which.
        path: Utf8PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It is a directory, a device, or something else that has no size or no content.
    #[error("{path} is no file")]
    NotAFile {
        /// Which.
        path: Utf8PathBuf,
    },
    /// It has nothing.
    #[error("the file {path} is empty")]
    Empty {
        /// Which.
        path: Utf8PathBuf,
    },
    /// There is no half block.
    #[error(
        "the file {path} has {bytes} bytes, which are not whole blocks of {block}: make it larger, with zeros"
    )]
    HalfBlock {
        /// Which.
        path: Utf8PathBuf,
        /// Its size.
        bytes: u64,
        /// Bytes of a block.
        block: u64,
    },
    /// The server does not have it, or not in a way that is of use.
    #[error("{url} cannot be read")]
    Url {
        /// Which, without what may be secret.
        url: HttpUrl,
        /// For programs.
        code: &'static str,
        /// Why not.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// No member has it, or in a way that is of use.
    #[error("{name} cannot be read")]
    Snapshot {
        /// Which.
        name: String,
        /// For programs.
        code: &'static str,
        /// Why not.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The system refuses.
    #[error("files and URLs cannot be read")]
    System(#[source] io::Error),
}

impl SourceError {
    /// A name for programs, which does not change.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            SourceError::NotOpened { .. } => "volume_file_not_opened",
            SourceError::NotAFile { .. } => "volume_file_kind",
            SourceError::Empty { .. } => "volume_source_empty",
            SourceError::HalfBlock { .. } => "volume_source_size",
            SourceError::Url { code, .. } | SourceError::Snapshot { code, .. } => code,
            SourceError::System(_) => "volume_sources_not_started",
        }
    }
}

/// What came of a fetch.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub(crate) id: FetchId,
    pub(crate) source: SourceId,
    pub(crate) result: Result<Vec<Data>, FetchError>,
}

/// Files, URLs and snapshots that are open.
#[derive(Debug)]
pub(crate) struct Sources {
    /// The thread goes on until this is gone.
    orders: Option<UnboundedSender<Order>>,
    fetched: Receiver<Fetched>,
    thread: Option<JoinHandle<()>>,
}

/// What the thread is told.
#[derive(Debug)]
enum Order {
    Fetch(Fetch),
    /// A snapshot is read from these from now on.
    Members(SourceId, Vec<(Member, SocketAddr)>),
}

/// One of them.
#[derive(Debug)]
enum Open {
    File(Arc<FileSource>),
    Url(UrlSource),
    Snapshot(SnapshotSource),
}

impl Sources {
    /// Opens them, and says how many blocks each has. Waits for servers, as long as one that is started again may take. Members are asked from
    /// this address.
    pub(crate) fn open(
        sources: Vec<Source>,
        block_bytes: u64,
        own: Option<IpAddr>,
        waker: Arc<Waker>,
    ) -> Result<(Sources, Vec<u64>), SourceError> {
        let runtime = Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .max_blocking_threads(FILE_THREADS)
            .build()
            .map_err(SourceError::System)?;
        let (orders, taken) = unbounded_channel();
        let (tell, fetched) = mpsc::channel();
        let (tell_opened, opened) = mpsc::sync_channel(1);
        let serve = move || {
            let desk = Desk { block_bytes, own, fetched: tell, waker };
            serve(runtime, sources, &desk, &tell_opened, taken);
        };
        let thread = thread::Builder::new().name("sources".to_owned()).spawn(serve);
        let thread = Some(thread.map_err(SourceError::System)?);
        let sources = Sources { orders: Some(orders), fetched, thread };
        let gone = |_| SourceError::System(io::Error::other("the thread that reads them has ended"));
        let blocks = opened.recv().map_err(gone)??;
        Ok((sources, blocks))
    }

    /// Begins to read.
    pub(crate) fn fetch(&self, fetch: Fetch) {
        if let Some(orders) = &self.orders {
            // It ends with this one, or by a panic, which has said so.
            let _ = orders.send(Order::Fetch(fetch));
        }
    }

    /// A snapshot is read from these from now on.
    pub(crate) fn set_members(&self, source: SourceId, members: Vec<(Member, SocketAddr)>) {
        if let Some(orders) = &self.orders {
            let _ = orders.send(Order::Members(source, members));
        }
    }

    /// The next that has ended, if there is one.
    pub(crate) fn next(&self) -> Option<Fetched> {
        self.fetched.try_recv().ok()
    }
}

impl Drop for Sources {
    fn drop(&mut self) {
        drop(self.orders.take());
        if let Some(thread) = self.thread.take() {
            // One that has panicked has said so.
            let _ = thread.join();
        }
    }
}

/// Where answers go.
#[derive(Clone, Debug)]
struct Desk {
    block_bytes: u64,
    /// The address that connections to members leave from.
    own: Option<IpAddr>,
    fetched: mpsc::Sender<Fetched>,
    waker: Arc<Waker>,
}

fn serve(
    runtime: Runtime,
    sources: Vec<Source>,
    desk: &Desk,
    tell_opened: &SyncSender<Result<Vec<u64>, SourceError>>,
    mut orders: UnboundedReceiver<Order>,
) {
    runtime.block_on(async {
        let opened = match open(sources, desk).await {
            Ok(opened) => Arc::new(opened),
            // Nobody is there to hear it if the export was given up.
            Err(error) => return drop(tell_opened.send(Err(error))),
        };
        let blocks = opened.iter().map(|source| source.size() / desk.block_bytes).collect();
        let _ = tell_opened.send(Ok(blocks));
        while let Some(order) = orders.recv().await {
            let fetch = match order {
                Order::Fetch(fetch) => fetch,
                Order::Members(source, members) => {
                    if let Some(Open::Snapshot(snapshot)) = opened.get(source.0) {
                        snapshot.set_members(members);
                    }
                    continue;
                }
            };
            let (opened, desk) = (Arc::clone(&opened), desk.clone());
            tokio::spawn(async move {
                let Fetch { id, source, .. } = fetch;
                let result = opened[source.0].read(fetch, desk.block_bytes).await;
                // The loop takes it when it wakes, or is not there any more.
                let _ = desk.fetched.send(Fetched { id, source, result });
                let _ = desk.waker.wake();
            });
        }
    });
    // A disk that does not answer, or a server, holds up nobody's end.
    runtime.shutdown_background();
}

async fn open(sources: Vec<Source>, desk: &Desk) -> Result<Vec<Open>, SourceError> {
    let block_bytes = desk.block_bytes;
    let mut opened = Vec::new();
    // Each has connections of its own; all that are asked from one address share one.
    let mut http = BTreeMap::new();
    for source in sources {
        opened.push(match source {
            Source::File { path } => Open::File(Arc::new(FileSource::open(&path, block_bytes)?)),
            Source::Url { url, size_bytes } => {
                let unusable = |error: UrlError| SourceError::Url {
                    url: url.clone(),
                    code: error.code(),
                    source: error.into(),
                };
                let client = match http.entry(web_address(desk.own, &url).await) {
                    Entry::Occupied(there) => there.into_mut(),
                    Entry::Vacant(place) => {
                        let made = client(*place.key()).map_err(unusable)?;
                        place.insert(made)
                    }
                };
                let source = UrlSource::open(client.clone(), url.clone(), size_bytes, block_bytes);
                Open::Url(source.await.map_err(unusable)?)
            }
            Source::Snapshot(of) => {
                let name = of.to_string();
                let opened = SnapshotSource::open(of, desk.own).await;
                Open::Snapshot(opened.map_err(|error: NotRead| SourceError::Snapshot {
                    name,
                    code: error.code(),
                    source: error.into(),
                })?)
            }
        });
    }
    Ok(opened)
}

impl Open {
    fn size(&self) -> u64 {
        match self {
            Open::File(file) => file.size(),
            Open::Url(url) => url.size(),
            Open::Snapshot(snapshot) => snapshot.size(),
        }
    }

    async fn read(&self, fetch: Fetch, block_bytes: u64) -> Result<Vec<Data>, FetchError> {
        let (offset, length) = (fetch.first * block_bytes, fetch.count * block_bytes);
        let bytes = match self {
            Open::File(file) => {
                let file = Arc::clone(file);
                let length = usize::try_from(length).expect("a fetch is small");
                let reading = tokio::task::spawn_blocking(move || file.read(offset, length));
                let read = reading.await.map_err(|error| FetchError(error.to_string()))?;
                read.map_err(|error: FileError| FetchError(problem::chain(&error)))?
            }
            Open::Url(url) => {
                let read = url.read(offset..offset + length).await;
                read.map_err(|error| FetchError(problem::chain(&error)))?
            }
            Open::Snapshot(snapshot) => {
                let read = snapshot.read(fetch.first, fetch.count).await;
                return read.map_err(|error| FetchError(problem::chain(&error)));
            }
        };
        Ok(vec![Data::Bytes(bytes)])
    }
}
