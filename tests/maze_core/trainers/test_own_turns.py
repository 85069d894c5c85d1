"""Where each actor is paid its own: advantages against their definition, by hand, and at their limits."""

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st

from maze_core.data.trajectory import joined
from maze_core.envs.core_env import Outcome, StructuredEnv
from maze_core.envs.per_env import PerEnvVectorEnv
from maze_core.errors import InvalidSpecificationError
from maze_core.models.random_policy import RandomPolicy
from maze_core.objectives.vtrace import vtrace
from maze_core.rollout.collector import Collector
from maze_core.trainers.learner import Evaluation
from maze_core.trainers.on_policy import prepare
from maze_core.types import ActorID
from tests.maze_core.envs.actors_env import ACTORS, CrowdEnv, Turn


def value_of(number):
    """V of the state in which this number is shown."""
    return np.sin(np.asarray(number, np.float64) * 1.7)


class Sees:
    """Judges numbers by :func:`value_of`; every action was as likely as it is."""

    def values(self, key, observations, agent_id):
        return value_of(observations["number"][:, 0]).astype(np.float32)

    has_memory = False

    def evaluate(self, key, observations, actions, agent_id, sequences):
        found = self.values(key, observations, agent_id)
        return Evaluation(np.zeros_like(found), np.zeros_like(found), found, lambda *d: None)


def collected(envs, n_steps, *, n_rollouts=1):
    batch = PerEnvVectorEnv([lambda env=env: env for env in envs])
    collector = Collector(batch, n_steps, np.random.default_rng(0))
    collector.reset(list(range(len(envs))))
    for _ in range(n_rollouts - 1):
        collector.collect(RandomPolicy(batch.action_spaces))
        for env in envs:
            env.account.clear()
            env._open.clear()  # what began before is not of this rollout
    return collector.collect(RandomPolicy(batch.action_spaces))


def expected(env, shown, gamma, lam):
    """Number seen → advantage, by the definition, of all actions of which it is known what came of them."""
    found = {}
    for actor in ACTORS:
        turns = [turn for turn in env.account if turn.actor == actor]
        following = [*turns, shown if shown.actor == actor else None][1:]
        advantage, is_known_after = 0.0, False
        for turn, after in reversed(list(zip(turns, following, strict=True))):
            passed, trace = 1, 0.0
            if turn.end == "terminated":
                worth = 0.0
            elif turn.end == "truncated":
                if turn.last_seen is None:
                    advantage, is_known_after = 0.0, False
                    continue
                worth, passed = value_of(turn.last_seen), max(turn.ended_at - turn.time, 1)
            elif after is None:
                advantage, is_known_after = 0.0, False
                continue
            else:
                worth, passed = value_of(after.seen), after.time - turn.time
                trace = (1.0 if passed == 0 else lam) * advantage if is_known_after else 0.0
            advantage = turn.reward + gamma**passed * (worth + trace) - value_of(turn.seen)
            found[turn.seen] = advantage
            is_known_after = True
    return found


@given(
    st.integers(0, 10_000),
    st.integers(4, 40),
    st.integers(1, 3),
    st.sampled_from([0.0, 0.9, 1.0]),
    st.sampled_from([0.0, 0.8, 1.0]),
    st.booleans(),
    st.integers(1, 2),
)
def test_advantages_equal_their_definition(seed, n_steps, n_envs, gamma, lam, shows_last, n_rollouts):
    envs = [CrowdEnv(seed + i, first=1000.0 * i, shows_last=shows_last) for i in range(n_envs)]
    rollout = collected(envs, n_steps, n_rollouts=n_rollouts)
    batch, _ = prepare(rollout, Sees(), gamma=gamma, lam=lam)
    found = {}
    for samples in batch.values():
        numbers = samples.observations["number"][:, 0].tolist()
        found |= dict(zip(numbers, samples.advantages.tolist(), strict=True))
        assert samples.returns == pytest.approx(samples.advantages + samples.values, abs=1e-5)
    by_definition = {}
    for b, env in enumerate(envs):
        by_definition |= expected(env, _shown(rollout, env, b), gamma, lam)
    assert found.keys() == by_definition.keys()
    assert found == pytest.approx(by_definition, rel=1e-4, abs=1e-4)


def _shown(rollout, env, b):
    return Turn(env.actor_id(), env._number, int(rollout.flat_step[-1, b]))


