//! Volumes that a sled holds itself, with no VM: what a coordinator asks to be done with them, and how far that is.

use crate::artifacts::WaitQuery;
use ids::{ArtifactHash, JobId, RegionId, SnapshotId, VolumeId};
use jiff::Timestamp;
use problem::Problem;
use serde::{Deserialize, Serialize};
use std::{fmt, net::IpAddr, num::NonZeroU16};
use utoipa::{IntoParams, ToSchema};

/// The header of an attachment that has the volume's key, as a key file has it: 64 hexadecimal digits.
pub const VOLUME_KEY_HEADER: &str = "volume-key";

/// Whether a volume that is attached reads and writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Activate {
    /// From now on.
    #[default]
    Now,
    /// Once it is put again with `now`. Until then nobody is fenced.
    Later,
    /// Nothing is attached: the request is applied if the volume is attached already, and is `missing` otherwise.
    Never,
}

/// The query of an attachment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct AttachQuery {
    /// The right of the coordinator that asks; from 1 on. A lower one than the sled knows for this volume is refused.
    pub executor_epoch: u64,
    /// Whether the volume reads and writes from now on; `now` unless said.
    #[serde(default)]
    #[param(inline)]
    pub activate: Activate,
}

/// What has become of a construction request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RequestResult {
    /// Members are replaced from now on.
    Started,
    /// They are being replaced since an earlier time.
    StartedAlready,
    /// They were replaced.
    CompletedAlready,
    /// The volume has the members of the request since it was attached, which may be just now.
    VcrMatches,
    /// It is not attached here, and was not to be.
    Missing,
}

/// A construction request that was taken.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AttachAnswer {
    /// What has become of it.
    pub result: RequestResult,
    /// The volume; none if it is missing.
    pub volume: Option<PantryVolume>,
}

/// How far a volume is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PantryVolumeState {
    /// It was attached to be activated later.
    NotActivated,
    /// It gathers members that have everything.
    Activating,
    /// It reads and writes.
    Active,
    /// Somebody else has taken it over: it does nothing more here.
    Fenced,
    /// Its members have lost acknowledged writes: it does nothing more.
    Lost,
    /// The process that had it has ended; put again with a higher epoch, it is attached anew.
    Ended,
}

/// Who may use a volume over NBD.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Exported {
    /// Clients read.
    ReadOnly,
    /// Clients read and write.
    ReadWrite,
}

/// A volume that a sled holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PantryVolume {
    /// Which.
    pub id: VolumeId,
    /// How far it is.
    pub state: PantryVolumeState,
    /// Why it does nothing more, or what of it does not go on, and for whom that waits. One that is active may have something that does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The version of the construction request that it runs by.
    pub config_version: u64,
    /// The right to write that the request has.
    pub epoch: u32,
    /// The highest right of a coordinator that the sled knows for it.
    #[serde(default)]
    pub executor_epoch: u64,
    /// Bytes of it; none once it has ended.
    pub size_bytes: Option<u64>,
    /// Bytes of a block.
    pub block_size: Option<u32>,
    /// Whether nothing can be written to it, because a part of it is only read.
    pub read_only: bool,
    /// Whether a part of it is encrypted: attached anew, it needs its key again.
    #[serde(default)]
    pub encrypted: bool,
    /// Whether it is exported over NBD, and whether anybody may write so.
    pub exported: Option<Exported>,
    /// Its exports: to read and to write, at a socket of the sled and over TCP, so four at most.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exports: Vec<PantryExport>,
    /// Jobs that run.
    pub jobs_running: u64,
    /// Milliseconds since a call, a job or a client has used it: nobody detaches it but a coordinator. None once it has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_ms: Option<u64>,
    /// What its Upstairs believes, member by member, as `sled-agent volume look --json` has it. In lists it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub status: Option<serde_json::Value>,
}

/// Whether the process serves that holds a sled's volumes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PantryState {
    /// Nobody has needed it yet: the first attachment starts it.
    NotStarted,
    /// It runs, and does not answer yet.
    Starting,
    /// It answers.
    Running,
    /// It has ended, and is started again in a moment.
    BackingOff,
    /// Another process has its directory, which is not provably it: that is left alone.
    HeldElsewhere,
}

