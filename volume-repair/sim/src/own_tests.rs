//! Rules that the simulation notices rarely, or never, when they are left out, and the tests that do: of the same packages, each leaving out
//! its rule itself, and putting in its way what it forbids.

use crate::Mutant;
use downstairs::Rule as Member;
use upstairs::Rule as Upstairs;

/// A test that notices that a rule is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnTest {
    /// The package that it is of.
    pub package: &'static str,
    /// Its name, which no other test of the package has.
    pub name: &'static str,
}

impl Mutant {
    /// The test that notices it, if the simulation alone is not enough.
    #[must_use]
    pub fn own_test(self) -> Option<OwnTest> {
        match self {
            Mutant::Downstairs(rule) => of_a_member(rule).map(|name| OwnTest { package: "downstairs", name }),
            Mutant::Upstairs(rule) => of_an_upstairs(rule).map(|name| OwnTest { package: "upstairs", name }),
        }
    }
}

fn of_a_member(rule: Member) -> Option<&'static str> {
    Some(match rule {
        Member::NoGaps => "leaving_out_that_there_are_no_gaps_is_noticed",
        Member::BaseIsApplied => "leaving_out_that_the_base_is_applied_is_noticed",
        Member::OnlyFillingInstalls => "leaving_out_that_only_filling_ones_are_filled_is_noticed",
        Member::OnlyFillingIsPassedOver => "leaving_out_that_none_passes_over_a_full_one_is_noticed",
        Member::FullIsDurable => "leaving_out_that_the_full_are_durable_is_noticed",
        Member::PromotionIsDurable | Member::EpochsRiseSlowly | Member::PromotionOutlivesConnections => {
            "leaving_out_a_rule_of_fencing_lets_a_second_writer_in"
        }
        Member::PongIsBehindReads => "leaving_out_that_pings_wait_for_reads_is_noticed",
        Member::SnapshotAtItsPosition => "leaving_out_that_a_snapshot_is_of_its_position_is_noticed",
        Member::OnlyProvenIsRead => {
            "a_clone_holds_what_its_source_held_and_is_read_when_that_is_proven_and_never_before"
        }
        Member::HashesAreCompared => {
            "a_source_that_lies_of_a_block_is_noticed_by_its_own_hash_and_the_part_is_told"
        }
        _ => return None,
    })
}

fn of_an_upstairs(rule: Upstairs) -> Option<&'static str> {
    Some(match rule {
        Upstairs::ListIsKeptByAll => "leaving_out_that_all_keep_a_list_leaves_out_the_third",
        Upstairs::NewerListsCountForWhoKeptThem => {
            "leaving_out_that_newer_lists_count_for_who_kept_them_leaves_out_the_third"
        }
        Upstairs::SuspectsWaitLonger => "leaving_out_that_suspects_wait_longer_is_noticed",
        Upstairs::FullAfterAQuietRound => "leaving_out_the_quiet_round_is_noticed",
        Upstairs::SamePosition => "leaving_out_that_both_are_asked_at_the_same_position_is_noticed",
        Upstairs::UntoldIsKept => "leaving_out_that_it_is_kept_is_noticed",
        Upstairs::AloneOnlyIfOthersAreGone => {
            "leaving_out_that_one_is_alone_only_if_others_are_gone_is_noticed"
        }
        Upstairs::TheLastOneIsKnownToBe | Upstairs::WhoWasLeftOutOfTheLastListCounts => {
            "leaving_out_a_rule_of_who_counts_is_noticed"
        }
        Upstairs::RemovedBeforeSkipped => {
            "leaving_out_that_a_member_is_left_out_before_anything_is_skipped_is_noticed"
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{mutants, second_line};
    use std::{fs, path::Path};

    /// The files of these packages, tests and all.
    fn sources(package: &str) -> String {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let folder = if package == "downstairs" { "region/downstairs" } else { "volume-repair/upstairs" };
        let (mut all, mut left) = (String::new(), vec![root.join(folder)]);
        while let Some(folder) = left.pop() {
            for entry in fs::read_dir(&folder).expect("a folder of the checkout") {
                let path = entry.expect("an entry of it").path();
                if path.is_dir() {
                    left.push(path);
                } else if path.extension().is_some_and(|extension| extension == "rs") {
                    all += &fs::read_to_string(&path).expect("a file of the checkout");
                }
            }
        }
        all
    }

    #[test]
    fn every_rule_of_the_second_line_has_a_test_of_its_own() {
        let without: Vec<&Mutant> =
            second_line().iter().filter(|mutant| mutant.own_test().is_none()).collect();
        assert!(without.is_empty(), "nobody would notice that these are left out: {without:?}");
    }

    #[test]
    fn tests_that_are_named_are_there_once_and_name_their_rule() {
        let all: Vec<Mutant> = mutants().into_iter().chain(second_line().iter().copied()).collect();
        for package in ["downstairs", "upstairs"] {
            let sources = sources(package);
            for (mutant, test) in all.iter().filter_map(|one| Some((one, one.own_test()?))) {
                if test.package == package {
                    assert_eq!(
                        sources.matches(&format!("fn {}()", test.name)).count(),
                        1,
                        "{mutant}: {test:?}"
                    );
                    let is_left_out = sources.contains(&format!("Rule::{mutant}"));
                    assert!(is_left_out, "{mutant} is named nowhere in {package}");
                }
            }
        }
    }
}
