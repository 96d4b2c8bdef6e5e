//! Telling the coordinator of repairs. Owns the outbox, the lock on it, and the one thread that waits for its disk and for the network: the loop of
//! the export hands over what is to be told and never waits, and no client's request depends on any of this.
//!
//! ```text
//!   loop ──queue of NOTICES_MAX──► thread "notices": kept by the outbox, durably ──► sent, one at a time ──► coordinator
//!        (full: it keeps them, and comes again)         ▲ the disk refuses: again in a second       └─ as the outbox says: again, later
//! ```
//!
//! **Several coordinators** have the same rows: whoever takes a notice is enough. One that is away, or refuses, is passed over for the next of them
//! ([`crate::coordinators`]).
//!
//! **When it ends.** The loop's last words are kept before the thread ends. They are sent, too, if that works within [`LAST_WORDS`]; otherwise the next
//! export of the volume that is given the same directory tells them, or whoever [tells what is left](tell_what_is_left). A killed one leaves what the
//! outbox has, which is told by the next one, too. An outbox that has nothing any more leaves no file.

use crate::coordinators::Coordinators;
use camino::{Utf8Path, Utf8PathBuf};
use durable_fs::RealDisk;
use ids::VolumeId;
use nexus_client::{ClientError, ClientOptions, ErrorClass, SledFacingClient, repairs::RepairNotice};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeSet, VecDeque},
    fs::{self, File, TryLockError},
    future::Future,
    io,
    net::IpAddr,
    os::unix::fs::MetadataExt,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};
use tokio::{
    runtime::{Builder, Runtime},
    sync::mpsc::{Receiver, Sender, channel},
};
use volume_notices::{Answer, OpenError, OpenRepair, Outbox, OutboxStatus, PutError};

/// Notices that wait for the thread at most, and as many that the outbox has not kept yet. The loop keeps the others.
const NOTICES_MAX: usize = 32;

/// How long the coordinator may take for one. It writes a row.
const SEND_MAX: Duration = Duration::from_secs(10);

/// When a disk that refuses the outbox is tried again.
const DISK_RETRY: Duration = Duration::from_secs(1);

/// How often a lock is taken that was removed by whoever had it just before.
const LOCKS_MAX: usize = 8;

/// How long an export that ends goes on telling.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Where notices are kept, and who is told.
#[derive(Clone, Debug)]
pub struct NoticesOrder {
    /// The directory of outboxes: one file for each volume. It is made if it is not there.
    pub directory: Utf8PathBuf,
    /// The coordinator's sled-facing API, such as `http://10.0.0.1:12221`.
    pub url: String,
    /// Those of other coordinators, of which each is told as well instead.
    pub others: Vec<String>,
    /// What they know a sled by.
    pub token: Option<String>,
    /// From where they are come to; without one the system chooses.
    pub source_address: Option<IpAddr>,
}

/// Why nobody is told.
#[derive(Debug, thiserror::Error)]
pub enum NoticesError {
    /// The directory is not to be had.
    #[error("notices of repairs cannot be kept in {directory}")]
    Directory {
        /// Which.
        directory: Utf8PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Another export of the volume tells.
    #[error(
        "another process keeps notices of volume {volume} in {directory}: end it first, or give another directory"
    )]
    Held {
        /// Of which volume.
        volume: VolumeId,
        /// Where.
        directory: Utf8PathBuf,
    },
    /// What an earlier one has left cannot be used.
    #[error(transparent)]
    Outbox(#[from] OpenError),
    /// Nobody can be told there.
    #[error("nobody can be told of repairs at {url:?}")]
    Url {
        /// Where.
        url: String,
        /// Why not.
        #[source]
        source: ClientError,
    },
    /// Notices name the volume, and nobody knows it.
    #[error("a volume that was not opened by a construction request has no id to tell of")]
    NoVolume,
    /// The system refuses.
    #[error("notices of repairs cannot be sent")]
    System(#[source] io::Error),
}

impl NoticesError {
    /// A name for programs, which does not change.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            NoticesError::Directory { .. } => "notices_directory",
            NoticesError::Held { .. } => "notices_held",
            NoticesError::Outbox(OpenError::Read { .. }) => "notices_not_read",
            NoticesError::Outbox(OpenError::UnknownFormat { .. }) => "notices_unknown_format",
            NoticesError::Outbox(OpenError::Damaged { .. }) => "notices_damaged",
            NoticesError::Url { .. } => "notify_url",
            NoticesError::NoVolume => "notices_no_volume",
            NoticesError::System(_) => "notices_not_started",
        }
    }
}

