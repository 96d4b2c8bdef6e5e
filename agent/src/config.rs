//! The agent's config file. Unknown keys are refused with line and hint, and so is a value that can never work: a name or
//! a directory that two disks share, a URL that cannot be called. What can work only some other time (a port that is in
//! use, a disk that is not there) is the start's to find out.

use api_client::{ApiClient, ClientOptions};
use camino::Utf8PathBuf;
use daemon::log::LogSettings;
use datasets::Zfs;
use ids::DiskId;
use problem::chain;
use serde::{Deserialize, Deserializer, de::Error as _};
use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    num::{NonZeroU32, NonZeroU64},
};
use thiserror::Error;

/// The whole file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The sled's name, for people. Its identity is in `state_dir`.
    pub name: String,
    /// Where the sled's id and its agent epoch live.
    pub state_dir: Utf8PathBuf,
    /// The address that it serves on and calls others from.
    pub address: IpAddr,
    /// The port of the sled API.
    #[serde(default = "default_agent_port")]
    pub agent_port: u16,
    /// The port of the repo depot.
    #[serde(default = "default_depot_port")]
    pub depot_port: u16,
    /// Base URLs of the coordinators' sled-facing APIs.
    #[serde(deserialize_with = "callable_and_distinct")]
    pub coordinators: Vec<String>,
    /// The M.2 datasets, in the order in which they are read.
    #[serde(deserialize_with = "distinct_disks")]
    pub m2: Vec<M2Settings>,
    /// The disks that hold regions.
    #[serde(default, deserialize_with = "distinct_data_disks")]
    pub disks: Vec<DiskSettings>,
    /// The Pantry.
    #[serde(default)]
    pub pantry: PantrySettings,
    /// The ports that the agent gives to the processes that it supervises.
    #[serde(default)]
    pub supervised_ports: PortRange,
    /// Tokens.
    pub auth: AuthSettings,
    /// How to log.
    #[serde(default)]
    pub log: LogSettings,
    /// The artifact store.
    #[serde(default)]
    pub artifacts: ArtifactSettings,
    /// The repo depot.
    #[serde(default)]
    pub depot: DepotSettings,
    /// For tests only.
    #[serde(default)]
    pub testing: TestingSettings,
}

/// One M.2 dataset.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct M2Settings {
    /// Its name in reports: `m2-0`.
    pub name: String,
    /// Where it is mounted. The agent never creates it: an unmounted disk must not become a directory of the root file
    /// system.
    pub dir: Utf8PathBuf,
    /// Bytes that artifacts may take; without it, what the file system has.
    #[serde(default)]
    pub quota_bytes: Option<u64>,
}

/// One disk that holds regions.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "DiskTable")]
pub struct DiskSettings {
    /// Which disk it is, whatever it is called and wherever it is mounted.
    pub id: DiskId,
    /// Its name in reports: `disk-0`.
    pub name: String,
    /// Where its datasets are. The agent neither creates nor prepares that, for the same reason as with M.2s.
    pub kind: DiskKind,
}

/// What holds a disk's datasets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DiskKind {
    /// `dir`: a directory of a mounted file system.
    Directory(Utf8PathBuf),
    /// `zfs`: a dataset of a pool, which says where it is mounted.
    Zfs(String),
}

/// As the file has it.
impl fmt::Display for DiskKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DiskKind::Directory(dir) => dir.fmt(f),
            DiskKind::Zfs(dataset) => dataset.fmt(f),
        }
    }
}

/// A disk, as the file has it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DiskTable {
    id: DiskId,
    name: String,
    dir: Option<Utf8PathBuf>,
    zfs: Option<String>,
}

impl TryFrom<DiskTable> for DiskSettings {
    type Error = String;

    fn try_from(table: DiskTable) -> Result<DiskSettings, String> {
        let DiskTable { id, name, dir, zfs } = table;
        let kind = match (dir, zfs) {
            (Some(dir), None) => DiskKind::Directory(dir),
            (None, Some(dataset)) => {
                Zfs::check_name(&dataset).map_err(|error| format!("disk {name:?}: {error}"))?;
                DiskKind::Zfs(dataset)
            }
            (Some(_), Some(_)) => {
                return Err(format!(
                    "disk {name:?} has both dir and zfs: it is a directory, or a dataset of a pool, which says itself where it is mounted"
                ));
            }
            (None, None) => {
                return Err(format!(
                    "disk {name:?} has neither dir nor zfs: say which directory it is, or which dataset of a pool"
                ));
            }
        };
        Ok(DiskSettings { id, name, kind })
    }
}

