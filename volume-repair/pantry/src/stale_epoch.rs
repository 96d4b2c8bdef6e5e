//! That a newer coordinator has acted on a volume. Owns the rule and its words, for the Pantry and for the agent that has it: each keeps the highest right of its own.

use ids::VolumeId;
use thiserror::Error;

/// A right that was taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "volume {id} has heard of executor epoch {known}, and {given} is lower: another coordinator has taken over"
)]
pub struct StaleEpoch {
    /// Of which volume.
    pub id: VolumeId,
    /// The highest that it has heard of.
    pub known: u64,
    /// The one of this call.
    pub given: u64,
}

impl StaleEpoch {
    /// Refuses whoever was replaced.
    ///
    /// # Errors
    /// This one.
    pub fn check(id: VolumeId, known: u64, given: u64) -> Result<(), StaleEpoch> {
        if given < known { Err(StaleEpoch { id, known, given }) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_lower_right_is_refused_and_told_with_the_one_that_it_is_lower_than() {
        let id = VolumeId::generate();
        for (known, given) in [(0, 1), (3, 3), (3, u64::MAX)] {
            assert_eq!(StaleEpoch::check(id, known, given), Ok(()));
        }
        let refused = StaleEpoch::check(id, 4, 3).unwrap_err().to_string();
        let words = format!("volume {id} has heard of executor epoch 4, and 3 is lower");
        assert!(refused.starts_with(&words), "{refused}");
    }
}
