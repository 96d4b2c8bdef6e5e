//! The agent's config file. Unknown keys are refused with line and hint.

use camino::Utf8PathBuf;
use daemon::log::LogSettings;
use serde::Deserialize;
use std::{
    net::{IpAddr, SocketAddr},
    num::NonZeroU64,
};

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
    pub coordinators: Vec<String>,
    /// The M.2 datasets, in the order in which they are read.
    pub m2: Vec<M2Settings>,
    /// Tokens.
    pub auth: AuthSettings,
    /// How to log.
    #[serde(default)]
    pub log: LogSettings,
    /// The artifact store.
    #[serde(default)]
    pub artifacts: ArtifactSettings,
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
}

impl Default for ArtifactSettings {
    fn default() -> Self {
        ArtifactSettings {
            artifact_bytes_max: 64 << 30,
            copies_at_once: 4,
            trash_grace_secs: 600,
            scrub_bytes_per_second: None,
        }
    }
}

/// For tests only.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TestingSettings {
    /// Opens `<state_dir>/faults.sock`, through which a test holds the process at named points and faults its disks.
    pub faults: bool,
}

impl Config {
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
