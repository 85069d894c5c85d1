"""A critic with a state sees a rollout as the policy saw it: tick by tick, its state going on and beginning anew."""

import numpy as np

from maze_core.data.trajectory import Rollout
from maze_core.models.memory import STATE, Memory
from maze_core.models.networks import Critic
from maze_core.types import FloatArray, IntArray, NamedArrays, StepKey

Cut = tuple[IntArray, IntArray, FloatArray]
"""Tick, environment and value of final observations, ``[n]`` each."""


def remembered(
    rollout: Rollout, critic: Critic, memory: Memory
) -> tuple[FloatArray, list[Cut], dict[StepKey, FloatArray]]:
    """What a critic with a state says of a rollout's ends, and what it carried meanwhile.

    Args:
        rollout: what the collector brought.
        critic: its weights are those of now.
        memory: what it carries at the start of the rollout; at the end, of its end.

    Returns:
        V of what the envs show after the rollout, ``[B]``; V of final observations; the states before each tick,
        sub-step → ``[T, B, n]``.
    """
    shape = rollout.reward.shape
    states = {key: np.zeros((*shape, n), np.float32) for key, n in memory.widths.items()}
    cut: list[Cut] = []
    for t in range(len(rollout.reward)):
        for key, carried in states.items():
            record = rollout.steps[key]
            b = np.flatnonzero(record.active[t])
            if not len(b):
                continue
            seen = {name: array[t, b] for name, array in record.observations.items()}
            carried[t, b] = memory.of(key, rollout.agent_id[t, b], b)
            _, after = _answer(critic, key, seen, carried[t, b])
            memory.keep(key, rollout.agent_id[t, b], b, after)
        cut += _final(rollout, critic, memory, t)
        memory.forget(rollout.terminated[t] | rollout.truncated[t])
        _forget_parts(rollout, memory, t)
    last = np.empty(shape[1], np.float32)
    for key, active in rollout.last_active.items():
        b = np.flatnonzero(active)
        seen = {name: array[b] for name, array in rollout.last_observations[key].items()}
        last[b] = _value(critic, memory, key, seen, rollout.last_agent_id[b], b)
    return last, cut, states


def _final(rollout: Rollout, critic: Critic, memory: Memory, t: int) -> list[Cut]:
    """Values of the final observations of a tick."""
    found = []
    for key, final in rollout.final.items():
        here = np.flatnonzero(final.t == t)
        b = final.b[here]
        seen = {name: array[here] for name, array in final.observations.items()}
        found.append((final.t[here], b, _value(critic, memory, key, seen, final.agent_id[here], b)))
    return found


def _forget_parts(rollout: Rollout, memory: Memory, t: int) -> None:
    """Begin anew for those who had their last turn at this tick, should they come back within their episode."""
    if (turns := rollout.turns) is None:
        return
    for key, width in memory.widths.items():
        b = np.flatnonzero(rollout.steps[key].active[t] & (turns.terminated[t] | turns.truncated[t]))
        memory.keep(key, rollout.agent_id[t, b], b, np.zeros((len(b), width), np.float32))


def _value(
    critic: Critic, memory: Memory, key: StepKey, seen: NamedArrays, agent_id: IntArray, b: IntArray
) -> FloatArray:
    """V ``[n]`` of what these environments show; what is carried stays as it is."""
    if not len(b):
        return np.empty(0, np.float32)
    state = memory.of(key, agent_id, b) if key in memory.widths else None
    return _answer(critic, key, seen, state)[0]


def _answer(
    critic: Critic, key: StepKey, seen: NamedArrays, state: FloatArray | None
) -> tuple[FloatArray, FloatArray]:
    """V ``[n]``, and the states ``[n, width]`` behind it."""
    shown = dict(critic.filled({name: array for name, array in seen.items() if name != STATE}))
    output = critic.by_key[key](shown if state is None else {**shown, STATE: state})
    return output[:, 0], output[:, 1:]
