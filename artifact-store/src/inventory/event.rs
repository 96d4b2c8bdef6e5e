//! Everything that can happen to the inventory.

use crate::{
    config::StoreArtifactsConfig,
    inventory::{DatasetIndex, Stamp},
    layout::SetAside,
    ledger::LedgerCopy,
    records::Floor,
};
use durable_fs::{FileMetadata, Space};
use ids::ArtifactHash;
use jiff::Timestamp;
use std::{collections::BTreeMap, sync::Arc, time::Instant};

/// Something that happened.
#[derive(Debug)]
pub(crate) enum Event {
    /// Every dataset was admitted, or had its chance.
    Settled { now: Instant },
    /// A dataset was opened and read.
    Admitted { dataset: DatasetIndex, admission: Admission, now: Instant },
    /// A dataset could not be opened for want of something that is not the disk's.
    AdmissionPostponed { dataset: DatasetIndex, reason: String, now: Instant },
    /// An operation on a dataset failed, or took too long. Ignored if the dataset was admitted again since.
    Troubled { dataset: DatasetIndex, incarnation: u64, trouble: Trouble, reason: String, now: Instant },
    /// A full, slow or read-only dataset works again.
    Recovered { dataset: DatasetIndex },
    /// A file system told its space.
    SpaceSeen { dataset: DatasetIndex, space: Space },
    /// A ledger with that config is durable there; whether or not anybody still waits for it, that puts it in force
    /// if it is newer.
    LedgerWritten { dataset: DatasetIndex, config: Arc<StoreArtifactsConfig> },
    /// A ledger could not be written for want of something that is not the disk's.
    LedgerPostponed { dataset: DatasetIndex, now: Instant },
    /// A writer starts to receive an artifact.
    WriteBegan { hash: ArtifactHash },
    /// It ended, one way or the other.
    WriteEnded { hash: ArtifactHash },
    /// A copy has its name, durably.
    Published { dataset: DatasetIndex, hash: ArtifactHash, stamp: Stamp, at: Timestamp },
    /// A copy was hashed and is right. `seen` is what the inventory knew of it when the hashing was asked for.
    Verified { dataset: DatasetIndex, hash: ArtifactHash, seen: Stamp, stamp: Stamp, at: Timestamp },
    /// A copy is not the file that was verified.
    Changed { dataset: DatasetIndex, hash: ArtifactHash, seen: Stamp, stamp: Stamp },
    /// A copy was hashed and is wrong, or is none, or could not be read once more on a disk that works.
    Condemned { dataset: DatasetIndex, hash: ArtifactHash, seen: Stamp, at: Timestamp },
    /// A copy could not be read on a disk that works.
    NotRead { dataset: DatasetIndex, hash: ArtifactHash, seen: Stamp, now: Instant },
    /// A copy is not there any more.
    Vanished { dataset: DatasetIndex, hash: ArtifactHash, seen: Stamp },
    /// A bad copy, or what was in its place, was moved to quarantine; the bytes that it has there.
    Quarantined { dataset: DatasetIndex, entry: SetAside, size: u64 },
    /// An unwanted copy was moved to the trash.
    Trashed { dataset: DatasetIndex, entry: SetAside },
    /// An unwanted copy could not be moved.
    TrashFailed { dataset: DatasetIndex, hash: ArtifactHash },
    /// A copy was moved back from the trash; when it was verified, if its record still fits.
    Restored { dataset: DatasetIndex, entry: SetAside, stamp: Stamp, verified_at: Option<Timestamp> },
    /// A file of the trash is not there.
    TrashVanished { dataset: DatasetIndex, entry: SetAside },
    /// A file of the quarantine was removed for good.
    QuarantinePurged { dataset: DatasetIndex, entry: SetAside },
    /// An artifact could not be copied to that dataset, or verified on it, for now.
    Postponed { dataset: DatasetIndex, hash: ArtifactHash, now: Instant },
    /// Somebody asked for the verification of everything.
    ScrubAsked,
    /// Some bytes were hashed for it.
    ScrubProgressed { bytes: u64 },
    /// It is done with a copy, of which it hashed that many bytes.
    Scrubbed { dataset: DatasetIndex, hash: ArtifactHash, hashed: u64, corrupt: bool, at: Timestamp },
}

/// What kind of trouble a dataset has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// No room for that many bytes.
    Full { needed: u64 },
    /// No writes.
    ReadOnly,
    /// Too late.
    Slow,
    /// An operation failed.
    Failed,
    /// Its directory is not there.
    Missing,
}

/// What a dataset was found to hold.
#[derive(Debug)]
pub(crate) struct Admission {
    pub(crate) ledger: LedgerCopy,
    pub(crate) floor: Option<Floor>,
    /// The files under artifact names; when each was verified, if its record fits.
    pub(crate) artifacts: BTreeMap<ArtifactHash, (FileMetadata, Option<Timestamp>)>,
    pub(crate) trash: BTreeMap<SetAside, u64>,
    pub(crate) quarantine: BTreeMap<SetAside, u64>,
    pub(crate) space: Space,
    /// Whether nothing can be written to it.
    pub(crate) read_only: bool,
}

/// Who has to look again after an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changed {
    /// The listing is another one: those who watch the revision.
    pub(crate) listing: bool,
    /// There may be something to do: the keeper.
    pub(crate) work: bool,
}

impl Changed {
    pub(crate) const NOTHING: Changed = Changed { listing: false, work: false };
    pub(crate) const LISTING: Changed = Changed { listing: true, work: false };
    pub(crate) const WORK: Changed = Changed { listing: false, work: true };
    pub(crate) const BOTH: Changed = Changed { listing: true, work: true };
}
