//! Background tasks in numbers for `/metrics`, read from the driver's own record at each scrape. A pass that was cut off by
//! its time limit is in that record like any other; numbers that the pass itself reports would be lost with it.

use http_edge::Metrics;
use nexus_client::tasks::BackgroundTask;
use nexus_tasks::Driver;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
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
        let tasks = self.tasks.tasks();
        let help = "Passes that have ended, those cut off by their time limit among the failed.";
        let mut passes =
            encoder.encode_descriptor("background_task_passes", help, None, MetricType::Counter)?;
        for task in &tasks {
            for (result, count) in [("succeeded", task.succeeded), ("failed", task.failed)] {
                let labels = [("task", task.name.as_str()), ("result", result)];
                ConstCounter::new(count).encode(passes.encode_family(&labels)?)?;
            }
        }
        let help = "How long the last pass took that has ended.";
        let (name, unit) = ("background_task_last_pass", Some(&Unit::Seconds));
        let mut last = encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?;
        for (task, seconds) in tasks.iter().filter_map(last_pass) {
            ConstGauge::new(seconds).encode(last.encode_family(&[("task", task)])?)?;
        }
        Ok(())
    }
}

fn last_pass(task: &BackgroundTask) -> Option<(&str, f64)> {
    task.last.as_ref().map(|pass| (task.name.as_str(), pass.duration_seconds))
}
