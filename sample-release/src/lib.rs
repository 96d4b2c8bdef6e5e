//! Makes really signed releases: good ones for the testbed and the tests, and bad ones of every kind.
//!
//! **Problem.** A release is a zip of some hundred MiB, signed as The Update Framework asks. None is at hand when a
//! newcomer starts the testbed, and none that is broken in just the right place when a test needs one.
//!
//! **Theory.** Everything is made on the spot and from little: keys from the system's randomness, content from a
//! seed, so that the same artifact has the same hash in every release. The writer is our own and small; the
//! reader that it is checked against is not (`tough`, in `nexus-release`). It writes one file, front to back, in
//! bounded memory, under a temporary name, and renames it when it is whole.
//!
//! ```text
//!   SampleRelease (what)  +  Keys (who)  ──> targets ──> artifacts.json ──> metadata ──> zip ──> surgery (defects)
//! ```

// What is in it.
mod content;
mod defect;
mod release;
mod standard;

// Who signs it.
mod canonical_json;
mod keys;
mod metadata;

// The file.
mod make;
mod surgery;
mod zip_writer;

pub use content::Content;
pub use defect::{Defect, Role};
pub use keys::{Keys, KeysError};
pub use make::{MadeArtifact, MadeRelease, MakeError};
pub use release::{Artifact, SampleRelease};
