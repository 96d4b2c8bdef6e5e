//! What is wanted: how much, on what, and who is told meanwhile.

use camino::Utf8PathBuf;
use testbed::{DatabaseKind, KeeperCommand};

/// Where a run takes place.
#[derive(Clone, Debug)]
pub struct SoakSite {
    /// Directory in which the cluster's directory lies while the run lasts.
    pub parent: Utf8PathBuf,
    /// The programs; none for those beside the running test.
    pub bin_dir: Option<Utf8PathBuf>,
    /// What ends the coordinator if this process dies without doing so; none for the one beside the programs.
    pub keeper: Option<KeeperCommand>,
    /// What the coordinator keeps its state in.
    pub database: DatabaseKind,
}

/// Run A.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CreationOrder {
    /// Sagas, at least.
    pub sagas: u64,
    /// Passes of recovery that were asked for and waited for, at least. Sagas are created until there were so many.
    pub activations: u64,
    /// Clients at once.
    pub clients: u32,
    /// Chooses what the sagas are told to do.
    pub seed: u64,
}

/// Run B.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KillOrder {
    /// SIGKILLs.
    pub kills: u64,
    /// Clients at once.
    pub clients: u32,
    /// Chooses the instants, and what the sagas are told to do.
    pub seed: u64,
}

impl CreationOrder {
    /// For every run of all tests.
    #[must_use]
    pub fn short(seed: u64) -> CreationOrder {
        CreationOrder { sagas: 600, activations: 60, clients: 16, seed }
    }

    /// What a release has to stand.
    #[must_use]
    pub fn full(seed: u64) -> CreationOrder {
        CreationOrder { sagas: 100_000, activations: 1_000, clients: 16, seed }
    }
}

impl KillOrder {
    /// For every run of all tests.
    #[must_use]
    pub fn short(seed: u64) -> KillOrder {
        KillOrder { kills: 50, clients: 64, seed }
    }

    /// What a release has to stand.
    #[must_use]
    pub fn full(seed: u64) -> KillOrder {
        KillOrder { kills: 1_000, clients: 64, seed }
    }
}

/// Hears how far a run is, a few times a second.
pub type Progress<'a> = &'a (dyn Fn(&str) + Sync);
