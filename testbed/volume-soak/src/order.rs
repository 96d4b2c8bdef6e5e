//! What is wanted: how much, on what, and who is told meanwhile.

use camino::Utf8PathBuf;

/// Where a run takes place.
#[derive(Clone, Debug)]
pub struct VolumeSite {
    /// Directory in which the run's directory lies while it lasts.
    pub parent: Utf8PathBuf,
    /// The programs; none for those beside the running test.
    pub bin_dir: Option<Utf8PathBuf>,
    /// Whether the run's directory stays if something was found wrong.
    pub keeps_files: bool,
}

/// Blocks at the end of the volume that nobody ever writes: they are to stay so in all copies.
const NEVER_WRITTEN: u64 = 256;

/// A run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VolumeOrder {
    /// Rounds of part 1: each does something to the Downstairs.
    pub rounds: u32,
    /// Rounds of part 2: each kills the export, or everything.
    pub ends: u32,
    /// Rounds of part 3: each replaces a member.
    pub replacements: u32,
    /// Clients at once, each with a connection and blocks of its own.
    pub clients: u32,
    /// Blocks of each client.
    pub client_blocks: u32,
    /// Blocks that fio writes and verifies.
    pub fio_blocks: u32,
    /// A process is paused for so long at most.
    pub pause_ms_max: u64,
    /// A killed process is started again after so long at most.
    pub down_ms_max: u64,
    /// Chooses what is done when, and what clients do.
    pub seed: u64,
    /// Whether the volume is encrypted: then blocks are forged, too, and nothing of what clients write may be in any member's file.
    pub is_encrypted: bool,
}

impl VolumeOrder {
    /// For every run of all tests.
    #[must_use]
    pub fn short(seed: u64) -> VolumeOrder {
        VolumeOrder {
            rounds: 10,
            ends: 3,
            replacements: 10,
            clients: 2,
            client_blocks: 1_024,
            // Filling a member takes long enough that something is killed meanwhile.
            fio_blocks: 8_192,
            pause_ms_max: 1_500,
            down_ms_max: 800,
            seed,
            is_encrypted: false,
        }
    }

    /// The same of an encrypted volume, and less of it: for every run of all tests, too.
    #[must_use]
    pub fn short_encrypted(seed: u64) -> VolumeOrder {
        VolumeOrder {
            rounds: 5,
            ends: 2,
            replacements: 2,
            client_blocks: 512,
            fio_blocks: 4_096,
            ..VolumeOrder::short(seed)
        }
        .encrypted()
    }

    /// The same of an encrypted volume.
    #[must_use]
    pub fn encrypted(self) -> VolumeOrder {
        VolumeOrder { is_encrypted: true, ..self }
    }

    /// What a release has to stand.
    #[must_use]
    pub fn full(seed: u64) -> VolumeOrder {
        VolumeOrder {
            rounds: 100,
            ends: 20,
            replacements: 100,
            clients: 4,
            client_blocks: 4_096,
            fio_blocks: 65_536,
            // Beyond what an Upstairs waits for a silent member.
            pause_ms_max: 12_000,
            down_ms_max: 5_000,
            seed,
            is_encrypted: false,
        }
    }

    /// Blocks of the whole volume: the clients', behind them fio's, and behind those nobody's.
    #[must_use]
    pub(crate) fn blocks(&self) -> u64 {
        self.fio_first() + u64::from(self.fio_blocks) + NEVER_WRITTEN
    }

    /// The first of fio's blocks.
    #[must_use]
    pub(crate) fn fio_first(&self) -> u64 {
        u64::from(self.clients) * u64::from(self.client_blocks)
    }
}

/// Hears how far a run is, after each round.
pub type Progress<'a> = &'a (dyn Fn(&str) + Sync);
