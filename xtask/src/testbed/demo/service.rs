//! The steps until a disk has failed: the volume is made, filled and used, with three members and with two.

use super::{
    DISKS, Demo, Exported, FAILS, HOLDER, LIMIT, MIB,
    content::{Content, short},
    image::Image,
    mib,
};
use anyhow::{Context, Result, ensure};
use std::time::Instant;
use testbed::{ConstructionRequest, DiskFault, DiskName, HeldVolume};
use volume_soak::NbdClient;

/// What is written with two members, in the first eighth of the volume.
const WITH_TWO: u8 = 0x42;

impl Demo<'_> {
    pub(super) async fn make(&self, image: &Image) -> Result<ConstructionRequest> {
        let since = Instant::now();
        let disks = DISKS.map(DiskName::parse).into_iter().collect::<Result<Vec<_>>>()?;
        let request = self.cluster.make_volume(image.size_bytes, &disks).await?;
        let what = format!(
            "a volume of {} is made: a region on each of {}",
            mib(image.size_bytes),
            DISKS.join(", ")
        );
        self.held(since, what, &self.by_hand.make(image.size_bytes / MIB, &DISKS));
        Ok(request)
    }

    pub(super) async fn hold(&self, request: &ConstructionRequest) -> Result<HeldVolume> {
        let since = Instant::now();
        let volume = self.cluster.attach_volume(HOLDER, request).await?;
        let what = format!("the Pantry of {HOLDER} holds it, and nobody else may write it now");
        self.held(since, what, &self.by_hand.put());
        Ok(volume)
    }

    pub(super) async fn fill(&self, volume: &HeldVolume, image: &Image) -> Result<()> {
        let since = Instant::now();
        let job = volume.import(image.url.clone(), image.size_bytes, image.hash).await?;
        ensure!(job.bytes_done == image.size_bytes, "{} bytes are imported", job.bytes_done);
        let what = format!("it is filled with {} from the depot: {}", image.name, mib(job.bytes_done));
        self.held(since, what, &self.by_hand.fill(&image.url, image.size_bytes, &image.hash.to_string()));
        Ok(())
    }

    pub(super) async fn read_the_image(&self, volume: &HeldVolume, image: &Image) -> Result<Exported> {
        let since = Instant::now();
        let socket = volume.export(false).await?;
        let content = Content::read(&socket).await?;
        let (sha256, wanted) = (content.sha256(), image.hash.to_string());
        ensure!(sha256 == wanted, "the volume has SHA-256 {sha256}, and the artifact {wanted}");
        let what = format!("{} are read over NBD: SHA-256 {}, as signed", mib(content.len()), short(&sha256));
        self.held(since, what, &self.by_hand.export_and_read());
        Ok(Exported { socket, content })
    }

    pub(super) async fn fail_a_disk(&self) -> Result<()> {
        let since = Instant::now();
        self.cluster.disk_fault(&DiskName::parse(FAILS)?, DiskFault::Fail).await?;
        let what = format!("{FAILS} fails: EIO, from now on, for everybody");
        self.held(since, what, &self.by_hand.disk("fail", FAILS));
        Ok(())
    }

    pub(super) async fn go_on_with_two(
        &self,
        volume: &HeldVolume,
        request: &ConstructionRequest,
        exported: &mut Exported,
    ) -> Result<()> {
        let since = Instant::now();
        let failed = self.cluster.member_on(request, &DiskName::parse(FAILS)?).await?;
        let failed = failed.with_context(|| format!("the volume has no region on {FAILS}"))?.region_id;
        let place = 0..exported.content.len() / 8;
        exported.content.fill(place.clone(), WITH_TWO)?;
        let mut client = NbdClient::connect(&exported.socket).await?;
        client.write(place.start, exported.content.at(place.clone())?).await?;
        client.flush().await?;
        let why = volume
            .wait_status("the volume to say which member is of no use", LIMIT, |status| {
                let mut members = status.volume.members();
                let failed = members.find(|member| member.region == failed);
                let words = failed.and_then(|member| member.trouble.clone());
                words.ok_or_else(|| "all of its members are".to_owned())
            })
            .await?;
        let what =
            format!("{} are written and made durable by the other two. Of the third: {why}", mib(place.end));
        self.held(since, what, &self.by_hand.write(place, WITH_TWO));
        self.read_again(exported).await
    }
}
