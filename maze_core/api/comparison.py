"""Trained policies compared on the same episodes: ``compare(["runs/a", "runs/b"], n_episodes=50, seed=1)``."""

from collections.abc import Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any

from maze_core.agent import Agent
from maze_core.api.checks import path_of
from maze_core.api.run import Run
from maze_core.api.run_context import RunContext
from maze_core.config.settings import truth, whole_number
from maze_core.errors import InvalidSpecificationError
from maze_core.seeding import draw_seed

if TYPE_CHECKING:
    from maze_core.evaluation.comparison import ComparisonReport

Place = str | PathLike[str]


def compare(
    policies: Sequence[Place | tuple[Place, str] | RunContext],
    n_episodes: int = 20,
    *,
    seed: int | None = None,
    deterministic: bool = True,
    max_episode_steps: int | None = None,
) -> "ComparisonReport":
    """Play the same seeded episodes with several trained policies, in the environment of the first one's run.

    Args:
        policies: 2 to 8 run directories, whose best checkpoint acts, checkpoint files, or contexts;
            ``(directory, "last")`` names another checkpoint, as ``RunContext.load`` takes it.
        n_episodes: episodes that each plays.
        seed: seeds episodes and samples; None draws one.
        deterministic: the most likely action instead of a sample.
        max_episode_steps: flat steps after which an episode is cut; None takes the limit of the first run's
            evaluation, 0 leaves it to the environment.

    Returns:
        The evaluation of each policy, and of each pair the difference with its 95 % confidence interval.

    Raises:
        CheckpointError: there is no such checkpoint, or it is damaged.
        InvalidSpecificationError: an argument is not valid, or the policies were trained in different spaces.
    """
    from maze_core.runners.comparison import comparison_config, run_comparison

    if isinstance(policies, str | PathLike) or not isinstance(policies, Sequence):
        raise InvalidSpecificationError("policies: takes a list of run directories or checkpoint files.")
    runs = [_run(policy, f"policies.{i}") for i, policy in enumerate(policies)]
    agents = [run.policy for run in runs]
    config = comparison_config(
        runs[0].specification.tree if runs else {},
        [{"sha256": _digest(agent, f"policies.{i}")} for i, agent in enumerate(agents)],
        seed=draw_seed() if seed is None else seed,
        objects=runs[0].specification.objects if runs else {},
        n_episodes=whole_number(n_episodes, "n_episodes"),
        deterministic=truth(deterministic, "deterministic"),
        max_episode_steps=max_episode_steps,
    )
    return run_comparison(config, agents)


def _digest(agent: Agent, path: str) -> str:
    if agent.checkpoint_sha256 is None:
        raise InvalidSpecificationError("has no checkpoint; trained policies are compared.", path=path)
    return agent.checkpoint_sha256


def _run(policy: Any, path: str) -> Run:
    if isinstance(policy, RunContext):
        if isinstance(policy._held, Run):
            return policy._held
        raise InvalidSpecificationError("is several runs; name each by its run directory.", path=path)
    place, checkpoint = policy if isinstance(policy, tuple) and len(policy) == 2 else (policy, "best")
    return Run.load(path_of(place, path), checkpoint)
