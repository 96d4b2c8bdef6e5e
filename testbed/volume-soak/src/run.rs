//! The rounds: what is done to the processes, and what must hold after each. Owns the order of things. The members' files:
//! [`copies`].
//!
//! ```text
//!   part 1, a round:  a fault ──► every process is there again ──► clients are answered        fio writes and verifies meanwhile
//!   part 2, a round:  the export or everything is killed, and started ──► clients come again, and read every block
//!   part 3, a round:  a member is replaced, something else is killed while it is filled ──► all three are full again, and clients are answered
//!   after each part:  clients rest ──► three full members that are the same, and what the book says
//!   at the end:       all processes end in order ──► the files themselves are compared, and searched for what clients have written
//! ```

mod copies;

use crate::{
    block::BLOCK,
    faults::{End, Fault, Kills, MEMBERS, Replacement, SPARE, ends, faults, replacements},
    finding::Findings,
    fio::{self, Fio},
    forge,
    load::{Load, PATIENCE},
    order::{Progress, VolumeOrder, VolumeSite},
    regions::{self, Difference},
    repair::{Filling, Killed, RepairAtKill},
    report::{Done, VolumeReport},
    rot,
    site::Site,
};
use anyhow::{Context, Result};
use copies::{look_for_plaintext, region_hashes};
use rustix::process::Signal;
use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};
use testbed::wait_for;
use tokio::{task::spawn_blocking, time::sleep};

/// Answers that every client has to get after a fault, before the next one.
const ANSWERS: u64 = 50;

/// What is written while one member is away for long, in blocks: a quarter more than an Upstairs keeps for it (32 MiB).
const AWAY_BLOCKS: u64 = 10_240;

/// How long the export lives at least between two kills, once clients have read everything.
const LIFE: Duration = Duration::from_millis(300);

/// How long two members are paused while the third one gets what is written.
const ALONE: Duration = Duration::from_millis(300);

/// How much later the other one is started again, where two are killed in part 2.
const APART: Duration = Duration::from_millis(700);

/// A run that is under way.
struct Run<'a> {
    order: VolumeOrder,
    site: Site,
    load: Load,
    /// In part 1.
    fio: Option<Fio>,
    findings: Arc<Findings>,
    progress: Progress<'a>,
    done: Done,
    /// How far repairs were when something was killed.
    at_kills: Vec<RepairAtKill>,
}

/// Runs it.
///
/// # Errors
/// The run could not be made; what it finds wrong is in the report.
pub async fn run_volume(
    site: &VolumeSite,
    order: &VolumeOrder,
    progress: Progress<'_>,
) -> Result<VolumeReport> {
    fio::check().await?;
    let started = Instant::now();
    let findings = Arc::new(Findings::default());
    let site = Site::start(site, order).await?;
    let load = Load::start(order, &site.socket(), &findings);
    let fio = Some(Fio::start(order, site.dir(), &site.socket(), &findings));
    let (order, done) = (*order, Done::default());
    let mut run = Run { order, site, load, fio, findings, progress, done, at_kills: Vec::new() };
    run.rounds().await?;
    run.close(started).await
}

