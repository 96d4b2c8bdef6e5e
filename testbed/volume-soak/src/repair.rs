//! What an export tells of a member that is filled, asked on its control socket: so that something is killed while that is under way, and the
//! report says how far it was. A process that is started for each look (`sled-agent volume look`) would come too late.

use anyhow::{Context, Result};
use camino::Utf8Path;
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::UnixStream,
};

const QUESTION: &[u8] = b"{\"request\":\"status\"}\n";

/// SIGKILLs while a repair was under way: before and behind them the export told so, or the next one did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct KillsDuringRepair {
    /// Of the full member that it is copied from.
    pub source: u64,
    /// Of the member that is filled.
    pub target: u64,
    /// Of the export, with its Upstairs.
    pub upstairs: u64,
}

/// Who was killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Killed {
    /// The full member that is copied from.
    Source,
    /// The member that is filled.
    Target,
    /// The export.
    Upstairs,
}

/// A repair, as it was told at the moment when something was killed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RepairAtKill {
    /// Who was.
    pub killed: Killed,
    /// What was done for the repair.
    pub phase: String,
    /// Bytes of which it was made sure that the member has them.
    pub bytes_done: u64,
    /// Bytes of the region set.
    pub bytes: u64,
}

/// The filling of one member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Filling {
    /// None if nobody has looked yet.
    pub(crate) phase: Option<String>,
    pub(crate) bytes_done: u64,
    pub(crate) bytes: u64,
    pub(crate) is_over: bool,
    /// The region that it is copied from, while it is.
    pub(crate) source: Option<String>,
}

impl Filling {
    /// Whether this many percent were copied, or compared, and not all of it.
    pub(crate) fn is_at(&self, percent: u64) -> bool {
        let is_copied = matches!(self.phase.as_deref(), Some("copying" | "checking"));
        !self.is_over && is_copied && self.bytes_done * 100 >= self.bytes * percent
    }

    /// As it is told.
    pub(crate) fn at_kill_of(&self, killed: Killed) -> RepairAtKill {
        RepairAtKill {
            killed,
            phase: self.phase.clone().unwrap_or_default(),
            bytes_done: self.bytes_done,
            bytes: self.bytes,
        }
    }
}

#[derive(Debug, Deserialize)]
struct Answer {
    status: Export,
}

#[derive(Debug, Deserialize)]
struct Export {
    repairs: Vec<Repair>,
}

#[derive(Debug, Deserialize)]
struct Repair {
    region: Region,
    phase: Option<String>,
    source: Option<String>,
    bytes_done: u64,
    bytes: u64,
    finished_at: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Region {
    region_id: String,
}

/// The last filling of this region that the export at this socket knows of; none if it knows of none.
pub(crate) async fn filling_of(region: &str, control: &Utf8Path) -> Result<Option<Filling>> {
    let stream = UnixStream::connect(control).await.with_context(|| format!("connecting to {control}"))?;
    let mut stream = BufReader::new(stream);
    stream.write_all(QUESTION).await.with_context(|| format!("asking at {control}"))?;
    let mut line = String::new();
    stream.read_line(&mut line).await.with_context(|| format!("reading from {control}"))?;
    parse(region, &line)
}

fn parse(region: &str, line: &str) -> Result<Option<Filling>> {
    let Answer { status } =
        serde_json::from_str(line).context("an export's word on itself is not understood")?;
    let last = status.repairs.into_iter().rfind(|repair| repair.region.region_id == region);
    Ok(last.map(|repair| Filling {
        phase: repair.phase,
        bytes_done: repair.bytes_done,
        bytes: repair.bytes,
        is_over: repair.finished_at.is_some(),
        source: repair.source,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn told(repairs: &serde_json::Value) -> String {
        json!({"status": {"pid": 1, "repairs": repairs, "upstairs": {}}}).to_string()
    }

    fn repair(region: &str, phase: &str, done: u64, finished: Option<&str>) -> serde_json::Value {
        let source = (phase == "copying" && finished.is_none()).then_some("c");
        json!({"id": "x", "region": {"region_id": region, "incarnation": 1}, "phase": phase, "source": source, "bytes_done": done,
               "bytes": 200, "finished_at": finished})
    }

    #[test]
    fn the_last_filling_of_a_region_counts_and_is_under_way_until_it_has_ended() {
        let ended = repair("b", "copying", 200, Some("2026-01-01T00:00:00Z"));
        let line = told(&json!([ended, repair("a", "queued", 0, None), repair("b", "copying", 100, None)]));
        let filling = parse("b", &line).unwrap().unwrap();
        assert_eq!((filling.bytes_done, filling.is_over, filling.source.as_deref()), (100, false, Some("c")));
        assert!(filling.is_at(0) && filling.is_at(50) && !filling.is_at(51));
        let queued = parse("a", &line).unwrap().unwrap();
        assert!(!queued.is_at(0) && queued.source.is_none(), "its turn has not come");
        assert_eq!(parse("c", &line).unwrap(), None);
        let over = parse("b", &told(&json!([ended]))).unwrap().unwrap();
        assert!(over.is_over && !over.is_at(0));
        parse("b", "{\"error\":{}}").unwrap_err();
    }
}
