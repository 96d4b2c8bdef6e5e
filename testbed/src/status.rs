//! What runs, and what the coordinator thinks of it: `testbed status`. Owns the report; prints nothing.

use crate::{
    addresses::{AGENT_PORT, OPERATOR_PORT, url},
    cluster::Cluster,
    process::{ProcessFacts, ProcessIdentity},
    record::{Intent, Node, Phase, Role},
    supervised::{self, Duty, Supervised},
};
use anyhow::Result;
use nexus_client::sleds::{Sled, SledLiveness};
use serde::Serialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::Duration,
};

/// How long the coordinator may take to answer: a status is shown also when it hangs.
const ASK_LIMIT: Duration = Duration::from_secs(2);

/// A cluster at one moment.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClusterStatus {
    /// Its name.
    pub name: String,
    /// Which one on this machine it is.
    pub number: crate::addresses::ClusterNumber,
    /// How far it is.
    pub phase: Phase,
    /// The process whose end is its end; none if it is detached.
    pub owner_pid: Option<u32>,
    /// Whether that process lives.
    pub owner_lives: Option<bool>,
    /// Who is cut off: each group from everybody else.
    pub partitions: Vec<BTreeSet<String>>,
    /// Its processes.
    pub nodes: Vec<NodeStatus>,
}

/// One process.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NodeStatus {
    /// Its name.
    pub name: String,
    /// Where it serves.
    pub url: String,
    /// Whether it runs, and if not, why.
    pub state: NodeState,
    /// Its pid, while it lives.
    pub pid: Option<u32>,
    /// Bytes of memory that it occupies.
    pub resident_bytes: Option<u64>,
    /// Seconds since it started.
    pub age_seconds: Option<u64>,
    /// What the coordinator says of it, in a few words; none if that did not answer.
    pub seen: Option<String>,
    /// The processes that serve a sled's data disks, in the order of the disks.
    pub disks: Vec<DiskServer>,
    /// The process that holds a sled's volumes, while it lives: it is there once somebody has needed it.
    pub pantry: Option<PantryProcess>,
}

/// The process that serves a data disk.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DiskServer {
    /// The disk's name.
    pub disk: String,
    /// Whether it runs, and if not, why.
    pub state: NodeState,
    /// Its pid, while it lives.
    pub pid: Option<u32>,
    /// Where Upstairs find it, while it lives.
    pub address: Option<SocketAddr>,
    /// Bytes of memory that it occupies.
    pub resident_bytes: Option<u64>,
    /// Seconds since it started.
    pub age_seconds: Option<u64>,
}

/// The process that holds a sled's volumes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PantryProcess {
    /// Whether it runs or is paused.
    pub state: NodeState,
    /// Its pid.
    pub pid: u32,
    /// Bytes of memory that it occupies.
    pub resident_bytes: u64,
    /// Seconds since it started.
    pub age_seconds: u64,
}

/// Whether a process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeState {
    /// It runs.
    Running,
    /// It is there, but SIGSTOPped.
    Paused,
    /// It was asked to stop, or never started.
    Stopped,
    /// It was killed on purpose.
    Killed,
    /// It ended though nobody asked it to: look at its log.
    Died,
}

impl NodeState {
    fn of(intent: Intent, facts: Option<ProcessFacts>) -> NodeState {
        match (facts, intent) {
            (Some(facts), _) if facts.stopped => NodeState::Paused,
            (Some(_), _) => NodeState::Running,
            (None, Intent::Run) => NodeState::Died,
            (None, Intent::Stop) => NodeState::Stopped,
            (None, Intent::Kill) => NodeState::Killed,
        }
    }

    /// In a word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            NodeState::Running => "running",
            NodeState::Paused => "paused",
            NodeState::Stopped => "stopped",
            NodeState::Killed => "killed",
            NodeState::Died => "died",
        }
    }
}

impl Cluster {
    /// How the cluster stands now. A coordinator that does not answer leaves its part out.
    pub async fn status(&self) -> Result<ClusterStatus> {
        let record = self.record()?;
        let seen =
            if record.phase == Phase::Stopped { BTreeMap::new() } else { self.ask_coordinator().await };
        let mut nodes = Vec::new();
        for node in &record.nodes {
            nodes.push(self.node_status(node, &seen)?);
        }
        let owner_lives = record.owner.as_ref().map(ProcessIdentity::lives).transpose()?;
        Ok(ClusterStatus {
            name: record.name,
            number: record.number,
            phase: record.phase,
            owner_pid: record.owner.map(|owner| owner.pid),
            owner_lives,
            partitions: record.partitions,
            nodes,
        })
    }

