//! What is known about a cluster, durably: `cluster.json`. Owns its shape, its lock, and its replacement as a whole;
//! what is done with processes is the cluster's business.
//!
//! ```text
//!             up                      every process ready
//!   (none) ────────► starting(owner) ─────────────────────► running(owner) ── down, Ctrl-C, owner died ──► stopped
//!     ▲                    │                      └──────► running, detached ───────── down ────────────────► │
//!     └── reset ───────────┴──────────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! Writing: `cluster.json.new` (mode 0600) → rename over `cluster.json`, under an exclusive lock on the lock file. A
//! crash before the rename leaves the old record and a file that the next write replaces; there is no other crash
//! state. Nothing is fsynced: after a power loss no process of it lives, and `reset` needs no record. What a crash
//! between a process's start and the writing of its record leaves is not in the record; to keep that window empty the
//! start happens under the lock and the record is written before the lock is given back.

use crate::{addresses::ClusterNumber, layout::ClusterDirectory, names::disk_name, process::ProcessIdentity};
use anyhow::{Context, Result, bail};
use camino::Utf8PathBuf;
use ids::{DiskId, SledId};
use jiff::Timestamp;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, fs, io, io::Write, net::IpAddr, os::unix::fs::OpenOptionsExt};

/// The shape that this code reads and writes.
const RECORD_VERSION: u32 = 1;

/// One cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterRecord {
    /// The record's shape.
    pub version: u32,
    /// The cluster's name.
    pub name: String,
    /// Which cluster on this machine it is.
    pub number: ClusterNumber,
    /// How far it is.
    pub phase: Phase,
    /// The process whose end is the cluster's end; none once detached.
    pub owner: Option<ProcessIdentity>,
    /// When `up` began.
    pub started_at: Timestamp,
    /// Where the binaries are.
    pub bin_dir: Utf8PathBuf,
    /// Sleds that must hold a release before `?wait=replicated` is answered.
    pub min_replication: u32,
    /// The tokens.
    pub tokens: Tokens,
    /// Additions to the configs.
    pub extra: ExtraConfig,
    /// The coordinators' database.
    #[serde(default)]
    pub database: DatabaseKind,
    /// Nodes that are cut off, or may be: each group from everybody else.
    #[serde(default)]
    pub partitions: Vec<BTreeSet<String>>,
    /// Coordinators, then sleds, each in the order of their addresses.
    pub nodes: Vec<Node>,
}

/// What the coordinators keep their state in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DatabaseKind {
    /// A file of each coordinator's own.
    #[default]
    Sqlite,
    /// A PostgreSQL server of the cluster's own.
    Postgres,
}

/// How far a cluster is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Processes are being started.
    Starting,
    /// Every process was ready once.
    Running,
    /// Nothing runs, and the number is given back; the directories are kept.
    Stopped,
}

/// Who may do what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tokens {
    /// Operators.
    pub operator: String,
    /// Sleds, towards coordinators.
    pub sled: String,
    /// Coordinators, towards sleds.
    pub coordinator: String,
}

/// TOML that is laid over the generated configs, key by key.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExtraConfig {
    /// Over every coordinator's.
    pub nexus: toml::Table,
    /// Over every agent's.
    pub agent: toml::Table,
    /// Bytes that each M.2 may hold; none for what the file system has.
    pub m2_quota_bytes: Option<u64>,
}

/// A sled or a coordinator.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// What it is.
    pub role: Role,
    /// Where it serves.
    pub address: IpAddr,
    /// The sled's id, once it has told it.
    pub sled_id: Option<SledId>,
    /// The sled's data disks.
    #[serde(default)]
    pub disks: Vec<DataDisk>,
    /// Its process: the one that lives, or the one that lived last.
    pub process: Option<ProcessIdentity>,
    /// What was last done with it on purpose.
    pub intent: Intent,
}

/// A data disk of a sled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataDisk {
    /// Its name: `disk-0`.
    pub name: String,
    /// Its id, which it keeps for ever.
    pub id: DiskId,
}

impl Node {
    /// One that has not run yet.
    pub(crate) fn new(name: String, role: Role, address: IpAddr) -> Node {
        Node { name, role, address, sled_id: None, disks: Vec::new(), process: None, intent: Intent::Stop }
    }

    /// Gives it data disks up to that number.
    pub(crate) fn add_disks(&mut self, disks: usize) {
        for index in self.disks.len()..disks {
            self.disks.push(DataDisk { name: disk_name(index), id: DiskId::generate() });
        }
    }
}

