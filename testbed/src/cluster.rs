//! A cluster in one's hands: what can be asked of it and done to it. Owns no state of its own beyond the directory: the
//! record is read anew each time, since another command may have changed it.

use crate::{
    addresses::{AGENT_PORT, DEPOT_PORT, OPERATOR_PORT, url},
    claim::Claims,
    config,
    demo_effects::DemoEffects,
    launch,
    layout::ClusterDirectory,
    names::{DiskName, M2_NAMES, sled_name},
    partition,
    process::{LiveProcess, ProcessIdentity},
    record::{ClusterRecord, Intent, Node, Phase, Role},
    supervised::{self, Duty},
    teardown::{AT_ONCE, Leave, POLITE, end_supervised, tear_down},
    wait::wait_for,
};
use anyhow::{Context, Result, anyhow, bail};
use camino::Utf8Path;
use fault_points::{DiskFault, FaultClient};
use ids::SagaId;
use nexus_client::{ClientOptions, OperatorClient};
use rustix::process::Signal;
use sled_client::{
    DepotClient, SledClient,
    disks::{DiskHealth, DiskStatus, DownstairsState},
};
use std::{ops::Deref, time::Duration};

/// How long the kernel may take to end a process that was killed.
const KILL_LIMIT: Duration = Duration::from_secs(10);

/// How long it may take until each disk of a sled is served: an agent starts a process for each.
const DISKS_LIMIT: Duration = Duration::from_secs(30);

/// A cluster that has a directory, whoever owns it.
#[derive(Clone, Debug)]
pub struct Cluster {
    directory: ClusterDirectory,
    claims: Claims,
}

/// How much of a sled is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KillScope {
    /// The agent and all that it supervises.
    WholeSled,
    /// The agent's process only.
    AgentOnly,
}

impl Cluster {
    /// The cluster `name` below `parent`; refused if there is none.
    pub fn open(parent: impl AsRef<Utf8Path>, name: &str) -> Result<Cluster> {
        let directory = ClusterDirectory::new(parent, name)?;
        let cluster = Cluster::at(directory, Claims::of_this_user()?);
        cluster.record()?;
        Ok(cluster)
    }

    pub(crate) fn at(directory: ClusterDirectory, claims: Claims) -> Cluster {
        Cluster { directory, claims }
    }

    /// Where everything of it lies.
    #[must_use]
    pub fn directory(&self) -> &ClusterDirectory {
        &self.directory
    }

    /// What is known about it now.
    pub fn record(&self) -> Result<ClusterRecord> {
        self.directory.read_record()?.with_context(|| self.absent())
    }

    /// The coordinator.
    fn coordinator(&self) -> Result<Node> {
        let record = self.record()?;
        record.with_role(Role::Coordinator).next().cloned().context("the cluster has no coordinator")
    }

    /// What a demo saga has left.
    pub fn demo_effects(&self, saga: SagaId) -> Result<DemoEffects> {
        DemoEffects::read(&self.directory.demo_effects_dir(&self.coordinator()?.name, saga))
    }

    /// Calls the coordinator as an operator. Nodes are called as from their own host: they answer also while they are cut off.
    pub fn operator(&self) -> Result<OperatorClient> {
        self.operator_that_waits(None)
    }

    /// Calls the coordinator as an operator who waits for an answer longer than calls usually take; the time counts from
    /// the start of the call, so it includes the sending of a body.
    pub fn operator_that_waits(&self, limit: Option<Duration>) -> Result<OperatorClient> {
        let (record, coordinator) = (self.record()?, self.coordinator()?);
        let options = ClientOptions {
            token: Some(record.tokens.operator),
            read_idle_timeout: limit,
            source_address: Some(coordinator.address),
        };
        Ok(OperatorClient::new(&url(coordinator.address, OPERATOR_PORT), &options)?)
    }

    /// Calls a sled's agent as an operator.
    pub fn sled(&self, who: &str) -> Result<SledClient> {
        let record = self.record()?;
        self.sled_with_token(who, &record.tokens.operator)
    }