def test_what_comes_later_belongs_to_the_action_it_was_paid_for_by_hand():
    """Two take turns; each is paid for its action with the step of the other: 1, then 10 and 100."""
    env = ActionsByTurns()
    rollout = collected([env], 5)
    assert rollout.agent_id[:, 0].tolist() == [0, 1, 0, 1, 0]
    assert rollout.reward[:, 0].tolist() == [1.0, 10.0, 100.0, 1000.0, 0.0]  # the last is yet to come
    assert rollout.turns.is_known[:, 0].tolist() == [True, True, True, True, False]
    batch, _ = prepare(rollout, Sees(), gamma=0.5, lam=1.0)
    v = value_of(np.arange(1, 7))
    assert batch[0].agent_id.tolist() == [0, 1, 0, 1]
    assert batch[0].returns == pytest.approx(
        [1 + 0.5 * 100 + 0.25 * v[4], 10 + 0.5 * 1000 + 0.25 * v[5], 100 + 0.5 * v[4], 1000 + 0.5 * v[5]]
    )


@pytest.mark.parametrize("ends", [True, False])
def test_who_is_cut_after_sitting_out_is_discounted_by_the_time_since_its_turn(ends):
    batch, _ = prepare(collected([CutLater(ends=ends)], 9), Sees(), gamma=0.5, lam=1.0)
    assert batch[0].agent_id[0] == 0
    assert batch[0].returns[0] == pytest.approx(0.5**8 * value_of(50.0), rel=1e-4)


def test_lambda_0_is_one_step_of_each_actors_own():
    env = ActionsByTurns()
    batch, _ = prepare(collected([env], 6), Sees(), gamma=0.5, lam=0.0)
    v = value_of(np.arange(1, 8))
    assert batch[0].advantages[:2] == pytest.approx([1 + 0.5 * v[2] - v[0], 10 + 0.5 * v[3] - v[1]])


def test_v_trace_of_a_policy_that_acted_itself_is_the_lambda_return_of_each_actor():
    rollout = collected([CrowdEnv(3), CrowdEnv(4, first=1000.0)], 30)
    on_policy, _ = prepare(rollout, Sees(), gamma=0.9, lam=0.7)
    rollout.log_probs = np.zeros_like(rollout.reward)
    off_policy, _ = prepare(rollout, Sees(), gamma=0.9, lam=0.7, off_policy=vtrace)
    for key, samples in on_policy.items():
        assert off_policy[key].returns == pytest.approx(samples.returns, abs=1e-4)


def test_rollouts_side_by_side_are_learnt_from_as_each_by_itself():
    rollouts = [collected([CrowdEnv(seed, first=1000.0 * seed)], 30) for seed in (1, 2)]
    apart = [prepare(rollout, Sees(), gamma=0.9, lam=0.7)[0] for rollout in rollouts]
    together, _ = prepare(joined(rollouts), Sees(), gamma=0.9, lam=0.7)
    for key, samples in together.items():
        expected = np.concatenate([batch[key].advantages for batch in apart])
        assert sorted(samples.advantages.tolist()) == pytest.approx(sorted(expected.tolist()), abs=1e-5)
    assert len(joined(rollouts).actor_returns) == sum(len(rollout.episode_returns) for rollout in rollouts)


def test_a_rollout_in_which_nobody_has_a_second_turn_says_to_take_a_longer_one():
    with pytest.raises(InvalidSpecificationError, match=r"algorithm\.n_rollout_steps: is too short"):
        prepare(collected([ActionsByTurns()], 1), Sees(), gamma=0.9, lam=0.9)


class ActionsByTurns(StructuredEnv):
    """Two agents take turns; what an agent did is paid by 1, 10, 100, … with the step of the other."""

    rewards = "per_actor"

    def __init__(self):
        self.observation_spaces = {0: spaces.Dict({"number": spaces.Box(-1e6, 1e6, (1,), np.float32)})}
        self.action_spaces = {0: spaces.Dict({"action": spaces.Discrete(2)})}
        self.agent_counts = {0: 2}
        self.account, self._open = [], {}

    def reset(self, *, seed=None):
        self._n = 0
        return self._see()

    def step(self, action):
        self._n += 1
        return self._see(), self.outcomes()[0].reward, False, False, {}

    def outcomes(self):
        reward = 10.0 ** (self._n - 2) if self._n > 1 else 0.0
        return [Outcome(self.actor_id(), reward)]  # of the one who is to act again

    def actor_id(self):
        return ActorID(0, self._n % 2)

    def _see(self):
        return {"number": np.array([self._n + 1], np.float32)}


class CutLater(ActionsByTurns):
    """The first agent acts once, the other one seven times; then the first one's part is cut."""

    def __init__(self, *, ends):
        super().__init__()
        self._ends = ends

    def step(self, action):
        self._n += 1
        self._is_cut = self._n % 8 == 0
        return self._see(), 0.0, self._is_cut and self._ends, False, {}

    def outcomes(self):
        return [Outcome(ActorID(0, 0), 0.0, False, True, {"number": [50.0]})] if self._is_cut else []

    def is_flat_step_done(self):
        return True

    def actor_id(self):
        return ActorID(0, int(self._n % 8 != 0))
