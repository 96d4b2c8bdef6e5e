//! The client that writes while snapshots are taken, and the one that reads them. Owns sockets and time; what is written is `written`'s, and the
//! protocol is that of the soak's clients.
//!
//! fio writes what nobody can tell from what it wrote before, so it would not do here.

use super::{
    load::{Requests, now_ms},
    written::{Content, Order, Reading, SLOT, fill},
};
use anyhow::{Context, Result, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{
    io::AsyncWriteExt,
    net::{
        UnixStream,
        unix::{ReadHalf, WriteHalf},
    },
    sync::Semaphore,
    task::JoinHandle,
    time::{MissedTickBehavior, interval},
};
use volume_soak::{
    NbdClient,
    nbd::{self, Command, header, next_reply},
};

/// 50 MiB in a second.
const BETWEEN_WRITES: Duration = Duration::from_micros(1_250);

/// Writes that are under way at once.
const DEPTH: u32 = 4;

/// The same while all of it is written for the first time.
const FILL_DEPTH: u32 = 16;

/// A client that writes one slot after the other.
pub(super) struct Writer {
    book: Arc<Book>,
    task: JoinHandle<Result<()>>,
}

#[derive(Debug, Default)]
struct Book {
    pages: Mutex<Pages>,
    is_over: AtomicBool,
}

#[derive(Debug, Default)]
struct Pages {
    /// The last write that was sent, and the last one that was answered.
    sent: u64,
    answered: u64,
    under_way: BTreeMap<u64, Instant>,
    /// When each one was answered, and after how many microseconds.
    requests: Vec<(u64, f64)>,
}

/// Writes all slots once.
pub(super) async fn fill_all(socket: &Utf8Path, order: Order) -> Result<()> {
    let (book, slots) = (Book::default(), 0..order.slots());
    let filled = write(socket, &book, slots.map(|slot| (slot, slot, 0)), FILL_DEPTH, None);
    filled.await.with_context(|| format!("filling {socket}"))
}

impl Writer {
    /// Begins with write 1.
    pub(super) fn start(socket: &Utf8Path, order: Order) -> Writer {
        let book = Arc::new(Book::default());
        let (of_task, socket): (_, Utf8PathBuf) = (Arc::clone(&book), socket.to_owned());
        let task = tokio::spawn(async move {
            let writes = (1..).map(|write| (write, order.slot_of(write), write));
            write(&socket, &of_task, writes, DEPTH, Some(BETWEEN_WRITES)).await
        });
        Writer { book, task }
    }

    /// The newest write that was answered.
    pub(super) fn answered(&self) -> u64 {
        self.book.pages().answered
    }

    /// The newest write that was sent.
    pub(super) fn sent(&self) -> u64 {
        self.book.pages().sent
    }

    /// Ends it when all was answered; all of its requests.
    pub(super) async fn end(self) -> Result<Requests> {
        self.book.is_over.store(true, Ordering::SeqCst);
        self.task.await.context("the writer has panicked")??;
        Ok(Requests::of_writes(&self.book.pages().requests))
    }
}

impl Book {
    fn note_sent(&self, number: u64) {
        let mut pages = self.pages();
        pages.sent = number;
        pages.under_way.insert(number, Instant::now());
    }

    fn note_answered(&self, number: u64) -> Result<()> {
        let (ended_ms, mut pages) = (now_ms()?, self.pages());
        let sent = pages.under_way.remove(&number);
        let sent = sent.with_context(|| format!("write {number} is answered, and is not under way"))?;
        pages.answered = pages.answered.max(number);
        pages.requests.push((ended_ms, sent.elapsed().as_secs_f64() * 1e6));
        Ok(())
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends these writes, by their numbers, slots, and what is written, in this order; until there are no more, or it is over.
async fn write(
    socket: &Utf8Path,
    book: &Book,
    writes: impl Iterator<Item = (u64, u64, u64)>,
    depth: u32,
    between: Option<Duration>,
) -> Result<()> {
    let mut stream = connect(socket).await?;
    let (replies, requests) = stream.split();
    let places = Semaphore::new(depth as usize);
    tokio::select! {
        sent = async {
            send(requests, book, writes, &places, between).await?;
            // The last ones are answered.
            places.acquire_many(depth).await?.forget();
            Ok(())
        } => sent,
        received = receive(replies, book, &places) => received,
    }
}

async fn send(
    mut requests: WriteHalf<'_>,
    book: &Book,
    mut writes: impl Iterator<Item = (u64, u64, u64)>,
    places: &Semaphore,
    between: Option<Duration>,
) -> Result<()> {
    let mut clock = between.map(interval);
    if let Some(clock) = &mut clock {
        // What was late is not left out: it is so many bytes in a second.
        clock.set_missed_tick_behavior(MissedTickBehavior::Burst);
    }
    let mut bytes = vec![0; SLOT];
    while !book.is_over.load(Ordering::SeqCst)
        && let Some((number, slot, write)) = writes.next()
    {
        if let Some(clock) = &mut clock {
            clock.tick().await;
        }
        places.acquire().await?.forget();
        fill(&mut bytes, slot, write);
        book.note_sent(number);
        requests.write_all(&header(Command::Write, number, slot * SLOT as u64, SLOT as u32)).await?;
        requests.write_all(&bytes).await?;
    }
    Ok(())
}

/// Until the connection is gone, or nobody wants more.
async fn receive(mut replies: ReadHalf<'_>, book: &Book, places: &Semaphore) -> Result<()> {
    loop {
        let reply = next_reply(&mut replies).await?;
        ensure!(reply.error == 0, "write {} is answered with error {}", reply.number, reply.error);
        book.note_answered(reply.number)?;
        places.add_permits(1);
    }
}

/// Reads all of what is exported there.
pub(super) async fn read_all(socket: &Utf8Path, order: Order) -> Result<Content> {
    let (mut client, mut reading) = (NbdClient::connect(socket).await?, Reading::default());
    let (exported, wanted) = (client.size_bytes(), order.slots() * SLOT as u64);
    ensure!(exported == wanted, "{exported} bytes are exported at {socket}, and the volume has {wanted}");
    client.read_all(|bytes| reading.read(bytes)).await?;
    Ok(reading.end())
}

async fn connect(socket: &Utf8Path) -> Result<UnixStream> {
    let connected = nbd::connect(socket).await;
    let (stream, _) = connected.with_context(|| format!("connecting to {socket}"))?;
    Ok(stream)
}
