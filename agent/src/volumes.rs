//! Volumes by hand: regions, their Downstairs and an export over NBD, on one machine or several, with no coordinator.

use camino::{Utf8Path, Utf8PathBuf};
use clap::Subcommand;
use daemon::{
    log::{self, LogFormat, LogSettings},
    state_lock::StateLock,
};
use downstairs::{Disk, Server};
use durable_fs::RealDisk;
use ids::{RegionId, RegionSetId};
use region::{BlockSize, Geometry, Identity, List, ListVersion, NewRegion, Position};
use std::{
    error::Error, fs, net::SocketAddr, num::ParseIntError, process::ExitCode, str::FromStr, sync::Arc, thread,
};
use uuid::Uuid;
use volume_export::{Address, Export, Volume};
use volume_repair::{ConstructionRequest, Member, RegionSet, SubVolume};

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
    },
    /// Serve a volume over NBD until SIGTERM or SIGINT.
    Export {
        /// The file that describes the volume.
        #[arg(long, value_name = "FILE")]
        volume: Utf8PathBuf,
        /// The right to write: higher than that of every export of this volume before.
        #[arg(long)]
        epoch: u32,
        /// Where clients come: unix:PATH or tcp:ADDRESS:PORT.
        #[arg(long)]
        listen: ListenAt,
    },
}

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(u64);

impl FromStr for Size {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Size, SizeError> {
        const UNITS: [(&str, u32); 4] = [("KiB", 10), ("MiB", 20), ("GiB", 30), ("TiB", 40)];
        let with_unit = UNITS.iter().find_map(|(unit, shift)| Some((text.strip_suffix(unit)?, *shift)));
        let (number, shift) = with_unit.unwrap_or((text, 0));
        let number: u64 = number.trim().parse().map_err(SizeError::Number)?;
        number.checked_mul(1 << shift).map(Size).ok_or(SizeError::TooLarge)
    }
}

/// A text that is no number of bytes.
#[derive(Debug, thiserror::Error)]
pub enum SizeError {
    /// Not a number.
    #[error("a size is a number of bytes, or one with KiB, MiB, GiB or TiB")]
    Number(#[source] ParseIntError),
    /// No disk is so large.
    #[error("it is more than any disk has")]
    TooLarge,
}

/// A directory with regions, and where they are served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    directory: Utf8PathBuf,
    address: SocketAddr,
}

impl FromStr for Place {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Place, &'static str> {
        let parts = text.rsplit_once('@').ok_or("a member is DIRECTORY@ADDRESS:PORT")?;
        let address = parts.1.parse().map_err(|_| "behind the @ there is no ADDRESS:PORT")?;
        Ok(Place { directory: Utf8PathBuf::from(parts.0), address })
    }
}

/// Where clients come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenAt(Address);

impl FromStr for ListenAt {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<ListenAt, &'static str> {
        if let Some(path) = text.strip_prefix("unix:") {
            return Ok(ListenAt(Address::Unix(Utf8PathBuf::from(path))));
        }
        let address = text.strip_prefix("tcp:").and_then(|address| address.parse().ok());
        address.map(|address| ListenAt(Address::Tcp(address))).ok_or("it is unix:PATH or tcp:ADDRESS:PORT")
    }
}

/// Does it.
#[must_use]
pub fn run(command: VolumeCommand) -> ExitCode {
    say(match command {
        VolumeCommand::Create { size, block_size, member, output } => {
            create(size, block_size, &member, &output)
        }
        VolumeCommand::Export { volume, epoch, listen } => export(&volume, epoch, listen.0),
    })
}

/// Serves the regions of a directory until SIGTERM or SIGINT.
#[must_use]
pub fn run_downstairs(directory: &Utf8Path, address: SocketAddr) -> ExitCode {
    say(downstairs(directory, address))
}

fn say(result: Result<(), Box<dyn Error>>) -> ExitCode {
    let Err(error) = result else { return ExitCode::SUCCESS };
    eprintln!("error: {}", problem::chain(error.as_ref()));
    ExitCode::FAILURE
}

