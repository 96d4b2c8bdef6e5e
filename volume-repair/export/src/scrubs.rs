//! What the control socket asks of a scrub: of the copying of what lies under a volume.

use serde::{Deserialize, Serialize};

/// What is to become of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScrubOrder {
    /// It begins, or goes on.
    Start,
    /// It copies nothing more.
    Stop,
}
