//! Ours: a volume one of whose members is killed, and then replaced by a new region or started again. Owns its processes, and the
//! proof that what came of it is a copy.
//!
//! ```text
//!   three members ──kill -9──► two ──not heard of for 4 s──► replace --gone, an empty member ──► three         (`replace`)
//!   three members ──kill -9──► two ──1 % is written, kill -9 of the export──► both start again ──► three       (`reconcile`)
//! ```
//!
//! It is always the newest member that is killed, so the others are those that clients' writes have made.

use super::{
    Took,
    load::{Window, now_ms},
    mirror::compare,
    state::{State, ask},
    writer::read_all,
    written::{Content, Order},
};
use crate::bench::volume::{
    REGION_BYTES,
    fio::{self, Direction},
    ours::{DISK, EXPORT, Keys, Place, Volume, begin_downstairs, downstairs, free_addresses, said, succeed},
    server::{Door, Server},
};
use anyhow::{Context, Result, bail, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use serde_json::{Value, json};
use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};
use testbed::wait_for;

/// How long a member may take to be full, and a killed one to be missed.
const LIMIT: Duration = Duration::from_secs(120);

/// Copies of each block.
const MEMBERS: usize = 3;

/// Blocks that a returning member lacks: 1 % of them.
const LACKING: u64 = REGION_BYTES / 4096 / 100 + 1;

/// A volume, its members and its export.
pub(super) struct Replaced {
    agent: Utf8PathBuf,
    dir: Utf8PathBuf,
    volume: Volume,
    pub(super) socket: Utf8PathBuf,
    /// The last one is the one that is killed.
    members: Vec<Member>,
    spare: Option<(Place, Server)>,
    /// None while it was killed.
    export: Option<Server>,
    epoch: u32,
    made: usize,
}

struct Member {
    place: Place,
    /// Its region's id.
    region: String,
    /// None if it was killed.
    server: Option<Server>,
}

/// A snapshot that was taken.
pub(super) struct Snapshot {
    pub(super) name: String,
    /// The file that describes a volume that reads it.
    description: Utf8PathBuf,
}

/// A member that came back.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Returned {
    /// From the start of the export and of the member's process until all three were full.
    pub(super) seconds: f64,
    /// How the member counted when the export was killed.
    pub(super) role: String,
}

impl Replaced {
    /// A volume of three members, and its export. `programs` has `sled-agent`.
    pub(super) async fn start(dir: &Utf8Path, programs: &Utf8Path) -> Result<Replaced> {
        let agent = programs.join("sled-agent");
        let mut places = Vec::new();
        for (number, address) in (1..).zip(free_addresses(MEMBERS)?) {
            places.push(place(dir, number, address)?);
        }
        let volume = Volume::create(&agent, dir, "volume", REGION_BYTES, &places, Keys::None).await?;
        let mut members = Vec::new();
        for (number, place) in (1..).zip(places) {
            let server = downstairs(&agent, dir, &format!("{DISK}{number}"), &place).await?;
            members.push(Member { region: region_in(&place.directory)?, place, server: Some(server) });
        }
        let socket = dir.join("volume.sock");
        let export = volume.export(&agent, dir, EXPORT, &socket, 1).await?;
        let (dir, export) = (dir.to_owned(), Some(export));
        let replaced =
            Replaced { agent, dir, volume, socket, members, spare: None, export, epoch: 1, made: MEMBERS };
        replaced.wait_whole().await?;
        Ok(replaced)
    }

    fn control(&self) -> Utf8PathBuf {
        self.volume.file().with_extension("control")
    }

    /// Until it is said to be so; then the state that says it. The time of the looks is 20 ms.
    async fn wait_until(&self, what: &str, is_so: impl Fn(&State) -> bool) -> Result<State> {
        let control = self.control();
        wait_for(what, LIMIT, async || match ask(&control).await {
            Ok(state) if is_so(&state) => Ok(state),
            Ok(state) => Err(state.words()),
            Err(error) => Err(format!("{error:#}")),
        })
        .await
    }

    /// All members are there, full, and nobody lags: in the words of the program that people ask.
    pub(super) async fn wait_whole(&self) -> Result<()> {
        let seconds = format!("--seconds={}", LIMIT.as_secs());
        let args = ["volume", "wait", self.volume.file().as_str(), "--for=whole", &seconds];
        succeed(&self.agent, &args.map(str::to_owned)).await
    }