fn create(
    Size(size): Size,
    block_bytes: u32,
    places: &[Place],
    output: &Utf8Path,
) -> Result<(), Box<dyn Error>> {
    let set = RegionSetId::generate();
    let members: Vec<Member> = places
        .iter()
        .map(|place| Member {
            region_id: RegionId::generate(),
            incarnation: Uuid::new_v4().as_u64_pair().1,
            address: place.address,
        })
        .collect();
    let blocks = size / u64::from(block_bytes.max(1));
    if blocks * u64::from(block_bytes) != size {
        return Err(format!("{size} bytes are not a whole number of blocks of {block_bytes}").into());
    }
    let request = ConstructionRequest {
        id: Uuid::now_v7(),
        config_version: 1,
        epoch: 1,
        block_size: block_bytes,
        sub_volumes: vec![SubVolume::RegionSet(RegionSet {
            id: set,
            blocks_per_extent: blocks,
            extent_count: 1,
            members: members.clone(),
        })],
        read_only_parent: None,
    };
    // What cannot be used is not made.
    request.build(Uuid::nil())?;
    if output.exists() {
        return Err(format!("{output} exists already").into());
    }
    let block_size = BlockSize::of(block_bytes).ok_or("blocks have 512 or 4096 bytes")?;
    let geometry = Geometry { block_size, blocks, is_sealed: false };
    let full = members
        .iter()
        .map(|member| region::Member { region: member.region_id, incarnation: member.incarnation });
    let list =
        List { version: ListVersion { epoch: 0, number: 1 }, base: Position::NONE, full: full.collect() };
    for (place, member) in places.iter().zip(&members) {
        fs::create_dir_all(&place.directory)?;
        let disk = Disk::new(Arc::new(RealDisk::new(&place.directory)));
        disk.create(&NewRegion {
            identity: Identity { region: member.region_id, set, geometry },
            incarnation: member.incarnation,
            list: list.clone(),
            salt: Uuid::new_v4().as_u64_pair().1,
        })?;
    }
    fs::write(output, serde_json::to_vec_pretty(&request)?)?;
    println!("volume {} of {size} bytes: {output}", request.id);
    Ok(())
}

fn downstairs(directory: &Utf8Path, address: SocketAddr) -> Result<(), Box<dyn Error>> {
    log::start(&LogSettings { format: LogFormat::Text, filter: None })?;
    // Two that serve the same regions would each believe that they know who may write.
    let _only_one = StateLock::take(directory)?;
    let disk = Disk::new(Arc::new(RealDisk::new(directory)));
    let regions = disk.regions()?.len();
    let server = Server::start(disk, address)?;
    println!("serving {regions} regions of {directory} at {}", server.address());
    wait_for_signal()?;
    server.stop();
    Ok(())
}

fn export(volume: &Utf8Path, epoch: u32, listen: Address) -> Result<(), Box<dyn Error>> {
    log::start(&LogSettings { format: LogFormat::Text, filter: None })?;
    let mut request: ConstructionRequest = serde_json::from_slice(&fs::read(volume)?)?;
    request.epoch = epoch;
    let (config, members) = request.build(Uuid::new_v4())?;
    let export = Export::new(Volume { config, members, name: String::new() }, listen)?;
    let handle = export.handle();
    handle.activate();
    println!("serving volume {} with epoch {epoch}", request.id);
    let stopper = thread::spawn(move || {
        let signal = wait_for_signal();
        handle.stop();
        signal.map_err(|error| error.to_string())
    });
    export.run()?;
    stopper.join().map_err(|_| "the thread that waits for signals has panicked")??;
    Ok(())
}

fn wait_for_signal() -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut stop = daemon::stop::on_signals()?;
        // An error is that nobody will ever ask.
        let _ = stop.wait_for(|stop| *stop).await;
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_and_without_units() {
        let read = |text: &str| text.parse::<Size>().map(|size| size.0).ok();
        assert_eq!(read("4096"), Some(4_096));
        assert_eq!(read("2GiB"), Some(2 << 30));
        assert_eq!(read("3 MiB"), Some(3 << 20));
        for wrong in ["", "GiB", "2GB", "-1", "99999999TiB", "1.5GiB"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn members_and_sockets_are_read_as_they_are_told() {
        let place: Place = "/disks/a@b@127.0.0.1:12400".parse().expect("it is one");
        assert_eq!(place.directory, "/disks/a@b");
        assert!("/disks/a".parse::<Place>().is_err() && "/disks/a@nowhere".parse::<Place>().is_err());
        assert!("unix:/run/x".parse::<ListenAt>().is_ok() && "tcp:127.0.0.1:1".parse::<ListenAt>().is_ok());
        assert!("/run/x".parse::<ListenAt>().is_err());
    }
}
