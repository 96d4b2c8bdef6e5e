//! `region look`: what can be told of regions without opening them. Reads files; writes nothing, and takes nobody's lock.

use camino::{Utf8Path, Utf8PathBuf};
use clap::Subcommand;
use daemon::state_lock::{self, Holding, StateLockError};
use downstairs::in_hex;
use durable_fs::{InPlaceFile, RealDisk, Storage};
use ids::{RegionId, RegionSetId, SnapshotId};
use region::{Inside, OpenError, Outside, SnapshotAtRest};
use serde::Serialize;
use std::{error::Error, fmt::Write, fs, io, os::unix::fs::MetadataExt, sync::Arc};
use upstairs::{At, ListStatus, Writer};

/// What names of regions end with.
const SUFFIX: &str = ".region";

/// What is done with single regions.
#[derive(Debug, Subcommand)]
pub enum RegionCommand {
    /// Show what a region's file says, without opening it for writing.
    ///
    /// While a Downstairs has the region, only what is kept in two copies can be told: which region it is, who may write it, who is full.
    Look {
        /// A region's file, or a directory with some.
        #[arg(value_name = "FILE_OR_DIRECTORY")]
        path: Utf8PathBuf,
        /// As JSON: a list of regions.
        #[arg(long)]
        json: bool,
    },
}

/// Why a region is not told of.
#[derive(Debug, thiserror::Error)]
pub(super) enum LookError {
    #[error("cannot read {path}")]
    Path {
        path: Utf8PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{path} has no regions: their names end with {SUFFIX}")]
    NoRegions { path: Utf8PathBuf },
    #[error("cannot see whether {directory} is in use")]
    Lock {
        directory: Utf8PathBuf,
        #[source]
        source: StateLockError,
    },
    #[error("{path} cannot be told of")]
    Region {
        path: Utf8PathBuf,
        #[source]
        source: OpenError,
    },
}

impl LookError {
    /// For programs; stable.
    pub(super) fn code(&self) -> &'static str {
        match self {
            LookError::Path { .. } | LookError::Lock { .. } => "not_readable",
            LookError::NoRegions { .. } => "no_regions",
            LookError::Region { source, .. } => match source {
                OpenError::Disk(_) | OpenError::NotWritten { .. } => "not_readable",
                OpenError::NotARegion { .. } => "not_a_region",
                OpenError::Unusable { .. } => "unknown_format",
                OpenError::Short { .. } => "too_short",
                OpenError::Rotten { .. } => "rotten",
            },
        }
    }
}

/// A region, as it is told.
#[derive(Debug, Serialize)]
struct Told {
    path: Utf8PathBuf,
    region: RegionId,
    set: RegionSetId,
    incarnation: u64,
    block_bytes: u64,
    blocks: u64,
    is_sealed: bool,
    /// Bytes of the volume's part, of the file, and of what the file takes of its disk.
    bytes: u64,
    file_bytes: u64,
    disk_bytes: u64,
    /// None if nobody was ever promoted.
    promoted: Option<Writer>,
    is_suspect: bool,
    list: ListStatus,
    is_full: bool,
    /// Of which snapshot it is a clone, if it is one: then nobody writes it.
    clone_of: Option<SnapshotId>,
    /// SHA-256 of its content, in hex, once that is proven: before, nobody reads it.
    proven: Option<String>,
    in_use: bool,
    /// The process that has it, if it has said so.
    in_use_by: Option<u32>,
    /// None while somebody has it.
    at_rest: Option<AtRest>,
}

#[derive(Debug, Serialize)]
struct AtRest {
    applied: At,
    durable: At,
    is_clean: bool,
    blocks_with_bytes: u64,
    /// Blocks whose bytes nobody had right: an error until they are written.
    blocks_lost: u64,
    free_data_blocks: u64,
    checkpoints: u64,
    /// The oldest first.
    snapshots: Vec<Snapshot>,
}

