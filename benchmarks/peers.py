"""Other training loops at the settings of a case: Stable-Baselines3, and plain torch in CleanRL's manner.

Not among them: PufferLib 3.0, which has no wheel and must be compiled, and Tianshou 2.0.1, whose loop is not written.
"""

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.distributions import Categorical, Normal

from benchmarks.cases import Case

Advance = Callable[[int], int]
"""Number of updates → environment steps taken."""
_GAMMA, _CLIP, _MAX_GRAD_NORM, _VALUE_COEF = 0.99, 0.2, 0.5, 0.5


def stable_baselines3(case: Case) -> Advance:
    """Stable-Baselines3 on its DummyVecEnv, the faster of its two for environments as small as these."""
    import stable_baselines3
    from stable_baselines3.common.env_util import make_vec_env

    settings: dict[str, Any] = {"learning_rate": case.lr, "device": "cpu", "seed": 1}
    if case.has_replay:
        settings |= {"batch_size": case.batch_size, "train_freq": case.n_steps, "gradient_steps": 1}
        settings |= {"policy_kwargs": {"net_arch": [case.hidden] * 2}, "buffer_size": 100_000}
        settings["learning_starts"] = 100
        if case.algorithm == "dqn":
            settings |= {"exploration_initial_eps": 0.05, "target_update_interval": 500}
    else:
        settings |= {"n_steps": case.n_steps, "gae_lambda": case.gae_lambda}
        if not case.has_pictures:
            settings["policy_kwargs"] = {
                "net_arch": [case.hidden] * 2,
                "activation_fn": torch.nn.Tanh,
            }
    if case.is_ppo:
        settings |= {"batch_size": case.batch_size, "n_epochs": case.n_passes}
    elif case.algorithm == "a2c":
        settings |= {"use_rms_prop": False}
    env = make_vec_env(case.env, n_envs=case.n_envs, seed=1)
    policy = "CnnPolicy" if case.has_pictures else "MlpPolicy"
    model = getattr(stable_baselines3, case.algorithm.upper())(policy, env, **settings)

    def advance(n_updates: int) -> int:
        before, steps = model.num_timesteps, n_updates * case.rows
        model.learn(steps, reset_num_timesteps=before == 0, log_interval=1_000_000)
        return steps

    return advance


def cleanrl_style(case: Case) -> Advance:
    """One loop of plain torch over gymnasium's SyncVectorEnv, as CleanRL writes it."""
    return SingleFile(case, gymnasium.make_vec(case.env, case.n_envs, vectorization_mode="sync"))


def envpool(case: Case) -> Advance:
    """The same loop over EnvPool's environments in C++, on one thread; of those that EnvPool has."""
    import envpool

    env = envpool.make_gymnasium(case.env, num_envs=case.n_envs, num_threads=1, seed=1)
    return SingleFile(case, env)


