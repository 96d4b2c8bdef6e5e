//! Replication in numbers for `/metrics`, set by each pass from the plan's summary as soon as the plan is made.

use http_edge::Metrics;
use nexus_client::sleds::{M2, M2Health};
use nexus_replication::Summary;
use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Unit,
};

type ByState = Family<[(&'static str, &'static str); 1], Gauge>;

/// Sleds are named by operators, and a cluster has a bounded number of them.
type ByM2 = Family<[(&'static str, String); 2], Gauge>;

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
    m2_healthy: ByM2,
    m2_capacity: ByM2,
    m2_used: ByM2,
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
            registry.register(
                "m2_healthy",
                "1 if the M.2 can be read and written, as its sled said last",
                gauges.m2_healthy.clone(),
            );
            registry.register_with_unit(
                "m2_capacity",
                "What the M.2 can hold in all, as its sled said last",
                Unit::Bytes,
                gauges.m2_capacity.clone(),
            );
            registry.register_with_unit(
                "m2_used",
                "What is in use on the M.2, as its sled said last",
                Unit::Bytes,
                gauges.m2_used.clone(),
            );
        });
        gauges
    }

    /// One more upload is not needed any more.
    pub fn upload_released(&self) {
        self.uploads_released.inc();
    }

    /// Takes one pass's numbers over, with every M.2 under its sled's name.
    pub fn set(&self, summary: &Summary, m2s: &[(String, M2)]) {
        self.set_summary(summary);
        // Those of sleds that are gone must go as well.
        for family in [&self.m2_healthy, &self.m2_capacity, &self.m2_used] {
            family.clear();
        }
        for (sled, m2) in m2s {
            let labels = [("sled", sled.clone()), ("m2", m2.name.clone())];
            self.m2_healthy.get_or_create(&labels).set(i64::from(m2.health == M2Health::Healthy));
            self.m2_capacity.get_or_create(&labels).set(number(m2.capacity_bytes));
            self.m2_used.get_or_create(&labels).set(number(m2.used_bytes));
        }
    }

    fn set_summary(&self, summary: &Summary) {
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
    }
}

fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
