//! The same once more, with the coordinator's state in PostgreSQL: whatever is killed, added or uploaded twice, the same is true.

use crate::{
    absent_sleds, acknowledgement, chosen_database::on_postgres, concurrent_uploads, coordinator_killed,
    lost_artifacts, m2_faults, m2_rot, odd_uploads, peers, rebuilt_sleds, restarts, shared_artifacts,
    sled_killed, strange_sleds,
};

/// Makes a test of each test that is named.
macro_rules! also {
    ($($file:ident: $($name:ident),+;)+) => {
        $($(
            #[test]
            fn $name() {
                on_postgres($file::$name);
            }
        )+)+
    };
}

also! {
    absent_sleds:
        a_sled_that_was_dead_during_the_upload_catches_up_within_five_seconds,
        a_sled_that_is_added_later_gets_everything,
        a_sled_that_is_stopped_before_the_upload_delays_nobody_and_catches_up,
        a_sled_that_is_stopped_in_the_middle_of_a_put_delays_nobody_and_catches_up,
        a_source_that_is_stopped_in_the_middle_of_a_copy_delays_nobody_and_catches_up;
    acknowledgement:
        the_answer_waits_for_the_last_copy_of_enough_sleds,
        with_too_few_sleds_the_answer_is_not_replicated_and_the_release_is_kept,
        with_fewer_sleds_than_an_upload_needs_the_refusal_and_the_status_say_so,
        the_uploaded_bytes_stay_until_enough_sleds_have_them_also_over_a_restart;
    concurrent_uploads:
        two_releases_at_the_same_time_both_arrive,
        the_same_release_twice_at_the_same_time_is_one_release;
    coordinator_killed:
        killed_between_acknowledgement_and_first_put_it_delivers_in_its_next_life,
        killed_in_the_middle_of_puts_it_delivers_in_its_next_life,
        killed_before_the_record_it_has_acknowledged_nothing_and_keeps_nothing,
        killed_between_record_and_answer_it_delivers_what_nobody_was_told_of,
        restarted_while_no_sled_is_up_it_knows_that_it_does_not_know,
        copies_between_sleds_end_well_while_the_coordinator_is_dead;
    lost_artifacts:
        an_artifact_that_every_sled_has_lost_needs_an_upload_and_is_healed_by_it;
    m2_faults:
        an_m2_that_fails_in_the_middle_of_a_put_costs_one_copy_until_it_is_healed,
        a_full_m2_costs_one_copy_until_there_is_room,
        an_m2_that_hangs_is_left_out_and_makes_up_for_it_later,
        a_sled_with_an_m2_that_hangs_stops_when_it_is_asked_to,
        a_somewhat_slow_m2_gets_its_copies_all_the_same,
        an_m2_that_is_missing_at_the_start_is_used_when_it_appears,
        a_sled_whose_m2s_all_fail_delays_nobody_and_recovers_when_they_are_healed;
    m2_rot:
        a_scrub_sets_rotten_copies_aside_and_repairs_them_from_the_other_m2,
        a_scrub_that_an_operator_asks_for_shows_its_end_and_what_it_found,
        what_has_rotted_on_both_m2s_is_fetched_again_from_a_peer,
        a_rotten_copy_is_never_served_whole_even_before_a_scrub,
        a_peer_whose_copies_have_rotted_cannot_spread_them;
    odd_uploads:
        a_release_whose_targets_are_named_by_sha512_reaches_every_sled,
        a_trust_root_that_is_deleted_during_an_upload_vouches_for_nothing,
        a_deletion_is_finished_though_its_client_hangs_up;
    peers:
        the_coordinator_sends_each_artifact_once_and_peers_do_the_rest,
        what_the_sleds_hold_is_not_sent_again_for_another_release_that_has_it;
    rebuilt_sleds:
        a_sled_with_new_m2s_gets_everything_again_from_its_peers,
        readers_that_do_not_read_keep_no_sled_from_its_peers,
        a_sled_with_one_new_m2_repairs_it_from_the_other,
        a_rebuilt_host_is_a_new_sled_and_the_old_one_is_never_called_at_its_address;
    restarts:
        a_restarted_coordinator_forgets_nothing_and_sends_nothing_again,
        a_restarted_sled_is_itself_and_lists_everything_at_once_without_hashing;
    shared_artifacts:
        deleting_a_repository_takes_away_its_own_artifacts_and_leaves_shared_ones,
        deleting_the_last_repository_empties_every_sled_also_one_that_was_away,
        a_release_deleted_in_the_middle_of_its_replication_leaves_nothing;
    sled_killed:
        killed_in_the_middle_of_a_put_it_gets_everything_when_it_is_back,
        killed_in_the_middle_of_a_copy_it_gets_everything_when_it_is_back,
        a_source_killed_in_the_middle_of_a_copy_is_replaced_by_another,
        when_the_only_source_is_killed_the_others_wait_for_it_and_say_so,
        when_every_sled_that_was_sent_it_is_killed_the_next_one_is_sent_it;
    strange_sleds:
        a_sled_of_another_cluster_is_isolated_until_it_is_emptied,
        a_sled_with_a_higher_generation_is_isolated_until_it_is_emptied;
}
