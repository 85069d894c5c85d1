"""An environment whose actors come, are paid at odd times, and go by themselves; and the account it keeps of that."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces

from maze_core.envs.core_env import Outcome, StructuredEnv
from maze_core.types import Action, ActorID, Observation

ACTORS = (ActorID("walk", 0), ActorID("walk", 1), ActorID("fly", 0))


@dataclass
class Turn:
    """One action, and what came of it."""

    actor: ActorID
    seen: float
    """The number it saw."""
    time: int
    """Flat step."""
    reward: float = 0.0
    end: str = ""
    """``terminated`` or ``truncated`` before it had another turn."""
    ended_at: int = 0
    """Flat step of that."""
    last_seen: float | None = None


class CrowdEnv(StructuredEnv):
    """Every observation is one number, never shown before. Who acts, is paid, dies and comes back is drawn.

    ``account`` has all turns in order, whatever the episode.
    """

    rewards = "per_actor"

    def __init__(self, seed: int = 0, *, first: float = 0.0, shows_last: bool = True) -> None:
        self.observation_spaces = {
            "walk": spaces.Dict({"number": spaces.Box(-1e6, 1e6, (1,), np.float32)}),
            "fly": spaces.Dict({"number": spaces.Box(-1e6, 1e6, (1,), np.float32)}),
        }
        self.action_spaces = {
            "walk": spaces.Dict({"action": spaces.Discrete(3)}),
            "fly": spaces.Dict({"action": spaces.Discrete(2)}),
        }
        self.agent_counts = {"walk": 2, "fly": 1}
        self.account: list[Turn] = []
        self._rng = np.random.default_rng(seed)
        self._shows_last = shows_last
        self._number = first

    def reset(self, *, seed: int | None = None) -> Observation:
        self._rng = self._rng if seed is None else np.random.default_rng(seed)
        self._open: dict[ActorID, Turn] = {}
        self._time = 0
        self._is_done = False
        return self._next(set())

    def step(self, action: Action) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        rng = self._rng
        turn = Turn(self._actor, self._number, self._time)
        self.account.append(turn)
        self._open[self._actor] = turn
        self._brought, closed = [], []
        ended = set()
        for actor in ACTORS:
            reward = float(rng.integers(-3, 4)) if rng.random() < 0.5 else 0.0
            terminated, truncated = rng.random() < 0.1, rng.random() < 0.1
            seen = self._see() if truncated and self._shows_last else None
            self._brought.append(Outcome(actor, reward, terminated, truncated, seen))
            if actor in self._open:
                self._open[actor].reward += reward
                if terminated or truncated:
                    closed.append(self._open[actor])
                    self._close(actor, "terminated" if terminated else "truncated", seen)
                    ended.add(actor)
        terminated, truncated = rng.random() < 0.05, rng.random() < 0.05
        self._is_done = rng.random() < 0.4
        self._time += terminated or truncated or self._is_done
        observation = self._next(ended)
        if terminated or truncated:
            for actor in list(self._open):
                closed.append(self._open[actor])
                is_shown = actor == self._actor and not terminated
                self._close(
                    actor, "terminated" if terminated else "truncated", observation if is_shown else None
                )
        for turn in closed:
            turn.ended_at = self._time
        return observation, sum(each.reward for each in self._brought), terminated, truncated, {}

    def actor_id(self) -> ActorID:
        return self._actor

    def is_flat_step_done(self) -> bool:
        return self._is_done

    def outcomes(self) -> list[Outcome]:
        return self._brought

    def _next(self, ended: set[ActorID]) -> Observation:
        there = [actor for actor in ACTORS if actor not in ended]
        self._actor = there[int(self._rng.integers(len(there)))] if there else ACTORS[0]
        return self._see()

    def _see(self) -> Observation:
        self._number += 1.0
        return {"number": np.array([self._number], np.float32)}

    def _close(self, actor: ActorID, end: str, seen: Observation | None) -> None:
        turn = self._open.pop(actor)
        turn.end = end
        turn.last_seen = None if seen is None or end == "terminated" else float(seen["number"][0])


def make_crowd() -> CrowdEnv:
    return CrowdEnv()
