"""Policies with a state through a RunContext: trained, resumed, stored, replayed, asked one observation at a time."""

import base64
import json
from dataclasses import replace

import msgspec
import numpy as np
import pytest

from maze_core import ActorID, ObservationNormalizationWrapper, RunContext
from maze_core.agent import load_agent
from maze_core.checkpoint import Checkpoint
from maze_core.envs.wrappers.observation_stack import ObservationStackWrapper
from maze_core.errors import CheckpointError, StateError
from tests.maze_core.envs.structured_env import make_boxes
from tests.maze_core.recurrent import CueEnv, Gru, Lstm, model

QUICK = {
    "algorithm.n_rollout_steps": 8,
    "algorithm.epoch_length": 1,
    "algorithm.checkpoint_every": 2,
    "algorithm.rollout_evaluator.n_episodes": 2,
    "algorithm.lr": 0.05,
    "runner.n_envs": 2,
}
KINDS = ["recurrent", "stacked", "both", "sub-steps"]


def cue():
    return CueEnv(4)


def context(kind, **more):
    """A run of a policy that carries something."""
    stacks = [ObservationNormalizationWrapper(), ObservationStackWrapper(n_stack=3)]
    wrappers = {"stacked": stacks, "both": stacks}.get(kind)
    own = None if kind == "stacked" else model(Lstm, Gru)
    env = make_boxes if kind == "sub-steps" else cue
    return RunContext(
        env=env, model=own, wrappers=wrappers, algorithm="ppo", overrides=QUICK, seed=1, silent=True, **more
    )


@pytest.fixture(scope="module", params=KINDS)
def trained(request, tmp_path_factory):
    with context(request.param, run_dir=tmp_path_factory.mktemp(request.param)) as rc:
        rc.train(2)
        yield rc


def steps_of(trajectory):
    """Actor, observation and action of every sub-step."""
    for i, key in enumerate(trajectory.step_keys):
        row = trajectory.step_keys[:i].count(key)
        observation = {name: values[row] for name, values in trajectory.observations[key].items()}
        action = {head: values[row] for head, values in trajectory.actions[key].items()}
        yield ActorID(key, int(trajectory.agent_ids[i])), observation, action


def test_asked_one_by_one_it_acts_as_in_a_rollout(trained):
    (episode,) = trained.rollout(1, 12, record=True, seed=5).episodes
    state = explained = trained.initial_state()
    for actor, observation, expected in steps_of(episode.trajectory):
        state = json.loads(json.dumps(state))
        told = trained.explain_action(observation, actor_id=actor, state=explained)
        action, state = trained.compute_action(observation, actor_id=actor, state=state)
        explained = told["state"]
        assert told["action"] == action
        assert unpacked(explained)[:4] == unpacked(state)[:4]
        for head, value in expected.items():
            assert np.array_equal(action[head], value)


def test_none_begins_an_episode_as_the_initial_state_does(trained):
    observation = next(steps_of(trained.rollout(1, 2, record=True, seed=5).episodes[0].trajectory))[1]
    first, again = (
        trained.compute_action(observation, state=state) for state in (None, trained.initial_state())
    )
    assert first == again
    assert first[1] != trained.initial_state()


def test_a_loaded_checkpoint_acts_with_the_same_states_and_another_one_refuses_them(trained, tmp_path):
    observation = next(steps_of(trained.rollout(1, 2, record=True, seed=5).episodes[0].trajectory))[1]
    _, state = trained.compute_action(observation, state=None)
    other = RunContext.load(trained.save(tmp_path / "a.ckpt"))
    assert other.compute_action(observation, state=state) == trained.compute_action(observation, state=state)
    checkpoint = Checkpoint.read(tmp_path / "a.ckpt")
    counters = {**checkpoint.identity["counters"], "env_steps": 0}
    another = replace(checkpoint, identity={**checkpoint.identity, "counters": counters})
    with pytest.raises(StateError, match=r"another checkpoint\. Begin a new episode with null"):
        load_agent(another).compute_action(observation, state=state)


def test_without_a_state_it_is_refused_and_told_how(trained):
    observation = next(steps_of(trained.rollout(1, 2, record=True, seed=5).episodes[0].trajectory))[1]
    for ask in (trained.compute_action, trained.explain_action, trained.policy.compute_action):
        with pytest.raises(StateError, match=r"give state null \(None\) with the first observation"):
            ask(observation)


def test_a_decision_is_replayed_with_the_state_it_was_made_in(trained):
    (episode,) = trained.rollout(1, 6, record=True, seed=5).episodes
    assert trained.replay(episode, seed=5).is_equal
    assert all(
        trained.replay(episode, step, seed=5).is_equal for step in range(len(episode.trajectory.step_keys))
    )
    (drawn,) = trained.rollout(1, 6, record=True, deterministic=False, seed=5).episodes
    last = len(drawn.trajectory.step_keys) - 1
    assert trained.replay(drawn, last, deterministic=False, seed=5).is_equal