/// What a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// A coordinator.
    Coordinator,
    /// A sled.
    Sled,
}

/// What was last done with a process on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Intent {
    /// It was started.
    Run,
    /// It was asked to stop.
    Stop,
    /// It was killed.
    Kill,
}

impl ClusterRecord {
    /// An empty cluster that is being started.
    #[must_use]
    pub fn new(name: &str, number: ClusterNumber, tokens: Tokens, bin_dir: Utf8PathBuf) -> ClusterRecord {
        ClusterRecord {
            version: RECORD_VERSION,
            name: name.to_owned(),
            number,
            phase: Phase::Starting,
            owner: None,
            started_at: Timestamp::now(),
            bin_dir,
            min_replication: 1,
            tokens,
            extra: ExtraConfig::default(),
            database: DatabaseKind::default(),
            partitions: Vec::new(),
            nodes: Vec::new(),
        }
    }

    /// The sled or coordinator of that name; the refusal lists the known ones.
    pub fn node(&self, who: &str) -> Result<&Node> {
        self.nodes.iter().find(|node| node.name == who).ok_or_else(|| self.unknown(who))
    }

    /// The same, to be changed.
    pub fn node_mut(&mut self, who: &str) -> Result<&mut Node> {
        if self.node(who).is_err() {
            return Err(self.unknown(who));
        }
        self.nodes.iter_mut().find(|node| node.name == who).context("found just before")
    }

    /// The sled of that name; the refusal lists the known ones.
    pub fn sled(&self, who: &str) -> Result<&Node> {
        let node = self.node(who)?;
        if node.role != Role::Sled {
            let known: Vec<&str> = self.with_role(Role::Sled).map(|node| node.name.as_str()).collect();
            bail!("{who} is a coordinator, a sled was expected: {}", known.join(", "));
        }
        Ok(node)
    }

    /// Data disks that each sled has.
    #[must_use]
    pub fn disks_per_sled(&self) -> usize {
        self.with_role(Role::Sled).map(|sled| sled.disks.len()).max().unwrap_or_default()
    }

    /// All of one role.
    pub fn with_role(&self, role: Role) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(move |node| node.role == role)
    }

    /// Whether something of it lives: its owner or any of its processes.
    pub fn anything_lives(&self) -> Result<bool> {
        let identities = self.owner.iter().chain(self.nodes.iter().filter_map(|node| node.process.as_ref()));
        for identity in identities {
            if identity.lives()? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The names of all, for people.
    pub(crate) fn names(&self) -> String {
        let known: Vec<&str> = self.nodes.iter().map(|node| node.name.as_str()).collect();
        known.join(", ")
    }

    fn unknown(&self, who: &str) -> anyhow::Error {
        anyhow::anyhow!("no {who:?} in cluster {}; there is {}", self.name, self.names())
    }
}

impl ClusterDirectory {
    /// The record; none if there is no cluster.
    pub fn read_record(&self) -> Result<Option<ClusterRecord>> {
        let path = self.record_file();
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("reading {path}")),
        };
        parse(&text).with_context(|| {
            format!("{path} cannot be used; if it is of no value, remove {} by hand", self.root())
        })
    }

    /// Changes the record while nobody else does: `change` sees the present one, and what it returns is written
    /// (`None` leaves it as it is). Short: everything else waits meanwhile.
    ///
    /// The lock is the kernel's, on an open file that processes started under it let go of when they become their own
    /// program. So whoever has the lock after a crash sees every process that the crashed one started, under the name
    /// and arguments that it is known by.
    pub fn update<T>(
        &self,
        change: impl FnOnce(Option<ClusterRecord>) -> Result<(Option<ClusterRecord>, T)>,
    ) -> Result<T> {
        let lock_path = self.lock_file();
        let lock = fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .with_context(|| format!("opening {lock_path}"))?;
        flock(&lock, FlockOperation::LockExclusive).with_context(|| format!("locking {lock_path}"))?;
        let (new, outcome) = change(self.read_record()?)?;
        if let Some(record) = new {
            self.write_locked(&record)?;
        }
        Ok(outcome)
    }

    /// Writes the record from within [`update`](Self::update), for what must be known should its caller die now.
    pub(crate) fn write_locked(&self, record: &ClusterRecord) -> Result<()> {
        fs::create_dir_all(self.root()).with_context(|| format!("creating {}", self.root()))?;
        let path = self.record_file();
        let text = serde_json::to_vec_pretty(record).context("encoding the record")?;
        write_private(&path.with_extension("json.new"), &text)?;
        fs::rename(path.with_extension("json.new"), &path).with_context(|| format!("replacing {path}"))
    }
}

