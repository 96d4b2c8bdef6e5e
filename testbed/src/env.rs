//! What scripts outside are told about a cluster: `testbed env`. Owns that shape, which is a contract; adds no facts.

use crate::{
    addresses::{AGENT_PORT, DEPOT_PORT, INTERNAL_PORT, OPERATOR_PORT, url},
    cluster::Cluster,
    names::M2_NAMES,
    process::ProcessIdentity,
    record::{Node, Role},
    supervised::{self, Duty},
};
use anyhow::Result;
use camino::Utf8PathBuf;
use ids::{DiskId, SledId};
use serde::Serialize;

/// `testbed env --json`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Environment {
    /// The cluster's name.
    pub name: String,
    /// The coordinators.
    pub nexus: Vec<NexusEnvironment>,
    /// The operator's token.
    pub token: String,
    /// The certificate authority; none as long as there is no TLS.
    pub ca_file: Option<Utf8PathBuf>,
    /// The cluster's directory.
    pub state_dir: Utf8PathBuf,
    /// Where `nexus`, `sled-agent` and `sledctl` are.
    pub bin_dir: Utf8PathBuf,
    /// The sleds.
    pub sleds: Vec<SledEnvironment>,
}

/// One coordinator.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NexusEnvironment {
    /// Its name.
    pub name: String,
    /// Its operator API.
    pub url: String,
    /// Its sled-facing API.
    pub internal_url: String,
    /// Its process; none while it does not run.
    pub pid: Option<u32>,
}

/// One sled.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SledEnvironment {
    /// Its name.
    pub name: String,
    /// Its id; none until it has served once.
    pub id: Option<SledId>,
    /// Its sled API.
    pub agent_url: String,
    /// Its repo depot.
    pub depot_url: String,
    /// Its agent's process; none while it does not run.
    pub pid: Option<u32>,
    /// Every process of the sled that runs: the agent, what serves its disks, and its Pantry if somebody has needed it.
    pub processes: Vec<ProcessEnvironment>,
    /// Its M.2 devices.
    pub m2: Vec<M2Environment>,
    /// Its data disks.
    pub disks: Vec<DiskEnvironment>,
}

/// One process of a sled.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ProcessEnvironment {
    /// `agent`, `downstairs` or `pantry`.
    pub kind: &'static str,
    /// What it serves: for the agent and the Pantry, the sled's id; for a Downstairs, its disk's.
    pub id: Option<String>,
    /// Its pid.
    pub pid: u32,
}

/// One M.2.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct M2Environment {
    /// Its name.
    pub name: &'static str,
    /// The directory that stands for it.
    pub dir: Utf8PathBuf,
}

/// One data disk.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DiskEnvironment {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: DiskId,
    /// The directory that stands for it.
    pub dir: Utf8PathBuf,
}

impl Cluster {
    /// What scripts outside are told.
    pub fn environment(&self) -> Result<Environment> {
        let record = self.record()?;
        let mut environment = Environment {
            name: record.name.clone(),
            nexus: Vec::new(),
            token: record.tokens.operator.clone(),
            ca_file: None,
            state_dir: self.directory().root().to_owned(),
            bin_dir: record.bin_dir.clone(),
            sleds: Vec::new(),
        };
        for node in &record.nodes {
            let pid = live_pid(node)?;
            match node.role {
                Role::Coordinator => environment.nexus.push(NexusEnvironment {
                    name: node.name.clone(),
                    url: url(node.address, OPERATOR_PORT),
                    internal_url: url(node.address, INTERNAL_PORT),
                    pid,
                }),
                Role::Sled => environment.sleds.push(self.sled_environment(node, pid)?),
            }
        }
        Ok(environment)
    }

    fn sled_environment(&self, node: &Node, pid: Option<u32>) -> Result<SledEnvironment> {
        let sled_id = node.sled_id.map(|id| id.to_string());
        let agent = pid.map(|pid| ProcessEnvironment { kind: "agent", id: sled_id.clone(), pid });
        let running = supervised::of_sled(self.directory(), node)?;
        let running = running.iter().map(|process| {
            let (kind, id) = match process.duty {
                Duty::Downstairs(disk) => ("downstairs", Some(disk.to_string())),
                Duty::Pantry => ("pantry", sled_id.clone()),
            };
            ProcessEnvironment { kind, id, pid: process.pid() }
        });
        Ok(SledEnvironment {
            name: node.name.clone(),
            id: node.sled_id,
            agent_url: url(node.address, AGENT_PORT),
            depot_url: url(node.address, DEPOT_PORT),
            pid,
            processes: agent.into_iter().chain(running).collect(),
            m2: M2_NAMES
                .map(|name| M2Environment { name, dir: self.directory().m2_dir(&node.name, name) })
                .into(),
            disks: node
                .disks
                .iter()
                .map(|disk| DiskEnvironment {
                    name: disk.name.clone(),
                    id: disk.id,
                    dir: self.directory().disk_dir(&node.name, &disk.name),
                })
                .collect(),
        })
    }
}

