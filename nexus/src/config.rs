//! The coordinator's config file. Unknown keys are refused with line and hint.

use camino::Utf8PathBuf;
use daemon::log::LogSettings;
use http_edge::auth;
use nexus_database::{Location, LocationError};
use nexus_tasks::Settings;
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    num::NonZeroU32,
    time::Duration,
};
use thiserror::Error;

/// The whole file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The coordinator's name, for people.
    pub name: String,
    /// Where the coordinator's id, its database and its staging directory live.
    pub state_dir: Utf8PathBuf,
    /// The address that it serves on and calls sleds from.
    pub address: IpAddr,
    /// The port of the operator API; 0 lets the kernel choose.
    #[serde(default = "default_operator_port")]
    pub operator_port: u16,
    /// The port of the sled-facing API; 0 lets the kernel choose.
    #[serde(default = "default_internal_port")]
    pub internal_port: u16,
    /// Tokens.
    pub auth: AuthSettings,
    /// Where the database is.
    #[serde(default)]
    pub database: DatabaseSettings,
    /// How to log.
    #[serde(default)]
    pub log: LogSettings,
    /// Replication of artifacts.
    #[serde(default)]
    pub replication: ReplicationSettings,
    /// When background tasks run, by name. Which names there are is the registry's to say.
    #[serde(default)]
    pub tasks: BTreeMap<String, TaskSettings>,
    /// Sagas.
    #[serde(default)]
    pub sagas: SagaSettings,
    /// Uploads.
    #[serde(default)]
    pub release: ReleaseSettings,
    /// TUF policy.
    #[serde(default)]
    pub tuf: TufSettings,
    /// For tests only.
    #[serde(default)]
    pub testing: TestingSettings,
}

/// Files that hold tokens.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthSettings {
    /// Accepted from operators.
    pub operator_token_file: Utf8PathBuf,
    /// Accepted from sleds.
    pub sled_token_file: Utf8PathBuf,
    /// Sent to sleds.
    pub coordinator_token_file: Utf8PathBuf,
}

/// Where the database is.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DatabaseSettings {
    /// `sqlite`, which is `<state_dir>/nexus.db`, or `postgres://USER@HOST:PORT/DATABASE`.
    pub url: String,
    /// The file that holds PostgreSQL's password, if it asks for one.
    pub password_file: Option<Utf8PathBuf>,
}

impl Default for DatabaseSettings {
    fn default() -> Self {
        DatabaseSettings { url: "sqlite".to_owned(), password_file: None }
    }
}

/// Replication of artifacts.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReplicationSettings {
    /// Sleds that must hold verified copies before the uploaded bytes may go, and before `?wait=replicated` answers.
    pub min_replication: NonZeroU32,
    /// Seconds between two passes when nothing else activates one; `tasks.artifact_replication.period_secs` wins over it.
    pub period_secs: u32,
    /// Transfers to one sled at once.
    pub transfers_per_target: NonZeroU32,
    /// Copies from one sled at once.
    pub transfers_per_source: NonZeroU32,
    /// PUTs at once, in all.
    pub puts_total: NonZeroU32,
}

impl Default for ReplicationSettings {
    fn default() -> Self {
        let number = |n| NonZeroU32::new(n).expect("a default is not zero");
        ReplicationSettings {
            min_replication: number(3),
            period_secs: 60,
            transfers_per_target: number(4),
            transfers_per_source: number(8),
            puts_total: number(8),
        }
    }
}

impl ReplicationSettings {
    /// Time between two passes when nothing else activates one.
    #[must_use]
    pub fn period(&self) -> Duration {
        Duration::from_secs(u64::from(self.period_secs.max(1)))
    }
}

/// When one background task runs, as far as its own settings do not suit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TaskSettings {
    /// Whether the period activates it. Off, everything else still does: the start, events, dependencies, retries, people.
    pub periodic: Option<bool>,
    /// Seconds between two passes at most when nothing else activates one.
    pub period_secs: Option<NonZeroU32>,
    /// Seconds that a pass may take before it is cut off.
    pub time_limit_secs: Option<NonZeroU32>,
}

impl TaskSettings {
    /// The task's own settings, but for what is said here.
    #[must_use]
    pub fn applied_to(self, own: Settings) -> Settings {
        let seconds = |number: NonZeroU32| Duration::from_secs(u64::from(number.get()));
        Settings {
            period: self.period_secs.map_or(own.period, seconds),
            periodic: self.periodic.unwrap_or(own.periodic),
            time_limit: self.time_limit_secs.map(seconds).or(own.time_limit),
            ..own
        }
    }
}

