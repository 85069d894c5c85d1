"""IMPALA: learns from what older weights did, by V-trace (Espeholt et al. 2018, arXiv:1802.01561).

One update: rollouts that earlier weights collected, importance weights between the policy that acted and the one that
learns, V-trace targets (objectives.vtrace), and one gradient step on all of it. In lockstep the acting weights are
those of a fixed number of updates ago, and a checkpoint holds them. Asynchronous, the processes of the environments
collect while this one learns (rollout.actors).
"""

from collections import deque
from collections.abc import Mapping, Sequence
from functools import partial
from math import inf
from statistics import fmean

import numpy as np

from maze_core.checkpoint import prefixed, section
from maze_core.data.trajectory import Rollout, joined
from maze_core.errors import InvalidSpecificationError
from maze_core.objectives.losses import divergence, policy_gradient
from maze_core.objectives.vtrace import vtrace
from maze_core.rollout.actors import Actors, Collected
from maze_core.subprocesses import CLOSE_TIMEOUT_S
from maze_core.trainers.actor_critic import ActorCritic
from maze_core.trainers.fit import Parts
from maze_core.trainers.impala_config import ImpalaAlgorithmConfig
from maze_core.trainers.on_policy import Batch, Samples, log_probs_of, normalize_advantages
from maze_core.types import Array, FloatArray, NamedArrays, Tree


class Impala(ActorCritic[ImpalaAlgorithmConfig]):
    """The trainer of :class:`ImpalaAlgorithmConfig`."""

    _learns_as_it_acts = False

    def __init__(self, config: ImpalaAlgorithmConfig, parts: Parts) -> None:
        super().__init__(config, parts)
        self._off_policy = partial(
            vtrace,
            clip_rho=config.vtrace_clip_rho_threshold or inf,
            clip_c=config.vtrace_clip_c_threshold or inf,
        )
        self._policy_loss = partial(_policy_loss, clip_rho=config.vtrace_clip_pg_rho_threshold or inf)
        n_ahead = config.queue_out_of_sync_factor
        self._past: deque[NamedArrays] = deque(maxlen=n_ahead)
        """Weights of the last updates, the oldest first."""
        self._actors: Actors | None = None
        if config.acts_asynchronously:
            if self.learner.has_memory:
                message = "asynchronous learns no network that carries a state: take lockstep."
                raise InvalidSpecificationError(message, path="algorithm.mode")
            self._context.carries = False
            self._actors = Actors(
                parts.env, self.policy, config.n_rollout_steps, seed=parts.agent_seed, n_ahead=n_ahead
            )
        self._lag = 0.0

    def reset_envs(self, seeds: Sequence[int]) -> None:
        """See :class:`~maze_core.trainers.fit.Trainer`."""
        if self._actors is None:
            super().reset_envs(seeds)
        else:
            self._actors.reset(seeds)

    def _collect(self) -> Rollout:
        now = {name: np.asarray(array).copy() for name, array in self.policy.state_dict().items()}
        try:
            found = [self._collect_here(now)] if self._actors is None else self._actors.take(now)
            for rollout, weights, _ in found:
                self.policy.load_state_dict(weights)
                with self.learner.torch(keeps_gradients=False):
                    rollout.log_probs = log_probs_of(rollout, self.learner)
        finally:
            self.policy.load_state_dict(now)
        self._lag = fmean(lag for *_, lag in found)
        return joined([rollout for rollout, *_ in found])

    def _collect_here(self, now: NamedArrays) -> Collected:
        lag, weights = len(self._past), next(iter(self._past), now)
        self.policy.load_state_dict(weights)
        rollout = self.collector.collect(self.policy)
        self._past.append(now)
        return Collected(rollout, weights, lag)

    def _learn(self, batch: Batch, *, epoch: int) -> list[dict[str, float]]:
        if self.config.normalize_advantages:
            batch = normalize_advantages(batch)
        return [self.gradient_step(batch, self._policy_loss, epoch=epoch) | {"train/policy_lag": self._lag}]

    def state_dict(self) -> tuple[Tree, dict[str, Array]]:
        """See :class:`~maze_core.trainers.fit.Trainer`."""
        tree, arrays = super().state_dict()
        for i, weights in enumerate(self._past):
            arrays |= prefixed(weights, f"acting/{i}")
        return tree | {"acting": len(self._past)}, arrays

    def load_state_dict(self, tree: Tree, arrays: Mapping[str, Array]) -> None:
        """See :class:`~maze_core.trainers.fit.Trainer`."""
        super().load_state_dict(tree, arrays)
        past = (section(arrays, f"acting/{i}") for i in range(tree["acting"]))
        self._past = deque(past, maxlen=self.config.queue_out_of_sync_factor)

    def close(self) -> None:
        """See :class:`~maze_core.trainers.fit.Trainer`."""
        if self._actors is not None:
            self._actors.stop(CLOSE_TIMEOUT_S)
        super().close()


def _policy_loss(
    samples: Samples, log_probs: FloatArray, *, clip_rho: float
) -> tuple[float, FloatArray, dict[str, float]]:
    """Advantages are weighed here, after they were normalised: the weighted mean of a constant has gradient 0."""
    log_ratios = log_probs - samples.log_probs
    weights = np.minimum(np.exp(log_ratios), np.float32(clip_rho))
    kl, _ = divergence(log_ratios, inf)
    return *policy_gradient(log_probs, weights * samples.advantages), {"train/approx_kl": kl}
