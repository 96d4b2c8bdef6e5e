//! Bringing a release onto every sled, and watching it arrive. Owns the operator's part of it; the coordinator does the
//! work.
//!
//! ```text
//!   trust the root ─► stream the zip ─► until every sled that runs is complete ─► ask the sleds themselves
//! ```

use crate::{
    cluster::Cluster,
    copies::CopiesReport,
    process::ProcessIdentity,
    record::{Node, Role},
    wait::wait_for,
};
use anyhow::{Context, Result, anyhow, bail};
use camino::Utf8Path;
use futures::StreamExt;
use ids::ArtifactHash;
use nexus_client::{
    OperatorClient, UploadOptions,
    releases::{RepositoryState, UploadResult},
    replication::{Replication, ReplicationSledState},
    sleds::{SledLiveness, SledPolicy},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tokio_util::io::ReaderStream;

/// How long sleds may take to register: they try several times a second.
const JOIN_LIMIT: Duration = Duration::from_secs(30);

/// How long replication may stand still before it is given up. An idle limit: a large release on a slow disk takes as
/// long as it takes.
const STANDSTILL_LIMIT: Duration = Duration::from_secs(120);

/// Pause between two looks at the replication.
const LOOK_PAUSE: Duration = Duration::from_millis(50);

/// How long an upload may take, its examination included: a large release on a slow disk takes many minutes, and the
/// progress shows that it moves.
const UPLOAD_LIMIT: Duration = Duration::from_secs(3600);

/// Time between two reports of the upload's progress.
const UPLOAD_REPORT_PAUSE: Duration = Duration::from_millis(100);

/// Bytes that are read from the zip at a time.
const READ_BYTES: usize = 256 * 1024;

/// How far a release is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReleaseProgress {
    /// Bytes of the zip that were handed to the coordinator.
    Uploading {
        /// So far.
        bytes: u64,
        /// In all.
        bytes_total: u64,
    },
    /// All bytes were handed over; the coordinator examines them.
    Examining,
    /// Bytes that sleds hold verified, over all sleds (one copy counts for each sled).
    Replicating {
        /// So far.
        bytes: u64,
        /// In all.
        bytes_total: u64,
        /// Sleds that have everything.
        sleds_complete: usize,
        /// Sleds that run.
        sleds: usize,
    },
}

impl Cluster {
    /// Waits until every sled that runs is in service and online.
    pub async fn wait_in_service(&self) -> Result<()> {
        let operator = self.operator()?;
        let expected: BTreeSet<String> = self.running_sleds()?.into_iter().map(|node| node.name).collect();
        wait_for("every sled to be in service", JOIN_LIMIT, async || {
            let sleds = operator.sleds().await.map_err(|error| format!("{:#}", anyhow!(error)))?;
            let in_service: BTreeSet<String> = sleds
                .into_iter()
                .filter(|sled| sled.policy == SledPolicy::InService && sled.liveness == SledLiveness::Online)
                .map(|sled| sled.name)
                .collect();
            let missing: Vec<&str> = expected.difference(&in_service).map(String::as_str).collect();
            if missing.is_empty() { Ok(()) } else { Err(format!("not yet: {}", missing.join(", "))) }
        })
        .await
    }