/// What was not told yet, and why. A part of the outside contract, as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoticesStatus {
    /// Who is told.
    pub url: String,
    /// What is kept until it is told.
    pub outbox: OutboxStatus,
    /// Notices that are not kept yet, because there is no room, or the disk refuses.
    pub not_kept: u64,
    /// Why, as of the last one.
    pub trouble: Option<String>,
}

/// Where others look at it. Nobody of the loop does.
pub(crate) type Shown = Arc<Mutex<Option<NoticesStatus>>>;

/// The way to the thread; it ends with this.
#[derive(Debug)]
pub(crate) struct Notices {
    to_thread: Option<Sender<RepairNotice>>,
    /// It says whether something is left in the outbox.
    thread: Option<JoinHandle<bool>>,
    files: Files,
}

impl Notices {
    /// Opens the volume's outbox, and begins to tell what it has, from this address, if one is given. Repairs whose end it has not are for whoever looks at the volume.
    pub(crate) fn start(
        order: NoticesOrder,
        volume: VolumeId,
        shown: Shown,
    ) -> Result<(Notices, Vec<OpenRepair>), NoticesError> {
        let NoticesOrder { directory, url, others, token, source_address } = order;
        let source_address = source_address.filter(|from| !from.is_unspecified());
        let options = ClientOptions { token, source_address, ..ClientOptions::default() };
        let client = |url: String| {
            SledFacingClient::new(&url, &options).map_err(|source| NoticesError::Url { url, source })
        };
        let clients = std::iter::once(url).chain(others).map(client).collect::<Result<_, _>>()?;
        let files = Files::lock(directory, volume)?;
        let storage = Arc::new(RealDisk::new(&files.directory));
        let outbox = Outbox::open(storage, file_name(volume, "json"))?;
        let open = outbox.open_repairs().collect();
        let runtime = Builder::new_current_thread().enable_all().build().map_err(NoticesError::System)?;
        let (to_thread, taken) = channel(NOTICES_MAX);
        let desk = Desk {
            outbox,
            coordinators: Coordinators::new(clients),
            began: Instant::now(),
            not_kept: VecDeque::new(),
            not_before: Duration::ZERO,
            trouble: None,
            shown,
        };
        desk.show();
        let tell = move || tell(&runtime, desk, taken);
        let thread = thread::Builder::new().name("notices".to_owned()).spawn(tell);
        let thread = Some(thread.map_err(NoticesError::System)?);
        Ok((Notices { to_thread: Some(to_thread), thread, files }, open))
    }

    /// Ends it, and what is of no use any more. Whether something is left.
    fn end(&mut self) -> bool {
        drop(self.to_thread.take());
        // One that has panicked has said so.
        let is_left = self.thread.take().is_none_or(|thread| thread.join().unwrap_or(true));
        if !is_left {
            self.files.remove();
        }
        is_left
    }

    /// Hands it over. False if there is no room: then whoever has it comes again.
    pub(crate) fn take(&self, notice: RepairNotice) -> bool {
        self.to_thread.as_ref().is_some_and(|to_thread| to_thread.try_send(notice).is_ok())
    }
}

impl Drop for Notices {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.end();
        }
    }
}

/// Tells what a volume has left that nobody has open, for some seconds at most. Whether something is left still: nobody has taken it, or it is
/// a repair that had not ended.
///
/// # Errors
/// [`NoticesError`]; that the volume is open is one.
pub fn tell_what_is_left(order: NoticesOrder, volume: VolumeId) -> Result<bool, NoticesError> {
    let (mut notices, _) = Notices::start(order, volume, Shown::default())?;
    Ok(notices.end())
}

/// The volumes that have left something in a directory, which need not be there.
///
/// # Errors
/// If it cannot be read.
pub fn volumes_with_notices(directory: &Utf8Path) -> io::Result<Vec<VolumeId>> {
    let entries = match directory.read_dir_utf8() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut volumes = Vec::new();
    for entry in entries {
        // Other files are nobody's of ours.
        volumes.extend(entry?.file_name().strip_suffix(".json").and_then(|id| id.parse::<VolumeId>().ok()));
    }
    Ok(volumes)
}

