//! What the programs are told: the TOML files of agents and coordinators, and the token files that they name. Owns
//! their contents; the programs own what the keys mean.

use crate::{
    addresses::{AGENT_PORT, DEPOT_PORT, INTERNAL_PORT, OPERATOR_PORT, url},
    layout::ClusterDirectory,
    names::M2_NAMES,
    record::{ClusterRecord, DatabaseKind, Node, Role, Tokens, write_private},
};
use anyhow::{Context, Result, bail};
use camino::Utf8Path;
use ids::DiskId;
use serde::Serialize;
use std::{
    fs,
    process::{Command, Stdio},
};
use test_postgres::Standing;
use toml::{Table, Value};

#[derive(Serialize)]
struct NexusConfig<'a> {
    name: &'a str,
    state_dir: &'a Utf8Path,
    address: String,
    operator_port: u16,
    internal_port: u16,
    auth: NexusAuth,
    #[serde(skip_serializing_if = "Option::is_none")]
    database: Option<Database>,
    log: Log,
    testing: Testing,
    replication: Replication,
    tuf: Tuf,
}

#[derive(Serialize)]
struct AgentConfig<'a> {
    name: &'a str,
    state_dir: &'a Utf8Path,
    address: String,
    agent_port: u16,
    depot_port: u16,
    coordinators: Vec<String>,
    auth: AgentAuth,
    log: Log,
    testing: Testing,
    m2: Vec<M2>,
    disks: Vec<Disk>,
}

#[derive(Serialize)]
struct NexusAuth {
    operator_token_file: String,
    sled_token_file: String,
    coordinator_token_file: String,
}

#[derive(Serialize)]
struct Database {
    url: String,
    password_file: String,
}

#[derive(Serialize)]
struct AgentAuth {
    token_file: String,
    coordinator_token_file: String,
    operator_token_file: String,
}

#[derive(Serialize)]
struct Log {
    format: &'static str,
    filter: &'static str,
}

#[derive(Serialize)]
struct Testing {
    faults: bool,
}

#[derive(Serialize)]
struct Replication {
    min_replication: u32,
}

#[derive(Serialize)]
struct Tuf {
    expiry: &'static str,
}

#[derive(Serialize)]
struct M2 {
    name: &'static str,
    dir: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    quota_bytes: Option<u64>,
}

#[derive(Serialize)]
struct Disk {
    id: DiskId,
    name: String,
    dir: String,
}

/// The coordinators' database on the cluster's PostgreSQL server.
const DATABASE_NAME: &str = "bobsled";

const LOG: Log = Log { format: "json", filter: "info" };
const TESTING: Testing = Testing { faults: true };

/// Makes a node's directories and writes its config.
pub(crate) fn write_node(directory: &ClusterDirectory, record: &ClusterRecord, node: &Node) -> Result<()> {
    let mut dirs = vec![directory.state_dir(&node.name)];
    if node.role == Role::Sled {
        dirs.extend(M2_NAMES.map(|m2| directory.m2_dir(&node.name, m2)));
    }
    for dir in dirs {
        fs::create_dir_all(&dir).with_context(|| format!("creating {dir}"))?;
    }
    for disk in &node.disks {
        prepare_disk(&record.bin_dir, &directory.disk_dir(&node.name, &disk.name))?;
    }
    let (config, extra) = match node.role {
        Role::Coordinator => (nexus_config(directory, record, node)?, &record.extra.nexus),
        Role::Sled => (agent_config(directory, record, node)?, &record.extra.agent),
    };
    let text = toml::to_string(&laid_over(config, extra)).context("encoding a config")?;
    let path = directory.config_file(&node.name);
    fs::write(&path, text).with_context(|| format!("writing {path}"))
}

/// Takes a directory into use as a data disk, as it is done with a real one; one that is in use stays as it is.
fn prepare_disk(bin_dir: &Utf8Path, dir: &Utf8Path) -> Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("creating {dir}"))?;
    let program = bin_dir.join("sled-agent");
    let mut command = Command::new(&program);
    command.args(["disk", "prepare", dir.as_str()]).stdin(Stdio::null());
    let output = command.output().with_context(|| format!("running {program}"))?;
    if !output.status.success() {
        bail!("{dir} is not prepared as a disk: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// Writes the token files.
pub(crate) fn write_tokens(directory: &ClusterDirectory, tokens: &Tokens) -> Result<()> {
    let roles =
        [("operator", &tokens.operator), ("sled", &tokens.sled), ("coordinator", &tokens.coordinator)];
    for (role, token) in roles {
        let path = directory.token_file(role);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).with_context(|| format!("creating {parent}"))?;
        }
        write_private(&path, format!("{token}\n").as_bytes())?;
    }
    Ok(())
}

