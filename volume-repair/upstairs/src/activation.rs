//! Which members hold everything that was ever acknowledged: a pure decision over what they tell when they are promoted.
//!
//! ```text
//!   lists that are told, the newest first ──► one of its members tells an older one? ──yes──► it was never in force: the next one
//!                                                    │ no
//!                                                    ▼
//!                           two of its members are here, or the only one? ──no──► wait, say for whom
//!                                                    │ yes
//!                                                    ▼
//!             all of them that are known are here, or the wait is over ──► the longest prefix of those that are here
//! ```
//!
//! A list that is passed over may have been about to be: who keeps it, and is in it, has all up to what it has applied, and two of it may have
//! acknowledged together what those of the list that counts have not, each by itself (if that one was never in force either: one of its two
//! members may have kept nothing but the newer one). So the members of a newer list that somebody tells are waited for, too, and those that
//! tell it take part.
//!
//! If the others of the list that counts are gone for good, one that keeps a newer list is the second one, once everybody has told who is
//! not gone; and if that list has the first one, too. What was acknowledged before the newer list was made, whoever keeps it has.
//! Afterwards two had to have it that were full before and are in the newer list, too; so one of these two has it, since a list loses or gets
//! one member at a time, and three are full at most.
//!
//! Why two of them have everything: `docs/BLOCK.md`, "Activation".

use crate::{rules::Rule, types::PeerId};
use region::{List, Member};
use region_wire::Promoted;
use std::{collections::BTreeMap, time::Duration};

/// How long a full member is waited for that is away.
const PATIENCE: Duration = Duration::from_secs(2);

/// The same, if one of those that are here has lost its sled's power since it was written to last: then the one that is away may be the
/// only one that still has what was acknowledged. The others here may have lost theirs too, at another time.
const LONG_PATIENCE: Duration = Duration::from_secs(30);

/// What follows from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Too few are here.
    Wait,
    /// Those who are here are enough, and another one may come.
    WaitForMore,
    /// These are full, and the first of them has the longest prefix.
    Go(Vec<PeerId>),
}

/// How long whoever is missing is waited for, once enough of these members are here.
pub(crate) fn patience(places: &BTreeMap<Member, PeerId>, told: &BTreeMap<PeerId, Promoted>) -> Duration {
    let newest = told.values().map(|promoted| &promoted.list).max_by_key(|list| list.version);
    let full = newest.iter().flat_map(|list| &list.full).filter_map(|member| places.get(member));
    let here: Vec<PeerId> = full.copied().filter(|peer| told.contains_key(peer)).collect();
    patience_for(&here, told)
}

fn patience_for(here: &[PeerId], told: &BTreeMap<PeerId, Promoted>) -> Duration {
    let has_lost_power = here.iter().any(|peer| told[peer].is_suspect);
    if has_lost_power && Rule::SuspectsWaitLonger.is_kept() { LONG_PATIENCE } else { PATIENCE }
}

