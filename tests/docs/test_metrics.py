"""docs/metrics.md explains every metric that there is, and none besides: it is held against what is really emitted."""

import re
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from maze_core import RunContext
from service.metrics import ActionMetrics, FleetMetrics, HttpMetrics
from service.store import migrate, open_stores
from tests.docs.tables import ALGORITHMS, DOCS

PAGE = (DOCS / "metrics.md").read_text()
ENVIRONMENTS = ("CartPole-v1", "Pendulum-v1")
CHOICES_ONLY = ("dqn", "qrdqn")
NUMBERS_ONLY = ("td3", "sacfd")


def rows(heading: str) -> Iterator[list[str]]:
    """Cells of the first table below a heading."""
    table = PAGE.partition(f"\n## {heading}\n")[2].partition("\n|---")[2].partition("\n\n")[0]
    for line in table.splitlines()[1:]:
        yield [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def explained() -> dict[str, set[str]]:
    """Algorithm → metrics that the page says it has."""
    found: dict[str, set[str]] = {name: set() for name in ALGORITHMS}
    for name, of, *_ in rows("Of a run"):
        for algorithm in ALGORITHMS if of == "all" else of.split():
            found[algorithm].add(name.strip("`"))
    return found


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Environment → episodes to learn from, enough that some are kept back."""
    folder = tmp_path_factory.mktemp("recorded")
    found = {}
    for env in ENVIRONMENTS:
        with RunContext(policy="random_policy", overrides={"env.name": env}, seed=1) as player:
            found[env] = player.rollout(6, save=folder / env).saved_to
    return found


def overrides(algorithm: str, env: str, recorded: dict[str, Path]) -> dict[str, Any]:
    """Long enough that an episode of the environment ends."""
    given: dict[str, Any] = {"env.name": env}
    if algorithm in ("ppo", "a2c", "impala"):
        given["algorithm.n_rollout_steps"] = 200
    elif algorithm in ("bc", "sacfd"):
        given["dataset.run"] = recorded[env]
    if algorithm in ("dqn", "qrdqn", "sac", "td3", "sacfd"):
        given["algorithm.epoch_length"] = 210
    return given


def test_each_algorithm_emits_what_the_page_says_it_does(tmp_path: Path, recorded: dict[str, Path]) -> None:
    emitted: dict[str, set[str]] = defaultdict(set)
    for algorithm in ALGORITHMS:
        for env in ENVIRONMENTS:
            if algorithm in (CHOICES_ONLY if env == "Pendulum-v1" else NUMBERS_ONLY):
                continue
            chosen = {"algorithm": algorithm, "configuration": "test", "wrappers": "vector_obs"}
            given = overrides(algorithm, env, recorded)
            with RunContext(tmp_path / algorithm / env, **chosen, overrides=given, seed=1) as rc:
                rc.train()
                emitted[algorithm] |= {name for epoch in rc.metrics for name in epoch if "/" in name}
    own = {
        name: {one for one in found if not one.startswith("monitoring/")} for name, found in emitted.items()
    }
    assert own == explained()


def test_every_metric_of_the_service_is_explained_with_its_labels(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'maze.db'}"
    migrate(url)
    with closing(open_stores(url)) as stores:
        collectors = (HttpMetrics(), ActionMetrics(), FleetMetrics(stores.runs, stores.registry, 1.0))
        emitted = {metric.name: set(metric._labelnames) for each in collectors for metric in each.collect()}
    page = {name.strip("`"): set(labels.split(", ")) - {""} for name, labels, _ in rows("Of the service")}
    assert page == emitted
