//! What the runs of a job amount to: medians, spreads, shares of the limit beside those that ours is to reach. Pure; owns
//! the rows as JSON and the page for people.

use super::{
    fio::Counted,
    jobs::Job,
    machine::Machine,
    repair::{self, RepairRow},
    subject::{Role, Subject},
};
use crate::bench::row::{self, Limit, Peer, Row, Samples};
use serde::Serialize;
use std::{collections::BTreeMap, fmt::Write};

/// One run of a job on one subject.
#[derive(Clone, Debug)]
pub(super) struct Run {
    pub(super) counted: Counted,
    /// Processor time of all of the subject's processes.
    pub(super) cpu_seconds: f64,
    /// Highest resident memory of each of its processes, in MiB.
    pub(super) memory_mib: BTreeMap<String, f64>,
}

/// All runs of a job.
#[derive(Debug)]
pub(super) struct Measured {
    pub(super) job: Job,
    /// Longest time of a run.
    pub(super) seconds: u32,
    pub(super) sides: Vec<Side>,
    /// One look at the machine before each round.
    pub(super) machine: Vec<Machine>,
}

/// The runs on one subject.
#[derive(Debug)]
pub(super) struct Side {
    pub(super) role: Role,
    pub(super) what: String,
    pub(super) version: String,
    pub(super) runs: Vec<Run>,
}

impl Side {
    pub(super) fn of(subject: &Subject) -> Side {
        let (what, version) = (subject.what.clone(), subject.version.clone());
        Side { role: subject.role, what, version, runs: Vec::new() }
    }
}

/// What one line of the result is about.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum VolumeRow {
    /// A job: more is better.
    Job(Box<JobRow>),
    /// Memory: less is better.
    Memory(Box<Row>),
    /// A member that is replaced, or comes back.
    Repair(Box<RepairRow>),
}

/// Whether ours is as good as it is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    Reached,
    Missed,
}

/// A row as the outside contract has it, with what explains it.
#[derive(Debug, Serialize)]
pub(crate) struct JobRow {
    name: String,
    unit: &'static str,
    /// None where only limit and peer were measured.
    ours: Option<Samples>,
    peer: Option<Peer>,
    limit: Option<Limit>,
    ratio: Option<f64>,
    /// Share of the limit.
    ratio_limit: Option<f64>,
    /// Share of the limit that ours is to reach.
    target: f64,
    /// None where ours or the limit was not measured.
    verdict: Option<Verdict>,
    argv: Vec<String>,
    note: String,
    subjects: Vec<SubjectFigures>,
    machine: MachineFigures,
}

/// All that was seen of a subject while it did the job.
#[derive(Debug, Serialize)]
struct SubjectFigures {
    role: Role,
    what: String,
    version: String,
    #[serde(flatten)]
    figures: Samples,
    /// Highest less lowest sample, over the median.
    spread: f64,
    /// Median over the limit's.
    share: Option<f64>,
    latency_mean_us: Samples,
    latency_p99_us: Samples,
    cpu_seconds: Samples,
    cpu_us_per_operation: f64,
    memory_highest_mib: BTreeMap<String, f64>,
}

/// The machine while no subject works.
#[derive(Debug, Serialize)]
pub(super) struct MachineFigures {
    busy_share: Samples,
    sequential_mib_per_second: Samples,
    fdatasync_us: Samples,
}

impl MachineFigures {
    /// Of one look at least.
    pub(super) fn of(looks: &[Machine]) -> MachineFigures {
        MachineFigures {
            busy_share: samples_of(looks, |look| look.busy_share),
            sequential_mib_per_second: samples_of(looks, |look| look.sequential_mib_per_second),
            fdatasync_us: samples_of(looks, |look| look.fdatasync_us),
        }
    }

    /// For people.
    pub(super) fn line(&self) -> String {
        let list = |samples: &Samples, unit: f64| {
            samples
                .samples
                .iter()
                .map(|sample| format!("{:.0}", sample * unit))
                .collect::<Vec<_>>()
                .join(", ")
        };
        format!(
            "the machine alone: fdatasync {} us, sequential {} MiB/s; others use {} % of its processors",
            list(&self.fdatasync_us, 1.0),
            list(&self.sequential_mib_per_second, 1.0),
            list(&self.busy_share, 100.0),
        )
    }
}

