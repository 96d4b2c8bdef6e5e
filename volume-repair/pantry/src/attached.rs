//! One volume on the shelf: its export, which runs in a thread of its own, and what is asked of it. Every question goes to the export's loop
//! and comes back within seconds, so each is asked from a thread that may wait.

use crate::{
    attach_order::AttachOrder,
    board::Board,
    error::PantryError,
    job::Job,
    volume_io::{IoError, VolumeIo},
};
use camino::Utf8PathBuf;
use ids::{RegionId, SnapshotId, VolumeId};
use sled_client::pantry::{
    Activate, PantryJob, PantryJobState, PantryVolume, PantryVolumeState, RequestResult,
};
use std::{
    cmp::Ordering,
    net::IpAddr,
    num::NonZeroU64,
    sync::{Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};
use upstairs::{ActivateError, PhaseName};
use uuid::Uuid;
use volume_export::{
    Address, Applied, Compared, Export, ExportStatus, Handle, NoAnswer, NotAppliedHere, NoticesOrder, Offer,
    SnapshotOrder,
};
use volume_layers::{PartKind, PartStatus, ScrubError, VolumeStatus};
use volume_repair::{ConstructionRequest, Holder};
use volume_seals::VolumeKey;

/// How long a volume may take to make durable what clients have written, before it is detached all the same: they have flushed what matters
/// to them, and members that are away come back when they do.
const FLUSH_MAX: Duration = Duration::from_secs(5);

/// Between two looks whether it is active.
const LOOK: Duration = Duration::from_millis(20);

/// A volume.
pub(crate) struct Attached {
    pub(crate) id: VolumeId,
    pub(crate) board: Board,
    /// Where jobs come to it. Exports have sockets of their own.
    pub(crate) socket: Utf8PathBuf,
    pub(crate) size: u64,
    pub(crate) block_size: u32,
    pub(crate) is_read_only: bool,
    is_encrypted: bool,
    pub(crate) handle: Handle,
    taken: Mutex<Taken>,
    /// When a call has used it last.
    called: Mutex<Instant>,
    runs: Mutex<Option<JoinHandle<()>>>,
}

/// The request that a volume runs by.
struct Taken {
    request: ConstructionRequest,
    /// The right that it has, and keeps as long as it runs, whatever newer requests have: each one that is given out has a higher one.
    epoch: u32,
}

impl Attached {
    /// Holds a volume from now on, whose members are come to from this address, and of whose repairs the coordinator is told. Nobody is fenced
    /// before it is activated.
    pub(crate) fn begin(
        id: VolumeId,
        order: AttachOrder,
        key: Option<VolumeKey>,
        activate: Activate,
        socket: Utf8PathBuf,
        source_address: Option<IpAddr>,
        notices: Option<NoticesOrder>,
    ) -> Result<Attached, PantryError> {
        let AttachOrder { request, repair_bytes_per_second } = order;
        let session = Uuid::new_v4();
        let composition = match activate {
            Activate::Now => request.build(session, key.as_ref()),
            Activate::Later | Activate::Never => request.build_unactivated(session, key.as_ref()),
        };
        let mut composition =
            composition.map_err(|source| PantryError::Build { id, source: Box::new(source) })?;
        repair_bytes_per_second.into_iter().for_each(|rate| composition.set_repair_rate(rate));
        // From here on what seals and opens its blocks has what it needs, and nobody has the key.
        drop(key);
        let name = String::new();
        let offer = Offer { composition, request: Some(request.clone()), name, source_address };
        let mut export = Export::new(offer, Address::Unix(socket.clone()))?;
        if let Some(notices) = notices {
            export.tell_of_repairs(notices)?;
        }
        let handle = export.handle();
        if activate == Activate::Now {
            handle.activate();
        }
        let run = move || {
            if let Err(error) = export.run() {
                tracing::error!(%id, error = problem::chain(&error), "a volume is not held any more");
            }
        };
        let runs = thread::Builder::new().name("volume".to_owned()).spawn(run);
        let runs = Mutex::new(Some(runs.map_err(PantryError::System)?));
        let mut attached = Attached {
            id,
            board: Board::default(),
            socket,
            size: 0,
            block_size: request.block_size,
            is_read_only: false,
            is_encrypted: request.is_encrypted(),
            handle,
            taken: Mutex::new(Taken { epoch: request.epoch, request }),
            called: Mutex::new(Instant::now()),
            runs,
        };
        let looked = attached.look_at_once();
        if looked.is_err() {
            attached.end();
        }
        looked.map(|()| attached)
    }

    fn look_at_once(&mut self) -> Result<(), PantryError> {
        self.size = VolumeIo::connect(self.socket.as_std_path())?.size;
        self.is_read_only = match &self.status()?.volume {
            VolumeStatus::Upstairs(_) => false,
            VolumeStatus::Layers(layers) => layers.is_read_only,
        };
        Ok(())
    }

    /// A call uses it.
    pub(crate) fn note_call(&self) {
        *lock(&self.called) = Instant::now();
    }

    /// For how long nobody has: no call, no job, no client.
    pub(crate) fn idle(&self, status: &ExportStatus) -> Duration {
        lock(&self.called).elapsed().min(Duration::from_millis(status.unused_ms))
    }

    /// The version of the request that it runs by, and the right that it has.
    pub(crate) fn runs_by(&self) -> (u64, u32) {
        let taken = lock(&self.taken);
        (taken.request.config_version, taken.epoch)
    }

    /// What its loop believes.
    pub(crate) fn status(&self) -> Result<Box<ExportStatus>, PantryError> {
        self.handle.status().map_err(|source| self.no_answer(source))
    }

    pub(crate) fn no_answer(&self, source: NoAnswer) -> PantryError {
        match source {
            NoAnswer::Gone => PantryError::Ended(self.id),
            source => PantryError::NoAnswer { id: self.id, source },
        }
    }

    /// Waits until it is active, so long at most. An error is that it never will be, with this epoch.
    pub(crate) fn wait_active(&self, limit: Duration) -> Result<(), PantryError> {
        let end = Instant::now() + limit;
        loop {
            match self.check_active(&*self.status()?) {
                Err(PantryError::NotActive { .. }) if Instant::now() < end => thread::park_timeout(LOOK),
                Ok(()) | Err(PantryError::NotActive { .. } | PantryError::NotActivated(_)) => return Ok(()),
                ended => return ended,
            }
        }
    }

    /// Whether it reads and writes.
    pub(crate) fn check_active(&self, status: &ExportStatus) -> Result<(), PantryError> {
        let volume = &status.volume;
        match volume.phase() {
            PhaseName::Active => Ok(()),
            PhaseName::Idle => Err(PantryError::NotActivated(self.id)),
            PhaseName::Lost => Err(PantryError::Lost(self.id)),
            PhaseName::Fenced => {
                let fenced = volume.own_sets().find_map(|set| Some((set.fenced_by?.epoch, set.epoch)));
                let (theirs, ours) = fenced.unwrap_or_default();
                Err(PantryError::Fenced { id: self.id, theirs, ours: ours.unwrap_or_default() })
            }
            PhaseName::Gathering | PhaseName::BringingUp | PhaseName::Listing => {
                Err(PantryError::NotActive { id: self.id, waits: waits(status) })
            }
        }
    }

    /// Whether it reads, and writes if that is wanted.
    pub(crate) fn check_usable(&self, is_written: bool) -> Result<(), PantryError> {
        if is_written && self.is_read_only {
            return Err(PantryError::ReadOnly(self.id));
        }
        self.check_active(&*self.status()?)
    }

    /// Goes on by a newer construction request, or hears the same one again.
    pub(crate) fn apply(
        &self,
        request: ConstructionRequest,
        activate: Activate,
    ) -> Result<RequestResult, PantryError> {
        let is_idle = self.status()?.volume.phase() == PhaseName::Idle;
        match (is_idle, activate) {
            (false, _) => self.check_epoch(&request)?,
            (true, Activate::Now) => self.check_activation(request.epoch)?,
            (true, Activate::Later | Activate::Never) => {}
        }
        let applied = self.handle.apply(&request).map_err(|error| match error {
            NotAppliedHere::Change(source) => PantryError::Change { id: self.id, source: Box::new(source) },
            NotAppliedHere::NoAnswer(gone) => self.no_answer(gone),
        })?;
        if is_idle && activate == Activate::Now {
            let activated = self.handle.activate_with(request.epoch).map_err(|gone| self.no_answer(gone))?;
            activated.map_err(|source| PantryError::Activate { id: self.id, source })?;
        }
        self.note_taken(request, is_idle);
        Ok(match applied {
            Applied::Started => RequestResult::Started,
            Applied::StartedAlready => RequestResult::StartedAlready,
            Applied::CompletedAlready => RequestResult::CompletedAlready,
            Applied::VcrMatches => RequestResult::VcrMatches,
            Applied::Missing => RequestResult::Missing,
        })
    }

    /// Fills members with so many bytes in a second at most from now on, or as fast as it goes.
    pub(crate) fn set_repair_rate(&self, bytes_per_second: Option<NonZeroU64>) -> Result<(), PantryError> {
        self.handle.set_repair_rate(bytes_per_second).map_err(|gone| self.no_answer(gone))
    }

    /// Refuses a request whose right is none with which it may come to a volume that was activated. That is the volume's own, the one that the
    /// same version came with at first, or, of a newer version, a higher one.
    fn check_epoch(&self, request: &ConstructionRequest) -> Result<(), PantryError> {
        let taken = lock(&self.taken);
        let may_be = match request.config_version.cmp(&taken.request.config_version) {
            Ordering::Greater => request.epoch >= taken.epoch,
            Ordering::Equal => [taken.epoch, taken.request.epoch].contains(&request.epoch),
            // It is refused for that.
            Ordering::Less => true,
        };
        let (theirs, ours) = (request.epoch, taken.epoch);
        if may_be { Ok(()) } else { Err(PantryError::OtherEpoch { id: self.id, theirs, ours }) }
    }

    /// The same of one that is to be activated by the request: before anything of the request is applied.
    fn check_activation(&self, epoch: u32) -> Result<(), PantryError> {
        let least = lock(&self.taken).epoch;
        let refused = |source| Err(PantryError::Activate { id: self.id, source });
        match epoch {
            0 => refused(ActivateError::NoEpoch),
            _ if epoch < least => refused(ActivateError::Lower { epoch, least }),
            _ => Ok(()),
        }
    }

    fn note_taken(&self, request: ConstructionRequest, is_idle: bool) {
        let mut taken = lock(&self.taken);
        if is_idle {
            taken.epoch = taken.epoch.max(request.epoch);
        }
        // The same version once more may have the volume's own right, and stays known by the one that it came with.
        if is_idle || request.config_version > taken.request.config_version {
            taken.request = request;
        }
    }

    /// Has copies of these bytes compared: whole blocks, as all of a volume is.
    pub(crate) fn compare(&self, first: u64, length: u64) -> Result<Compared, PantryError> {
        let block = u64::from(self.block_size);
        self.handle.compare(first / block, length / block).map_err(|gone| self.no_answer(gone))
    }

    /// Whether it has parts of which there is one copy for all that is known here: files, URLs, and what lies under it.
    pub(crate) fn has_single_copies(&self) -> Result<bool, PantryError> {
        let is_set = |part: &PartStatus| matches!(part.kind, PartKind::RegionSet(_));
        Ok(match &self.status()?.volume {
            VolumeStatus::Upstairs(_) => false,
            VolumeStatus::Layers(layers) => {
                layers.layers.len() > 1 || !layers.layers.iter().flat_map(|layer| &layer.parts).all(is_set)
            }
        })
    }

    /// Bytes of it that something lies under.
    pub(crate) fn parents_bytes(&self) -> Result<u64, PantryError> {
        let status = self.status()?;
        let covered = match &status.volume {
            VolumeStatus::Layers(layers) => layers.layers.get(1).map(|parent| parent.blocks),
            VolumeStatus::Upstairs(_) => None,
        };
        let covered = covered.map(|blocks| blocks.saturating_mul(self.block_size.into()).min(self.size));
        covered.ok_or(PantryError::NoParent { id: self.id, source: ScrubError::NoParent })
    }

    /// Takes a snapshot for this coordinator. The regions that have it.
    pub(crate) fn snapshot(
        &self,
        snapshot: SnapshotId,
        executor_epoch: u64,
    ) -> Result<Vec<RegionId>, PantryError> {
        self.check_usable(true)?;
        // It may have been replaced meanwhile.
        self.board.hear(self.id, executor_epoch)?;
        let taken =
            self.handle.snapshot(SnapshotOrder::Take(snapshot)).map_err(|gone| self.no_answer(gone))?;
        taken.map_err(|source| PantryError::Snapshot { id: self.id, snapshot, source })
    }

    /// What a job's error comes from: a volume that has ended says so better than its socket does.
    pub(crate) fn explain(&self, error: PantryError) -> PantryError {
        let (PantryError::Io(IoError::Link(_) | IoError::Refused(_)) | PantryError::NotCompared { .. }) =
            error
        else {
            return error;
        };
        match self.status().map(|status| self.check_active(&status)) {
            Ok(Err(ended @ (PantryError::Fenced { .. } | PantryError::Lost(_)))) | Err(ended) => ended,
            Ok(_) => error,
        }
    }

    /// A job as it is, with what it waits for.
    pub(crate) fn tell_job(&self, job: &Job) -> PantryJob {
        let mut told = job.status();
        if told.state == PantryJobState::Running {
            told.waits = self.status().ok().and_then(|status| waiting(&status));
        }
        told
    }

    /// As it is told.
    pub(crate) fn tell(&self, is_whole: bool) -> PantryVolume {
        let (config_version, epoch) = self.runs_by();
        let status = self.status();
        let active = status.as_ref().map_err(ToString::to_string);
        let active = active.map(|status| self.check_active(status));
        let (state, reason) = match active {
            Ok(Ok(())) => {
                (PantryVolumeState::Active, status.as_ref().ok().and_then(|status| waiting(status)))
            }
            Ok(Err(error)) => {
                let state = match error {
                    PantryError::NotActivated(_) => PantryVolumeState::NotActivated,
                    PantryError::Fenced { .. } => PantryVolumeState::Fenced,
                    PantryError::Lost(_) => PantryVolumeState::Lost,
                    _ => PantryVolumeState::Activating,
                };
                (state, Some(error.to_string()))
            }
            Err(why) => (PantryVolumeState::Ended, Some(why)),
        };
        let exports = status.as_ref().map(|status| self.exports(status)).unwrap_or_default();
        let idle_ms = status.as_ref().ok().map(|status| self.idle(status).as_millis());
        let idle_ms = idle_ms.map(|idle| u64::try_from(idle).unwrap_or(u64::MAX));
        let status = status.ok().filter(|_| is_whole);
        PantryVolume {
            id: self.id,
            state,
            reason,
            config_version,
            epoch,
            executor_epoch: 0,
            size_bytes: Some(self.size),
            block_size: Some(self.block_size),
            read_only: self.is_read_only,
            encrypted: self.is_encrypted,
            exported: self.board.exported(),
            exports,
            jobs_running: self.board.running() as u64,
            idle_ms,
            status: status.map(|status| serde_json::to_value(&*status).expect("a status is plain data")),
        }
    }

    /// Ends its jobs, makes durable what clients have written if that is soon done, and ends it. Nothing of it is left.
    pub(crate) fn detach(&self) {
        self.board.close();
        if !self.is_read_only
            && self.check_usable(true).is_ok()
            && let Err(error) = self.flush()
        {
            tracing::warn!(volume = %self.id, error = problem::chain(&error), "detached, and not flushed before");
        }
        self.end();
    }

    fn flush(&self) -> Result<(), IoError> {
        let mut io = VolumeIo::connect(self.socket.as_std_path())?;
        io.set_patience(FLUSH_MAX)?;
        io.flush()
    }

    /// Ends its thread, and waits for that: the export's own limit is 10 s.
    fn end(&self) {
        self.handle.stop();
        if let Some(runs) = lock(&self.runs).take() {
            // One that has panicked has said so.
            let _ = runs.join();
        }
    }
}

/// For people.
fn waits(status: &ExportStatus) -> String {
    waiting(status).unwrap_or_else(|| "it gathers its members".to_owned())
}

/// What does not go on in a volume, if something does not.
fn waiting(status: &ExportStatus) -> Option<String> {
    let words: Vec<&str> = status.volume.waits().map(|wait| &*wait.words).collect();
    (!words.is_empty()).then(|| words.join("; "))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
