"""Small environments of PettingZoo's kind: agents of two kinds that come and go at once, and a game in turns."""

from typing import ClassVar

import numpy as np
from gymnasium import spaces
from pettingzoo import AECEnv, ParallelEnv

HUNTERS = ("hunter_0", "hunter_1")


class HuntEnv(ParallelEnv):
    """Two hunters and, from the second step on, a hare. A hunter who rests (0) dies; whoever is there earns its action.

    The hare comes in step 2 of an episode, and is caught (terminated) in step 4. At step 6 whoever is left is cut.
    """

    metadata: ClassVar = {"name": "hunt_v0", "render_fps": 7}

    def __init__(self, n_steps=6):
        self.possible_agents = [*HUNTERS, "hare_0"]
        self.n_steps = n_steps
        self.render_mode = None
        self.seeds = []
        self.given = []

    def observation_space(self, agent):
        width = 3 if agent == "hare_0" else 2
        return spaces.Box(-10, 10, (width,), np.float32)

    def action_space(self, agent):
        return spaces.Discrete(4) if agent == "hare_0" else spaces.Discrete(3)

    def reset(self, seed=None, options=None):
        self.seeds.append(seed)
        self.agents = list(HUNTERS)
        self.n = 0
        return self._seen(), {agent: {} for agent in self.agents}

    def step(self, actions):
        assert set(actions) == set(self.agents)
        self.given.append(dict(actions))
        self.n += 1
        terminations = {agent: agent in HUNTERS and int(action) == 0 for agent, action in actions.items()}
        if "hare_0" in actions and self.n == 4:
            terminations["hare_0"] = True
        truncations = {agent: self.n >= self.n_steps and not terminations[agent] for agent in actions}
        rewards = {agent: float(action) for agent, action in actions.items()}
        seen = self._seen()
        self.agents = [agent for agent in self.agents if not (terminations[agent] or truncations[agent])]
        if self.n == 1 and self.agents:
            self.agents.append("hare_0")
            seen |= self._seen()
        return seen, rewards, terminations, truncations, {agent: {"n": self.n} for agent in actions}

    def _seen(self):
        return {
            agent: np.full(self.observation_space(agent).shape, self.n + index / 10, np.float32)
            for index, agent in enumerate(self.possible_agents)
            if agent in self.agents
        }


class CountdownEnv(AECEnv):
    """Three in turns take 1 or 2 of what is left; what one took is paid to the next, and the last to take dies.

    An agent whose turn it is with an odd number left may take 1 only, says its mask. The one who takes the last one is
    terminated with -5; the others are cut.
    """

    metadata: ClassVar = {"name": "countdown_v0"}

    def __init__(self, n=7, *, leaves_first=False):
        super().__init__()
        self.possible_agents = ["a", "b", "c"]
        self.n_start = n
        self.leaves_first = leaves_first
        """``a`` is terminated after its first turn."""
        self.render_mode = None

    def observation_space(self, agent):
        seen = {"left": spaces.Box(0, 100, (1,), np.float32), "action_mask": spaces.Box(0, 1, (2,), np.int8)}
        return spaces.Dict(seen)

    def action_space(self, agent):
        return spaces.Dict({"take": spaces.Discrete(2, start=1)})

    def reset(self, seed=None, options=None):
        self.agents = list(self.possible_agents)
        self.n = self.n_start
        self.rewards = dict.fromkeys(self.agents, 0)
        self._cumulative_rewards = dict.fromkeys(self.agents, 0)
        self.terminations = dict.fromkeys(self.agents, False)
        self.truncations = dict.fromkeys(self.agents, False)
        self.infos = {agent: {} for agent in self.agents}
        self.agent_selection = "a"

    def observe(self, agent):
        mask = (
            np.array([1, self.n % 2 == 0], np.int8) if agent == self.agent_selection else np.zeros(2, np.int8)
        )
        return {"left": np.array([self.n], np.float32), "action_mask": mask}

    def step(self, action):
        agent = self.agent_selection
        if self.terminations[agent] or self.truncations[agent]:
            self._was_dead_step(action)
            return
        taken = int(action["take"])
        assert taken == 1 or self.n % 2 == 0
        self._cumulative_rewards[agent] = 0
        self._clear_rewards()
        self.n -= taken
        following = self.agents[(self.agents.index(agent) + 1) % len(self.agents)]
        self.rewards[following] += taken
        if self.n <= 0:
            self.rewards[agent] -= 5
            self.terminations[agent] = True
            self.truncations = {other: other != agent for other in self.agents}
        elif self.leaves_first and agent == "a":
            self.terminations["a"] = True
        self._accumulate_rewards()
        self.agent_selection = following
        self._deads_step_first()