/// Ports from the first to the last.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PortRange {
    /// The first.
    pub first: u16,
    /// The last.
    pub last: u16,
}

impl PortRange {
    /// Whether a port is among them.
    #[must_use]
    pub fn has(self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }
}

impl Default for PortRange {
    fn default() -> Self {
        PortRange { first: 12400, last: 12999 }
    }
}

/// The Pantry.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PantrySettings {
    /// Whether it exports volumes over TCP, if a coordinator asks for it.
    pub tcp_exports: TcpExports,
}

/// Where volumes are exported over TCP. Such an export is not encrypted, and whoever reaches it is served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TcpExports {
    /// Nowhere.
    Off,
    /// At the sled's address, if that is a loopback address.
    #[default]
    Loopback,
    /// At the sled's address, whatever it is.
    Unencrypted,
}

/// Files that hold tokens.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthSettings {
    /// Sent to coordinators.
    pub token_file: Utf8PathBuf,
    /// Accepted from coordinators.
    pub coordinator_token_file: Utf8PathBuf,
    /// Accepted from operators.
    pub operator_token_file: Utf8PathBuf,
}

/// The artifact store.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ArtifactSettings {
    /// Bytes of one artifact at most.
    pub artifact_bytes_max: u64,
    /// Copies fetched from peers at once.
    pub copies_at_once: u32,
    /// Seconds that an unwanted artifact stays in the trash; less if its space is needed.
    pub trash_grace_secs: u32,
    /// Bytes per second that a scrub reads of each dataset; unlimited unless given.
    pub scrub_bytes_per_second: Option<NonZeroU64>,
    /// Days after which a copy is verified again, slowly and in the background.
    pub scrub_after_days: NonZeroU32,
}

impl Default for ArtifactSettings {
    fn default() -> Self {
        ArtifactSettings {
            artifact_bytes_max: 64 << 30,
            copies_at_once: 4,
            trash_grace_secs: 600,
            scrub_bytes_per_second: None,
            scrub_after_days: NonZeroU32::new(30).expect("it is not 0"),
        }
    }
}

/// The repo depot.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DepotSettings {
    /// Reads served at once; one more is answered 429.
    pub max_concurrent_reads: NonZeroU32,
    /// Of these, reads of one address at most.
    pub max_concurrent_reads_per_address: NonZeroU32,
}

impl Default for DepotSettings {
    fn default() -> Self {
        let number = |number| NonZeroU32::new(number).expect("it is not 0");
        DepotSettings { max_concurrent_reads: number(64), max_concurrent_reads_per_address: number(16) }
    }
}

/// A config that can not be used, though each of its values could.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// Both APIs would listen on one port.
    #[error("agent_port and depot_port are both {port}: each API needs a port of its own")]
    SamePort {
        /// The port.
        port: u16,
    },
    /// Supervised processes would have no port, or that of an API.
    #[error(
        "supervised_ports from {first} to {last} are none to give: first is 1 or more and not above last, and the API's port {api} is not among them"
    )]
    SupervisedPorts {
        /// The first.
        first: u16,
        /// The last.
        last: u16,
        /// An API's port.
        api: u16,
    },
    /// There are more disks than ports.
    #[error("{disks} disks need a port each, and supervised_ports has {ports}")]
    FewPorts {
        /// How many disks.
        disks: usize,
        /// How many ports.
        ports: usize,
    },
    /// A disk for artifacts holds regions, too.
    #[error("m2 {m2:?} and disk {disk:?} have the same {what}; each needs one of its own")]
    SameDisk {
        /// The M.2.
        m2: String,
        /// The disk.
        disk: String,
        /// What they share.
        what: &'static str,
    },
    /// Whoever holds the one token holds the other.
    #[error("auth.{first} and auth.{second} are the same file: each role needs a token of its own")]
    SameTokenFile {
        /// The one key.
        first: &'static str,
        /// The other key.
        second: &'static str,
    },
}

