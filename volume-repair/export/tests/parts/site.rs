//! Region sets on real disks, and exports of what is made of them.

use crate::program::{NBDCOPY, NBDINFO, QEMU_IO};
use camino::Utf8PathBuf;
use camino_tempfile::Utf8TempDir;
use downstairs::{CloneState, Disk, Server, Source};
use durable_fs::RealDisk;
use ids::{RegionId, RegionSetId, SnapshotId};
use region::{BlockSize, Geometry, Identity, List, ListVersion, NewRegion, Position};
use serde_json::{Value, json};
use std::{
    fs,
    sync::Arc,
    thread::{self, JoinHandle},
};
use uuid::Uuid;
use volume_export::{Address, Export, ExportError, Handle, NotAppliedHere, Offer, ScrubOrder, SnapshotOrder};
use volume_layers::VolumeStatus;
use volume_repair::{Applied, ChangeError, Cipher, ConstructionRequest, Encryption, Holder};
use volume_seals::VolumeKey;

pub(crate) const MIB: u64 = 1 << 20;
const BLOCK: u64 = 4_096;

/// A directory, the Downstairs of three disks in it, and any number of region sets on them.
pub(crate) struct Site {
    directory: Utf8TempDir,
    servers: Vec<Server>,
    /// Of new region sets, if they are encrypted.
    key: Option<VolumeKey>,
    next_set: u128,
    next_export: u32,
}

impl Site {
    pub(crate) fn new() -> Site {
        let directory = camino_tempfile::tempdir().unwrap();
        let start = |number: u32| {
            let path = directory.path().join(format!("disk{number}"));
            fs::create_dir(&path).unwrap();
            Server::start(Disk::new(Arc::new(RealDisk::new(&path))), "127.0.0.1:0".parse().unwrap()).unwrap()
        };
        let servers = (1..=3).map(start).collect();
        Site { directory, servers, key: None, next_set: 1, next_export: 1 }
    }

    /// One whose region sets are encrypted.
    pub(crate) fn encrypted() -> Site {
        let mut site = Site::new();
        site.key = Some(VolumeKey::from_bytes(&mut [7; 32]));
        site
    }

    /// The process of this disk ends; its regions are closed in order.
    pub(crate) fn stop(&mut self, disk: usize) {
        self.servers.remove(disk).stop();
    }

    /// A new region on this disk, made a clone of what these have at a snapshot, as a member of a request.
    pub(crate) fn clone_of(&self, disk: usize, set: &Value, snapshot: SnapshotId) -> Value {
        let set = &set["region_set"];
        let blocks = set["blocks_per_extent"].as_u64().unwrap();
        let geometry = Geometry { block_size: BlockSize::B4096, blocks, is_sealed: self.key.is_some() };
        let (region, server) = (RegionId::generate(), &self.servers[disk]);
        let identity = Identity { region, set: set["id"].as_str().unwrap().parse().unwrap(), geometry };
        let new = NewRegion { identity, incarnation: 3, list: List::default(), salt: 5 };
        server.disk().create_clone(&new, snapshot).unwrap();
        let source = |member: &Value| Source {
            region: serde_json::from_value(member["region_id"].clone()).unwrap(),
            incarnation: member["incarnation"].as_u64(),
            address: member["address"].as_str().unwrap().parse().unwrap(),
        };
        let sources: Vec<Source> = set["members"].as_array().unwrap().iter().map(source).collect();
        let steward = server.steward();
        let mut status = steward.order_clone(region, sources, None).unwrap();
        while status.state != CloneState::Proven {
            assert_ne!(status.state, CloneState::Failed, "{status:?}");
            thread::yield_now();
            status = steward.clone_status(region).unwrap();
        }
        json!({"region_id": region, "incarnation": 3, "address": server.address()})
    }

    pub(crate) fn path(&self, name: &str) -> Utf8PathBuf {
        self.directory.path().join(name)
    }

    /// A new region set, as a part of a request.
    pub(crate) fn region_set(&mut self, bytes: u64) -> Value {
        let number = self.next_set;
        self.next_set += 1;
        let set = RegionSetId(Uuid::from_u128(number << 8));
        let geometry =
            Geometry { block_size: BlockSize::B4096, blocks: bytes / BLOCK, is_sealed: self.key.is_some() };
        let named = |place: u128| region::Member {
            region: RegionId(Uuid::from_u128((number << 8) + place + 1)),
            incarnation: 7,
        };
        let full = (0..3).map(named).collect();
        let list = List { version: ListVersion { epoch: 0, number: 1 }, base: Position::NONE, full };
        let mut members = Vec::new();
        for (place, server) in (0..).zip(&self.servers) {
            let member = named(place);
            let identity = Identity { region: member.region, set, geometry };
            let salt = u64::try_from(number).unwrap();
            let new = NewRegion { identity, incarnation: member.incarnation, list: list.clone(), salt };
            server.disk().create(&new).unwrap();
            let address = server.address();
            members.push(json!({"region_id": member.region, "incarnation": 7, "address": address}));
        }
        let (blocks, one) = (geometry.blocks, 1);
        let mut part = json!({"region_set": {
            "id": set, "blocks_per_extent": blocks, "extent_count": one, "members": members
        }});
        if let Some(key) = &self.key {
            let encryption = Encryption { cipher: Cipher::Aes256Gcm, key_check: key.check(set) };
            part["region_set"]["encryption"] = json!(encryption);
        }
        part
    }

    /// A file of bytes that say where they are, as a part of a request.
    pub(crate) fn file(&self, name: &str, bytes: u64) -> Value {
        fs::write(self.path(name), pattern(bytes)).unwrap();
        json!({"file": {"path": self.path(name)}})
    }