    /// Calls a sled's agent as a coordinator.
    pub fn sled_as_coordinator(&self, who: &str) -> Result<SledClient> {
        let record = self.record()?;
        self.sled_with_token(who, &record.tokens.coordinator)
    }

    fn sled_with_token(&self, who: &str, token: &str) -> Result<SledClient> {
        let address = self.record()?.sled(who)?.address;
        let options = ClientOptions {
            token: Some(token.to_owned()),
            source_address: Some(address),
            ..ClientOptions::default()
        };
        Ok(SledClient::new(&url(address, AGENT_PORT), &options)?)
    }

    /// Reads from a sled's depot.
    pub fn depot(&self, who: &str) -> Result<DepotClient> {
        Ok(DepotClient::new(&url(self.record()?.sled(who)?.address, DEPOT_PORT), &ClientOptions::default())?)
    }

    /// Holds and faults a process.
    pub fn fault_client(&self, who: &str) -> Result<FaultClient> {
        let record = self.record()?;
        Ok(FaultClient::new(self.directory.fault_socket(&record.node(who)?.name)))
    }

    /// Faults or heals a disk of a sled; answers with what the sled says it did.
    pub async fn disk_fault(&self, disk: &DiskName, fault: DiskFault) -> Result<serde_json::Value> {
        let record = self.record()?;
        let sled = record.sled(&disk.sled)?;
        let is_m2 = M2_NAMES.contains(&disk.disk.as_str());
        let clients = if is_m2 {
            live(sled)?;
            vec![self.fault_client(&disk.sled)?]
        } else {
            self.data_disk_fault_clients(sled, &disk.disk, &fault)?
        };
        let mut told = None;
        for client in clients {
            let answer = client.disk(&disk.disk, fault).await;
            told.get_or_insert(answer.with_context(|| disk.to_string())?);
        }
        told.with_context(|| format!("nobody to tell of {disk}"))
    }

    /// Who has a data disk's faults: the process that serves it, which need not have an agent; then its agent, for what that does there itself.
    /// What rots is the first one's to choose; and when that one has ended, there is only what is left to heal in the other.
    fn data_disk_fault_clients(
        &self,
        sled: &Node,
        disk: &str,
        fault: &DiskFault,
    ) -> Result<Vec<FaultClient>> {
        let Some(known) = sled.disks.iter().find(|known| known.name == disk) else {
            let known = M2_NAMES.into_iter().chain(sled.disks.iter().map(|disk| disk.name.as_str()));
            bail!("no disk {disk:?} in {}; there are {}", sled.name, known.collect::<Vec<_>>().join(", "));
        };
        let running = supervised::of_sled(&self.directory, sled)?;
        let is_served = running.iter().any(|process| process.duty == Duty::Downstairs(known.id));
        let has_agent = open(sled)?.is_some();
        let can_be_healed = has_agent && matches!(fault, DiskFault::Heal);
        if !is_served && !can_be_healed {
            bail!("nobody serves {}/{disk}; `cargo xtask testbed status` tells what runs", sled.name);
        }
        let mut clients = Vec::new();
        if is_served {
            clients.push(FaultClient::new(self.directory.disk_fault_socket(&sled.name, disk)));
        }
        if has_agent && !matches!(fault, DiskFault::Corrupt { .. }) {
            clients.push(FaultClient::new(self.directory.fault_socket(&sled.name)));
        }
        Ok(clients)
    }

    /// SIGKILL, and the end of the process; of a whole sled, also of what outlived an earlier life of its agent.
    pub async fn kill(&self, who: &str, scope: KillScope) -> Result<()> {
        let (node, process) = self.change(|record| {
            let node = record.node_mut(who)?;
            let process = open(node)?;
            match (&process, scope) {
                (Some(process), KillScope::WholeSled) => process.signal_group(Signal::KILL)?,
                (Some(process), KillScope::AgentOnly) => process.signal(Signal::KILL)?,
                (None, KillScope::WholeSled) if !supervised::of_sled(&self.directory, node)?.is_empty() => {}
                (None, _) => return Err(not_live(node)),
            }
            node.intent = Intent::Kill;
            Ok((node.clone(), process))
        })?;
        if let Some(process) = process
            && !process.ended_within(KILL_LIMIT).await?
        {
            bail!("{who} did not end within {} s of SIGKILL", KILL_LIMIT.as_secs());
        }
        match scope {
            KillScope::WholeSled => self.end_supervised(node, AT_ONCE).await,
            KillScope::AgentOnly => Ok(()),
        }
    }

