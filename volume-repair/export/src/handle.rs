//! What other threads may ask of an export. Owns the way into the loop and out of it again: the loop never waits for whoever asks.
//!
//! ```text
//!   thread ──order, with the place for its answer──► queue ──waker──► loop: takes orders, answers, goes on
//!          ◄──────────────── answer, or nothing in time ─────────────┘
//! ```

use crate::{
    door::{CLOSE_MAX, ClosedDoor, DoorError, DoorId, DoorOrder, OpenDoor},
    listener::Listener,
    newcomers,
    notices::Shown,
    offer::ExportError,
    scrubs::ScrubOrder,
    snapshots::SnapshotOrder,
    status::ExportStatus,
    waiting::{Asked, Place, WAITING_MAX, asked},
};
use ids::RegionId;
use mio::Waker;
use std::{
    net::IpAddr,
    num::NonZeroU64,
    sync::{
        Arc, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    },
    time::Duration,
};
use upstairs::{ActivateError, CopyCompared, JobError};
use volume_layers::ScrubError;
use volume_repair::{Applied, ChangeError, ConstructionRequest, Newcomer};

/// Orders that wait for the loop at most. It takes all of them in each turn.
const ORDERS_MAX: usize = 32;

/// Who has no answer after so long gets none: the loop answers within a turn, and a turn takes milliseconds.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// The same of a snapshot, for which members that are away are waited for, too.
const SNAPSHOT_MAX: Duration = Duration::from_secs(20);

/// What is asked, and where the answer goes. There is room for it: the loop does not wait.
#[derive(Debug)]
pub(crate) enum Order {
    Status(SyncSender<Box<ExportStatus>>),
    Activate(u32, SyncSender<Result<(), ActivateError>>),
    Snapshot(SnapshotOrder, Place<RegionId>),
    /// It listens already: whoever asks has waited for that.
    Open(Box<Listener>, DoorOrder, SyncSender<Result<OpenDoor, ExportError>>),
    /// Whether also if somebody is in.
    Close(DoorId, bool, SyncSender<Result<ClosedDoor, DoorError>>),
    /// From this block on, so many.
    Compare(u64, u64, Place<CopyCompared>),
    Scrub(ScrubOrder, SyncSender<Result<(), ScrubError>>),
    RepairRate(Option<NonZeroU64>, SyncSender<()>),
    /// Who is to be looked at before this is applied, and from which address.
    Newcomers(Box<ConstructionRequest>, SyncSender<(Vec<Newcomer>, Option<IpAddr>)>),
    Apply {
        request: Box<ConstructionRequest>,
        is_check: bool,
        answer: SyncSender<Result<Applied, ChangeError>>,
    },
}

/// Blocks that are being compared, as long as this is there: if nobody waits for it, it ends.
#[derive(Debug)]
pub struct Compared(Asked<CopyCompared>);

impl Compared {
    /// Waits for what is found, so long at most: nothing, if it is not known by then. It may take as long as members are away.
    ///
    /// # Errors
    /// If there is no export any more, or too much is compared already; inside, why it was not done.
    pub fn wait(&self, limit: Duration) -> Result<Option<Result<Vec<CopyCompared>, JobError>>, NoAnswer> {
        self.0.wait(limit)
    }
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoAnswer {
    /// Others ask, too.
    #[error("{ORDERS_MAX} others wait for an answer already")]
    Busy,
    /// Others wait for the same, which takes long.
    #[error(
        "{WAITING_MAX} others wait for the end of such a job already: ask again when one of those has ended"
    )]
    Full,
    /// It has taken too long.
    #[error("the export has not answered within {} s", .0.as_secs())]
    Late(Duration),
    /// There is no export any more.
    #[error("the export has ended")]
    Gone,
}

/// What may be asked of an export from other threads.
#[derive(Clone, Debug)]
pub struct Handle {
    waker: Arc<Waker>,
    flags: Arc<Flags>,
    orders: SyncSender<Order>,
    notices: Shown,
}

#[derive(Debug, Default)]
struct Flags {
    activate: AtomicBool,
    stop: AtomicBool,
}

impl Handle {
    pub(crate) fn new(waker: Arc<Waker>) -> (Handle, Receiver<Order>) {
        let (orders, taken) = sync_channel(ORDERS_MAX);
        (Handle { waker, flags: Arc::default(), orders, notices: Shown::default() }, taken)
    }

    /// Begins to be the writer.
    pub fn activate(&self) {
        self.flags.activate.store(true, Ordering::SeqCst);
        self.wake();
    }

    /// The same, with a right that the volume was not made with.
    ///
    /// # Errors
    /// If there is no answer; inside, [`ActivateError`].
    pub fn activate_with(&self, epoch: u32) -> Result<Result<(), ActivateError>, NoAnswer> {
        self.ask(|answer| Order::Activate(epoch, answer))
    }

