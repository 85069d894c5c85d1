"""A trained policy in a loop that somebody else owns: it is told what happened, and says what to do next.

No thread waits for anybody: an agent carries what it has to from one observation to the next as a value, so a loop
turned inside out is one call per step.
"""

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

import numpy as np

from maze_core.agent import Agent
from maze_core.config.nodes import shown
from maze_core.data.flat_space import form_of, put_together
from maze_core.errors import ContextClosedError, InvalidSpecificationError, NotServableError
from maze_core.evaluation.evaluate import EvalReport
from maze_core.rollout.episodes import EpisodeRecord, NoiseStream
from maze_core.seeding import Stream, derived_seed
from maze_core.types import JSON, ActorID, Observation, StepKey


def _finite(reward: Any) -> float:
    """A reward as a number, which an array may hold."""
    try:
        number = np.asarray(reward)
        is_real = number.size == 1 and (number.dtype.kind in "biuf" or isinstance(reward, Real))
        paid = float(number.item()) if is_real else math.nan
    except (TypeError, ValueError, OverflowError, RuntimeError):  # torch's own, of a tensor with a gradient
        paid = math.nan
    if not math.isfinite(paid):
        message = f"must be one finite number; it is {shown(reward)}."
        raise InvalidSpecificationError(message, path="reward", code="not_finite")
    return paid


@dataclass(slots=True)
class _Episode:
    """The one that goes on."""

    state: Any
    noise: NoiseStream
    episode_return: float = 0.0
    length: int = 0


@dataclass(kw_only=True)
class AgentDeployment(AbstractContextManager["AgentDeployment"]):
    """Acts step by step in a loop of the caller's, and counts what it is paid; with the actions of a rollout.

    ::

        with rc.deploy(seed=1) as deployment:
            observation, info = env.reset(seed=deployment.seed)
            action = deployment.act(observation)
            while action is not None:
                action = deployment.act(*env.step(action))
        print(deployment.report.mean_return)
    """

    agent: Agent
    deterministic: bool = True
    """The likeliest action instead of a sample."""
    env_seed: int = 0
    """Base seed of the episodes, as of a rollout."""
    agent_seed: int = 0
    """Base seed of the samples."""
    episodes: list[EpisodeRecord] = field(default_factory=list)
    """Those that are over, in order."""
    _running: _Episode | None = None
    _is_closed: bool = False

    def __post_init__(self) -> None:
        """Refuse an agent that needs more than observations."""
        if not self.agent.servable:
            raise NotServableError(
                self.agent.not_servable_reason or "This checkpoint cannot act on raw observations."
            )

    @property
    def seed(self) -> int:
        """What a rollout resets its environment with for this episode; the next one's between two episodes."""
        return derived_seed(self.env_seed, Stream.ROLLOUT, len(self.episodes))

    @property
    def report(self) -> EvalReport:
        """Returns and lengths of the episodes that are over."""
        return EvalReport.from_episodes(self.episodes)

    def act(
        self,
        observation: JSON,
        reward: float | None = None,
        terminated: bool = False,
        truncated: bool = False,
        info: Mapping[str, Any] | None = None,
        *,
        actor_id: ActorID | tuple[StepKey, int] | None = None,
    ) -> Any:
        """The next action, in the environment's own form; None where the episode is over.

        Args:
            observation: raw, as the environment gave it.
            reward: what came of the last action; None with the first observation of an episode.
            terminated: the episode ended by itself.
            truncated: a limit ended it.
            info: of the step; where only ``done`` is known, ``TimeLimit.truncated`` in it tells the two apart.
            actor_id: who acts; None is agent 0 of the first sub-step.

        Raises:
            SpaceMismatchError: the observation does not fit its space, or there is no such actor.
            InvalidSpecificationError: a step is told that no action led to, or a reward is no finite number.
        """
        if self._is_closed:
            raise ContextClosedError("This deployment was closed; make a new one.")
        actor = self.agent.actor(actor_id)
        ends = bool(terminated or truncated)
        paid = None if reward is None else _finite(reward)
        batch = {} if ends else self.agent.check_observation(observation, actor)
        episode = self._running
        if episode is None:
            if paid or ends:
                message = (
                    "no action led here: give the first observation of an episode alone, as reset() gave it."
                )
                raise InvalidSpecificationError(message, path="reward", code="contradiction")
            episode = self._running = self._begun()
        elif paid is None:
            message = "is missing; to begin an episode anew before its end, call interrupt() first."
            raise InvalidSpecificationError(message, path="reward", code="missing")
        else:
            episode.episode_return += paid
            episode.length += 1
        if ends:
            is_limit = terminated and not truncated and bool((info or {}).get("TimeLimit.truncated"))
            self._end(terminated=bool(terminated and not is_limit), truncated=bool(truncated or is_limit))
            return None
        return self._action(episode, batch, actor)

    def interrupt(self) -> None:
        """Leave the episode that goes on; it counts as truncated. Nothing where none does."""
        if self._running is not None and self._running.length:
            self._end(terminated=False, truncated=True)
        self._running = None

    def close(self) -> None:
        """End, the episode too that goes on; the report stays. A second call does nothing."""
        self.interrupt()
        self._is_closed = True

    def __exit__(self, *error: object) -> None:
        """Close."""
        self.close()

    def _begun(self) -> _Episode:
        action_seed = derived_seed(self.agent_seed, Stream.ROLLOUT)
        noise = NoiseStream(self.agent.policy, np.random.SeedSequence([action_seed, self.seed]))
        return _Episode(self.agent.fresh_state(), noise)

    def _action(self, episode: _Episode, observation: Observation, actor: ActorID) -> Any:
        agent, key = self.agent, actor.step_key
        batch = {name: x[None] for name, x in observation.items()}
        needs_noise = agent.policy.needs_noise or not self.deterministic
        noise = episode.noise.next(key)[None] if needs_noise else None
        actions, (episode.state,) = agent.carry(
            actor, batch, [episode.state], self.deterministic, None, noise
        )
        leaves = {head: np.asarray(values)[0] for head, values in actions.items()}
        return put_together(form_of(agent.action_spaces[key]), leaves)

    def _end(self, *, terminated: bool, truncated: bool) -> None:
        episode = self._running
        assert episode is not None
        self.episodes.append(
            EpisodeRecord(
                index=len(self.episodes),
                seed=self.seed,
                episode_return=episode.episode_return,
                length=episode.length,
                terminated=terminated,
                truncated=truncated,
            )
        )
        self._running = None