impl Environment {
    /// The same as shell assignments, for `eval`.
    #[must_use]
    pub fn to_shell(&self) -> String {
        let mut lines = Vec::new();
        if let Some(nexus) = self.nexus.first() {
            lines.push(format!("export SLEDCTL_URL={}", quoted(&nexus.url)));
        }
        lines.push(format!("export SLEDCTL_TOKEN={}", quoted(&self.token)));
        lines.push(format!("export PATH={}:\"$PATH\"", quoted(self.bin_dir.as_str())));
        lines.join("\n") + "\n"
    }
}

/// A shell word that stands for exactly this text.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

fn live_pid(node: &Node) -> Result<Option<u32>> {
    let Some(process) = &node.process else { return Ok(None) };
    Ok(ProcessIdentity::lives(process)?.then_some(process.pid))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        addresses::ClusterNumber,
        claim::Claims,
        layout::ClusterDirectory,
        record::{ClusterRecord, Tokens},
    };
    use camino_tempfile::Utf8TempDir;
    use serde_json::json;

    #[test]
    fn the_json_has_exactly_the_contracts_names_and_dead_processes_no_pid() {
        let temp = Utf8TempDir::new().unwrap();
        let directory = ClusterDirectory::new(temp.path(), "default").unwrap();
        let tokens = Tokens { operator: "secret".into(), sled: "s".into(), coordinator: "c".into() };
        let number = ClusterNumber::new(1).unwrap();
        let mut record = ClusterRecord::new("default", number, tokens, "/bin dir".into());
        record.nodes.push(Node::new(
            "nexus-1".into(),
            Role::Coordinator,
            number.coordinator_address(0).unwrap(),
        ));
        record.nodes.push(Node::new("sled-a".into(), Role::Sled, number.sled_address(0).unwrap()));
        let me = ProcessIdentity::current().unwrap();
        let id = SledId::generate();
        record.nodes[0].process = Some(ProcessIdentity { start_ticks: 1, ..me.clone() });
        record.nodes[1].process = Some(me.clone());
        record.nodes[1].sled_id = Some(id);
        record.nodes[1].add_disks(1);
        let disk = record.nodes[1].disks[0].id;
        directory.update(|_| Ok((Some(record), ()))).unwrap();
        let cluster = Cluster::at(directory.clone(), Claims::at(temp.path().join("run")).unwrap());
        let environment = cluster.environment().unwrap();
        let expected = json!({
            "name": "default",
            "nexus": [{
                "name": "nexus-1",
                "url": "http://127.0.0.1:12220",
                "internal_url": "http://127.0.0.1:12221",
                "pid": null,
            }],
            "token": "secret",
            "ca_file": null,
            "state_dir": directory.root(),
            "bin_dir": "/bin dir",
            "sleds": [{
                "name": "sled-a",
                "id": id,
                "agent_url": "http://127.0.1.1:12345",
                "depot_url": "http://127.0.1.1:12348",
                "pid": me.pid,
                "processes": [{ "kind": "agent", "id": id, "pid": me.pid }],
                "m2": [
                    { "name": "m2-0", "dir": directory.root().join("sled-a/m2-0") },
                    { "name": "m2-1", "dir": directory.root().join("sled-a/m2-1") },
                ],
                "disks": [{ "name": "disk-0", "id": disk, "dir": directory.root().join("sled-a/disk-0") }],
            }],
        });
        assert_eq!(serde_json::to_value(&environment).unwrap(), expected);
        assert_eq!(
            environment.to_shell(),
            "export SLEDCTL_URL='http://127.0.0.1:12220'\nexport SLEDCTL_TOKEN='secret'\nexport PATH='/bin dir':\"$PATH\"\n"
        );
    }

    #[test]
    fn shell_words_are_taken_literally() {
        assert_eq!(quoted("it's $HOME"), "'it'\\''s $HOME'");
    }
}
