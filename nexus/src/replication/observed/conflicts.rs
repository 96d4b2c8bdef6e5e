//! Registrations that were refused because somebody else is that sled: two hosts with one identity.
//!
//! The database knows who a sled is; this remembers, for a while and in memory only, who else says so. Pure: time is told
//! by the caller.

use ids::SledId;
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// How long a refusal is worth showing. A second host repeats itself every second, so that silence means it is gone.
const SHOWN_FOR: Duration = Duration::from_secs(60);

/// Sleds remembered at most. One host with a copied disk is an accident, and this many would be an attack on memory.
const SLEDS_MAX: usize = 64;

/// Somebody who says that it is a sled that somebody else is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Where it says that it serves.
    pub agent_url: String,
    /// When it was refused last.
    pub at: Instant,
    /// How often it was refused.
    pub refused: u64,
}

/// The last claim by sled.
#[derive(Debug, Default)]
pub(super) struct Conflicts {
    claims: BTreeMap<SledId, Claim>,
}

impl Conflicts {
    /// Takes note of a refusal.
    pub(super) fn refused(&mut self, sled: SledId, agent_url: &str, now: Instant) {
        if self.claims.len() >= SLEDS_MAX && !self.claims.contains_key(&sled) {
            let oldest = self.claims.iter().min_by_key(|(_, claim)| claim.at).map(|(sled, _)| *sled);
            oldest.and_then(|oldest| self.claims.remove(&oldest));
        }
        let claim = self.claims.entry(sled).or_insert_with(|| Claim {
            agent_url: String::new(),
            at: now,
            refused: 0,
        });
        *claim = Claim { agent_url: agent_url.to_owned(), at: now, refused: claim.refused.saturating_add(1) };
    }

    /// Who else says that it is this sled, while that is news.
    pub(super) fn claim(&self, sled: SledId, now: Instant) -> Option<Claim> {
        let claim = self.claims.get(&sled)?;
        (now.saturating_duration_since(claim.at) < SHOWN_FOR).then(|| claim.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_is_news_for_a_minute_and_counts_its_refusals() {
        let (mut conflicts, start, sled) = (Conflicts::default(), Instant::now(), SledId::generate());
        conflicts.refused(sled, "http://10.0.0.1:1", start);
        conflicts.refused(sled, "http://10.0.0.2:1", start);
        let claim = conflicts.claim(sled, start).expect("it is news");
        assert_eq!((claim.agent_url.as_str(), claim.refused), ("http://10.0.0.2:1", 2));
        assert_eq!(conflicts.claim(sled, start + SHOWN_FOR), None);
        assert_eq!(conflicts.claim(SledId::generate(), start), None);
    }

    #[test]
    fn claims_are_bounded_and_the_oldest_goes_first() {
        let (mut conflicts, start) = (Conflicts::default(), Instant::now());
        let first = SledId::generate();
        conflicts.refused(first, "http://10.0.0.1:1", start);
        for _ in 0..SLEDS_MAX {
            conflicts.refused(SledId::generate(), "http://10.0.0.2:1", start + Duration::from_secs(1));
        }
        assert_eq!(conflicts.claims.len(), SLEDS_MAX);
        assert_eq!(conflicts.claim(first, start), None);
    }
}
