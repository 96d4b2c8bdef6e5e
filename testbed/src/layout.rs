//! Where everything of a cluster lies. Owns the paths; creates and removes nothing.
//!
//! ```text
//! target/testbed/
//!   default.lock            serialises changes of cluster.json; never removed, for whoever waits on it holds it open
//!   default/
//!     cluster.json          the record: addresses, processes, tokens (mode 0600)
//!     tokens/operator …     the same tokens, each in a file of its own, for the processes
//!     nexus-1/              config.toml · process.log · state/ (database, staging, faults.sock)
//!     sled-a/               config.toml · process.log · state/ · m2-0/ · m2-1/ · disk-0/ …
//! ```

use crate::names::check_cluster_name;
use anyhow::Result;
use camino::{Utf8Path, Utf8PathBuf};
use ids::SagaId;
use supervised_process::pantry;

/// The directory of one cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterDirectory {
    root: Utf8PathBuf,
    name: String,
}

impl ClusterDirectory {
    /// The directory of the cluster `name` among others below `parent`.
    pub fn new(parent: impl AsRef<Utf8Path>, name: &str) -> Result<ClusterDirectory> {
        check_cluster_name(name)?;
        Ok(ClusterDirectory {
            root: camino::absolute_utf8(parent.as_ref().join(name))?,
            name: name.to_owned(),
        })
    }

    /// The cluster's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The directory itself; absolute.
    #[must_use]
    pub fn root(&self) -> &Utf8Path {
        &self.root
    }

    /// The record.
    #[must_use]
    pub fn record_file(&self) -> Utf8PathBuf {
        self.root.join("cluster.json")
    }

    /// The lock on the record.
    #[must_use]
    pub fn lock_file(&self) -> Utf8PathBuf {
        self.root.with_file_name(format!("{}.lock", self.name))
    }

    /// The file of one role's token: `operator`, `sled`, `coordinator`.
    #[must_use]
    pub fn token_file(&self, role: &str) -> Utf8PathBuf {
        self.root.join("tokens").join(role)
    }

    /// The cluster's own PostgreSQL server, where it has one.
    #[must_use]
    pub fn postgres(&self) -> Utf8PathBuf {
        self.root.join("postgres")
    }

    /// Everything of one sled or coordinator.
    #[must_use]
    pub fn node(&self, who: &str) -> Utf8PathBuf {
        self.root.join(who)
    }

    /// The config that a process is started with.
    #[must_use]
    pub fn config_file(&self, who: &str) -> Utf8PathBuf {
        self.node(who).join("config.toml")
    }

    /// What a process writes to stdout and stderr, over all of its lives.
    #[must_use]
    pub fn log_file(&self, who: &str) -> Utf8PathBuf {
        self.node(who).join("process.log")
    }

    /// A process's own durable state.
    #[must_use]
    pub fn state_dir(&self, who: &str) -> Utf8PathBuf {
        self.node(who).join("state")
    }

    /// A process's fault socket.
    #[must_use]
    pub fn fault_socket(&self, who: &str) -> Utf8PathBuf {
        self.state_dir(who).join("faults.sock")
    }

    /// What a demo saga leaves at a coordinator; absent until it has left something.
    #[must_use]
    pub fn demo_effects_dir(&self, coordinator: &str, saga: SagaId) -> Utf8PathBuf {
        self.state_dir(coordinator).join("demo-effects").join(saga.to_string())
    }

    /// The fault socket of the process that serves a data disk.
    #[must_use]
    pub fn disk_fault_socket(&self, sled: &str, disk: &str) -> Utf8PathBuf {
        self.state_dir(sled).join(format!("{disk}.faults.sock"))
    }

    /// The directory that stands for one data disk of a sled.
    #[must_use]
    pub fn disk_dir(&self, sled: &str, disk: &str) -> Utf8PathBuf {
        self.node(sled).join(disk)
    }

    /// The directory that a sled's Pantry has; absent until somebody has needed that.
    #[must_use]
    pub fn pantry_dir(&self, sled: &str) -> Utf8PathBuf {
        pantry::directory(&self.state_dir(sled))
    }

    /// The directory that stands for one M.2 of a sled.
    #[must_use]
    pub fn m2_dir(&self, sled: &str, m2: &str) -> Utf8PathBuf {
        self.node(sled).join(m2)
    }
}