    /// Serves it.
    pub(crate) fn export(&mut self, request: &Value) -> Served {
        self.try_export(request).unwrap()
    }

    pub(crate) fn try_export(&mut self, request: &Value) -> Result<Served, ExportError> {
        let request: ConstructionRequest = serde_json::from_value(request.clone()).unwrap();
        let composition = request.build(Uuid::new_v4(), self.key.as_ref()).unwrap();
        let socket = self.path(&format!("export{}", self.next_export));
        self.next_export += 1;
        let offer = Offer { composition, request: Some(request), name: String::new(), source_address: None };
        let export = Export::new(offer, Address::Unix(socket.clone()))?;
        let handle = export.handle();
        handle.activate();
        let runs = Some(thread::spawn(|| export.run()));
        Ok(Served { socket, handle, runs })
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.servers.drain(..).for_each(Server::stop);
    }
}

/// Bytes of which each eight say where they are; none of them are zeros.
pub(crate) fn pattern(bytes: u64) -> Vec<u8> {
    (0..bytes / 8).flat_map(|at| (at + (0x5a << 56)).to_le_bytes()).collect()
}

/// A request for a volume of blocks of 4 KiB, with nothing under it.
pub(crate) fn request(epoch: u32, parts: &[&Value]) -> Value {
    json!({
        "id": Uuid::from_u128(9), "config_version": 1, "epoch": epoch, "block_size": BLOCK,
        "sub_volumes": parts, "read_only_parent": null
    })
}

/// The same, with that under it.
pub(crate) fn over(mut request: Value, parent: Value) -> Value {
    request["read_only_parent"] = parent;
    request
}

/// A volume that is served, until it is dropped.
pub(crate) struct Served {
    socket: Utf8PathBuf,
    handle: Handle,
    runs: Option<JoinHandle<Result<(), ExportError>>>,
}

impl Served {
    fn uri(&self) -> String {
        format!("nbd+unix:///?socket={}", self.socket)
    }

    /// Runs commands of `qemu-io`, all of which are to work; what it has said.
    #[track_caller]
    pub(crate) fn io(&self, commands: &[&str]) -> String {
        let said = self.qemu_io(&[], commands).success();
        assert!(!said.contains("verification failed"), "{said}");
        said
    }

    /// The same, where one is not to work.
    #[track_caller]
    pub(crate) fn io_fails(&self, commands: &[&str]) -> String {
        self.qemu_io(&[], commands).failure()
    }

    /// The same, opened for reading only.
    #[track_caller]
    pub(crate) fn read_only_io(&self, commands: &[&str]) -> String {
        self.qemu_io(&["-r"], commands).success()
    }

    #[track_caller]
    pub(crate) fn read_only_io_fails(&self, commands: &[&str]) -> String {
        self.qemu_io(&["-r"], commands).failure()
    }

    fn qemu_io(&self, options: &[&str], commands: &[&str]) -> crate::program::Finished {
        let uri = self.uri();
        let commands = commands.iter().flat_map(|command| ["-c", command]);
        let all = ["-f", "raw", "-t", "writeback"].into_iter().chain(options.iter().copied());
        QEMU_IO.run(all.chain(commands).chain([uri.as_str()]))
    }

    /// All of it, copied by a client that leaves out what it is told is zeros.
    #[track_caller]
    pub(crate) fn content(&self) -> Vec<u8> {
        let copy = self.socket.with_extension("copy");
        NBDCOPY.run([self.uri().as_str(), copy.as_str()]).success();
        let content = fs::read(&copy).unwrap();
        fs::remove_file(&copy).unwrap();
        content
    }

    /// What is said of blocks without reading them: offset, length and kind, line by line.
    #[track_caller]
    pub(crate) fn map(&self) -> Vec<String> {
        let map = NBDINFO.run(["--map", &self.uri()]).success();
        map.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
    }

    #[track_caller]
    pub(crate) fn info(&self) -> String {
        NBDINFO.run([self.uri()]).success()
    }

    /// Keeps what was written until now.
    #[track_caller]
    pub(crate) fn take_snapshot(&self, number: u128) -> SnapshotId {
        let snapshot = SnapshotId(Uuid::from_u128(number));
        let regions = self.handle.snapshot(SnapshotOrder::Take(snapshot)).unwrap().unwrap();
        assert_eq!(regions.len() % 3, 0, "all members have it: {regions:?}");
        snapshot
    }

    #[track_caller]
    pub(crate) fn delete_snapshot(&self, snapshot: SnapshotId) {
        self.handle.snapshot(SnapshotOrder::Delete(snapshot)).unwrap().unwrap();
    }

    pub(crate) fn scrub(&self, order: ScrubOrder) {
        self.handle.scrub(order).unwrap().unwrap();
    }

    /// Applies a newer request, or the same one once more.
    #[track_caller]
    pub(crate) fn apply(&self, request: &Value) -> Result<Applied, ChangeError> {
        self.handle.apply(&serde_json::from_value(request.clone()).unwrap()).map_err(|error| match error {
            NotAppliedHere::Change(error) => error,
            silent @ NotAppliedHere::NoAnswer(_) => panic!("{silent}"),
        })
    }

    pub(crate) fn status(&self) -> VolumeStatus {
        self.handle.status().unwrap().volume
    }

    /// As JSON, as programs see it.
    pub(crate) fn json(&self) -> Value {
        serde_json::to_value(self.handle.status().unwrap()).unwrap()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.handle.stop();
        if let Some(runs) = self.runs.take() {
            let _ = runs.join();
        }
    }
}
