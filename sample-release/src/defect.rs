//! Everything that can be wrong with a release, and the code that it must be refused with.

use problem::Code;

/// One of the four top-level roles of a TUF repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Says whose keys count.
    Root,
    /// Says which snapshot is the newest.
    Timestamp,
    /// Says which versions belong together.
    Snapshot,
    /// Says what the targets are.
    Targets,
}

impl Role {
    /// All four.
    pub const ALL: [Role; 4] = [Role::Root, Role::Timestamp, Role::Snapshot, Role::Targets];

    /// Its name in metadata and file names.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Role::Root => "root",
            Role::Timestamp => "timestamp",
            Role::Snapshot => "snapshot",
            Role::Targets => "targets",
        }
    }
}

/// One way to break a release. Except where it says otherwise the rest of the release stays as it should be, so
/// that the first finding is the defect's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Defect {
    /// The file is some text instead.
    NotAZip,
    /// The file ends after three quarters.
    Truncated,
    /// A byte of a stored target was flipped on the way, after the archive was made.
    DamagedOnTheWay,
    /// An entry declares to expand to a TiB.
    BombDeclared,
    /// An entry declares to expand to 8 GiB, out of a few bytes.
    BombRatio,
    /// An entry declares 1 KiB and expands to 8 MiB.
    BombLying,
    /// Two entries share the bytes of one.
    OverlappingEntries,
    /// An entry is called `../../etc/passwd`.
    PathTraversal,
    /// An entry is called `/etc/passwd`.
    PathAbsolute,
    /// Two entries have the same name.
    DuplicateName,
    /// An entry is a symbolic link.
    Symlink,
    /// An entry says that it is encrypted.
    Encrypted,
    /// An entry says that it is compressed with zstd.
    UnsupportedMethod,
    /// An entry's name has a backslash.
    BackslashName,
    /// An entry's name has a NUL.
    NulName,
    /// An entry's name is not UTF-8.
    NonUtf8Name,
    /// An entry has another name in its own header than in the central directory.
    TwoNames,
    /// The metadata of a role is not there.
    MetadataMissing(Role),
    /// The metadata of a role is cut off.
    MetadataNotJson(Role),
    /// Other keys signed everything than those of the trust root that is handed out.
    UnknownRoot,
    /// The first signature of a role was changed.
    BadSignature(Role),
    /// A role has one signature fewer than its threshold.
    ThresholdNotMet(Role),
    /// The metadata of a role expired in 2020. Refused only where expiry is.
    Expired(Role),
    /// The last artifact's target is not there.
    TargetMissing,
    /// The first artifact's target has another byte than the signed one.
    TargetBytesDiffer,
    /// The second artifact's target is a byte longer than signed.
    TargetLengthDiffers,
    /// `artifacts.json` is no JSON (and signed as such).
    ArtifactsJsonInvalid,
    /// `artifacts.json` names no artifacts.
    ArtifactsJsonEmpty,
    /// `artifacts.json` names a target that is not signed.
    ArtifactsJsonUnknownTarget,
    /// `artifacts.json` names one artifact twice.
    ArtifactsJsonDuplicate,
    /// `artifacts.json` gives a version with a blank.
    ArtifactsJsonBadVersion,
    /// The upload is to say another version: see [`Defect::asked_version`].
    VersionMismatch,
    /// There is no `artifacts.json`, and the upload is to say no version.
    VersionMissing,
}

impl Defect {
    /// Every defect, each once for each role that it can have.
    #[must_use]
    pub fn all() -> Vec<Defect> {
        let mut all = vec![
            Defect::NotAZip,
            Defect::Truncated,
            Defect::DamagedOnTheWay,
            Defect::BombDeclared,
            Defect::BombRatio,
            Defect::BombLying,
            Defect::OverlappingEntries,
            Defect::PathTraversal,
            Defect::PathAbsolute,
            Defect::DuplicateName,
            Defect::Symlink,
            Defect::Encrypted,
            Defect::UnsupportedMethod,
            Defect::BackslashName,
            Defect::NulName,
            Defect::NonUtf8Name,
            Defect::TwoNames,
            Defect::UnknownRoot,
            Defect::TargetMissing,
            Defect::TargetBytesDiffer,
            Defect::TargetLengthDiffers,
            Defect::ArtifactsJsonInvalid,
            Defect::ArtifactsJsonEmpty,
            Defect::ArtifactsJsonUnknownTarget,
            Defect::ArtifactsJsonDuplicate,
            Defect::ArtifactsJsonBadVersion,
            Defect::VersionMismatch,
            Defect::VersionMissing,
        ];
        for role in Role::ALL {
            all.extend([
                Defect::MetadataMissing(role),
                Defect::MetadataNotJson(role),
                Defect::BadSignature(role),
                Defect::ThresholdNotMet(role),
                Defect::Expired(role),
            ]);
        }
        all
    }

    /// The code that the upload must be refused with.
    #[must_use]
    pub fn code(self) -> Code {
        match self {
            Defect::NotAZip => Code::NotAZip,
            Defect::Truncated | Defect::DamagedOnTheWay => Code::ZipTruncated,
            Defect::BombDeclared | Defect::BombRatio | Defect::BombLying | Defect::OverlappingEntries => {
                Code::ZipBomb
            }
            Defect::PathTraversal => Code::ZipPathTraversal,
            Defect::PathAbsolute => Code::ZipPathAbsolute,
            Defect::DuplicateName => Code::ZipDuplicateName,
            Defect::Symlink
            | Defect::Encrypted
            | Defect::UnsupportedMethod
            | Defect::BackslashName
            | Defect::NulName
            | Defect::NonUtf8Name
            | Defect::TwoNames => Code::ZipEntryUnsupported,
            Defect::MetadataMissing(_) => Code::MetadataMissing,
            Defect::MetadataNotJson(_) => Code::MetadataInvalid,
            Defect::UnknownRoot => Code::UnknownRoot,
            Defect::BadSignature(_) => Code::BadSignature,
            Defect::ThresholdNotMet(_) => Code::SignatureThreshold,
            Defect::Expired(_) => Code::MetadataExpired,
            Defect::TargetMissing => Code::TargetMissing,
            Defect::TargetBytesDiffer => Code::TargetDigestMismatch,
            Defect::TargetLengthDiffers => Code::TargetLengthMismatch,
            Defect::ArtifactsJsonInvalid
            | Defect::ArtifactsJsonEmpty
            | Defect::ArtifactsJsonUnknownTarget
            | Defect::ArtifactsJsonDuplicate
            | Defect::ArtifactsJsonBadVersion => Code::ReleaseInvalid,
            Defect::VersionMismatch => Code::VersionMismatch,
            Defect::VersionMissing => Code::VersionMissing,
        }
    }

    /// The `?system_version=` that the upload must carry for the defect to show.
    #[must_use]
    pub fn asked_version(self) -> Option<&'static str> {
        (self == Defect::VersionMismatch).then_some("99.99.99")
    }

    /// Whether the release is accepted, with a warning, where expired metadata is not refused.
    #[must_use]
    pub fn is_only_expiry(self) -> bool {
        matches!(self, Defect::Expired(_))
    }
}
