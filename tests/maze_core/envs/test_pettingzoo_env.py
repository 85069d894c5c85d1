"""PettingZoo: agents at once and in turns, their spaces, masks, deaths, rewards; what is refused, and how."""

import subprocess
import sys

import numpy as np
import pytest
from gymnasium import spaces

pytest.importorskip("pettingzoo")

from maze_core import GymMazeEnv, RunContext, to_gymnasium
from maze_core.envs.catalogue import environments, spaces_of
from maze_core.envs.config import CallableEnvConfig, PettingZooEnvConfig
from maze_core.envs.maze_env import MazeEnv
from maze_core.envs.per_env import PerEnvVectorEnv
from maze_core.envs.pettingzoo_env import pettingzoo_env, registered
from maze_core.errors import EnvError, InvalidSpecificationError
from maze_core.types import ActorID
from tests.maze_core.envs.pettingzoo_envs import CountdownEnv, HuntEnv

TINY = "tests.maze_core.envs.pettingzoo_envs"


def played(env, actions):
    """Steps with these numbers as actions: actor, observation before, outcomes, ends, whether time passed."""
    seen, steps = env.reset(seed=1), []
    for action in actions:
        actor = env.actor_id()
        (head,) = env.action_spaces[actor.step_key]
        after, reward, terminated, truncated, _ = env.step({head: np.asarray(action)})
        assert reward == pytest.approx(sum(outcome.reward for outcome in env.outcomes()))
        steps.append((actor, seen, env.outcomes(), terminated, truncated, env.is_flat_step_done()))
        seen = after
        if terminated or truncated:
            break
    return steps, seen


def test_agents_of_equal_spaces_share_a_sub_step():
    env = pettingzoo_env(HuntEnv())
    assert env.actor_of == {
        "hunter_0": ActorID("hunter", 0),
        "hunter_1": ActorID("hunter", 1),
        "hare_0": ActorID("hare", 0),
    }
    assert env.agent_counts == {"hunter": 2, "hare": 1}
    assert env.action_spaces["hare"]["action"] == spaces.Discrete(4)
    assert list(pettingzoo_env(CountdownEnv()).observation_spaces) == [0]
    assert env.render_fps == 7


def test_agents_that_act_at_once_are_asked_one_after_the_other_and_paid_when_all_have_answered():
    hunt = HuntEnv()
    steps, _ = played(pettingzoo_env(hunt), [1, 2, 2, 1, 3])
    assert [step[0] for step in steps] == [
        ("hunter", 0),
        ("hunter", 1),
        ("hunter", 0),
        ("hunter", 1),
        ("hare", 0),  # it came
    ]
    assert [step[-1] for step in steps] == [False, True, False, False, True]
    assert steps[0][2] == []
    assert [(o.actor, o.reward) for o in steps[1][2]] == [(("hunter", 0), 1.0), (("hunter", 1), 2.0)]
    assert hunt.given == [{"hunter_0": 1, "hunter_1": 2}, {"hunter_0": 2, "hunter_1": 1, "hare_0": 3}]
    assert hunt.seeds == [1]


def test_an_agent_that_dies_is_asked_no_more_and_the_episode_goes_on():
    steps, _ = played(pettingzoo_env(HuntEnv()), [0, 1, 2, 3, 2])
    assert [step[0] for step in steps[2:]] == [("hunter", 1), ("hare", 0), ("hunter", 1)]
    dead = steps[1][2][0]
    assert (dead.actor, dead.terminated, dead.truncated) == (("hunter", 0), True, False)


def test_agents_that_are_cut_say_what_they_saw_last():
    steps, last = played(pettingzoo_env(HuntEnv(n_steps=2)), [1, 1, 1, 1, 1])
    *_, outcomes, terminated, truncated, _ = steps[-1]
    assert (terminated, truncated) == (False, True)
    assert [outcome.truncated for outcome in outcomes] == [True, True, True]
    assert outcomes[1].observation["observation"] == pytest.approx([2.1, 2.1])
    assert last["observation"] == pytest.approx([2.2, 2.2, 2.2])  # of the hare, who acted last


def test_when_all_are_dead_the_episode_is_terminated():
    steps, _ = played(pettingzoo_env(HuntEnv()), [0, 0])
    assert steps[-1][3:5] == (True, False)