#[derive(Debug, Serialize)]
struct Snapshot {
    id: SnapshotId,
    applied: At,
    /// Bytes that its deletion would make free.
    bytes_alone: u64,
    blocks_lost: u64,
    /// It is deleted, and something of it is left.
    is_going: bool,
    /// Why it cannot be read, if it cannot.
    broken: Option<String>,
}

/// Shows them.
pub(super) fn look(path: &Utf8Path, json: bool) -> Result<(), Box<dyn Error>> {
    let regions = files(path)?.iter().map(|file| tell(file)).collect::<Result<Vec<_>, _>>()?;
    if json {
        say!("{}", serde_json::to_string_pretty(&regions)?);
    } else {
        say!("{}", regions.iter().map(page).collect::<Vec<_>>().join("\n").trim_end());
    }
    Ok(())
}

fn files(path: &Utf8Path) -> Result<Vec<Utf8PathBuf>, LookError> {
    let error = |source| LookError::Path { path: path.to_owned(), source };
    if !fs::metadata(path).map_err(error)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in path.read_dir_utf8().map_err(error)? {
        let entry = entry.map_err(error)?;
        if entry.file_name().ends_with(SUFFIX) {
            files.push(entry.into_path());
        }
    }
    files.sort();
    if files.is_empty() { Err(LookError::NoRegions { path: path.to_owned() }) } else { Ok(files) }
}

fn tell(path: &Utf8Path) -> Result<Told, LookError> {
    let wrong = |source| LookError::Region { path: path.to_owned(), source };
    let directory = path.parent().filter(|parent| !parent.as_str().is_empty()).unwrap_or(Utf8Path::new("."));
    let holding = || {
        let look = state_lock::look(directory);
        look.map_err(|source| LookError::Lock { directory: directory.to_owned(), source })
    };
    let (disk, name) = (RealDisk::new(directory), Utf8Path::new(path.file_name().unwrap_or_default()));
    let file: Arc<dyn InPlaceFile> =
        Arc::from(disk.look_in_place(name).map_err(|source| wrong(source.into()))?);
    let outside = region::look_outside(file.as_ref(), path).map_err(wrong)?;
    let before = holding()?;
    let inside = match before {
        Holding::Free => Some(region::look_inside(Arc::new(disk), file, name)),
        Holding::Held(_) => None,
    };
    // Somebody may have come while it was looked at: then what was seen is of no instant.
    let now = holding()?;
    let at_rest = match (now, inside) {
        (Holding::Free, Some(inside)) => Some(inside.map_err(wrong)?.into()),
        _ => None,
    };
    let metadata = fs::metadata(path).map_err(|source| LookError::Path { path: path.to_owned(), source })?;
    let who = if now == Holding::Free { before } else { now };
    Ok(told(path, &outside, at_rest, who, &metadata))
}

fn told(
    path: &Utf8Path,
    outside: &Outside,
    at_rest: Option<AtRest>,
    holding: Holding,
    metadata: &fs::Metadata,
) -> Told {
    let (identity, control) = (outside.identity, &outside.control);
    let block_bytes = identity.geometry.block_size.bytes() as u64;
    let is_this = |member: &region::Member| {
        member.region == identity.region && member.incarnation == control.incarnation
    };
    Told {
        path: path.to_owned(),
        region: identity.region,
        set: identity.set,
        incarnation: control.incarnation,
        block_bytes,
        blocks: identity.geometry.blocks,
        is_sealed: identity.geometry.is_sealed,
        bytes: identity.geometry.blocks * block_bytes,
        file_bytes: metadata.len(),
        disk_bytes: metadata.blocks() * 512,
        promoted: (control.promoted.epoch > 0).then(|| control.promoted.into()),
        is_suspect: control.is_suspect,
        list: (&control.list).into(),
        is_full: control.list.full.iter().any(is_this),
        clone_of: control.clone_of.map(|of| of.snapshot),
        proven: control.clone_of.and_then(|of| of.proven).map(|hash| in_hex(&hash)),
        in_use: at_rest.is_none(),
        in_use_by: if let Holding::Held(by) = holding { by } else { None },
        at_rest,
    }
}

