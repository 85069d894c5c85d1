"""What a policy tells of its decisions is what torch makes of its weights, and the action is the one it takes."""

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import distributions

from maze_core import RunContext

SHORT = {
    "algorithm.n_epochs": 1,
    "algorithm.epoch_length": 1,
    "algorithm.rollout_evaluator.n_episodes": 1,
    "algorithm.rollout_evaluator.max_episode_steps": 10,
}


class Parts(gymnasium.Env):
    """Dict observations, two kinds of actions, one of them masked."""

    observation_space = spaces.Dict(
        {
            "place": spaces.Box(-1, 1, (3,), np.float32),
            "mode": spaces.Discrete(4),
            "gear_mask": spaces.MultiBinary(3),
        }
    )
    action_space = spaces.Dict({"gear": spaces.Discrete(3), "turn": spaces.MultiDiscrete([2, 3])})

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self._seen(), {}

    def step(self, action):
        return self._seen(), 1.0, bool(self.np_random.random() < 0.2), False, {}

    def _seen(self):
        place = self.np_random.uniform(-1, 1, 3).astype(np.float32)
        mask = np.array([1, self.np_random.integers(2), 0], np.int8)
        return {"place": place, "mode": int(self.np_random.integers(4)), "gear_mask": mask}


def trained(tmp_path, algorithm, env, **more):
    context = RunContext(
        run_dir=tmp_path, env=env if callable(env) else None, algorithm=algorithm, seed=1, silent=True,
        overrides={**SHORT, **({} if callable(env) else {"env.name": env}), **more},
    )  # fmt: skip
    context.train(1)
    return context


def logits_of(context, observation):
    """Raw output of the policy's network for one observation."""
    (step,) = context.policy.policy.steps.values()
    checked = context.policy.check_observation(observation, context.policy.default_actor)
    batch = {name: np.asarray(value)[None] for name, value in checked.items()}
    logits = step.networks[0].logits(context.policy.process(context.policy.default_actor.step_key, batch))
    return torch.from_numpy(logits[0].astype(np.float64)), step.networks[0].parameter, batch


@pytest.fixture(scope="module")
def ppo(tmp_path_factory):
    with trained(tmp_path_factory.mktemp("ppo"), "ppo", "CartPole-v1") as context:
        yield context


@pytest.mark.parametrize("deterministic", [True, False])
def test_probabilities_log_probability_and_value_of_ppo(ppo, deterministic) -> None:
    observation = [0.02, -0.4, 0.03, 0.5]
    told = ppo.explain_action(observation, deterministic=deterministic)
    logits, _, batch = logits_of(ppo, observation)
    expected = distributions.Categorical(logits=logits)
    head = told["distribution"]["action"]
    assert (head["kind"], head["start"]) == ("categorical", 0)
    np.testing.assert_allclose(head["probabilities"], expected.probs, rtol=1e-6)
    action = told["action"]["action"]
    assert told["log_prob"] == pytest.approx(float(expected.log_prob(torch.tensor(action))), rel=1e-5)
    if deterministic:
        assert told["action"] == ppo.compute_action(observation)
    assert told["mask"] is None
    # the critic of a training that goes on from the same checkpoint
    critic = ppo._held._open_training().world.parts.critic
    assert told["value"] == pytest.approx(float(critic.by_key[0](batch)[0, 0]), rel=1e-5)


def test_values_of_dqn_are_told_and_the_best_one_is_taken(tmp_path) -> None:
    with trained(tmp_path, "dqn", "CartPole-v1") as context:
        told = context.explain_action([0.02, -0.4, 0.03, 0.5])
        logits, _, _ = logits_of(context, [0.02, -0.4, 0.03, 0.5])
    head = told["distribution"]["action"]
    assert head["kind"] == "action_values"
    np.testing.assert_allclose(head["values"], logits, rtol=1e-6)
    assert told["action"]["action"] == int(logits.argmax())
    assert told["value"] == pytest.approx(float(logits.max()))
    assert told["log_prob"] is None


