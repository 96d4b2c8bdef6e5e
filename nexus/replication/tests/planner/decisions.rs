//! One test per decision. [`Scene::plan`] checks the laws on each of these plans as well.

use crate::scene::{Scene, copy_from, hash, holdings, limit, sled};
use nexus_replication::{Blocked, Cell, Holdings, How, SledView};
use std::collections::{BTreeMap, BTreeSet};

const UNREACHABLE: SledView = SledView::Unreachable { last: None };

#[test]
fn nothing_wanted_is_all_well() {
    let outcome = Scene::new().ready(1, []).plan();
    assert!(outcome.plan.start.is_empty());
    assert!(outcome.plan.summary.fully_replicated);
}

#[test]
fn idle_when_every_sled_has_every_artifact() {
    let outcome =
        Scene::new().wanted(1).staged(2, 10).ready(1, [1, 2]).ready(2, [1, 2]).ready(3, [1, 2]).plan();
    assert!(outcome.plan.start.is_empty());
    assert!(outcome.plan.summary.fully_replicated);
    assert_eq!(outcome.plan.summary.cells, BTreeMap::from([(Cell::Complete, 6)]));
}

#[test]
fn one_verified_copy_is_enough_for_the_planner() {
    let one_copy = Holdings { copies: [(hash(1), 1)].into(), ..holdings([]) };
    let outcome = Scene::new().staged(1, 10).ready(1, [1]).sled(2, SledView::Ready(one_copy)).plan();
    assert!(outcome.plan.start.is_empty());
    assert_eq!(outcome.cell(2, 1), Cell::Complete);
}

#[test]
fn first_copy_is_put_once_and_the_others_wait_for_it() {
    let outcome = Scene::new().staged(1, 10).ready(1, []).ready(2, []).ready(3, []).plan();
    assert_eq!(outcome.puts().len(), 1);
    assert!(outcome.copies().is_empty());
    let waiting = outcome.plan.cells.row(&hash(1)).filter(|(_, cell)| *cell == Cell::WaitingForFirstCopy);
    assert_eq!(waiting.count(), 2);
}

#[test]
fn different_artifacts_are_put_to_different_sleds_balanced_by_bytes() {
    let scene = Scene::new().staged(1, 100).staged(2, 60).staged(3, 50).staged(4, 10).staged(5, 5);
    let outcome = scene.ready(1, []).ready(2, []).plan();
    let mut bytes: BTreeMap<_, u64> = BTreeMap::new();
    for start in outcome.puts() {
        *bytes.entry(start.target).or_default() += scene_size(start.hash);
    }
    assert_eq!(bytes.into_values().collect::<BTreeSet<_>>(), [110, 115].into());
    let order: Vec<_> = outcome.puts().iter().map(|start| scene_size(start.hash)).collect();
    assert_eq!(order, [100, 60, 50, 10, 5], "largest first");
}

fn scene_size(of: ids::ArtifactHash) -> u64 {
    [100, 60, 50, 10, 5][usize::from(of.0[0]) - 1]
}

#[test]
fn bytes_that_are_on_their_way_count_for_the_balance() {
    let scene = Scene::new().staged(1, 100).staged(2, 10).in_flight(1, 1, How::Put);
    let outcome = scene.ready(1, []).ready(2, []).plan();
    assert_eq!(outcome.start(2, 2), Some(&How::Put));
}

#[test]
fn peers_copy_as_soon_as_one_sled_can_serve() {
    let outcome = Scene::new().staged(1, 10).ready(1, [1]).ready(2, []).ready(3, []).plan();
    assert!(outcome.puts().is_empty());
    assert_eq!(outcome.sources(2, 1), [sled(1)]);
    assert_eq!(outcome.sources(3, 1), [sled(1)]);
}

#[test]
fn nothing_is_put_while_a_first_copy_is_under_way() {
    for how in [How::Put, copy_from(&[9])] {
        let outcome = Scene::new().staged(1, 10).ready(1, []).ready(2, []).in_flight(1, 1, how).plan();
        assert!(outcome.plan.start.is_empty());
        assert_eq!((outcome.cell(1, 1), outcome.cell(2, 1)), (Cell::InFlight, Cell::WaitingForFirstCopy));
    }
}

#[test]
fn nobody_waits_for_a_first_copy_that_lags_or_goes_to_a_sled_that_is_away() {
    let lags = Scene::new().staged(1, 10).ready(1, []).ready(2, []).in_flight(1, 1, How::Put).lagging();
    assert_eq!(lags.plan().start(2, 1), Some(&How::Put));
    let away = Scene::new().staged(1, 10).sled(1, UNREACHABLE).ready(2, []).in_flight(1, 1, How::Put);
    assert_eq!(away.plan().start(2, 1), Some(&How::Put));
}

