//! The store's own durable steps, beside those of [`durable_fs::PublishStep`], so that a test can stop after each.
//!
//! | procedure | steps | a crash right after it leaves |
//! |---|---|---|
//! | `artifact` (PUT and local repair) | the publish steps, then `recorded` | after `renamed`: the old copy or the new; after `directory_synced`: the new copy, hashed again on open; after `recorded`: the new copy, listed at once or hashed again |
//! | `ledger` | the publish steps | the old config or the new one, whole |
//! | `records` | the publish steps | the long log or the short one |
//! | `trash` | `moved`, `synced` | after `moved`: the artifact in place (unwanted, so it goes again), in the trash, or both; after `synced`: in the trash |
//! | `restore` | `moved`, `synced` | after `moved`: in the trash (wanted, so it comes back again), in place, or both; after `synced`: in place |
//! | `quarantine` | `moved`, `synced` | after `moved`: the bad copy in place as if it had not been found out, or set aside; after `synced`: set aside |
//! | `purge` | `removed` | the file in the trash (purged again later) or nothing |

use durable_fs::StepPoint;

/// The durable steps that are not part of publishing a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StoreStep {
    /// A published copy has its verification record.
    Recorded,
    /// An unwanted artifact has its name in the trash.
    TrashMoved,
    /// That is durable.
    TrashSynced,
    /// An artifact that is wanted again has its name back.
    RestoreMoved,
    /// That is durable.
    RestoreSynced,
    /// A bad copy has its name in quarantine.
    QuarantineMoved,
    /// That is durable.
    QuarantineSynced,
    /// A file of the trash or the quarantine is gone.
    Purged,
}

impl StoreStep {
    /// Every step.
    pub const ALL: [StoreStep; 8] = [
        StoreStep::Recorded,
        StoreStep::TrashMoved,
        StoreStep::TrashSynced,
        StoreStep::RestoreMoved,
        StoreStep::RestoreSynced,
        StoreStep::QuarantineMoved,
        StoreStep::QuarantineSynced,
        StoreStep::Purged,
    ];

    /// The step as announced to [`durable_fs::Storage::reached`].
    #[must_use]
    pub fn point(self) -> StepPoint {
        let (procedure, step) = match self {
            StoreStep::Recorded => (ARTIFACT_PROCEDURE, "recorded"),
            StoreStep::TrashMoved => ("trash", "moved"),
            StoreStep::TrashSynced => ("trash", "synced"),
            StoreStep::RestoreMoved => ("restore", "moved"),
            StoreStep::RestoreSynced => ("restore", "synced"),
            StoreStep::QuarantineMoved => ("quarantine", "moved"),
            StoreStep::QuarantineSynced => ("quarantine", "synced"),
            StoreStep::Purged => ("purge", "removed"),
        };
        StepPoint { procedure, step }
    }
}

/// The procedure that writes a copy of an artifact.
pub const ARTIFACT_PROCEDURE: &str = "artifact";
/// The procedure that writes a ledger.
pub const LEDGER_PROCEDURE: &str = crate::ledger::PROCEDURE;
/// The procedure that compacts the records.
pub const RECORDS_PROCEDURE: &str = crate::records::PROCEDURE;
