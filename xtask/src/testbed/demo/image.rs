//! What the volume is filled with: an artifact of the release, where a depot has it.

use super::{HOLDER, MIB};
use anyhow::{Context, Result, bail};
use ids::ArtifactHash;
use std::ops::RangeInclusive;
use testbed::Cluster;

/// Bytes of the artifact with which the volume is filled: whole mebibytes, so few that they are kept in memory, and so many that a region is
/// filled in eight pieces at least (beside clients, a piece is 4 MiB).
const IMAGE_BYTES: RangeInclusive<u64> = 32 * MIB..=256 * MIB;

/// An artifact of the release, where a depot has it.
pub(super) struct Image {
    pub(super) name: String,
    pub(super) url: String,
    pub(super) size_bytes: u64,
    pub(super) hash: ArtifactHash,
}

impl Image {
    /// The largest artifact that fits, at the depot of the sled that will hold the volume.
    pub(super) async fn of(cluster: &Cluster) -> Result<Image> {
        let artifacts = cluster.operator()?.artifacts().await.context("listing artifacts")?;
        let fits = |size: u64| IMAGE_BYTES.contains(&size) && size.is_multiple_of(MIB);
        let largest = artifacts.into_iter().filter(|one| fits(one.size)).max_by_key(|one| one.size);
        let Some(artifact) = largest else {
            bail!(
                "the volume of the demo is filled with an artifact, and the release has none of {} to {} whole MiB; without \
                 --release there is one",
                IMAGE_BYTES.start() / MIB,
                IMAGE_BYTES.end() / MIB
            );
        };
        let holder = artifact.holders.iter().find(|holder| holder.sled_name == HOLDER);
        let depot = &holder.with_context(|| format!("{HOLDER} does not have {}", artifact.name))?.depot_url;
        Ok(Image {
            name: format!("{} {}", artifact.name, artifact.version),
            url: format!("{}/artifact/sha256/{}", depot.trim_end_matches('/'), artifact.hash),
            size_bytes: artifact.size,
            hash: artifact.hash,
        })
    }
}