#[test]
fn copies_begin_at_the_least_busy_holder_and_name_the_others_as_fallback() {
    let scene =
        Scene::new().wanted(1).wanted(2).ready(1, [1, 2]).ready(2, [1, 2]).ready(3, [1, 2]).ready(4, []);
    let scene = scene.in_flight(2, 4, copy_from(&[1, 2]));
    let outcome = scene.in_flight(9, 8, copy_from(&[2])).plan();
    let sources = outcome.sources(4, 1);
    assert_eq!(sources[0], sled(3));
    assert_eq!(sources.into_iter().collect::<BTreeSet<_>>(), [sled(1), sled(2), sled(3)].into());
}

#[test]
fn copies_spread_over_all_holders() {
    let mut scene = Scene::new().wanted(1);
    for holder in 1..=4 {
        scene = scene.ready(holder, [1]);
    }
    for target in 5..=12 {
        scene = scene.ready(target, []);
    }
    let outcome = scene.plan();
    let mut served: BTreeMap<_, u32> = BTreeMap::new();
    for target in 5..=12 {
        let sources = outcome.sources(target, 1);
        assert_eq!(sources.len(), 4, "one first, three fallbacks");
        *served.entry(sources[0]).or_default() += 1;
    }
    assert_eq!(served.into_values().collect::<Vec<_>>(), [2, 2, 2, 2]);
}

#[test]
fn sleds_that_are_not_ready_are_left_alone() {
    let known = || Some(holdings([1]));
    for (view, cell) in [
        (UNREACHABLE, Cell::SledUnreachable),
        (SledView::Unreachable { last: known() }, Cell::SledUnreachable),
        (SledView::Refusing { last: known() }, Cell::SledRefusing),
        (SledView::Unknown, Cell::SledUnknown),
    ] {
        let outcome = Scene::new().staged(1, 10).sled(1, view).ready(2, []).ready(3, []).plan();
        assert_eq!(outcome.cell(1, 1), cell);
        assert_eq!(outcome.puts().len(), 1, "neither a target nor a source, and nobody waits for it");
        assert!(outcome.copies().is_empty());
        assert!(!outcome.plan.summary.fully_replicated);
    }
}

#[test]
fn sled_without_a_writable_dataset_is_no_target_and_still_a_source() {
    let read_only = |copies: &[u8]| {
        SledView::Ready(Holdings { datasets_writable: 0, ..holdings(copies.iter().copied()) })
    };
    let outcome = Scene::new().wanted(1).wanted(2).sled(1, read_only(&[1])).ready(2, [2]).plan();
    assert_eq!(outcome.cell(1, 2), Cell::NoWritableDataset);
    assert_eq!(outcome.sources(2, 1), [sled(1)]);
}

#[test]
fn sled_whose_depot_is_out_of_reach_is_no_source_and_still_a_target() {
    let deaf = |copies: &[u8]| {
        SledView::Ready(Holdings { depot_reachable: false, ..holdings(copies.iter().copied()) })
    };
    let outcome = Scene::new().wanted(1).wanted(2).sled(1, deaf(&[1])).ready(2, [2]).plan();
    assert_eq!(outcome.sources(1, 2), [sled(2)]);
    assert_eq!(
        (outcome.cell(2, 1), outcome.blocked(1)),
        (Cell::HoldersUnavailable, Some(Blocked::HoldersUnavailable))
    );
}

#[test]
fn artifact_that_nobody_has_needs_an_upload() {
    let outcome = Scene::new()
        .wanted(1)
        .ready(1, [])
        .sled(2, SledView::Unreachable { last: Some(holdings([])) })
        .plan();
    assert_eq!((outcome.cell(1, 1), outcome.blocked(1)), (Cell::NoSource, Some(Blocked::NoSource)));
    assert_eq!(outcome.plan.summary.artifacts.blocked, [(Blocked::NoSource, 1)].into());
}

#[test]
fn artifact_on_sleds_that_are_away_waits_for_them() {
    for away in [
        SledView::Unreachable { last: Some(holdings([1])) },
        SledView::Refusing { last: Some(holdings([1])) },
    ] {
        let outcome = Scene::new().wanted(1).ready(1, []).sled(2, away).plan();
        assert_eq!(outcome.blocked(1), Some(Blocked::HoldersUnavailable));
    }
}

#[test]
fn nothing_is_called_lost_before_every_sled_has_said_what_it_holds() {
    for unsettled in [UNREACHABLE, SledView::Unknown, SledView::Refusing { last: None }] {
        let outcome = Scene::new().wanted(1).ready(1, []).sled(2, unsettled).plan();
        assert_eq!(outcome.blocked(1), Some(Blocked::HoldersUnknown));
    }
}