fn nexus_config(directory: &ClusterDirectory, record: &ClusterRecord, node: &Node) -> Result<Table> {
    let token = |role| directory.token_file(role).into_string();
    let database = match record.database {
        DatabaseKind::Sqlite => None,
        DatabaseKind::Postgres => {
            let server = Standing::at(&directory.postgres());
            let password_file = server.password_file().into_string();
            Some(Database { url: server.database(DATABASE_NAME)?, password_file })
        }
    };
    let config = NexusConfig {
        name: &node.name,
        state_dir: &directory.state_dir(&node.name),
        address: node.address.to_string(),
        operator_port: OPERATOR_PORT,
        internal_port: INTERNAL_PORT,
        auth: NexusAuth {
            operator_token_file: token("operator"),
            sled_token_file: token("sled"),
            coordinator_token_file: token("coordinator"),
        },
        database,
        log: LOG,
        testing: TESTING,
        replication: Replication { min_replication: record.min_replication },
        tuf: Tuf { expiry: "warn" },
    };
    Table::try_from(config).context("encoding a coordinator's config")
}

fn agent_config(directory: &ClusterDirectory, record: &ClusterRecord, node: &Node) -> Result<Table> {
    let token = |role| directory.token_file(role).into_string();
    let config = AgentConfig {
        name: &node.name,
        state_dir: &directory.state_dir(&node.name),
        address: node.address.to_string(),
        agent_port: AGENT_PORT,
        depot_port: DEPOT_PORT,
        coordinators: record
            .with_role(Role::Coordinator)
            .map(|node| url(node.address, INTERNAL_PORT))
            .collect(),
        auth: AgentAuth {
            token_file: token("sled"),
            coordinator_token_file: token("coordinator"),
            operator_token_file: token("operator"),
        },
        log: LOG,
        testing: TESTING,
        m2: M2_NAMES
            .map(|m2| M2 {
                name: m2,
                dir: directory.m2_dir(&node.name, m2).into_string(),
                quota_bytes: record.extra.m2_quota_bytes,
            })
            .into(),
        disks: node
            .disks
            .iter()
            .map(|disk| Disk {
                id: disk.id,
                name: disk.name.clone(),
                dir: directory.disk_dir(&node.name, &disk.name).into_string(),
            })
            .collect(),
    };
    Table::try_from(config).context("encoding an agent's config")
}

/// `base` with the keys of `extra` laid over it, table by table.
fn laid_over(mut base: Table, extra: &Table) -> Table {
    for (key, value) in extra {
        let merged = match (base.remove(key), value) {
            (Some(Value::Table(below)), Value::Table(above)) => Value::Table(laid_over(below, above)),
            (_, above) => above.clone(),
        };
        base.insert(key.clone(), merged);
    }
    base
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{addresses::ClusterNumber, record::Intent};
    use camino_tempfile::Utf8TempDir;

    #[test]
    fn an_agents_config_has_its_addresses_its_disks_and_what_was_laid_over() {
        let temp = Utf8TempDir::new().unwrap();
        let directory = ClusterDirectory::new(temp.path(), "default").unwrap();
        let tokens = Tokens { operator: "o".into(), sled: "s".into(), coordinator: "c".into() };
        let mut record = ClusterRecord::new("default", ClusterNumber::new(2).unwrap(), tokens, "bin".into());
        let node = |name: &str, role, address: &str| Node {
            name: name.to_owned(),
            role,
            address: address.parse().unwrap(),
            sled_id: None,
            disks: Vec::new(),
            process: None,
            intent: Intent::Stop,
        };
        record.nodes.push(node("nexus-1", Role::Coordinator, "127.0.2.251"));
        record.nodes.push(node("sled-a", Role::Sled, "127.0.2.1"));
        record.extra.agent = toml::from_str("[log]\nfilter = \"debug\"\n[more]\nkey = 1").unwrap();
        write_node(&directory, &record, &record.nodes[1]).unwrap();
        let written: Table =
            toml::from_str(&fs::read_to_string(directory.config_file("sled-a")).unwrap()).unwrap();
        assert_eq!(written["address"].as_str(), Some("127.0.2.1"));
        assert_eq!(written["coordinators"][0].as_str(), Some("http://127.0.2.251:12221"));
        assert_eq!(written["m2"][1]["name"].as_str(), Some("m2-1"));
        assert!(Utf8Path::new(written["m2"][1]["dir"].as_str().unwrap()).is_dir());
        assert_eq!(written["log"]["filter"].as_str(), Some("debug"));
        assert_eq!(written["log"]["format"].as_str(), Some("json"));
        assert_eq!(written["more"]["key"].as_integer(), Some(1));
        assert_eq!(written["testing"]["faults"].as_bool(), Some(true));
    }
}
