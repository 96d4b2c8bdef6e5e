//! The clients: connections, what is under way on them, and coming again. Owns sockets and time; what is asked, and whether what comes
//! back is right, is the book's.
//!
//! ```text
//!   connect ──► shake hands ──► send, receive ──connection lost──► expected? ──yes──► the book notes it; connect
//!     ▲ │ nobody there, for a while                                   └──no──► found wrong
//!     └─┘
//! ```

use crate::{
    block::BLOCK,
    cell::Content,
    finding::Findings,
    nbd::{self, shake_hands},
    oracle::Oracle,
    order::VolumeOrder,
    request::{Counts, What},
};
use anyhow::Result;
use camino::{Utf8Path, Utf8PathBuf};
use std::{
    collections::BTreeMap,
    fmt::Display,
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use testbed::wait_for;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{Notify, Semaphore},
    task::JoinSet,
    time::sleep,
};

/// Requests that a client has under way.
const DEPTH: usize = 16;

/// Before the next attempt at an export that is being started.
const AGAIN: Duration = Duration::from_millis(20);

/// How long clients may wait for whatever they wait for, while every process is there: a hundred times what it takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// All clients.
#[derive(Debug)]
pub(crate) struct Load {
    clients: Vec<Arc<Client>>,
    tasks: JoinSet<()>,
}

#[derive(Debug)]
struct Client {
    socket: Utf8PathBuf,
    /// Bytes of the whole export.
    bytes: u64,
    book: Mutex<Oracle>,
    findings: Arc<Findings>,
    /// When each request that is under way was sent, and the longest that one took.
    waits: Mutex<(BTreeMap<u64, Instant>, Duration)>,
    /// When it had shaken hands, while it is connected.
    connected: Mutex<Option<Instant>>,
    /// Something has changed for whoever sends.
    wake: Notify,
    may_begin: AtomicBool,
    may_lose: AtomicBool,
    is_over: AtomicBool,
}

/// Why a connection has ended.
#[derive(Debug)]
enum End {
    Over,
    Lost(io::Error),
    /// It is among the findings.
    Wrong,
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> End {
        End::Lost(error)
    }
}

impl Load {
    /// Begins.
    pub(crate) fn start(order: &VolumeOrder, socket: &Utf8Path, findings: &Arc<Findings>) -> Load {
        let clients: Vec<Arc<Client>> = (0..order.clients)
            .map(|number| {
                let first = u64::from(number) * u64::from(order.client_blocks);
                let seed = order.seed.wrapping_add(u64::from(number) + 1);
                Arc::new(Client {
                    socket: socket.to_owned(),
                    bytes: order.blocks() * BLOCK as u64,
                    book: Mutex::new(Oracle::new(order.seed, seed, first, order.client_blocks)),
                    findings: Arc::clone(findings),
                    waits: Mutex::default(),
                    connected: Mutex::default(),
                    wake: Notify::new(),
                    may_begin: AtomicBool::new(true),
                    may_lose: AtomicBool::new(false),
                    is_over: AtomicBool::new(false),
                })
            })
            .collect();
        let tasks = clients.iter().map(|client| Arc::clone(client).work()).collect();
        Load { clients, tasks }
    }

    /// From now on the connections may be lost; or not.
    pub(crate) fn may_lose(&self, may_lose: bool) {
        self.clients.iter().for_each(|client| client.may_lose.store(may_lose, Ordering::SeqCst));
    }

