//! Three members on disks of their own and an export over them, all in this process.

use crate::client::Client;
use camino::Utf8PathBuf;
use camino_tempfile::{Utf8TempDir, tempdir};
use downstairs::{Disk, Server};
use durable_fs::RealDisk;
use ids::{RegionId, RegionSetId};
use region::{BlockSize, Geometry, Identity, List, ListVersion, Member, NewRegion, Position, Promotion};
use std::{
    fs,
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};
use upstairs::{Config, Limits, Patience, Status};
use uuid::Uuid;
use volume_export::{Address, Control, Export, ExportError, ExportStatus, Handle, Offer};
use volume_layers::{Composition, VolumeStatus};

/// Bytes of a block.
pub(crate) const BLOCK: usize = 4_096;

/// Blocks of the volume: 40 MiB, so that the largest payload finds room before its end.
pub(crate) const BLOCKS: u64 = 10_240;

/// What comes about takes milliseconds.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// A volume that is served.
pub(crate) struct Site {
    dir: Utf8TempDir,
    members: Vec<Server>,
    pub(crate) handle: Handle,
    control: Option<Control>,
    runs: Option<JoinHandle<Result<(), ExportError>>>,
}

impl Site {
    /// Served at once.
    pub(crate) fn start() -> Site {
        let site = Site::start_unactivated();
        site.handle.activate();
        site
    }

    /// Clients may come, and wait.
    pub(crate) fn start_unactivated() -> Site {
        let dir = tempdir().unwrap();
        let set = RegionSetId(Uuid::from_u128(9));
        let geometry = Geometry { block_size: BlockSize::B4096, blocks: BLOCKS, is_sealed: false };
        let full: Vec<Member> = (1..=3)
            .map(|number| Member { region: RegionId(Uuid::from_u128(number)), incarnation: 1 })
            .collect();
        let list =
            List { version: ListVersion { epoch: 0, number: 1 }, base: Position::NONE, full: full.clone() };
        let members: Vec<Server> = full
            .iter()
            .map(|member| {
                let directory = dir.path().join(member.region.to_string());
                fs::create_dir(&directory).unwrap();
                let disk = Disk::new(Arc::new(RealDisk::new(&directory)));
                let identity = Identity { region: member.region, set, geometry };
                disk.create(&NewRegion { identity, incarnation: 1, list: list.clone(), salt: 5 }).unwrap();
                Server::start(disk, "127.0.0.1:0".parse().unwrap()).unwrap()
            })
            .collect();
        let config = Config {
            set,
            geometry,
            members: upstairs::Members::only(full),
            promotion: Promotion { epoch: 1, session: Uuid::from_u128(7) },
            accepts_possible_loss: false,
            limits: Limits::default(),
            patience: Patience::default(),
            sealer: None,
        };
        let addresses = members.iter().map(Server::address).collect();
        let composition = Composition::of_region_set(config, addresses);
        let offer = Offer { composition, request: None, name: String::new(), source_address: None };
        let export = Export::new(offer, Address::Unix(dir.path().join("nbd"))).unwrap();
        let handle = export.handle();
        let control = Some(Control::start(&dir.path().join("control"), handle.clone()).unwrap());
        let runs = Some(thread::spawn(|| export.run()));
        Site { dir, members, handle, control, runs }
    }

    /// A client that has shaken hands.
    pub(crate) fn client(&self) -> Client {
        Client::connect(&self.socket())
    }

    /// Where clients come.
    pub(crate) fn socket(&self) -> Utf8PathBuf {
        self.dir.path().join("nbd")
    }

    /// A place of its own for another door.
    pub(crate) fn place(&self, name: &str) -> Utf8PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn control_socket(&self) -> Utf8PathBuf {
        self.dir.path().join("control")
    }

    pub(crate) fn status(&self) -> Box<ExportStatus> {
        self.handle.status().unwrap()
    }

    /// Waits until its status is like this.
    pub(crate) fn wait(&self, mut is_so: impl FnMut(&ExportStatus) -> bool) {
        let began = Instant::now();
        loop {
            let status = self.status();
            if is_so(&status) {
                return;
            }
            assert!(began.elapsed() < LIMIT, "{status:?}");
            thread::yield_now();
        }
    }

    /// Waits for the end of an export that was told to stop.
    pub(crate) fn end(&mut self) -> Result<(), ExportError> {
        self.runs.take().unwrap().join().unwrap()
    }
}

/// Of the one region set that there is.
pub(crate) fn of_set(status: &ExportStatus) -> &Status {
    match &status.volume {
        VolumeStatus::Upstairs(status) => status,
        VolumeStatus::Layers(layers) => panic!("it has one region set: {layers:?}"),
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.handle.stop();
        if let Some(runs) = self.runs.take() {
            let _ = runs.join();
        }
        drop(self.control.take());
        self.members.drain(..).for_each(Server::stop);
    }
}
