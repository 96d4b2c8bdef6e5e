//! One contract, and everything that keeps datasets: each claim on each of them.
//!
//! - [`bench`]: a disk that can be taken away, made read-only, and made to hang ([`test_disks`]).
//! - [`claims`]: what holds on a disk that works. [`faults`]: on one that does not.
//! - [`crashes`]: killed after each step. [`pools`]: what only ZFS has.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bench;
mod claims;
mod crashes;
mod faults;
mod pools;

/// Makes a test of each claim, named by kind of disk and claim.
macro_rules! on {
    ($kind:ident, $module:ident: $($file:ident::$claim:ident),+ $(,)?) => {
        mod $module {
            $(#[test]
            fn $claim() {
                let name = concat!(stringify!($module), "::", stringify!($claim));
                let kind = crate::bench::Kind::$kind;
                test_disks::inside::run(name, kind, async || {
                    crate::$file::$claim(crate::bench::Bench::start(name, kind).await).await;
                });
            })+
        }
    };
}

/// All claims.
macro_rules! all_on {
    ($kind:ident, $module:ident $(, $file:ident::$claim:ident)* $(,)?) => {
        on!($kind, $module:
            claims::a_dataset_is_made_once_found_and_listed,
            claims::each_region_is_at_one_place_below_the_disks_directory,
            claims::sizes_that_are_none_are_refused,
            claims::another_size_is_refused_and_changes_nothing,
            claims::what_is_reserved_is_no_more_than_there_is,
            claims::a_destroyed_dataset_is_gone_with_all_that_was_in_it,
            claims::a_dataset_in_use_stays_and_says_who_uses_it,
            claims::a_snapshot_keeps_what_was_there_or_is_refused,
            claims::an_open_snapshot_stays_and_says_where,
            claims::what_is_none_of_ours_is_told_and_never_touched,
            claims::two_creators_at_once_make_one_dataset,
            claims::the_inventory_says_what_the_disk_is,
            faults::a_full_disk_is_told_and_loses_nothing,
            faults::a_disk_that_goes_away_is_missing_and_comes_back_whole,
            faults::a_read_only_disk_is_read_and_not_changed,
            faults::a_disk_that_hangs_is_told_in_time,
            crashes::a_crash_after_each_step_is_mended_by_the_same_call,
            $($file::$claim,)*
        );
    };
}

all_on!(Ext4, ext4, faults::a_disk_that_gives_nothing_back_is_told_though_the_system_has_cached_it);
all_on!(Xfs, xfs, faults::a_disk_that_gives_nothing_back_is_told_though_the_system_has_cached_it);
// It keeps what is small with what it has cached anyway: so it is told when something bigger is read, or written.
all_on!(Btrfs, btrfs);
all_on!(
    Zfs,
    zfs,
    pools::a_dataset_takes_no_more_than_its_quota,
    pools::all_get_what_is_reserved_if_nobody_may_take_more,
    pools::a_dataset_that_is_not_mounted_is_mounted_by_whoever_asks,
    pools::a_dataset_that_something_hides_is_not_taken_for_an_empty_one,
    pools::a_foreign_snapshot_or_clone_keeps_what_it_depends_on,
    pools::a_pool_whose_disk_is_gone_is_told,
    pools::nothing_is_mounted_below_a_root_that_is_not,
    pools::a_pool_that_has_stopped_is_suspended_until_it_is_cleared,
    pools::without_a_daemon_the_disk_is_missing_and_says_why,
    pools::each_way_in_which_the_root_is_not_there_has_words_of_its_own,
    pools::the_pool_and_what_its_owner_has_set_are_told,
    pools::a_region_that_is_not_mounted_has_no_place_for_files,
);
// Needs no rights: whatever the directory for temporary files is on.
on!(Temporary, temporary:
    claims::a_dataset_is_made_once_found_and_listed,
            claims::each_region_is_at_one_place_below_the_disks_directory,
    claims::sizes_that_are_none_are_refused,
    claims::another_size_is_refused_and_changes_nothing,
    claims::what_is_reserved_is_no_more_than_there_is,
    claims::a_destroyed_dataset_is_gone_with_all_that_was_in_it,
    claims::a_dataset_in_use_stays_and_says_who_uses_it,
    claims::a_snapshot_keeps_what_was_there_or_is_refused,
    claims::what_is_none_of_ours_is_told_and_never_touched,
    claims::two_creators_at_once_make_one_dataset,
    claims::the_inventory_says_what_the_disk_is,
    crashes::a_crash_after_each_step_is_mended_by_the_same_call,
);
