//! A client that goes on while members come and go: it writes a part of a volume round and round, piece by piece, and reads each piece back. It
//! asks little at a time, as a guest that does something else, too; so filling a member gives way to it.

use anyhow::{Context, Result, ensure};
use camino::Utf8Path;
use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{
    task::JoinHandle,
    time::{MissedTickBehavior, interval},
};
use volume_soak::NbdClient;

/// Bytes that are written, and read back, at a time.
const PIECE: u64 = 64 << 10;

/// Time from one piece to the next one, if the volume is as quick.
const BETWEEN: Duration = Duration::from_millis(10);

/// It goes on until it is ended.
pub(super) struct Client {
    place: Range<u64>,
    is_over: Arc<AtomicBool>,
    task: JoinHandle<Result<Served>>,
}

/// What it was given.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Served {
    /// Pieces that were written and read.
    pub(super) requests: u64,
    /// The longest that one of them took, both ways.
    pub(super) slowest: Duration,
}

impl Client {
    /// Writes this byte there, from now on.
    pub(super) fn start(socket: &Utf8Path, place: Range<u64>, byte: u8) -> Client {
        let is_over = Arc::new(AtomicBool::new(false));
        let (socket, of_task, order) = (socket.to_owned(), is_over.clone(), place.clone());
        let task = tokio::spawn(async move { go_round(&socket, order, byte, &of_task).await });
        Client { place, is_over, task }
    }

    pub(super) fn place(&self) -> Range<u64> {
        self.place.clone()
    }

    /// Ends it, once all of its part is written. An error if anything it asked was one, or it has read what it had not written.
    pub(super) async fn end(self) -> Result<Served> {
        self.is_over.store(true, Ordering::SeqCst);
        self.task.await.context("it has panicked")?
    }
}

async fn go_round(socket: &Utf8Path, place: Range<u64>, byte: u8, is_over: &AtomicBool) -> Result<Served> {
    let mut client = NbdClient::connect(socket).await?;
    let mut served = Served::default();
    let mut clock = interval(BETWEEN);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !is_over.load(Ordering::SeqCst) || served.requests == 0 {
        for offset in place.clone().step_by(PIECE as usize) {
            clock.tick().await;
            let since = Instant::now();
            let written = vec![byte; (place.end - offset).min(PIECE) as usize];
            client.write(offset, &written).await?;
            let mut read = vec![0; written.len()];
            client.read(offset, &mut read).await?;
            ensure!(read == written, "at {offset} it has read something else than it had written");
            served.requests += 1;
            served.slowest = served.slowest.max(since.elapsed());
        }
    }
    client.flush().await?;
    Ok(served)
}