/// For tests only.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TestingSettings {
    /// Opens `<state_dir>/faults.sock`, through which a test holds the process at named points, and faults its M.2s and what it does itself on
    /// data disks; and `<state_dir>/NAME.faults.sock` for each data disk, in the process that serves it.
    pub faults: bool,
}

impl Config {
    /// Checks what no single value shows. Port 0, the kernel's choice, may stand twice.
    pub fn verify(&self) -> Result<(), ConfigError> {
        if self.agent_port == self.depot_port && self.agent_port != 0 {
            return Err(ConfigError::SamePort { port: self.agent_port });
        }
        self.verify_ports()?;
        self.verify_disks()?;
        let AuthSettings { token_file, coordinator_token_file, operator_token_file } = &self.auth;
        let files = [
            ("token_file", token_file),
            ("coordinator_token_file", coordinator_token_file),
            ("operator_token_file", operator_token_file),
        ];
        for (index, (second, file)) in files.iter().enumerate() {
            if let Some((first, _)) = files[..index].iter().find(|(_, other)| other == file) {
                return Err(ConfigError::SameTokenFile { first, second });
            }
        }
        Ok(())
    }

    fn verify_ports(&self) -> Result<(), ConfigError> {
        let PortRange { first, last } = self.supervised_ports;
        for api in [self.agent_port, self.depot_port] {
            if first == 0 || first > last || self.supervised_ports.has(api) {
                return Err(ConfigError::SupervisedPorts { first, last, api });
            }
        }
        let (disks, ports) = (self.disks.len(), usize::from(last - first) + 1);
        if disks > ports { Err(ConfigError::FewPorts { disks, ports }) } else { Ok(()) }
    }

    fn verify_disks(&self) -> Result<(), ConfigError> {
        for disk in &self.disks {
            for m2 in &self.m2 {
                let same =
                    |what| ConfigError::SameDisk { m2: m2.name.clone(), disk: disk.name.clone(), what };
                if m2.name == disk.name {
                    return Err(same("name"));
                }
                if let DiskKind::Directory(dir) = &disk.kind
                    && m2.dir.components().eq(dir.components())
                {
                    return Err(same("dir"));
                }
            }
        }
        Ok(())
    }

    /// Where the sled API listens.
    #[must_use]
    pub fn agent_address(&self) -> SocketAddr {
        SocketAddr::new(self.address, self.agent_port)
    }

    /// Where the repo depot listens.
    #[must_use]
    pub fn depot_address(&self) -> SocketAddr {
        SocketAddr::new(self.address, self.depot_port)
    }
}

fn default_agent_port() -> u16 {
    12345
}

fn default_depot_port() -> u16 {
    12348
}

/// Coordinators that can be called, each once.
fn callable_and_distinct<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let urls = Vec::<String>::deserialize(deserializer)?;
    let options = ClientOptions { token: None, source_address: None, read_idle_timeout: None };
    let mut seen: Vec<String> = Vec::new();
    for url in &urls {
        let client = ApiClient::new(url, &options).map_err(|error| D::Error::custom(chain(&error)))?;
        if seen.iter().any(|other| other == client.base_url()) {
            return Err(D::Error::custom(format!("the coordinator {url} stands twice")));
        }
        seen.push(client.base_url().to_owned());
    }
    Ok(urls)
}

/// M.2s of which each has a name and a directory of its own.
fn distinct_disks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<M2Settings>, D::Error> {
    let disks = Vec::<M2Settings>::deserialize(deserializer)?;
    distinct("m2", disks.iter().map(|disk| (&disk.name, Some(&disk.dir)))).map_err(D::Error::custom)?;
    Ok(disks)
}

