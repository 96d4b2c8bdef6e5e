//! The processes that it is done to: three Downstairs and an export, as a person starts them by hand. Owns their files, addresses and
//! epochs; what is done to them when is the run's.

use crate::{
    block::BLOCK,
    faults::{MEMBERS, SPARE},
    load::PATIENCE,
    order::{VolumeOrder, VolumeSite},
    repair::{self, Filling},
};
use anyhow::{Context, Result, bail, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use rustix::{
    fs::{FlockOperation, flock},
    process::Signal,
};
use std::{
    fs::{self, File},
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};
use testbed::{
    ClaimOrder, Claims, ClusterDirectory, OwnedProcess, addresses::ClusterNumber, owned_command, wait_for,
};
use tokio::net::TcpStream;
use volume_seals::VolumeKey;

/// Where Downstairs listen, on an address of the run's own.
const PORT: u16 = 12_400;

/// How long a Downstairs may take until it listens.
const READY_LIMIT: Duration = Duration::from_secs(30);

/// How long a process may take to end by itself before it is killed: what is under way is answered first.
const END_LIMIT: Duration = Duration::from_secs(30);

/// How long it may take until somebody who is gone is believed to be.
const REPLACE_LIMIT: Duration = Duration::from_secs(30);

/// What the export is called, in logs and findings.
const EXPORT: &str = "export";

/// A volume whose processes run.
#[derive(Debug)]
pub(crate) struct Site {
    agent: Utf8PathBuf,
    /// Of each disk.
    addresses: Vec<SocketAddr>,
    /// The disk of each member, and the spare one.
    disks: [usize; MEMBERS + 1],
    export: Option<OwnedProcess>,
    members: Vec<Option<OwnedProcess>>,
    epoch: u32,
    /// Of an encrypted volume.
    key: Option<Arc<VolumeKey>>,
    /// Behind the processes: they end before their files are removed.
    place: Place,
}

impl Site {
    /// Makes a volume, and starts all of it.
    pub(crate) async fn start(site: &VolumeSite, order: &VolumeOrder) -> Result<Site> {
        let bin_dir = match &site.bin_dir {
            Some(bin_dir) => bin_dir.clone(),
            None => testbed::binaries::beside_this_test()?,
        };
        let place = Place::take(&site.parent, site.keeps_files)?;
        let addresses = place.addresses()?;
        let mut site = Site {
            agent: bin_dir.join("sled-agent"),
            addresses,
            disks: std::array::from_fn(|disk| disk),
            export: None,
            members: (0..=SPARE).map(|_| None).collect(),
            epoch: 0,
            key: None,
            place,
        };
        if order.is_encrypted {
            site.make_key().await?;
        }
        let mut args = vec![
            "volume".to_owned(),
            "create".to_owned(),
            format!("--size={}", order.blocks() * BLOCK as u64),
            format!("--output={}", site.volume_file()),
        ];
        for member in 0..MEMBERS {
            args.push(format!("--member={}@{}", site.disk(member), site.address(member)));
        }
        args.extend(site.key_argument());
        site.run_agent(&args).await?;
        for member in 0..MEMBERS {
            site.start_member(member).await?;
        }
        site.start_export()?;
        Ok(site)
    }

    /// As a person makes one: what is in the file is all that anybody has.
    async fn make_key(&mut self) -> Result<()> {
        let file = self.key_file();
        self.run_agent(&["volume".to_owned(), "key".to_owned(), file.to_string()]).await?;
        let text = fs::read_to_string(&file).with_context(|| format!("reading {file}"))?;
        self.key = Some(Arc::new(text.parse().with_context(|| format!("reading the key in {file}"))?));
        Ok(())
    }

    fn key_file(&self) -> Utf8PathBuf {
        self.dir().join("volume.key")
    }

    fn key_argument(&self) -> Option<String> {
        self.key.as_ref().map(|_| format!("--key-file={}", self.key_file()))
    }

    /// The key of an encrypted volume.
    pub(crate) fn key(&self) -> Option<Arc<VolumeKey>> {
        self.key.clone()
    }

    /// Where clients come.
    pub(crate) fn socket(&self) -> Utf8PathBuf {
        self.dir().join("volume.sock")
    }

    /// Everything of the run is below it.
    pub(crate) fn dir(&self) -> &Utf8Path {
        &self.place.dir
    }

    /// Nothing is removed at the end, if that was asked for.
    pub(crate) fn keep_files(&mut self) -> Option<&Utf8Path> {
        self.place.is_kept = self.place.may_be_kept;
        self.place.is_kept.then_some(&*self.place.dir)
    }

    /// A member's name, as it is told: that of its disk.
    pub(crate) fn name(&self, member: usize) -> String {
        format!("disk{}", self.disks[member] + 1)
    }

    fn disk(&self, member: usize) -> Utf8PathBuf {
        self.dir().join(self.name(member))
    }

    fn address(&self, member: usize) -> SocketAddr {
        self.addresses[self.disks[member]]
    }

    fn volume_file(&self) -> Utf8PathBuf {
        self.dir().join("volume.json")
    }

    /// The file of a member's region.
    pub(crate) fn region_file(&self, member: usize) -> Result<Utf8PathBuf> {
        let disk = self.disk(member);
        let entries = disk.read_dir_utf8().with_context(|| format!("listing {disk}"))?;
        for entry in entries {
            let path = entry.with_context(|| format!("listing {disk}"))?.into_path();
            if path.extension() == Some("region") {
                return Ok(path);
            }
        }
        bail!("there is no region in {disk}")
    }

    /// Starts a Downstairs, and waits until it listens.
    pub(crate) async fn start_member(&mut self, member: usize) -> Result<()> {
        ensure!(self.members[member].is_none(), "{} runs already", self.name(member));
        let (address, name) = (self.address(member), self.name(member));
        let args = [
            "downstairs".to_owned(),
            format!("--directory={}", self.disk(member)),
            format!("--listen={address}"),
        ];
        let process = OwnedProcess::start(self.dir(), &name, &self.agent, &args)?;
        let started = self.members[member].insert(process);
        wait_for(&format!("{name} to listen on {address}"), READY_LIMIT, async || match started.ended() {
            Ok(Some(status)) => Ok(Err(status)),
            _ => TcpStream::connect(address).await.map(|_| Ok(())),
        })
        .await?
        .map_err(|status| anyhow::anyhow!("it ended at its start, {status}: {}", started.last_words()))
    }

    pub(crate) async fn kill_member(&mut self, member: usize) -> Result<()> {
        let name = self.name(member);
        let process = self.members[member].take();
        process.with_context(|| format!("{name} does not run"))?.kill().await
    }

    /// On return it has stopped, and its file stays as it is.
    pub(crate) async fn pause_member(&mut self, member: usize) -> Result<()> {
        let name = self.name(member);
        let process = self.members[member].as_mut();
        process.with_context(|| format!("{name} does not run"))?.pause().await
    }

    /// SIGSTOP or SIGCONT.
    pub(crate) fn signal_member(&mut self, member: usize, signal: Signal) -> Result<()> {
        let name = self.name(member);
        let process = self.members[member].as_mut();
        process.with_context(|| format!("{name} does not run"))?.signal(signal)
    }

    /// A new region on the spare disk takes the place of this member. From now on the member is the new one, and what it was is the
    /// spare one. One that is gone has to be gone for some seconds before anybody believes it.
    pub(crate) async fn replace(&mut self, member: usize, is_gone: bool) -> Result<()> {
        self.start_member(SPARE).await?;
        let region = self.region_of(member)?;
        let mut args = vec![
            "volume".to_owned(),
            "replace".to_owned(),
            self.volume_file().into_string(),
            format!("--region={region}"),
            format!("--member={}@{}", self.disk(SPARE), self.address(SPARE)),
        ];
        args.extend(is_gone.then(|| "--gone".to_owned()));
        wait_for(&format!("{} to be replaced", self.name(member)), REPLACE_LIMIT, async || {
            match self.run_agent(&args).await {
                Ok(_) => Ok(Ok(())),
                Err(error) if format!("{error:#}").contains("[volume_member_is_here]") => {
                    Err(error.to_string())
                }
                Err(error) => Ok(Err(error)),
            }
        })
        .await??;
        self.disks.swap(member, SPARE);
        self.members.swap(member, SPARE);
        Ok(())
    }

    /// The filling of this member that the export has told of last.
    pub(crate) async fn filling(&self, member: usize) -> Result<Option<Filling>> {
        let region = self.region_of(member)?;
        repair::filling_of(&region, &self.volume_file().with_extension("control")).await
    }

    /// Which member, or whether it is the spare one, has this region.
    pub(crate) fn member_with(&self, region: &str) -> Result<usize> {
        for member in 0..=SPARE {
            if self.disk(member).exists() && self.region_of(member)? == region {
                return Ok(member);
            }
        }
        bail!("nobody has region {region}")
    }

    fn region_of(&self, member: usize) -> Result<String> {
        let file = self.region_file(member)?;
        Ok(file.file_stem().context("a region has a name")?.to_owned())
    }

    /// Waits until all members are there, full, and have everything.
    pub(crate) async fn wait_whole(&self) -> Result<()> {
        let seconds = PATIENCE.as_secs();
        let args =
            ["volume", "wait", self.volume_file().as_str(), "--for=whole", &format!("--seconds={seconds}")]
                .map(str::to_owned);
        self.run_agent(&args).await.map(drop)
    }

    /// The one that was replaced ends, and its disk is empty.
    pub(crate) async fn clear_spare(&mut self) -> Result<()> {
        if self.members[SPARE].is_some() {
            self.kill_member(SPARE).await?;
        }
        remove(&self.disk(SPARE))
    }

    /// Whether the one that was replaced runs.
    pub(crate) fn spare_runs(&self) -> bool {
        self.members[SPARE].is_some()
    }

    /// With the next epoch. Clients may come before it serves; whoever has shaken hands later than the time that is returned talks to
    /// this one.
    pub(crate) fn start_export(&mut self) -> Result<Instant> {
        let started = Instant::now();
        ensure!(self.export.is_none(), "the export runs already");
        self.epoch += 1;
        let mut args = vec![
            "volume".to_owned(),
            "export".to_owned(),
            format!("--volume={}", self.volume_file()),
            format!("--epoch={}", self.epoch),
            format!("--listen=unix:{}", self.socket()),
        ];
        args.extend(self.key_argument());
        self.export = Some(OwnedProcess::start(self.dir(), EXPORT, &self.agent, &args)?);
        Ok(started)
    }

    pub(crate) async fn kill_export(&mut self) -> Result<()> {
        self.export.take().context("the export does not run")?.kill().await
    }

    /// SIGKILL to all of them, before any of them is waited for.
    pub(crate) async fn kill_everything(&mut self) -> Result<()> {
        let members = self.members.iter_mut().filter_map(Option::take);
        let mut all: Vec<OwnedProcess> = self.export.take().into_iter().chain(members).collect();
        for process in &mut all {
            process.signal(Signal::KILL)?;
        }
        for process in all {
            process.kill().await?;
        }
        Ok(())
    }

    /// Ends all of it in order, the export first. What did not end as it should is told.
    pub(crate) async fn stop(&mut self) -> Result<Vec<String>> {
        let mut wrong = Vec::new();
        let names = std::iter::once(EXPORT.to_owned()).chain((0..=SPARE).map(|member| self.name(member)));
        let names: Vec<String> = names.collect();
        let all =
            std::iter::once(self.export.take()).chain(self.members.iter_mut().map(Option::take)).zip(names);
        for (process, name) in all.collect::<Vec<_>>() {
            let Some(process) = process else { continue };
            match process.stop(END_LIMIT).await? {
                Some(status) if status.success() => {}
                Some(status) => wrong.push(format!("{name} ended with {status} when it was asked to end")),
                None => wrong.push(format!("{name} did not end when it was asked to, and was killed")),
            }
        }
        Ok(wrong)
    }

    /// Processes that have ended although nobody has ended them, with what they said.
    pub(crate) fn ended_by_themselves(&mut self) -> Result<Vec<String>> {
        let mut ended = Vec::new();
        for process in self.export.iter_mut().chain(self.members.iter_mut().flatten()) {
            if let Some(status) = process.ended()? {
                ended.push(format!("{status}; {}", process.last_words()));
            }
        }
        Ok(ended)
    }

    /// What all processes said at last.
    pub(crate) fn last_words(&self) -> String {
        self.export.iter().chain(self.members.iter().flatten()).map(OwnedProcess::last_words).collect()
    }

    /// Blocks that were healed since the export began, and those of them whose seals were wrong, as it tells itself.
    pub(crate) async fn healed(&self) -> Result<Healed> {
        let args = ["volume".to_owned(), "look".to_owned(), self.volume_file().into_string()];
        let said = self.run_agent(&[&args[..], &["--json".to_owned()]].concat()).await?;
        let look: serde_json::Value =
            serde_json::from_str(&said).context("what `volume look --json` says is not JSON")?;
        Ok(Healed { blocks: sum_of(&look, "healed_blocks"), wrong_seals: sum_of(&look, "wrong_seals") })
    }

    async fn run_agent(&self, args: &[String]) -> Result<String> {
        let output = owned_command(&self.agent).args(args).output().await;
        let output = output.with_context(|| format!("running {}", self.agent))?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "sled-agent {}: {}", args.join(" "), said.trim());
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// What an export tells of wrong blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Healed {
    /// Blocks that are right again.
    pub(crate) blocks: u64,
    /// Times that a block had its checksum, and a wrong seal.
    pub(crate) wrong_seals: u64,
}

/// Of all numbers that are called like this, however deep.
fn sum_of(value: &serde_json::Value, name: &str) -> u64 {
    let children: u64 = match value {
        serde_json::Value::Array(all) => all.iter().map(|one| sum_of(one, name)).sum(),
        serde_json::Value::Object(fields) => fields.values().map(|one| sum_of(one, name)).sum(),
        _ => 0,
    };
    children + value.get(name).and_then(serde_json::Value::as_u64).unwrap_or(0)
}

/// The run's directory, and its addresses. Both are given back when it is dropped.
#[derive(Debug)]
struct Place {
    dir: Utf8PathBuf,
    claims: Claims,
    cluster: ClusterDirectory,
    number: Option<ClusterNumber>,
    may_be_kept: bool,
    is_kept: bool,
    /// Held as long as the directory is in use.
    _lock: File,
}

impl Place {
    fn take(parent: &Utf8Path, may_be_kept: bool) -> Result<Place> {
        fs::create_dir_all(parent).with_context(|| format!("creating {parent}"))?;
        let cluster = ClusterDirectory::new(parent, "volume")?;
        let dir = cluster.root().to_owned();
        let lock_file = cluster.lock_file();
        let lock = File::create(&lock_file).with_context(|| format!("creating {lock_file}"))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .with_context(|| format!("another soak of volumes runs in {parent}"))?;
        // A run that was killed has left it.
        remove(&dir)?;
        fs::create_dir(&dir).with_context(|| format!("creating {dir}"))?;
        let claims = Claims::of_this_user()?;
        let mut place =
            Place { dir, claims, cluster, number: None, may_be_kept, is_kept: false, _lock: lock };
        let listens = |number: ClusterNumber| addresses_of(number);
        let number = place.claims.claim(&place.cluster, None, ClaimOrder::HighestFirst, listens)?;
        place.number = Some(number);
        Ok(place)
    }

    fn addresses(&self) -> Result<Vec<SocketAddr>> {
        addresses_of(self.number.context("a place that was taken has a number")?)
    }
}

impl Drop for Place {
    /// Also after a run that failed.
    fn drop(&mut self) {
        if let Some(number) = self.number {
            // Whoever claims next finds that this one holds no more.
            let _ = self.claims.release(&self.cluster, number);
        }
        if !self.is_kept {
            let _ = remove(&self.dir);
        }
    }
}

fn addresses_of(number: ClusterNumber) -> Result<Vec<SocketAddr>> {
    (0..=SPARE).map(|disk| Ok(SocketAddr::new(number.sled_address(disk)?, PORT))).collect()
}

fn remove(dir: &Utf8Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {dir}"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_one_name_are_summed_however_deep() {
        let look = serde_json::json!({
            "members": [{"healed_blocks": 3, "more": {"healed_blocks": 2}}, {"healed_blocks": 1}],
            "healed": 9,
        });
        assert_eq!(sum_of(&look, "healed_blocks"), 6);
    }
}
