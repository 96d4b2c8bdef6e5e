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
//! If all others of the list that counts are gone for good, and everybody has told who is not, one of it may be enough, with those that take
//! part then: who keeps a newer list, and who is full by an older one of the same Upstairs. It is, if
//!
//! - one that keeps a newer list is to be full by that together with it; or
//! - the list has two, and somebody tells it who is not in it: it was in force, and nobody went on without both of them; or
//! - the list has two, and the other one is the only one that is gone: whoever had gone on with that one would have told.
//!
//! `histories`, a test, looks at all that may have happened before, with few members, lists and writes.
//!
//! Why two of them have everything: `docs/BLOCK.md`, "Activation".

#[cfg(test)]
mod histories;

use crate::{rules::Rule, types::PeerId};
use ids::RegionId;
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

/// What one who begins is given.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Given<'a> {
    /// Whether one member is enough, of any list.
    pub(crate) accepts_possible_loss: bool,
    /// Those that are lost for good: while there are any, one may be enough of a list whose others are.
    pub(crate) gone: &'a [RegionId],
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

/// Decides. `waited` since two were here that may be enough.
pub(crate) fn decide(
    places: &BTreeMap<Member, PeerId>,
    told: &BTreeMap<PeerId, Promoted>,
    waited: Duration,
    given: Given,
) -> Decision {
    let view = View { places, told, gone: given.gone };
    let mut lists: Vec<&List> = told.values().map(|promoted| &promoted.list).collect();
    lists.sort_by_key(|list| std::cmp::Reverse(list.version));
    for list in lists {
        let known = view.places_of(list);
        let mut here: Vec<PeerId> = known.iter().copied().filter(|peer| told.contains_key(peer)).collect();
        let tells_older = |peer: &PeerId| told[peer].list.version < list.version;
        if here.iter().any(tells_older) && Rule::ListIsKeptByAll.is_kept() {
            continue;
        }
        // Of a list of one that was made because all others are gone, that one has everything: nothing was acknowledged since it kept the
        // list. One that somebody has made by accepting loss says nothing of what others have acknowledged since.
        let is_alone = list.full.len() == 1 && !given.gone.is_empty();
        let is_one = is_alone || given.accepts_possible_loss || !Rule::TwoActivate.is_kept();
        let needed = if is_one { 1 } else { 2 };
        let is_last = here.len() < needed && view.is_last(list, &here);
        if here.len() < needed && !is_last {
            return Decision::Wait;
        }
        let newer = view.full_by(|other| other.version > list.version);
        if Rule::NewerListsCountForWhoKeptThem.is_kept() {
            here.extend(newer.into_iter().filter(|peer| !known.contains(peer)));
        }
        if is_last && Rule::WhoWasLeftOutOfTheLastListCounts.is_kept() {
            // That list may have been given up, and the one before it be in force still, with this one in it.
            let is_of_the_same = |other: &List| other.version.epoch == list.version.epoch;
            let older = view.full_by(|other| other.version < list.version && is_of_the_same(other));
            here.extend(older.into_iter().filter(|peer| !known.contains(peer)));
        }
        let passed_over = told.values().filter(|promoted| promoted.list.version > list.version);
        let mut awaited =
            known.into_iter().chain(passed_over.flat_map(|promoted| view.places_of(&promoted.list)));
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

/// All that is known.
#[derive(Clone, Copy)]
struct View<'a> {
    places: &'a BTreeMap<Member, PeerId>,
    told: &'a BTreeMap<PeerId, Promoted>,
    gone: &'a [RegionId],
}

impl View<'_> {
    fn places_of(&self, list: &List) -> Vec<PeerId> {
        list.full.iter().filter_map(|member| self.places.get(member)).copied().collect()
    }

    /// Those that keep such a list, and are in it.
    fn full_by(&self, is_meant: impl Fn(&List) -> bool) -> Vec<PeerId> {
        let keep_it = self.told.iter().filter(|(_, promoted)| is_meant(&promoted.list));
        let full = keep_it.filter(|(peer, promoted)| self.places_of(&promoted.list).contains(*peer));
        full.map(|(peer, _)| *peer).collect()
    }

    /// Whether this one of a list is enough, with those that take part then. All that are not gone have told, so nobody better comes.
    fn is_last(&self, list: &List, here: &[PeerId]) -> bool {
        let [one] = here else { return false };
        if self.gone.is_empty() || self.told.len() < self.places.len() {
            return false;
        }
        let newer = self.full_by(|other| other.version > list.version);
        let is_with_it = |peer: &PeerId| self.places_of(&self.told[peer].list).contains(one);
        if newer.iter().any(|peer| peer != one && is_with_it(peer)) {
            return true;
        }
        let mut others = list.full.iter().filter(|member| self.places.get(member) != Some(one));
        let (Some(other), None) = (others.next(), others.next()) else { return false };
        // What its power has taken from it nobody else may have.
        if !self.gone.contains(&other.region) || self.told[one].is_suspect {
            return false;
        }
        let outside = self.told.iter().filter(|(peer, _)| *peer != one);
        let was_in_force =
            outside.map(|(_, promoted)| promoted.list.version).any(|told| told == list.version);
        was_in_force || self.gone.len() == 1 || !Rule::TheLastOneIsKnownToBe.is_kept()
    }
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
        decide(&places, &told, Duration::ZERO, Given::default())
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
        decide(&places(), &told, waited, Given::default())
    }

    #[test]
    fn who_keeps_a_newer_list_may_have_acknowledged_more() {
        let decision = who_counts_of_two_by_a_list_that_one_may_have_skipped;
        assert_eq!(decision(true, Duration::ZERO), Decision::Go(vec![PeerId(2), PeerId(1), PeerId(0)]));
        assert_eq!(decision(false, PATIENCE), Decision::WaitForMore);
        assert_eq!(decision(false, LONG_PATIENCE), Decision::Go(vec![PeerId(1), PeerId(0)]));
    }

    /// What three members tell of which 1, 2 and 4 are there, after so long, if these are gone.
    fn who_counts_without(gone: &[u128], told: &[Promoted]) -> Decision {
        let places: BTreeMap<Member, PeerId> =
            [1, 2, 4].map(named).into_iter().zip((0..).map(PeerId)).collect();
        let gone: Vec<RegionId> = gone.iter().map(|number| named(*number).region).collect();
        let told = (0..).map(PeerId).zip(told.iter().cloned()).collect();
        decide(&places, &told, LONG_PATIENCE, Given { accepts_possible_loss: false, gone: &gone })
    }

    #[test]
    fn who_keeps_a_newer_list_is_the_second_one_if_all_others_are_gone_and_everybody_has_told() {
        // Members 1 to 3 were full. 3 was to be full with the first one alone, and before that came to be, the second one with that.
        let told = |newer: &[u128]| [tells(2, &[3, 1], 5), tells(4, newer, 7), tells(1, &[1, 2, 3], 3)];
        let decision = who_counts_without;
        assert_eq!(decision(&[3, 5], &told(&[1, 2])), Decision::Go(vec![PeerId(1), PeerId(0)]));
        assert_eq!(decision(&[3], &told(&[1, 2])[..2]), Decision::Wait, "one may have a newer list still");
        assert_eq!(decision(&[], &told(&[1, 2])), Decision::Wait, "the third one may come");
        let unknown = told(&[3, 2]);
        assert_eq!(decision(&[3, 5], &unknown), Decision::Wait, "those two may have acknowledged more");
    }

    /// 3 and 2 are full. 3 is gone, when 1 was to be full, too, and has not heard of it.
    fn mirror() -> [Promoted; 3] {
        [tells(2, &[3, 2], 4), tells(3, &[3, 2, 1], 9), tells(1, &[1, 2, 3], 3)]
    }

    #[test]
    fn of_two_that_were_full_by_a_list_that_another_one_tells_one_is_enough() {
        let go = Decision::Go(vec![PeerId(1)]);
        assert_eq!(who_counts_without(&[3, 5], &mirror()), go);
        assert_eq!(who_counts_without(&[3], &mirror()), go);
        assert_eq!(who_counts_without(&[], &mirror()), Decision::Wait, "the other one may come");
        assert_eq!(who_counts_without(&[5], &mirror()), Decision::Wait, "somebody else is gone");
        assert_eq!(
            who_counts_without(&[3], &mirror()[..2]),
            Decision::Wait,
            "one may have a newer list still"
        );
        let mut has_lost = mirror();
        has_lost[1].is_suspect = true;
        assert_eq!(who_counts_without(&[3], &has_lost), Decision::Wait, "what it has lost only 3 had");
    }

    /// 3 and 2 may be full: nobody else says that they were, and somebody who was before them is there.
    fn unknown() -> [Promoted; 3] {
        [tells(1, &[1, 2, 3], 7), tells(2, &[3, 2], 5), tells(0, &[], 0)]
    }

    #[test]
    fn of_two_that_may_never_have_been_full_alone_one_is_enough_if_nobody_else_is_gone() {
        let decision = who_counts_without;
        // Before that list came to be, the first one may have gone on with the one that is gone: it takes part.
        assert_eq!(decision(&[3], &unknown()), Decision::Go(vec![PeerId(0), PeerId(1)]));
        assert_eq!(decision(&[3, 5], &unknown()), Decision::Wait, "both that are gone may have gone on");
        let mut other = unknown();
        other[0].list.version.epoch = 0;
        assert_eq!(decision(&[3], &other), Decision::Go(vec![PeerId(1)]), "its Upstairs was over by then");
    }

    #[cfg(feature = "mutants")]
    #[test]
    fn leaving_out_that_the_last_one_is_known_to_be_is_noticed() {
        let begins = || who_counts_without(&[3, 5], &unknown());
        assert_eq!(begins(), Decision::Wait);
        assert_ne!(Rule::TheLastOneIsKnownToBe.left_out(begins), Decision::Wait);
    }

    #[cfg(feature = "mutants")]
    #[test]
    fn leaving_out_that_who_was_left_out_of_the_last_list_counts_leaves_out_what_it_has() {
        let decision = || who_counts_without(&[3], &unknown());
        assert_eq!(decision(), Decision::Go(vec![PeerId(0), PeerId(1)]));
        let left_out = Rule::WhoWasLeftOutOfTheLastListCounts.left_out(decision);
        assert_eq!(left_out, Decision::Go(vec![PeerId(1)]));
    }

    #[cfg(feature = "mutants")]
    #[test]
    fn leaving_out_that_newer_lists_count_for_who_kept_them_leaves_out_the_third() {
        let decision = || who_counts_of_two_by_a_list_that_one_may_have_skipped(true, Duration::ZERO);
        assert_eq!(decision(), Decision::Go(vec![PeerId(2), PeerId(1), PeerId(0)]));
        let left_out = Rule::NewerListsCountForWhoKeptThem.left_out(decision);
        assert_eq!(left_out, Decision::Go(vec![PeerId(1), PeerId(0)]));
    }

    fn two_are_here_after(waited: Duration, suspects: [bool; 2]) -> Decision {
        let places = places();
        let told = suspects.map(|is_suspect| Promoted { is_suspect, ..tells(1, &[1, 2, 3], 5) });
        let told = (0..).map(PeerId).zip(told).collect();
        decide(&places, &told, waited, Given::default())
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
        let decision = who_counts_when_one_of_two_knows_no_newer_list;
        assert_eq!(decision(), Decision::Go(vec![PeerId(2), PeerId(0), PeerId(1)]));
        let left_out = Rule::ListIsKeptByAll.left_out(decision);
        assert_eq!(left_out, Decision::Go(vec![PeerId(0), PeerId(1)]));
    }
}
