"""A population: in each environment a policy with weights of its own plays whole episodes, all in one batch.

Dense nets of all environments are one batched matrix product per layer; modules of the user's are run one by one.
Either gives the bits that a policy with these weights gives alone. Actions are the likeliest ones.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np

from maze_core.envs.vector import Tick, VectorEnv
from maze_core.models.acting import ActingPolicy, to_env_actions
from maze_core.models.graph import GraphNetwork
from maze_core.models.memory import STATE, Memory
from maze_core.models.networks import Network
from maze_core.rollout.episodes import raw_tick
from maze_core.trainers.optim import FlatParameters
from maze_core.types import Action, Actors, FloatArray, NamedArrays, Observation, StepKey


class Played(NamedTuple):
    """One episode."""

    fitness: float
    """Sum of rewards as training sees them."""
    episode_return: float
    """Sum of raw rewards."""
    length: int
    """Flat steps."""


class Member(NamedTuple):
    """Who plays an episode."""

    parameters: FloatArray
    """Of all networks, one after the other, ``[n]``."""
    seed: int
    """What its environment is reset with."""


class Population:
    """As many policies as there are environments.

    Args:
        env: what they play in.
        policy: whose networks they have.
        own: the parameters of its networks, each network by its prefix.
        member: number → the member.
        max_episode_steps: flat steps after which an episode is cut; None leaves it to the environment.
    """

    def __init__(
        self,
        env: VectorEnv,
        policy: ActingPolicy,
        own: FlatParameters,
        member: Callable[[int], Member],
        *,
        max_episode_steps: int | None,
    ) -> None:
        self.env, self._steps, self._member, self._limit = env, policy.steps, member, max_episode_steps
        self._parameters = np.tile(own.flat, (env.n_envs, 1))
        views = own.views(self._parameters)
        self._networks = {
            key: [_members(actor.logits, views, f"{actor.prefix}/", env.n_envs) for actor in step.networks]
            for key, step in self._steps.items()
        }
        self._memory, self._rows = Memory(policy.state_widths, env.n_envs), np.arange(env.n_envs)
        self._playing: dict[int, int]
        """Environment → member."""
        self._fitness, self._returns = np.zeros((2, env.n_envs))
        self._tick: Tick

    def play(self, members: range, *, is_first: bool, cancelled: Callable[[], bool]) -> list[Played] | None:
        """Play one episode with each member; environments that have none go on with their last.

        Args:
            members: who plays.
            is_first: all environments are reset at the start, and running statistics learn what was seen.
            cancelled: asked before every tick; True gives up.

        Returns:
            The episodes, in the order of the members; None where it was cancelled.

        Raises:
            EnvError: an environment broke its contract.
        """
        played: dict[int, Played] = {}
        waiting = iter(members)
        self._playing = {}
        self._begin(range(self.env.n_envs), waiting, is_first=is_first)
        while self._playing:
            if cancelled():
                return None
            if over := self._advance():
                played |= {self._playing.pop(row): self._score(row) for row in over}
                self._begin(over, waiting, is_first=False)
        return [played[member] for member in members]

    def _begin(self, rows: Iterable[int], waiting: Iterator[int], *, is_first: bool) -> None:
        """Start an episode in these environments, as far as somebody waits."""
        begun = dict(zip(rows, waiting, strict=False))
        seeds: list[int | None] = [None] * self.env.n_envs
        chosen = np.zeros(self.env.n_envs, np.bool_)
        for row, number in begun.items():
            self._parameters[row], seeds[row] = self._member(number)
            chosen[row] = True
        self._playing |= begun
        self._fitness[chosen] = self._returns[chosen] = 0.0
        self._memory.forget(chosen)
        if is_first:
            self._tick = self.env.reset(seeds)
        elif begun:
            self._tick = self.env.reset(seeds, chosen)

    def _advance(self) -> list[int]:
        """One tick; the environments whose episodes are over."""
        acting = [key for key, active in self._tick.active.items() if np.count_nonzero(active)]
        tick = self._tick = self.env.step({key: self._act(key) for key in acting})
        self._fitness += tick.reward
        self._returns += raw_tick(self.env, tick).reward
        if self._memory and tick.actors is not None:
            self._memory.forget_parts(tick.actors.ended, Actors(self.env.agent_counts).numbers)
        over = tick.ended
        if self._limit is not None:
            over = over | (tick.flat_step >= self._limit)
        return [row for row in self._playing if over[row]] if np.count_nonzero(over) else []

    def _score(self, row: int) -> Played:
        tick = self._tick
        length = tick.episode_length[row] if tick.ended[row] else tick.flat_step[row]
        return Played(self._fitness[row].item(), self._returns[row].item(), int(length))

    def _act(self, key: StepKey) -> Action:
        step, networks, tick = self._steps[key], self._networks[key], self._tick
        observations, width = tick.observations[key], self._memory.widths.get(key, 0)
        if width:
            observations = {**observations, STATE: self._memory.of(key, tick.agent_id, self._rows)}
        logits = networks[0](observations)
        for agent, network in enumerate(networks[1:], 1):
            logits = np.where((tick.agent_id == agent)[:, None], network(observations), logits)
        if width:
            rows = np.flatnonzero(tick.active[key])
            self._memory.keep(key, tick.agent_id[rows], rows, logits[rows, -width:])
            logits = logits[:, :-width]
        actions = step.in_env_units(step.decoded(logits, observations))
        return to_env_actions(actions, self.env.action_spaces[key])


Members = Callable[[Observation], FloatArray]
"""``[B, …]`` → ``[B, n_out]``, each row by a network of its own."""


def _members(network: Network, views: NamedArrays, prefix: str, n: int) -> Members:
    """``n`` networks that read their parameters from views ``[n, …]``."""
    if isinstance(network, GraphNetwork):
        return GraphNetwork(network.program, views, prefix, n_members=n)
    each = [network.twin() for _ in range(n)]
    for row, twin in enumerate(each):
        twin.bind({name: view[row] for name, view in views.items()}, prefix)

    def run(observations: Observation) -> FloatArray:
        return np.concatenate(
            [
                twin({name: values[row : row + 1] for name, values in observations.items()})
                for row, twin in enumerate(each)
            ]
        )

    return run