/// Disks of which each has an id, a name and a directory or a dataset of its own.
fn distinct_data_disks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<DiskSettings>, D::Error> {
    let disks = Vec::<DiskSettings>::deserialize(deserializer)?;
    let dir = |disk: &'_ DiskSettings| match &disk.kind {
        DiskKind::Directory(dir) => Some(dir.clone()),
        DiskKind::Zfs(_) => None,
    };
    let dirs: Vec<_> = disks.iter().map(dir).collect();
    distinct("disk", disks.iter().map(|disk| &disk.name).zip(dirs.iter().map(Option::as_ref)))
        .map_err(D::Error::custom)?;
    for (index, disk) in disks.iter().enumerate() {
        if let Some(other) = disks[..index].iter().find(|other| share_datasets(&other.kind, &disk.kind)) {
            return Err(D::Error::custom(format!(
                "the dataset of disk {:?} is that of disk {:?}, or one has the other one in it; each needs one of its own",
                disk.name, other.name
            )));
        }
        if let Some(other) = disks[..index].iter().find(|other| other.id == disk.id) {
            let (first, second, id) = (&other.name, &disk.name, disk.id);
            return Err(D::Error::custom(format!("disks {first:?} and {second:?} have the same id {id}")));
        }
    }
    Ok(disks)
}

/// Whether both are datasets of ZFS, and one is the other, or in it.
fn share_datasets(one: &DiskKind, other: &DiskKind) -> bool {
    let (DiskKind::Zfs(one), DiskKind::Zfs(other)) = (one, other) else { return false };
    let mut parts = one.split('/').zip(other.split('/'));
    parts.all(|(one, other)| one == other)
}

