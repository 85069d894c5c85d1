"""What critics see beyond the observation of who acts: the other agents, and the value of the sub-step before.

It is found once for a rollout and stands among its observations by names that begin with ``critic:``, which policies
never see. *Stacked*: of each agent of a sub-step what it saw last in this episode, zeros before that, the one who acts
first and the others behind it in turn. *Base*: V of the tick before, where it belongs to the same step of environment
time, to which a critic of changes adds; it is a constant, no gradient flows through it.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import numpy as np

from maze_core.data.trajectory import Rollout
from maze_core.models.networks import Critic
from maze_core.types import Array, FloatArray, IntArray, NamedArrays, StepKey

OF_CRITIC: Final = "critic:"
"""Begins the names of what a critic alone sees."""
BASE: Final = f"{OF_CRITIC}base"
_STACKED: Final = f"{OF_CRITIC}stacked:"


def without_context(observations: NamedArrays) -> NamedArrays:
    """What a policy sees."""
    if not any(name.startswith(OF_CRITIC) for name in observations):
        return observations
    return {name: x for name, x in observations.items() if not name.startswith(OF_CRITIC)}


def seen_by_critic(observations: NamedArrays) -> tuple[NamedArrays, FloatArray | None]:
    """What a critic sees, stacked observations in the place of single ones, and the base of its value."""
    if not any(name.startswith(OF_CRITIC) for name in observations):
        return observations, None
    stacked = {n.removeprefix(_STACKED): x for n, x in observations.items() if n.startswith(_STACKED)}
    return {**without_context(observations), **stacked}, observations.get(BASE)


class CriticContext:
    """Of ``n_envs`` environments, from rollout to rollout."""

    def __init__(self, critic: Critic, n_envs: int) -> None:
        """Take the critic."""
        self._critic, self._n_envs = critic, n_envs
        self.carries = True
        """Whether a rollout goes on where the one before ended; asynchronous ones come in any order."""
        self.forget()

    def forget(self) -> None:
        """Begin anew everywhere."""
        self._latest: dict[StepKey, dict[str, Array]] = {}
        self._base: FloatArray | None = None

    def added(self, rollout: Rollout) -> Rollout:
        """The same rollout, with what the critic sees beside the observations."""
        if not (self._critic.n_stacked or self._critic.of_changes):
            return rollout
        if not self.carries or rollout.reward.shape[1] != self._n_envs:
            self.forget()
        rollout = replace(
            rollout,
            steps={key: replace(x, observations=dict(x.observations)) for key, x in rollout.steps.items()},
            last_observations={key: dict(seen) for key, seen in rollout.last_observations.items()},
            final={key: replace(x, observations=dict(x.observations)) for key, x in rollout.final.items()},
        )
        for key, n_agents in self._critic.n_stacked.items():
            self._stack(rollout, key, n_agents)
        if self._critic.of_changes:
            self._add_bases(rollout)
        return rollout

    def _stack(self, rollout: Rollout, key: StepKey, n_agents: int) -> None:
        """Beside each observation of a sub-step, those of all of its agents."""
        record, ended = rollout.steps[key], rollout.terminated | rollout.truncated
        n_ticks, n_envs = ended.shape
        final, of_last = rollout.final.get(key), rollout.last_observations[key]
        for name, shown in [*record.observations.items()]:
            latest = self._latest.setdefault(key, {}).setdefault(
                name, np.zeros((n_envs, n_agents, *shown.shape[2:]), shown.dtype)
            )
            stacked = np.zeros((n_ticks, *latest.shape), shown.dtype)
            of_final = None if final is None else np.zeros((len(final.t), *latest.shape[1:]), shown.dtype)
            for t in range(n_ticks):
                b = np.flatnonzero(record.active[t])
                agents = rollout.agent_id[t, b]
                latest[b, agents] = shown[t, b]
                stacked[t, b] = _turned(latest[b], agents)
                if final is not None and of_final is not None:
                    here = np.flatnonzero(final.t == t)
                    b = final.b[here]
                    of_final[here] = _with(latest[b], final.agent_id[here], final.observations[name][here])
                latest[ended[t]] = 0
            record.observations[_STACKED + name] = stacked
            if final is not None and of_final is not None:
                final.observations[_STACKED + name] = of_final
            of_last[_STACKED + name] = _with(latest, rollout.last_agent_id, of_last[name])

    def _add_bases(self, rollout: Rollout) -> None:
        """Beside the observations, V of the tick before, where a network values the change from there."""
        critic, same = self._critic, rollout.same_flat_step
        is_change = {key: np.float32(key in critic.of_changes) for key in rollout.steps}
        own = np.zeros(rollout.reward.shape, np.float32)
        changes = np.zeros_like(own)
        for key, record in rollout.steps.items():
            if (active := record.active).any():
                own[active] = self._own(key, {n: x[active] for n, x in record.observations.items()})
                changes[active] = is_change[key]
        n_ticks, n_envs = rollout.reward.shape
        base = np.zeros((n_ticks + 1, n_envs), np.float32)
        base[0] = 0.0 if self._base is None else self._base
        for t in range(n_ticks):
            base[t + 1] = np.where(same[t], own[t] + changes[t] * base[t], np.float32(0))
        self._base = base[-1]
        for key in critic.of_changes:
            rollout.steps[key].observations[BASE] = base[:-1]
            rollout.last_observations[key][BASE] = base[-1]
            if key in rollout.final:  # the tick before has its own value, and no time passed since
                final = rollout.final[key]
                before = own[final.t, final.b] + changes[final.t, final.b] * base[final.t, final.b]
                final.observations[BASE] = before

    def _own(self, key: StepKey, observations: Mapping[str, Array]) -> FloatArray:
        """What the network of a sub-step gives, ``[N]``, by its acting forward."""
        seen, _ = seen_by_critic(observations)
        return self._critic.by_key[key](dict(self._critic.filled(seen)))[:, 0].copy()


def _with(latest: Array, agents: IntArray, shown: Array) -> Array:
    """What is known of all agents ``[n, agents, …]`` once these show something new, turned; a copy."""
    known = latest.copy()
    known[np.arange(len(known)), np.clip(agents, 0, known.shape[1] - 1)] = shown
    return _turned(known, agents)


def _turned(known: Array, agents: IntArray) -> Array:
    """Who acts first, the others behind it in turn."""
    n = known.shape[1]
    turned: Array = known[np.arange(len(known))[:, None], (agents[:, None] + np.arange(n)) % n]
    return turned