    /// Ends what a sled's agent supervises, which has ended itself.
    async fn end_supervised(&self, sled: Node, patience: Duration) -> Result<()> {
        let directory = self.directory.clone();
        let work = move || end_supervised(&directory, &[&sled], patience);
        tokio::task::spawn_blocking(work).await.context("ending what an agent supervises")?
    }

    /// Whether its process lives.
    pub fn is_running(&self, who: &str) -> Result<bool> {
        Ok(open(self.record()?.node(who)?)?.is_some())
    }

    /// SIGSTOP: it is there, and answers nothing. A sled with all that it supervises, also without its agent.
    pub fn pause(&self, who: &str) -> Result<()> {
        // The agent first: nobody starts another process then.
        self.signal(who, Signal::STOP)
    }

    /// SIGCONT.
    pub fn resume(&self, who: &str) -> Result<()> {
        self.signal(who, Signal::CONT)
    }

    fn signal(&self, who: &str, signal: Signal) -> Result<()> {
        let record = self.record()?;
        let node = record.node(who)?;
        match open(node)? {
            Some(process) => process.signal_group(signal)?,
            None if supervised::of_sled(&self.directory, node)?.is_empty() => return Err(not_live(node)),
            None => {}
        }
        supervised::signal(&self.directory, node, signal)
    }

    /// Cuts these off from everybody else, and not from each other; who was cut off with others before is not with them any more. Needs
    /// root.
    pub fn partition(&self, who: &[String]) -> Result<()> {
        partition::check()?;
        self.change(|record| {
            if who.is_empty() {
                bail!("nobody is named who is to be cut off: {}", record.names());
            }
            if record.phase == Phase::Stopped {
                bail!("cluster {} is stopped; `cargo xtask testbed up --name {0}` starts it", record.name);
            }
            for who in who {
                record.node(who)?;
            }
            let mut changed = record.clone();
            partition::cut_off(&mut changed.partitions, who.iter().cloned().collect());
            // Before it is so: whoever ends the cluster after a crash must know.
            self.directory.write_locked(&changed)?;
            if let Err(error) = partition::apply(&changed) {
                self.directory.write_locked(record)?;
                return Err(error);
            }
            *record = changed;
            Ok(())
        })
    }

    /// Nobody is cut off any more. Whether anybody was.
    pub fn heal_partitions(&self) -> Result<bool> {
        self.change(|record| {
            if record.partitions.is_empty() {
                return Ok(false);
            }
            partition::heal(record.number)?;
            record.partitions.clear();
            Ok(true)
        })
    }

    /// Stops a process politely, if it runs, and with an agent all that it supervises. Whether it ran. Without its agent the rest of a sled
    /// is left as it is.
    pub async fn stop(&self, who: &str) -> Result<bool> {
        let running = self.change(|record| {
            let node = record.node_mut(who)?;
            let Some(process) = open(node)? else { return Ok(None) };
            // It alone: what it supervises is asked below, once.
            process.signal(Signal::TERM)?;
            process.signal_group(Signal::CONT)?;
            node.intent = Intent::Stop;
            Ok(Some((node.clone(), process)))
        })?;
        let Some((node, process)) = running else { return Ok(false) };
        if !process.ended_within(POLITE).await? {
            bail!(
                "{who} did not stop within {} s of SIGTERM; `cargo xtask testbed kill {who}` does not ask",
                POLITE.as_secs()
            );
        }
        self.end_supervised(node, POLITE).await?;
        Ok(true)
    }

