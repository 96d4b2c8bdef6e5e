//! The sled's own metrics, kept current from the store's revisions.

use artifact_store::ArtifactStore;
use http_edge::Metrics;
use prometheus_client::metrics::{family::Family, gauge::Gauge};
use std::time::Duration;
use tokio::sync::watch;

/// Between two updates at least: a burst of writes is one update.
const UPDATE_INTERVAL: Duration = Duration::from_secs(1);

type PerDataset = Family<[(&'static str, String); 1], Gauge>;

/// Registers the gauges and keeps them current until `stop` turns true.
pub(crate) async fn run(store: ArtifactStore, metrics: Metrics, mut stop: watch::Receiver<bool>) {
    let artifacts: Gauge = Gauge::default();
    let orphan_bytes: Gauge = Gauge::default();
    let quarantined: Gauge = Gauge::default();
    let (used, capacity) = (PerDataset::default(), PerDataset::default());
    metrics.register(|registry| {
        registry.register("sled_artifacts", "Wanted artifacts with a verified copy", artifacts.clone());
        registry.register("sled_orphan_bytes", "Bytes that no config wants", orphan_bytes.clone());
        registry.register(
            "sled_quarantined_copies",
            "Copies that did not hash to their name",
            quarantined.clone(),
        );
        registry.register("sled_dataset_used_bytes", "Bytes in use on an M.2", used.clone());
        registry.register("sled_dataset_capacity_bytes", "Bytes that an M.2 can hold", capacity.clone());
    });
    let gauge = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    let mut revision = store.revision();
    loop {
        revision.mark_unchanged();
        let listing = store.list().await;
        artifacts.set(gauge(listing.list.len() as u64));
        orphan_bytes.set(gauge(listing.orphan_bytes));
        quarantined.set(gauge(listing.quarantined.len() as u64));
        for dataset in listing.datasets {
            let label = [("dataset", dataset.name)];
            used.get_or_create(&label).set(gauge(dataset.used));
            capacity.get_or_create(&label).set(gauge(dataset.capacity));
        }
        let changed = async {
            tokio::time::sleep(UPDATE_INTERVAL).await;
            revision.changed().await
        };
        tokio::select! {
            changed = changed => if changed.is_err() { return },
            _ = stop.wait_for(|stop| *stop) => return,
        }
    }
}