    /// Kills a member, when an empty one is there, and lets it be missed for as long as it takes until it may be called gone.
    pub(super) async fn lose(&mut self) -> Result<()> {
        self.made += 1;
        let address = free_addresses(1)?[0];
        let spare = place(&self.dir, self.made, address)?;
        let name = format!("{DISK}{}", self.made);
        let server = downstairs(&self.agent, &self.dir, &name, &spare).await?;
        self.spare = Some((spare, server));
        let region = self.kill_last().await?;
        self.wait_until("the killed member to be missed", |state| state.may_be_gone(&region)).await.map(drop)
    }

    async fn kill_last(&mut self) -> Result<String> {
        let last = self.members.last_mut().context("there are members")?;
        last.server.take().context("the member was killed already")?.kill().await?;
        Ok(last.region.clone())
    }

    /// The empty one takes the place of the one that was lost.
    pub(super) async fn replace(&mut self) -> Result<Took> {
        let (place, server) = self.spare.take().context("there is an empty member")?;
        let old = self.members.pop().context("there are members")?;
        let args = [
            "volume".to_owned(),
            "replace".to_owned(),
            self.volume.file().to_string(),
            format!("--region={}", old.region),
            format!("--member={}@{}", place.directory, place.address),
            "--gone".to_owned(),
        ];
        let (from_ms, began) = (now_ms()?, Instant::now());
        succeed(&self.agent, &args).await?;
        let region = region_in(&place.directory)?;
        self.wait_until("the new member to be full", |state| state.is_full_with(&region)).await?;
        let took =
            Took { seconds: began.elapsed().as_secs_f64(), is_whole: true, window: Window::since(from_ms)? };
        self.members.push(Member { place, region, server: Some(server) });
        let directory = &old.place.directory;
        std::fs::remove_dir_all(directory).with_context(|| format!("removing {directory}"))?;
        Ok(took)
    }

    /// A member that is away while 1 % of the blocks is written comes back together with the export.
    pub(super) async fn reconcile(&mut self) -> Result<Returned> {
        let region = self.kill_last().await?;
        let args = [
            "--name=missed".to_owned(),
            "--rw=randwrite".to_owned(),
            "--bs=4k".to_owned(),
            "--iodepth=16".to_owned(),
            format!("--size={REGION_BYTES}"),
            format!("--io_size={}", LACKING * 4096),
        ];
        let written = fio::run(&self.dir, &self.socket, &args, Direction::Write).await?;
        ensure!(
            written.operations == LACKING as f64,
            "fio wrote {} blocks, not {LACKING}",
            written.operations
        );
        let lacks = |state: &State| state.role_of_one_that_lacks(&region, LACKING).is_some();
        let state = self.wait_until("the killed member to lack what was written", lacks).await?;
        let role = state.role_of_one_that_lacks(&region, LACKING).context("it lacks them")?.to_owned();
        self.export.take().context("the export runs")?.kill().await?;
        self.epoch += 1;
        let last = self.members.last_mut().context("there are members")?;
        let began = Instant::now();
        last.server = Some(begin_downstairs(&self.agent, &self.dir, "returned", &last.place)?);
        let (agent, dir, socket) = (&self.agent, &self.dir, &self.socket);
        self.export = Some(self.volume.begin_export(agent, dir, EXPORT, socket, self.epoch, &[])?);
        self.wait_until("the member to be full again", |state| state.is_full_with(&region)).await?;
        let seconds = began.elapsed().as_secs_f64();
        self.wait_whole().await?;
        Ok(Returned { seconds, role })
    }

    /// The number is that of its description's file, which there is not yet.
    pub(super) async fn take_snapshot(&self, number: usize) -> Result<Snapshot> {
        let description = self.dir.join(format!("snapshot{number}.json"));
        let output = format!("--output={description}");
        let args = ["volume", "snapshot", self.volume.file().as_str(), &output].map(str::to_owned);
        let said = said(&self.agent, &args).await?;
        let name = said.lines().find_map(|line| line.strip_prefix("snapshot "));
        let name = name.with_context(|| format!("the name of a snapshot is not in {said:?}"))?.to_owned();
        Ok(Snapshot { name, description })
    }

    /// All that it has, through a read-only export of its own.
    pub(super) async fn read_snapshot(&self, snapshot: &Snapshot, order: Order) -> Result<Content> {
        let socket = self.dir.join("snapshot.sock");
        let args = [
            "volume".to_owned(),
            "export".to_owned(),
            format!("--volume={}", snapshot.description),
            format!("--listen=unix:{socket}"),
        ];
        let mut server = Server::start(&self.dir, "snapshot", &self.agent, &args)?;
        server.wait_ready(Door::Unix(&socket)).await?;
        let read = read_all(&socket, order).await;
        server.stop().await?;
        read.with_context(|| format!("reading snapshot {}", snapshot.name))
    }

