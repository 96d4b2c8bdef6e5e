//! Volumes by hand: regions, their Downstairs and an export over NBD, on one machine or several, with no coordinator.
//!
//! - [`arguments`]: what is written on the command line.
//! - [`cloned`]: a clone in the place of a member that a snapshot is read from.
//! - [`create`], [`replace`], [`snapshot`], [`scrub`], [`compare`], [`export`], [`downstairs`]: a command each. [`regions`]: regions that are made for a volume.
//! - [`keys`]: the files with their keys. [`description`]: the files that describe them.
//! - [`control`], [`look`]: what is asked of a running export; [`view`], [`parts_view`], [`repairs_view`]: how people see it; [`pause`]: between two looks.
//! - [`region_look`]: what a region's file says.
//! - [`mod@say`]: what they say. [`signals`]: how they are ended.

#[macro_use]
mod say;

mod arguments;
mod cloned;
mod compare;
mod control;
mod create;
mod description;
mod downstairs;
mod export;
mod keys;
mod look;
mod parts_view;
mod pause;
mod region_look;
mod regions;
mod repairs_view;
mod replace;
mod scrub;
mod signals;
mod snapshot;
mod view;

pub use region_look::RegionCommand;

use crate::tokens::TokenError;
use ::downstairs::ServerError;
use arguments::{ListenAt, Place, Rate, RateOrNone, Size};
use camino::{Utf8Path, Utf8PathBuf};
use clap::{Args, Subcommand};
use cloned::CloneError;
use compare::CopiesDamaged;
use control::{Goal, NotReached, Which};
use create::CreateError;
use daemon::state_lock::StateLockError;
use description::DescriptionError;
use ids::{RegionId, SnapshotId};
use keys::KeyFileError;
use region_look::LookError;
use replace::ReplaceError;
use scrub::{DropError, ScrubAct};
use snapshot::SnapshotError;
use std::{
    error::Error,
    net::{IpAddr, SocketAddr},
    process::ExitCode,
    time::Duration,
};
use volume_export::{AskError, ControlError, ExportError, NoticesError, Patience, Refusal};
use volume_repair::{BuildError, members_code};