    /// Adds the trust root and uploads the zip; answers when the coordinator has taken it in.
    pub async fn upload_release(
        &self,
        zip: &Utf8Path,
        root_json: Vec<u8>,
        progress: &mut dyn FnMut(ReleaseProgress),
    ) -> Result<UploadResult> {
        let operator = self.operator()?;
        operator.trust_root_add(root_json).await.context("adding the trust root")?;
        let operator = self.operator_that_waits(Some(UPLOAD_LIMIT))?;
        let file = tokio::fs::File::open(zip).await.with_context(|| format!("opening {zip}"))?;
        let bytes_total = file.metadata().await.with_context(|| format!("looking at {zip}"))?.len();
        let sent = Arc::new(AtomicU64::new(0));
        let counter = sent.clone();
        let body = ReaderStream::with_capacity(file, READ_BYTES).inspect(move |chunk| {
            let bytes = chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
            counter.fetch_add(bytes, Ordering::Relaxed);
        });
        let options =
            UploadOptions { file_name: zip.file_name().map(str::to_owned), ..UploadOptions::default() };
        let mut upload = std::pin::pin!(operator.upload(&options, bytes_total, body));
        let mut ticks = interval(UPLOAD_REPORT_PAUSE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                result = &mut upload => return result.with_context(|| format!("uploading {zip}")),
                _ = ticks.tick() => progress(match sent.load(Ordering::Relaxed) {
                    bytes if bytes < bytes_total => ReleaseProgress::Uploading { bytes, bytes_total },
                    _ => ReleaseProgress::Examining,
                }),
            }
        }
    }

    /// The version of the newest release that the cluster knows.
    pub async fn newest_release(&self) -> Result<Option<String>> {
        let newest_first = self.operator()?.repositories().await.context("listing repositories")?;
        Ok(newest_first.into_iter().next().map(|repository| repository.system_version))
    }

    /// Waits until every sled that runs holds all that is wanted on every healthy M.2, as the coordinator sees it; then
    /// asks the sleds themselves. Gives up when nothing moves for two minutes, and says how things stand.
    pub async fn wait_replicated(&self, progress: &mut dyn FnMut(ReleaseProgress)) -> Result<CopiesReport> {
        let operator = self.operator()?;
        let expected: BTreeSet<String> = self.running_sleds()?.into_iter().map(|node| node.name).collect();
        let mut last_moved = Instant::now();
        let mut last_seen = None;
        loop {
            let seen = operator.replication().await.context("asking for the replication")?;
            let standing = Standing::of(&seen, &expected);
            progress(standing.progress());
            if standing.is_complete() {
                return self.count_copies().await;
            }
            let waits = standing.waits.join("; ");
            if last_seen.as_ref().is_none_or(|before| moved(before, &seen)) {
                last_moved = Instant::now();
                last_seen = Some(seen);
            } else if last_moved.elapsed() > STANDSTILL_LIMIT {
                bail!("nothing has moved for {} s; last status: {waits}", STANDSTILL_LIMIT.as_secs());
            }
            refuse_needs_upload(&operator).await?;
            sleep(LOOK_PAUSE).await;
        }
    }

    /// Asks every sled that runs which of the wanted artifacts it holds.
    pub async fn count_copies(&self) -> Result<CopiesReport> {
        let artifacts = self.operator()?.artifacts().await.context("listing artifacts")?;
        let wanted: BTreeSet<ArtifactHash> = artifacts.into_iter().map(|artifact| artifact.hash).collect();
        let mut held = BTreeMap::new();
        for node in self.running_sleds()? {
            let answer = self.sled(&node.name)?.artifacts().await;
            held.insert(node.name, answer.ok());
        }
        Ok(CopiesReport::count(&wanted, &held))
    }

    fn running_sleds(&self) -> Result<Vec<Node>> {
        let mut running = Vec::new();
        for node in self.record()?.with_role(Role::Sled) {
            if node.process.as_ref().map(ProcessIdentity::lives).transpose()? == Some(true) {
                running.push(node.clone());
            }
        }
        Ok(running)
    }
}

/// Waiting for bytes that are nowhere would be waiting for ever.
async fn refuse_needs_upload(operator: &OperatorClient) -> Result<()> {
    let repositories = operator.repositories().await.context("listing repositories")?;
    match repositories.into_iter().find(|one| one.state == RepositoryState::NeedsUpload) {
        Some(one) => bail!("release {} must be uploaded again: its bytes are nowhere", one.system_version),
        None => Ok(()),
    }
}

/// How far the expected sleds are, as the coordinator sees it.
struct Standing {
    bytes: u64,
    bytes_total: u64,
    sleds: usize,
    /// What each incomplete sled waits for.
    waits: Vec<String>,
}

impl Standing {
    fn of(seen: &Replication, expected: &BTreeSet<String>) -> Standing {
        let release_bytes: u64 = seen.artifacts.iter().map(|artifact| artifact.size).sum();
        let mut standing = Standing {
            bytes: 0,
            bytes_total: release_bytes * expected.len() as u64,
            sleds: expected.len(),
            waits: Vec::new(),
        };
        for name in expected {
            let Some(sled) = seen.sleds.iter().find(|sled| &sled.name == name) else {
                standing.waits.push(format!("{name} is not known"));
                continue;
            };
            if sled.state != ReplicationSledState::Active {
                let reason = sled.reason.as_deref().unwrap_or("no reason given");
                standing.waits.push(format!("{name} is {:?} ({reason})", sled.state));
                continue;
            }
            let target = sled.datasets_healthy.max(1);
            let mut complete = 0;
            for artifact in &seen.artifacts {
                let copies = sled.cells.get(&artifact.hash).map_or(0, |cell| cell.copies);
                standing.bytes += if copies > 0 { artifact.size } else { 0 };
                complete += usize::from(copies >= target);
            }
            if complete < seen.artifacts.len() {
                standing.waits.push(format!("{name} has {complete} of {}", seen.artifacts.len()));
            }
        }
        standing
    }