/// Writes a file that only its owner may read, whatever was there before.
pub(crate) fn write_private(path: &camino::Utf8Path, bytes: &[u8]) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("removing the old {path}"));
        }
        _ => {}
    }
    let mut file = fs::OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("creating {path}"))?;
    file.write_all(bytes).with_context(|| format!("writing {path}"))
}

fn parse(text: &str) -> Result<Option<ClusterRecord>> {
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    let Version { version } = serde_json::from_str(text).context("it is not a cluster's record")?;
    if version != RECORD_VERSION {
        bail!("its version is {version}, and {RECORD_VERSION} was expected: it is of another checkout");
    }
    serde_json::from_str(text).map(Some).context("it is not a cluster's record")
}

#[cfg(test)]
mod tests {
    use super::*;
    use camino_tempfile::Utf8TempDir;
    use std::os::unix::fs::PermissionsExt;

    fn record() -> ClusterRecord {
        let tokens = Tokens { operator: "o".into(), sled: "s".into(), coordinator: "c".into() };
        let mut record = ClusterRecord::new("default", ClusterNumber::new(1).unwrap(), tokens, "bin".into());
        for (name, role) in [("nexus-1", Role::Coordinator), ("sled-a", Role::Sled), ("sled-b", Role::Sled)] {
            record.nodes.push(Node {
                name: name.to_owned(),
                role,
                address: "127.0.1.1".parse().unwrap(),
                sled_id: None,
                disks: Vec::new(),
                process: None,
                intent: Intent::Stop,
            });
        }
        record
    }

    #[test]
    fn a_record_survives_and_is_private() {
        let temp = Utf8TempDir::new().unwrap();
        let directory = ClusterDirectory::new(temp.path(), "default").unwrap();
        assert_eq!(directory.read_record().unwrap(), None);
        let mut with_extra = record();
        with_extra.extra.nexus =
            toml::from_str("[release]\nupload_bytes_max = 7\nnested = { deep = [1, 2] }").unwrap();
        directory.update(|_| Ok((Some(with_extra.clone()), ()))).unwrap();
        assert_eq!(directory.read_record().unwrap(), Some(with_extra));
        let mode = fs::metadata(directory.record_file()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_failed_change_leaves_the_record_as_it_was() {
        let temp = Utf8TempDir::new().unwrap();
        let directory = ClusterDirectory::new(temp.path(), "default").unwrap();
        let record = record();
        directory.update(|_| Ok((Some(record.clone()), ()))).unwrap();
        directory.update::<()>(|_| bail!("no")).unwrap_err();
        assert_eq!(directory.read_record().unwrap(), Some(record));
    }

    #[test]
    fn records_of_another_version_and_broken_ones_are_refused_with_their_path() {
        let temp = Utf8TempDir::new().unwrap();
        let directory = ClusterDirectory::new(temp.path(), "default").unwrap();
        fs::create_dir_all(directory.root()).unwrap();
        for bad in ["", "{}", "{\"version\":99}", "{\"version\":1}", "{\"version\":1,\"name\":3}"] {
            fs::write(directory.record_file(), bad).unwrap();
            let refusal = directory.read_record().unwrap_err().to_string();
            assert!(refusal.contains("cluster.json") && refusal.contains("by hand"), "{refusal}");
        }
    }

    #[test]
    fn an_unknown_who_is_refused_with_the_known_ones() {
        let record = record();
        assert!(record.node("sled-b").is_ok());
        let refusal = record.node("sled-z").unwrap_err().to_string();
        assert!(refusal.contains("nexus-1, sled-a, sled-b"), "{refusal}");
        let refusal = record.sled("nexus-1").unwrap_err().to_string();
        assert!(refusal.contains("sled-a, sled-b"), "{refusal}");
    }

    #[test]
    fn simultaneous_changes_are_all_kept() {
        let temp = Utf8TempDir::new().unwrap();
        let directory = ClusterDirectory::new(temp.path(), "default").unwrap();
        directory.update(|_| Ok((Some(record()), ()))).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..20 {
                        directory
                            .update(|record| {
                                let mut record = record.unwrap();
                                record.min_replication += 1;
                                Ok((Some(record), ()))
                            })
                            .unwrap();
                    }
                });
            }
        });
        assert_eq!(directory.read_record().unwrap().unwrap().min_replication, 161);
    }
}
