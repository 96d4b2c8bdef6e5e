//! The main cases once more, with the coordinator's state in PostgreSQL: whatever is killed, added or uploaded twice, the
//! same is true.

use crate::{
    absent_sleds, acknowledgement, chosen_database::on_postgres, concurrent_uploads, coordinator_killed,
    lost_artifacts, odd_uploads, restarts, shared_artifacts,
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
    coordinator_killed:
        killed_between_acknowledgement_and_first_put_it_delivers_in_its_next_life,
        killed_before_the_record_it_has_acknowledged_nothing_and_keeps_nothing,
        killed_between_record_and_answer_it_delivers_what_nobody_was_told_of,
        restarted_while_no_sled_is_up_it_knows_that_it_does_not_know;
    absent_sleds:
        a_sled_that_was_dead_during_the_upload_catches_up_within_five_seconds,
        a_sled_that_is_added_later_gets_everything;
    shared_artifacts:
        deleting_a_repository_takes_away_its_own_artifacts_and_leaves_shared_ones,
        deleting_the_last_repository_empties_every_sled_also_one_that_was_away;
    concurrent_uploads:
        two_releases_at_the_same_time_both_arrive,
        the_same_release_twice_at_the_same_time_is_one_release;
    acknowledgement:
        the_uploaded_bytes_stay_until_enough_sleds_have_them_also_over_a_restart;
    restarts:
        a_restarted_coordinator_forgets_nothing_and_sends_nothing_again;
    lost_artifacts:
        an_artifact_that_every_sled_has_lost_needs_an_upload_and_is_healed_by_it;
    odd_uploads:
        a_trust_root_that_is_deleted_during_an_upload_vouches_for_nothing;
}
