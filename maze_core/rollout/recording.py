"""A recorded episode: what was seen, done and paid, sub-step by sub-step, and its bytes.

The bytes are safetensors without metadata, whose order is not fixed; what is no array lies in a JSON header
that is itself a tensor. Equal trajectories have equal bytes.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from maze_core.data.flat_space import put_together
from maze_core.envs.vector import Tick
from maze_core.errors import MazeError
from maze_core.types import JSON, Action, ActorID, Array, FloatArray, IntArray, Observation, StepKey, Tree

_VERSION = 1
_HEADER = "header"
_FILES = "*.safetensors"


class RecordingError(MazeError, ValueError):
    """These bytes are no recorded trajectory."""


@dataclass(frozen=True, kw_only=True)
class Trajectory:
    """One episode of ``n`` sub-steps, raw: as the environment showed it, was given it and paid for it."""

    step_keys: list[StepKey]
    """``n``: the sub-step taken."""
    agent_ids: IntArray
    """``[n]``: the agent that acted."""
    flat_steps: IntArray
    """``[n]``: environment time at which it acted."""
    rewards: FloatArray
    """``[n]`` float64."""
    observations: dict[StepKey, Observation]
    """step key → name → ``[n of this key, ...]``, in order."""
    actions: dict[StepKey, Action]
    """step key → head → ``[n of this key, ...]``, in order."""
    final_step_key: StepKey
    """The sub-step that the final observation belongs to."""
    final_observation: Observation
    """What was seen last: name → array."""
    terminated: bool
    truncated: bool
    forms: dict[StepKey, tuple[JSON, JSON]] = field(default_factory=dict)
    """step key → form of its observations and of its actions (:mod:`maze_core.data.flat_space`), where the
    environment's own values are more than names and arrays."""
    actors: tuple[ActorID, ...] = ()
    """All actors there may be, where each is paid its own; else none."""
    actor_rewards: FloatArray | None = None
    """``[n, A]`` float64: what each of ``actors`` was paid with the sub-step, which ``rewards`` adds up."""

    @property
    def own_rewards(self) -> FloatArray:
        """``[n]`` float64: what came of each action for its actor: all it was paid up to its own next turn."""
        if self.actor_rewards is None:
            return self.rewards
        own, last = np.zeros_like(self.rewards), np.full(len(self.actors), -1)
        numbers = {actor: number for number, actor in enumerate(self.actors)}
        for i, (key, agent_id) in enumerate(zip(self.step_keys, self.agent_ids.tolist(), strict=True)):
            last[numbers[ActorID(key, agent_id)]] = i
            own[last[last >= 0]] += self.actor_rewards[i, last >= 0]
        return own

    @property
    def content_sha256(self) -> str:
        """Digest of its bytes, in hex."""
        return hashlib.sha256(trajectory_to_bytes(self)).hexdigest()

    def to_json(self) -> JSON:
        """The episode as a list of steps, for a reader without arrays; values in the environment's own form."""
        at = dict.fromkeys(self.observations, 0)
        steps: list[Tree] = []
        own = None if self.actor_rewards is None else self.own_rewards
        for i, key in enumerate(self.step_keys):
            row, at[key] = at[key], at[key] + 1
            seen, done = self.forms.get(key, (None, None))
            steps.append(
                {
                    "actor_id": [key, int(self.agent_ids[i])],
                    "flat_step": int(self.flat_steps[i]),
                    "observation": listed(self.observations[key], seen, row),
                    "action": listed(self.actions[key], done, row),
                    "reward": float(self.rewards[i]),
                }
            )
            if own is not None:
                steps[-1]["own_reward"] = float(own[i])
        final = listed(self.final_observation, self.forms.get(self.final_step_key, (None, None))[0], ...)
        ends = {"terminated": self.terminated, "truncated": self.truncated}
        return {"steps": steps, "final_observation": final, **ends}