impl From<Inside> for AtRest {
    fn from(inside: Inside) -> AtRest {
        AtRest {
            applied: inside.applied.into(),
            durable: inside.durable.into(),
            is_clean: inside.is_clean,
            blocks_with_bytes: inside.blocks_with_bytes,
            blocks_lost: inside.blocks_lost,
            free_data_blocks: inside.room,
            checkpoints: inside.checkpoints,
            snapshots: inside.snapshots.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<SnapshotAtRest> for Snapshot {
    fn from(SnapshotAtRest { status, bytes_alone }: SnapshotAtRest) -> Snapshot {
        Snapshot {
            id: status.snapshot,
            applied: status.applied.into(),
            bytes_alone,
            blocks_lost: status.lost_blocks,
            is_going: status.is_going,
            broken: status.broken,
        }
    }
}

/// In a line.
fn snapshot(there: &Snapshot) -> String {
    let Snapshot { id, applied, bytes_alone, blocks_lost, is_going, broken } = there;
    let mut line = format!("{id} of {}, {bytes_alone} bytes alone", at(*applied));
    if *blocks_lost > 0 {
        line += &format!(", {blocks_lost} blocks lost");
    }
    if *is_going {
        line += ", deleted, and not gone yet";
    }
    if let Some(why) = broken {
        line += &format!(", cannot be read: {why}");
    }
    line
}

fn page(told: &Told) -> String {
    let mut page = String::new();
    let mut row = |name: &str, value: String| {
        // Writing to a text does not fail.
        let _ = writeln!(page, "{name:<12} {value}");
    };
    row("file", told.path.to_string());
    row("region", format!("{}, incarnation {}", told.region, told.incarnation));
    row("set", told.set.to_string());
    let seals = if told.is_sealed { ", with seals" } else { "" };
    row("size", format!("{} blocks of {} bytes: {} bytes{seals}", told.blocks, told.block_bytes, told.bytes));
    row("takes", format!("{} bytes of its disk, in a file of {}", told.disk_bytes, told.file_bytes));
    row(
        "writer",
        told.promoted
            .map_or("nobody yet".to_owned(), |by| format!("epoch {}, session {}", by.epoch, by.session)),
    );
    if let Some(snapshot) = told.clone_of {
        let is = told.proven.as_ref().map_or_else(
            || "not proven: nobody reads it".to_owned(),
            |hash| format!("proven, SHA-256 {hash}"),
        );
        row("clone", format!("of snapshot {snapshot}, which nobody writes; {is}"));
    }
    let role = if told.is_full { "full" } else { "filling: counts for nothing" };
    let list = &told.list;
    row(
        "list",
        format!("{}.{} with {} full members; this one is {role}", list.epoch, list.number, list.full.len()),
    );
    if told.is_suspect {
        row("suspect", "a power cut may have taken something from it".to_owned());
    }
    match &told.at_rest {
        Some(rest) => {
            row(
                "holds",
                format!(
                    "{} blocks with bytes; {} data blocks are free",
                    rest.blocks_with_bytes, rest.free_data_blocks
                ),
            );
            if rest.blocks_lost > 0 {
                row(
                    "lost",
                    format!(
                        "{} blocks: nobody had them right, and they are errors until they are written",
                        rest.blocks_lost
                    ),
                );
            }
            row(
                "writes",
                format!(
                    "applied {}, known to be durable {}; {} checkpoints",
                    at(rest.applied),
                    at(rest.durable),
                    rest.checkpoints
                ),
            );
            rest.snapshots.iter().for_each(|there| row("snapshot", snapshot(there)));
            let end = if rest.is_clean {
                "closed in order"
            } else {
                "not closed in order: the next opening looks at what was written last"
            };
            row("end", end.to_owned());
        }
        None => {
            let by = told.in_use_by.map(|pid| format!(" (pid {pid})")).unwrap_or_default();
            row("in use", format!("a process has it{by}: what it writes is under way, and not told"));
        }
    }
    page
}

/// As people write a position.
pub(super) fn at(At { epoch, counter }: At) -> String {
    format!("{epoch}.{counter}")
}