def test_in_turns_what_an_agent_is_paid_comes_with_its_next_turn_or_its_end():
    steps, _ = played(pettingzoo_env(CountdownEnv(n=5)), [1, 2, 1, 1])
    assert [step[0] for step in steps] == [(0, 0), (0, 1), (0, 2), (0, 0)]
    assert [[tuple(o)[:4] for o in step[2]] for step in steps] == [
        [((0, 1), 1.0, False, False)],
        [((0, 2), 2.0, False, False)],
        [((0, 0), 1.0, False, False)],
        [((0, 0), -5.0, True, False), ((0, 1), 1.0, False, True), ((0, 2), 0.0, False, True)],
    ]
    assert steps[-1][3:5] == (False, True)
    assert steps[-1][2][1].observation["left"] == [0.0]


def test_in_turns_time_passes_when_somebody_is_to_act_again():
    steps, _ = played(pettingzoo_env(CountdownEnv(n=7)), [1, 2, 2, 1, 1])
    assert [step[-1] for step in steps] == [False, False, True, False, True]


def test_in_turns_a_death_in_mid_cycle_leaves_the_others_their_turns():
    steps, _ = played(pettingzoo_env(CountdownEnv(n=9, leaves_first=True)), [1, 2, 2, 2, 2])
    assert [step[0][1] for step in steps] == [0, 1, 2, 1, 2]
    assert [(o.actor, o.terminated) for o in steps[0][2]] == [((0, 0), True), ((0, 1), False)]


def test_an_action_mask_is_named_after_the_head():
    env = pettingzoo_env(CountdownEnv())
    assert set(env.observation_spaces[0]) == {"left", "take_mask"}
    assert env.reset()["take_mask"].tolist() == [1, 0]


class Tupled(CountdownEnv):
    def observation_space(self, agent):
        one = spaces.Box(0, 1, (1,), np.int8)
        return spaces.Dict({"left": one, "action_mask": spaces.Tuple([one, one])})


class Anonymous(HuntEnv):
    def __init__(self):
        super().__init__()
        self.possible_agents = []


class Forgetful(HuntEnv):
    def _seen(self):
        return {}


class Undying(CountdownEnv):
    def _was_dead_step(self, action):
        pass


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (Tupled, "action_mask is Tuple"),
        (Anonymous, "give it possible_agents"),
        (Forgetful, "'hunter_0' is among agents and was given no observation"),
        (Undying, "the agent 'a' is dead, and step\\(None\\) does not remove it"),
    ],
)
def test_what_breaks_the_rules_is_named(make, message):
    with pytest.raises(EnvError, match=message):
        played(pettingzoo_env(make()), [1] * 20)


def test_an_environment_is_found_by_its_id_in_either_form():
    for name in ("classic/tictactoe_v3", "classic/tictactoe-v3"):
        env = PettingZooEnvConfig(name=name).make()
        assert env.action_spaces[0]["action"] == spaces.Discrete(9)
        assert env.reset()["action_mask"].tolist() == [1] * 9
        env.close()


def test_the_interface_of_an_id_is_chosen():
    assert registered()["classic/rps_v2"] == ("parallel", "aec")
    at_once = PettingZooEnvConfig(name="classic/rps_v2").make()
    in_turns = PettingZooEnvConfig(name="classic/rps_v2", interface="aec").make()
    assert type(at_once).__name__ != type(in_turns).__name__
    with pytest.raises(EnvError, match="has the interface aec alone"):
        PettingZooEnvConfig(name="classic/tictactoe_v3", interface="parallel").make()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("classic/tictactoe_v9", "Did you mean 'classic/tictactoe_v3'"),
        ("no_such_module_here:env", "No module named 'no_such_module_here'"),
        (f"{TINY}:nothing", "PettingZoo has no environment 'nothing'"),
    ],
)
def test_a_name_that_is_none_is_refused_with_the_way_out(name, message):
    with pytest.raises(EnvError, match=message):
        PettingZooEnvConfig(name=name).make()


def test_a_function_of_a_module_makes_one():
    env = PettingZooEnvConfig(name=f"{TINY}:CountdownEnv", kwargs={"n": 4}).make()
    assert env.reset()["left"] == [4.0]


