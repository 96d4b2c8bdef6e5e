//! A volume of several parts, and what lies under it: what a client asks is divided among them, and their answers are put together.
//!
//! **Problem.** A volume may be several region sets, snapshots of others, files and URLs one behind the other, and under it may lie another volume, its *parent*,
//! which is seen wherever nobody ever wrote. A client is to notice nothing of it; a volume that is one region set is to pay nothing for it.
//!
//! **Theory.** `docs/BLOCK.md`, "Volumes of several parts". A state machine that touches no socket, no file and no clock, in the manner of
//! [`upstairs::Upstairs`], of which it has one for each region set: each event is told with the time, and answered with what is to be done.
//!
//! ```text
//!                        ┌──────────────── Volume ────────────────┐
//!   client ──submit──►   │ layer 0   set │ set │ file             │ ──Send──► members ──received──►
//!          ◄──Done────   │             ▼ never written            │
//!                        │ layer 1   url │ set    (its parent)    │ ──Fetch─► file, URL ──fetched──►
//!          clock─tick─►  │             ▼ never written            │
//!                        │ layer 2   file         (and so on)     │
//!                        └────────────────────────────────────────┘
//! ```
//!
//! - [`composition`]: what a volume is made of. [`http_url`]: a URL whose secrets nobody sees.
//! - [`volume`]: the machine's face: one region set alone, which is its Upstairs and nothing else; or layers.
//! - [`layered`]: the machine, and what each event makes of it. [`places`]: where in a layer a block is. [`jobs`]: what clients have asked.
//!   [`looks`]: looking without reading. [`sources`]: what files, URLs and snapshots are asked.
//! - [`scrub`]: what lies under is copied in, until it is not needed.
//! - [`status`]: what it believes, for people and programs.
//! - [`rules`]: what its test leaves out, one at a time, to see that it notices.

mod composition;
mod http_url;
mod jobs;
mod layered;
mod looks;
mod places;
mod rules;
mod scrub;
mod sources;
mod status;
mod volume;

pub use composition::{Composition, Part, SetSnapshot, Source};
pub use http_url::{HttpUrl, HttpUrlError};
pub use rules::Rule;
pub use scrub::{ParentNeeded, ScrubError, ScrubPhase, ScrubWait};
pub use sources::{Fetch, FetchError, FetchId, SourceId};
pub use status::{LayerStatus, LayersStatus, PartKind, PartStatus, ScrubStatus, SourceStatus, VolumeStatus};
pub use volume::Volume;
