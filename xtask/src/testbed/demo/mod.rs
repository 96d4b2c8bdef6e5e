//! `testbed --demo`: what a volume is for, shown on the cluster that has just come up. Owns the story: its steps in their order, and what
//! each of them has to find; the `testbed` crate does what is done. What does not hold ends the story with an error, and the cluster with it.
//!
//! ```text
//!   made on three sleds ─► held by a Pantry ─► filled from a depot ─► read ─► a disk fails ─► written and read with two
//!     ─► a new region is filled, beside a client:  the coordinator is killed ─► more is filled ─► the coordinator is back
//!     ─► full, and the coordinator knows ─► read ─► each region read alone ─► everything released
//! ```
//!
//! The steps, in their order: [`service`], [`repair`], [`proof`]. Beside them:
//! - [`image`]: what the volume is filled with.
//! - [`by_hand`]: the commands with which a person does each step.
//! - [`client`]: a client that goes on meanwhile.
//! - [`content`]: what the volume has to hold, and what it holds.

mod by_hand;
mod client;
mod content;
mod image;
mod proof;
mod repair;
mod service;

use super::{Place, narrator::Narrator};
use anyhow::{Context, Result};
use by_hand::ByHand;
use camino::Utf8PathBuf;
use content::Content;
use image::Image;
use std::{
    fmt::Display,
    time::{Duration, Instant},
};
use testbed::Cluster;
use tokio::time::timeout;

/// Sleds that the story needs: three that have the volume, and one that gets the new region.
pub(super) const SLEDS_MIN: usize = 4;

/// Whose Pantry holds the volume.
const HOLDER: &str = "sled-a";

/// Who is killed in the middle of it.
const COORDINATOR: &str = "nexus-1";

/// The disks with the volume's regions, the one of them that fails, and the one that takes its place.
const DISKS: [&str; 3] = ["sled-a/disk-0", "sled-b/disk-0", "sled-c/disk-0"];
const FAILS: &str = DISKS[1];
const TAKES_ITS_PLACE: &str = "sled-d/disk-0";

const MIB: u64 = 1 << 20;

/// How long a step may take in all. A volume that lacks members gives clients no error: they wait.
const STEP_LIMIT: Duration = Duration::from_secs(180);

/// How long something is waited for that comes in a moment.
const LIMIT: Duration = Duration::from_secs(30);

/// Tells the story. An error is the step that did not hold.
pub(super) async fn tell(place: &Place, cluster: &Cluster, narrator: &Narrator) -> Result<()> {
    let demo = Demo { cluster, narrator, by_hand: ByHand::of(cluster, &place.name_option(), HOLDER)? };
    demo.preface();
    let since = Instant::now();
    let image = step("choosing an artifact", Image::of(cluster)).await?;
    let request = step("making a volume", demo.make(&image)).await?;
    let volume = step("having it held", demo.hold(&request)).await?;
    step("filling it", demo.fill(&volume, &image)).await?;
    let mut exported = step("reading it", demo.read_the_image(&volume, &image)).await?;
    step("failing a disk", demo.fail_a_disk()).await?;
    step("going on with two", demo.go_on_with_two(&volume, &request, &mut exported)).await?;
    let (request, new) = step("making another region", demo.make_another_region(&request)).await?;
    let client = demo.start_client(&exported);
    step("beginning to fill it", demo.begin_to_fill(&volume, &request, new)).await?;
    step("losing the coordinator", demo.lose_the_coordinator_meanwhile(&volume, new)).await?;
    step("being whole again", demo.be_whole_again(&volume, new, client, &mut exported)).await?;
    step("asking the coordinator", demo.see_what_the_coordinator_knows(&volume, new)).await?;
    step("reading it again", demo.read_again(&exported)).await?;
    let alone = demo.read_each_region_alone(&volume, &request, &exported.content);
    step("reading each region alone", alone).await?;
    step("releasing everything", demo.release(&volume, &request)).await?;
    narrator.line(&format!(
        "\nevery check has held: a disk and the coordinator were lost, and not a byte ({:.1} s)",
        since.elapsed().as_secs_f64()
    ));
    Ok(())
}

/// A step that has a name, and an end.
async fn step<T>(name: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
    let done = timeout(STEP_LIMIT, work).await;
    let done = done.with_context(|| format!("{name} is not done after {} s", STEP_LIMIT.as_secs()))?;
    done.with_context(|| name.to_owned())
}

/// Who tells it, and of what.
struct Demo<'a> {
    cluster: &'a Cluster,
    narrator: &'a Narrator,
    by_hand: ByHand,
}

/// A volume that clients use.
struct Exported {
    socket: Utf8PathBuf,
    /// What it has to hold.
    content: Content,
}

impl Demo<'_> {
    fn preface(&self) {
        let words = [
            "\nNow a volume: three copies of every block, on three sleds. A sled's Pantry holds volumes that no VM uses;",
            "its depot serves artifacts. Behind each step: how to do it by hand, afterwards, in a cluster of your own.",
            "(That takes curl, jq, and Debian's qemu-utils and libnbd-bin. `cargo xtask testbed reset` removes it again.)\n",
        ];
        words.iter().for_each(|line| self.narrator.line(line));
        self.commands(&self.by_hand.preface());
    }

    /// A step that has held, how long it took, and how to do it by hand.
    fn held(&self, since: Instant, what: impl Display, by_hand: &[String]) {
        self.narrator.fact(&format!("{what} ({:.1} s)", since.elapsed().as_secs_f64()));
        self.commands(by_hand);
    }

    fn commands(&self, commands: &[String]) {
        commands.iter().for_each(|command| self.narrator.command(command));
    }
}

/// Bytes as people read them.
fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / MIB as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_step_that_hangs_ends_the_story_by_its_name() {
        let error = step("reading it", std::future::pending::<Result<()>>()).await.unwrap_err();
        assert_eq!(error.to_string(), "reading it is not done after 180 s");
        let error =
            step("reading it", async { Err::<(), _>(anyhow::anyhow!("nobody is there")) }).await.unwrap_err();
        assert_eq!(format!("{error:#}"), "reading it: nobody is there");
        assert_eq!(step("reading it", async { Ok(7) }).await.unwrap(), 7);
    }
}
