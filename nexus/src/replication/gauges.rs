//! Replication in numbers for `/metrics`, set at the end of each pass from the plan's summary.

use http_edge::Metrics;
use nexus_replication::Summary;
use prometheus_client::metrics::{counter::Counter, family::Family, gauge::Gauge};

type ByState = Family<[(&'static str, &'static str); 1], Gauge>;

/// The metrics of replication.
#[derive(Clone, Debug, Default)]
pub struct Gauges {
    generation: Gauge,
    sleds: ByState,
    artifacts: ByState,
    fully_replicated: Gauge,
    transfers_started: Family<[(&'static str, &'static str); 1], Counter>,
    bytes_started: Counter,
    uploads_released: Counter,
}

impl Gauges {
    /// Registers the metrics.
    #[must_use]
    pub fn register(metrics: &Metrics) -> Gauges {
        let gauges = Gauges::default();
        metrics.register(|registry| {
            registry.register(
                "replication_generation",
                "Generation of the wanted set",
                gauges.generation.clone(),
            );
            registry.register(
                "replication_sleds",
                "Sleds in service by what is known of them",
                gauges.sleds.clone(),
            );
            registry.register(
                "replication_artifacts",
                "Wanted artifacts by where they stand; one can be counted in several states",
                gauges.artifacts.clone(),
            );
            registry.register(
                "replication_complete",
                "1 if every sled in service holds every wanted artifact",
                gauges.fully_replicated.clone(),
            );
            registry.register(
                "replication_transfers_started",
                "Transfers started",
                gauges.transfers_started.clone(),
            );
            registry.register(
                "replication_bytes_started",
                "Bytes of the artifacts whose transfers were started",
                gauges.bytes_started.clone(),
            );
            registry.register(
                "replication_uploads_released",
                "Staged uploads removed because enough sleds hold their artifacts",
                gauges.uploads_released.clone(),
            );
        });
        gauges
    }

    /// Takes one pass's numbers over.
    pub fn set(&self, summary: &Summary, uploads_released: u64) {
        let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        self.generation.set(number(summary.generation.0));
        let sleds = &summary.sleds;
        for (state, count) in [
            ("ready", sleds.ready),
            ("unreachable", sleds.unreachable),
            ("refusing", sleds.refusing),
            ("unknown", sleds.unknown),
        ] {
            self.sleds.get_or_create(&[("state", state)]).set(number(count));
        }
        let artifacts = &summary.artifacts;
        for (state, count) in [
            ("wanted", artifacts.wanted),
            ("on_every_sled", artifacts.on_every_sled),
            ("at_min_replication", artifacts.at_min_replication),
            ("staged_here", artifacts.staged_here),
            ("blocked", artifacts.blocked.values().sum()),
        ] {
            self.artifacts.get_or_create(&[("state", state)]).set(number(count));
        }
        self.fully_replicated.set(i64::from(summary.fully_replicated));
        let transfers = &summary.transfers;
        self.transfers_started.get_or_create(&[("kind", "put")]).inc_by(transfers.puts_started);
        self.transfers_started.get_or_create(&[("kind", "copy")]).inc_by(transfers.copies_started);
        self.bytes_started.inc_by(transfers.bytes_started);
        self.uploads_released.inc_by(uploads_released);
    }
}