@dataclass(slots=True)
class TrajectoryBuilder:
    """Gathers one episode, row by row."""

    forms: dict[StepKey, tuple[JSON, JSON]] = field(default_factory=dict)
    """See :attr:`Trajectory.forms`."""
    actors: tuple[ActorID, ...] = ()
    """See :attr:`Trajectory.actors`."""
    _actor_rewards: list[FloatArray] = field(default_factory=list)
    _steps: list[tuple[StepKey, int, int, float]] = field(default_factory=list)
    _observations: dict[StepKey, dict[str, list[Array]]] = field(default_factory=dict)
    _actions: dict[StepKey, dict[str, list[Array]]] = field(default_factory=dict)
    _pending: tuple[StepKey, int, int] = (0, 0, 0)

    def see(self, tick: Tick, row: int) -> None:
        """Keep what ``row`` shows before it acts."""
        key = next(key for key, active in tick.active.items() if active[row])
        self._pending = (key, int(tick.agent_id[row]), int(tick.flat_step[row]))
        _append(self._observations.setdefault(key, {}), tick.observations[key], row)

    def act(
        self,
        actions: Mapping[StepKey, Mapping[str, Array]],
        reward: float,
        row: int,
        actor_rewards: FloatArray | None = None,
    ) -> None:
        """Keep what ``row`` did in the sub-step it was seen at, and what it was paid; ``[A]``, each actor."""
        if actor_rewards is not None:
            self._actor_rewards.append(actor_rewards.copy())
        key = self._pending[0]
        self._steps.append((*self._pending, reward))
        _append(self._actions.setdefault(key, {}), actions[key], row)

    def finish(self, tick: Tick, row: int, *, is_cut: bool) -> Trajectory:
        """The episode; ``is_cut`` when a limit of the caller's ended it, so that the env still shows it."""
        batches, active = (
            (tick.observations, tick.active) if is_cut else (tick.final_observations, tick.final_active)
        )
        final_key = next(key for key, rows in active.items() if rows[row])
        keys, agents, times, rewards = zip(*self._steps, strict=True)
        return Trajectory(
            step_keys=list(keys),
            agent_ids=np.array(agents, dtype=np.int64),
            flat_steps=np.array(times, dtype=np.int64),
            rewards=np.array(rewards, dtype=np.float64),
            observations={key: _stack(rows) for key, rows in self._observations.items()},
            actions={key: _stack(rows) for key, rows in self._actions.items()},
            final_step_key=final_key,
            final_observation={name: values[row].copy() for name, values in batches[final_key].items()},
            terminated=bool(tick.terminated[row]),
            truncated=bool(tick.truncated[row]) or is_cut,
            forms=self.forms,
            actors=self.actors,
            actor_rewards=np.stack(self._actor_rewards) if self.actors else None,
        )


def trajectory_to_bytes(trajectory: Trajectory) -> bytes:
    """The trajectory as safetensors bytes; equal trajectories give equal bytes."""
    keys = list(trajectory.observations)
    header: dict[str, Any] = {
        "version": _VERSION,
        "keys": keys,
        "step_keys": [keys.index(key) for key in trajectory.step_keys],
        "final_step_key": trajectory.final_step_key,
        "terminated": trajectory.terminated,
        "truncated": trajectory.truncated,
    }
    if trajectory.forms:
        header["forms"] = [[key, *forms] for key, forms in trajectory.forms.items()]
    if trajectory.actors:
        header["actors"] = [list(actor) for actor in trajectory.actors]
    orders = [[list(trajectory.observations[key]), list(trajectory.actions[key])] for key in keys]
    if any(names != sorted(names) for pair in orders for names in pair):
        header["names"] = orders
    text = json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
    arrays: dict[str, Array] = {
        _HEADER: np.frombuffer(text, dtype=np.uint8),
        "agent_ids": trajectory.agent_ids,
        "flat_steps": trajectory.flat_steps,
        "rewards": trajectory.rewards,
    }
    if trajectory.actor_rewards is not None:
        arrays["actor_rewards"] = trajectory.actor_rewards
    arrays |= {f"final/{name}": value for name, value in trajectory.final_observation.items()}
    for i, key in enumerate(keys):
        arrays |= {f"observations/{i}/{n}": values for n, values in trajectory.observations[key].items()}
        arrays |= {f"actions/{i}/{head}": values for head, values in trajectory.actions[key].items()}
    # safetensors writes the memory as it lies, strides or not
    return bytes(save({name: np.array(value, order="C") for name, value in arrays.items()}))


