//! The clusters that tests play on. Owns starting them and knowing their addresses and tokens.
//!
//! One stage is shared by all tests that leave a cluster as it was: the first to ask starts it, the last to let go ends
//! it. It has one sled with a release on it, and refuses expired metadata. Everybody else gets a stage of their own.

use crate::call::{Api, Reply};
use camino::{Utf8Path, Utf8PathBuf};
use camino_tempfile::Utf8TempDir;
use sample_release::{Defect, Keys, MadeRelease, SampleRelease};
use serde_json::Value;
use std::{
    io,
    sync::{Arc, Weak},
    time::Duration,
};
use testbed::{ClusterBuilder, OwnedCluster, Tokens, wait_for};
use tokio::sync::Mutex;

/// Far longer than anything here takes, also on a machine that does much else: hanging is the failure.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// A cluster, and the publisher whose root it trusts.
pub(crate) struct Stage {
    pub(crate) cluster: OwnedCluster,
    pub(crate) operator: Api,
    pub(crate) internal: Api,
    pub(crate) tokens: Tokens,
    pub(crate) keys: Keys,
    /// The trust root's id.
    pub(crate) root_id: String,
    temp: Utf8TempDir,
}

/// The release on the shared stage.
pub(crate) const SHARED_VERSION: &str = "1.0.0";

static SHARED: Mutex<Weak<Stage>> = Mutex::const_new(Weak::new());

impl Stage {
    /// The stage of everybody who changes nothing: one sled, [`SHARED_VERSION`] on it.
    pub(crate) async fn shared() -> Arc<Stage> {
        let mut shared = SHARED.lock().await;
        if let Some(stage) = shared.upgrade() {
            return stage;
        }
        let stage = Stage::with(|builder| builder.sleds(1).nexus_config(toml("tuf.expiry = 'deny'"))).await;
        let release = stage.make(&SampleRelease::small(SHARED_VERSION));
        assert_eq!(stage.upload(&release, "").await.status, 201);
        stage.cluster.wait_replicated(&mut |_| {}).await.expect("the release reaches the sled");
        let stage = Arc::new(stage);
        *shared = Arc::downgrade(&stage);
        stage
    }

    /// A stage of one's own.
    pub(crate) async fn with(build: impl FnOnce(ClusterBuilder) -> ClusterBuilder) -> Stage {
        let temp = Utf8TempDir::new().expect("a directory for the test");
        let cluster = build(ClusterBuilder::new(temp.path()).name("api")).start().await.expect("it starts");
        let tokens = cluster.record().expect("it is recorded").tokens;
        let environment = cluster.environment().expect("it is recorded");
        let operator = Api::at(&environment.nexus[0].url, Some(&tokens.operator)).await;
        let internal = Api::at(&environment.nexus[0].internal_url, Some(&tokens.sled)).await;
        let keys = Keys::generate().expect("randomness");
        let mut stage = Stage { cluster, operator, internal, tokens, keys, root_id: String::new(), temp };
        let added = stage.operator.post("/v1/trust-roots", stage.root_json()).await;
        stage.root_id = added.ok()["id"].as_str().expect("an id").to_owned();
        stage
    }

    /// A sled that belongs to nobody: the test plays its coordinator.
    pub(crate) async fn lone_sled(build: impl FnOnce(ClusterBuilder) -> ClusterBuilder) -> Stage {
        Stage::with(|builder| build(builder.sleds(1).agent_config(toml("coordinators = []")))).await
    }

    /// Nothing but a coordinator.
    pub(crate) async fn coordinator(config: &str) -> Stage {
        Stage::with(|builder| builder.sleds(0).nexus_config(toml(config))).await
    }

    /// The sled's API, called as the coordinator.
    pub(crate) async fn sled(&self) -> Api {
        let environment = self.cluster.environment().expect("it is recorded");
        Api::at(&environment.sleds[0].agent_url, Some(&self.tokens.coordinator)).await
    }

    /// The sled's depot.
    pub(crate) async fn depot(&self) -> Api {
        Api::at(&self.cluster.environment().expect("it is recorded").sleds[0].depot_url, None).await
    }

    /// The publisher's trust root.
    pub(crate) fn root_json(&self) -> Vec<u8> {
        self.make(&SampleRelease::small("0.0.0")).root_json
    }

    /// Makes a release, signed by the publisher.
    pub(crate) fn make(&self, release: &SampleRelease) -> MadeRelease {
        let file = self.temp.path().join(format!("{}.zip", uuid::Uuid::new_v4()));
        release.make(&self.keys, &file).expect("the release is made")
    }

    /// Makes a small release with these defects.
    pub(crate) fn broken(&self, version: &str, defects: &[Defect]) -> MadeRelease {
        let release = SampleRelease::small(version);
        self.make(&defects.iter().fold(release, |release, defect| release.with_defect(*defect)))
    }

    /// Uploads a release with a query such as `?system_version=1.0.0`.
    pub(crate) async fn upload(&self, release: &MadeRelease, query: &str) -> Reply {
        let bytes = std::fs::read(&release.path).expect("the release is there");
        self.operator.put(&format!("/v1/repositories{query}"), bytes).await
    }

    /// The coordinator's staging directory.
    pub(crate) fn staging_dir(&self) -> Utf8PathBuf {
        self.cluster.directory().state_dir("nexus-1").join("staging")
    }

    /// Names of the files in the staging directory.
    pub(crate) fn staged_files(&self) -> Vec<String> {
        let entries = self.staging_dir().read_dir_utf8().expect("it is there");
        entries.map(|entry| entry.expect("it can be listed").file_name().to_owned()).collect()
    }

    /// Waits until nothing is staged.
    pub(crate) async fn wait_unstaged(&self) {
        let look = async || match self.staged_files() {
            files if files.is_empty() => Ok(()),
            files => Err(files.join(", ")),
        };
        wait_for("the staging directory to be empty", LIMIT, look).await.expect("nothing is kept");
    }

    /// Everything that a refused upload must leave alone.
    pub(crate) async fn standing(&self) -> Standing {
        let mut listed = Vec::new();
        for path in ["/v1/repositories", "/v1/artifacts", "/v1/trust-roots"] {
            listed.push(self.operator.get(path).await.ok());
        }
        let replication = self.operator.get("/v1/replication").await.ok();
        let state_dir = self.cluster.directory().state_dir("nexus-1");
        Standing {
            generation: replication["generation"].as_u64().expect("a number"),
            listed,
            state_bytes: bytes_below(&state_dir),
            staged: self.staged_files(),
        }
    }
}

/// What a cluster is made of, as far as uploads change it.
#[derive(Debug, PartialEq)]
pub(crate) struct Standing {
    pub(crate) generation: u64,
    pub(crate) listed: Vec<Value>,
    pub(crate) state_bytes: u64,
    pub(crate) staged: Vec<String>,
}

/// Bytes of all files below a directory, which is there. What its process removes while this looks has none.
pub(crate) fn bytes_below(directory: &Utf8Path) -> u64 {
    let bytes = try_bytes_below(directory);
    bytes.unwrap_or_else(|error| panic!("looking below {directory}: {error}"))
}

fn try_bytes_below(directory: &Utf8Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in directory.read_dir_utf8()? {
        let entry = entry?;
        let below = match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => try_bytes_below(entry.path()),
            other => other.map(|metadata| metadata.len()),
        };
        bytes += match below {
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            other => other?,
        };
    }
    Ok(bytes)
}

/// A config to lay over the generated one; dotted keys make tables.
pub(crate) fn toml(text: &str) -> toml::Table {
    toml::from_str(text).expect("the test's own TOML")
}