    fn is_complete(&self) -> bool {
        self.waits.is_empty()
    }

    fn progress(&self) -> ReleaseProgress {
        ReleaseProgress::Replicating {
            bytes: self.bytes,
            bytes_total: self.bytes_total,
            sleds_complete: self.sleds - self.waits.len(),
            sleds: self.sleds,
        }
    }
}

/// Whether anything but the time of looking has changed.
fn moved(before: &Replication, now: &Replication) -> bool {
    let essence = |seen: &Replication| {
        let cells = |sled: &nexus_client::replication::ReplicationSled| {
            let state = format!("{:?}", sled.state);
            (sled.name.clone(), state, sled.cells.values().cloned().collect::<Vec<_>>())
        };
        (seen.generation, seen.artifacts.len(), seen.sleds.iter().map(cells).collect::<Vec<_>>())
    };
    essence(before) != essence(now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ids::{Generation, SledId};
    use nexus_client::replication::{CellState, ReplicationArtifact, ReplicationCell, ReplicationSled};

    fn hash(number: u8) -> ArtifactHash {
        format!("{number:02x}").repeat(32).parse().expect("64 hexadecimal digits")
    }

    fn seen(sleds: &[(&str, ReplicationSledState, &[u32])]) -> Replication {
        let artifact = |number| ReplicationArtifact {
            hash: hash(number),
            name: format!("artifact-{number}"),
            version: "1.0.0".to_owned(),
            size: 100,
            staged: true,
            blocked: None,
        };
        let sled = |&(name, state, copies): &(&str, ReplicationSledState, &[u32])| ReplicationSled {
            id: SledId::generate(),
            name: name.to_owned(),
            state,
            reason: None,
            config_generation: None,
            observed_at: None,
            datasets_healthy: 2,
            m2s: Vec::new(),
            cells: (1..)
                .zip(copies)
                .map(|(number, &copies)| {
                    (
                        hash(number),
                        ReplicationCell { state: CellState::Held, copies, transfer: None, last_error: None },
                    )
                })
                .collect(),
        };
        Replication {
            generation: Generation::default(),
            artifacts: vec![artifact(1), artifact(2)],
            sleds: sleds.iter().map(sled).collect(),
            fully_replicated: false,
            artifacts_complete: 0,
        }
    }

    #[test]
    fn a_sled_is_complete_only_with_a_copy_on_every_healthy_disk() {
        let expected = ["sled-a".to_owned(), "sled-b".to_owned()].into();
        let active = ReplicationSledState::Active;
        let both =
            Standing::of(&seen(&[("sled-a", active, &[2, 2]), ("sled-b", active, &[2, 2])]), &expected);
        assert!(both.is_complete());
        let half =
            Standing::of(&seen(&[("sled-a", active, &[2, 2]), ("sled-b", active, &[2, 1])]), &expected);
        assert_eq!(half.waits, ["sled-b has 1 of 2"]);
        assert_eq!((half.bytes, half.bytes_total), (400, 400));
        let unknown = Standing::of(&seen(&[("sled-a", active, &[2, 2])]), &expected);
        assert_eq!(unknown.waits, ["sled-b is not known"]);
        let away = ReplicationSledState::Unreachable;
        let unreachable =
            Standing::of(&seen(&[("sled-a", active, &[]), ("sled-b", away, &[2, 2])]), &expected);
        assert_eq!(unreachable.waits.len(), 2);
    }

    #[test]
    fn a_look_at_another_time_is_no_movement_but_a_new_copy_is() {
        let active = ReplicationSledState::Active;
        let before = seen(&[("sled-a", active, &[1])]);
        let mut later = before.clone();
        later.sleds[0].observed_at = Some(jiff::Timestamp::UNIX_EPOCH);
        assert!(!moved(&before, &later));
        assert!(moved(&before, &seen(&[("sled-a", active, &[1, 1])])));
    }
}
