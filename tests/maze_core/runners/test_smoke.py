"""A training that is tried out says what it is made of and what it costs, and leaves the run as it was."""

import pytest

from maze_core import RunContext
from maze_core.config import compose_run
from maze_core.errors import InvalidSpecificationError
from maze_core.runners.smoke import run_smoke

SMALL = {"env.name": "CartPole-v1", "algorithm.n_rollout_steps": 16, "runner.n_envs": 3}


def test_it_counts_what_there_is_and_multiplies_what_it_measured():
    config = compose_run(overrides={**SMALL, "algorithm.epoch_length": 5}, n_epochs=7, seed=1)
    report = run_smoke(config)
    assert report.config_sha256 == config.config_sha256
    assert (report.stop_reason, report.has_learnt, report.is_cut) == ("completed", True, False)
    assert report.env_steps_per_epoch == 16 * 3 * 5
    assert report.epoch_s == pytest.approx(5 * report.update_s + report.evaluation_s)
    assert (report.n_epochs, report.total_s) == (7, pytest.approx(7 * report.epoch_s))
    assert report.spaces[0]["action"]["spaces"][0][1]["n"] == 2
    assert report.max_rss_bytes > 2**20
    hidden = (4 * 64 + 64) + (64 * 64 + 64)  # of the policy, and again of the critic
    assert report.n_parameters == 2 * hidden + (64 * 2 + 2) + (64 + 1)


@pytest.mark.parametrize(
    ("budgets", "n_epochs"),
    [
        ({"max_env_steps": 481}, 3),
        ({"n_epochs": 2, "max_env_steps": 481}, 2),
        ({"overrides": {"algorithm.n_epochs": None}}, None),
    ],
)
def test_the_first_budget_that_is_sure_to_end_the_run_is_what_it_takes(budgets, n_epochs):
    overrides = {**SMALL, "algorithm.epoch_length": 4, **budgets.get("overrides", {})}  # 192 steps an epoch
    report = run_smoke(compose_run(**{**budgets, "overrides": overrides}, seed=1))
    assert report.n_epochs == n_epochs
    assert (report.total_s is None) == (n_epochs is None)


def test_updates_of_a_warm_up_are_not_what_an_update_takes():
    overrides = {"env.name": "CartPole-v1", "algorithm.n_warmup_steps": 160, "runner.n_envs": 8}
    report = run_smoke(compose_run(algorithm="dqn", overrides=overrides, seed=1))
    assert report.has_learnt
    assert report.n_updates == 2


def test_a_cancel_ends_it():
    report = run_smoke(compose_run(overrides=SMALL, seed=1), cancelled=lambda: True)
    assert (report.stop_reason, report.n_updates) == ("cancelled", 0)


def test_a_run_that_was_tried_out_before_is_the_same_run(tmp_path):
    digests = []
    for tries in (0, 1):
        with RunContext(tmp_path / str(tries), overrides=SMALL, seed=1, silent=True) as context:
            for _ in range(tries):
                assert context.smoke().has_learnt
                assert list(tmp_path.glob(f"{tries}/*")) == []
            digests.append(context.train(1).content_sha256)
    assert digests[0] == digests[1]


def test_what_only_plays_is_no_training_to_try_out():
    context = RunContext(policy="random_policy", silent=True)
    with context, pytest.raises(InvalidSpecificationError, match="only plays"):
        context.smoke()