/// Says what is wrong with names and directories of disks of a kind.
fn distinct<'a>(
    kind: &str,
    disks: impl Iterator<Item = (&'a String, Option<&'a Utf8PathBuf>)>,
) -> Result<(), String> {
    let mut seen: Vec<(&String, Option<&Utf8PathBuf>)> = Vec::new();
    for (name, dir) in disks {
        if name.is_empty() {
            return Err(format!("a {kind} has an empty name; names are shown in reports: \"{kind}-0\""));
        }
        if let Some(dir) = dir.filter(|dir| !dir.is_absolute()) {
            return Err(format!(
                "{kind} {name:?}: dir {dir:?} is not absolute, so it depends on where the agent starts"
            ));
        }
        for (other, others_dir) in &seen {
            if *other == name {
                return Err(format!("two {kind} have the name {name:?}"));
            }
            if let (Some(dir), Some(others_dir)) = (dir, others_dir)
                && others_dir.components().eq(dir.components())
            {
                return Err(format!(
                    "{kind} {other:?} and {name:?} have the same dir {dir:?}; each needs a disk of its own"
                ));
            }
        }
        seen.push((name, dir));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use daemon::config_file;

    const GOOD: &str = r#"
name = "sled-a"
state_dir = "/var/lib/bobsled"
address = "127.0.0.1"
coordinators = ["http://127.0.0.1:12221"]
m2 = [
  { name = "m2-0", dir = "/m2/0" },
  { name = "m2-1", dir = "/m2/1" },
]
disks = [
  { id = "0199c4a0-0000-7000-8000-000000000001", name = "disk-0", dir = "/disks/0" },
  { id = "0199c4a0-0000-7000-8000-000000000002", name = "disk-1", dir = "/disks/1" },
]
[auth]
token_file = "/etc/bobsled/sled"
coordinator_token_file = "/etc/bobsled/coordinator"
operator_token_file = "/etc/bobsled/operator"
"#;

    /// What is said of the good config with `old` replaced by `new`.
    fn refusal(old: &str, new: &str) -> String {
        let dir = camino_tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.toml");
        assert!(GOOD.contains(old), "{old}");
        std::fs::write(&path, GOOD.replacen(old, new, 1)).unwrap();
        match config_file::read::<Config>(&path) {
            Err(error) => chain(&error).replace(path.as_str(), "agent.toml"),
            Ok(config) => config.verify().map_or_else(|error| error.to_string(), |()| String::new()),
        }
    }

    #[test]
    fn a_config_that_can_never_work_is_refused_with_its_line() {
        assert_eq!(refusal("m2-1", "m2-1"), "");
        for (old, new, line, words) in [
            ("\"m2-1\"", "\"m2-0\"", "line 6", "two m2 have the name \"m2-0\""),
            ("/m2/1", "/m2/0/", "line 6", "\"m2-0\" and \"m2-1\" have the same dir"),
            ("/m2/1", "m2/1", "line 6", "not absolute"),
            ("\"m2-1\"", "\"\"", "line 6", "empty name"),
            ("http://127.0.0.1:12221", "127.0.0.1:12221", "line 5", "127.0.0.1:12221"),
            ("http://127.0.0.1:12221", "http://127.0.0.1:12221/v1", "line 5", "only scheme, host and port"),
            ("\"http://127.0.0.1:12221\"", "\"http://h:1\", \"http://h:1/\"", "line 5", "stands twice"),
            ("[auth]", "[depot]\nmax_concurrent_reads = 0\n[auth]", "line 15", "nonzero"),
            ("\"disk-1\"", "\"disk-0\"", "line 10", "two disk have the name \"disk-0\""),
            ("/disks/1", "/disks/./0", "line 10", "\"disk-0\" and \"disk-1\" have the same dir"),
            ("/disks/1", "disks/1", "line 10", "not absolute"),
            ("\"disk-1\"", "\"\"", "line 10", "empty name"),
            ("000000000002", "000000000001", "line 10", "\"disk-0\" and \"disk-1\" have the same id"),
            ("0199c4a0-0000-7000-8000-000000000002", "two", "line 12", "UUID"),
            ("dir = \"/disks/1\"", "dir = \"/disks/1\", quota_bytes = 1", "line 12", "quota_bytes"),
            (
                "dir = \"/disks/1\"",
                "dir = \"/disks/1\", zfs = \"tank/b\"",
                "line 10",
                "\"disk-1\" has both dir and zfs",
            ),
            (", dir = \"/disks/1\"", "", "line 10", "\"disk-1\" has neither dir nor zfs"),
            ("dir = \"/disks/1\"", "zfs = \"tank\"", "line 10", "\"tank\" is no name of a ZFS dataset"),
            ("dir = \"/disks/1\"", "zfs = \"-r/b\"", "line 10", "\"-r/b\" is no name of a ZFS dataset"),
            ("[auth]", "[supervised_ports]\nfirst = 1\nlast = 2\nstep = 3\n[auth]", "line 17", "step"),
        ] {
            let refusal = refusal(old, new);
            assert!(refusal.starts_with("agent.toml, line"), "{refusal}");
            assert!(refusal.contains(line) && refusal.contains(words), "{words:?} at {line}: {refusal}");
        }
    }

    #[test]
    fn a_dataset_of_a_pool_is_one_disks() {
        let dirs = "dir = \"/disks/0\" },\n  { id = \"0199c4a0-0000-7000-8000-000000000002\", name = \"disk-1\", dir = \"/disks/1\"";
        let both = |first: &str, second: &str| {
            let of_second = "{ id = \"0199c4a0-0000-7000-8000-000000000002\", name = \"disk-1\"";
            refusal(dirs, &format!("zfs = {first:?} }},\n  {of_second}, zfs = {second:?}"))
        };
        for (first, second) in [("tank/b", "tank/b"), ("tank/b", "tank/b/c"), ("tank/b/c/d", "tank/b")] {
            let refused = both(first, second);
            assert!(
                refused.contains("line 10") && refused.contains("each needs one of its own"),
                "{refused}"
            );
        }
        for (first, second) in [("tank/b", "tank/c"), ("tank/b", "pond/b"), ("tank/b", "tank/bb")] {
            assert_eq!(both(first, second), "");
        }
    }

    #[test]
    fn what_no_single_value_shows_is_refused() {
        assert!(refusal("m2 = [", "agent_port = 1\ndepot_port = 1\nm2 = [").contains("both 1"));
        assert_eq!(refusal("m2 = [", "agent_port = 0\ndepot_port = 0\nm2 = ["), "");
        for ports in ["first = 0, last = 9", "first = 9, last = 8", "first = 12348, last = 12999"] {
            let refused = refusal("[auth]", &format!("supervised_ports = {{ {ports} }}\n[auth]"));
            assert!(refused.contains("none to give"), "{refused}");
        }
        let refused = refusal("[auth]", "supervised_ports = { first = 12400, last = 12400 }\n[auth]");
        assert!(refused.contains("2 disks need a port each, and supervised_ports has 1"), "{refused}");
        assert!(refusal("\"disk-0\"", "\"m2-0\"").contains("have the same name"));
        assert!(refusal("/disks/0", "/m2/0/").contains("have the same dir"));
        assert!(refusal("/etc/bobsled/operator", "/etc/bobsled/sled").contains("same file"));
    }
}
