//! Intake of releases: is this uploaded zip a release that a trust root vouches for, and what is in it?
//!
//! **Problem.** An operator uploads one zip of up to some GiB. It must be accepted only if every byte that will run
//! on the sleds is what the publisher signed, and refused otherwise with everything that is wrong with it, at once.
//! The peer that this project learns from trusts signed *metadata* at upload and finds a flipped bit in a target
//! only when it can no longer refuse.
//!
//! **Theory.** The TUF specification is the contract, whoever wrote the repository; `tough` decides what is
//! believed. The zip is hostile until proven otherwise and is read in place: nothing is extracted, memory is bounded
//! by constants, and every entry is read exactly once, so that damage anywhere is found.
//!
//! ```text
//!   zip on disk ──> zip_index ──> layout ──> metadata_files ──> metadata (tough) ── refused ──> diagnosis
//!                       │                                          │ believed                       │
//!                       │                                    signed_targets <───────────────────────┘
//!                       └────────── entry_reader ──> content ──> artifacts_json ──> ExaminedRelease
//! ```
//! No database, no HTTP, no clock of its own. Findings carry the codes of the `problem` catalogue.

// The words.
mod findings;
mod hex;
mod types;

// The archive.
mod entry_name;
mod entry_reader;
mod layout;
mod zip_index;

// The signatures.
mod diagnosis;
mod key_rules;
mod metadata;
mod metadata_files;
mod signatures;
mod signed_targets;
mod trust_root;

// The release.
mod artifacts_json;
mod content;
mod examine;
mod staged_zip;

pub use examine::examine;
pub use staged_zip::{StagedZip, StagedZipError};
pub use trust_root::{ParsedRoot, parse_trust_root};
pub use types::{ExamineError, ExamineOptions, ExaminedRelease, ExpiryPolicy, ReleaseArtifact, TrustedRoot};