def trajectory_from_bytes(data: bytes) -> Trajectory:
    """The trajectory of :func:`trajectory_to_bytes`.

    Raises:
        RecordingError: the bytes hold none.
    """
    try:
        arrays = load(data)
        header: dict[str, Any] = json.loads(arrays[_HEADER].tobytes())
        if header["version"] != _VERSION:
            raise RecordingError(f"Recording version {header['version']} is not known here.")
        keys = header["keys"]
        names = header.get("names", [[None, None]] * len(keys))
        return Trajectory(
            step_keys=[keys[i] for i in header["step_keys"]],
            agent_ids=arrays["agent_ids"],
            flat_steps=arrays["flat_steps"],
            rewards=arrays["rewards"],
            observations={k: _below(arrays, f"observations/{i}/", names[i][0]) for i, k in enumerate(keys)},
            actions={key: _below(arrays, f"actions/{i}/", names[i][1]) for i, key in enumerate(keys)},
            final_step_key=header["final_step_key"],
            final_observation=_below(arrays, "final/", _final_names(header, names)),
            terminated=header["terminated"],
            truncated=header["truncated"],
            forms={key: (seen, done) for key, seen, done in header.get("forms", [])},
            actors=tuple(ActorID(*actor) for actor in header.get("actors", [])),
            actor_rewards=arrays.get("actor_rewards"),
        )
    except (SafetensorError, KeyError, IndexError, TypeError, ValueError) as error:
        raise RecordingError(f"These bytes are no recorded trajectory: {error!r}.") from error


def load_trajectory(path: str | PathLike[str]) -> Trajectory:
    """The episode of a saved rollout, ``trajectories/episode-00000.safetensors``.

    Raises:
        RecordingError: the file holds none.
        OSError: it cannot be read.
    """
    return trajectory_from_bytes(Path(path).read_bytes())


def episode_files(path: Path) -> list[Path]:
    """The recorded episodes at a path, in order: of a file, a saved rollout, or all saved rollouts of a run directory.

    Raises:
        RecordingError: there are none.
    """
    if path.is_file():
        return [path]
    for pattern in (_FILES, f"trajectories/{_FILES}", f"rollouts/*/trajectories/{_FILES}"):
        if found := sorted(path.glob(pattern)):
            return found
    others = sorted(path.glob("**/*.pkl"))
    way_out = f" {others[0].name} is a pickle, which may run any code and is not read." if others else ""
    has = "holds no recorded episodes (*.safetensors)" if path.exists() else "does not exist"
    raise RecordingError(
        f"{path} {has}.{way_out} Record some: rc.rollout(save=True), and name what it gives."
    )


def episodes_sha256(digests: Iterable[str]) -> str:
    """Digest of several episodes in order, from the digests of their bytes."""
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def _append(columns: dict[str, list[Array]], batch: Mapping[str, Array], row: int) -> None:
    for name, values in batch.items():
        columns.setdefault(name, []).append(np.array(values[row]))


def _stack(columns: dict[str, list[Array]]) -> dict[str, Array]:
    return {name: np.stack(rows) for name, rows in columns.items()}


def _below(arrays: dict[str, Array], prefix: str, names: list[str] | None) -> dict[str, Array]:
    """The arrays below a prefix, in the order of ``names``; sorted without: safetensors has another at each load."""
    if names is None:
        names = sorted(name[len(prefix) :] for name in arrays if name.startswith(prefix))
    return {name: arrays[prefix + name] for name in names}


def _final_names(header: dict[str, Any], names: list[Any]) -> list[str] | None:
    key: StepKey = header["final_step_key"]
    return names[header["keys"].index(key)][0] if key in header["keys"] else None


def listed(leaves: Mapping[str, Array], form: JSON, row: Any) -> JSON:
    """One row of arrays as lists, in the environment's form."""
    plain = {name: values[row].tolist() for name, values in leaves.items()}
    return plain if form is None else put_together(form, plain)
