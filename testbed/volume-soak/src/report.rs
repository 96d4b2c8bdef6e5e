//! What is told when it is over: JSON for programs, a table for people, every finding with its evidence.

use crate::{
    finding::Finding,
    regions::Blocks,
    repair::{KillsDuringRepair, RepairAtKill},
    request::Counts,
};
use serde::Serialize;
use std::fmt;

/// What a run did and saw.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct VolumeReport {
    /// The seed.
    pub seed: u64,
    /// Clients at once.
    pub clients: u32,
    /// Whether the volume was encrypted.
    pub is_encrypted: bool,
    /// What was done.
    #[serde(flatten)]
    pub done: Done,
    /// Requests of clients that were answered.
    pub operations: u64,
    /// Bytes that clients have read and held against their book; what fio has verified is not among them.
    pub bytes_verified: u64,
    /// Findings that are about a block: it was not what it had to be.
    pub mismatches: u64,
    /// The other findings: errors at clients, waits without end, processes that have ended.
    pub errors: u64,
    /// SHA-256 of the content of each region, after all processes had ended: the same three times. Empty if something was found before.
    pub region_hashes: Vec<String>,
    /// How far the repairs of `kills_during_repair` were.
    pub repairs_at_kills: Vec<RepairAtKill>,
    /// What clients were answered, kind by kind.
    pub counts: Counts,
    /// The longest that one request took, in milliseconds.
    pub longest_wait_ms: u64,
    /// Seconds that it took.
    pub seconds: f64,
    /// What must not be.
    pub findings: Vec<Finding>,
    /// What the processes said at last, if something was found.
    pub logs: String,
    /// Where all files are, if they were to be kept.
    pub files_kept: Option<String>,
}

/// What was done to processes and files, and what the files were afterwards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Done {
    /// Rounds of part 1 that were done, and right.
    pub rounds: u64,
    /// Rounds of part 2.
    pub ends: u64,
    /// Rounds of part 3: members that were replaced.
    pub replacements: u64,
    /// SIGKILLs of Downstairs.
    pub kills: u64,
    /// Of those, and of the export's, in part 3: while a new member was filled.
    pub kills_during_repair: KillsDuringRepair,
    /// SIGSTOPs of Downstairs.
    pub pauses: u64,
    /// Times that two were away at once.
    pub two_at_once: u64,
    /// Times that one was away until it was left out.
    pub long_away: u64,
    /// SIGKILLs of the export.
    pub export_kills: u64,
    /// Of those, with everything else at once.
    pub everything_kills: u64,
    /// Of those, with the only member that had the last writes.
    pub alone: u64,
    /// Blocks whose bits were flipped on one member.
    pub rotten_blocks: u64,
    /// Of those, seen to be right again on the disk.
    pub healed_blocks: u64,
    /// Blocks of an encrypted volume that were forged on one member.
    pub forged_blocks: u64,
    /// Of those, noticed, and right again.
    pub healed_forged_blocks: u64,
    /// Members in whose files something was found that a client had written: all, and none of an encrypted volume.
    pub members_with_plaintext: Option<u64>,
    /// Runs of fio, each verified.
    pub fio_runs: u64,
    /// What the three regions were, all alike, when part 1 was over.
    pub blocks_after_part_1: Option<Blocks>,
    /// The same of part 2.
    pub blocks_after_part_2: Option<Blocks>,
    /// The same of part 3.
    pub blocks_after_part_3: Option<Blocks>,
    /// The same of the files, after all processes had ended.
    pub blocks_at_the_end: Option<Blocks>,
}

impl VolumeReport {
    /// Whether nothing was found wrong.
    #[must_use]
    pub fn is_well(&self) -> bool {
        self.findings.is_empty()
    }
}

impl fmt::Display for VolumeReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (done, counts) = (&self.done, &self.counts);
        let encrypted = if self.is_encrypted { ", encrypted" } else { "" };
        writeln!(f, "volume{encrypted}  {} clients and fio over NBD (seed {})", self.clients, self.seed)?;
        line(f, "part 1: rounds", done.rounds)?;
        let faults = format!("{}, {}", done.kills, done.pauses);
        line(f, "Downstairs killed, paused", faults)?;
        line(f, "two away at once, one for long", format!("{}, {}", done.two_at_once, done.long_away))?;
        line(f, "blocks rotten, healed", format!("{}, {}", done.rotten_blocks, done.healed_blocks))?;
        if self.is_encrypted {
            let forged = format!("{}, {}", done.forged_blocks, done.healed_forged_blocks);
            line(f, "blocks forged, healed", forged)?;
        }
        line(f, "runs of fio, verified", done.fio_runs)?;
        line(f, "part 2: rounds", done.ends)?;
        let kills = format!(
            "{} ({} with everything, {} with the member that was ahead)",
            done.export_kills, done.everything_kills, done.alone
        );
        line(f, "export killed", kills)?;
        line(f, "answers lost with it", counts.lost_answers)?;
        line(f, "part 3: members replaced", done.replacements)?;
        let KillsDuringRepair { source, target, upstairs } = done.kills_during_repair;
        let kills = format!("source {source}, target {target}, export {upstairs}");
        line(f, "killed in a repair", kills)?;
        if let Some(parts) = parts_done(&self.repairs_at_kills) {
            line(f, "of which was done then", parts)?;
        }
        line(f, "reads, writes", format!("{}, {}", counts.reads, counts.writes))?;
        line(f, "zeroings, flushes", format!("{}, {}", counts.zeroings, counts.flushes))?;
        line(f, "bytes verified", self.bytes_verified)?;
        line(f, "mismatches, errors", format!("{}, {}", self.mismatches, self.errors))?;
        line(f, "longest wait", format!("{:.1} s", self.longest_wait_ms as f64 / 1e3))?;
        let parts = [done.blocks_after_part_1, done.blocks_after_part_2, done.blocks_after_part_3];
        let all = parts.into_iter().chain([done.blocks_at_the_end]).flatten();
        for blocks in all {
            let Blocks { list: (epoch, number), never, zeros, bytes, in_the_book, .. } = blocks;
            let what = format!(
                "{bytes} bytes, {zeros} zeros, {never} never; {in_the_book} in the book; list {epoch}.{number}"
            );
            line(f, "three equal regions", what)?;
        }
        for hash in &self.region_hashes {
            line(f, "SHA-256 of a region", hash)?;
        }
        if let Some(members) = done.members_with_plaintext {
            line(f, "members with plaintext", members)?;
        }
        line(f, "seconds", format!("{:.1}", self.seconds))?;
        line(f, "findings", self.findings.len())?;
        for finding in &self.findings {
            write!(f, "\nwrong (seed {}): {finding}", self.seed)?;
        }
        if !self.logs.is_empty() {
            write!(f, "\n{}", self.logs)?;
        }
        if let Some(dir) = &self.files_kept {
            write!(f, "\nall files are in {dir}")?;
        }
        Ok(())
    }
}

/// The least and the most of a repair that was done when something was killed.
fn parts_done(repairs: &[RepairAtKill]) -> Option<String> {
    let percent = |repair: &RepairAtKill| repair.bytes_done * 100 / repair.bytes.max(1);
    let (least, most) = (repairs.iter().map(percent).min()?, repairs.iter().map(percent).max()?);
    Some(format!("{least} % to {most} %"))
}

fn line(f: &mut fmt::Formatter<'_>, what: &str, value: impl fmt::Display) -> fmt::Result {
    writeln!(f, "   {what:<30} {value}")
}
