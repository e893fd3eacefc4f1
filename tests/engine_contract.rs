//! The contract of `trait Engine`: one suite of rules for every implementer. To put an engine to it,
//! write a [`Fixture`](fixture::Fixture) for it and add a line at the end. Each rule becomes one test,
//! named `implementer::rule`.

// Rules are no tests by themselves, so that clippy does not see that they may unwrap.
#![allow(clippy::unwrap_used)]

mod contract;
mod fixture;

use contract::Restless;
use fixture::OracleFixture;

/// One test for each rule of a module.
macro_rules! rules {
    ($module:ident: $($rule:ident),+ $(,)?) => {
        $(
            #[tokio::test]
            async fn $rule() {
                crate::contract::$module::$rule::<Subject>().await;
            }
        )+
    };
}

/// Puts one implementer to the whole suite.
macro_rules! suite {
    ($implementer:ident: $fixture:ty) => {
        mod $implementer {
            use super::*;

            type Subject = $fixture;

            rules! { publish:
                a_batch_gets_adjoining_offsets_and_rising_ids,
                offsets_are_dense_in_each_topic_of_its_own,
                a_message_comes_back_as_it_was_published,
                an_empty_body_is_a_message,
                published_at_follows_the_log_clock_and_not_a_jump_of_the_wall,
                a_publish_to_no_topic_is_refused,
                a_batch_has_one_to_ten_thousand_messages,
                a_body_over_the_limit_refuses_the_whole_batch,
                a_batch_over_the_limit_of_bytes_is_refused,
                properties_are_bounded_in_number_and_bytes,
                a_delay_over_fourteen_days_is_refused,
                a_repeat_within_the_window_is_answered_with_the_first,
                a_repeat_may_have_another_delay,
                an_idempotency_key_used_for_another_message_refuses_the_batch,
                a_repeat_takes_no_offset_within_its_batch,
                an_idempotency_key_twice_in_a_batch_is_a_repeat,
                an_idempotency_key_twice_in_a_batch_for_two_messages_is_refused,
                an_idempotency_key_is_forgotten_at_the_end_of_its_window,
                an_idempotency_key_is_one_topics_own,
                an_idempotency_key_outlives_its_message,
                a_full_table_of_idempotency_keys_refuses_new_ones_only,
                idempotency_keys_survive_a_restart,
            }
            rules! { delay:
                a_delayed_message_comes_when_due_and_not_a_millisecond_before,
                the_topics_delay_holds_for_messages_that_name_none,
                a_change_of_the_topics_delay_leaves_earlier_messages_alone,
                due_messages_come_by_due_time_then_offset_before_fresh_ones,
                delayed_messages_hold_up_nobody,
                each_group_takes_a_due_message_once,
                a_group_gets_no_delayed_message_of_before_its_start,
                a_new_group_at_the_head_gets_delayed_messages_kept,
                due_messages_wait_at_the_cap_like_fresh_ones,
                delays_survive_a_restart,
            }
            rules! { pull:
                a_pull_takes_the_oldest_up_to_its_batch,
                a_pull_tells_lease_attempt_and_counts,
                groups_read_a_topic_each_for_itself,
                a_pull_from_no_topic_or_group_is_refused,
                a_pull_out_of_bounds_is_refused,
                a_paused_topic_delivers_nothing_and_takes_publishes,
                a_paused_group_leaves_the_others_alone,
                leases_run_on_in_a_paused_group,
                a_pull_with_auto_ack_settles_at_once,
                an_auto_acked_message_stays_settled_after_a_restart,
                returned_messages_come_first_then_due_then_fresh,
                at_the_cap_only_returned_messages_are_delivered,
                messages_that_wait_out_a_nack_delay_leave_room_under_the_cap,
                a_full_table_of_nack_delays_stops_fresh_messages,
                a_raised_cap_counts_at_once,
                a_groups_filter_passes_over_unwanted_tags_for_good,
                messages_not_reached_yet_count_whatever_their_tag,
                a_pulls_filter_takes_the_place_of_the_groups,
                a_pulls_filter_leaves_returned_messages_for_others,
                a_filter_holds_for_due_messages,
                what_a_filter_passed_over_stays_so_after_a_restart,
            }
            rules! { wait:
                a_waiting_pull_gets_the_next_publish,
                a_pull_does_not_wait_when_there_is_something,
                a_wait_of_no_time_is_no_wait,
                a_wait_ends_empty_when_its_time_is_up,
                a_jump_of_the_wall_clock_ends_no_wait,
                who_waits_first_is_served_first,
                a_pull_for_a_full_batch_waits_until_it_is_full,
                a_pull_for_a_full_batch_takes_what_there_is_when_its_time_is_up,
                a_nack_wakes_a_waiting_pull,
                a_lapse_wakes_a_waiting_pull,
                the_end_of_a_nack_delay_wakes_a_waiting_pull,
                a_due_message_wakes_a_waiting_pull,
                an_ack_at_the_cap_wakes_a_waiting_pull,
                a_raised_cap_wakes_a_waiting_pull,
                an_ack_in_a_strict_topic_wakes_a_waiting_pull,
                an_ack_frees_the_key_for_a_waiting_pull,
                a_seek_wakes_a_waiting_pull,
                a_dead_letter_wakes_who_waits_for_dead_letters,
                a_waiting_pull_with_auto_ack_leaves_no_lease,
                unwanted_messages_do_not_end_a_wait,
                who_hangs_up_gets_no_lease,
                who_hangs_up_makes_room_for_another,
                too_many_waiting_pulls_are_refused,
                a_pause_ends_the_waits,
                deleting_the_topic_ends_the_waits,
                deleting_the_group_ends_the_waits,
                a_stop_answers_who_waits_and_refuses_the_rest,
            }
            rules! { settle:
                an_acked_message_never_comes_again,
                a_second_ack_says_already_settled,
                a_second_ack_says_already_settled_of_a_message_that_is_kept,
                a_nacked_message_comes_again_with_the_next_attempt,
                a_nack_with_a_delay_holds_the_message_back,
                a_nack_without_a_delay_uses_the_groups,
                a_lease_lapses_at_its_deadline_and_the_message_comes_at_once,
                a_jump_of_the_wall_clock_lapses_no_lease,
                an_extended_lease_holds_from_now_on,
                an_extended_lease_may_be_acked,
                a_settle_out_of_bounds_changes_nothing,
                a_settle_in_no_topic_or_group_is_refused,
                items_of_a_settle_succeed_each_for_itself_in_order,
                expired_lease_makes_the_old_token_stale,
                ack_always_settles_though_taken_over,
                a_late_ack_settles_if_nobody_else_has_the_message,
                a_late_settle_may_be_refused,
                a_late_nack_sets_the_time_anew,
                a_late_extend_gives_the_lease_again_with_the_same_attempt,
                a_late_bury_gives_the_message_up,
                an_old_token_is_worth_something_again_when_the_newer_lease_was_nacked,
                an_old_token_that_extends_is_the_holder_again,
                a_forged_token_is_unknown,
                a_token_is_unknown_outside_its_group_and_topic,
                a_token_names_its_group_if_the_request_does_not,
                a_token_of_a_deleted_group_is_unknown_to_its_namesake,
                a_token_of_a_deleted_topic_is_unknown_to_its_namesake,
                a_token_of_a_purged_or_discarded_message_is_already_settled,
                what_was_settled_stays_so_after_a_restart,
                a_lease_survives_a_restart_with_its_token_and_deadline,
                an_extended_lease_survives_a_restart,
                attempts_survive_a_restart,
                nack_delays_survive_a_restart,
                who_took_a_message_over_is_known_after_a_restart,
                a_late_ack_after_a_restart_settles_if_free,
            }
            rules! { handles:
                a_handle_per_message_is_a_random_uuid,
                a_handle_per_message_settles_its_lease,
                a_handle_per_batch_is_one_number_safe_in_json,
                a_batch_handle_settles_what_still_carries_it,
                a_batch_handle_nacks_all_of_its_leases,
                a_late_batch_handle_is_worth_what_lateness_says,
                a_batch_handle_with_a_lapsed_lease_settles_the_others_in_time,
                a_message_delivered_again_carries_the_old_handle_no_more,
                a_handle_is_unknown_outside_its_group,
                nothing_carries_the_handle_zero,
                handles_survive_a_restart,
            }
            rules! { dead:
                the_last_nack_moves_a_message_to_the_dead_letters,
                the_dead_letter_topic_is_made_with_default_settings,
                a_lapse_of_the_last_lease_moves_a_message_with_nobody_pulling,
                a_bury_moves_a_message_at_any_attempt_with_its_reason,
                without_a_dead_letter_topic_a_message_is_discarded_and_counted,
                attempts_begin_anew_among_the_dead_letters,
                a_dead_letter_of_one_group_is_not_one_of_another,
                a_dead_letter_is_ready_at_once_whatever_delay_it_had,
                a_group_may_not_bury_in_its_own_topic,
                a_lowered_limit_of_attempts_counts_at_the_next_nack,
                dead_letters_survive_a_restart,
                a_redriven_message_goes_home_to_all_groups,
                a_redrive_leaves_what_has_no_home,
                a_redrive_moves_the_oldest_up_to_its_limit,
                a_redrive_of_chosen_offsets_moves_only_those,
                a_redrive_out_of_bounds_is_refused,
                a_redrive_survives_a_restart,
            }
            rules! { ordering:
                without_order_a_key_holds_up_nothing,
                a_key_in_flight_is_withheld_and_others_go_on,
                messages_without_a_key_are_never_withheld,
                a_nacked_message_comes_before_the_next_of_its_key,
                a_nack_delay_withholds_the_key,
                an_auto_ack_takes_one_of_a_key_at_a_time,
                a_key_is_withheld_in_its_own_group_only,
                many_of_a_key_come_in_order_one_after_the_other,
                withheld_messages_survive_a_restart_in_order,
                a_discarded_message_frees_its_key,
                in_strict_order_one_batch_is_in_flight,
                in_strict_order_returned_messages_come_first,
                in_strict_order_a_nack_delay_blocks_all_behind_it,
                strict_order_survives_a_restart,
                the_order_changes_only_with_nothing_in_flight,
                a_newer_message_supersedes_the_older_ones_of_its_key,
                messages_without_a_key_are_never_superseded,
                within_a_batch_the_last_of_a_key_wins,
                a_superseded_message_in_flight_finishes_first,
                a_superseded_message_does_not_come_back,
                a_returned_message_is_superseded,
                a_superseded_message_does_not_count_against_attempts,
                what_is_superseded_stays_so_after_a_restart,
                compaction_changes_only_in_an_empty_topic,
                a_full_table_of_compaction_keys_refuses_new_ones_only,
            }
            rules! { position:
                a_group_begins_where_it_was_told,
                a_group_at_the_tail_gets_only_what_is_published_later,
                a_position_of_the_first_pull_is_fixed_by_it,
                the_first_pulls_start_wins,
                a_pulls_start_counts_for_nothing_once_there_is_a_position,
                a_waiting_first_pull_fixes_the_tail,
                a_group_without_a_position_lets_no_message_go,
                positions_survive_a_restart,
                a_seek_moves_a_group_back_and_forth,
                a_seek_forgets_leases_and_returned_messages_and_says_so,
                a_token_of_before_a_seek_touches_nothing_after_it,
                a_dry_run_of_a_seek_changes_nothing,
                a_seek_fixes_the_position_of_a_group_that_has_none,
                a_seek_goes_back_only_to_what_is_kept,
                a_seek_leaves_future_delays_alone_and_takes_due_ones_again,
                a_seek_to_the_tail_skips_delayed_messages_of_before,
                a_seek_survives_a_restart,
                a_seek_in_no_topic_or_group_is_refused,
                a_purge_gives_up_everything,
                a_discard_gives_up_what_it_names,
            }
            rules! { retention:
                a_message_goes_when_every_group_has_settled_it,
                a_topic_without_groups_keeps_its_messages,
                deleting_the_last_group_keeps_what_it_had_not_settled,
                deleting_the_slowest_group_lets_messages_go,
                a_topic_may_keep_what_is_settled,
                messages_of_before_a_groups_start_are_settled_for_it,
                messages_past_their_age_are_trimmed_wherever_they_stand,
                a_topic_without_groups_trims_by_age,
                the_oldest_are_trimmed_over_the_limit_of_bytes,
                a_lowered_limit_of_bytes_trims_at_once,
                a_group_behind_the_head_goes_on_at_the_head,
                trims_survive_a_restart,
            }
            rules! { admin:
                a_topic_is_found_by_name_and_id,
                topics_are_listed_by_name,
                a_taken_topic_name_is_refused_and_shown,
                settings_out_of_bounds_are_refused,
                topics_are_bounded_in_number,
                groups_are_bounded_in_number,
                a_patch_changes_what_it_names,
                a_renamed_topic_keeps_its_id_messages_groups_and_leases,
                a_patch_of_no_topic_or_group_is_refused,
                a_deleted_topic_leaves_nothing_to_its_namesake,
                groups_are_found_by_name_and_id_and_listed_by_name,
                a_taken_group_name_is_refused,
                a_deleted_group_leaves_no_progress_to_its_namesake,
                settings_survive_a_restart,
                changed_settings_survive_a_restart,
                accounts_are_worlds_of_their_own,
                dead_letters_stay_in_their_account,
                credentials_are_kept_until_revoked,
                credentials_are_bounded_in_number,
            }
            rules! { view:
                a_peek_shows_every_state_and_touches_nothing,
                a_peek_tells_attempts,
                a_peek_by_state_shows_only_that,
                states_survive_a_restart,
                a_peek_finds_by_id_tag_key_property_and_time,
                a_peek_goes_page_by_page_from_an_offset,
                a_peek_out_of_bounds_is_refused,
                counts_follow_a_message_through_its_life,
                counts_of_bytes_and_oldest_are_of_what_is_unsettled,
                counts_of_a_topic_are_of_what_is_kept,
                the_status_tells_totals_and_counts,
            }
            rules! { decided:
                a_nacked_token_counts_as_lapsed_and_free,
                a_token_of_before_a_seek_is_not_free_when_a_later_lease_lapses,
                a_lease_given_again_to_an_old_token_carries_no_newer_handle,
                a_lease_given_again_by_its_handle_keeps_it,
                a_handle_of_before_a_seek_is_unknown,
                an_auto_ack_stays_under_the_cap_in_each_batch,
                a_full_batch_leaves_the_tags_behind_it_unlooked_at,
                at_the_cap_no_tag_is_passed_over,
                a_withheld_message_is_judged_by_the_filter_of_the_pull_that_looks,
                in_strict_order_a_returned_message_the_pull_does_not_want_blocks_it,
                a_publish_delay_does_not_hold_up_its_key,
                a_superseded_message_in_flight_is_nobody_elses,
                a_delayed_message_supersedes_at_its_publish,
                a_superseded_message_may_be_buried,
                leases_that_lapse_in_one_sweep_are_buried_by_deadline_then_offset,
                a_lapse_comes_before_a_trim,
                dead_letter_topics_are_made_beyond_the_limit,
                a_topic_may_not_take_the_name_of_its_dead_letters,
                a_pull_for_a_full_batch_holds_up_nobody_behind_it,
                a_waiting_pull_passes_over_what_it_does_not_want,
                a_settled_message_shows_no_attempts,
                a_message_larger_than_its_topic_may_keep_goes_at_once,
            }
        }
    };
}

suite!(oracle: OracleFixture);
suite!(restless_oracle: Restless<OracleFixture>);