def test_the_squashed_gaussian_of_sac_and_the_lesser_of_its_critics(tmp_path) -> None:
    observation = [0.3, -0.9, 0.5]
    with trained(tmp_path, "sac", "Pendulum-v1") as context:
        told = context.explain_action(observation)
        logits, _, batch = logits_of(context, observation)
        critic = context._held._open_training().world.trainer.critics.online
    mean, log_std = logits[:1], logits[1:].clip(-20, 2)
    head = told["distribution"]["action"]
    np.testing.assert_allclose(head["mean"], mean, rtol=1e-6)
    np.testing.assert_allclose(head["std"], log_std.exp(), rtol=1e-6)
    np.testing.assert_allclose(told["action"]["action"], 2 * mean.tanh(), rtol=1e-5)
    for name, sign in (("low", -1), ("action", 0), ("high", 1)):
        np.testing.assert_allclose(head[name], 2 * (mean + sign * log_std.exp()).tanh(), rtol=1e-5)
    normal = distributions.Normal(mean, log_std.exp())
    onto_range = distributions.AffineTransform(0.0, 2.0)
    squashed = distributions.TransformedDistribution(normal, [distributions.TanhTransform(), onto_range])
    assert told["log_prob"] == pytest.approx(float(squashed.log_prob(2 * mean.tanh()).sum()), rel=1e-4)
    seen = {**batch, "action.action": mean.tanh().numpy().astype(np.float32)[None]}
    values = [float(network(seen)[0, 0]) for network in critic.networks]
    assert told["value"] == pytest.approx(min(values), rel=1e-4)


def test_choices_of_several_kinds_a_mask_and_dicts(tmp_path) -> None:
    observation = {"place": [0.1, -0.2, 0.3], "mode": 2, "gear_mask": [1, 0, 1]}
    with trained(tmp_path, "ppo", Parts) as context:
        told = context.explain_action(observation)
        logits, _, _ = logits_of(context, observation)
        (step,) = context.policy.policy.steps.values()
        at = {part.head.name: logits[part.logits] for part in step.parts}
    gear = at["gear"].clone()
    gear[1] = -torch.inf
    turn = [distributions.Categorical(logits=part) for part in at["turn"].split([2, 3])]
    first = distributions.Categorical(logits=gear)
    np.testing.assert_allclose(told["distribution"]["gear"]["probabilities"], first.probs, rtol=1e-6)
    for found, expected in zip(told["distribution"]["turn"]["probabilities"], turn, strict=True):
        np.testing.assert_allclose(found, expected.probs, rtol=1e-6)
    assert told["mask"] == {"gear": [True, False, True]}
    chosen = torch.tensor(np.asarray(told["action"]["turn"]))
    expected = first.log_prob(torch.tensor(told["action"]["gear"]))
    expected = expected + sum(part.log_prob(chosen[i]) for i, part in enumerate(turn))
    assert told["log_prob"] == pytest.approx(float(expected), rel=1e-5)


def test_a_gaussian_is_told_as_the_environment_sees_it(tmp_path) -> None:
    observation = [0.3, -0.9, 0.5]
    with trained(tmp_path, "ppo", "Pendulum-v1") as context:
        told = context.explain_action(observation)
        logits, log_std, _ = logits_of(context, observation)
    head = told["distribution"]["action"]
    std = np.exp(log_std)
    np.testing.assert_allclose(head["std"], std, rtol=1e-6)
    for name, sample in (("low", logits.numpy() - std), ("high", logits.numpy() + std)):
        np.testing.assert_allclose(head[name], (2 * sample).clip(-2, 2), rtol=1e-5)
    normal = distributions.Normal(logits, torch.from_numpy(std))
    assert told["log_prob"] == pytest.approx(float(normal.log_prob(logits).sum()), rel=1e-5)
