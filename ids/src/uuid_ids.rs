//! One newtype per kind of thing that is named by a UUID.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};
use thiserror::Error;
use utoipa::ToSchema;
use uuid::Uuid;

/// A string that is not a UUID where an id of a named kind was expected.
#[derive(Debug, Error)]
#[error("{text:?} is not a {kind} id: a UUID such as 0191f2a0-3c1e-7000-8000-0123456789ab was expected")]
pub struct ParseIdError {
    kind: &'static str,
    text: String,
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
        )]
        #[serde(transparent)]
        #[schema(value_type = Uuid)]
        pub struct $name(pub Uuid);

        impl $name {
            /// A new id. Ids sort by the time of their making, which keeps lists in creation order.
            #[must_use]
            pub fn generate() -> Self {
                $name(Uuid::now_v7())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                Uuid::parse_str(text)
                    .map($name)
                    .map_err(|_| ParseIdError { kind: $kind, text: text.to_owned() })
            }
        }
    };
}

uuid_id!(
    /// One cluster: the sleds and coordinators that share one database.
    ClusterId, "cluster"
);
uuid_id!(
    /// One coordinator (a `nexus` process and the state directory that outlives it).
    CoordinatorId, "coordinator"
);
uuid_id!(
    /// One sled. Kept on the sled's own disks; survives renaming and re-addressing.
    SledId, "sled"
);
uuid_id!(
    /// One uploaded release repository.
    RepositoryId, "repository"
);
uuid_id!(
    /// One upload in progress; names its file in the staging area.
    UploadId, "upload"
);
uuid_id!(
    /// One trust root: a TUF `root.json` that the operator added.
    TrustRootId, "trust root"
);
uuid_id!(
    /// One saga: one run of one kind, from its creation to its end, whoever executes it.
    SagaId, "saga"
);
uuid_id!(
    /// One copy job on a sled.
    JobId, "job"
);
uuid_id!(
    /// One physical disk of a sled that holds regions, whatever it is called and wherever it is mounted.
    DiskId, "disk"
);
uuid_id!(
    /// One region: one copy of the blocks of a region set, on one disk.
    RegionId, "region"
);
uuid_id!(
    /// One region set: the regions that hold the same blocks.
    RegionSetId, "region set"
);
uuid_id!(
    /// The content of a region set at one moment, which its regions keep.
    SnapshotId, "snapshot"
);
uuid_id!(
    /// One volume: what a guest sees as a disk.
    VolumeId, "volume"
);
uuid_id!(
    /// One repair of a volume: one member that is filled, from the first word of it to its end.
    RepairId, "repair"
);