fn file_name(volume: VolumeId, ending: &str) -> Utf8PathBuf {
    format!("{volume}.{ending}").into()
}

/// The outbox's file and its lock: one process at a time gives numbers to a volume's notices.
#[derive(Debug)]
struct Files {
    directory: Utf8PathBuf,
    volume: VolumeId,
    /// As long as this process tells.
    _lock: File,
}

impl Files {
    fn lock(directory: Utf8PathBuf, volume: VolumeId) -> Result<Files, NoticesError> {
        let failed = |source| NoticesError::Directory { directory: directory.clone(), source };
        fs::create_dir_all(&directory).map_err(failed)?;
        let path = directory.join(file_name(volume, "lock"));
        for _ in 0..LOCKS_MAX {
            let file =
                File::options().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => break,
                Err(TryLockError::Error(source)) => return Err(failed(source)),
            }
            // Whoever had it may have removed it in between: then it locks nothing.
            let ours = file.metadata().map_err(failed)?.ino();
            if fs::metadata(&path).is_ok_and(|there| there.ino() == ours) {
                return Ok(Files { directory, volume, _lock: file });
            }
        }
        Err(NoticesError::Held { volume, directory })
    }

    /// Nothing is to be told, so nothing stays. If it cannot be removed it is found empty.
    fn remove(&self) {
        for ending in ["json", "lock"] {
            let _ = fs::remove_file(self.directory.join(file_name(self.volume, ending)));
        }
    }
}

/// A notice that is on its way.
type Sending = Pin<Box<dyn Future<Output = (RepairNotice, Answer)>>>;

/// What the thread has.
struct Desk {
    outbox: Outbox,
    coordinators: Coordinators,
    began: Instant,
    /// In their order.
    not_kept: VecDeque<RepairNotice>,
    /// The disk is not asked again before.
    not_before: Duration,
    trouble: Option<String>,
    shown: Shown,
}

/// Whether something is left when it ends.
fn tell(runtime: &Runtime, mut desk: Desk, mut taken: Receiver<RepairNotice>) -> bool {
    runtime.block_on(async {
        let (mut sending, mut ends_at): (Option<Sending>, Option<Duration>) = (None, None);
        let mut is_all_taken = false;
        loop {
            desk.keep();
            if sending.is_none() {
                sending = desk.begin_to_send();
            }
            desk.show();
            let now = desk.now();
            if ends_at.is_none() && taken.is_closed() {
                ends_at = Some(now + LAST_WORDS);
            }
            let is_done = is_all_taken && sending.is_none() && desk.not_kept.is_empty();
            if is_done || ends_at.is_some_and(|end| now >= end) {
                return;
            }
            let wait = desk.next_at(sending.is_some()).into_iter().chain(ends_at).min();
            tokio::select! {
                notice = taken.recv(), if !is_all_taken && desk.not_kept.len() < NOTICES_MAX => match notice {
                    Some(notice) => desk.not_kept.push_back(notice),
                    None => is_all_taken = true,
                },
                (notice, answer) = answered(&mut sending) => {
                    sending = None;
                    desk.note_answer(&notice, answer);
                }
                () = until(wait.map(|wait| wait.saturating_sub(now))) => {}
            }
        }
    });
    desk.show();
    desk.outbox.status().repairs > 0 || !desk.not_kept.is_empty()
}

/// For ever, if nothing is on its way.
async fn answered(sending: &mut Option<Sending>) -> (RepairNotice, Answer) {
    match sending {
        Some(sending) => sending.await,
        None => std::future::pending().await,
    }
}

async fn until(wait: Option<Duration>) {
    match wait {
        Some(wait) => tokio::time::sleep(wait).await,
        None => std::future::pending().await,
    }
}

impl Desk {
    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// Has the outbox keep what it does not yet: those of one repair in their order. One for which there is no room holds up no other one.
    fn keep(&mut self) {
        let now = self.now();
        if now < self.not_before {
            return;
        }
        let mut waiting = BTreeSet::new();
        for notice in std::mem::take(&mut self.not_kept) {
            let repair = notice.repair().id;
            if waiting.contains(&repair) {
                self.not_kept.push_back(notice);
                continue;
            }
            let Err(error) = self.outbox.put(notice.clone()) else { continue };
            let words = problem::chain(&error);
            let is_to_wait = matches!(error, PutError::Full | PutError::Write { .. });
            if self.trouble.as_ref() != Some(&words) {
                tracing::error!(%repair, error = words, "a notice of a repair is not kept");
            }
            self.trouble = Some(words);
            if is_to_wait {
                waiting.insert(repair);
                self.not_kept.push_back(notice);
                self.not_before = now + DISK_RETRY;
            }
        }
        if self.not_kept.is_empty() {
            self.trouble = None;
        }
    }