    /// Starts a process that does not run, with its old directory, address and ports; returns when it serves.
    pub async fn start(&self, who: &str) -> Result<()> {
        let node = self.change(|record| {
            if record.phase == Phase::Stopped {
                bail!("cluster {} is stopped; `cargo xtask testbed up --name {0}` starts it", record.name);
            }
            launch::start(&self.directory, record, who)?;
            record.node(who).cloned()
        })?;
        launch::wait_ready(&self.directory, &node).await?;
        self.wait_disks_served(&node).await?;
        self.note_sled_ids().await
    }

    /// Waits until each disk of a sled is served; one that the agent finds broken or gone is not waited for.
    pub(crate) async fn wait_disks_served(&self, sled: &Node) -> Result<()> {
        if sled.disks.is_empty() {
            return Ok(());
        }
        let client = self.sled(&sled.name)?;
        wait_for(&format!("the disks of {} to be served", sled.name), DISKS_LIMIT, async || {
            let page = client.disks().await.map_err(|error| format!("{error:#}"))?;
            let waits = |disk: &&DiskStatus| {
                let is_there = !matches!(
                    disk.health,
                    DiskHealth::Missing | DiskHealth::Faulted | DiskHealth::Suspended | DiskHealth::Failed
                );
                is_there && disk.downstairs.state != DownstairsState::Running
            };
            match page.disks.iter().find(waits) {
                None => Ok(()),
                Some(disk) => Err(format!("{}: {:?}", disk.name, disk.downstairs)),
            }
        })
        .await
    }

    /// Stops a process politely if it runs, and starts it again; returns when it serves.
    pub async fn restart(&self, who: &str) -> Result<()> {
        self.stop(who).await?;
        self.start(who).await
    }

    /// Adds one sled, with the next name and address; returns its name when it serves.
    pub async fn add_sled(&self) -> Result<String> {
        let node = self.change(|record| {
            if record.phase == Phase::Stopped {
                bail!(
                    "cluster {} is stopped; `cargo xtask testbed up --name {0} --sleds N` adds sleds",
                    record.name
                );
            }
            let index = record.with_role(Role::Sled).count();
            let mut node = Node::new(sled_name(index), Role::Sled, record.number.sled_address(index)?);
            node.add_disks(record.disks_per_sled());
            config::write_node(&self.directory, record, &node)?;
            let who = node.name.clone();
            record.nodes.push(node);
            launch::start(&self.directory, record, &who)?;
            record.node(&who).cloned()
        })?;
        launch::wait_ready(&self.directory, &node).await?;
        self.wait_disks_served(&node).await?;
        self.note_sled_ids().await?;
        Ok(node.name)
    }

    /// Ends everything and keeps the directories. Whether there was something to end.
    pub async fn down(&self) -> Result<bool> {
        self.end(POLITE, Leave::State).await
    }

    /// Ends everything and removes the directories.
    pub async fn reset(&self) -> Result<()> {
        self.end(POLITE, Leave::Nothing).await.map(drop)
    }

    async fn end(&self, patience: Duration, leave: Leave) -> Result<bool> {
        let (directory, claims) = (self.directory.clone(), self.claims.clone());
        let work = move || {
            tear_down(&directory, &claims, patience, leave, |record| {
                Ok(leave == Leave::Nothing || record.phase != Phase::Stopped)
            })
        };
        tokio::task::spawn_blocking(work).await.context("ending the cluster")?
    }

    /// Asks every sled that serves for its id and notes it.
    pub(crate) async fn note_sled_ids(&self) -> Result<()> {
        let record = self.record()?;
        let nameless = record.with_role(Role::Sled).filter(|node| node.sled_id.is_none());
        let mut found = Vec::new();
        for node in nameless {
            if !node.process.as_ref().map(ProcessIdentity::lives).transpose()?.unwrap_or(false) {
                continue;
            }
            let inventory = self.sled(&node.name)?.inventory().await;
            let inventory = inventory.with_context(|| format!("asking {} for its id", node.name))?;
            found.push((node.name.clone(), inventory.sled_id));
        }
        if found.is_empty() {
            return Ok(());
        }
        self.change(|record| {
            for (who, id) in found {
                record.node_mut(&who)?.sled_id = Some(id);
            }
            Ok(())
        })
    }