    pub(crate) fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        self.clients.iter().for_each(|client| counts += client.book().counts());
        counts
    }

    /// The longest that a request took until it was answered.
    pub(crate) fn longest_wait(&self) -> Duration {
        self.clients.iter().map(|client| lock(&client.waits).1).max().unwrap_or_default()
    }

    /// Waits until each client was answered so many times from now on.
    pub(crate) async fn progress(&self, answers: u64) -> Result<()> {
        let before: Vec<u64> = self.clients.iter().map(|client| client.book().counts().answered()).collect();
        let is_enough =
            |(client, before): (&Arc<Client>, &u64)| client.book().counts().answered() >= before + answers;
        self.wait("clients to be answered", || self.clients.iter().zip(&before).all(is_enough)).await
    }

    /// Waits until all clients together have written so many blocks from now on.
    pub(crate) async fn written(&self, blocks: u64) -> Result<()> {
        let enough = self.counts().blocks_written + blocks;
        self.wait("clients to write", || self.counts().blocks_written >= enough).await
    }

    /// Waits until each client has shaken hands after this, and has read everything again.
    ///
    /// How many connections it has lost says nothing: a process that is being killed may still let it connect once more.
    pub(crate) async fn came_again(&self, since: Instant) -> Result<()> {
        let is_there = |client: &Arc<Client>| {
            let is_new = lock(&client.connected).is_some_and(|connected| connected > since);
            is_new && !client.book().is_sweeping()
        };
        self.wait("clients to come again and to read everything", || self.clients.iter().all(is_there)).await
    }

    /// Lets nothing more begin, and waits until nothing is under way and everything was read once more.
    pub(crate) async fn settle(&self) -> Result<()> {
        let settled = async {
            self.clients.iter().for_each(|client| client.let_begin(false));
            self.wait("clients to be answered for the last time", || {
                self.clients.iter().all(|client| client.book().is_idle())
            })
            .await?;
            self.clients.iter().for_each(|client| {
                client.book().begin_sweep();
                client.wake.notify_one();
            });
            self.wait("clients to read everything", || {
                self.clients.iter().all(|client| client.book().is_idle())
            })
            .await
        };
        settled.await
    }

    /// Goes on after [`Load::settle`].
    pub(crate) fn go_on(&self) {
        self.clients.iter().for_each(|client| client.let_begin(true));
    }

    /// Some blocks of one client, with the write that they are of: nobody writes them until [`Load::release`].
    pub(crate) fn hold(&self, client: usize, count: usize) -> Vec<(u64, u64)> {
        self.clients[client % self.clients.len()].book().hold(count)
    }

    /// All blocks may be written again.
    pub(crate) fn release(&self) {
        self.clients.iter().for_each(|client| client.book().release());
    }

    /// What each block is to hold, as far as only one thing is possible.
    pub(crate) fn settled(&self) -> BTreeMap<u64, Content> {
        self.clients.iter().flat_map(|client| client.book().settled()).collect()
    }

    /// What is known of a block, for people.
    pub(crate) fn history(&self, block: u64) -> String {
        self.clients.iter().map(|client| client.book().history(block)).collect()
    }

    /// Ends the clients, which have nothing under way.
    pub(crate) async fn end(mut self) -> Result<()> {
        self.clients.iter().for_each(|client| {
            client.is_over.store(true, Ordering::SeqCst);
            client.wake.notify_one();
        });
        while let Some(ended) = self.tasks.join_next().await {
            ended?;
        }
        Ok(())
    }

    /// Whoever waits is told at once of what was found.
    async fn wait(&self, what: &str, is_so: impl Fn() -> bool) -> Result<()> {
        let waited = wait_for(what, PATIENCE, async || {
            let is_over = self.clients.iter().any(|client| client.findings.are_there());
            if is_over || is_so() { Ok(()) } else { Err(self.under_way()) }
        });
        waited.await
    }

    fn under_way(&self) -> impl Display {
        let oldest = self.clients.iter().filter_map(|client| lock(&client.waits).0.values().min().copied());
        match oldest.min() {
            Some(sent) => format!("the oldest request was sent {:.1} s ago", sent.elapsed().as_secs_f32()),
            None => "no request is under way".to_owned(),
        }
    }
}