/// The rows of a job: one for ours and one for ours with encryption where they were measured, else one with what ours is
/// to stand beside.
pub(super) fn rows(measured: &Measured) -> Vec<JobRow> {
    let ours = [(Role::Ours, ""), (Role::OursEncrypted, "_enc")];
    let there: Vec<_> = ours.into_iter().filter(|(role, _)| side(measured, *role).is_some()).collect();
    if there.is_empty() {
        return vec![row(measured, None, "")];
    }
    there.into_iter().map(|(role, suffix)| row(measured, Some(role), suffix)).collect()
}

fn side(measured: &Measured, role: Role) -> Option<&Side> {
    measured.sides.iter().find(|side| side.role == role)
}

fn row(measured: &Measured, ours: Option<Role>, suffix: &str) -> JobRow {
    let job = measured.job;
    let samples = |role: Role| side(measured, role).map(|side| figures(job, side));
    let (limit, peer) = (samples(Role::Limit), side(measured, Role::Peer));
    let peer = peer.map(|side| Peer {
        name: side.what.clone(),
        version: side.version.clone(),
        samples: figures(job, side),
    });
    let own = ours.and_then(samples);
    let shown = |role: Role| matches!(role, Role::Limit | Role::Peer) || Some(role) == ours;
    let subjects = measured.sides.iter().filter(|side| shown(side.role));
    let target = if ours == Some(Role::OursEncrypted) { job.target.encrypted } else { job.target.plain };
    let share = own.as_ref().zip(limit.as_ref()).map(|(own, limit)| own.median / limit.median);
    JobRow {
        name: format!("{}{suffix}", job.name),
        unit: job.unit(),
        ratio: own.as_ref().zip(peer.as_ref()).map(|(own, peer)| own.median / peer.samples.median),
        ratio_limit: share,
        target,
        verdict: share.map(|share| if share >= target { Verdict::Reached } else { Verdict::Missed }),
        argv: ["cargo", "xtask", "bench", "volume", "--only", job.name].map(str::to_owned).to_vec(),
        note: format!("fio {}", job.fio_args(measured.seconds).join(" ")),
        subjects: subjects.map(|side| subject_figures(job, side, limit.as_ref())).collect(),
        machine: MachineFigures::of(&measured.machine),
        limit: side(measured, Role::Limit)
            .zip(limit)
            .map(|(side, samples)| Limit { name: side.what.clone(), median: samples.median }),
        ours: own,
        peer,
    }
}

/// What counts in the unit of the job.
fn figures(job: Job, side: &Side) -> Samples {
    samples_of(&side.runs, |run| figure(job, &run.counted))
}

/// One run's figure, in the unit of the job.
pub(super) fn figure(job: Job, counted: &Counted) -> f64 {
    if job.unit() == "IOPS" { counted.operations_per_second } else { counted.mib_per_second }
}

fn samples_of<T>(all: &[T], pick: impl Fn(&T) -> f64) -> Samples {
    Samples::of(all.iter().map(pick).collect())
}

fn subject_figures(job: Job, side: &Side, limit: Option<&Samples>) -> SubjectFigures {
    let figures = figures(job, side);
    let mut memory_highest_mib = BTreeMap::new();
    for (process, mib) in side.runs.iter().flat_map(|run| &run.memory_mib) {
        let highest: &mut f64 = memory_highest_mib.entry(process.clone()).or_default();
        *highest = highest.max(*mib);
    }
    SubjectFigures {
        role: side.role,
        what: side.what.clone(),
        version: side.version.clone(),
        spread: spread(&figures),
        share: limit.map(|limit| figures.median / limit.median),
        latency_mean_us: samples_of(&side.runs, |run| run.counted.latency_mean_us),
        latency_p99_us: samples_of(&side.runs, |run| run.counted.latency_p99_us),
        cpu_seconds: samples_of(&side.runs, |run| run.cpu_seconds),
        cpu_us_per_operation: samples_of(&side.runs, |run| run.cpu_seconds / run.counted.operations * 1e6)
            .median,
        memory_highest_mib,
        figures,
    }
}

/// Highest less lowest sample, over the median.
pub(super) fn spread(samples: &Samples) -> f64 {
    let lowest = samples.samples.iter().copied().fold(f64::INFINITY, f64::min);
    let highest = samples.samples.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    (highest - lowest) / samples.median
}

impl VolumeRow {
    /// Whether it is as it is to be; none if that was not measured.
    fn is_reached(&self) -> Option<bool> {
        match self {
            VolumeRow::Job(row) => row.verdict.map(|verdict| verdict == Verdict::Reached),
            VolumeRow::Memory(row) => row.ratio_limit.map(|ratio| ratio >= 1.0),
            VolumeRow::Repair(row) => row.verdict.map(|verdict| verdict == Verdict::Reached),
        }
    }

