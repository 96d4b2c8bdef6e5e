//! What every test here starts from: a cluster of real processes, one publisher that it trusts, and small releases.
//! Owns starting, uploading and holding; what is true afterwards is `proof`'s to find out.

use crate::chosen_database::on_chosen_database;
use camino::{Utf8Path, Utf8PathBuf};
use camino_tempfile::Utf8TempDir;
use futures::{StreamExt, stream::FuturesUnordered};
use ids::{ArtifactHash, Generation};
use nexus_client::{
    ClientError, OperatorClient, UploadOptions,
    releases::UploadResult,
    replication::{Replication, ReplicationSled},
    system::SystemStatus,
};
use sample_release::{Keys, MadeRelease, SampleRelease};
use sled_client::{DepotClient, SledClient, artifacts::ArtifactsList};
use std::{fs, ops::Deref, time::Duration};
use testbed::{
    Cluster, ClusterBuilder, DiskFault, DiskName, FaultClient, KillScope, OwnedCluster, names::M2_NAMES,
    wait_for,
};
use tokio::{task::JoinHandle, time::timeout};
use tokio_util::io::ReaderStream;

/// Far longer than anything here takes, also on a machine that does much else: hanging is the failure.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// The one coordinator.
pub(crate) const COORDINATOR: &str = "nexus-1";

/// Bytes of an artifact that travels in several pieces.
pub(crate) const LARGE: u64 = 2 << 20;

/// A cluster with all its sleds in service, and a publisher whose root it trusts.
pub(crate) struct Scene {
    cluster: OwnedCluster,
    operator: OperatorClient,
    keys: Keys,
    temp: Utf8TempDir,
}

impl Deref for Scene {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        &self.cluster
    }
}

impl Scene {
    /// So many sleds, all in service, under the default rules.
    pub(crate) async fn start(sleds: usize) -> Scene {
        Scene::with(|builder| builder.sleds(sleds)).await
    }

    /// A cluster that is built in another way than by default.
    pub(crate) async fn with(build: impl FnOnce(ClusterBuilder) -> ClusterBuilder) -> Scene {
        let temp = Utf8TempDir::new().expect("a directory for the test");
        let builder = build(on_chosen_database(ClusterBuilder::new(temp.path()).name("depot")));
        let cluster = builder.start().await.expect("the cluster starts");
        cluster.wait_in_service().await.expect("the sleds come into service");
        let operator = cluster.operator().expect("the coordinator has an address");
        let scene = Scene { cluster, operator, keys: Keys::generate().expect("randomness"), temp };
        let root = scene.release("0.0.0", &[("root-bearer", 1)]).root_json;
        scene.operator.trust_root_add(root).await.expect("the root is good");
        scene
    }

    /// Calls the coordinator.
    pub(crate) fn operator(&self) -> &OperatorClient {
        &self.operator
    }

    /// A signed release of these artifacts. The same name with the same size is the same artifact in every release.
    pub(crate) fn release(&self, version: &str, artifacts: &[(&str, u64)]) -> MadeRelease {
        let mut release = SampleRelease::new(version);
        for (name, size) in artifacts {
            release = release.seeded(name, "1.0.0", "file", *size, false);
        }
        self.make(&release)
    }

    /// Makes a release, signed by the publisher.
    pub(crate) fn make(&self, release: &SampleRelease) -> MadeRelease {
        let path = self.temp.path().join(format!("{}.zip", release.system_version()));
        release.make(&self.keys, &path).expect("the release is made")
    }

    /// Uploads a release; what the coordinator acknowledged.
    pub(crate) async fn upload(&self, release: &MadeRelease) -> UploadResult {
        let upload = self.begin_upload(release, UploadOptions::default());
        let answer = timeout(LIMIT, upload).await.expect("the upload is answered in time");
        answer.expect("the upload does not panic").expect("the upload is taken in")
    }

    /// Starts an upload that goes on by itself.
    pub(crate) fn begin_upload(
        &self,
        release: &MadeRelease,
        options: UploadOptions,
    ) -> JoinHandle<Result<UploadResult, ClientError>> {
        let (operator, path, size) = (self.operator.clone(), release.path.clone(), release.zip_bytes);
        tokio::spawn(async move {
            let file = tokio::fs::File::open(&path).await.expect("the release is there");
            operator.upload(&options, size, ReaderStream::new(file)).await
        })
    }

    /// Calls a sled.
    pub(crate) fn agent(&self, who: &str) -> SledClient {
        self.cluster.sled(who).expect("the sled is known")
    }

    /// What a sled says it holds.
    pub(crate) async fn listing(&self, who: &str) -> ArtifactsList {
        self.agent(who).artifacts().await.expect("the sled answers")
    }

    /// Reads from a sled.
    pub(crate) fn depot_of(&self, who: &str) -> DepotClient {
        self.cluster.depot(who).expect("the sled is known")
    }

    /// The cluster in one answer.
    pub(crate) async fn system(&self) -> SystemStatus {
        self.operator.status().await.expect("the coordinator answers")
    }

