"""docs/metrics.md explains every metric that there is, and none besides: it is held against what is really emitted."""

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import promql_parser as promql
import pytest
import yaml
from prometheus_client.core import Metric

from maze_core import RunContext
from service.http_server import Connections
from service.main import create_app
from service.settings import Settings
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
    given: dict[str, Any] = {"env.name": env, "algorithm.n_epochs": 1}
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


@pytest.fixture(scope="module")
def families(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Metric]:
    """What the service tells of itself, by name."""
    url = f"sqlite:///{tmp_path_factory.mktemp('service') / 'maze.db'}"
    migrate(url)
    with closing(open_stores(url)) as stores:
        application = create_app(Settings(auth=False), stores)
        application.watch(Connections())
        return {metric.name: metric for metric in application._app.telemetry.registry.collect()}


def test_every_metric_of_the_service_is_explained_with_its_labels(families: Mapping[str, Metric]) -> None:
    emitted = {name: set(metric._labelnames) for name, metric in families.items()}
    page = {name.strip("`"): set(labels.split(", ")) - {""} for name, labels, _ in rows("Of the service")}
    assert page == emitted


SUFFIXES = {
    "counter": {"_total": ()},
    "gauge": {"": ()},
    "histogram": {"_bucket": ("le",), "_sum": (), "_count": ()},
    "summary": {"_sum": (), "_count": ()},
}


def expressions() -> Iterator[str]:
    """Of the dashboard and of the rules."""
    dashboard = json.loads((DOCS / "grafana.json").read_text())
    for panel in dashboard["panels"]:
        yield from (target["expr"] for target in panel.get("targets", []))
    for group in yaml.safe_load((DOCS / "alerts.yml").read_text())["groups"]:
        yield from (rule["expr"] for rule in group["rules"])


def selected(expr: Any) -> Iterator[Any]:
    """The selectors in a parsed expression, with the labels that are grouped by around them."""
    if isinstance(expr, promql.VectorSelector):
        yield expr, set()
    elif isinstance(expr, promql.AggregateExpr):
        by = set(expr.modifier.labels) if expr.modifier else set()
        yield from ((selector, labels | by) for selector, labels in selected(expr.expr))
    elif isinstance(expr, promql.BinaryExpr):
        yield from (*selected(expr.lhs), *selected(expr.rhs))
    elif isinstance(expr, promql.MatrixSelector):
        yield from selected(expr.vector_selector)
    elif isinstance(expr, promql.Call):
        for argument in expr.args:
            yield from selected(argument)
    elif isinstance(expr, promql.ParenExpr):
        yield from selected(expr.expr)


def test_dashboard_and_alarms_ask_for_series_and_labels_that_there_are(
    families: Mapping[str, Metric],
) -> None:
    series = {
        metric.name + suffix: {*metric._labelnames, *further}
        for metric in families.values()
        for suffix, further in SUFFIXES[metric.type].items()
    }
    asked = set()
    for expression in expressions():
        for selector, labels in selected(promql.parse(expression.replace("$__rate_interval", "1m"))):
            if selector.name == "up":
                continue  # Prometheus' own
            assert selector.name in series, expression
            labels |= {matcher.name for matcher in selector.matchers.matchers}
            assert labels <= series[selector.name], expression
            asked.add(selector.name)
    ends = ("", "_total", "_bucket", "_sum")
    assert {name for name in families if not any(name + end in asked for end in ends)} == set()
