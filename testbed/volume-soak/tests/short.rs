//! The short form, for every run of all tests. Needs `fio`, which `cargo xtask test` installs where it can.

use camino_tempfile::Utf8TempDir;
use volume_soak::{RepairAtKill, VolumeOrder, VolumeSite, run_volume};

/// Another one each time would find more, and nobody could tell why a test failed that went well before.
const SEED: u64 = 4_004;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_paused_and_rotten_a_volume_loses_nothing_and_keeps_three_equal_copies() {
    let temp = Utf8TempDir::new().expect("a directory for the test");
    let site = VolumeSite { parent: temp.path().to_owned(), bin_dir: None, keeps_files: false };
    let order = VolumeOrder::short(SEED);
    let report = run_volume(&site, &order, &|_| {}).await.expect("the run is made");
    assert!(report.is_well(), "{report}");
    let done = &report.done;
    assert_eq!((done.rounds, done.ends), (u64::from(order.rounds), u64::from(order.ends)), "{report}");
    assert!(done.kills > 0 && done.pauses > 0 && done.everything_kills > 0, "{report}");
    assert!(done.rotten_blocks > 0 && done.healed_blocks == done.rotten_blocks, "{report}");
    assert!(report.counts.lost_answers > 0, "no kill of the export hit anything: {report}");
    assert_eq!(done.replacements, u64::from(order.replacements), "{report}");
    let hit = done.kills_during_repair;
    assert!(hit.source >= 1 && hit.target >= 1 && hit.upstairs >= 1, "{report}");
    assert_eq!(report.repairs_at_kills.len() as u64, hit.source + hit.target + hit.upstairs, "{report}");
    let is_under_way = |one: &RepairAtKill| {
        matches!(one.phase.as_str(), "copying" | "checking") && one.bytes_done <= one.bytes && one.bytes > 0
    };
    assert!(report.repairs_at_kills.iter().all(is_under_way), "{:?}", report.repairs_at_kills);
    assert_eq!(report.bytes_verified, report.counts.blocks_checked * 4_096, "{report}");
    assert!(report.bytes_verified > 0 && (report.mismatches, report.errors) == (0, 0), "{report}");
    let [first, others @ ..] = &report.region_hashes[..] else { panic!("{report}") };
    assert!(first.len() == 64 && others.len() == 2 && others.iter().all(|other| other == first), "{report}");
    let (_, lists) = done.blocks_after_part_1.expect("the files were compared").list;
    assert!(done.long_away > 0 && u64::from(lists) > 2 * done.long_away, "nobody was left out: {report}");
    let blocks = done.blocks_at_the_end.expect("the files were compared");
    assert!(blocks.bytes > 0 && blocks.zeros > 0 && blocks.never > 0 && blocks.in_the_book > 0, "{report}");
    assert_eq!(done.members_with_plaintext, Some(3), "what is there is not found: {report}");
    let left = temp.path().join("volume");
    assert!(!left.exists(), "{left} is left behind");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_an_encrypted_one_forged_blocks_are_healed_and_no_member_has_anything_that_was_written() {
    let temp = Utf8TempDir::new().expect("a directory for the test");
    let site = VolumeSite { parent: temp.path().to_owned(), bin_dir: None, keeps_files: false };
    let order = VolumeOrder::short_encrypted(SEED);
    let report = run_volume(&site, &order, &|_| {}).await.expect("the run is made");
    assert!(report.is_well(), "{report}");
    let done = &report.done;
    assert_eq!((done.rounds, done.ends), (u64::from(order.rounds), u64::from(order.ends)), "{report}");
    assert!(done.forged_blocks > 0 && done.healed_forged_blocks == done.forged_blocks, "{report}");
    assert_eq!(done.replacements, u64::from(order.replacements), "{report}");
    assert!(done.rotten_blocks > 0 && done.healed_blocks == done.rotten_blocks, "{report}");
    let blocks = done.blocks_at_the_end.expect("the files were compared");
    assert!(done.long_away > 0 && blocks.bytes > 0 && blocks.in_the_book > 0, "{report}");
    assert_eq!(done.members_with_plaintext, Some(0), "{report}");
    let left = temp.path().join("volume");
    assert!(!left.exists(), "{left} is left behind");
}