/// Decides. `waited` since two were here that may be enough. One may be: of any list, if possible loss is accepted; of a list of one, if others
/// are gone.
pub(crate) fn decide(
    places: &BTreeMap<Member, PeerId>,
    told: &BTreeMap<PeerId, Promoted>,
    waited: Duration,
    [accepts_possible_loss, may_be_one]: [bool; 2],
) -> Decision {
    let mut lists: Vec<&List> = told.values().map(|promoted| &promoted.list).collect();
    lists.sort_by_key(|list| std::cmp::Reverse(list.version));
    for list in lists {
        let places_of = |list: &List| -> Vec<PeerId> {
            list.full.iter().filter_map(|member| places.get(member)).copied().collect()
        };
        let known = places_of(list);
        let mut here: Vec<PeerId> = known.iter().copied().filter(|peer| told.contains_key(peer)).collect();
        let tells_older = |peer: &PeerId| told[peer].list.version < list.version;
        if here.iter().any(tells_older) && Rule::ListIsKeptByAll.is_kept() {
            continue;
        }
        // Of a list of one that was made because all others are gone, that one has everything: nothing was acknowledged since it kept the
        // list. One that somebody has made by accepting loss says nothing of what others have acknowledged since.
        let is_alone = list.full.len() == 1 && may_be_one;
        let is_one = is_alone || accepts_possible_loss || !Rule::TwoActivate.is_kept();
        let needed = if is_one { 1 } else { 2 };
        let newer = told.iter().filter(|(_, promoted)| promoted.list.version > list.version);
        let keep_it = newer.filter(|(peer, promoted)| places_of(&promoted.list).contains(*peer));
        let with_it: Vec<PeerId> =
            keep_it.map(|(peer, _)| *peer).filter(|peer| !here.contains(peer)).collect();
        let has_one_of_them =
            |keeper: &&PeerId| places_of(&told[*keeper].list).iter().any(|member| here.contains(member));
        // Whoever else had it is gone: nobody better comes.
        let is_second =
            may_be_one && told.len() == places.len() && with_it.iter().any(|peer| has_one_of_them(&peer));
        if here.len() + usize::from(is_second) < needed {
            return Decision::Wait;
        }
        if Rule::NewerListsCountForWhoKeptThem.is_kept() {
            here.extend(with_it);
        }
        let passed_over = told.values().filter(|promoted| promoted.list.version > list.version);
        let mut awaited = known.into_iter().chain(passed_over.flat_map(|promoted| places_of(&promoted.list)));
        // Who is not to be a member any more does not come.
        let is_missing =
            awaited.any(|peer| !told.contains_key(&peer)) || (is_alone && told.len() < places.len());
        if is_missing && waited < patience_for(&here, told) {
            return Decision::WaitForMore;
        }
        here.sort_by_key(|peer| std::cmp::Reverse(told[peer].applied));
        if !Rule::LongestPrefix.is_kept() {
            here.reverse();
        }
        return Decision::Go(here);
    }
    Decision::Wait
}

#[cfg(test)]
mod tests {
    use super::*;
    use ids::RegionId;
    use region::{ListVersion, Position};
    use uuid::Uuid;

    fn named(number: u128) -> Member {
        Member { region: RegionId(Uuid::from_u128(number)), incarnation: 1 }
    }

    fn places() -> BTreeMap<Member, PeerId> {
        [1, 2, 3].map(named).into_iter().zip((0..).map(PeerId)).collect()
    }

    fn tells(number: u32, full: &[u128], counter: u64) -> Promoted {
        let applied = Position { epoch: 1, counter };
        let full = full.iter().copied().map(named).collect();
        let list = List { version: ListVersion { epoch: 1, number }, base: Position::NONE, full };
        Promoted { list, applied, durable: applied, is_suspect: false }
    }

    /// A third member that has more than both is not left out for a list that was never in force.
    fn who_counts_when_one_of_two_knows_no_newer_list() -> Decision {
        let places = places();
        let told = [tells(2, &[1, 2], 5), tells(1, &[1, 2, 3], 5), tells(1, &[1, 2, 3], 7)];
        let told = (0..).map(PeerId).zip(told).collect();
        decide(&places, &told, Duration::ZERO, [false; 2])
    }

    #[test]
    fn a_list_that_not_all_its_members_kept_does_not_count() {
        let all = vec![PeerId(2), PeerId(0), PeerId(1)];
        assert_eq!(who_counts_when_one_of_two_knows_no_newer_list(), Decision::Go(all));
    }

    /// The first has lost its power, and tells a list that the second has not heard of: it may never have kept the one that the second tells.
    fn who_counts_of_two_by_a_list_that_one_may_have_skipped(third: bool, waited: Duration) -> Decision {
        let first = Promoted { is_suspect: true, ..tells(3, &[1, 2, 3], 5) };
        let told = [first, tells(2, &[1, 2], 6), tells(3, &[1, 2, 3], 9)];
        let told = (0..).map(PeerId).zip(told).take(if third { 3 } else { 2 }).collect();
        decide(&places(), &told, waited, [false; 2])
    }