    /// The generation of the wanted set.
    pub(crate) async fn generation(&self) -> Generation {
        self.matrix().await.generation
    }

    /// Where replication stands, as the coordinator sees it.
    pub(crate) async fn matrix(&self) -> Replication {
        self.operator.replication().await.expect("the coordinator answers")
    }

    /// One sled's column of the matrix, once it is as `wanted` says.
    pub(crate) async fn column(
        &self,
        who: &str,
        what: &str,
        wanted: impl Fn(&ReplicationSled) -> bool,
    ) -> ReplicationSled {
        self.wait(what, async || {
            let matrix = self.operator.replication().await.map_err(|error| error.to_string())?;
            let column = matrix.sleds.into_iter().find(|sled| sled.name == who);
            let column = column.ok_or_else(|| format!("{who} is not there"))?;
            if wanted(&column) { Ok(column) } else { Err(format!("{column:?}")) }
        })
        .await
    }

    /// Waits for something, at most [`LIMIT`].
    pub(crate) async fn wait<T>(&self, what: &str, look: impl AsyncFnMut() -> Result<T, String>) -> T {
        wait_for(what, LIMIT, look).await.expect("it happens in time")
    }

    /// The process's fault socket.
    pub(crate) fn faults(&self, who: &str) -> FaultClient {
        self.fault_client(who).expect("the process is known")
    }

    /// Holds whoever reaches the point, after `after` passes.
    pub(crate) async fn hold(&self, who: &str, point: &str, after: u64) {
        self.faults(who).hold(point, after).await.expect("the process takes the hold");
    }

    /// Holds whoever reaches the point in any sled.
    pub(crate) async fn hold_sleds(&self, point: &str, after: u64) {
        for who in self.sled_names() {
            self.hold(&who, point, after).await;
        }
    }

    /// Returns when somebody is held there.
    pub(crate) async fn held(&self, who: &str, point: &str) {
        let faults = self.faults(who);
        let held = timeout(LIMIT, faults.wait_held(point)).await;
        held.unwrap_or_else(|_| panic!("nobody came to {point} in {who}")).expect("the hold is set");
    }

    /// The first sled in which somebody is held there.
    pub(crate) async fn held_in_some_sled(&self, point: &str) -> String {
        let mut waits: FuturesUnordered<_> = self
            .sled_names()
            .into_iter()
            .map(|who| async move {
                self.held(&who, point).await;
                who
            })
            .collect();
        waits.next().await.expect("there are sleds")
    }

    /// Lets everybody who is held there go on, and nobody be held any more.
    pub(crate) async fn free(&self, who: &str, point: &str) {
        self.faults(who).release(point).await.expect("the hold was set");
    }

    /// The same in these sleds.
    pub(crate) async fn free_sleds(&self, sleds: &[String], point: &str) {
        for who in sleds {
            self.free(who, point).await;
        }
    }

    /// SIGKILL.
    pub(crate) async fn kill(&self, who: &str) {
        self.cluster.kill(who, KillScope::WholeSled).await.expect("it was running");
    }

    /// Starts what was killed or stopped; returns when it serves.
    pub(crate) async fn restart(&self, who: &str) {
        self.cluster.restart(who).await.expect("it starts");
    }

    /// Faults or heals an M.2, named `sled-a/m2-0`.
    pub(crate) async fn fault(&self, disk: &str, fault: DiskFault) -> serde_json::Value {
        let disk = DiskName::parse(disk).expect("a disk's name");
        self.disk_fault(&disk, fault).await.expect("the sled takes the fault")
    }

    /// Gives the sled's M.2s new, empty disks. It must not run.
    pub(crate) fn replace_m2s(&self, who: &str) {
        for m2 in M2_NAMES {
            replace(&self.directory().m2_dir(who, m2));
        }
    }

    /// Every sled's name.
    pub(crate) fn sled_names(&self) -> Vec<String> {
        let environment = self.environment().expect("the record is there");
        environment.sleds.into_iter().map(|sled| sled.name).collect()
    }

    /// Every sled's name but this one's.
    pub(crate) fn sleds_but(&self, who: &str) -> Vec<String> {
        self.sled_names().into_iter().filter(|name| name != who).collect()
    }

    /// The coordinator's staging directory.
    pub(crate) fn staging_dir(&self) -> Utf8PathBuf {
        self.directory().state_dir(COORDINATOR).join("staging")
    }

    /// The file of an artifact on an M.2.
    pub(crate) fn artifact_file(&self, who: &str, m2: &str, hash: &ArtifactHash) -> Utf8PathBuf {
        self.directory().m2_dir(who, m2).join("artifacts").join(hash.to_string())
    }
}

/// As if the disk that is mounted there had been replaced by a new one.
pub(crate) fn replace(directory: &Utf8Path) {
    fs::remove_dir_all(directory).expect("the old disk is there");
    fs::create_dir(directory).expect("there is room for a new one");
}