    pub(super) async fn delete_snapshot(&self, snapshot: &Snapshot) -> Result<()> {
        let (id, description) = (format!("--id={}", snapshot.name), &snapshot.description);
        let args = ["volume", "delete-snapshot", self.volume.file().as_str(), &id].map(str::to_owned);
        succeed(&self.agent, &args).await?;
        std::fs::remove_file(description).with_context(|| format!("removing {description}"))
    }

    /// Ends all of it, and sees whether the newest member has what one has that clients have written: each is opened alone, by an
    /// export that nobody else answers, and all that the two exports read is compared.
    pub(super) async fn stop_and_compare(mut self) -> Result<()> {
        self.wait_whole().await?;
        self.export.take().context("the export runs")?.stop().await?;
        let [first, .., last] = self.members.as_slice() else { bail!("there are members") };
        let (one, first) = self.open_alone("first", &first.region).await?;
        let (other, last) = self.open_alone("last", &last.region).await?;
        compare(&fio::uri(&one), &fio::uri(&other)).await.context("the newest member is no copy")?;
        for server in [first, last].into_iter().chain(self.members.into_iter().filter_map(|one| one.server)) {
            server.stop().await?;
        }
        Ok(())
    }

    /// Where one member's content is read, and the export that does it.
    async fn open_alone(&self, name: &str, region: &str) -> Result<(Utf8PathBuf, Server)> {
        let file = self.volume.file();
        let read = std::fs::read_to_string(file).with_context(|| format!("reading {file}"))?;
        let mut request: Value = serde_json::from_str(&read).with_context(|| format!("reading {file}"))?;
        let nobody = free_addresses(1)?[0].to_string();
        move_others(&mut request, region, &nobody).with_context(|| format!("{file} has no {region}"))?;
        let alone = self.dir.join(format!("{name}.json"));
        std::fs::write(&alone, request.to_string()).with_context(|| format!("writing {alone}"))?;
        let (volume, socket) = (Volume::described_by(alone), self.dir.join(format!("{name}.sock")));
        let (more, epoch) = (["--accept-possible-loss"], self.epoch + 1);
        let server = volume.begin_export(&self.agent, &self.dir, name, &socket, epoch, &more)?;
        let args = ["volume", "wait", volume.file().as_str(), "--for=active"].map(str::to_owned);
        succeed(&self.agent, &args).await?;
        Ok((socket, server))
    }
}

/// An empty directory, and where its region will be served.
fn place(dir: &Utf8Path, number: usize, address: SocketAddr) -> Result<Place> {
    let directory = dir.join(format!("{DISK}{number}"));
    std::fs::create_dir(&directory).with_context(|| format!("creating {directory}"))?;
    Ok(Place { directory, address })
}

/// The only region of a directory.
fn region_in(directory: &Utf8Path) -> Result<String> {
    for entry in directory.read_dir_utf8().with_context(|| format!("listing {directory}"))? {
        let path = entry.with_context(|| format!("listing {directory}"))?.into_path();
        if let (Some("region"), Some(region)) = (path.extension(), path.file_stem()) {
            return Ok(region.to_owned());
        }
    }
    bail!("there is no region in {directory}")
}

/// Lets a volume's other members be where nobody listens. None if this one is no member.
fn move_others(request: &mut Value, region: &str, nobody: &str) -> Option<()> {
    let members = request.pointer_mut("/sub_volumes/0/region_set/members")?.as_array_mut()?;
    let (these, others): (Vec<_>, Vec<_>) = members.iter_mut().partition(|one| one["region_id"] == region);
    for member in others {
        member["address"] = json!(nobody);
    }
    (these.len() == 1).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_alone_when_nobody_is_where_the_others_are() {
        let member =
            |region: &str, address: &str| json!({"region_id": region, "incarnation": 1, "address": address});
        let request = |addresses: [&str; 3]| {
            let members = [member("a", addresses[0]), member("b", addresses[1]), member("c", addresses[2])];
            json!({"id": "v", "sub_volumes": [{"region_set": {"id": "s", "members": members}}]})
        };
        let mut alone = request(["1:1", "2:2", "3:3"]);
        assert_eq!(move_others(&mut alone, "b", "0:0"), Some(()));
        assert_eq!(alone, request(["0:0", "2:2", "0:0"]));
        assert_eq!(move_others(&mut alone, "d", "0:0"), None);
    }

    #[test]
    fn a_hundredth_of_all_blocks_is_missed() {
        assert_eq!(LACKING, 5_243);
    }
}
