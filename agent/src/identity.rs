//! Who this sled is, and which life of its agent this is: `<state_dir>/sled.json`.
//!
//! The id is made once and survives renaming and re-addressing. The epoch grows with each start and is durable before
//! anybody hears of it, so no two lives ever speak under one epoch.

use camino::Utf8Path;
use daemon::state_file::{self, StateFileError};
use ids::{AgentEpoch, SledId};
use serde::{Deserialize, Serialize};

/// The file's format.
const VERSION: u8 = 1;

/// Who this sled is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    version: u8,
    /// The sled.
    pub sled_id: SledId,
    /// This life of its agent.
    pub agent_epoch: AgentEpoch,
}

/// Starts a new life of the agent.
pub fn start(state_dir: &Utf8Path) -> Result<Identity, StateFileError> {
    state_file::update(state_dir, "sled.json", |known: Option<Identity>| {
        let (sled_id, last) =
            known.map_or_else(|| (SledId::generate(), 0), |known| (known.sled_id, known.agent_epoch.0));
        Identity { version: VERSION, sled_id, agent_epoch: AgentEpoch(last + 1) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sled_keeps_its_id_and_counts_its_lives() {
        let dir = camino_tempfile::tempdir().unwrap();
        let first = start(dir.path()).unwrap();
        let second = start(dir.path()).unwrap();
        assert_eq!(first.sled_id, second.sled_id);
        assert_eq!((first.agent_epoch.0, second.agent_epoch.0), (1, 2));
    }
}
