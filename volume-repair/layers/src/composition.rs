//! What a volume is made of, with everything known that a construction request says. Plain data: nothing is opened yet.

use crate::http_url::HttpUrl;
use camino::Utf8PathBuf;
use ids::{RegionSetId, SnapshotId};
use region::{BlockSize, Geometry, Member};
use std::{
    collections::BTreeMap,
    fmt,
    net::SocketAddr,
    num::NonZeroU64,
    sync::{Arc, Mutex},
};
use upstairs::{Config, Patience};
use volume_seals::Opener;

/// What a volume is made of.
#[derive(Debug)]
pub struct Composition {
    /// Of all its blocks, and of those that lie under them.
    pub block_size: BlockSize,
    /// The volume's own parts, one behind the other; then those of its parent, which lie under them; and so on.
    pub layers: Vec<Vec<Part>>,
}

/// A part of a layer.
#[derive(Debug)]
pub enum Part {
    /// Regions that hold the same blocks.
    RegionSet {
        /// The set, and the right to write it.
        config: Box<Config>,
        /// Where each of its members is served: those that there are to be, then those that leave.
        members: Vec<SocketAddr>,
    },
    /// Something that is only read.
    Source(Source),
}

/// Something that is only read.
#[derive(Clone, Debug)]
pub enum Source {
    /// A file of this machine. It has whole blocks.
    File {
        /// Where; from the root on.
        path: Utf8PathBuf,
    },
    /// What a server has, which answers requests for ranges of it.
    Url {
        /// Where.
        url: HttpUrl,
        /// Its size in bytes: whole blocks.
        size_bytes: u64,
    },
    /// What a region set has held.
    Snapshot(Arc<SetSnapshot>),
}

/// What a region set has held at one moment. Any of the members that have it has all of it.
#[derive(Debug)]
pub struct SetSnapshot {
    /// Of which set.
    pub set: RegionSetId,
    /// Which.
    pub snapshot: SnapshotId,
    /// What the set is like.
    pub geometry: Geometry,
    /// Those that have it, and where they are served: one at least.
    pub members: Vec<(Member, SocketAddr)>,
    /// What opens its blocks, if they are sealed. Locked while blocks are opened, and no longer.
    pub opener: Option<Mutex<Opener>>,
}

impl fmt::Display for SetSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "snapshot {} of region set {}", self.snapshot, self.set)
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::File { path } => write!(f, "{path}"),
            Source::Url { url, .. } => write!(f, "{url}"),
            Source::Snapshot(snapshot) => write!(f, "{snapshot}"),
        }
    }
}

impl Composition {
    /// One region set, and nothing under it.
    #[must_use]
    pub fn of_region_set(config: Config, members: Vec<SocketAddr>) -> Composition {
        let block_size = config.geometry.block_size;
        Composition { block_size, layers: vec![vec![Part::RegionSet { config: Box::new(config), members }]] }
    }

    /// Begins with one full member of each of its own region sets, though others may have what it never had. Those that lie under it
    /// always need two.
    pub fn accept_possible_loss(&mut self) {
        for part in self.layers.iter_mut().take(1).flatten() {
            if let Part::RegionSet { config, .. } = part {
                config.accepts_possible_loss = true;
            }
        }
    }

    /// How long clients wait for members, and for room on their disks: those of all region sets, and of those that lie under it.
    pub fn set_patience(&mut self, patience: Patience) {
        for part in self.layers.iter_mut().flatten() {
            if let Part::RegionSet { config, .. } = part {
                config.patience = patience;
            }
        }
    }

    /// Bytes of blocks that the members of each region set which are filled are given in a second at most.
    pub fn set_repair_rate(&mut self, rate: NonZeroU64) {
        for part in self.layers.iter_mut().flatten() {
            if let Part::RegionSet { config, .. } = part {
                config.limits.repair_rate = Some(rate);
            }
        }
    }

    /// Where the members of all region sets are served.
    #[must_use]
    pub fn addresses(&self) -> BTreeMap<Member, SocketAddr> {
        let of = |part: &Part| match part {
            Part::RegionSet { config, members } => {
                config.members.all().copied().zip(members.iter().copied()).collect()
            }
            Part::Source(_) => Vec::new(),
        };
        self.layers.iter().flatten().flat_map(of).collect()
    }

    /// All that is only read, in its order. A source's place here is its [`crate::SourceId`].
    #[must_use]
    pub fn sources(&self) -> Vec<Source> {
        let of = |part: &Part| if let Part::Source(source) = part { Some(source.clone()) } else { None };
        self.layers.iter().flatten().filter_map(of).collect()
    }
}
