//! Registrations that were refused lately: a sled that lives and is not let in, or a host that says that it is a sled which
//! another one is.
//!
//! The database knows who a sled is; this remembers, for a while and in memory only, who was refused and why. Without it,
//! a sled that is refused every second would look like one that is switched off. Pure: time is told by the caller.

use ids::{AgentEpoch, SledId};
use std::{
    mem::discriminant,
    net::IpAddr,
    time::{Duration, Instant},
};

/// How long a refusal is worth showing. An agent repeats itself every few seconds, so that silence means it is gone.
const SHOWN_FOR: Duration = Duration::from_secs(60);

/// Refusals remembered at most. A few hosts with a mistake in common are an accident, and this many would be an attack on
/// memory.
const REFUSALS_MAX: usize = 64;

/// What to do about two hosts that are one sled.
pub const CLONE_HINT: &str =
    "two hosts share one identity: stop one, and empty its state directory and its M.2s";

/// Why a registration was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The same life of the agent serves at another address.
    Cloned,
    /// A later life of the agent has registered.
    StaleEpoch {
        /// The later life.
        current: AgentEpoch,
    },
    /// It calls from another address than the one at which it says that it serves.
    OtherAddress,
}

/// A sled's registrations that were refused for one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The sled that it says it is.
    pub sled: SledId,
    /// The name that it gives.
    pub name: String,
    /// Where it says that it serves.
    pub agent_url: String,
    /// Where it calls from.
    pub peer: IpAddr,
    /// Why.
    pub why: Refused,
    /// Why, in words.
    pub detail: String,
}

/// A refusal that was repeated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusing {
    /// The last one.
    pub refusal: Refusal,
    /// When that was.
    pub at: Instant,
    /// How many there were.
    pub times: u64,
}

impl Refusal {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        match self.why {
            Refused::Cloned => CLONE_HINT.to_owned(),
            Refused::StaleEpoch { current } => format!(
                "if an older sled.json was restored: stop the agent, raise agent_epoch in its sled.json to {current}, \
                 start it; if two hosts run with the same one: stop this one"
            ),
            Refused::OtherAddress => format!(
                "a sled must call from the address that it registers: set address in the agent's config to {}, or \
                 take away what translates addresses on the way here",
                self.peer.to_canonical()
            ),
        }
    }

    fn is_like(&self, other: &Refusal) -> bool {
        self.sled == other.sled && discriminant(&self.why) == discriminant(&other.why)
    }
}

/// The last refusal by sled and reason.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    /// Few, so that looking through all of them is cheap.
    list: Vec<Refusing>,
}

impl Refusals {
    /// Takes note of a refusal.
    pub(super) fn refused(&mut self, refusal: Refusal, now: Instant) {
        self.list.retain(|known| is_news(known, now));
        let same = self.list.iter().position(|known| known.refusal.is_like(&refusal));
        let times = same.map_or(0, |same| self.list.swap_remove(same).times);
        if self.list.len() >= REFUSALS_MAX
            && let Some((oldest, _)) = self.list.iter().enumerate().min_by_key(|(_, known)| known.at)
        {
            self.list.swap_remove(oldest);
        }
        self.list.push(Refusing { refusal, at: now, times: times.saturating_add(1) });
    }

    /// Takes note that a sled was let in from this address: what kept it out there is over. That is also how a late
    /// heartbeat of an earlier life is forgotten. Another host that says the same is not over.
    pub(super) fn accepted(&mut self, sled: SledId, peer: IpAddr) {
        self.list.retain(|Refusing { refusal, .. }| {
            refusal.sled != sled || refusal.peer != peer || refusal.why == Refused::Cloned
        });
    }

    /// Every refusal that is news, in the order of sleds.
    pub(super) fn all(&self, now: Instant) -> Vec<Refusing> {
        let mut all: Vec<Refusing> = self.list.iter().filter(|known| is_news(known, now)).cloned().collect();
        all.sort_by_key(|known| (known.refusal.sled, known.at));
        all
    }
}

fn is_news(known: &Refusing, now: Instant) -> bool {
    now.saturating_duration_since(known.at) < SHOWN_FOR
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const STALE: Refused = Refused::StaleEpoch { current: AgentEpoch(5) };

    fn refusal(sled: SledId, last: u8, why: Refused) -> Refusal {
        let peer = IpAddr::V4(Ipv4Addr::new(10, 0, 0, last));
        let (name, agent_url) = ("sled-a".to_owned(), format!("http://{peer}:1"));
        Refusal { sled, name, agent_url, peer, why, detail: "no".to_owned() }
    }

    #[test]
    fn a_refusal_is_news_for_a_minute_after_the_last_and_counts() {
        let (mut refusals, start, sled) = (Refusals::default(), Instant::now(), SledId::generate());
        let later = start + Duration::from_secs(59);
        refusals.refused(refusal(sled, 1, STALE), start);
        refusals.refused(refusal(sled, 2, STALE), later);
        refusals.refused(refusal(sled, 2, Refused::OtherAddress), start);
        let all = refusals.all(later);
        assert_eq!(all.iter().map(|known| known.times).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(all[1].refusal.agent_url, "http://10.0.0.2:1");
        assert_eq!(refusals.all(start + SHOWN_FOR).len(), 1);
        assert_eq!(refusals.all(later + SHOWN_FOR), []);
        refusals.refused(refusal(sled, 1, STALE), later + SHOWN_FOR);
        assert_eq!(refusals.all(later + SHOWN_FOR)[0].times, 1, "it begins anew");
    }

    #[test]
    fn a_sled_that_is_let_in_is_refused_no_more_and_its_clone_still_is() {
        let (mut refusals, now, sled) = (Refusals::default(), Instant::now(), SledId::generate());
        for why in [STALE, Refused::OtherAddress, Refused::Cloned] {
            refusals.refused(refusal(sled, 1, why), now);
        }
        refusals.accepted(sled, [10, 0, 0, 2].into());
        refusals.accepted(SledId::generate(), [10, 0, 0, 1].into());
        assert_eq!(refusals.all(now).len(), 3, "somebody else was let in");
        refusals.accepted(sled, [10, 0, 0, 1].into());
        let left: Vec<Refused> = refusals.all(now).iter().map(|known| known.refusal.why).collect();
        assert_eq!(left, [Refused::Cloned]);
    }

    #[test]
    fn refusals_are_bounded_and_the_oldest_goes_first() {
        let (mut refusals, start) = (Refusals::default(), Instant::now());
        let first = SledId::generate();
        refusals.refused(refusal(first, 1, STALE), start);
        for _ in 0..REFUSALS_MAX {
            refusals.refused(refusal(SledId::generate(), 1, STALE), start + Duration::from_secs(1));
        }
        assert_eq!(refusals.list.len(), REFUSALS_MAX);
        assert!(refusals.all(start).iter().all(|known| known.refusal.sled != first));
    }
}