    fn node_status(&self, node: &Node, seen: &BTreeMap<String, String>) -> Result<NodeStatus> {
        let facts = match &node.process {
            Some(process) => process.facts()?,
            None => None,
        };
        let port = match node.role {
            Role::Coordinator => OPERATOR_PORT,
            Role::Sled => AGENT_PORT,
        };
        let supervised = supervised::of_sled(self.directory(), node)?;
        Ok(NodeStatus {
            name: node.name.clone(),
            url: url(node.address, port),
            state: NodeState::of(node.intent, facts),
            pid: facts.and(node.process.as_ref()).map(|process| process.pid),
            resident_bytes: facts.map(|facts| facts.resident_bytes),
            age_seconds: facts.map(|facts| facts.age_seconds),
            seen: seen.get(&node.name).cloned(),
            disks: disk_servers(node, &supervised)?,
            pantry: pantry_process(node, &supervised)?,
        })
    }

    /// What the coordinator says of each sled and of itself, by name; empty if it does not answer.
    async fn ask_coordinator(&self) -> BTreeMap<String, String> {
        let Ok(operator) = self.operator() else { return BTreeMap::new() };
        let ask = async { tokio::join!(operator.sleds(), operator.status()) };
        let Ok((sleds, status)) = tokio::time::timeout(ASK_LIMIT, ask).await else { return BTreeMap::new() };
        let mut said: BTreeMap<String, String> =
            sleds.unwrap_or_default().iter().map(|sled| (sled.name.clone(), sled_words(sled))).collect();
        if let Ok(status) = status {
            let words = format!(
                "{}/{} sleds online, {}/{} artifacts complete",
                status.sleds_online, status.sleds_in_service, status.artifacts_complete, status.artifacts
            );
            said.insert(status.coordinator.name, words);
        }
        said
    }
}

fn disk_servers(node: &Node, supervised: &[Supervised]) -> Result<Vec<DiskServer>> {
    let mut servers = Vec::new();
    for disk in &node.disks {
        let downstairs = supervised.iter().find(|process| process.duty == Duty::Downstairs(disk.id));
        let facts = downstairs.map(facts).transpose()?.flatten();
        servers.push(DiskServer {
            disk: disk.name.clone(),
            state: NodeState::of(node.intent, facts),
            pid: facts.and(downstairs).map(Supervised::pid),
            address: facts.and(downstairs).and_then(|downstairs| downstairs.address),
            resident_bytes: facts.map(|facts| facts.resident_bytes),
            age_seconds: facts.map(|facts| facts.age_seconds),
        });
    }
    Ok(servers)
}

fn pantry_process(node: &Node, supervised: &[Supervised]) -> Result<Option<PantryProcess>> {
    let Some(pantry) = supervised.iter().find(|process| process.duty == Duty::Pantry) else {
        return Ok(None);
    };
    Ok(facts(pantry)?.map(|facts| PantryProcess {
        state: NodeState::of(node.intent, Some(facts)),
        pid: pantry.pid(),
        resident_bytes: facts.resident_bytes,
        age_seconds: facts.age_seconds,
    }))
}

/// None if it has just ended.
fn facts(process: &Supervised) -> Result<Option<ProcessFacts>> {
    match ProcessIdentity::of(process.pid())? {
        Some(identity) => identity.facts(),
        None => Ok(None),
    }
}

fn sled_words(sled: &Sled) -> String {
    let liveness = match sled.liveness {
        SledLiveness::Online => "online",
        SledLiveness::Offline => "offline",
        SledLiveness::Unknown | SledLiveness::Unrecognized => "not heard of yet",
    };
    let reason = sled.reason.as_ref().map(|reason| format!(" ({reason})"));
    format!(
        "{liveness}, {}/{} artifacts{}",
        sled.artifacts_complete,
        sled.artifacts_wanted,
        reason.unwrap_or_default()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_process_is_told_by_what_was_done_to_it() {
        assert_eq!(NodeState::of(Intent::Kill, None), NodeState::Killed);
        assert_eq!(NodeState::of(Intent::Stop, None), NodeState::Stopped);
        assert_eq!(NodeState::of(Intent::Run, None), NodeState::Died);
        let facts = ProcessFacts { stopped: false, resident_bytes: 1, age_seconds: 1 };
        // Restarted by hand after a kill: what lives counts, not what was done before.
        assert_eq!(NodeState::of(Intent::Kill, Some(facts)), NodeState::Running);
        assert_eq!(
            NodeState::of(Intent::Run, Some(ProcessFacts { stopped: true, ..facts })),
            NodeState::Paused
        );
    }
}