    fn begin_to_send(&self) -> Option<Sending> {
        let notice = self.outbox.next(self.now())?;
        let client = self.coordinators.first()?.clone();
        Some(Box::pin(async move {
            let answer = match tokio::time::timeout(SEND_MAX, client.repair(&notice)).await {
                Ok(Ok(())) => Answer::Taken,
                Ok(Err(error)) if error.class() == ErrorClass::Refused => {
                    Answer::Refused(problem::chain(&error))
                }
                Ok(Err(error)) => Answer::Away(problem::chain(&error)),
                Err(_) => {
                    let url = client.base_url().to_owned();
                    Answer::Away(ClientError::Silent { url, limit: SEND_MAX }.to_string())
                }
            };
            (notice, answer)
        }))
    }

    fn note_answer(&mut self, notice: &RepairNotice, answer: Answer) {
        match &answer {
            Answer::Refused(why) => {
                let by = self.url();
                tracing::error!(%notice, by, why, "a coordinator refuses a notice of a repair");
            }
            Answer::Away(why) => {
                tracing::debug!(%notice, why, "the coordinator has not taken a notice of a repair");
            }
            Answer::Taken => {}
        }
        let Some(answer) = self.coordinators.note(notice, answer) else { return };
        if let Err(error) = self.outbox.answered(self.now(), notice, answer) {
            // The next life tells it once more, which changes nothing.
            let error = problem::chain(&error);
            tracing::warn!(error, "that a notice was taken is not written down");
        }
    }

    /// When something is due.
    fn next_at(&self, is_sending: bool) -> Option<Duration> {
        let send = if is_sending { None } else { self.outbox.next_at() };
        let keep = (!self.not_kept.is_empty()).then_some(self.not_before);
        send.into_iter().chain(keep).min()
    }

    /// Of whoever is asked next.
    fn url(&self) -> String {
        self.coordinators.first().map(|client| client.base_url().to_owned()).unwrap_or_default()
    }