/// The process that holds a sled's volumes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PantryStatus {
    /// Whether it serves.
    pub state: PantryState,
    /// Its pid, while there is one.
    pub pid: Option<u32>,
    /// How often this life of the agent has started it again after it had ended.
    pub restarts: u64,
    /// Why it does not serve.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The volumes that a sled holds, by id. There is a bound on them, so they are one page.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PantryVolumePage {
    /// The volumes.
    pub items: Vec<PantryVolume>,
    /// The process that has them.
    pub pantry: Option<PantryStatus>,
    /// Token of the next page: there is none.
    pub next_page: Option<String>,
}

/// The query of an import whose bytes are the body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ImportQuery {
    /// The right of the coordinator that asks; from 1 on.
    pub executor_epoch: u64,
    /// The job's id; one that the sled chooses unless said. The same import may be asked for again under its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_id: Option<JobId>,
    /// How many bytes there are to be, from the volume's first on; as many as the volume has unless said. What lies behind them stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
    /// The SHA-256 that they are to have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub sha256: Option<ArtifactHash>,
}

/// An import of what a web server has.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ImportRequest {
    /// The right of the coordinator that asks; from 1 on.
    pub executor_epoch: u64,
    /// The job's id; one that the sled chooses unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_id: Option<JobId>,
    /// Where: `http://…`, with everything that opens the door.
    pub url: String,
    /// How many bytes there are to be; the server has to say the same. What lies behind them in the volume stays.
    pub size_bytes: u64,
    /// The SHA-256 that they are to have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub sha256: Option<ArtifactHash>,
}

impl fmt::Debug for ImportRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL may have secrets in it.
        f.debug_struct("ImportRequest")
            .field("job_id", &self.job_id)
            .field("size_bytes", &self.size_bytes)
            .finish_non_exhaustive()
    }
}

/// A scrub; or that what lies under a volume is copied into it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ScrubRequest {
    /// The right of the coordinator that asks; from 1 on.
    pub executor_epoch: u64,
    /// The job's id; one that the sled chooses unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_id: Option<JobId>,
}

/// By which way clients come to an export.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ExportListen {
    /// A socket of the sled, for root and the agent's user.
    #[default]
    Unix,
    /// A port at the sled's address. Whoever gets there is served, and nothing is encrypted.
    Tcp,
}

/// An export over NBD.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExportRequest {
    /// The right of the coordinator that asks; from 1 on.
    pub executor_epoch: u64,
    /// Whether clients may only read.
    pub read_only: bool,
    /// By which way they come; `unix` unless said.
    #[serde(default)]
    #[schema(inline)]
    pub listen: ExportListen,
    /// Of `tcp`: the address, which is the sled's own also if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub address: Option<IpAddr>,
    /// Of `tcp`: the port, from 1 on; one that is free unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u16>, minimum = 1)]
    pub port: Option<NonZeroU16>,
}

impl ExportRequest {
    /// At a socket of the sled.
    #[must_use]
    pub fn unix(executor_epoch: u64, read_only: bool) -> ExportRequest {
        ExportRequest { executor_epoch, read_only, listen: ExportListen::Unix, address: None, port: None }
    }
}

/// A volume that is exported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ExportAnswer {
    /// Where NBD clients find it, until it is taken back, or the volume is detached.
    pub uri: String,
}

/// An export that is to be taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UnexportRequest {
    /// The right of the coordinator that asks; from 1 on.
    pub executor_epoch: u64,
    /// Of the export: whether clients may only read.
    pub read_only: bool,
    /// Of the export: by which way they come; `unix` unless said.
    #[serde(default)]
    #[schema(inline)]
    pub listen: ExportListen,
    /// Whether also if clients use it: they are cut off when what they have written is durable, or after 5 s.
    #[serde(default)]
    pub force: bool,
}

