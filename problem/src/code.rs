//! The catalogue of error codes. To add one: add a row.

/// Generates [`Code`] from the rows below, so that a code, its status and its words stand in one place.
macro_rules! catalogue {
    ($($variant:ident $name:literal $status:literal $title:literal $hint:literal;)*) => {
        /// A kind of problem. The name is stable: scripts branch on it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Code {
            $(#[doc = concat!("`", $name, "` (", stringify!($status), "): ", $title, ".")] $variant,)*
        }

        impl Code {
            /// Every code, in the order of the catalogue.
            pub const ALL: &'static [Code] = &[$(Code::$variant),*];

            /// The stable name, snake_case.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Code::$variant => $name,)* }
            }

            /// The HTTP status it is answered with.
            #[must_use]
            pub fn status(self) -> u16 {
                match self { $(Code::$variant => $status,)* }
            }

            /// The kind of problem in a few words.
            #[must_use]
            pub fn title(self) -> &'static str {
                match self { $(Code::$variant => $title,)* }
            }

            /// What to do next, where that is the same each time.
            #[must_use]
            pub fn hint(self) -> Option<&'static str> {
                let hint = match self { $(Code::$variant => $hint,)* };
                (!hint.is_empty()).then_some(hint)
            }
        }
    };
}

catalogue! {
    // Any API.
    Unauthorized "unauthorized" 401 "no valid token" "send 'Authorization: Bearer <token>'; sledctl reads SLEDCTL_TOKEN";
    Forbidden "forbidden" 403 "the token's role does not allow this" "use a token of a role that may do this";
    NotFound "not_found" 404 "no such thing" "";
    NoSuchRoute "no_such_route" 404 "no such path in this API" "GET /openapi.json lists every path";
    MethodNotAllowed "method_not_allowed" 405 "the path exists, but not with this method" "GET /openapi.json lists every path";
    BadRequest "bad_request" 400 "the request is malformed" "";
    BadJson "bad_json" 400 "the body is not the JSON that is expected here" "";
    BadPageToken "bad_page_token" 400 "the page token is not one of ours" "start again without page_token";
    BodyTooLarge "body_too_large" 413 "the body is larger than the limit" "";
    SenderSilent "sender_silent" 408 "the sender stopped in the middle of the body" "send it again";
    LengthMismatch "length_mismatch" 400 "the body ended before its declared length" "send it again";
    RangeNotSatisfiable "range_not_satisfiable" 416 "the range lies outside the bytes" "";
    TooManyRequests "too_many_requests" 429 "too many of these at once" "retry after the time in Retry-After";
    NoSpace "no_space" 507 "no space left for this" "free space or raise the quota, then try again";
    Unavailable "unavailable" 503 "not able to answer now" "retry after the time in Retry-After";
    DatabaseUnavailable "database_unavailable" 503 "the database does not answer, or not as it should" "retry after the time in Retry-After; `sledctl status` says what is known of it";
    Internal "internal" 500 "a bug or a broken machine" "the server's log has the details under this request_id";

    // Artifacts on a sled.
    ArtifactNotFound "artifact_not_found" 404 "no verified copy of this artifact here" "";
    NotInConfig "not_in_config" 409 "the sled's artifact config does not want this artifact" "put a config that lists it first";
    NoConfig "no_config" 404 "the sled has no artifact config yet" "put a config first";
    ConfigGeneration "config_generation" 409 "the generation is not the one in force" "read GET /artifacts-config and act on its generation";
    ClusterMismatch "cluster_mismatch" 409 "the sled belongs to another cluster" "check which cluster the sled was joined to before moving it";
    DigestMismatch "digest_mismatch" 400 "the bytes do not hash to the name" "send the bytes that the name stands for";
    ArtifactWanted "artifact_wanted" 409 "the config in force wants this artifact" "take it out of the config first";
    JobNotFound "job_not_found" 404 "no such copy job" "";
    NoHealthyDataset "no_healthy_dataset" 503 "no M.2 of the sled can be used" "replace the disks; GET /artifacts tells what failed";
    SourceFailed "source_failed" 502 "no source could deliver the artifact" "";
    Cancelled "cancelled" 409 "the job was cancelled" "";

    // Regions on a sled.
    BadRegion "bad_region" 400 "there can be no such region" "the detail says what: mend the request, and PUT it again";
    RegionSnapshotRefused "region_snapshot_refused" 409 "the snapshot of the region is not taken, or is there still" "the answer says why";
    DownstairsAway "downstairs_away" 503 "the Downstairs of the region's disk does not answer" "retry after the time in Retry-After";
    SnapshotDeleted "snapshot_deleted" 409 "the snapshot was deleted: its id is used up" "take one under another id";
    RegionHasSnapshots "region_has_snapshots" 409 "the region is not destroyed, because it has snapshots" "delete its snapshots first; GET of the region lists them";
    RegionNotFound "region_not_found" 404 "no such region here" "";
    DiskNotFound "disk_not_found" 404 "the sled has no such disk for regions" "GET /disks lists those that it has";
    RegionConflict "region_conflict" 409 "the region is there with other content" "ask for what it has, or choose another id";
    RegionDestroyed "region_destroyed" 409 "this life of the region has ended" "choose another id, or a greater incarnation once it is destroyed";
    RegionLost "region_lost" 409 "the region was made, and its disk does not have it any more" "destroy it, and make another one";
    RegionStrange "region_strange" 409 "something that is none of the sled's has the region's place" "look at the disk; it is left as it is";
    RegionBusy "region_busy" 503 "another call is at work on this region" "retry after the time in Retry-After";
    RegionInUse "region_in_use" 503 "the region is to be destroyed, and somebody has it open" "it goes on by itself; end its Upstairs, or retry after the time in Retry-After";
    RegionsFull "regions_full" 507 "the sled has as many regions as it may have" "destroy some, or choose another sled";
    RegionUnreadable "region_unreadable" 503 "what the sled remembers of the region cannot be read" "the agent's log says why; a person must look";
    DiskUnusable "disk_unusable" 503 "the disk cannot be used now" "GET /disks says how it does";

    // Volumes in a sled's Pantry.
    BadVolume "bad_volume" 400 "there can be no such volume, or a part of it is not to be had" "problems has the name of what is wrong, and docs/VOLUMES.md what each means: mend the request, and PUT it again";
    VolumeKeyMissing "volume_key_missing" 400 "the volume is encrypted, and no key was given" "send the header Volume-Key: 64 hexadecimal digits, as in a key file; a volume that has ended needs it again";
    VolumeKeyWrong "volume_key_wrong" 400 "the key is not that of the volume" "the request has the check value of the key that it needs";
    VolumeKeyNotWanted "volume_key_not_wanted" 400 "a key was given, and the volume is not encrypted" "send no Volume-Key, or the request of the volume that is meant";
    VolumeKeyMalformed "volume_key_malformed" 400 "what was given as a key is none" "the header Volume-Key is there once, and has 64 hexadecimal digits";
    PantryVolumeNotFound "pantry_volume_not_found" 404 "the sled's Pantry has no such volume" "GET /pantry/volumes lists those that it has";
    PantryVolumeEnded "pantry_volume_ended" 409 "the process that had the volume has ended" "PUT the volume once more, with a higher epoch; or DELETE it";
    PantryVolumeBusy "pantry_volume_busy" 503 "another call is at work on this volume" "retry after the time in Retry-After";
    PantryVolumesFull "pantry_volumes_full" 507 "the sled's Pantry has as many volumes as it may have" "detach some, or choose another sled";
    PantryConflict "pantry_conflict" 409 "the volume runs by another construction request" "a request that differs has a higher config_version, and differs in members alone; GET says by which one it runs";
    PantryChangeRefused "pantry_change_refused" 409 "the volume's members cannot be changed in this way now" "nothing has changed; problems has the name of the reason, and docs/VOLUMES.md what each means; GET the volume: its status says how its members do";
    VolumeMemberUnfit "volume_member_unfit" 409 "a new member of the volume is another one than the request means" "nothing has changed; make its region anew, or name it as it is";
    VolumeNoParent "volume_no_parent" 409 "nothing lies under the volume" "nothing is to be done: all of it is its own";
    PantryFenced "pantry_fenced" 409 "somebody else holds the volume" "whoever is to hold it instead PUTs it with a higher epoch";
    PantryLost "pantry_lost" 409 "the volume's members have lost writes that were acknowledged" "a person must decide; docs/BLOCK.md says how that comes";
    PantryNotActivated "pantry_not_activated" 409 "the volume was not activated" "PUT it with activate=now";
    PantryNotActive "pantry_not_active" 503 "the volume is activated, and not active yet" "GET it: its status says for whom it waits";
    PantryReadOnly "pantry_read_only" 409 "nothing can be written to the volume: a part of it is only read" "";
    PantryWritten "pantry_written" 409 "the volume is written by somebody else already, through this Pantry" "one import at a time, and none beside a read/write export; cancel it, take the export back, or detach the volume";
    PantryExportConflict "pantry_export_conflict" 409 "the volume is exported in this way already, at another port" "leave the port out, or take that export back first";
    PantryExportInUse "pantry_export_in_use" 409 "clients use the export" "end them; or say force, and they are cut off when what they have written is durable";
    ExportAddress "export_address" 400 "the address is not the sled's" "leave the address out: an export is at the sled's own";
    ExportPortTaken "export_port_taken" 409 "the port is in use, or kept for something else" "choose another one, or leave it out";
    ExportTcpNotAllowed "export_tcp_not_allowed" 409 "the sled's config does not allow this export over TCP" "[pantry] tcp_exports in the agent's config: NBD over TCP is not encrypted, and asks nobody who he is";
    ImportLengthMissing "import_length_missing" 411 "it is not known how many bytes the import will have" "send a Content-Length";
    ImportTooLong "import_too_long" 413 "the import has more bytes than it is to have" "say size_bytes, or choose a volume that is as large";
    ImportTooShort "import_too_short" 400 "the import has fewer bytes than it is to have" "say size_bytes if what lies behind them is to stay as it is";
    ImportSize "import_size" 400 "the import is not a whole number of blocks, or nothing" "send whole blocks: fill the last one with zeros, and say size_bytes";
    ImportStopped "import_stopped" 400 "the import ended before it had all its bytes" "the job says how many are in; begin again, with another job_id";
    ImportSourceFailed "import_source_failed" 502 "what was to be imported is not to be had" "look whether the sled reaches the server, and what that answers; begin again, with another job_id";
    PantryJobNotFound "pantry_job_not_found" 404 "the volume has no such job" "jobs that ended are forgotten after a while, and with their volume";
    PantryJobConflict "pantry_job_conflict" 409 "the volume has another job of this id" "choose another job_id, or none";
    PantryJobRunning "pantry_job_running" 409 "the job of this id runs" "GET it to see how far it is";
    VolumeFailed "volume_failed" 502 "the volume has not done what it was asked" "GET it: its status says how its members do";
    CopiesDamaged "copies_damaged" 502 "a scrub has found copies that it could not mend" "the job tells which regions, and how many blocks; replace the members that have them wrong";
    SnapshotNotDone "snapshot_not_done" 409 "the snapshot is not taken" "GET the volume: its status says for whom it waits; DELETE the snapshot of the regions that have it, and take one under another id";
    SnapshotFaulted "snapshot_faulted" 409 "the snapshot is not taken: two full members of the volume are not there" "nobody has it; GET the volume: its status says for whom it waits";
    PantryDown "pantry_down" 503 "the sled's Pantry does not answer" "GET /pantry/volumes says how its process does; it is started again by itself";

    // Releases.
    NotAZip "not_a_zip" 400 "the upload is not a zip archive" "upload the .zip that the release tool wrote";
    ZipTruncated "zip_truncated" 400 "the zip archive is cut off or damaged" "upload it again; compare its SHA-256 with the publisher's";
    ZipBomb "zip_bomb" 400 "the archive expands beyond the limit" "raise release.expanded_bytes_max if the release is really this large";
    ZipPathTraversal "zip_path_traversal" 400 "an entry's name leaves the archive" "";
    ZipPathAbsolute "zip_path_absolute" 400 "an entry's name is absolute" "";
    ZipDuplicateName "zip_duplicate_name" 400 "two entries have the same name" "";
    ZipEntryUnsupported "zip_entry_unsupported" 400 "an entry is of a kind that is not accepted" "only plain files, stored or deflated, are accepted";
    MetadataMissing "metadata_missing" 400 "TUF metadata is missing" "";
    MetadataInvalid "metadata_invalid" 400 "TUF metadata does not say what the specification asks for" "";
    MetadataExpired "metadata_expired" 400 "TUF metadata has expired" "upload a release that was signed again, or set tuf.expiry = \"warn\"";
    NoTrustRoots "no_trust_roots" 400 "no trust root has been added" "sledctl trust-root add root.json";
    UnknownRoot "unknown_root" 400 "no trust root that was added has signed this" "sledctl trust-root list; add the publisher's root.json";
    BadSignature "bad_signature" 400 "a signature does not fit what it signs" "";
    SignatureThreshold "signature_threshold" 400 "fewer valid signatures than the role's threshold" "";
    TargetMissing "target_missing" 400 "a signed target is not in the archive" "";
    TargetLengthMismatch "target_length_mismatch" 400 "a target's length is not the signed one" "";
    TargetDigestMismatch "target_digest_mismatch" 400 "a target's bytes are not the signed ones" "";
    ReleaseInvalid "release_invalid" 400 "artifacts.json does not describe a release" "";
    VersionMissing "version_missing" 400 "the release does not say its version" "give ?system_version=";
    VersionMismatch "version_mismatch" 400 "system_version is not the one in artifacts.json" "leave system_version out, or correct it";
    VersionConflict "version_conflict" 409 "this version exists with other content" "give the new content a new version";
    RepositoryNotFound "repository_not_found" 404 "no such repository" "sledctl repo list";
    NotReplicated "not_replicated" 503 "stored, but not yet on enough sleds" "it goes on by itself; GET the repository's replication";

    // Trust roots.
    RootInvalid "root_invalid" 400 "this is not a TUF root that signs itself" "send the publisher's root.json as it is";
    TrustRootDeleted "trust_root_deleted" 409 "the trust root that vouched for the release was deleted meanwhile" "add it again if it is still to be trusted, then upload again";
    TrustRootNotFound "trust_root_not_found" 404 "no such trust root" "sledctl trust-root list";

    // The coordinator.
    SledNotFound "sled_not_found" 404 "no such sled" "sledctl sled list";
    SledIdentity "sled_identity" 409 "another sled holds this id or address" "two sleds share a state directory or an address; give each its own";
    SledUnreachable "sled_unreachable" 503 "the sled does not answer" "sledctl sled show says more; try again when it is back";
    SledRefused "sled_refused" 502 "the sled refused what it was asked" "sledctl sled show says more; the same will be refused again";
    SledBroken "sled_broken" 502 "the sled answered what its API does not promise" "compare the versions of the coordinator and of the sled's agent, and read the agent's log";
    SledExpunged "sled_expunged" 409 "the sled has been expunged for good" "to use the host again, empty its state directory: it joins as another sled";
    StaleEpoch "stale_epoch" 409 "a newer holder has been seen" "who asks was replaced, and acts no more; the newer holder goes on: ask that one";
    RepairConflict "repair_conflict" 409 "another repair has this id, or this notice was told with other content" "an Upstairs gives each repair an id of its own, and each notice a sequence number that it never used";
    SagaNotFound "saga_not_found" 404 "no such saga" "sledctl op list; sagas that ended long ago are in the archive";
    SagaConflict "saga_conflict" 409 "a saga with this id exists with another kind or other parameters" "choose another id, or none";
    SagaRefused "saga_refused" 400 "nothing can be planned of these parameters" "";
    SagaEnded "saga_ended" 409 "the saga has ended" "sledctl op show says how";
    SagaNotExecuting "saga_not_executing" 409 "this coordinator does not execute the saga now" "sledctl op show says what it waits for; once it is executed again, try again";
    SagaSignalsFull "saga_signals_full" 409 "as many signals are kept for the saga as one may have" "a kind waits for few; look at them: sledctl op show";
    SagaNeedsNoAttention "saga_needs_no_attention" 409 "no undo of the saga waits for an operator" "to stop a saga that goes on: sledctl op cancel";
    TaskNotFound "task_not_found" 404 "no such background task" "sledctl task list";
    TaskPaused "task_paused" 409 "the task is paused" "sledctl task resume, then activate it again";
    TaskTimeout "task_timeout" 503 "the task did not finish in the time given" "it goes on; look at it with sledctl task show";
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn who_is_refused_a_region_a_volume_or_a_snapshot_is_told_what_to_do_next() {
        // Which thing it is that is not there, or is only read, is all that there is to know.
        let without = ["region_not_found", "pantry_read_only"];
        let kinds = ["region", "volume", "pantry", "import", "export", "snapshot", "stale"];
        for code in Code::ALL {
            let is_of = |kind: &&str| code.name().split('_').take(2).any(|word| word == *kind);
            if kinds.iter().any(is_of) && !without.contains(&code.name()) {
                assert!(code.hint().is_some(), "{} has no hint", code.name());
            }
        }
    }

    #[test]
    fn names_are_snake_case_and_unique_and_statuses_are_errors() {
        let mut seen = BTreeSet::new();
        for code in Code::ALL {
            assert!(seen.insert(code.name()), "{} stands twice", code.name());
            assert!(code.name().chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'));
            assert!((400..600).contains(&code.status()), "{} is no error status", code.name());
        }
    }
}