impl Run<'_> {
    async fn rounds(&mut self) -> Result<()> {
        for (number, fault) in (1..).zip(faults(&self.order)) {
            if !self.begin_round(&format!("round {number}: {fault:?}")) {
                break;
            }
            self.fault(fault).await?;
            self.check_processes()?;
            let progress = self.load.progress(ANSWERS).await;
            self.must("clients wait, although every process is there", progress);
            self.done.rounds += 1;
        }
        if let Some(fio) = self.fio.take() {
            self.done.fio_runs = fio.end(!self.findings.are_there()).await?;
        }
        self.done.blocks_after_part_1 = self.compare_after("after part 1").await?;
        for (number, end) in (1..).zip(ends(&self.order)) {
            if !self.begin_round(&format!("end {number}: {end:?}")) {
                break;
            }
            self.end(end).await?;
            self.check_processes()?;
            self.done.ends += 1;
        }
        self.done.blocks_after_part_2 = self.compare_after("after part 2").await?;
        for (number, replacement) in (1..).zip(replacements(&self.order)) {
            if !self.begin_round(&format!("replacement {number}: {replacement:?}")) {
                break;
            }
            self.replace(replacement).await?;
            self.check_processes()?;
            self.done.replacements += 1;
        }
        if !self.findings.are_there() {
            self.check_kills();
        }
        Ok(())
    }

    async fn replace(&mut self, replacement: Replacement) -> Result<()> {
        let Replacement { member, is_gone, kills, filled } = replacement;
        if is_gone {
            self.site.kill_member(member).await?;
            self.done.kills += 1;
        }
        let replaced = self.site.replace(member, is_gone).await;
        self.must("a member is not replaced", replaced);
        let filling = if kills == Kills::Nothing { None } else { self.filled(member, filled).await };
        match kills {
            Kills::Nothing => {}
            Kills::New => self.kill_in_repair(member, Killed::Target, (member, filling.clone())).await?,
            Kills::Source => {
                let source = filling.as_ref().and_then(|filling| filling.source.as_deref());
                let source = source.map(|region| self.site.member_with(region)).transpose()?;
                // It was too late to see who it was.
                let source = source.unwrap_or((member + 1) % MEMBERS);
                self.kill_in_repair(source, Killed::Source, (member, filling.clone())).await?;
            }
            Kills::Old if self.site.spare_runs() => {
                self.site.kill_member(SPARE).await?;
                self.done.kills += 1;
            }
            Kills::Old => {}
            Kills::Export => {
                self.load.may_lose(true);
                self.site.kill_export().await?;
                let started = self.site.start_export()?;
                self.done.export_kills += 1;
                let came_again = self.load.came_again(started).await;
                self.must("clients cannot go on after a kill", came_again);
                self.load.may_lose(false);
            }
        }
        let whole = self.site.wait_whole().await;
        self.must("the new member is not full", whole);
        // It was not full when the export was killed: the next one has had to fill it.
        if let (Kills::Export, Some(before)) = (kills, filling)
            && self.site.filling(member).await?.is_some()
        {
            self.done.kills_during_repair.upstairs += 1;
            self.at_kills.push(before.at_kill_of(Killed::Upstairs));
        }
        self.site.clear_spare().await?;
        let progress = self.load.progress(ANSWERS).await;
        self.must("clients wait, although every process is there", progress);
        Ok(())
    }

    /// Waits until so many percent of a new member are filled; none if it was full before anybody saw it.
    async fn filled(&self, member: usize, percent: u64) -> Option<Filling> {
        let waited =
            wait_for("a member to be filled", PATIENCE, async || match self.site.filling(member).await {
                Ok(Some(filling)) if filling.is_at(percent) => Ok(Some(filling)),
                Ok(Some(filling)) if filling.is_over => Ok(None),
                _ if self.findings.are_there() => Ok(None),
                other => Err(format!("{other:?}")),
            })
            .await;
        match waited {
            Ok(filling) => filling,
            Err(error) => {
                self.must("a member is not filled", Err(error));
                None
            }
        }
    }

    /// Kills the source or the target of a repair that is to be under way; it counts if it still is, and if it was them, as was told.
    async fn kill_in_repair(
        &mut self,
        who: usize,
        killed: Killed,
        (filled, before): (usize, Option<Filling>),
    ) -> Result<()> {
        self.site.kill_member(who).await?;
        self.done.kills += 1;
        let behind = self.site.filling(filled).await?;
        let told = match (killed, before.as_ref().and_then(|before| before.source.as_deref())) {
            (Killed::Source, source) => source.map(|region| self.site.member_with(region)).transpose()?,
            _ => Some(filled),
        };
        let is_one = told == Some(who);
        if let (Some(before), Some(Filling { is_over: false, .. }), true) = (before, behind, is_one) {
            let count = match killed {
                Killed::Source => &mut self.done.kills_during_repair.source,
                Killed::Target => &mut self.done.kills_during_repair.target,
                Killed::Upstairs => &mut self.done.kills_during_repair.upstairs,
            };
            *count += 1;
            self.at_kills.push(before.at_kill_of(killed));
        }
        self.site.start_member(who).await
    }

    /// A kill beside a repair shows nothing: of each kind half at least of those that were ordered have to have hit one.
    fn check_kills(&self) {
        let (hit, all) = (self.done.kills_during_repair, replacements(&self.order));
        for (what, hit, kind) in [
            ("source", hit.source, Kills::Source),
            ("target", hit.target, Kills::New),
            ("export", hit.upstairs, Kills::Export),
        ] {
            let ordered = all.iter().filter(|one| one.kills == kind).count() as u64;
            if hit < ordered.div_ceil(2) {
                let evidence = format!("{hit} of {ordered}");
                self.findings.add(None, format!("too few kills of the {what} have hit a repair"), evidence);
            }
        }
    }

    /// Whether there is a point in it.
    fn begin_round(&self, round: &str) -> bool {
        let is_well = !self.findings.are_there();
        if is_well {
            self.findings.begin_round(round);
            (self.progress)(&format!("{round}, {} answers", self.load.counts().answered()));
        }
        is_well
    }

    async fn fault(&mut self, fault: Fault) -> Result<()> {
        match fault {
            Fault::Kill(member, down) => self.kill(member, down).await,
            Fault::Pause(member, pause) => {
                self.site.signal_member(member, Signal::STOP)?;
                sleep(pause).await;
                self.done.pauses += 1;
                self.site.signal_member(member, Signal::CONT)
            }
            Fault::Loop(member, times, life) => {
                for _ in 0..times {
                    self.kill(member, Duration::ZERO).await?;
                    sleep(life).await;
                }
                Ok(())
            }
            Fault::Two { first, second, alone, both, is_second_killed } => {
                self.site.kill_member(first).await?;
                sleep(alone).await;
                self.done.two_at_once += 1;
                if is_second_killed {
                    self.kill(second, both).await?;
                } else {
                    self.site.signal_member(second, Signal::STOP)?;
                    sleep(both).await;
                    self.done.pauses += 1;
                    self.site.signal_member(second, Signal::CONT)?;
                }
                self.done.kills += 1;
                self.site.start_member(first).await
            }
            Fault::Away(member) => {
                if !self.are_all_full().await? {
                    return Ok(());
                }
                self.site.kill_member(member).await?;
                self.done.kills += 1;
                let written = self.load.written(AWAY_BLOCKS).await;
                self.must("clients wait, although two members are there", written);
                self.done.long_away += 1;
                self.site.start_member(member).await
            }
            Fault::Rot(member, blocks) => self.rot(member, blocks).await,
            Fault::Forge(member, blocks) => self.forge(member, blocks).await,
        }
    }

    async fn kill(&mut self, member: usize, down: Duration) -> Result<()> {
        self.site.kill_member(member).await?;
        self.done.kills += 1;
        sleep(down).await;
        self.site.start_member(member).await
    }

    /// Bits are flipped on one member alone; whoever reads sees nothing of it, and the blocks are right again.
    ///
    /// All are full first. One that has just been started still looks at what was not durable, and takes flipped bits for what was lost with
    /// its power: then they are sent again, and nothing is healed.
    async fn rot(&mut self, member: usize, blocks: usize) -> Result<()> {
        if !self.are_all_full().await? {
            return Ok(());
        }
        let held = self.load.hold(member, blocks);
        let (path, salt) = (self.site.region_file(member)?, self.order.seed);
        let healed_before = self.site.healed().await?.blocks;
        self.site.pause_member(member).await?;
        let flipped = spawn_blocking({
            let (path, seed) = (path.clone(), salt ^ self.done.rotten_blocks);
            let (copy, key) = (self.site.dir().join("stopped.region"), self.site.key());
            move || {
                let sent = match key {
                    Some(key) => rot::sent_sealed(&path, &copy, &key, salt, &held)?,
                    None => rot::sent_as_written(salt, &held),
                };
                Ok::<_, anyhow::Error>((rot::flip(&path, &sent, seed)?, Arc::new(sent)))
            }
        });
        let (flipped, sent): (BTreeSet<rot::Written>, _) = flipped.await.context("flipping bits")??;
        self.site.signal_member(member, Signal::CONT)?;
        self.done.rotten_blocks += flipped.len() as u64;
        let (site, findings, count) = (&self.site, &self.findings, flipped.len() as u64);
        let waited = wait_for("blocks to be healed, and counted", PATIENCE, async || {
            if findings.are_there() {
                return Ok(());
            }
            let (path, sent) = (path.clone(), Arc::clone(&sent));
            let right = spawn_blocking(move || rot::right(&path, &sent)).await;
            let right = right.map_err(anyhow::Error::new).flatten().map_err(|error| format!("{error:#}"))?;
            let left: Vec<_> = flipped.difference(&right).collect();
            if !left.is_empty() {
                return Err(format!("not yet: blocks and writes {left:?}"));
            }
            // Where anybody can see it, too.
            let healed = site.healed().await.map_err(|error| format!("{error:#}"))?.blocks;
            if healed >= healed_before + count { Ok(()) } else { Err(format!("{healed} are counted")) }
        });
        let waited = waited.await;
        self.done.healed_blocks += if waited.is_ok() { count } else { 0 };
        self.must(&format!("flipped bits of {} are not healed", self.site.name(member)), waited);
        self.load.release();
        Ok(())
    }

    /// Blocks of one member alone are forged while it is away; whoever reads sees nothing of it, it is noticed, and the blocks are right again.
    /// Either nobody writes meanwhile, and it is still full when it comes back; or they do until it is left out, and whoever fills it has to
    /// notice.
    async fn forge(&mut self, member: usize, blocks: usize) -> Result<()> {
        if !self.are_all_full().await? {
            return Ok(());
        }
        let key = self.site.key().context("only what is encrypted is forged")?;
        let held = self.load.hold(member, blocks);
        let (path, salt) = (self.site.region_file(member)?, self.order.seed);
        let before = self.site.healed().await?;
        let seed = salt ^ self.done.forged_blocks;
        let is_left_out = seed % 2 == 1;
        let resting = match &self.fio {
            Some(fio) if !is_left_out => Some(fio.rest().await),
            _ => None,
        };
        if !is_left_out {
            let settled = self.load.settle().await;
            self.must("clients do not come to rest", settled);
        }
        self.site.kill_member(member).await?;
        self.done.kills += 1;
        if is_left_out {
            let written = self.load.written(AWAY_BLOCKS).await;
            self.must("clients wait, although two members are there", written);
            self.done.long_away += 1;
        }
        let forged = spawn_blocking(move || forge::forge(&path, &key, salt, &held, seed)).await;
        let count = forged.context("forging blocks")??.len() as u64;
        self.done.forged_blocks += count;
        self.site.start_member(member).await?;
        if !is_left_out {
            self.load.go_on();
        }
        drop(resting);
        let (site, findings) = (&self.site, &self.findings);
        let waited = wait_for("forged blocks to be noticed, and healed", PATIENCE, async || {
            let healed = site.healed().await.map_err(|error| format!("{error:#}"))?;
            // Filling compares what blocks are said to be, and opens none.
            let are_seals_counted = is_left_out || healed.wrong_seals >= before.wrong_seals + count;
            let is_enough = healed.blocks >= before.blocks + count && are_seals_counted;
            if is_enough || findings.are_there() { Ok(()) } else { Err(format!("{healed:?}, of {count}")) }
        });
        let waited = waited.await;
        let are_healed = waited.is_ok();
        self.must(&format!("forged blocks of {} are not healed", self.site.name(member)), waited);
        self.load.release();
        // All three, opened with the key.
        if are_healed && self.are_all_full().await? {
            self.done.healed_forged_blocks += count;
        }
        Ok(())
    }

    async fn end(&mut self, end: End) -> Result<()> {
        if matches!(end, End::Alone(_)) && !self.are_all_full().await? {
            return Ok(());
        }
        sleep(LIFE).await;
        self.load.may_lose(true);
        let started = match end {
            End::Export => {
                self.site.kill_export().await?;
                self.site.start_export()?
            }
            End::ExportAndMember(member) => {
                self.site.kill_member(member).await?;
                self.site.kill_export().await?;
                let started = self.site.start_export()?;
                sleep(APART).await;
                self.site.start_member(member).await?;
                self.done.kills += 1;
                started
            }
            End::Alone(member) => {
                let others = (1..MEMBERS).map(|offset| (member + offset) % MEMBERS);
                for other in others.clone() {
                    self.site.signal_member(other, Signal::STOP)?;
                }
                sleep(ALONE).await;
                self.site.kill_export().await?;
                self.site.kill_member(member).await?;
                for other in others {
                    self.site.signal_member(other, Signal::CONT)?;
                }
                let started = self.site.start_export()?;
                // Before the third one is there: what only it has was never acknowledged.
                let came_again = self.load.came_again(started).await;
                self.must("clients cannot go on with the two others", came_again);
                self.site.start_member(member).await?;
                self.done.kills += 1;
                self.done.pauses += 2;
                self.done.alone += 1;
                started
            }
            End::Everything => {
                self.site.kill_everything().await?;
                for member in 0..MEMBERS {
                    self.site.start_member(member).await?;
                }
                let started = self.site.start_export()?;
                self.done.kills += MEMBERS as u64;
                self.done.everything_kills += 1;
                started
            }
        };
        self.done.export_kills += 1;
        let came_again = self.load.came_again(started).await;
        self.must("clients cannot go on after a kill", came_again);
        self.load.may_lose(false);
        let progress = self.load.progress(ANSWERS).await;
        self.must("clients wait, although every process is there", progress);
        Ok(())
    }

    /// Ends everything, and compares the files themselves.
    async fn close(mut self, started: Instant) -> Result<VolumeReport> {
        self.done.blocks_after_part_3 = self.compare_after("after part 3").await?;
        let settled = self.load.settle().await;
        self.must("clients do not come to rest", settled);
        let words = if self.findings.are_there() { self.site.last_words() } else { String::new() };
        let (counts, longest_wait, book) = (self.load.counts(), self.load.longest_wait(), self.book());
        let Run { order, mut site, load, findings, mut done, at_kills, .. } = self;
        let mut hashes = Vec::new();
        if findings.are_there() {
            // Ending in order could take for ever.
            site.kill_everything().await?;
        } else {
            load.end().await?;
            for wrong in site.stop().await? {
                findings.add(None, wrong, "");
            }
        }
        if !findings.are_there() {
            let files = (0..MEMBERS).map(|member| site.region_file(member)).collect::<Result<Vec<_>>>()?;
            let compared = spawn_blocking(move || regions::compare(&files, &book)).await;
            match compared.context("comparing the regions")?? {
                Ok(blocks) => {
                    done.blocks_at_the_end = Some(blocks);
                    hashes = region_hashes(&site, &findings).await?;
                }
                Err(Difference { block, what }) => findings.add(block, what, "after all processes had ended"),
            }
            let files = (0..MEMBERS).map(|member| site.region_file(member)).collect::<Result<Vec<_>>>()?;
            done.members_with_plaintext =
                Some(look_for_plaintext(files, order.is_encrypted, &findings).await?);
        }
        let findings = findings.take();
        let files_kept = if findings.is_empty() { None } else { site.keep_files().map(ToString::to_string) };
        let mismatches = findings.iter().filter(|finding| finding.block.is_some()).count() as u64;
        Ok(VolumeReport {
            seed: order.seed,
            operations: counts.answered(),
            bytes_verified: counts.blocks_checked * BLOCK as u64,
            mismatches,
            errors: findings.len() as u64 - mismatches,
            region_hashes: hashes,
            repairs_at_kills: at_kills,
            clients: order.clients,
            is_encrypted: order.is_encrypted,
            done,
            counts,
            longest_wait_ms: longest_wait.as_millis() as u64,
            seconds: started.elapsed().as_secs_f64(),
            findings,
            logs: words,
            files_kept,
        })
    }

    /// What does not come about in time is found wrong.
    fn must(&self, what: &str, result: Result<()>) {
        if let Err(error) = result {
            self.findings.add(None, what, format!("{error:#}"));
        }
    }

    fn check_processes(&mut self) -> Result<()> {
        for ended in self.site.ended_by_themselves()? {
            self.findings.add(None, "a process has ended by itself", ended);
        }
        Ok(())
    }
}