    fn show(&self) {
        let status = NoticesStatus {
            url: self.url(),
            outbox: self.outbox.status(),
            not_kept: self.not_kept.len() as u64,
            trouble: self.trouble.clone(),
        };
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = Some(status);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ids::{RegionId, RegionSetId, RepairId};
    use jiff::Timestamp;
    use nexus_client::repairs::{Repair, RepairReason, RepairRegion, RepairStart, Stamp};
    use problem::{Code, Problem};
    use std::{
        io::{Read, Write},
        net::{TcpListener, TcpStream},
        sync::mpsc,
    };

    /// An outbox with the start of a repair, and the order to tell it to these.
    struct Left {
        directory: camino_tempfile::Utf8TempDir,
        repair: Repair,
    }

    impl Left {
        fn new() -> Left {
            let directory = camino_tempfile::tempdir().expect("a directory for the test");
            let repair = Repair {
                id: RepairId::generate(),
                volume_id: VolumeId::generate(),
                region_set_id: RegionSetId::generate(),
                region: RepairRegion { region_id: RegionId::generate(), incarnation: 1 },
                replaces: None,
                bytes: 4096,
            };
            let storage = Arc::new(RealDisk::new(directory.path()));
            let mut outbox = Outbox::open(storage, file_name(repair.volume_id, "json")).expect("it opens");
            let stamp = Stamp { epoch: 1, sequence: 0, config_version: 1, told_at: Timestamp::now() };
            outbox
                .put(RepairNotice::Start(RepairStart { repair, stamp, why: RepairReason::CatchesUp }))
                .expect("it is kept");
            Left { directory, repair }
        }

        fn tell(&self, urls: [&str; 2], own: Option<IpAddr>) -> (Notices, Shown) {
            let [url, others] = [urls[0].to_owned(), urls[1].to_owned()];
            let directory = self.directory.path().to_owned();
            let order =
                NoticesOrder { directory, url, others: vec![others], token: None, source_address: own };
            let shown = Shown::default();
            let started = Notices::start(order, self.repair.volume_id, Arc::clone(&shown));
            let (notices, open) = started.expect("it begins");
            assert_eq!(open, [OpenRepair { repair: self.repair, bytes_done: 0 }]);
            (notices, shown)
        }
    }

    /// One that answers each of its callers with this, and says who has come. It ends with the test.
    fn coordinator(name: char, answer: String, asked: &mpsc::Sender<(char, IpAddr)>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").expect("it listens");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let asked = asked.clone();
        let answers = move || {
            while let Ok((socket, peer)) = listener.accept() {
                if hear(&socket).is_err() || asked.send((name, peer.ip())).is_err() {
                    return;
                }
                // Who does not wait for it is none of ours.
                let _ = (&socket).write_all(answer.as_bytes());
            }
        };
        thread::spawn(answers);
        url
    }

    /// Reads a request, which has a short body.
    fn hear(mut socket: &TcpStream) -> io::Result<()> {
        let (mut heard, mut some) = (Vec::new(), [0; 4096]);
        loop {
            let text = String::from_utf8_lossy(&heard).to_ascii_lowercase();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length = head.split_once("content-length: ").map(|(_, rest)| rest.lines().next());
                let length: usize = length.flatten().and_then(|length| length.parse().ok()).unwrap_or(0);
                if body.len() >= length {
                    return Ok(());
                }
            }
            match socket.read(&mut some)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => heard.extend_from_slice(&some[..count]),
            }
        }
    }

    fn takes() -> String {
        "HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n".to_owned()
    }

    fn refuses() -> String {
        let problem = serde_json::to_string(&Problem::new(Code::Forbidden, "not you")).expect("plain data");
        let length = problem.len();
        let head = "HTTP/1.1 403 Forbidden\r\ncontent-type: application/problem+json\r\nconnection: close";
        format!("{head}\r\ncontent-length: {length}\r\n\r\n{problem}")
    }

    /// Who was asked, one behind the other, until so many were.
    fn come(came: &mpsc::Receiver<(char, IpAddr)>, count: usize) -> String {
        let one = |_| came.recv_timeout(Duration::from_secs(20)).expect("somebody is asked").0;
        (0..count).map(one).collect()
    }

    #[test]
    fn the_coordinator_is_told_from_the_address_that_is_given() {
        let (asked, came) = mpsc::channel();
        let url = coordinator('a', takes(), &asked);
        let own: IpAddr = "127.0.7.9".parse().expect("an address");
        let left = Left::new();
        let (notices, _) = left.tell([&url, &url], Some(own));
        assert_eq!(came.recv().expect("somebody comes").1, own);
        drop(notices);
    }

    #[test]
    fn what_one_coordinator_refuses_or_is_away_for_the_next_one_is_told() {
        // One that says nothing is away.
        for first in [refuses(), String::new()] {
            let (asked, came) = mpsc::channel();
            let urls = [coordinator('a', first, &asked), coordinator('b', takes(), &asked)];
            let left = Left::new();
            let (notices, shown) = left.tell([&urls[0], &urls[1]], None);
            assert_eq!(come(&came, 2), "ab");
            drop(notices);
            let shown = shown.lock().expect("it has not panicked").clone().expect("it is shown");
            assert_eq!((shown.outbox.waiting, shown.outbox.refused.len()), (0, 0));
            assert!(shown.url.starts_with(&urls[1]), "the one that takes is asked next: {}", shown.url);
        }
    }

    #[test]
    fn what_all_coordinators_refuse_waits_and_says_so() {
        let (asked, came) = mpsc::channel();
        let urls = [coordinator('a', refuses(), &asked), coordinator('b', refuses(), &asked)];
        let left = Left::new();
        let (notices, shown) = left.tell([&urls[0], &urls[1]], None);
        assert_eq!(come(&came, 2), "ab");
        drop(notices);
        let shown = shown.lock().expect("it has not panicked").clone().expect("it is shown");
        assert_eq!((shown.outbox.waiting, shown.outbox.refused.len()), (1, 1));
        assert_eq!(shown.outbox.refused[0].words.matches("not you").count(), 2);
        assert!(came.try_recv().is_err(), "nobody was asked again");
    }
}
