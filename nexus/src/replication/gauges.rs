//! Replication in numbers for `/metrics`, set by each pass from the plan's summary as soon as the plan is made.
//!
//! Numbers whose labels come and go (the M.2s) are one list that a pass replaces as a whole, read at each scrape: a scrape
//! sees all of them or, before the first pass, none, never a list that is being filled.

use http_edge::Metrics;
use nexus_client::sleds::{M2, M2Health};
use nexus_replication::Summary;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::Counter, family::Family, gauge::ConstGauge, gauge::Gauge},
    registry::Unit,
};
use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

type ByState = Family<[(&'static str, &'static str); 1], Gauge>;

/// Every M.2 by its sled's name and its own. Sleds are named by operators, so that two can have the same name; a scrape
/// with the same labels twice would be refused as a whole.
type M2s = BTreeMap<(String, String), M2>;

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
    m2s: M2Gauges,
}

/// What the last pass knew of the M.2s. Clones share it.
#[derive(Clone, Debug, Default)]
struct M2Gauges {
    last: Arc<Mutex<Arc<M2s>>>,
}

impl M2Gauges {
    fn replace(&self, m2s: M2s) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(m2s);
    }

    fn last(&self) -> Arc<M2s> {
        Arc::clone(&self.last.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Collector for M2Gauges {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let m2s = self.last();
        let healthy: fn(&M2) -> i64 = |m2| i64::from(m2.health == M2Health::Healthy);
        let capacity: fn(&M2) -> i64 = |m2| number(m2.capacity_bytes);
        let used: fn(&M2) -> i64 = |m2| number(m2.used_bytes);
        for (name, help, unit, value) in [
            ("m2_healthy", "1 if the M.2 can be read and written, as its sled said last.", None, healthy),
            (
                "m2_capacity",
                "What the M.2 can hold in all, as its sled said last.",
                Some(&Unit::Bytes),
                capacity,
            ),
            ("m2_used", "What is in use on the M.2, as its sled said last.", Some(&Unit::Bytes), used),
        ] {
            let mut family = encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?;
            for ((sled, name), m2) in m2s.iter() {
                let labels = [("sled", sled.as_str()), ("m2", name.as_str())];
                ConstGauge::new(value(m2)).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
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
            registry.register_collector(Box::new(gauges.m2s.clone()));
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
        let named = m2s.iter().map(|(sled, m2)| ((sled.clone(), m2.name.clone()), m2.clone()));
        self.m2s.replace(named.collect());
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

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::{encoding::text::encode, registry::Registry};

    fn m2(name: &str, used_bytes: u64) -> M2 {
        let json = serde_json::json!({
            "name": name, "health": "healthy", "capacity_bytes": 9, "used_bytes": used_bytes,
        });
        serde_json::from_value(json).expect("an M.2")
    }

    fn text(gauges: &Gauges) -> String {
        let (mut registry, mut text) = (Registry::default(), String::new());
        registry.register_collector(Box::new(gauges.m2s.clone()));
        encode(&mut text, &registry).expect("numbers are text");
        text
    }

    #[test]
    fn m2s_of_the_last_pass_are_shown_and_no_others_and_none_twice() {
        let gauges = Gauges::default();
        let of = |sled: &str, m2| (sled.to_owned(), m2);
        gauges.set(&Summary::default(), &[of("gone", m2("m2-0", 1))]);
        let again = [of("sled-a", m2("m2-0", 2)), of("sled-a", m2("m2-0", 3)), of("sled-a", m2("m2-1", 4))];
        gauges.set(&Summary::default(), &again);
        let text = text(&gauges);
        assert!(!text.contains("gone"), "{text}");
        for line in [
            "m2_healthy{sled=\"sled-a\",m2=\"m2-0\"} 1",
            "m2_capacity_bytes{sled=\"sled-a\",m2=\"m2-0\"} 9",
            "m2_used_bytes{sled=\"sled-a\",m2=\"m2-0\"} 3",
            "m2_used_bytes{sled=\"sled-a\",m2=\"m2-1\"} 4",
        ] {
            assert_eq!(text.lines().filter(|shown| *shown == line).count(), 1, "{line} in {text}");
        }
    }

    #[test]
    fn a_scrape_during_a_pass_sees_every_m2() {
        const M2S: usize = 64;
        let gauges = Gauges::default();
        let m2s: Vec<(String, M2)> = (0..M2S).map(|sled| (format!("sled-{sled}"), m2("m2-0", 1))).collect();
        gauges.set(&Summary::default(), &m2s);
        std::thread::scope(|scope| {
            let passes = scope.spawn(|| (0..300).for_each(|_| gauges.set(&Summary::default(), &m2s)));
            while !passes.is_finished() {
                let text = text(&gauges);
                let shown = text.lines().filter(|line| line.starts_with("m2_used_bytes{")).count();
                assert_eq!(shown, M2S, "a scrape saw a list that was being filled");
            }
        });
    }
}