#[test]
fn artifact_that_is_staged_at_another_coordinator_is_left_to_it() {
    let outcome = Scene::new().staged_elsewhere(1).ready(1, []).plan();
    assert!(outcome.plan.start.is_empty());
    assert_eq!((outcome.cell(1, 1), outcome.blocked(1)), (Cell::WaitingForOtherCoordinator, None));
}

#[test]
fn pair_that_backs_off_is_left_alone_and_others_are_not() {
    let outcome = Scene::new().staged(1, 10).staged(2, 5).ready(1, []).backing_off(1, 1).plan();
    assert_eq!((outcome.cell(1, 1), outcome.cell(1, 2)), (Cell::BackingOff, Cell::Starting));
}

#[test]
fn first_copy_goes_to_another_sled_when_one_backs_off() {
    let outcome = Scene::new().staged(1, 10).ready(1, []).ready(2, []).backing_off(1, 1).plan();
    assert_eq!(outcome.start(2, 1), Some(&How::Put));
}

#[test]
fn failed_sources_come_last() {
    let holders = Scene::new().staged(1, 10).ready(1, [1]).ready(2, [1]).ready(3, []);
    assert_eq!(holders.clone().failed_sources(3, 1, [1]).plan().sources(3, 1), [sled(2)], "others first");
    let all_failed = holders.failed_sources(3, 1, [1, 2]);
    assert_eq!(all_failed.plan().start(3, 1), Some(&How::Put), "then a PUT");
    let mut nothing_else = all_failed;
    nothing_else.inputs.wanted.artifacts.get_mut(&hash(1)).unwrap().staged_here = false;
    let again: BTreeSet<_> = nothing_else.plan().sources(3, 1).into_iter().collect();
    assert_eq!(again, [sled(1), sled(2)].into(), "then the same once more");
}

#[test]
fn further_put_stays_within_min_replication() {
    let scene = Scene::new().staged(1, 10).ready(1, [1]).ready(2, []).ready(3, []).min_replication(2);
    let scene = scene.failed_sources(2, 1, [1]).failed_sources(3, 1, [1]).sent_to(1, [1]);
    let outcome = scene.plan();
    assert_eq!((outcome.puts().len(), outcome.copies().len()), (1, 1));
}

#[test]
fn put_limit_counts_what_is_or_may_be_there() {
    // Sled 4 can serve, but not to sled 1, which could get a PUT instead.
    let scene = Scene::new().staged(1, 10).min_replication(2).ready(1, []).ready(4, [1]);
    let scene = scene.failed_sources(1, 1, [4]).sent_to(1, [2, 3]);
    let puts = |scene: Scene| scene.plan().puts().len();
    assert_eq!(puts(scene.clone().sled(2, UNREACHABLE).sled(3, SledView::Unknown)), 0, "both may have it");
    assert_eq!(puts(scene.clone().sled(2, UNREACHABLE).ready(3, [])), 1, "the copy on sled 3 was lost");
    assert_eq!(puts(scene.clone().sled(2, UNREACHABLE)), 1, "sled 3 has left the cluster");
    let flying = scene.sent_to(1, [2]).sled(2, UNREACHABLE).sled(3, UNREACHABLE).in_flight(1, 3, How::Put);
    assert_eq!(puts(flying), 0, "sled 3 may be getting it");
}

#[test]
fn puts_spent_on_dead_sleds_keep_nobody_from_the_first_copy() {
    let scene = Scene::new().staged(1, 10).min_replication(1).ready(1, []).sled(2, UNREACHABLE);
    let sent = scene.clone().sent_to(1, [2]).plan();
    assert_eq!((sent.start(1, 1), sent.blocked(1)), (Some(&How::Put), None));
    let flying = scene.clone().in_flight(1, 2, How::Put).plan();
    assert_eq!(flying.start(1, 1), Some(&How::Put), "what is under way to a dead sled arrives nowhere");
    let coming = scene.ready(3, []).sent_to(1, [2]).in_flight(1, 3, How::Put).plan();
    assert_eq!((coming.puts().len(), coming.cell(1, 1)), (0, Cell::WaitingForFirstCopy));
}

#[test]
fn slow_puts_are_joined_by_others_up_to_min_replication() {
    let scene = Scene::new().staged(1, 10).min_replication(2).ready(1, []).ready(2, []).ready(3, []);
    let one = scene.in_flight(1, 1, How::Put).lagging();
    assert_eq!(one.plan().puts().len(), 1);
    let two = one.in_flight(1, 2, How::Put).lagging().plan();
    assert_eq!((two.puts().len(), two.cell(3, 1), two.blocked(1)), (0, Cell::WaitingForFirstCopy, None));
}

