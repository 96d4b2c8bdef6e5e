//! What clients do while a member is replaced, and what their requests were like within a window of time. Pure but for the
//! clock; fio's run itself is `fio`'s.
//!
//! ```text
//!   fio's run     ├──────────┬──────────────┬───────────────┬─────────────────┬──┤
//!                  it settles    *without*    a member dies    *during*: the
//!                             nothing happens                  replacement
//! ```
//!
//! One run has both windows, so they are seconds apart, and of the same clients.

use crate::bench::volume::{
    REGION_BYTES,
    fio::Direction,
    jobs::{JOBS, Job},
};
use anyhow::{Context, Result, bail};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long a load may last in all: its windows, and what is between them. Whoever measures ends it before.
pub(super) const LOAD_LIMIT: Duration = Duration::from_secs(300);

/// The job whose share is asked for.
const GUEST: &str = "randwrite_4k_qd16";

/// What clients do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Load {
    /// 100 reads and 100 writes of 4 KiB in a second, of two clients.
    Paced,
    /// As much as one gets that has 16 writes of 4 KiB under way.
    Guest,
}

impl Load {
    /// What its files are called.
    pub(super) fn name(self) -> &'static str {
        match self {
            Load::Paced => "paced",
            Load::Guest => "guest",
        }
    }

    /// Of fio.
    pub(super) fn jobs(self) -> usize {
        match self {
            Load::Paced => 2,
            Load::Guest => 1,
        }
    }

    /// fio's arguments, but for where.
    pub(super) fn fio_args(self) -> Vec<String> {
        let seconds = LOAD_LIMIT.as_secs();
        match self {
            Load::Paced => {
                let (size, runtime) = (format!("--size={REGION_BYTES}"), format!("--runtime={seconds}"));
                let all = ["--bs=4k", &size, "--iodepth=4", "--time_based", &runtime];
                let reads = ["--name=reads", "--rw=randread", "--rate_iops=100"];
                let writes = ["--name=writes", "--rw=randwrite", "--rate_iops=100"];
                // What comes before the first name is for both.
                [&all[..], &reads, &writes].concat().into_iter().map(str::to_owned).collect()
            }
            Load::Guest => guest().fio_args(u32::try_from(seconds).unwrap_or(u32::MAX)),
        }
    }
}

fn guest() -> Job {
    JOBS.into_iter().find(|job| job.name == GUEST).expect("the test of fio's arguments finds this job")
}

/// A time within a run, in milliseconds of the machine's clock, both ends within.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) from_ms: u64,
    pub(super) to_ms: u64,
}

impl Window {
    /// From then until now.
    pub(super) fn since(from_ms: u64) -> Result<Window> {
        Ok(Window { from_ms, to_ms: now_ms()? })
    }

    pub(super) fn milliseconds(self) -> f64 {
        self.to_ms.saturating_sub(self.from_ms) as f64
    }

    fn seconds(self) -> f64 {
        self.to_ms.saturating_sub(self.from_ms) as f64 / 1e3
    }
}

/// The machine's clock, as fio writes it into its logs.
pub(super) fn now_ms() -> Result<u64> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?;
    u64::try_from(since.as_millis()).context("the clock is too far ahead")
}

/// One request that was answered.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Request {
    ended_ms: u64,
    took_us: f64,
    direction: Direction,
}

impl Request {
    fn was_under_way(&self, window: Window) -> bool {
        let began_ms = self.ended_ms as f64 - self.took_us / 1e3;
        self.ended_ms >= window.from_ms && began_ms <= window.to_ms as f64
    }

    fn ended_within(&self, window: Window) -> bool {
        (window.from_ms..=window.to_ms).contains(&self.ended_ms)
    }
}

/// All requests of a run.
#[derive(Clone, Debug)]
pub(super) struct Requests {
    all: Vec<Request>,
}

/// What requests were like within a window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Seen {
    /// Answered in a second.
    pub(super) per_second: f64,
    /// Of those that were under way, from sending to answer. None if there were none.
    pub(super) read_p99_us: Option<f64>,
    pub(super) write_p99_us: Option<f64>,
    /// The longest of them.
    pub(super) longest_us: f64,
}

impl Requests {
    /// Of the logs of all jobs of a run.
    pub(super) fn of(logs: &[String]) -> Result<Requests> {
        let lines = logs.iter().flat_map(|log| log.lines());
        let all = lines.map(|line| request(line).with_context(|| format!("fio's log has {line:?}")));
        Ok(Requests { all: all.collect::<Result<_>>()? })
    }

    /// Of writes: when each was answered, in milliseconds of the machine's clock, and after how many microseconds.
    pub(super) fn of_writes(writes: &[(u64, f64)]) -> Requests {
        let direction = Direction::Write;
        let of =
            |(ended_ms, took_us): &(u64, f64)| Request { ended_ms: *ended_ms, took_us: *took_us, direction };
        Requests { all: writes.iter().map(of).collect() }
    }