/// What has become of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum UnexportResult {
    /// It is taken back.
    Ended,
    /// There was none.
    GoneAlready,
}

/// An export that is there no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UnexportAnswer {
    /// Whether it was there.
    pub result: UnexportResult,
    /// Clients that were cut off.
    pub clients: u64,
    /// Whether all that its clients had written is durable. Not, if that took longer than 5 s, or somebody else holds the volume.
    pub flushed: bool,
}

/// An export, as it is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PantryExport {
    /// By which way clients come.
    pub listen: ExportListen,
    /// Whether they may only read.
    pub read_only: bool,
    /// Where they find it.
    pub uri: String,
    /// How many use it.
    pub clients: u64,
    /// How many may at a time; one more is not let in.
    pub clients_max: u64,
    /// How many were not let in since it was exported.
    pub clients_refused: u64,
}

/// A snapshot that was taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SnapshotAnswer {
    /// Which.
    pub id: SnapshotId,
    /// The regions that have it.
    pub regions: Vec<RegionId>,
}

/// What a job does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PantryJobKind {
    /// Writes what it is given, from the first byte on.
    Import,
    /// Reads and compares every copy of every block, and mends what is wrong.
    Scrub,
    /// Copies what lies under the volume into it.
    CopyParent,
}

/// What a job that runs does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PantryJobPhase {
    /// It waits for bytes that it is to be given.
    AwaitingBytes,
    /// It writes them.
    Writing,
    /// What it wrote is made durable.
    MakingDurable,
    /// It compares copies.
    Comparing,
    /// What lies under the volume is copied into it.
    Copying,
}

/// Where a job stands. All but running are terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PantryJobState {
    /// It goes on.
    Running,
    /// It did all that it was to do; what it wrote is durable.
    Done,
    /// It did not, and `error` says why. What it wrote until then is written.
    Failed,
    /// Somebody ended it. What it wrote until then is written.
    Cancelled,
}

impl PantryJobState {
    /// Whether it stays as it is.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        self != PantryJobState::Running
    }
}

/// A job on a volume.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PantryJob {
    /// Its id.
    pub id: JobId,
    /// What it does.
    pub kind: PantryJobKind,
    /// Where it stands.
    pub state: PantryJobState,
    /// What it does, while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<PantryJobPhase>,
    /// What does not go on in its volume, and for whom that waits, while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits: Option<String>,
    /// Bytes that are done; never shrinks.
    pub bytes_done: u64,
    /// Bytes to do.
    pub bytes: u64,
    /// Bytes per second since it began.
    pub rate: u64,
    /// What a scrub has found in the copies of the volume's own region sets, until now; in the order of the regions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub copies: Vec<CopyScrubbed>,
    /// The SHA-256 of what was imported, once all of it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub sha256: Option<ArtifactHash>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Problem>,
    /// When it began.
    #[schema(value_type = String, format = DateTime)]
    pub began: Timestamp,
    /// When it ended.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub ended: Option<Timestamp>,
}

/// What a scrub has found in the copy that one region has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CopyScrubbed {
    /// The region.
    pub region_id: RegionId,
    /// Blocks of it that were looked at: fewer than of others, if it was away or not full, all the time or for a while.
    pub blocks: u64,
    /// Those that were not what they should be: their bytes, or their seals, or two others have something else.
    pub wrong_blocks: u64,
    /// Those of them that are, by now.
    pub healed_blocks: u64,
    /// Those that differ from other copies, and nobody can say who is right.
    pub differing_blocks: u64,
    /// The first block of the volume that is wrong still, or differs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_bad_block: Option<u64>,
}

/// Jobs of a volume, newest first. There is a bound on them, so they are one page.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PantryJobPage {
    /// The jobs.
    pub items: Vec<PantryJob>,
    /// Token of the next page: there is none.
    pub next_page: Option<String>,
}

/// How long a job's end is waited for at most, in milliseconds: below every client's own limit.
pub const WAIT_MS_MAX: u64 = 20_000;

/// The query of a job.
pub type JobQuery = WaitQuery;