def test_going_on_gives_the_bits_of_never_having_stopped(tmp_path):
    with context("both", run_dir=tmp_path / "once") as rc:
        expected = rc.train(4).content_sha256
    with context("both", run_dir=tmp_path / "twice") as rc:
        rc.train(2)
        assert rc.train(2).content_sha256 == expected
    with context("both", run_dir=tmp_path / "gone on") as rc:
        rc.train(2)
    with context("both", run_dir=tmp_path / "gone on") as rc:
        assert rc.train(2).content_sha256 == expected


def test_at_load_several_steps_in_a_row_are_checked(trained):
    """The first recorded observation gives what it gave; with other weights of the state the later ones do not."""
    checkpoint = Checkpoint.from_bytes(trained._held._checkpoint("best").to_bytes())
    load_agent(checkpoint)
    actions = next(name for name in checkpoint.tensors if name.startswith("recorded/0/action"))
    changed = checkpoint.tensors[actions].copy()
    changed[-1] += 1
    checkpoint.tensors[actions] = changed
    with pytest.raises(CheckpointError, match="does not act here as it did"):
        load_agent(checkpoint)


def unpacked(state):
    return msgspec.msgpack.decode(base64.urlsafe_b64decode(state))


def packed(parts):
    return base64.urlsafe_b64encode(msgspec.msgpack.encode(parts)).decode()


def after_one_step(rc):
    observation = next(steps_of(rc.rollout(1, 2, record=True, seed=5).episodes[0].trajectory))[1]
    return observation, rc.compute_action(observation, state=None)[1]


def change(place, value):
    def changed(parts):
        for step in place[:-1]:
            parts = parts[step]
        parts[place[-1]] = value

    return changed


NAN = np.full(16, np.nan, np.float32).tobytes()
DAMAGED = {
    "another format": change([0], 99),
    "another checkpoint": change([1], b"x" * 16),
    "no list": change([2], {}),
    "too short": change([2, 0, 2], b"1234"),
    "not finite": change([2, 0, 2], NAN),
    "no such actor": change([2, 0, 0], "nobody"),
    "a wrapper too many": lambda parts: parts[3].append(None),
    "a further part": lambda parts: parts.append(0),
    "infinite": change([2, 0, 2], np.full(16, -np.inf, np.float32).tobytes()),
    "an actor twice": lambda parts: parts[2].append(parts[2][0]),
    "no part of the policy": lambda parts: parts[2].clear(),
}