class SingleFile:
    """Rollout with ``no_grad``, values kept as they come; then PPO's minibatches, or A2C's one step."""

    def __init__(self, case: Case, env: Any) -> None:
        torch.manual_seed(1)
        self._case, self._env = case, env
        space = getattr(env, "single_action_space", env.action_space)
        observation_space = getattr(env, "single_observation_space", env.observation_space)
        self._n_in = int(np.prod(observation_space.shape))
        self._agent = _Agent(self._n_in, space, case.hidden)
        self._optimizer = torch.optim.Adam(self._agent.parameters(), lr=case.lr, eps=1e-5, fused=True)
        self._next: Tensor = self._seen(env.reset()[0])
        self._next_done = torch.zeros(case.n_envs)

    def _seen(self, observations: Any) -> Tensor:
        return torch.as_tensor(observations, dtype=torch.float32).reshape(-1, self._n_in)

    def __call__(self, n_updates: int) -> int:
        """Take this many updates; environment steps taken."""
        for _ in range(n_updates):
            self._learn(*self._rollout())
        return n_updates * self._case.rows

    def _rollout(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        case = self._case
        T, B = case.n_steps, case.n_envs
        seen, done = torch.empty(T, B, self._n_in), torch.empty(T, B)
        rewards, log_probs, values = torch.empty(T, B), torch.empty(T, B), torch.empty(T, B)
        actions = []
        with torch.no_grad():
            for t in range(T):
                seen[t], done[t] = self._next, self._next_done
                action, log_probs[t], values[t] = self._agent.act(seen[t])
                actions.append(action)
                step = self._env.step(self._agent.to_env(action))
                rewards[t] = torch.as_tensor(step[1])
                self._next = self._seen(step[0])
                self._next_done = torch.as_tensor(np.logical_or(step[2], step[3]), dtype=torch.float32)
            next_value = self._agent.value(self._next)
            advantages, trace = torch.empty(T, B), torch.zeros(B)
            for t in reversed(range(T)):
                alive = 1.0 - (self._next_done if t == T - 1 else done[t + 1])
                future = next_value if t == T - 1 else values[t + 1]
                delta = rewards[t] + _GAMMA * future * alive - values[t]
                advantages[t] = trace = delta + _GAMMA * case.gae_lambda * alive * trace
            returns = advantages + values
        flat = (x.flatten(0, 1) for x in (seen, torch.stack(actions), log_probs, advantages, returns))
        return tuple(flat)  # type: ignore[return-value]

    def _learn(
        self, seen: Tensor, actions: Tensor, log_probs: Tensor, advantages: Tensor, returns: Tensor
    ) -> None:
        case = self._case
        if not case.is_ppo:
            new, values = self._agent.evaluate(seen, actions)
            self._step(-(new * advantages).mean(), values, returns)
            return
        for _ in range(case.n_passes):
            for rows in torch.randperm(case.rows).split(case.batch_size):
                new, values = self._agent.evaluate(seen[rows], actions[rows])
                ratio = (new - log_probs[rows]).exp()
                a = advantages[rows]
                a = (a - a.mean()) / (a.std() + 1e-8)
                gain = torch.minimum(ratio * a, ratio.clamp(1 - _CLIP, 1 + _CLIP) * a)
                self._step(-gain.mean(), values, returns[rows])

    def _step(self, policy_loss: Tensor, values: Tensor, returns: Tensor) -> None:
        loss = policy_loss + _VALUE_COEF * (values - returns).square().mean()
        self._optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self._agent.parameters(), _MAX_GRAD_NORM)
        self._optimizer.step()


class _Agent(nn.Module):
    """Policy and critic of two tanh layers each."""

    def __init__(self, n_in: int, space: Any, hidden: int) -> None:
        super().__init__()
        self._sizes = space.nvec.tolist() if isinstance(space, spaces.MultiDiscrete) else None
        self._box = space if isinstance(space, spaces.Box) else None
        if self._box is not None:
            n_out = int(np.prod(space.shape))
            self.log_std = nn.Parameter(torch.zeros(n_out))
        else:
            n_out = int(space.n) if self._sizes is None else sum(self._sizes)
        self.actor, self.critic = _net(n_in, n_out, hidden), _net(n_in, 1, hidden)

    def value(self, seen: Tensor) -> Tensor:
        return torch.squeeze(self.critic(seen), -1)

    def _distributions(self, seen: Tensor) -> list[Any]:
        output = self.actor(seen)
        if self._box is not None:
            return [Normal(output, self.log_std.exp(), validate_args=False)]
        parts = [output] if self._sizes is None else output.split(self._sizes, -1)
        return [Categorical(logits=part, validate_args=False) for part in parts]

    def act(self, seen: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        found = self._distributions(seen)
        drawn = [part.sample() for part in found]
        action = drawn[0] if self._box is not None else torch.stack(drawn, -1)
        return action, self._log_prob(found, action), self.value(seen)

    def evaluate(self, seen: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        return self._log_prob(self._distributions(seen), actions), self.value(seen)

    def _log_prob(self, found: list[Any], actions: Tensor) -> Tensor:
        if self._box is not None:
            each = found[0].log_prob(actions)
        else:
            each = torch.stack([part.log_prob(actions[..., i]) for i, part in enumerate(found)], -1)
        return torch.sum(each, -1)

    def to_env(self, action: Tensor) -> Any:
        if self._box is not None:
            return np.clip(action.numpy(), self._box.low, self._box.high)
        return action.numpy() if self._sizes is not None else action[..., 0].numpy()


def _net(n_in: int, n_out: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(n_in, hidden), nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh(), nn.Linear(hidden, n_out)
    )


PEERS: dict[str, Callable[[Case], Advance]] = {
    "stable-baselines3": stable_baselines3,
    "cleanrl-style": cleanrl_style,
    "envpool": envpool,
}
