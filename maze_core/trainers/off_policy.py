"""What algorithms that learn from replay do in the same way: collect a little, remember it, draw, learn, save."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Generic, Protocol, TypeVar

import numpy as np
from gymnasium import spaces

from maze_core.checkpoint import copied, prefixed, section
from maze_core.data.replay import Replay, Transitions
from maze_core.data.trajectory import Rollout
from maze_core.errors import EnvError, InvalidSpecificationError
from maze_core.models.acting import ActingPolicy
from maze_core.models.masks import mask_checks
from maze_core.models.random_policy import RandomPolicy
from maze_core.models.supports import learnt_by
from maze_core.rollout.collector import Collector
from maze_core.seeding import Stream, generator, generator_state, restore_generator
from maze_core.threads import plain_torch
from maze_core.trainers.config import OffPolicyConfig
from maze_core.trainers.fit import Parts, UpdateReport, mean_metrics
from maze_core.trainers.optim import GradientStep
from maze_core.types import Array, NamedArrays, StepKey, Tree

C = TypeVar("C", bound=OffPolicyConfig)


class Stateful(Protocol):
    """What a checkpoint keeps."""

    def state_dict(self) -> NamedArrays:
        """Arrays by name, where they lie."""

    def load_state_dict(self, arrays: NamedArrays) -> None:
        """Go back to a state, in place."""


class OffPolicy(ABC, Generic[C]):
    """Collector, replay and streams of one run.

    A derived class names what learns and what a checkpoint keeps of it, and takes one gradient step.

    Args:
        config: the algorithm's settings.
        parts: environments, policy and critic.
    """

    networks: Mapping[str, "Stateful"]
    """Name → networks whose parameters a checkpoint keeps."""
    optimizers: Mapping[str, GradientStep]
    """Name → how they learn; a checkpoint keeps the moments."""

    def __init__(self, config: C, parts: Parts) -> None:
        self.config, self.policy = config, parts.policy
        if parts.env.rewards == "per_actor":
            message = f"pays each agent its own, which this algorithm does not learn: take {learnt_by('own_rewards')}."
            raise InvalidSpecificationError(message, path="env")
        (self.key,) = parts.env.action_spaces
        self.replay: Replay = config.replay()
        self.rng = generator(parts.agent_seed, Stream.MINIBATCHES)
        actions = generator(parts.agent_seed, Stream.ACTIONS)
        self.collector = Collector(parts.env, config.n_rollout_steps, actions)
        self.n_seen = 0
        """Environment steps so far."""
        self._uniform = _uniform(self.policy, parts.env.action_spaces)
        self._masks = mask_checks(parts.env.observation_spaces, parts.env.action_spaces)
        self._needs_torch = parts.learner == "torch"

    @abstractmethod
    def _learn_from(self, batch: Transitions) -> dict[str, float]:
        """Take one gradient step; the values to report."""

    def _follow_schedules(self, progress: float) -> dict[str, float]:
        """Set what changes over a run; the values to report."""
        factor = self.config.lr_factor(progress)
        for optimizer in self.optimizers.values():
            optimizer.lr = optimizer.initial_lr * factor
        return {"train/learning_rate": self.config.lr * factor}

    def _torch(self) -> AbstractContextManager[None]:
        return plain_torch() if self._needs_torch else nullcontext()

    def _follow_targets(self, n_before: int) -> None:
        """Called after each update, with the steps that were seen before it."""

    def reset_envs(self, seeds: Sequence[int]) -> None:
        """See :class:`~maze_core.trainers.fit.Trainer`."""
        self.replay.cut()
        self.collector.reset(seeds)

    def update(self, *, epoch: int, progress: float) -> UpdateReport:
        """See :class:`~maze_core.trainers.fit.Trainer`."""
        config, n_before = self.config, self.n_seen
        metrics = self._follow_schedules(progress)
        is_uniform = config.uniform_warmup and n_before < config.n_warmup_steps
        rollout = self.collector.collect(self._uniform if is_uniform else self.policy)
        self._expect_choices(rollout)
        self.replay.add(rollout, self.key)
        n_steps = rollout.n_steps
        self.n_seen += n_steps
        if self.n_seen >= config.n_warmup_steps:
            # what overflows is found by mean_metrics
            with self._torch(), np.errstate(all="ignore"):
                learnt = [
                    self._learn_from(self.replay.sample(config.batch_size, self.rng))
                    for _ in range(config.n_gradient_steps or n_steps)
                ]
            metrics |= mean_metrics(learnt)
            self._follow_targets(n_before)
        if rollout.actions_clipped is not None:
            metrics["train/actions_clipped"] = rollout.actions_clipped
        return UpdateReport(
            env_steps=n_steps,
            metrics=metrics,
            episode_returns=rollout.episode_returns,
            episode_lengths=rollout.episode_lengths,
        )

    def _expect_choices(self, rollout: Rollout) -> None:
        """Look at the masks of final observations, whose value is that of the best action they allow.

        Raises:
            EnvError: one allows nothing.
        """
        for key, final in rollout.final.items() if self._masks else ():
            if fault := self._masks[key].fault(final.observations):
                raise EnvError(
                    f"Environment {final.b[fault.row]}, the last observation of an episode that a limit cut: "
                    f"{fault.message} An episode that is cut counts as going on, so its value is that of an allowed "
                    "action; where nothing can be done any more, terminate it."
                )

    def state_dict(self) -> tuple[Tree, dict[str, Array]]:
        """See :class:`~maze_core.trainers.fit.Trainer`."""
        arrays = prefixed(self.replay.state_dict(), "replay")
        for name, networks in self.networks.items():
            arrays |= copied(networks.state_dict(), name)
        for name, optimizer in self.optimizers.items():
            arrays |= prefixed(optimizer.state_dict(), f"optimizer/{name}")
        tree = {
            "actions": generator_state(self.collector.rng),
            "minibatches": generator_state(self.rng),
            "n_seen": self.n_seen,
        }
        return tree, arrays

    def load_state_dict(self, tree: Tree, arrays: Mapping[str, Array]) -> None:
        """See :class:`~maze_core.trainers.fit.Trainer`."""
        self.replay.load_state_dict(section(arrays, "replay"))
        for name, networks in self.networks.items():
            networks.load_state_dict(section(arrays, name))
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(section(arrays, f"optimizer/{name}"))
        restore_generator(self.collector.rng, tree["actions"])
        restore_generator(self.rng, tree["minibatches"])
        self.n_seen = tree["n_seen"]

    def close(self) -> None:
        """See :class:`~maze_core.trainers.fit.Trainer`."""
        self.collector.env.close()


def _uniform(policy: ActingPolicy, action_spaces: Mapping[StepKey, spaces.Dict]) -> RandomPolicy:
    """Uniform actions on the scale of the policy's samples, where a Box goes from -1 to 1."""
    uniform = RandomPolicy(
        {
            key: spaces.Dict(
                {
                    head: spaces.Box(-1.0, 1.0, part.shape, np.float32)
                    if isinstance(part, spaces.Box)
                    else part
                    for head, part in space.items()
                }
            )
            for key, space in action_spaces.items()
        }
    )
    for key, step in policy.steps.items():
        uniform.steps[key].in_env_units = step.in_env_units  # type: ignore[method-assign]
    return uniform