OF_THE_POLICY = {
    "too short",
    "not finite",
    "no such actor",
    "infinite",
    "an actor twice",
    "no part of the policy",
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_state_that_somebody_changed_is_refused(trained, name):
    observation, state = after_one_step(trained)
    parts = unpacked(state)
    if not parts[2] and name in OF_THE_POLICY:
        pytest.skip("a stack of observations alone: its state has no part of the policy to change")
    if name == "no part of the policy" and not parts[3]:
        pytest.skip("a policy alone: emptied, its state is the one of an episode that begins")
    DAMAGED[name](parts)
    with pytest.raises((StateError, ValueError), match=r"null|There is no sub-step"):
        trained.compute_action(observation, state=packed(parts))


@pytest.mark.parametrize("state", [5, [1], {"a": 1}, "", "%%%", "AAAA", "x" * (2**24 + 1), True, "gqE"])
def test_what_is_no_state_at_all_is_refused(trained, state):
    observation, _ = after_one_step(trained)
    with pytest.raises(StateError, match="Give null to begin an episode"):
        trained.compute_action(observation, state=state)


def array(values, dtype="<f4", shape=None):
    values = np.asarray(values, dtype)
    inner = msgspec.msgpack.encode([dtype, list(values.shape if shape is None else shape), values.tobytes()])
    return msgspec.msgpack.Ext(1, inner)


WRONG_STACKS = {
    "other shape": {(0, "observation"): array([1, 2, 3])},
    "too long a past": {(0, "observation"): array([[1, 2]] * 3)},
    "no past": {(0, "observation"): array([[1, 2]] * 0)},
    "other kind": {(0, "observation"): array([[1, 2]], "<f8")},
    "no array": {(0, "observation"): [[1.0, 2.0]]},
    "NaN": {(0, "observation"): array([[1, np.nan]])},
    "infinite": {(0, "observation"): array([[1, -np.inf]])},
    "another name": {(0, "other"): array([[1, 2]])},
    "objects": {
        (0, "observation"): msgspec.msgpack.Ext(1, msgspec.msgpack.encode(["|O8", [1], b"12345678"]))
    },
    "no such size": {(0, "observation"): array([[1, 2]], shape=[-1, 2**40])},
    "another extension": {(0, "observation"): msgspec.msgpack.Ext(7, b"")},
    "no dict": [1],
}


@pytest.mark.parametrize("name", WRONG_STACKS)
def test_what_a_wrapper_never_carries_is_refused(name):
    wrapper = ObservationStackWrapper(n_stack=3)
    with RunContext(env=cue, wrappers=[wrapper], overrides=QUICK, seed=1, silent=True) as rc:
        observation, state = after_one_step(rc)
        parts = unpacked(state)
        parts[3] = [{(0, "observation"): array([[1, 2], [3, 4]])}]
        rc.compute_action(observation, state=packed(parts))
        parts[3] = [WRONG_STACKS[name]]
        with pytest.raises(StateError, match="Give null to begin an episode"):
            rc.compute_action(observation, state=packed(parts))


def test_who_carries_nothing_takes_null_and_no_other_state():
    with RunContext(env=cue, overrides=QUICK, seed=1, silent=True) as rc:
        observation = np.zeros(2, np.float32)
        assert rc.initial_state() is None
        assert rc.compute_action(observation, state=None) == (rc.compute_action(observation), None)
        with pytest.raises(StateError, match="carries no state: leave state out"):
            rc.compute_action(observation, state="AAAA")


def forged(state, numbers):
    """A state whose policy carries these numbers."""
    parts = unpacked(state)
    parts[2][0][2] = np.asarray(numbers, np.float32).tobytes()
    return packed(parts)


@pytest.mark.parametrize(("block", "n_h"), [("lstm", 4), ("gru", 4)])
def test_numbers_that_no_recurrent_block_carries_are_refused(block, n_h):
    network = {"recurrence.block_type": block, "recurrence.block_params.hidden_size": 4}
    settings = {f"model.model_builder.modality_config.{name}": value for name, value in network.items()}
    overrides = {"env.name": "CartPole-v1"} | settings
    chosen = {"model": "vector_obs_rnn", "critic": "template_state", "algorithm": "ppo"}
    with RunContext(**chosen, overrides=overrides, seed=1, silent=True) as rc:
        observation = [0.1, 0.2, 0.03, 0.4]
        _, state = rc.compute_action(observation, state=None)
        carried = np.frombuffer(unpacked(state)[2][0][2], np.float32)
        for place in range(len(carried)):
            taken, beyond = (1.0, 1.1) if place < n_h else (1e6, 1e8)
            for ask in (rc.compute_action, rc.explain_action):
                numbers = carried.copy()
                numbers[place] = taken
                ask(observation, state=forged(state, numbers))
                numbers[place] = -beyond
                with pytest.raises(StateError, match="no network of this policy carries"):
                    ask(observation, state=forged(state, numbers))


class Sum(Gru):
    """Carries numbers of any size, and answers with what it carries."""

    def forward(self, seen):
        given = super().forward(seen)
        state = seen["state"] * 10
        return given | {"action": given["action"] + state[:, :1], "state": state / self.shrinks}


@pytest.mark.parametrize("shrinks", [1.0, 1e30])
def test_a_state_from_which_nothing_finite_comes_is_refused_with_the_way_out(shrinks):
    """Be it that the next state is not finite, or what the action is chosen by."""
    Sum.shrinks = shrinks
    with RunContext(
        env=cue, model=model(Sum, Gru), algorithm="ppo", overrides=QUICK, seed=1, silent=True
    ) as rc:
        observation, state = after_one_step(rc)
        rc.compute_action(observation, state=forged(state, np.full(8, 1e30)))
        for ask in (rc.compute_action, rc.explain_action):
            with pytest.raises(StateError, match="no finite numbers for this state"):
                ask(observation, state=forged(state, np.full(8, 3e38)))


def test_the_value_of_a_critic_with_a_state_is_told_where_all_of_the_episode_was_explained():
    with context("recurrent") as rc:
        agent = rc.policy
        critic = agent.critic().by_key[0]
        state, own = None, np.zeros((1, critic.state_width), np.float32)
        for _, observation, _ in steps_of(rc.rollout(1, 8, record=True, seed=5).episodes[0].trajectory):
            told = agent.explain(observation, state=state)
            output = critic({"observation": observation["observation"][None], "state": own})
            assert told["value"] == pytest.approx(float(output[0, 0]), rel=1e-6)
            own, state = output[:, 1:], told["state"]
            _, unjudged = agent.compute_action(observation, state=state)
        assert own.any()
        assert agent.explain(observation, state=unjudged)["value"] is None
        assert agent.explain(observation, state=None)["value"] is not None


@pytest.mark.parametrize(
    "forge",
    [
        change([4, 0, 2], np.full(8, np.inf, np.float32).tobytes()),
        change([4, 0, 2], b"1234"),
        lambda parts: parts[4].append(parts[4][0]),
        lambda parts: parts[2].clear(),
    ],
)
def test_what_a_critic_never_carried_is_refused(forge):
    with context("recurrent") as rc:
        observation, _ = after_one_step(rc)
        parts = unpacked(rc.explain_action(observation, state=None)["state"])
        forge(parts)
        with pytest.raises(StateError, match="Give null to begin an episode"):
            rc.explain_action(observation, state=packed(parts))