    /// Applies a newer construction request to it; or, with `is_check`, says what would become of it. New members are looked at before, for 2 s
    /// at most. An export that has ended before it was asked for that holds no volume.
    ///
    /// # Errors
    /// If there is no answer: then it may be applied; inside, [`ChangeError`].
    pub(crate) fn change(
        &self,
        request: ConstructionRequest,
        is_check: bool,
    ) -> Result<Result<Applied, ChangeError>, NoAnswer> {
        let request = Box::new(request);
        let (newcomers, own) = match self.ask(|answer| Order::Newcomers(request.clone(), answer)) {
            // It has not heard of the request, and nobody will.
            Err(NoAnswer::Gone) => return Ok(Ok(Applied::Missing)),
            told => told?,
        };
        if let Err(unfit) = newcomers::look(newcomers, own) {
            return Ok(Err(unfit));
        }
        self.ask(|answer| Order::Apply { request, is_check, answer })
    }

    /// Takes or deletes a snapshot. The regions that have one that was taken.
    ///
    /// # Errors
    /// If there is no answer: then it may be done later; inside, why it is not done.
    pub fn snapshot(&self, order: SnapshotOrder) -> Result<Result<Vec<RegionId>, JobError>, NoAnswer> {
        let (place, asked) = asked();
        self.send(Order::Snapshot(order, place))?;
        asked.wait(SNAPSHOT_MAX)?.ok_or(NoAnswer::Late(SNAPSHOT_MAX))
    }

    /// Begins to copy what lies under the volume into it, or stops that.
    ///
    /// # Errors
    /// If there is no answer; inside, [`ScrubError`].
    pub fn scrub(&self, order: ScrubOrder) -> Result<Result<(), ScrubError>, NoAnswer> {
        self.ask(|answer| Order::Scrub(order, answer))
    }

    /// From now on members are filled with so many bytes in a second at most, of each region set; or as fast as it goes. What is being filled goes on.
    ///
    /// # Errors
    /// If there is no answer: then it may be so later.
    pub fn set_repair_rate(&self, bytes_per_second: Option<NonZeroU64>) -> Result<(), NoAnswer> {
        self.ask(|answer| Order::RepairRate(bytes_per_second, answer))
    }

    /// Has every copy of these blocks read and compared, and what is wrong with one mended. Of the volume's own region sets.
    ///
    /// # Errors
    /// If nobody hears it.
    pub fn compare(&self, first: u64, count: u64) -> Result<Compared, NoAnswer> {
        let (place, asked) = asked();
        self.send(Order::Compare(first, count, place))?;
        Ok(Compared(asked))
    }

    /// Lets clients come by another way, too.
    ///
    /// # Errors
    /// If there is no answer: then nobody comes that way; inside, [`ExportError`].
    pub fn open_door(&self, order: DoorOrder) -> Result<Result<OpenDoor, ExportError>, NoAnswer> {
        let listener = match Listener::bind(&order.address) {
            Ok(listener) => Box::new(listener),
            Err(source) => return Ok(Err(ExportError::Listen { address: order.address, source })),
        };
        self.ask(|answer| Order::Open(listener, order, answer))
    }

    /// Lets nobody come by a way any more that was opened. Who is in is told so, what they have asked and written is answered and made durable, and
    /// they are cut off; all that within 5 s, or without it. If somebody is in, and not `is_forced`, nothing is changed.
    ///
    /// # Errors
    /// If there is no answer: then it may be done later; inside, [`DoorError`].
    pub fn close_door(
        &self,
        door: DoorId,
        is_forced: bool,
    ) -> Result<Result<ClosedDoor, DoorError>, NoAnswer> {
        self.ask_for(CLOSE_MAX + ANSWER_MAX, |answer| Order::Close(door, is_forced, answer))
    }

    /// What it believes.
    ///
    /// # Errors
    /// If there is no answer.
    pub fn status(&self) -> Result<Box<ExportStatus>, NoAnswer> {
        let mut status = self.ask(Order::Status)?;
        // Of the thread that tells: the loop does not wait for its figures.
        status.notices = self.notices.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Ok(status)
    }

    /// Answers what is under way, and ends.
    pub fn stop(&self) {
        self.flags.stop.store(true, Ordering::SeqCst);
        self.wake();
    }

    /// Where the thread that tells of repairs says how far it is.
    pub(crate) fn notices(&self) -> Shown {
        Arc::clone(&self.notices)
    }

    pub(crate) fn is_to_activate(&self) -> bool {
        self.flags.activate.load(Ordering::SeqCst)
    }

    pub(crate) fn is_to_stop(&self) -> bool {
        self.flags.stop.load(Ordering::SeqCst)
    }

    fn ask<T>(&self, order: impl FnOnce(SyncSender<T>) -> Order) -> Result<T, NoAnswer> {
        self.ask_for(ANSWER_MAX, order)
    }

    fn ask_for<T>(
        &self,
        patience: Duration,
        order: impl FnOnce(SyncSender<T>) -> Order,
    ) -> Result<T, NoAnswer> {
        let (answer, answered) = sync_channel(1);
        self.send(order(answer))?;
        answered.recv_timeout(patience).map_err(|error| match error {
            RecvTimeoutError::Timeout => NoAnswer::Late(patience),
            RecvTimeoutError::Disconnected => NoAnswer::Gone,
        })
    }

    fn send(&self, order: Order) -> Result<(), NoAnswer> {
        self.orders.try_send(order).map_err(|error| match error {
            TrySendError::Full(_) => NoAnswer::Busy,
            TrySendError::Disconnected(_) => NoAnswer::Gone,
        })?;
        self.wake();
        Ok(())
    }

    fn wake(&self) {
        // The loop looks when it ticks, too.
        let _ = self.waker.wake();
    }
}
