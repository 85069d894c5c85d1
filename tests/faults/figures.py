"""The figures of ``docs/reliability.md``: what each is, what it must reach, and what the last run of it reached.

A test names the figures that it belongs to by ``@pytest.mark.figure("R01")`` and says what it reached by pytest's
``record_property("reached", …)``. ``make faults`` runs them all with :mod:`tests.faults.recording`, which writes a file
per figure into ``reached/``; the table is made of these.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

REACHED = Path(__file__).parent / "reached"

FIGURES: Mapping[str, tuple[str, str]] = {
    "R01": ("`kill -9` of a run's process at random moments", "100 of 100 succeed with the content of one undisturbed"),
    "R02": ("`kill -9` at each named point of a write, a commit, a change of state, a report", "every point passes"),
    "R03": ("`kill -9` of the worker", "its run's process is gone within 2 s, the run is done: 20 of 20"),
    "R04": ("`kill -9` of the API while 20 clients submit", "over 20 restarts none lost, none twice, one id per key"),
    "R05": ("SIGTERM to API, worker, both; a second one", "exit 0 within 20 s, no attempt charged; ends at once"),
    "R06": ("a worker that slept through its lease wakes", "it writes nothing: one result"),
    "R07": ("a run that kills its process in every attempt", "`attempts_exhausted`, neighbours unharmed"),
    "R08": ("an environment that takes more memory than allowed", "`failed`, with a sentence; the API stays as small"),
    "R09": ("a cancel in each state, and beside each other change", "the outcomes of the table"),
    "R10": ("a full disk, a small file system", "told by name, reads go on, and all when there is room"),
    "R11": ("the n-th write, flush or rename fails, n = 1, 2, …", "what was stored before is whole each time"),
    "R12": ("a checkpoint is cut, changed by a bit, emptied, exchanged", "never used; the one before is"),
    "R13": ("somebody else locks the database for 20 s", "answers wait or are 503, no 500, no run lost"),
    "R14": ("32 processes change rows 200 times each", "6,400 of 6,400 changes, no error"),
    "R15": ("clocks jump, everything stands still", "no lease is taken early, no attempt charged"),
    "R16": ("a backup again and again under load, each restored", "20 of 20 whole, and a service starts on them"),
    "R17": ("migrations down and up with data; `kill -9` within one", "every row kept; 10 of 10 whole"),
    "R18": ("two services on one file, 500 runs", "500 of 500 done, none twice"),
    "R19": ("a soak in which something is killed every few seconds", "everything ends, memory and open files flat"),
    "R20": ("each algorithm is killed, once and twice", "the same digest as undisturbed"),
    "R21": ("the same run again: other threads, processes, batches", "the same bits"),
    "R22": ("PostgreSQL in the place of SQLite", "the suites of store, worker and acceptance pass"),
    "L01": ("10,000 runs wait", "submit, claim, list: p99 below 50, 20, 50 ms; the API below 300 MB"),
    "L02": ("1,000 clients poll while 10 act", "no error, a poll's p99 below 1 s"),
    "L03": ("1,000 connections send a byte a second", "heads are closed after 10 s, bodies after 30 s"),
    "L04": ("bodies beyond the limit: long, endless, lying, packed", "refused early; the API grows by < 20 MiB"),
    "L05": ("deep, huge, doubled, not finite, not UTF-8: JSON that breaks readers", "4xx, never 5xx"),
    "L06": ("watchers that do not read", "buffers stay bounded, others are answered"),
    "L07": ("one client asks too often", "429 with Retry-After; another is answered"),
    "S01": ("observations: any JSON for any space", "10,000 cases, refused with a place or acted on; no 5xx"),
    "S02": ("overrides: any text, any JSON", "10,000 cases, no 5xx, nothing told of the machine"),
    "S03": ("`_target_` wherever a configuration comes in", "nothing executed"),
    "S04": ("interpolation that would tell a secret", "refused; the secret is in no answer, log or row"),
    "S05": ("`hydra.*`, launchers, package directives", "refused"),
    "S06": ("configurations that would exhaust the machine", "refused with the bound"),
    "S07": ("ids that are paths", "not found; no file is opened"),
    "S08": ("symbolic links in the place of files", "not followed"),
    "S09": ("pickles and hostile archives in the place of checkpoints", "refused before anything is unpickled"),
    "S10": ("foreign Host, Origin and content types", "refused"),
    "S11": ("listening beyond loopback without tokens", "does not start"),
    "S12": ("tokens in logs, pages, titles, children", "in none"),
    "S13": ("schemathesis: all checks, all phases, every operation", "no failure"),
    "S14": ("ranges, methods, versions and framings of HTTP", "no 5xx, nothing smuggled"),
    "S15": ("pickle, eval and the like in the code", "nowhere but where a test says so"),
    "S16": ("control characters, HTML and formulas in names", "refused or escaped"),
    "S17": ("what is installed", "pinned"),
    "guards": ("each guard taken out of a copy of the program", "its test fails"),
}  # fmt: skip
"""Id → what happens, and the figure to reach."""

HELD_BY: Mapping[str, tuple[str, ...]] = {
    "R05": (
        "tests/service/worker/test_worker.py::test_a_worker_that_is_told_to_stop_gives_its_run_back_uncharged",
        "tests/service/worker/test_worker.py::test_a_second_signal_ends_a_worker_at_once",
        "tests/service/test_serve.py::test_a_signal_is_passed_on_and_waited_for",
        "tests/service/test_serve.py::test_a_process_that_does_not_end_is_killed_after_its_grace",
    ),
    "R06": (
        "tests/service/worker/test_recovery.py::test_a_worker_that_slept_through_its_lease_writes_nothing_more",
    ),
    "R07": (
        "tests/service/worker/test_recovery.py::test_a_run_that_kills_its_process_ends_after_its_attempts_and_harms_no_other",
    ),
    "R08": ("tests/service/worker/test_children.py::test_a_run_beyond_its_memory_fails_and_says_so",),
    "R09": (
        "tests/contracts/run_life.py::test_a_queued_run_is_cancelled_at_once",
        "tests/contracts/run_life.py::test_a_cancel_takes_the_place_of_a_pause_and_not_the_other_way_round",
        "tests/contracts/run_life.py::test_a_run_that_finishes_before_the_cancel_arrives_has_succeeded",
        "tests/contracts/run_life.py::test_a_cancel_wish_outlives_the_worker_that_should_have_heard_it",
        "tests/contracts/run_life.py::test_a_stopping_run_out_of_attempts_is_cancelled_as_was_wished",
        "tests/contracts/run_life.py::test_a_requeued_run_with_a_wish_is_cancelled_at_once_when_asked_again",
        "tests/service/worker/test_worker.py::test_a_cancelled_run_ends_only_after_its_last_checkpoint_is_stored",
        "tests/service/worker/test_worker.py::test_a_run_that_does_not_stop_is_ended_by_force",
        "tests/service/worker/test_settlement.py::test_whatever_ends_a_run_after_a_cancel_it_is_cancelled",
        "tests/service/worker/test_recovery.py::test_a_cancel_that_its_worker_did_not_live_to_see_is_followed_by_the_next",
    ),
    "R10": (
        "tests/service/store/test_engine.py::test_a_full_disk_is_told",
        "tests/service/store/test_engine.py::test_a_database_that_outgrows_its_room_is_told_as_full",
    ),
    "R11": (
        "tests/maze_core/test_checkpoint.py::test_a_write_that_fails_leaves_the_old_file_and_nothing_else",
    ),
    "R12": (
        "tests/service/worker/test_recovery.py::test_a_damaged_checkpoint_is_passed_over_for_the_one_before",
        "tests/maze_core/test_checkpoint.py::test_a_flipped_byte_is_refused_or_changes_nothing_that_counts",
        "tests/maze_core/test_checkpoint.py::test_a_truncated_bundle_is_refused",
    ),
    "R15": (
        "tests/service/worker/test_recovery.py::test_a_freeze_of_everything_costs_no_attempt",
        "tests/service/worker/test_lease_guard.py::test_after_a_jump_of_a_clock_no_lease_is_taken_until_a_whole_one_has_passed",
    ),
    "R17": (
        "tests/migrations/test_migrations.py::test_every_row_outlives_the_way_down_and_up",
        "tests/migrations/test_migrations.py::test_a_newer_schema_is_refused_and_left_alone",
        "tests/migrations/test_migrations.py::test_upgraded_tables_are_those_of_the_code",
    ),
    "R20": (
        "tests/acceptance/test_kill.py::test_a_killed_run_of_any_algorithm_ends_with_the_same_content",
        "tests/acceptance/test_kill.py::test_a_killed_run_goes_on_with_what_its_recurrent_networks_carried",
    ),
    "R21": (
        "tests/maze_core/test_threads.py::test_a_run_has_the_same_bits_on_any_number_of_threads",
        "tests/acceptance/test_parity.py::test_python_command_line_and_http_give_the_same_digests",
    ),
    "L04": (
        "tests/acceptance/test_hostile.py::test_a_body_over_the_limit_is_refused_and_the_service_stays_small",
    ),
    "L05": (
        "tests/service/api/test_hostile_bodies.py::test_a_broken_body_is_the_client_s_mistake",
        "tests/acceptance/test_hostile.py::test_bodies_that_are_no_specification_are_refused",
    ),
    "L07": ("tests/service/test_security_tokens.py::test_too_many_requests_are_told_when_to_come_back",),
    "S01": (
        "tests/service/serving/test_observations.py::test_an_observation_of_the_space_gets_its_action",
        "tests/service/serving/test_observations.py::test_anything_else_is_refused_where_the_agent_refuses_it",
    ),
    "S02": (
        "tests/acceptance/test_hostile.py::test_interpolation_is_refused_wherever_it_stands",
        "tests/service/api/test_hostile_bodies.py::test_no_json_value_in_any_field_makes_the_service_fail",
    ),
    "S03": (
        "tests/acceptance/test_hostile.py::test_no_target_outside_the_list_is_taken_anywhere",
        "tests/acceptance/test_hostile.py::test_the_other_words_of_instantiation_are_refused_even_beside_an_allowed_target",
        "tests/service/worker/test_children.py::test_a_specification_is_not_believed_because_it_stands_in_the_database",
        "tests/service/worker/test_children.py::test_a_policy_that_a_training_begins_with_is_not_believed_either",
        "tests/service/test_trust.py::test_a_name_that_is_not_on_the_list_is_refused_and_never_imported",
    ),
    "S04": ("tests/acceptance/test_hostile.py::test_interpolation_is_refused_wherever_it_stands",),
    "S05": (
        "tests/acceptance/test_hostile.py::test_hydras_own_keys_and_everything_that_names_a_path_are_refused",
        "tests/acceptance/test_hostile.py::test_environment_ids_that_import_a_module_are_refused",
    ),
    "S06": (
        "tests/acceptance/test_hostile.py::test_sizes_that_would_exhaust_the_machine_are_refused_with_the_bound",
        "tests/service/api/test_hostile_bodies.py::test_more_overrides_than_allowed_are_refused_at_once",
    ),
    "S07": (
        "tests/acceptance/test_hostile.py::test_ids_that_are_paths_find_nothing",
        "tests/service/api/test_hostile_bodies.py::test_an_id_that_is_none_of_ours_is_not_found",
    ),
    "S09": (
        "tests/maze_core/sb3/test_importing.py::test_a_pickle_in_the_place_of_weights_is_not_run",
        "tests/maze_core/sb3/test_importing.py::test_the_pickle_of_vecnormalize_needs_a_word_and_runs_nothing",
        "tests/maze_core/sb3/test_importing.py::test_any_damage_of_a_zip_is_told_as_damage",
        "tests/maze_core/test_checkpoint.py::test_a_checkpoint_that_names_a_file_elsewhere_as_its_part_is_damaged",
        "tests/maze_core/test_checkpoint.py::test_a_compressed_member_is_refused",
    ),
    "S10": (
        "tests/acceptance/test_hostile.py::test_a_foreign_host_or_origin_is_refused_on_every_unsafe_method",
        "tests/service/test_security.py::test_a_name_that_is_not_ours_is_refused_before_anything_runs",
        "tests/service/test_security.py::test_a_page_from_elsewhere_cannot_change_anything",
        "tests/service/test_security.py::test_what_a_page_may_send_without_asking_does_not",
    ),
    "S11": ("tests/service/test_settings.py::test_no_token_on_an_address_that_others_reach_is_refused",),
    "S12": (
        "tests/service/worker/test_children.py::test_a_child_sees_nothing_of_the_worker_and_gives_up_what_it_does_not_need",
        "tests/service/test_settings.py::test_the_password_of_the_database_is_not_shown",
    ),
    "S14": (
        "tests/service/test_http_server.py::test_what_is_no_http_is_a_problem_too_and_no_news",
        "tests/service/test_http_server.py::test_what_is_no_body_is_never_held_beyond_its_bound",
        "tests/service/test_security.py::test_a_header_that_decides_is_sent_once",
        "tests/service/test_security.py::test_a_length_is_a_number",
        "tests/service/api/test_checkpoints.py::test_what_is_no_range_or_several_gives_the_whole",
        "tests/service/api/test_checkpoints.py::test_a_range_behind_the_end_is_refused_with_the_size",
    ),
    "S15": (
        "tests/packaging/test_imports.py::test_no_source_imports_what_is_unsafe",
        "tests/packaging/test_imports.py::test_no_source_calls_what_is_unsafe",
    ),
    "S16": (
        "tests/service/api/test_page.py::test_the_policy_knows_the_import_map_by_its_digest_and_allows_no_other_inline_script",
        "tests/service/api/test_hostile_bodies.py::test_a_run_gets_no_name_and_no_label_with_control_characters",
        "tests/service/api/test_run_metrics.py::test_it_draws_what_the_best_policy_is_judged_by_and_escapes_names",
        "tests/service/test_logs.py::test_what_a_stranger_sent_makes_no_line_of_its_own",
        "tests/service/cli/test_main.py::test_text_of_others_is_one_line_without_control_characters",
    ),
    "S17": (
        "tests/packaging/test_pins.py::test_everything_that_the_project_brings_is_here_in_its_pinned_version",
        "tests/packaging/test_pins.py::test_nothing_with_a_known_hole_is_pinned",
        "tests/packaging/test_pins.py::test_every_package_of_the_page_is_locked_with_its_digest",
        "tests/packaging/test_dockerfile.py::test_nothing_is_installed_at_a_version_that_is_not_pinned",
        "tests/packaging/test_dockerfile.py::test_every_pin_is_inside_the_range_that_the_project_allows",
        "tests/packaging/test_compose.py::test_images_are_pinned_and_ours_is_built_here_at_this_version",
    ),
}
"""Tests that stand with what they test, and belong to a figure; those of ``tests/faults`` name theirs themselves."""

HEADER = ("", "what", "to reach", "reached", "tests")


def reached(figure: str) -> dict[str, Any]:
    """What the last run of this figure wrote, if there was one."""
    path = REACHED / f"{figure}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def rows() -> list[list[str]]:
    """The table: of every figure what it is, what it must reach, what was reached and by which tests."""
    found = []
    for figure, (what, to_reach) in FIGURES.items():
        last = reached(figure)
        said = "; ".join(last.get("said", ()))
        counted = f"{last['passed']} passed" if last else "not run yet"
        counted += f", {last['generated']:,} generated cases" if last.get("generated") else ""
        counted += f", **{last['failed']} failed**" if last.get("failed") else ""
        counted += f", {last['skipped']} left out" if last.get("skipped") else ""
        tests = ", ".join(f"`{test}`" for test in last.get("tests", ()))
        found.append([figure, what, to_reach, f"{said} ({counted})" if said else counted, tests])
    return found
