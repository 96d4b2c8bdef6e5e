//! fio, with its nbd engine: running it on a socket, and reading what it counted. What it is to do is in `jobs`.

use anyhow::{Context, Result, bail, ensure};
use camino::Utf8Path;
use serde::Deserialize;
use std::time::Duration;
use testbed::owned_command;
use tokio::time::timeout;

/// How long one run may take in all: a job has its own limit of a few seconds; a subject that hangs reaches this one.
const RUN_LIMIT: Duration = Duration::from_secs(60);

const MIB: f64 = (1_u64 << 20) as f64;

/// What fio counts separately.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Read,
    Write,
}

/// What fio counted of one job.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Counted {
    pub(super) mib_per_second: f64,
    pub(super) operations_per_second: f64,
    pub(super) operations: f64,
    /// Of one request, from its sending to its answer, in microseconds.
    pub(super) latency_mean_us: f64,
    pub(super) latency_p99_us: f64,
}

#[derive(Deserialize)]
struct Output {
    jobs: Vec<JobOutput>,
}

#[derive(Deserialize)]
struct JobOutput {
    /// `errno` of the first request that failed.
    error: i32,
    read: Counts,
    write: Counts,
}

#[derive(Deserialize)]
struct Counts {
    total_ios: f64,
    bw_bytes: f64,
    iops: f64,
    lat_ns: Mean,
    clat_ns: Percentiles,
}

#[derive(Deserialize)]
struct Mean {
    mean: f64,
}

#[derive(Deserialize)]
struct Percentiles {
    #[serde(default)]
    percentile: Option<Percentile>,
}

#[derive(Deserialize)]
struct Percentile {
    #[serde(rename = "99.000000")]
    p99: f64,
}

/// Runs it on the export behind a unix socket; `dir` is where it may leave files.
pub(super) async fn run(
    dir: &Utf8Path,
    socket: &Utf8Path,
    args: &[String],
    counts: Direction,
) -> Result<Counted> {
    let mut command = owned_command("fio");
    command
        // One process, so that ending it ends all of it.
        .args(["--output-format=json", "--thread", "--ioengine=nbd", &format!("--uri={}", uri(socket))])
        .args(args)
        .current_dir(dir);
    let output = timeout(RUN_LIMIT, command.output());
    let output = output.await.with_context(|| format!("fio {args:?} has not ended after {RUN_LIMIT:?}"))?;
    let output = output.context("running fio")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "fio {args:?} on {socket}: {}: {}", output.status, said.trim());
    parse(&String::from_utf8_lossy(&output.stdout), counts)
}

/// As NBD's own clients name an export.
pub(super) fn uri(socket: &Utf8Path) -> String {
    format!("nbd+unix:///?socket={socket}")
}

/// What fio's JSON says. Before it fio may have written lines for people.
fn parse(stdout: &str, counts: Direction) -> Result<Counted> {
    let begins = if stdout.starts_with('{') { Some(0) } else { stdout.find("\n{") };
    let json = &stdout[begins.context("fio's output has no JSON")?..];
    let output: Output = serde_json::from_str(json).context("fio's output is not understood")?;
    let [job] = output.jobs.as_slice() else { bail!("fio tells of {} jobs, not one", output.jobs.len()) };
    ensure!(job.error == 0, "a request of fio failed with errno {}", job.error);
    let counted = match counts {
        Direction::Read => &job.read,
        Direction::Write => &job.write,
    };
    let p99 = counted.clat_ns.percentile.as_ref();
    ensure!(counted.total_ios > 0.0, "fio finished no request");
    Ok(Counted {
        mib_per_second: counted.bw_bytes / MIB,
        operations_per_second: counted.iops,
        operations: counted.total_ios,
        latency_mean_us: counted.lat_ns.mean / 1e3,
        latency_p99_us: p99.context("fio's output has no percentiles")?.p99 / 1e3,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As fio 3.33 wrote it, without what is not read.
    const OUTPUT: &str = r#"{
      "fio version" : "fio-3.33",
      "jobs" : [ {
        "jobname" : "randwrite_4k_qd1", "error" : 0, "elapsed" : 6,
        "read" : { "io_bytes" : 0, "bw_bytes" : 0, "iops" : 0.000000, "total_ios" : 0,
          "lat_ns" : { "min" : 0, "max" : 0, "mean" : 0.000000, "stddev" : 0.000000, "N" : 0 },
          "clat_ns" : { "min" : 0, "max" : 0, "mean" : 0.000000, "stddev" : 0.000000, "N" : 0 } },
        "write" : { "io_bytes" : 325959680, "bw_bytes" : 65191936, "iops" : 15916.0, "total_ios" : 79580,
          "lat_ns" : { "min" : 31000, "max" : 5000000, "mean" : 62250.5, "stddev" : 20.0, "N" : 79580 },
          "clat_ns" : { "min" : 30000, "max" : 5000000, "mean" : 61000.0, "stddev" : 20.0, "N" : 79580,
            "percentile" : { "50.000000" : 57000, "99.000000" : 121344, "99.900000" : 300000 } } }
      } ]
    }"#;

    #[test]
    fn figures_are_those_of_the_direction_asked_for() {
        let expected = Counted {
            mib_per_second: 65_191_936.0 / 1_048_576.0,
            operations_per_second: 15_916.0,
            operations: 79_580.0,
            latency_mean_us: 62.2505,
            latency_p99_us: 121.344,
        };
        assert_eq!(parse(OUTPUT, Direction::Write).unwrap(), expected);
        let nothing = parse(OUTPUT, Direction::Read).unwrap_err();
        assert_eq!(nothing.to_string(), "fio finished no request");
    }

    #[test]
    fn lines_for_people_before_the_json_are_passed_over() {
        let noisy = format!("note: both {{iodepth}} and so on\n{OUTPUT}");
        assert_eq!(parse(&noisy, Direction::Write).unwrap(), parse(OUTPUT, Direction::Write).unwrap());
    }

    #[test]
    fn a_failed_request_is_an_error_although_figures_are_there() {
        let failed = OUTPUT.replace(r#""error" : 0"#, r#""error" : 107"#);
        let error = parse(&failed, Direction::Write).unwrap_err();
        assert_eq!(error.to_string(), "a request of fio failed with errno 107");
    }

    #[test]
    fn what_is_no_output_of_one_job_is_an_error() {
        for (output, error) in [
            ("", "fio's output has no JSON"),
            ("fio: engine nbd not loadable\n", "fio's output has no JSON"),
            ("{", "fio's output is not understood"),
            (r#"{"jobs":[]}"#, "fio tells of 0 jobs, not one"),
        ] {
            assert_eq!(parse(output, Direction::Write).unwrap_err().to_string(), error);
        }
    }
}