    #[test]
    fn who_keeps_a_newer_list_may_have_acknowledged_more() {
        let decision = who_counts_of_two_by_a_list_that_one_may_have_skipped;
        assert_eq!(decision(true, Duration::ZERO), Decision::Go(vec![PeerId(2), PeerId(1), PeerId(0)]));
        assert_eq!(decision(false, PATIENCE), Decision::WaitForMore);
        assert_eq!(decision(false, LONG_PATIENCE), Decision::Go(vec![PeerId(1), PeerId(0)]));
    }

    /// Members 1 to 3 were full, and 3 is gone. It was to be full with the first one alone, and before that came to be, the second one with that.
    fn who_counts_when_the_other_one_is_gone(others_told: bool, newer: &[u128], is_gone: bool) -> Decision {
        let places: BTreeMap<Member, PeerId> =
            [1, 2, 4].map(named).into_iter().zip((0..).map(PeerId)).collect();
        let told = [tells(2, &[3, 1], 5), tells(4, newer, 7), tells(1, &[1, 2, 3], 3)];
        let told = (0..).map(PeerId).zip(told).take(if others_told { 3 } else { 2 }).collect();
        decide(&places, &told, LONG_PATIENCE, [false, is_gone])
    }

    #[test]
    fn who_keeps_a_newer_list_is_the_second_one_if_all_others_are_gone_and_everybody_has_told() {
        let decision = who_counts_when_the_other_one_is_gone;
        assert_eq!(decision(true, &[1, 2], true), Decision::Go(vec![PeerId(1), PeerId(0)]));
        assert_eq!(decision(false, &[1, 2], true), Decision::Wait, "one may have a newer list still");
        assert_eq!(decision(true, &[1, 2], false), Decision::Wait, "the third one may come");
        assert_eq!(decision(true, &[3, 2], true), Decision::Wait, "those two may have acknowledged more");
    }

    #[cfg(feature = "mutants")]
    #[test]
    fn leaving_out_that_newer_lists_count_for_who_kept_them_leaves_out_the_third() {
        let left_out = Rule::NewerListsCountForWhoKeptThem
            .left_out(|| who_counts_of_two_by_a_list_that_one_may_have_skipped(true, Duration::ZERO));
        assert_eq!(left_out, Decision::Go(vec![PeerId(1), PeerId(0)]));
    }

    fn two_are_here_after(waited: Duration, suspects: [bool; 2]) -> Decision {
        let places = places();
        let told = suspects.map(|is_suspect| Promoted { is_suspect, ..tells(1, &[1, 2, 3], 5) });
        let told = (0..).map(PeerId).zip(told).collect();
        decide(&places, &told, waited, [false; 2])
    }

    #[test]
    fn who_may_have_lost_what_the_third_has_waits_longer_for_it() {
        let go = Decision::Go(vec![PeerId(0), PeerId(1)]);
        for suspects in [[false, false], [true, false], [false, true], [true, true]] {
            let patience = if suspects == [false, false] { PATIENCE } else { LONG_PATIENCE };
            assert_eq!(
                two_are_here_after(patience - Duration::from_millis(1), suspects),
                Decision::WaitForMore
            );
            assert_eq!(two_are_here_after(patience, suspects), go, "{suspects:?}");
        }
    }

    #[cfg(feature = "mutants")]
    #[test]
    fn leaving_out_that_suspects_wait_longer_is_noticed() {
        let suspects = [true, false];
        let waits = two_are_here_after(PATIENCE, suspects);
        let left_out = Rule::SuspectsWaitLonger.left_out(|| two_are_here_after(PATIENCE, suspects));
        assert_ne!(waits, left_out);
    }

    #[cfg(feature = "mutants")]
    #[test]
    fn leaving_out_that_all_keep_a_list_leaves_out_the_third() {
        let left_out = Rule::ListIsKeptByAll.left_out(who_counts_when_one_of_two_knows_no_newer_list);
        assert_eq!(left_out, Decision::Go(vec![PeerId(0), PeerId(1)]));
    }
}
