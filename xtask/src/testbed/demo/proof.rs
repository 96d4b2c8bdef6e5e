//! The steps in which it is seen that nothing is lost, and that nothing is left.

use super::{
    Demo, Exported, FAILS, HOLDER,
    content::{Content, sha256_of, short},
    mib,
};
use anyhow::{Context, Result, ensure};
use ids::SnapshotId;
use std::time::Instant;
use testbed::{ConstructionRequest, DiskFault, DiskName, HeldVolume, regions_alone};

impl Demo<'_> {
    pub(super) async fn read_again(&self, exported: &Exported) -> Result<()> {
        let since = Instant::now();
        let sha256 = sha256_of(&exported.socket).await?;
        let wanted = exported.content.sha256();
        ensure!(sha256 == wanted, "the volume has SHA-256 {sha256}, and what was written has {wanted}");
        let read = mib(exported.content.len());
        let what = format!("{read} are read: SHA-256 {}, as written", short(&sha256));
        self.held(since, what, &self.by_hand.read());
        Ok(())
    }

    pub(super) async fn read_each_region_alone(
        &self,
        volume: &HeldVolume,
        request: &ConstructionRequest,
        content: &Content,
    ) -> Result<()> {
        let (since, wanted) = (Instant::now(), content.sha256());
        let snapshot = SnapshotId::generate();
        volume.snapshot(snapshot).await?;
        let alone = regions_alone(request, snapshot)?;
        for (region, of_one) in &alone {
            let held = self.cluster.attach_volume(HOLDER, of_one).await?;
            let sha256 = sha256_of(&held.export(true).await?).await?;
            ensure!(sha256 == wanted, "region {region} has SHA-256 {sha256}, and the volume {wanted}");
            held.detach().await?;
        }
        let what = format!(
            "each of the {} regions is read alone, at a snapshot: SHA-256 {}, {} times",
            alone.len(),
            short(&wanted),
            alone.len()
        );
        self.held(since, what, &self.by_hand.read_each_region_alone());
        Ok(())
    }

    pub(super) async fn release(&self, volume: &HeldVolume, request: &ConstructionRequest) -> Result<()> {
        let since = Instant::now();
        volume.detach().await?;
        // What lies on a disk that fails cannot be destroyed.
        self.cluster.disk_fault(&DiskName::parse(FAILS)?, DiskFault::Heal).await?;
        let regions = self.cluster.destroy_volume(request).await?;
        let held = self.cluster.sled(HOLDER)?.pantry_volumes().await.context("asking for what is held")?;
        ensure!(held.items.is_empty(), "{HOLDER} holds volumes still: {:?}", held.items);
        let mut left = Vec::new();
        for sled in self.cluster.environment()?.sleds {
            let page = self.cluster.sled(&sled.name)?.regions(&Default::default()).await;
            let page = page.with_context(|| format!("asking {} for its regions", sled.name))?;
            left.extend(page.items.into_iter().filter(|region| region.volume_id == volume.id()));
        }
        ensure!(left.is_empty(), "regions of the volume are left: {left:?}");
        let what =
            format!("{FAILS} is healed, the volume is held no more, and its {regions} regions are destroyed");
        self.held(since, what, &self.by_hand.release(FAILS));
        Ok(())
    }
}