    fn name(&self) -> &str {
        match self {
            VolumeRow::Job(row) => &row.name,
            VolumeRow::Memory(row) => &row.name,
            VolumeRow::Repair(row) => row.name,
        }
    }
}

/// The rows for people, and at the end how many are as they are to be.
pub(crate) fn table(rows: &[VolumeRow]) -> String {
    let mut text = String::new();
    for row in rows {
        match row {
            VolumeRow::Job(row) => write_job(&mut text, row).expect("writing to a string succeeds"),
            VolumeRow::Memory(row) => text.push_str(&row::table(std::slice::from_ref(&**row))),
            VolumeRow::Repair(row) => text.push_str(&repair::page(row)),
        }
    }
    let missed: Vec<&str> =
        rows.iter().filter(|row| row.is_reached() == Some(false)).map(VolumeRow::name).collect();
    let measured = rows.iter().filter(|row| row.is_reached().is_some()).count();
    if measured > 0 {
        let names =
            if missed.is_empty() { String::new() } else { format!("; missed: {}", missed.join(", ")) };
        let reached = measured - missed.len();
        writeln!(text, "{reached} of {measured} are as they are to be{names}")
            .expect("writing to a string succeeds");
    }
    text
}

fn write_job(text: &mut String, row: &JobRow) -> std::fmt::Result {
    let reached = match row.ratio_limit {
        Some(share) if share >= row.target => format!("ours has {share:.2}"),
        Some(share) => format!("ours has {share:.2}: TOO LITTLE"),
        None => "not measured".to_owned(),
    };
    writeln!(text, "{}  share of the limit for ours: {:.2} or more; {reached}", row.name, row.target)?;
    for side in &row.subjects {
        let samples: Vec<String> = side.figures.samples.iter().map(|sample| format!("{sample:.0}")).collect();
        let memory: Vec<String> =
            side.memory_highest_mib.iter().map(|(process, mib)| format!("{process} {mib:.0}")).collect();
        writeln!(
            text,
            "  {:<15} {:>8.0} {:<5}  share {:<4.2}  [{}] spread {:.0} %",
            side.role.word(),
            side.figures.median,
            row.unit,
            side.share.unwrap_or(f64::NAN),
            samples.join(", "),
            side.spread * 100.0,
        )?;
        writeln!(
            text,
            "      latency {:.0} us, p99 {:.0} us; processor {:.2} s, {:.1} us per request; memory at most {} MiB",
            side.latency_mean_us.median,
            side.latency_p99_us.median,
            side.cpu_seconds.median,
            side.cpu_us_per_operation,
            memory.join(", "),
        )?;
    }
    writeln!(text, "  {}", row.machine.line())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::volume::jobs::JOBS;

    fn job(name: &str) -> Job {
        JOBS.into_iter().find(|job| job.name == name).unwrap()
    }

    fn run(figure: f64, cpu_seconds: f64, memory: f64) -> Run {
        Run {
            counted: Counted {
                mib_per_second: figure / 256.0,
                operations_per_second: figure,
                operations: figure * 5.0,
                latency_mean_us: 50.0,
                latency_p99_us: 90.0,
            },
            cpu_seconds,
            memory_mib: BTreeMap::from([("one".to_owned(), memory), ("other".to_owned(), 7.0)]),
        }
    }

    fn side(role: Role, figures: [f64; 3]) -> Side {
        let runs = figures.iter().map(|figure| run(*figure, 0.1, *figure / 100.0)).collect();
        Side { role, what: format!("a {}", role.word()), version: "1".to_owned(), runs }
    }

    fn measured(name: &str, sides: Vec<Side>) -> Measured {
        let look = Machine { busy_share: 0.02, sequential_mib_per_second: 1700.0, fdatasync_us: 65.0 };
        Measured { job: job(name), seconds: 5, sides, machine: vec![look; 3] }
    }

    fn page(rows: Vec<JobRow>) -> String {
        table(&rows.into_iter().map(|row| VolumeRow::Job(Box::new(row))).collect::<Vec<_>>())
    }

    fn all() -> Measured {
        measured(
            "randread_4k_qd1",
            vec![
                side(Role::Limit, [1100.0, 900.0, 1000.0]),
                side(Role::Peer, [300.0, 200.0, 250.0]),
                side(Role::Ours, [800.0, 100.0, 810.0]),
                side(Role::OursEncrypted, [700.0, 710.0, 720.0]),
            ],
        )
    }

    #[test]
    fn shares_are_of_medians_not_of_single_runs() {
        let rows = rows(&all());
        assert_eq!(rows[0].ratio_limit, Some(0.8));
        assert_eq!(rows[0].ratio, Some(800.0 / 250.0));
        assert_eq!(rows[1].ratio_limit, Some(0.71));
        assert_eq!(rows[0].limit.as_ref().unwrap().median, 1000.0);
        assert_eq!(rows[0].peer.as_ref().unwrap().samples.samples, [300.0, 200.0, 250.0]);
    }

    #[test]
    fn ours_and_ours_encrypted_are_rows_with_their_own_targets() {
        let rows = rows(&all());
        let told: Vec<_> =
            rows.iter().map(|row| (row.name.as_str(), row.target, row.subjects.len())).collect();
        assert_eq!(told, [("randread_4k_qd1", 0.80, 3), ("randread_4k_qd1_enc", 0.75, 3)]);
        assert_eq!(rows[1].subjects[2].role, Role::OursEncrypted);
        let page = page(rows);
        assert!(page.contains("0.80 or more; ours has 0.80\n"), "{page}");
        assert!(page.contains("0.75 or more; ours has 0.71: TOO LITTLE\n"), "{page}");
        assert!(page.ends_with("1 of 2 are as they are to be; missed: randread_4k_qd1_enc\n"), "{page}");
    }

    #[test]
    fn limit_and_peer_alone_make_a_row_that_claims_nothing_of_ours() {
        let mut measured = all();
        measured.sides.truncate(2);
        let rows = rows(&measured);
        assert_eq!(rows.len(), 1);
        assert!(rows[0].ours.is_none() && rows[0].ratio.is_none() && rows[0].ratio_limit.is_none());
        assert_eq!(rows[0].subjects[1].share, Some(0.25));
        let page = page(rows);
        assert!(page.contains("0.80 or more; not measured") && !page.contains("as they are to be"), "{page}");
    }

    #[test]
    fn spread_memory_and_processor_time_are_told_of_all_runs() {
        let rows = rows(&all());
        let limit = &rows[0].subjects[0];
        assert_eq!(limit.spread, 0.2);
        assert_eq!(
            limit.memory_highest_mib,
            BTreeMap::from([("one".to_owned(), 11.0), ("other".to_owned(), 7.0)])
        );
        assert_eq!(limit.cpu_us_per_operation, 0.1 / 5000.0 * 1e6);
    }

    #[test]
    fn what_is_bounded_of_memory_is_the_worst_of_all_jobs() {
        let mut ours = side(Role::Ours, [1.0; 3]);
        let memory = [("export", [100.0, 129.0, 90.0]), ("disk1", [30.0; 3]), ("disk2", [40.0, 20.0, 20.0])];
        for (index, run) in ours.runs.iter_mut().enumerate() {
            run.memory_mib = memory.map(|(name, mib)| (name.to_owned(), mib[index])).into();
        }
        let rows = crate::bench::volume::memory::rows(&[measured("randread_4k_qd1", vec![ours])]);
        let told: Vec<_> = rows.iter().map(|row| (row.name.as_str(), row.ours.median)).collect();
        assert_eq!(told, [("upstairs_memory", 129.0), ("downstairs_memory", 40.0)]);
        let reached: Vec<_> =
            rows.into_iter().map(|row| VolumeRow::Memory(Box::new(row)).is_reached()).collect();
        assert_eq!(reached, [Some(false), Some(true)]);
    }

    #[test]
    fn sequential_jobs_count_bytes_and_random_ones_operations() {
        for (name, median) in [("seqread_1m_qd1", 1000.0 / 256.0), ("randread_4k_qd32", 1000.0)] {
            let rows = rows(&measured(name, vec![side(Role::Limit, [1000.0; 3])]));
            assert_eq!(rows[0].limit.as_ref().unwrap().median, median);
        }
    }

    #[test]
    fn json_has_every_field_of_the_outside_contract() {
        let rows = serde_json::to_value(rows(&all())).unwrap();
        let row = rows[0].as_object().unwrap();
        for field in ["name", "unit", "ours", "peer", "limit", "ratio", "ratio_limit", "argv", "note"] {
            assert!(row.contains_key(field), "{field}");
        }
        assert_eq!(rows[0]["peer"]["version"], "1");
        assert_eq!(rows[0]["subjects"][3], serde_json::Value::Null);
        assert_eq!(rows[1]["subjects"][2]["role"], "ours_encrypted");
        assert_eq!([&rows[0]["verdict"], &rows[1]["verdict"]], ["reached", "missed"]);
    }
}
