//! Memory of our processes while they do the jobs, beside what they may have. Pure; owns these rows.

use super::{ours, report::Measured, subject::Role};
use crate::bench::row::{Limit, Row};

/// What the process with the Upstairs may have under full load, and a Downstairs, in MiB.
const MIB_MAX: f64 = 128.0;

/// A row for each kind of process of ours: its highest resident memory in any job. None where ours was not measured.
pub(super) fn rows(all: &[Measured]) -> Vec<Row> {
    let ours = [(Role::Ours, ""), (Role::OursEncrypted, "_enc")];
    let kinds = [
        ("upstairs_memory", ours::EXPORT, "the process with the Upstairs and the export"),
        ("downstairs_memory", ours::DISK, "the largest of the three Downstairs"),
    ];
    let both = ours.iter().flat_map(|role| kinds.iter().map(move |kind| (role, kind)));
    both.filter_map(|((role, suffix), (name, process, what))| {
        let highest: Vec<(&str, f64)> =
            all.iter().filter_map(|job| Some((job.job.name, highest(job, *role, process)?))).collect();
        let worst = highest.iter().map(|(_, mib)| *mib).max_by(f64::total_cmp)?;
        let jobs: Vec<String> = highest.iter().map(|(job, mib)| format!("{job} {mib:.0}")).collect();
        let note = format!("highest resident memory of {what}, in all jobs: {}", jobs.join(", "));
        Some(row(&format!("{name}{suffix}"), worst, note))
    })
    .collect()
}

/// Of the processes of a subject whose names begin like this, in all runs of a job.
fn highest(measured: &Measured, role: Role, process: &str) -> Option<f64> {
    let side = measured.sides.iter().find(|side| side.role == role)?;
    let all = side.runs.iter().flat_map(|run| &run.memory_mib);
    all.filter(|(name, _)| name.starts_with(process)).map(|(_, mib)| *mib).max_by(f64::total_cmp)
}

fn row(name: &str, worst: f64, note: String) -> Row {
    let limit = Limit { name: "bound".to_owned(), median: MIB_MAX };
    let mut row = Row::at_most("volume", name, "MiB", vec![worst], limit, note);
    // It is not measured alone, but with the jobs.
    row.argv = ["cargo", "xtask", "bench", "volume"].map(str::to_owned).to_vec();
    row
}