    /// Changes the record of a cluster that is there.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut ClusterRecord) -> Result<T>) -> Result<T> {
        self.directory.update(|record| {
            let mut record = record.with_context(|| self.absent())?;
            let outcome = change(&mut record)?;
            Ok((Some(record), outcome))
        })
    }

    fn absent(&self) -> String {
        format!(
            "there is no cluster {}; `cargo xtask testbed up --name {0}` makes one",
            self.directory.name()
        )
    }
}

/// The process of a node, if it lives.
fn open(node: &Node) -> Result<Option<LiveProcess>> {
    Ok(node.process.as_ref().map(ProcessIdentity::open).transpose()?.flatten())
}

/// The process of a node; refused if it does not live.
fn live(node: &Node) -> Result<LiveProcess> {
    open(node)?.ok_or_else(|| not_live(node))
}

fn not_live(node: &Node) -> anyhow::Error {
    let fate = match node.intent {
        Intent::Run => "it ended by itself",
        Intent::Stop => "it was stopped",
        Intent::Kill => "it was killed",
    };
    anyhow!("{0} is not running ({fate}); `cargo xtask testbed restart {0}` starts it", node.name)
}

/// A cluster that is this process's own: dropping it ends it.
#[derive(Debug)]
pub struct OwnedCluster {
    cluster: Option<Cluster>,
    remove_state: bool,
}

impl OwnedCluster {
    pub(crate) fn new(cluster: Cluster, remove_state: bool) -> OwnedCluster {
        OwnedCluster { cluster: Some(cluster), remove_state }
    }

    /// Lets the cluster live on without this process.
    pub fn detach(mut self) -> Result<Cluster> {
        self.change(|record| {
            record.owner = None;
            Ok(())
        })?;
        self.cluster.take().context("an owned cluster is there until it is detached")
    }

    /// Asks every process to stop, and waits for it; what dropping does is less polite.
    pub async fn finish(self) -> Result<()> {
        let leave = if self.remove_state { Leave::Nothing } else { Leave::State };
        self.end(POLITE, leave).await.map(drop)
    }

    /// Whether the cluster is still this process's own, rather than ended by another command.
    pub fn is_still_ours(&self) -> Result<bool> {
        let me = ProcessIdentity::current()?;
        let record = self.directory.read_record()?;
        Ok(record.is_some_and(|record| record.phase != Phase::Stopped && record.owner.as_ref() == Some(&me)))
    }

    fn print_log_tails(&self) {
        let Ok(record) = self.record() else { return };
        for node in &record.nodes {
            let log = self.directory.log_file(&node.name);
            match launch::log_tail(&log, launch::LOG_TAIL_LINES) {
                Ok(tail) => eprintln!("--- the end of {log}\n{tail}"),
                Err(error) => eprintln!("--- {log} cannot be read: {error:#}"),
            }
        }
    }
}

impl Deref for OwnedCluster {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        self.cluster.as_ref().expect("it is only taken by detach, which takes self")
    }
}

impl Drop for OwnedCluster {
    fn drop(&mut self) {
        let Some(cluster) = &self.cluster else { return };
        if std::thread::panicking() {
            // The logs are about to be removed with the test's directory, and they are why it failed.
            self.print_log_tails();
        }
        let leave = if self.remove_state { Leave::Nothing } else { Leave::State };
        let me = ProcessIdentity::current().ok();
        let ours = |record: &ClusterRecord| Ok(record.phase != Phase::Stopped && record.owner == me);
        if let Err(error) = tear_down(&cluster.directory, &cluster.claims, AT_ONCE, leave, ours) {
            eprintln!("cluster {} was not ended: {error:#}", cluster.directory.name());
        }
    }
}
