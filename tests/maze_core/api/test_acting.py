"""Who acts, on what: raw observations outside, processed ones inside, and the environment knows whose turn it is."""

import numpy as np
import pytest

from maze_core import ActorID, GymMazeEnv, LogStatsWrapper, MazeEnv, RewardScalingWrapper, RunContext, Wrapper
from maze_core.envs.per_env import PerEnvVectorEnv
from maze_core.errors import ContextClosedError, InvalidSpecificationError, SpaceMismatchError
from tests.maze_core.api.test_forms import QUICK
from tests.maze_core.envs.structured_env import make_boxes


class FlippingWrapper(Wrapper):
    """The policy's 0 is the environment's 1: applying it twice would show."""

    def action(self, step_key, actions):
        return {head: 1 - values for head, values in actions.items()}


def test_the_environment_is_asked_whose_turn_it_is(tmp_path) -> None:
    with RunContext(run_dir=tmp_path, env=make_boxes, overrides=QUICK, seed=1) as context:
        context.train(1)
        env = MazeEnv(PerEnvVectorEnv([make_boxes]))
        observation, seen = env.reset(seed=1), set()
        for _ in range(4):
            actor = env.actor_id()
            seen.add(actor)
            action = context.compute_action(observation, env=env)
            assert action == context.compute_action(observation, actor_id=actor)
            assert action == context.compute_action(observation, actor_id=tuple(actor), maze_state="ignored")
            observation, _reward, _done, _info = env.step(action)
    assert seen == {ActorID(0, 0), ActorID(1, 0)}


def test_the_factorys_environment_pairs_with_compute_action_and_the_processed_one_with_the_policy(
    tmp_path,
) -> None:
    wrappers = [FlippingWrapper(), RewardScalingWrapper(scale=0.5), LogStatsWrapper(logging_prefix="mine")]
    with RunContext(run_dir=tmp_path, wrappers=wrappers, overrides=QUICK, seed=1) as context:
        raw, processed, bare = (
            context.env_factory(),
            context.env_factory(processed=True),
            GymMazeEnv("CartPole-v0"),
        )
        seen = [env.reset(seed=3) for env in (raw, processed, bare)]
        for _ in range(5):
            action = context.compute_action(seen[0])
            batch = {name: values[None] for name, values in seen[1].items()}
            inner = context.policy.policy.act(0, batch, deterministic=True, noise=None)
            assert action["action"] == 1 - inner["action"][0]
            steps = [
                raw.step(action),
                processed.step({"action": 1 - action["action"]}),
                bare.step(action),
            ]
            assert [step[1] for step in steps] == [0.5, 0.5, 1.0]
            seen = [step[0] for step in steps]
            assert np.array_equal(seen[0]["observation"], seen[2]["observation"])
            assert np.array_equal(seen[1]["observation"], seen[2]["observation"])


def test_untrained_weights_act_and_do_not_change_what_is_trained(tmp_path) -> None:
    with RunContext(run_dir=tmp_path / "a", overrides=QUICK, seed=1) as context:
        context.compute_action(np.zeros(4))
        context.evaluate(2)
        assert context.policy is context.policy
        after_use = context.train(1).content_sha256
    with RunContext(run_dir=tmp_path / "b", overrides=QUICK, seed=1) as context:
        assert context.train(1).content_sha256 == after_use


@pytest.mark.parametrize("arguments", [{}, {"policy": "random_policy"}], ids=["trains", "plays"])
def test_a_closed_context_refuses_every_verb(arguments) -> None:
    context = RunContext(seed=1, **arguments)
    context.close()
    context.close()
    verbs = (
        context.rollout,
        context.evaluate,
        context.env_factory,
        context.resume,
        lambda: context.policy,
        lambda: context.compute_action(np.zeros(4)),
    )
    for verb in verbs:
        with pytest.raises(ContextClosedError):
            verb()
    assert context.config["seeding"]["env_base_seed"] == 1


@pytest.mark.parametrize(
    ("actor_id", "pointer"),
    [
        (3, "/actor_id"),
        ("ab", "/actor_id"),
        ((0,), "/actor_id"),
        ((0, 0, 0), "/actor_id"),
        ((1, 0), "/actor_id/0"),
        ((True, 0), "/actor_id/0"),
        (([], 0), "/actor_id/0"),
        ((0, 1), "/actor_id/1"),
        ((0, -1), "/actor_id/1"),
        ((0, False), "/actor_id/1"),
        ((0, "0"), "/actor_id/1"),
    ],
)
def test_an_actor_that_is_none_is_refused_where_it_is_wrong(actor_id, pointer) -> None:
    agent = RunContext(policy="random_policy", env={"name": "CartPole-v1"}, seed=1).policy
    with pytest.raises(SpaceMismatchError) as caught:
        agent.compute_action([0.0] * 4, actor_id=actor_id)
    assert caught.value.pointer == pointer


def test_an_actor_of_numpys_numbers_is_one() -> None:
    agent = RunContext(policy="random_policy", env={"name": "CartPole-v1"}, seed=1).policy
    actor = agent.actor((np.int64(0), np.int32(0)))
    assert actor == ActorID(0, 0)
    assert [type(part) for part in actor] == [int, int]


@pytest.mark.parametrize("value", ["no", 1, None, np.zeros(2)])
def test_deterministic_is_true_or_false_and_nothing_that_looks_like_it(value) -> None:
    context = RunContext(policy="random_policy", env={"name": "CartPole-v1"}, seed=1)
    for verb in (context.compute_action, context.policy.compute_action):
        with pytest.raises(InvalidSpecificationError, match="deterministic: takes True or False"):
            verb([0.0] * 4, deterministic=value)
    assert context.compute_action([0.0] * 4, deterministic=np.bool_(True))["action"] in (0, 1)