/// What is done with volumes.
#[derive(Debug, Subcommand)]
pub enum VolumeCommand {
    /// Make a volume: a region in each of two or three directories, and a file that describes it.
    Create {
        /// Size of the volume: bytes, or a number with KiB, MiB, GiB or TiB.
        #[arg(long)]
        size: Size,
        /// Bytes of a block: 512 or 4096.
        #[arg(long, default_value_t = 4096)]
        block_size: u32,
        /// A directory, and where its regions will be served: DIRECTORY@ADDRESS:PORT. Two or three times.
        #[arg(long, required = true)]
        member: Vec<Place>,
        /// The file that describes the volume; it must not exist.
        #[arg(long, value_name = "FILE")]
        output: Utf8PathBuf,
        /// Encrypt it, with the key of this file. Without the key nobody can read it ever again.
        #[arg(long, value_name = "FILE")]
        key_file: Option<Utf8PathBuf>,
    },
    /// Make a file with a new key for encrypted volumes, which nobody but its owner may read.
    Key {
        /// The file; it must not exist.
        file: Utf8PathBuf,
    },
    /// Serve a volume over NBD until SIGTERM, SIGINT or `volume stop`.
    ///
    /// Its control socket is how `volume look`, `volume activate` and `volume stop` find it. Only this user may open it.
    Export {
        /// The file that describes the volume.
        #[arg(long, value_name = "FILE")]
        volume: Utf8PathBuf,
        /// The right to write: higher than that of every export of this volume before. A volume of which nothing is written needs none.
        #[arg(long, conflicts_with = "unactivated")]
        epoch: Option<u32>,
        /// Tell clients the volume's size, and let their reads and writes wait until `volume activate` gives an epoch.
        #[arg(long)]
        unactivated: bool,
        /// Where clients come: unix:PATH or tcp:ADDRESS:PORT.
        #[arg(long)]
        listen: ListenAt,
        /// The file with the key of the volume, if it is encrypted.
        #[arg(long, value_name = "FILE")]
        key_file: Option<Utf8PathBuf>,
        /// The control socket; beside the volume's file, ending with .control, unless said.
        #[arg(long, value_name = "PATH")]
        control: Option<Utf8PathBuf>,
        /// Begin with one full member, though others may have acknowledged writes that it never had: these are then lost.
        #[arg(long)]
        accept_possible_loss: bool,
        /// End reads and writes with EIO once two full members have not been there for so long. Unless said, they wait until there are.
        #[arg(long, value_name = "SECONDS")]
        members_timeout: Option<u64>,
        /// End writes with ENOSPC once two full members have had no room on their disks for so long. Unless said, they wait until there is.
        #[arg(long, value_name = "SECONDS")]
        room_timeout: Option<u64>,
        /// Fill members with so many bytes in a second at most, as 100MiB, of each region set. Unless said, clients that ask are all that
        /// slows a repair down.
        #[arg(long, value_name = "BYTES")]
        repair_rate: Option<Rate>,
        /// Copy what lies under the volume into it, in the background, from the beginning on.
        #[arg(long)]
        scrub: bool,
        /// The address of this host from which it comes to members, to servers of URLs, and to the coordinator that is told of repairs; unless
        /// said, the system chooses one. A server that is not reached from there is asked from any.
        #[arg(long, value_name = "ADDRESS")]
        from: Option<IpAddr>,
        /// Tell a coordinator which members are filled, how far that is and how it has ended.
        #[command(flatten)]
        notices: Notices,
    },
    /// Let an export that was started with --unactivated write.
    ///
    /// A second time, the same epoch is no mistake; another one is refused. If members know a higher one, the export has ended, and says so.
    Activate {
        /// Which export.
        #[command(flatten)]
        which: Which,
        /// The right to write: higher than that of every export of this volume before.
        #[arg(long)]
        epoch: u32,
    },
    /// Change how a running export does its work. Nothing of it is kept: the next export is told by its own options.
    Set {
        /// Which export.
        #[command(flatten)]
        which: Which,
        /// Fill members with so many bytes in a second at most, as 100MiB, of each region set, from now on; or `none`, for no limit.
        #[arg(long, value_name = "BYTES|none")]
        repair_rate: RateOrNone,
    },
    /// Put a new region in the place of a member, while clients go on.
    ///
    /// A member that is there stays one until the new one has everything. Ends as soon as that has begun; `volume wait --for whole` waits
    /// for its end. One that a snapshot is read from gets a clone in its place, which the Downstairs of DIRECTORY makes: that is waited for.
    Replace {
        /// Which volume; its file gets the next version.
        #[command(flatten)]
        which: Which,
        /// The member's region.
        #[arg(long)]
        region: RegionId,
        /// Where the new region is made, and where it will be served: DIRECTORY@ADDRESS:PORT.
        #[arg(long)]
        member: Place,
        /// The old region is lost for good: it is not waited for, and never asked again. Refused while it is there.
        #[arg(long)]
        gone: bool,
        /// The new region's name: a UUID. A new one, unless said. Of a volume that is only read, the one that was begun goes on.
        #[arg(long, value_name = "UUID")]
        id: Option<RegionId>,
    },
    /// Keep what was written until now as a snapshot, while clients go on.
    ///
    /// It is kept by all full members that are there, two at least, and costs room only for what is written over later.
    Snapshot {
        /// Which export.
        #[command(flatten)]
        which: Which,
        /// Its name: a UUID. A new one, unless said. One that is there already, of what was written until now, is no mistake.
        #[arg(long, value_name = "UUID")]
        id: Option<SnapshotId>,
        /// A file that describes a volume of what it has, which is only read; it must not exist.
        #[arg(long, value_name = "FILE")]
        output: Option<Utf8PathBuf>,
    },
    /// Delete a snapshot, and give back the room that it alone takes. One that is not there is no mistake.
    DeleteSnapshot {
        /// Which export.
        #[command(flatten)]
        which: Which,
        /// Which snapshot.
        #[arg(long, value_name = "UUID")]
        id: SnapshotId,
    },
    /// Copy what lies under a volume into it, in the background, while clients go on and come first; or stop that; or show how far it is.
    ///
    /// Interrupted anywhere, it goes on when it is started again. `volume wait --for own` waits for its end; then `volume drop-parent` is possible.
    Scrub {
        /// Which export.
        #[command(flatten)]
        which: Which,
        /// What is done.
        #[arg(value_name = "DO")]
        act: ScrubAct,
    },
    /// Read every copy of a volume, compare them, and mend what is wrong with one, while clients go on and come first.
    ///
    /// Of the volume's own regions, as far as their members are there and full. Fails if something is left that could not be mended: nobody has it
    /// right, or nobody can say who has.
    Compare {
        /// Which export.
        #[command(flatten)]
        which: Which,
        /// What was found, as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Let nothing lie under a volume any more: what does was scrubbed to the end, and all is the volume's own.
    ///
    /// The volume's file gets the next version, without a parent. Refused as long as anything would be lost.
    DropParent {
        /// Which export.
        #[command(flatten)]
        which: Which,
    },
    /// Show what an export believes: who is there, who lags, what is being copied, what waits for whom.
    Look {
        /// Which export.
        #[command(flatten)]
        which: Which,
        /// As JSON; with --watch, one value in a line.
        #[arg(long)]
        json: bool,
        /// Every second, until it is ended: on a terminal the whole page, otherwise a line whenever a state has changed.
        #[arg(long)]
        watch: bool,
    },
    /// Wait until an export is in a state, and show it in a line.
    Wait {
        /// Which export.
        #[command(flatten)]
        which: Which,
        /// The state.
        #[arg(long = "for", value_name = "STATE")]
        goal: Goal,
        /// How long at most.
        #[arg(long, default_value_t = 60)]
        seconds: u64,
    },
    /// End an export when what is under way was answered.
    Stop {
        /// Which export.
        #[command(flatten)]
        which: Which,
    },
}

/// Where notices of repairs are kept, and who is told.
#[derive(Debug, Args)]
pub struct Notices {
    /// A directory where notices of repairs are kept until the coordinator has them: always the same for a volume. Several may have one.
    #[arg(long = "notices", value_name = "DIR", requires = "url")]
    directory: Option<Utf8PathBuf>,
    /// The coordinator's sled-facing API, such as http://10.0.0.1:12221, which is told of repairs.
    #[arg(long = "notify", value_name = "URL", requires = "directory")]
    url: Option<String>,
    /// The file with the token by which the coordinator knows a sled.
    #[arg(long = "notify-token-file", value_name = "FILE", requires = "url")]
    token_file: Option<Utf8PathBuf>,
}

/// Does it.
#[must_use]
pub fn run(command: VolumeCommand) -> ExitCode {
    say(match command {
        VolumeCommand::Create { size, block_size, member, output, key_file } => {
            create::create(size, block_size, &member, &output, key_file.as_deref())
        }
        VolumeCommand::Key { file } => keys::make(&file).map_err(Into::into),
        VolumeCommand::Export {
            volume,
            epoch,
            unactivated,
            listen,
            key_file,
            control,
            accept_possible_loss,
            members_timeout,
            room_timeout,
            repair_rate,
            scrub,
            from,
            notices,
        } => {
            let control = control::socket(&volume, control.as_deref());
            let order = export::Order {
                volume: &volume,
                epoch,
                is_unactivated: unactivated,
                control: &control,
                accepts_possible_loss: accept_possible_loss,
                patience: Patience {
                    for_members: members_timeout.map(Duration::from_secs),
                    for_room: room_timeout.map(Duration::from_secs),
                },
                repair_rate: repair_rate.map(|rate| rate.0),
                key_file: key_file.as_deref(),
                is_to_scrub: scrub,
                from,
                notices: &notices,
            };
            export::export(order, listen.0)
        }
        VolumeCommand::Activate { which, epoch } => control::activate(&which, epoch),
        VolumeCommand::Set { which, repair_rate } => control::set_repair_rate(&which, repair_rate.0),
        VolumeCommand::Replace { which, region, member, gone, id } => {
            replace::replace(&which, region, &member, gone, id)
        }
        VolumeCommand::Snapshot { which, id, output } => snapshot::take(&which, id, output.as_deref()),
        VolumeCommand::DeleteSnapshot { which, id } => snapshot::delete(&which, id),
        VolumeCommand::Scrub { which, act } => scrub::scrub(&which, act),
        VolumeCommand::Compare { which, json } => compare::compare(&which, json),
        VolumeCommand::DropParent { which } => scrub::drop_parent(&which),
        VolumeCommand::Look { which, json, watch } => look::look(&which, look::Form { json, watch }),
        VolumeCommand::Wait { which, goal, seconds } => control::wait(&which, goal, seconds),
        VolumeCommand::Stop { which } => control::stop(&which),
    })
}

/// Does it with a region.
#[must_use]
pub fn run_region(command: RegionCommand) -> ExitCode {
    let RegionCommand::Look { path, json } = command;
    say(region_look::look(&path, json))
}

/// Serves the regions of a directory until SIGTERM or SIGINT.
#[must_use]
pub fn run_downstairs(directory: &Utf8Path, address: SocketAddr) -> ExitCode {
    say(downstairs::downstairs(directory, address))
}

fn say(result: Result<(), Box<dyn Error>>) -> ExitCode {
    let Err(error) = result else { return ExitCode::SUCCESS };
    let code = code(error.as_ref()).map(|code| format!("[{code}]")).unwrap_or_default();
    eprintln!("error{code}: {}", problem::chain(error.as_ref()));
    ExitCode::FAILURE
}

/// What programs know an error by, if it has a name. The names are stable.
fn code(error: &(dyn Error + 'static)) -> Option<String> {
    if let Some(refusal) = error.downcast_ref::<Refusal>() {
        return Some(refusal.code.to_string());
    }
    if error.is::<CopiesDamaged>() {
        return Some("copies_damaged".to_owned());
    }
    if error.is::<NotReached>() {
        return Some("not_reached".to_owned());
    }
    match error.downcast_ref() {
        Some(AskError::NotThere { .. }) => return Some("no_export".to_owned()),
        Some(AskError::NotAsked { .. }) => return Some("export_not_asked".to_owned()),
        Some(AskError::NotAnswered { .. } | AskError::Strange { .. }) | None => {}
    }
    let of_look = error.downcast_ref().map(LookError::code);
    let of_build = || error.downcast_ref().map(BuildError::code);
    let of_key = || error.downcast_ref().map(KeyFileError::code);
    let of_description = || error.downcast_ref().map(DescriptionError::code);
    let of_create = || error.downcast_ref().map(CreateError::code);
    let of_replace = || error.downcast_ref().map(ReplaceError::code);
    let of_clone = || error.downcast_ref().map(CloneError::code);
    let of_members = || error.downcast_ref().map(members_code);
    let of_snapshot = || error.downcast_ref().map(SnapshotError::code);
    let of_drop = || error.downcast_ref().map(DropError::code);
    let of_export = || error.downcast_ref().map(ExportError::code);
    let of_notices = || error.downcast_ref().map(NoticesError::code);
    let of_token = || error.is::<TokenError>().then_some("notify_token_file");
    let of_control = || error.downcast_ref().map(ControlError::code);
    let of_lock = || {
        let error = error.downcast_ref()?;
        Some(if matches!(error, StateLockError::Held { .. }) {
            "downstairs_held"
        } else {
            "downstairs_not_locked"
        })
    };
    let of_server = || {
        let error = error.downcast_ref()?;
        Some(if matches!(error, ServerError::Listen { .. }) {
            "downstairs_not_listening"
        } else {
            "no_thread"
        })
    };
    let of_volume = of_look.or_else(of_build).or_else(of_key).or_else(of_description).or_else(of_create);
    let of_volume = of_volume.or_else(of_replace).or_else(of_clone).or_else(of_members).or_else(of_snapshot);
    let of_volume = of_volume.or_else(of_drop).or_else(of_export).or_else(of_notices).or_else(of_token);
    let code = of_volume.or_else(of_control).or_else(of_lock).or_else(of_server);
    code.map(str::to_owned)
}
