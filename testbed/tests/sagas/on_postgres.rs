//! The same once more, with the coordinator's state in PostgreSQL. Left out is what has to do with SQLite's file: its disk that
//! is full, its lock that is held.

use crate::{
    acknowledged, chosen_database::on_postgres, numbers, pages, recovery, refused, retention,
    silent_database, unreadable, unwinding, waiting,
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
    acknowledged:
        what_was_acknowledged_ends_although_the_coordinator_is_killed_at_once,
        the_same_id_again_is_the_same_saga_and_with_other_parameters_a_conflict,
        many_who_ask_for_one_id_at_the_same_time_get_one_saga,
        what_cannot_be_planned_is_refused_and_leaves_nothing;
    numbers:
        metrics_of_sagas_are_there_and_add_up_in_every_life;
    pages:
        sagas_are_listed_newest_first_in_pages_that_others_do_not_disturb,
        lists_show_only_the_state_and_the_kind_that_are_asked_for,
        a_log_is_told_in_its_order_and_in_pages,
        a_page_token_of_another_list_is_refused;
    recovery:
        the_next_life_recovers_each_unfinished_saga_once_and_counts_it,
        activated_again_and_again_while_sagas_run_it_recovers_none;
    refused:
        a_saga_that_is_not_there_takes_nothing,
        a_saga_that_has_ended_takes_nothing_in_this_life_and_the_next,
        a_saga_that_waits_for_no_operator_is_neither_retried_nor_given_up,
        a_saga_that_nobody_executes_takes_signals_and_says_what_it_waits_for,
        a_saga_that_nobody_can_go_on_with_is_abandoned_and_names_what_is_left,
        bodies_and_queries_that_make_no_sense_are_refused_with_their_codes,
        the_first_value_of_a_signal_stays_and_only_so_many_are_kept;
    retention:
        ended_sagas_go_to_the_archive_and_unfinished_ones_stay,
        what_ended_just_now_stays_by_default,
        an_archive_that_was_moved_away_is_begun_anew_without_a_restart;
    unwinding:
        a_node_that_fails_undoes_all_that_was_done_and_begins_nothing_after_it,
        cancelled_while_it_waits_a_saga_fails_with_everything_undone,
        a_cancellation_is_remembered_by_the_next_life,
        an_undo_that_does_not_succeed_is_an_issue_until_an_operator_retries_it,
        killed_while_it_needs_attention_a_saga_needs_it_again,
        a_saga_that_is_given_up_names_what_it_may_have_left;
    waiting:
        a_signal_while_it_waits_lets_it_go_on,
        a_signal_that_came_before_is_kept_also_over_a_restart,
        killed_while_a_saga_waits_its_next_life_goes_on_where_it_was,
        a_timer_goes_on_while_nobody_is_there_and_starts_no_second_time,
        asked_to_stop_a_coordinator_waits_for_no_saga_and_its_next_life_goes_on;
    silent_database:
        a_stop_ends_long_polls_at_once;
    unreadable:
        what_cannot_be_read_is_said_and_counted_apart_and_given_up_by_an_operator,
        what_is_mended_goes_on_by_itself,
        a_saga_of_another_coordinator_is_said_to_be_its_and_takes_no_word_here;
}
