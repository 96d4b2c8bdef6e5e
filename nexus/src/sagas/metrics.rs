//! Sagas in numbers for `/metrics`, read at each scrape from what the engine and recovery know.

use super::Sagas;
use http_edge::Metrics;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};
use std::fmt;

/// Reads the engine.
#[derive(Debug)]
struct SagaMetrics {
    sagas: Sagas,
}

/// Registers the metrics of these sagas.
pub fn register(metrics: &Metrics, sagas: Sagas) {
    metrics.register(|registry| registry.register_collector(Box::new(SagaMetrics { sagas })));
}

impl Collector for SagaMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let totals = self.sagas.claims.totals();
        let counters = [
            ("started", "Sagas that were begun by this coordinator.", totals.started),
            ("recovered", "Sagas that this coordinator went on with.", totals.recovered),
            ("finished", "Sagas that this coordinator has brought to their ends.", totals.finished),
            ("given_up", "Sagas that were not created after all.", totals.given_up),
            ("fenced", "Sagas that another coordinator has taken over.", totals.fenced),
            ("lost", "Sagas that their executor has lost: a defect.", totals.missing + totals.bad_state),
            ("resume_failures", "Attempts to go on with a saga that failed.", totals.failures),
        ];
        for (name, help, count) in counters {
            let name = format!("sagas_{name}");
            let metric = encoder.encode_descriptor(&name, help, None, MetricType::Counter)?;
            ConstCounter::new(count).encode(metric)?;
        }
        let troubled = self.sagas.engine.troubled();
        let attention = troubled.iter().filter(|saga| !saga.attention.is_empty()).count() as u64;
        let blocked = troubled.iter().filter(|saga| saga.blocked.is_some()).count() as u64;
        let unreadable = self.sagas.recovered.unreadable().count();
        let gauges = [
            ("running", "Sagas that this coordinator executes now.", totals.running),
            ("needing_attention", "Of these, those that wait for an operator.", attention),
            ("waiting_for_database", "Of these, those that wait for the database.", blocked),
            (
                "unreadable",
                "Unfinished sagas of which something cannot be read, at the last pass.",
                unreadable,
            ),
        ];
        for (name, help, count) in gauges {
            let name = format!("sagas_{name}");
            let metric = encoder.encode_descriptor(&name, help, None, MetricType::Gauge)?;
            ConstGauge::new(count as f64).encode(metric)?;
        }
        Ok(())
    }
}