#[test]
fn each_limit_is_kept_and_named() {
    let scene = Scene::new().staged(1, 10).staged(2, 5).ready(1, []).ready(2, []);
    let puts = scene.clone().limits(|it| it.puts_total = limit(1)).plan();
    assert_eq!((puts.puts().len(), puts.cell(1, 2)), (1, Cell::WaitingForPutSlot));
    let all = scene.clone().limits(|it| it.transfers_total = limit(1)).plan();
    assert_eq!((all.puts().len(), all.cell(1, 2)), (1, Cell::WaitingForTransferSlot));
    let busy = scene.limits(|it| it.transfers_per_target = limit(1)).in_flight(9, 1, copy_from(&[2]));
    let busy = busy.in_flight(8, 2, copy_from(&[1])).plan();
    assert_eq!((busy.plan.start.len(), busy.cell(1, 2)), (0, Cell::WaitingForTargetSlot));

    let copies = Scene::new().wanted(1).ready(1, [1]).ready(2, []).ready(3, []);
    let served = copies.limits(|it| it.transfers_per_source = limit(1)).plan();
    let mut cells = [served.cell(2, 1), served.cell(3, 1)];
    cells.sort();
    assert_eq!(cells, [Cell::Starting, Cell::WaitingForSourceSlot]);
}

#[test]
fn artifacts_below_min_replication_go_first() {
    // Artifact 1 is small and rare, artifact 2 large and on two sleds already.
    let scene = Scene::new().staged(1, 1).staged(2, 1000).min_replication(2);
    let scene = scene.ready(1, [1, 2]).ready(2, [2]).ready(3, []);
    let outcome = scene.limits(|it| it.transfers_total = limit(1)).plan();
    assert_eq!(outcome.copies().len(), 1);
    assert_eq!(outcome.copies()[0].hash, hash(1));
    let rest = scene_after_rarest();
    assert_eq!(rest.copies()[0].hash, hash(2), "of equals the larger one");
}

fn scene_after_rarest() -> crate::scene::Outcome {
    let scene = Scene::new().staged(1, 1).staged(2, 1000).min_replication(2);
    let scene = scene.ready(1, [1, 2]).ready(2, [1, 2]).ready(3, []);
    scene.limits(|it| it.transfers_total = limit(1)).plan()
}

#[test]
fn staged_bytes_stay_until_min_replication_sleds_can_serve_them() {
    let two = Scene::new().staged(1, 10).ready(1, [1]).ready(2, [1]);
    let released = |scene: Scene| !scene.plan().plan.releasable.is_empty();
    assert!(!released(two.clone()));
    assert!(released(two.clone().ready(3, [1])));
    assert!(!released(two.clone().sled(3, SledView::Unreachable { last: Some(holdings([1])) })));
    let deaf = Holdings { depot_reachable: false, ..holdings([1]) };
    assert!(!released(two.clone().sled(3, SledView::Ready(deaf))));
    assert!(!released(two.clone().ready(3, [1]).ready(4, []).in_flight(1, 4, How::Put)), "a PUT reads them");
    assert!(released(two.min_replication(2)));
}

#[test]
fn artifact_of_another_coordinator_is_not_ours_to_release() {
    let outcome = Scene::new().staged_elsewhere(1).ready(1, [1]).ready(2, [1]).ready(3, [1]).plan();
    assert!(outcome.plan.releasable.is_empty());
}

#[test]
fn rotation_moves_work_among_equals_and_nothing_else() {
    let mut scene = Scene::new().staged(1, 10).ready(1, []).ready(2, []).ready(3, []);
    let mut targets = BTreeSet::new();
    for rotation in 0..3 {
        scene.inputs.rotation = rotation;
        let outcome = scene.plan();
        assert_eq!(outcome.plan.start.len(), 1);
        targets.insert(outcome.plan.start[0].target);
        assert_eq!(outcome.plan, scene.plan().plan, "equal inputs give equal plans");
    }
    assert_eq!(targets.len(), 3);
}

#[test]
fn cells_outside_the_table_do_not_exist() {
    let outcome = Scene::new().wanted(1).ready(1, [1]).plan();
    assert_eq!(outcome.plan.cells.get(sled(2), &hash(1)), None);
    assert_eq!(outcome.plan.cells.get(sled(1), &hash(2)), None);
    assert_eq!(outcome.plan.cells.row(&hash(2)).count(), 0);
}

#[test]
fn summary_is_readable_as_json() {
    let scene = Scene::new().staged(1, 10).wanted(2).ready(1, []).ready(2, [2]);
    let summary = serde_json::to_value(scene.plan().plan.summary).unwrap();
    assert_eq!(
        summary["cells"],
        serde_json::json!({"starting": 2, "complete": 1, "waiting_for_first_copy": 1})
    );
    assert_eq!(summary["transfers"]["bytes_started"], 20);
    assert_eq!(summary["artifacts"]["at_min_replication"], 0);
}