def test_gymnasium_has_no_form_for_several_agents():
    env = MazeEnv(PerEnvVectorEnv([lambda: pettingzoo_env(HuntEnv())]))
    with pytest.raises(EnvError, match="gymnasium has no form for sub-steps or several agents"):
        to_gymnasium(env)


def test_a_factory_may_give_one_and_other_things_are_refused():
    assert CallableEnvConfig(factory=HuntEnv).make().agent_counts == {"hunter": 2, "hare": 1}
    with pytest.raises(EnvError, match="an environment of PettingZoo's"):
        CallableEnvConfig(factory=dict).make()
    assert GymMazeEnv("CartPole-v1").agent_counts_dict == {0: 1}


@pytest.mark.parametrize("separate", [[], ["hunter"]])
def test_agents_that_come_and_go_train_with_shared_and_with_separate_networks(separate):
    settings = {"algorithm.n_rollout_steps": 32, "model.policy.substeps_with_separate_agent_nets": separate}
    with RunContext(
        env=HuntEnv, algorithm="a2c", configuration="test", seed=1, silent=True, overrides=settings
    ) as rc:
        rc.train()
        assert len(rc.policy.policy.steps["hunter"].networks) == (2 if separate else 1)
        assert {"eval/mean_return/hunter/1", "eval/mean_return/hare/0"} <= set(rc.metrics[-1])
        env = rc.env_factory()
        observation, done = env.reset(seed=3), False
        while not done:
            actor = env.actor_id()
            observation, _, done, _ = env.step(rc.compute_action(observation, actor_id=actor))


@pytest.mark.parametrize("name", ["classic/tictactoe_v3", "classic/connect_four_v3", "classic/rps_v2"])
def test_those_of_its_own_train_and_are_judged_agent_by_agent(name):
    settings = {"env.name": name, "algorithm.n_rollout_steps": 32}
    with RunContext(
        env="pettingzoo", algorithm="ppo", configuration="test", seed=1, silent=True, overrides=settings
    ) as rc:
        rc.train(n_epochs=1)
        judged = [rc.evaluate(n_episodes=2).actor_returns[ActorID(0, agent)] for agent in (0, 1)]
        assert np.sum(judged) == 0  # one wins what the other loses


def test_a_run_goes_on_exactly_where_it_stopped():
    settings = {"algorithm.n_rollout_steps": 16, "algorithm.checkpoint_every": 1, "algorithm.n_epochs": 2}
    digests = []
    for parts in ((2,), (1, 1)):
        with RunContext(
            env=HuntEnv, algorithm="ppo", configuration="test", seed=6, silent=True, overrides=settings
        ) as rc:
            reports = [rc.train(n_epochs=n) for n in parts]
            digests.append(reports[-1].content_sha256)
    assert digests[0] == digests[1]


def test_the_same_seed_gives_the_same_run_in_processes_too():
    digests = []
    for runner in ("dev", "local"):
        name = f"{TINY}:CountdownEnv"
        settings = {"env.name": name, "algorithm.n_rollout_steps": 16, "runner.n_envs": 3}
        with RunContext(
            env="pettingzoo",
            algorithm="ppo",
            runner=runner,
            configuration="test",
            seed=4,
            silent=True,
            overrides=settings,
        ) as rc:
            digests.append(rc.train().weights_sha256)
    assert digests[0] == digests[1]


def test_workers_publish_it_with_its_sub_steps():
    row = next(row for row in environments() if row["id"] == "classic/tictactoe_v3")
    assert (row["source"], row["is_available"], row["open_kwargs"]) == ("pettingzoo", True, ["max_cycles"])
    found = spaces_of("classic/tictactoe_v3")
    assert found["is_trainable"]
    assert [(part["step_key"], part["agents"]) for part in found["sub_steps"]] == [(0, 2)]


def test_its_package_is_imported_only_where_it_is_used():
    program = (
        "import sys, maze_core.envs.config, maze_core.api.run_context; print('pettingzoo' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"


def test_a_rollout_that_is_too_short_for_the_agents_is_refused():
    settings = {"algorithm.n_rollout_steps": 1, "runner.n_envs": 1}
    with (
        RunContext(
            env=HuntEnv, algorithm="a2c", configuration="test", seed=1, silent=True, overrides=settings
        ) as rc,
        pytest.raises(InvalidSpecificationError, match="n_rollout_steps"),
    ):
        rc.train()
