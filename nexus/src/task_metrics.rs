//! Background tasks in numbers for `/metrics`, read from the driver's own record at each scrape. A pass that was cut off by
//! its time limit is in that record like any other; numbers that the pass itself reports would be lost with it.

use http_edge::Metrics;
use nexus_client::tasks::PassOutcome;
use nexus_tasks::{Driver, Figures};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Unit,
};
use std::{fmt, sync::Arc};

/// Reads the driver.
#[derive(Debug)]
struct TaskMetrics {
    tasks: Arc<Driver>,
}

/// Registers the metrics of these tasks.
pub fn register(metrics: &Metrics, tasks: Arc<Driver>) {
    metrics.register(|registry| registry.register_collector(Box::new(TaskMetrics { tasks })));
}

impl Collector for TaskMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let tasks = self.tasks.figures();
        passes(&tasks, &mut encoder)?;
        durations(&tasks, &mut encoder)?;
        let word = |yes: bool| Some(f64::from(u8::from(yes)));
        Gauge::of("running", "Whether a pass runs now.")
            .encode(&mut encoder, &tasks, |task| word(task.running))?;
        Gauge::of("paused", "Whether the task is paused.")
            .encode(&mut encoder, &tasks, |task| word(task.paused))?;
        Gauge::of("failed_in_a_row", "Passes that failed since the last one that ended well.").encode(
            &mut encoder,
            &tasks,
            |task| Some(task.failed_in_a_row as f64),
        )?;
        Gauge::of("last_pass", "How long the last pass took that has ended.").seconds().encode(
            &mut encoder,
            &tasks,
            |task| task.last_pass_seconds,
        )?;
        Gauge::of("last_success_timestamp", "When the last pass ended that ended well, in Unix time.")
            .seconds()
            .encode(&mut encoder, &tasks, |task| {
                task.last_success_at.map(|at| at.as_millisecond() as f64 / 1e3)
            })
    }
}

fn passes(tasks: &[Figures], encoder: &mut DescriptorEncoder) -> Result<(), fmt::Error> {
    let help = "Passes that have ended, by the way in which they ended.";
    let mut metric = encoder.encode_descriptor("background_task_passes", help, None, MetricType::Counter)?;
    for task in tasks {
        for outcome in PassOutcome::ALL {
            let labels = [("task", task.name), ("result", outcome.word())];
            let count = ConstCounter::new(task.totals.ended(outcome));
            count.encode(metric.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

fn durations(tasks: &[Figures], encoder: &mut DescriptorEncoder) -> Result<(), fmt::Error> {
    let help = "How long passes took that have ended.";
    let (name, unit) = ("background_task_pass_duration", Some(&Unit::Seconds));
    let mut metric = encoder.encode_descriptor(name, help, unit, MetricType::Histogram)?;
    for task in tasks {
        let labels = [("task", task.name)];
        let mut family = metric.encode_family(&labels)?;
        let totals = &task.totals;
        family.encode_histogram::<NoLabelSet>(
            totals.seconds(),
            totals.passes(),
            &totals.durations(),
            None,
        )?;
    }
    Ok(())
}

/// One number of each task.
struct Gauge {
    name: String,
    help: &'static str,
    unit: Option<Unit>,
}

impl Gauge {
    fn of(name: &str, help: &'static str) -> Gauge {
        Gauge { name: format!("background_task_{name}"), help, unit: None }
    }

    fn seconds(self) -> Gauge {
        Gauge { unit: Some(Unit::Seconds), ..self }
    }

    fn encode(
        &self,
        encoder: &mut DescriptorEncoder,
        tasks: &[Figures],
        number: impl Fn(&Figures) -> Option<f64>,
    ) -> Result<(), fmt::Error> {
        let (name, unit) = (self.name.as_str(), self.unit.as_ref());
        let mut metric = encoder.encode_descriptor(name, self.help, unit, MetricType::Gauge)?;
        for task in tasks {
            if let Some(number) = number(task) {
                ConstGauge::new(number).encode(metric.encode_family(&[("task", task.name)])?)?;
            }
        }
        Ok(())
    }
}
