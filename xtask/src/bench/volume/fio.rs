//! fio, with its nbd engine: running it on a socket, and reading what it counted. What it is to do is in `jobs`, and for
//! loads that go on until they are ended, whose requests are all kept, in `repair::load`.

use anyhow::{Context, Result, bail, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use serde::Deserialize;
use std::time::Duration;
use testbed::{OwnedProcess, owned_command};
use tokio::time::timeout;

/// How long one run may take in all: a job has its own limit of a few seconds; a subject that hangs reaches this one.
const RUN_LIMIT: Duration = Duration::from_secs(60);

/// How long one may take to end that is told to: it waits for what is under way, and writes its logs.
const END_LIMIT: Duration = Duration::from_secs(30);

/// The exit status of one that was told to end before its time.
const ENDED: i32 = 128;

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
    command.args(common_args(socket)).args(args).current_dir(dir);
    let output = timeout(RUN_LIMIT, command.output());
    let output = output.await.with_context(|| format!("fio {args:?} has not ended after {RUN_LIMIT:?}"))?;
    let output = output.context("running fio")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "fio {args:?} on {socket}: {}: {}", output.status, said.trim());
    parse(&String::from_utf8_lossy(&output.stdout), counts)
}

/// What every run is told: how it answers, and where it works.
fn common_args(socket: &Utf8Path) -> [String; 4] {
    // One process, so that ending it ends all of it.
    ["--output-format=json", "--thread", "--ioengine=nbd", &format!("--uri={}", uri(socket))]
        .map(str::to_owned)
}

/// A run that keeps a log of every request, and goes on until it is ended.
pub(super) struct Logged {
    process: OwnedProcess,
    /// Where its files are; their names begin with its name.
    dir: Utf8PathBuf,
    jobs: usize,
}

/// Starts it; `args` name so many jobs, and how long they last at most. What an earlier one of this name has left is overwritten.
pub(super) fn start_logged(
    dir: &Utf8Path,
    socket: &Utf8Path,
    name: &str,
    jobs: usize,
    args: &[String],
) -> Result<Logged> {
    let logged = [
        format!("--output={}", output_file(dir, name)),
        format!("--write_lat_log={}", dir.join(name)),
        // Of the log's two other forms nothing is read; times are those of the machine's clock, not since the start.
        "--disable_slat=1".to_owned(),
        "--disable_clat=1".to_owned(),
        "--log_unix_epoch=1".to_owned(),
    ];
    let args = [&common_args(socket)[..], &logged, args].concat();
    let process = OwnedProcess::start(dir, name, Utf8Path::new("fio"), &args)?;
    Ok(Logged { process, dir: dir.to_owned(), jobs })
}

fn output_file(dir: &Utf8Path, name: &str) -> Utf8PathBuf {
    dir.join(format!("{name}.json"))
}

impl Logged {
    /// Ends it. The logs of its jobs, a line for each request.
    pub(super) async fn end(mut self) -> Result<Vec<String>> {
        let (name, dir) = (self.process.name().to_owned(), self.dir);
        if let Some(status) = self.process.ended()? {
            bail!("fio has ended too early, {status}: {}", self.process.last_words().trim_end());
        }
        let status = self.process.stop(END_LIMIT).await?;
        let status =
            status.with_context(|| format!("fio has not ended after {END_LIMIT:?}, and was killed"))?;
        ensure!(status.code() == Some(ENDED), "fio {name}: {status}, although it was only told to end");
        let read =
            |file: Utf8PathBuf| std::fs::read_to_string(&file).with_context(|| format!("reading {file}"));
        let jobs = parse_jobs(&read(output_file(&dir, &name))?)?;
        ensure!(jobs.len() == self.jobs, "fio tells of {} jobs, not {}", jobs.len(), self.jobs);
        (1..=self.jobs).map(|job| read(dir.join(format!("{name}_lat.{job}.log")))).collect()
    }
}

/// As NBD's own clients name an export.
pub(super) fn uri(socket: &Utf8Path) -> String {
    format!("nbd+unix:///?socket={socket}")
}

/// What fio's JSON says of its jobs, of which none has failed. Before it fio may have written lines for people.
fn parse_jobs(stdout: &str) -> Result<Vec<JobOutput>> {
    let begins = if stdout.starts_with('{') { Some(0) } else { stdout.find("\n{") };
    let json = &stdout[begins.context("fio's output has no JSON")?..];
    let output: Output = serde_json::from_str(json).context("fio's output is not understood")?;
    for job in &output.jobs {
        ensure!(job.error == 0, "a request of fio failed with errno {}", job.error);
    }
    Ok(output.jobs)
}

/// The figures of its only job.
fn parse(stdout: &str, counts: Direction) -> Result<Counted> {
    let jobs = parse_jobs(stdout)?;
    let [job] = jobs.as_slice() else { bail!("fio tells of {} jobs, not one", jobs.len()) };
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
    fn an_error_of_any_of_several_jobs_is_an_error() {
        let job = |error: i32| {
            let counts = r#"{"total_ios":1,"bw_bytes":1,"iops":1,"lat_ns":{"mean":1},"clat_ns":{}}"#;
            format!(r#"{{"error":{error},"read":{counts},"write":{counts}}}"#)
        };
        let both = |second: i32| format!(r#"{{"jobs":[{},{}]}}"#, job(0), job(second));
        assert_eq!(parse_jobs(&both(0)).unwrap().len(), 2);
        let error = parse_jobs(&both(5)).map(drop).unwrap_err();
        assert_eq!(error.to_string(), "a request of fio failed with errno 5");
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