    /// What they were like then. An error if the run does not cover the window: then it would say too little.
    ///
    /// How many there were is told by those that were answered within it; how long they took by all that were under way
    /// at any time of it, so that one that waits beyond its end is not forgotten.
    pub(super) fn seen_in(&self, window: Window) -> Result<Seen> {
        let ends = || self.all.iter().map(|request| request.ended_ms);
        let (Some(first), Some(last)) = (ends().min(), ends().max()) else {
            bail!("no request was answered")
        };
        if first > window.from_ms || last < window.to_ms {
            bail!("requests are from {first} to {last}, which does not cover {window:?}");
        }
        let answered = self.all.iter().filter(|request| request.ended_within(window)).count();
        let under_way = |direction| {
            let these = self.all.iter().filter(|request| request.direction == direction);
            these.filter(|request| request.was_under_way(window)).map(|request| request.took_us).collect()
        };
        Ok(Seen {
            longest_us: self.longest_in(window),
            per_second: answered as f64 / window.seconds(),
            read_p99_us: p99(under_way(Direction::Read)),
            write_p99_us: p99(under_way(Direction::Write)),
        })
    }

    fn longest_in(&self, window: Window) -> f64 {
        let under_way = self.all.iter().filter(|request| request.was_under_way(window));
        under_way.map(|request| request.took_us).fold(0.0, f64::max)
    }
}

/// A line: when it ended in ms, how long it took in ns, its direction, its bytes, its place.
fn request(line: &str) -> Option<Request> {
    let mut fields = line.split(',').map(str::trim);
    let ended_ms = fields.next()?.parse().ok()?;
    let took_ns: u64 = fields.next()?.parse().ok()?;
    let direction = match fields.next()? {
        "0" => Direction::Read,
        "1" => Direction::Write,
        _ => return None,
    };
    Some(Request { ended_ms, took_us: took_ns as f64 / 1e3, direction })
}

/// The least value that 99 of 100 do not exceed.
fn p99(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let rank = (values.len() * 99).div_ceil(100);
    values.get(rank.checked_sub(1)?).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requests(log: &str) -> Requests {
        Requests::of(&[log.to_owned()]).unwrap()
    }

    #[test]
    fn a_log_is_cut_to_those_that_were_under_way_in_the_window() {
        // Before it; into it; within it; beyond it; behind it.
        let log = "1000, 1000000, 1, 4096, 0\n1250, 100000000, 1, 4096, 0\n1500, 2000000, 1, 4096, 4096\n\
                   2400, 700000000, 1, 4096, 0\n2500, 3000000, 1, 4096, 0\n";
        let all = requests(log);
        let seen = all.seen_in(Window { from_ms: 1200, to_ms: 2200 }).unwrap();
        assert_eq!(
            seen,
            Seen { per_second: 2.0, read_p99_us: None, write_p99_us: Some(700_000.0), longest_us: 700_000.0 }
        );
        let seen = all.seen_in(Window { from_ms: 1200, to_ms: 1600 }).unwrap();
        assert_eq!((seen.per_second, seen.write_p99_us), (5.0, Some(100_000.0)));
    }

    #[test]
    fn reads_and_writes_of_several_logs_have_figures_of_their_own() {
        let logs = ["1000, 5000, 0, 4096, 0\n3000, 5000, 0, 4096, 0\n", "2000, 9000, 1, 4096, 0, 0\n"];
        let all = Requests::of(&logs.map(str::to_owned)).unwrap();
        let seen = all.seen_in(Window { from_ms: 1000, to_ms: 3000 }).unwrap();
        let (read_p99_us, write_p99_us) = (Some(5.0), Some(9.0));
        assert_eq!(seen, Seen { per_second: 1.5, read_p99_us, write_p99_us, longest_us: 9.0 });
    }

    #[test]
    fn a_window_that_the_run_does_not_cover_is_an_error() {
        let all = requests("1000, 5000, 0, 4096, 0\n3000, 5000, 0, 4096, 0\n");
        for (from_ms, to_ms) in [(999, 2000), (2000, 3001)] {
            assert!(all.seen_in(Window { from_ms, to_ms }).is_err(), "{from_ms} {to_ms}");
        }
        assert_eq!(
            requests("").seen_in(Window { from_ms: 1, to_ms: 2 }).unwrap_err().to_string(),
            "no request was answered"
        );
    }

    #[test]
    fn a_line_that_is_no_request_is_an_error() {
        for line in ["1000, 5000", "1000, 5000, 2, 4096, 0", "x, 5000, 0, 4096, 0", "1000, -1, 0, 4096, 0"] {
            let error = Requests::of(&[line.to_owned()]).unwrap_err();
            assert_eq!(error.to_string(), format!("fio's log has {line:?}"));
        }
    }

    #[test]
    fn the_99th_of_a_hundred_is_the_second_highest() {
        assert_eq!(p99((1..=100).rev().map(f64::from).collect()), Some(99.0));
        assert_eq!(p99((1..=101).map(f64::from).collect()), Some(100.0));
        assert_eq!(p99(vec![7.0]), Some(7.0));
        assert_eq!(p99(vec![]), None);
    }

    #[test]
    fn loads_are_those_of_the_issue() {
        let paced = Load::Paced.fio_args().join(" ");
        assert_eq!(paced.matches("--rate_iops=100").count(), Load::Paced.jobs(), "{paced}");
        assert!(paced.starts_with("--bs=4k --size=2147483648 "), "{paced}");
        let guest = Load::Guest.fio_args().join(" ");
        assert!(
            guest.contains("--rw=randwrite --bs=4k --iodepth=16") && guest.contains("--runtime=300"),
            "{guest}"
        );
    }
}
