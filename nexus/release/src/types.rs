//! What goes into an examination and what comes out of it. Plain data: decides nothing.

use camino::Utf8PathBuf;
use ids::{ArtifactHash, TrustRootId};
use jiff::Timestamp;
use problem::Finding;
use std::io;
use thiserror::Error;

/// A trust root that the operator added: whose signatures are believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedRoot {
    /// Its id, handed back as [`ExaminedRelease::trust_root`] when it vouched for the release.
    pub id: TrustRootId,
    /// The `root.json` as it was added.
    pub root_json: Vec<u8>,
}

/// What to do with metadata whose `expires` has passed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExpiryPolicy {
    /// Accept it with a warning: a release on a shelf stays installable.
    #[default]
    Warn,
    /// Refuse it as `metadata_expired`.
    Deny,
}

/// The terms of one examination.
#[derive(Clone, Debug)]
pub struct ExamineOptions {
    /// `?system_version=` of the upload: needed without `artifacts.json`, must agree with it otherwise.
    pub system_version: Option<String>,
    /// The most bytes that all entries may expand to together.
    pub expanded_bytes_max: u64,
    /// What expired metadata means.
    pub expiry: ExpiryPolicy,
    /// The time against which expiry is judged.
    pub now: Timestamp,
    /// A directory for the short-lived files of the signature check; none is left there unless the process dies.
    pub scratch: Utf8PathBuf,
}

impl ExamineOptions {
    /// Expansion limit where nothing else is configured, in bytes (64 GiB): some forty releases of today's
    /// size, and still bounded.
    pub const EXPANDED_BYTES_MAX_DEFAULT: u64 = 64 << 30;
}

impl Default for ExamineOptions {
    fn default() -> Self {
        ExamineOptions {
            system_version: None,
            expanded_bytes_max: Self::EXPANDED_BYTES_MAX_DEFAULT,
            expiry: ExpiryPolicy::default(),
            now: Timestamp::now(),
            scratch: std::env::temp_dir().try_into().unwrap_or_else(|_| Utf8PathBuf::from(".")),
        }
    }
}

/// A release that is signed by a trust root and of which every byte was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExaminedRelease {
    /// The release's version: 1 to 63 characters of `A-Za-z0-9._+-`.
    pub system_version: String,
    /// Its artifacts, by name, version, kind; at least one.
    pub artifacts: Vec<ReleaseArtifact>,
    /// The trust root that vouched for it.
    pub trust_root: TrustRootId,
    /// What is odd about it, but no reason to refuse it.
    pub warnings: Vec<String>,
}

/// One artifact of a release.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReleaseArtifact {
    /// Its name in the release; the target's path where the release has no `artifacts.json`.
    pub name: String,
    /// Its version in the release.
    pub version: String,
    /// Its kind in the release; `file` where the release has no `artifacts.json`.
    pub kind: String,
    /// The path of its TUF target, as signed.
    pub target: String,
    /// The name of the archive's entry that holds its verified bytes: what [`crate::StagedZip::read`] asks for.
    pub entry: String,
    /// SHA-256 of its bytes, as signed and as found.
    pub hash: ArtifactHash,
    /// Its bytes, as signed and as found.
    pub size: u64,
}

/// Why there is no [`ExaminedRelease`].
#[derive(Debug, Error)]
pub enum ExamineError {
    /// The upload is at fault. Holds everything that is wrong with it, the most important first, never empty.
    #[error("the release is refused ({} findings)", .0.len())]
    Rejected(Vec<Finding>),
    /// The machine is at fault: the file could not be opened or read. Says nothing about the release.
    #[error("reading {path} failed")]
    Io {
        /// The zip file.
        path: Utf8PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// The machine is at fault: the signature check could not keep its scratch files.
    #[error("the scratch directory of the signature check failed: {message}")]
    Scratch {
        /// What the TUF library said.
        message: String,
    },
}
