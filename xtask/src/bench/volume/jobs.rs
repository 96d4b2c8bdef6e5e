//! What is measured: the jobs, how fio is told of them, and what share of the limit ours is to reach (the numbers of the
//! issue). Owns nothing that runs.

use super::{REGION_BYTES, fio::Direction};

/// Longest time of a job, in seconds, unless another is asked for. Sequential ones end earlier if they have gone through the whole region.
pub(in crate::bench) const JOB_SECONDS: u32 = 5;

/// One way of using a volume.
#[derive(Clone, Copy, Debug)]
pub(super) struct Job {
    /// As the outside contract names the row.
    pub(super) name: &'static str,
    /// fio's `rw`.
    pattern: Pattern,
    /// Requests under way at once.
    depth: u32,
    /// Whether each write is followed by a flush.
    flushed: bool,
    /// Share of the limit that ours is to reach, without and with encryption.
    pub(super) target: Target,
}

/// Shares of the limit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Target {
    pub(super) plain: f64,
    pub(super) encrypted: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pattern {
    SequentialWrite,
    SequentialRead,
    RandomWrite,
    RandomRead,
}

use Pattern::{RandomRead, RandomWrite, SequentialRead, SequentialWrite};

/// In the order in which they run: what writes everything comes first, so all that is read has been written.
pub(super) const JOBS: [Job; 10] = [
    job("seqwrite_1m_qd1", SequentialWrite, 1, 0.38, 0.30),
    job("seqwrite_1m_qd8", SequentialWrite, 8, 0.36, 0.30),
    job("seqread_1m_qd1", SequentialRead, 1, 0.75, 0.50),
    job("seqread_1m_qd8", SequentialRead, 8, 0.60, 0.45),
    job("randwrite_4k_qd1", RandomWrite, 1, 0.65, 0.60),
    job("randwrite_4k_qd16", RandomWrite, 16, 0.60, 0.55),
    job("randwrite_4k_qd32", RandomWrite, 32, 0.65, 0.60),
    job("randread_4k_qd1", RandomRead, 1, 0.80, 0.75),
    job("randread_4k_qd32", RandomRead, 32, 0.65, 0.55),
    Job { flushed: true, ..job("randwrite_4k_fsync", RandomWrite, 1, 0.50, 0.50) },
];

const fn job(name: &'static str, pattern: Pattern, depth: u32, plain: f64, encrypted: f64) -> Job {
    Job { name, pattern, depth, flushed: false, target: Target { plain, encrypted } }
}

impl Job {
    /// Whether it goes through the region from its beginning to its end.
    fn is_sequential(&self) -> bool {
        matches!(self.pattern, SequentialWrite | SequentialRead)
    }

    /// What fio counts of it.
    pub(super) fn direction(&self) -> Direction {
        match self.pattern {
            SequentialWrite | RandomWrite => Direction::Write,
            SequentialRead | RandomRead => Direction::Read,
        }
    }

    /// Unit of its figure: bytes where they are what counts, else operations.
    pub(super) fn unit(&self) -> &'static str {
        if self.is_sequential() { "MiB/s" } else { "IOPS" }
    }

    /// fio's arguments, but for where; so many seconds at most.
    pub(super) fn fio_args(&self, seconds: u32) -> Vec<String> {
        let (rw, block) = match self.pattern {
            SequentialWrite => ("write", "1M"),
            SequentialRead => ("read", "1M"),
            RandomWrite => ("randwrite", "4k"),
            RandomRead => ("randread", "4k"),
        };
        let mut args = vec![
            format!("--name={}", self.name),
            format!("--rw={rw}"),
            format!("--bs={block}"),
            format!("--iodepth={}", self.depth),
            format!("--size={REGION_BYTES}"),
            format!("--runtime={seconds}"),
        ];
        if !self.is_sequential() {
            args.push("--time_based".to_owned());
        }
        if self.flushed {
            args.push("--fsync=1".to_owned());
        }
        args
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The issue's table: job, ours, ours encrypted.
    const ISSUE: &str = "
        seqwrite_1m_qd1    0.38 0.30
        seqwrite_1m_qd8    0.36 0.30
        seqread_1m_qd1     0.75 0.50
        seqread_1m_qd8     0.60 0.45
        randwrite_4k_qd1   0.65 0.60
        randwrite_4k_qd16  0.60 0.55
        randwrite_4k_qd32  0.65 0.60
        randread_4k_qd1    0.80 0.75
        randread_4k_qd32   0.65 0.55
        randwrite_4k_fsync 0.50 0.50";

    #[test]
    fn jobs_and_targets_are_those_of_the_issue() {
        let ours =
            JOBS.map(|job| format!("{} {:.2} {:.2}", job.name, job.target.plain, job.target.encrypted));
        let issue = ISSUE.trim().lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
        assert_eq!(ours.to_vec(), issue.collect::<Vec<_>>());
    }

    #[test]
    fn a_jobs_name_says_what_fio_is_told() {
        for job in JOBS {
            let args = job.fio_args(JOB_SECONDS).join(" ");
            let words: Vec<&str> = job.name.split('_').collect();
            let rw = words[0].trim_start_matches("seq");
            assert!(args.contains(&format!("--rw={rw} --bs={} ", words[1].replace("1m", "1M"))), "{args}");
            let depth = words[2].strip_prefix("qd").unwrap_or("1");
            assert!(args.contains(&format!("--iodepth={depth} ")), "{args}");
            assert_eq!(args.contains("--fsync=1"), words[2] == "fsync", "{args}");
            assert_eq!(args.contains("--time_based"), words[0].starts_with("rand"), "{args}");
            assert_eq!(job.unit() == "IOPS", words[0].starts_with("rand"));
            assert_eq!(job.direction() == Direction::Write, words[0].ends_with("write"));
        }
    }
}