impl Client {
    async fn work(self: Arc<Client>) {
        let mut patience = Instant::now() + PATIENCE;
        while !self.findings.are_there() && !self.is_over.load(Ordering::SeqCst) {
            let end = match UnixStream::connect(&self.socket).await {
                Ok(stream) => {
                    let end = self.talk(stream).await;
                    patience = Instant::now() + PATIENCE;
                    end
                }
                // It is being started.
                Err(_) if Instant::now() < patience => {
                    sleep(AGAIN).await;
                    continue;
                }
                Err(error) => End::Lost(error),
            };
            match end {
                End::Over | End::Wrong => return,
                // Whatever it was is the consequence of something else.
                End::Lost(_) if self.findings.are_there() => return,
                End::Lost(_) if self.may_lose.load(Ordering::SeqCst) => {
                    lock(&self.waits).0.clear();
                    // In this order: nobody is taken for one who is connected and has read everything.
                    *lock(&self.connected) = None;
                    self.book().lose_connection();
                }
                End::Lost(error) => {
                    return self.findings.add(None, format!("a client's connection is gone: {error}"), "");
                }
            }
        }
    }

    async fn talk(&self, mut stream: UnixStream) -> End {
        match shake_hands(&mut stream).await {
            Ok(bytes) if bytes == self.bytes => {}
            Ok(bytes) => {
                self.findings.add(None, format!("the export has {bytes} bytes, not {}", self.bytes), "");
                return End::Wrong;
            }
            Err(error) => return End::Lost(error),
        }
        *lock(&self.connected) = Some(Instant::now());
        let slots = Semaphore::new(DEPTH);
        let (read, write) = stream.into_split();
        // Both end with the first one: then the connection is of no use.
        let ended = tokio::select! {
            sent = self.send(write, &slots) => sent,
            received = self.receive(read, &slots) => received,
        };
        ended.err().unwrap_or(End::Over)
    }

    async fn send(&self, mut stream: OwnedWriteHalf, slots: &Semaphore) -> Result<(), End> {
        let salt = self.book().salt();
        loop {
            slots.acquire().await.map_err(io::Error::other)?.forget();
            let request = loop {
                if self.is_over.load(Ordering::SeqCst) {
                    return Ok(());
                }
                let request = self.book().next_request(self.may_begin.load(Ordering::SeqCst));
                if let Some(request) = request {
                    break request;
                }
                self.wake.notified().await;
            };
            lock(&self.waits).0.insert(request.number, Instant::now());
            stream.write_all(&nbd::encode(&request, salt)).await?;
        }
    }

    async fn receive(&self, mut stream: OwnedReadHalf, slots: &Semaphore) -> Result<(), End> {
        let mut bytes = Vec::new();
        loop {
            let reply = nbd::next_reply(&mut stream).await?;
            let request = self.book().under_way(reply.number);
            let Some(request) = request else {
                return Err(self.wrong(format!("request {} is answered, and was not asked", reply.number)));
            };
            if reply.error != 0 {
                let error = io::Error::from_raw_os_error(reply.error as i32);
                return Err(self.wrong(format!("{request:?} is answered with an error: {error}")));
            }
            bytes.clear();
            if request.what == What::Read {
                bytes.resize(request.count as usize * BLOCK, 0);
                stream.read_exact(&mut bytes).await?;
            }
            self.note_answer(reply.number);
            let answered = self.book().answered(reply.number, &bytes);
            if let Err(wrong) = answered {
                self.findings.add(Some(wrong.block), wrong.what, wrong.history);
                return Err(End::Wrong);
            }
            slots.add_permits(1);
            self.wake.notify_one();
        }
    }

    fn note_answer(&self, number: u64) {
        let mut waits = lock(&self.waits);
        let took = waits.0.remove(&number).map(|sent| sent.elapsed()).unwrap_or_default();
        waits.1 = waits.1.max(took);
    }

    fn wrong(&self, what: String) -> End {
        self.findings.add(None, what, "");
        End::Wrong
    }

    fn let_begin(&self, may_begin: bool) {
        self.may_begin.store(may_begin, Ordering::SeqCst);
        self.wake.notify_one();
    }

    fn book(&self) -> MutexGuard<'_, Oracle> {
        lock(&self.book)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