/// Sagas.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SagaSettings {
    /// Hours for which a saga that has ended stays in the database; then it goes to the archive.
    pub keep_ended_hours: u32,
}

impl Default for SagaSettings {
    fn default() -> Self {
        SagaSettings { keep_ended_hours: 30 * 24 }
    }
}

impl SagaSettings {
    /// How long a saga that has ended stays in the database.
    #[must_use]
    pub fn keep_ended(&self) -> Duration {
        Duration::from_secs(u64::from(self.keep_ended_hours) * 3_600)
    }
}

/// Uploads.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReleaseSettings {
    /// Bytes of one upload at most.
    pub upload_bytes_max: u64,
    /// Bytes that one upload may expand to.
    pub expanded_bytes_max: u64,
    /// Bytes that all staged uploads may take together; without it, what the file system has.
    pub staging_quota_bytes: Option<u64>,
    /// Uploads at once; more are answered 429.
    pub uploads_at_once: u32,
}

impl Default for ReleaseSettings {
    fn default() -> Self {
        ReleaseSettings {
            upload_bytes_max: 16 << 30,
            expanded_bytes_max: 64 << 30,
            staging_quota_bytes: None,
            uploads_at_once: 2,
        }
    }
}

/// TUF policy.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TufSettings {
    /// What expired metadata means.
    pub expiry: Expiry,
}

/// What expired metadata means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Expiry {
    /// Accepted with a warning.
    #[default]
    Warn,
    /// Refused.
    Deny,
}

/// For tests only.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TestingSettings {
    /// Opens `<state_dir>/faults.sock`, through which a test holds the process at named points.
    pub faults: bool,
}

/// A config that can not be used, though every key of it can.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// Whoever holds the one token holds the other.
    #[error(
        "auth.{first} and auth.{second} hold the same token: give each role a token of its own, or the one may do what only the other may"
    )]
    SameToken {
        /// The one key.
        first: &'static str,
        /// The other key.
        second: &'static str,
    },
    /// There is no such database.
    #[error("database.url or database.password_file cannot be used")]
    Database(#[from] LocationError),
}

impl Config {
    /// Checks what no single key shows. A token file that cannot be read is told by the start.
    pub fn verify(&self) -> Result<(), ConfigError> {
        self.database_location()?;
        let files = [
            ("operator_token_file", &self.auth.operator_token_file),
            ("sled_token_file", &self.auth.sled_token_file),
            ("coordinator_token_file", &self.auth.coordinator_token_file),
        ];
        let mut seen: BTreeMap<String, &'static str> = BTreeMap::new();
        for (key, file) in files {
            let Ok(token) = auth::read_token_file(file) else { continue };
            if let Some(first) = seen.insert(token, key) {
                return Err(ConfigError::SameToken { first, second: key });
            }
        }
        Ok(())
    }

    /// Where the database is.
    pub fn database_location(&self) -> Result<Location, LocationError> {
        let sqlite_file = self.state_dir.join("nexus.db");
        Location::parse(&self.database.url, self.database.password_file.as_deref(), &sqlite_file)
    }

    /// Where short-lived files go; emptied at each start.
    #[must_use]
    pub fn scratch_dir(&self) -> Utf8PathBuf {
        self.state_dir.join("scratch")
    }

    /// Where the operator API listens.
    #[must_use]
    pub fn operator_address(&self) -> SocketAddr {
        SocketAddr::new(self.address, self.operator_port)
    }

    /// Where the sled-facing API listens.
    #[must_use]
    pub fn internal_address(&self) -> SocketAddr {
        SocketAddr::new(self.address, self.internal_port)
    }
}

fn default_operator_port() -> u16 {
    12220
}

fn default_internal_port() -> u16 {
    12221
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn config_says_when_a_task_runs_and_leaves_the_rest_to_the_task() {
        let own = Settings::every(Duration::from_secs(60));
        assert_eq!(TaskSettings::default().applied_to(own), own);
        let text = "periodic = false\nperiod_secs = 7\ntime_limit_secs = 9";
        let config: TaskSettings = toml::from_str(text).unwrap();
        let seconds = Duration::from_secs;
        let expected = Settings { period: seconds(7), periodic: false, time_limit: Some(seconds(9)), ..own };
        assert_eq!(config.applied_to(own), expected);
        for wrong in ["period_secs = 0", "time_limit_secs = 0", "period = 7", "periodic = 1"] {
            toml::from_str::<TaskSettings>(wrong).unwrap_err();
        }
    }
}
