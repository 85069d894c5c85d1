"""Several policies on the same episodes: each plays the same seeds in the same environment, one after the other."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from maze_core.config.components import target_name
from maze_core.config.schema import COMPARED, RunConfig
from maze_core.errors import InvalidSpecificationError
from maze_core.metrics import Reporter, SilentReporter
from maze_core.models.config import TorchPolicyConfig
from maze_core.runners.config import rollout_tree
from maze_core.types import Tree

if TYPE_CHECKING:
    from maze_core.agent import Agent
    from maze_core.evaluation.comparison import ComparisonReport

MOST = 8
"""Policies that are compared at once."""


def comparison_config(
    tree: Tree,
    compared: Sequence[Mapping[str, str]],
    *,
    seed: int,
    objects: Mapping[str, object] | None = None,
    **fields: Any,
) -> RunConfig:
    """What is played: the environment of the first policy's run, and whose episodes they are.

    Args:
        tree: configuration of the first policy's run.
        compared: the policies, each by the ``sha256`` of its checkpoint's content.
        seed: base seed of the episodes and of drawn actions.
        objects: live objects of ``tree`` by path.
        **fields: fields of :class:`~maze_core.runners.config.RolloutRunnerConfig`.

    Raises:
        InvalidSpecificationError: a field or the seed is not valid, or there are fewer than two or too many policies.
    """
    if not 2 <= len(compared) <= MOST:
        raise InvalidSpecificationError(
            f"takes 2 to {MOST} policies, not {len(compared)}.", path="policies", code="out_of_range"
        )
    played = rollout_tree(tree, seed=seed, record_trajectory=False, **fields)
    played["policy"] = {"_target_": target_name(TorchPolicyConfig)}
    played[COMPARED] = [dict(node) for node in compared]
    return replace(RunConfig.from_tree(played, "rollout"), objects=objects or {})


def run_comparison(
    config: RunConfig,
    agents: Sequence["Agent"],
    *,
    reporter: Reporter | None = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> "ComparisonReport":
    """Play ``runner.n_episodes`` episodes with each agent, from the same seeds.

    Args:
        config: of :func:`comparison_config`.
        agents: in the order of ``compared``.
        reporter: takes the progress; no episodes.
        cancelled: asked between steps; True ends with the episodes that are complete.

    Raises:
        InvalidSpecificationError: an agent is another one than the configuration says, or was trained in an
            environment with other spaces than the first one.
        EnvError: the environment broke its contract.
    """
    from maze_core.envs.env_spaces import refuse_other_spaces
    from maze_core.evaluation.comparison import ComparisonReport
    from maze_core.runners.evaluation import run_rollout

    for place, (agent, node) in enumerate(zip(agents, config.tree[COMPARED], strict=True)):
        if agent.checkpoint_sha256 != node["sha256"]:
            message = "is another checkpoint than the one that was to be compared."
            raise InvalidSpecificationError(message, path=f"policies.{place}", code="other_content")
        refuse_other_spaces(agent, agents[0], f"policies.{place}")
    reports = []
    for place, agent in enumerate(agents):
        part = _Part(reporter or SilentReporter(), place, len(agents))
        report = run_rollout(config, agent=agent, reporter=part, cancelled=cancelled)
        reports.append(report.summary)
        if report.stop_reason != "completed":
            break
    return ComparisonReport(
        policies=reports, stop_reason=report.stop_reason, config_sha256=config.config_sha256
    )


class _Part(SilentReporter):
    """Passes on what one of several policies reports, but its episodes, which are several of each number."""

    def __init__(self, reporter: Reporter, place: int, n_parts: int) -> None:
        self._reporter, self._place, self._n_parts = reporter, place, n_parts

    def phase(self, name: str) -> None:
        """Say it once."""
        if self._place == 0:
            self._reporter.phase(name)

    def progress(self, **values: Any) -> None:
        """Of the whole."""
        fraction = (self._place + values["fraction"]) / self._n_parts
        self._reporter.progress(**{**values, "fraction": fraction})

    def log(self, level: str, message: str) -> None:
        """As it is."""
        self._reporter.log(level, message)
