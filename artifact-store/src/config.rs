//! What the store is told: where its datasets are and how patient it is ([`StoreConfig`]), and what it should hold
//! ([`StoreArtifactsConfig`]). Plain data; the rules of generations are the inventory's.

use camino::Utf8PathBuf;
use durable_fs::Storage;
use ids::{ArtifactHash, ClusterId, Generation};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, num::NonZeroU64, sync::Arc, time::Duration};

/// The store's datasets and limits. [`StoreConfig::new`] has the defaults.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// The datasets, in the order in which they are read. None, and any of them missing, is allowed.
    pub datasets: Vec<DatasetConfig>,
    /// How long an artifact that nobody wants any more stays in the trash, where wanting it again costs nothing.
    pub trash_grace: Duration,
    /// How long one dataset may keep the others of a write waiting before it is left out.
    pub slow_writer_limit: Duration,
    /// Bytes of each dataset that artifacts never take, so that ledgers and records can always be written.
    pub reserve_bytes: u64,
    /// How fast a scrub reads each dataset; unlimited if not given.
    pub scrub_bytes_per_second: Option<NonZeroU64>,
    /// How old the verification of a copy gets before the copy is hashed again in the background.
    pub scrub_after: Duration,
    /// How soon a dataset that failed is tried again for the first time; each further time waits twice as long …
    pub probe_after: Duration,
    /// … up to this.
    pub probe_after_max: Duration,
    /// A dataset that nobody uses is looked at this often, so that one that was pulled out, hangs or was remounted
    /// read-only is noticed. A look is two system calls that write nothing.
    pub check_interval: Duration,
}

impl StoreConfig {
    /// These datasets with the default limits.
    #[must_use]
    pub fn new(datasets: Vec<DatasetConfig>) -> StoreConfig {
        StoreConfig {
            datasets,
            trash_grace: Duration::from_secs(3600),
            slow_writer_limit: Duration::from_secs(10),
            reserve_bytes: 16 << 20,
            scrub_bytes_per_second: None,
            scrub_after: Duration::from_secs(30 * 24 * 3600),
            probe_after: Duration::from_millis(250),
            probe_after_max: Duration::from_secs(4),
            check_interval: Duration::from_secs(5),
        }
    }
}

/// One M.2 dataset.
#[derive(Clone, Debug)]
pub struct DatasetConfig {
    /// Its name in reports and logs: `m2-0`.
    pub name: String,
    /// Where it is mounted; shown, never opened.
    pub dir: Utf8PathBuf,
    /// How it is reached. Its root may be missing, and appear later.
    pub storage: Arc<dyn Storage>,
    /// Bytes that the store may use of it; all of the file system if not given.
    pub quota_bytes: Option<u64>,
}

/// What the store should hold: a set under one generation of one cluster. The same generation always means the same set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreArtifactsConfig {
    /// The cluster that decides.
    pub cluster_id: ClusterId,
    /// Grows with every change of the set.
    pub generation: Generation,
    /// The artifacts to hold.
    pub artifacts: BTreeSet<ArtifactHash>,
}
