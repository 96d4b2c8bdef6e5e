//! The steps until all is whole again: a new region takes the place of the one that is lost, and is filled while a client goes on and the
//! coordinator is away.

use super::{COORDINATOR, Demo, Exported, FAILS, LIMIT, TAKES_ITS_PLACE, client::Client, mib};
use anyhow::{Context, Result, bail, ensure};
use ids::RegionId;
use nexus_client::repairs::{RepairState, VolumeRepair};
use std::time::{Duration, Instant};
use testbed::{ConstructionRequest, DiskFault, DiskName, HeldVolume, KillScope, RepairStatus, wait_for};

/// How much slower the new region's disk is while the coordinator is away: seconds for a piece. So the region cannot be full before the
/// coordinator is back, and people see it.
const SLOWER_MS: u64 = 25;

/// What a client writes while the third member is filled, in another eighth.
const MEANWHILE: u8 = 0x43;

/// How long it may take to fill a region, once its disk is as quick as any.
const FILL_LIMIT: Duration = Duration::from_secs(120);

impl Demo<'_> {
    /// The volume's next request, and the new region in it.
    pub(super) async fn make_another_region(
        &self,
        request: &ConstructionRequest,
    ) -> Result<(ConstructionRequest, RegionId)> {
        let since = Instant::now();
        let (from, to) = (DiskName::parse(FAILS)?, DiskName::parse(TAKES_ITS_PLACE)?);
        let next = self.cluster.replace_region(request, &from, &to).await?;
        let new = self.cluster.member_on(&next, &to).await?;
        let new = new.with_context(|| format!("the volume has no region on {to}"))?.region_id;
        let what = format!(
            "a region is made on {to}: version {} of the volume has it in the place of that on {from}",
            next.config_version
        );
        self.held(since, what, &self.by_hand.replace(FAILS, TAKES_ITS_PLACE));
        let since = Instant::now();
        self.cluster.disk_fault(&to, DiskFault::Slow { ms: SLOWER_MS }).await?;
        let slow = format!("{to} is slower by {SLOWER_MS} ms, so that there is something to see");
        self.held(since, slow, &self.by_hand.disk(&format!("slow {SLOWER_MS}"), TAKES_ITS_PLACE));
        Ok((next, new))
    }

    pub(super) fn start_client(&self, exported: &Exported) -> Client {
        let eighth = exported.content.len() / 8;
        let place = eighth * 4..eighth * 5;
        Client::start(&exported.socket, place, MEANWHILE)
    }

    pub(super) async fn begin_to_fill(
        &self,
        volume: &HeldVolume,
        request: &ConstructionRequest,
        new: RegionId,
    ) -> Result<()> {
        let since = Instant::now();
        volume.replace(request).await?;
        let row = self.coordinator_knows(volume, new, |row| row.state == RepairState::Running).await?;
        let what = format!(
            "the Pantry gets that version, and begins to fill the new region: {}. {COORDINATOR} is told",
            mib(row.bytes)
        );
        self.held(since, what, &self.by_hand.put());
        Ok(())
    }

    pub(super) async fn lose_the_coordinator_meanwhile(
        &self,
        volume: &HeldVolume,
        new: RegionId,
    ) -> Result<()> {
        let since = Instant::now();
        let is_begun = |now: &RepairStatus| {
            self.show(now);
            now.bytes_done > 0
        };
        let begun = volume.wait_filling("a piece to be filled", new, LIMIT, is_begun).await?;
        let at_kill = begun.bytes_done;
        self.cluster.kill(COORDINATOR, KillScope::WholeSled).await?;
        ensure!(!self.cluster.is_running(COORDINATOR)?, "{COORDINATOR} was killed, and runs");
        let what = format!("{COORDINATOR} is killed, with {} filled", mib(at_kill));
        self.held(since, what, &self.by_hand.kill(COORDINATOR));

        let since = Instant::now();
        let is_more = |now: &RepairStatus| {
            self.show(now);
            now.bytes_done > at_kill
        };
        let more = volume.wait_filling("more to be filled", new, LIMIT, is_more).await?;
        let what = format!("without it, filling goes on: {}", mib(more.bytes_done));
        self.held(since, what, &self.by_hand.look());

        let since = Instant::now();
        self.cluster.restart(COORDINATOR).await?;
        let filling = volume.wait_filling("the filling", new, LIMIT, |_| true).await?;
        ensure!(
            filling.finished_at.is_none(),
            "{COORDINATOR} was to be back while the region is filled, and was not before it was full"
        );
        let what = format!("{COORDINATOR} is back, with {} filled", mib(filling.bytes_done));
        self.held(since, what, &self.by_hand.restart(COORDINATOR));
        Ok(())
    }

    pub(super) async fn be_whole_again(
        &self,
        volume: &HeldVolume,
        new: RegionId,
        client: Client,
        exported: &mut Exported,
    ) -> Result<()> {
        let since = Instant::now();
        self.cluster.disk_fault(&DiskName::parse(TAKES_ITS_PLACE)?, DiskFault::Heal).await?;
        let is_over = |filling: &RepairStatus| {
            self.show(filling);
            filling.finished_at.is_some()
        };
        let filled = volume.wait_filling("the new region to be full", new, FILL_LIMIT, is_over).await?;
        if let Some(by) = filled.interrupted_by {
            bail!("the new region is not full: filling it was interrupted ({})", by.word());
        }
        let what =
            format!("{TAKES_ITS_PLACE} is as quick as any again, and has all {}", mib(filled.bytes_done));
        let mut by_hand = self.by_hand.disk("heal", TAKES_ITS_PLACE);
        by_hand.extend(self.by_hand.wait_until_filled());
        self.held(since, what, &by_hand);

        let (since, place) = (Instant::now(), client.place());
        let served = client.end().await.context("a client, while the new region was filled")?;
        exported.content.fill(place.clone(), MEANWHILE)?;
        let what = format!(
            "a client has written and read {} pieces since it began to be filled; none took longer than {} ms",
            served.requests,
            served.slowest.as_millis()
        );
        self.held(since, what, &self.by_hand.write(place, MEANWHILE));
        Ok(())
    }

    /// How far it is, for who watches.
    fn show(&self, filling: &RepairStatus) {
        let phase = filling.phase.map_or("not looked at yet", |phase| phase.word());
        self.narrator.filling(phase, filling.bytes_done, filling.bytes);
    }

    pub(super) async fn see_what_the_coordinator_knows(
        &self,
        volume: &HeldVolume,
        new: RegionId,
    ) -> Result<()> {
        let since = Instant::now();
        let row = self.coordinator_knows(volume, new, |row| row.state == RepairState::Completed).await?;
        ensure!(row.bytes_done == row.bytes, "it was told of {} bytes, of {}", row.bytes_done, row.bytes);
        let what =
            format!("{COORDINATOR} was told, from start to end: repair {}, {}", row.id, mib(row.bytes_done));
        self.held(since, what, &self.by_hand.what_the_coordinator_knows());
        Ok(())
    }

    /// The only repair of this region that the coordinator knows, once it is as wanted.
    async fn coordinator_knows(
        &self,
        volume: &HeldVolume,
        new: RegionId,
        is_it: impl Fn(&VolumeRepair) -> bool,
    ) -> Result<VolumeRepair> {
        let operator = self.cluster.operator()?;
        wait_for(&format!("{COORDINATOR} to be told of the repair"), LIMIT, async || {
            let rows = operator.volume_repairs(volume.id()).await.map_err(|error| error.to_string())?;
            let mut of_new: Vec<VolumeRepair> =
                rows.into_iter().filter(|row| row.region.region_id == new).collect();
            match (of_new.len(), of_new.pop()) {
                (1, Some(row)) if is_it(&row) => Ok(row),
                (count, last) => Err(format!("{count} rows, {last:?}")),
            }
        })
        .await
    }
}
