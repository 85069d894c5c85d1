"""Networks with a state as they learn: whole sequences against plain autograd of the unrolled network."""

import warnings
from functools import partial

import numpy as np
import pytest
import torch

from maze_core.envs.per_env import PerEnvVectorEnv
from maze_core.errors import InvalidSpecificationError
from maze_core.models.config import FlattenConcatPolicyNetConfig, FlattenConcatStateValueNetConfig
from maze_core.models.memory import Memory, Sequences
from maze_core.rollout.collector import Collector
from maze_core.rollout.demonstrations import demonstrations
from maze_core.rollout.episodes import run_episodes
from maze_core.trainers.a2c_config import A2CAlgorithmConfig
from maze_core.trainers.bc_config import BCAlgorithmConfig
from maze_core.trainers.dqn_config import DQNAlgorithmConfig
from maze_core.trainers.impala_config import ImpalaAlgorithmConfig
from maze_core.trainers.learner import CRITIC_STATE
from maze_core.trainers.on_policy import log_probs_of, minibatches, prepare
from maze_core.trainers.ppo_config import PPOAlgorithmConfig
from maze_core.trainers.remembered import remembered
from maze_core.trainers.sac_config import SACAlgorithmConfig
from maze_core.trainers.td3_config import TD3AlgorithmConfig
from tests.maze_core.envs.actors_env import CrowdEnv
from tests.maze_core.envs.structured_env import make_boxes
from tests.maze_core.recurrent import WIDTH, CueEnv, Gru, Lstm, WholeGru, model
from tests.maze_core.trainers.small_worlds import (
    LimitedTwoAgentsEnv,
    OneNumberEnv,
    TwoAgentsEnv,
    flat,
    learner_of,
    parts,
    trainer_of,
)

N_TICKS = 9
DENSE = FlattenConcatPolicyNetConfig(hidden_units=[4])
DENSE_CRITIC = FlattenConcatStateValueNetConfig(hidden_units=[4])


def played(world=CueEnv, *, policy=Gru, critic=Gru, n_envs=3, n_rollouts=2, bptt_length=None):
    """The last of some rollouts, its batch, and who acted; the first ones leave states behind."""
    made = parts(world, n_envs=n_envs, model=model(policy, critic))
    collector = Collector(made.env, N_TICKS, np.random.default_rng(0))
    collector.reset(range(n_envs))
    learner, step = learner_of(made.policy, made.critic)
    memory = Memory(made.critic.state_widths, n_envs)
    for _ in range(n_rollouts):
        rollout = collector.collect(made.policy)
        with learner.torch(keeps_gradients=False):
            batch, _ = prepare(rollout, learner, gamma=0.9, lam=0.8, memory=memory, bptt_length=bptt_length)
    return rollout, batch, learner, step, made


def unrolled(network, observations, state, begins):
    """Outputs ``[T][n, …]`` of a module, by a loop that anybody would write."""
    outputs = []
    for t, begin in enumerate(begins):
        state = torch.where(torch.as_tensor(begin)[:, None], torch.zeros_like(state), state)
        given = network.module(
            {**{k: torch.as_tensor(v[t]) for k, v in observations.items()}, "state": state}
        )
        state = given["state"]
        outputs.append(given)
    return outputs, state


@pytest.mark.parametrize("net", [Gru, Lstm, WholeGru])
@pytest.mark.parametrize("bptt_length", [None, 4, 1])
def test_gradients_are_those_of_the_unrolled_network(net, bptt_length):
    """Pieces begin with the state that the rollout had there, and nothing flows back into the piece before."""
    rollout, batch, learner, step, made = played(policy=net, critic=net, bptt_length=bptt_length)
    samples = batch[0]
    rng = np.random.default_rng(1)
    d_log_probs, d_entropy, d_values = rng.standard_normal((3, len(samples))).astype(np.float32)
    with learner.torch(keeps_gradients=True):
        step.zero()
        found = learner.evaluate(
            0, samples.observations, samples.actions, samples.agent_id, samples.sequences
        )
        found.backward(d_log_probs, d_entropy, d_values)
    ours = step.gradient.copy()

    n_envs = rollout.reward.shape[1]
    ended = rollout.terminated | rollout.truncated
    begins = np.concatenate((rollout.flat_step[:1] == 0, ended[:-1]))
    seen = {"observation": rollout.steps[0].observations["observation"]}
    actions = torch.as_tensor(rollout.steps[0].actions["action"])
    states = {
        "policy": rollout.steps[0].observations["state"],
        "critic": samples.observations[CRITIC_STATE].reshape(N_TICKS, n_envs, -1),
    }
    networks = {"policy": made.policy.steps[0].networks[0].logits, "critic": made.critic.by_key[0]}
    loss = torch.zeros(())
    weights = [torch.as_tensor(x.reshape(N_TICKS, n_envs)) for x in (d_log_probs, d_entropy, d_values)]
    for name, network in networks.items():
        for parameter in network.module.parameters():
            parameter.grad = None
        length = bptt_length or N_TICKS
        for start in range(0, N_TICKS, length):
            piece = slice(start, start + length)
            shown = {key: x[piece] for key, x in seen.items()}
            first = torch.as_tensor(states[name][start].copy())
            outputs, _ = unrolled(network, shown, first, begins[piece])
            for t, given in enumerate(outputs, start):
                if name == "critic":
                    loss = loss + (given["value"][:, 0] * weights[2][t]).sum()
                else:
                    chosen = torch.distributions.Categorical(logits=given["action"])
                    loss = loss + (chosen.log_prob(actions[t]) * weights[0][t]).sum()
                    loss = loss + (chosen.entropy() * weights[1][t]).sum()
    loss.backward()
    theirs = [p.grad.numpy().ravel() for network in networks.values() for p in network.module.parameters()]
    np.testing.assert_allclose(ours, np.concatenate(theirs), rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize(
    "world", [CueEnv, partial(CueEnv, 50), partial(CueEnv, 50, 4), make_boxes, TwoAgentsEnv]
)
def test_before_the_update_the_sequences_say_what_the_rollout_said(world):
    """Whole sequences, and each row by the state that it had: log-probabilities, values, and no ratio but 1."""
    rollout, batch, learner, _, _ = played(world, policy=Gru, critic=Gru, bptt_length=None)
    with learner.torch(keeps_gradients=False):
        by_rows = log_probs_of(rollout, learner)
    for key, samples in batch.items():
        active = rollout.steps[key].active
        np.testing.assert_allclose(samples.log_probs, by_rows[active], rtol=1e-4, atol=1e-5)
        with learner.torch(keeps_gradients=False):
            rows = learner.evaluate(key, samples.observations, samples.actions, samples.agent_id)
        np.testing.assert_allclose(samples.values, rows.values, rtol=1e-4, atol=1e-5)


def test_states_go_on_from_rollout_to_rollout_and_begin_anew_with_every_episode():
    rollout, batch, *_ = played(partial(CueEnv, 7))
    begins = np.concatenate((rollout.flat_step[:1] == 0, (rollout.terminated | rollout.truncated)[:-1]))
    for states in (rollout.steps[0].observations["state"], batch[0].observations[CRITIC_STATE]):
        carried = np.abs(states.reshape(*begins.shape, -1)).sum(-1)
        assert not begins[0].any()
        assert begins.any()
        assert ((carried == 0) == begins).all()


def test_a_time_limit_bootstraps_with_the_state_of_the_final_observation():
    rollout, batch, _, _, made = played(partial(CueEnv, 50, 4), n_envs=2, n_rollouts=1)
    final = rollout.final[0]
    states = batch[0].observations[CRITIC_STATE].reshape(N_TICKS, 2, -1)
    critic = made.critic.by_key[0]
    returns = batch[0].returns.reshape(N_TICKS, 2)
    assert final.t.tolist() == [3, 3, 7, 7]
    for i, (t, b) in enumerate(zip(final.t, final.b, strict=True)):
        seen = rollout.steps[0].observations["observation"][t, b]
        with torch.no_grad():
            after = critic.module(
                {"observation": torch.tensor(seen[None]), "state": torch.tensor(states[t, b][None])}
            )
            shown = torch.tensor(final.observations["observation"][i : i + 1])
            expected = critic.module({"observation": shown, "state": after["state"]})["value"].item()
        assert returns[t, b] == pytest.approx(0.9 * expected, rel=1e-4, abs=1e-6)


def test_a_time_limit_bootstraps_with_the_state_of_the_agent_who_sees_the_final_observation():
    """By a loop that carries a state for each agent."""
    rollout, batch, _, _, made = played(LimitedTwoAgentsEnv, n_envs=2, n_rollouts=1)
    final, critic = rollout.final[0], made.critic.by_key[0]
    returns = batch[0].returns.reshape(N_TICKS, 2)
    states = np.zeros((2, WIDTH), np.float32)
    for t in range(5):
        seen, agent = rollout.steps[0].observations["observation"][t, :1], rollout.agent_id[t, 0]
        states[agent] = critic({"observation": seen, "state": states[agent : agent + 1]})[0, 1:]
    assert (rollout.agent_id[4, 0], final.t[0], final.b[0], final.agent_id[0]) == (0, 4, 0, 1)
    worth = critic({"observation": final.observations["observation"][:1], "state": states[1:]})[0, 0]
    assert returns[4, 0] == pytest.approx(rollout.reward[4, 0] + 0.9 * worth, rel=1e-5)


def test_the_last_step_of_a_rollout_bootstraps_with_the_state_behind_it_which_the_next_one_begins_with():
    first, of_first, _, _, made = played(partial(CueEnv, 50), n_envs=2, n_rollouts=1)
    _, of_second, *_ = played(partial(CueEnv, 50), n_envs=2, n_rollouts=2)
    begin = of_second[0].observations[CRITIC_STATE][:2]
    with torch.no_grad():
        shown = torch.tensor(first.last_observations[0]["observation"])
        values = made.critic.by_key[0].module({"observation": shown, "state": torch.tensor(begin)})["value"]
    np.testing.assert_allclose(of_first[0].returns[-2:], 0.9 * values[:, 0].numpy(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("n_ticks", [1, 2])
def test_after_a_rollout_every_environment_is_valued_at_the_sub_step_where_it_stands(n_ticks):
    made = parts(make_boxes, n_envs=3, model=model())
    collector = Collector(made.env, n_ticks, np.random.default_rng(0))
    collector.reset(range(3))
    rollout, memory = collector.collect(made.policy), Memory(made.critic.state_widths, 3)
    last, _, _ = remembered(rollout, made.critic, memory)
    expected = np.full(3, np.nan, np.float32)
    for key, active in rollout.last_active.items():
        if (b := np.flatnonzero(active)).size:
            seen = {name: array[b] for name, array in rollout.last_observations[key].items()}
            state = memory.of(key, rollout.last_agent_id[b], b)
            expected[b] = made.critic.by_key[key]({**seen, "state": state})[:, 0]
    assert last.tolist() == expected.tolist()


@pytest.mark.parametrize("world", [CueEnv, make_boxes, TwoAgentsEnv])
@pytest.mark.parametrize(("bptt_length", "size"), [(None, 6), (2, 5), (4, 1000)])
def test_minibatches_have_whole_sequences_and_every_row_once(world, bptt_length, size):
    _, batch, *_ = played(world, bptt_length=bptt_length)
    n_rows = {key: len(samples) for key, samples in batch.items()}
    for key, samples in batch.items():
        samples.values = np.arange(n_rows[key], dtype=np.float32)  # to know the rows by
    seen = {key: [] for key in batch}
    for part in minibatches(batch, size, np.random.default_rng(3)):
        for key, rows in part.items():
            seen[key] += rows.values.tolist()
            whole, mine = batch[key].sequences, rows.sequences
            named = {tuple(column[column >= 0]) for column in whole.rows.T}
            for column in mine.rows.T:
                numbers = rows.values[column[column >= 0]].astype(int)
                assert tuple(numbers) in named
    assert {key: sorted(rows) for key, rows in seen.items()} == {
        key: list(range(n)) for key, n in n_rows.items()
    }


def test_a_sequence_is_one_agent_in_one_environment_in_the_order_of_time():
    rollout, batch, *_ = played(TwoAgentsEnv, n_envs=2)
    record, sequences = rollout.steps[0], batch[0].sequences
    t, b = np.nonzero(record.active)
    agent = rollout.agent_id[t, b]
    for column in sequences.rows.T:
        rows = column[column >= 0]
        assert len({(b[i], agent[i]) for i in rows}) == 1
        assert (np.diff(t[rows]) > 0).all()


def test_sequences_of_some_rows_are_the_same_sequences_cut_where_a_row_is_left_out():
    sequences = Sequences(
        np.array([[0, 1, 2], [3, -1, 4], [5, -1, 6]]),
        np.array([[True, False, False], [False, False, True], [False, False, False]]),
    )
    own = sequences.of_rows(np.array([0, 2, 3, 4, 5, 6]))
    assert own.rows.tolist() == [[0, 1], [2, 3], [4, 5]]
    assert own.begins.tolist() == [[True, False], [False, True], [False, False]]
    cut = sequences.of_rows(np.array([0, 1, 2, 5, 6]))
    assert cut.rows.tolist() == [[0, 3, 1, 2, 4]]
    assert cut.begins.tolist() == [[True, False, False, False, False]]


def test_where_each_actor_is_paid_its_own_the_sequences_have_the_rows_that_are_learnt_from():
    """Of actions of which nothing is known yet there are no rows, and a sequence goes on behind them by its state."""
    rollout, batch, learner, _, _ = played(CrowdEnv, n_envs=3)
    known = rollout.turns.is_known
    assert not known.all()
    for key, samples in batch.items():
        rows = samples.sequences.rows
        assert sorted(rows[rows >= 0]) == list(range(len(samples)))
        assert len(samples) == np.count_nonzero(known & rollout.steps[key].active)
        with learner.torch(keeps_gradients=False):
            found = learner.evaluate(
                key, samples.observations, samples.actions, samples.agent_id, samples.sequences
            )
        np.testing.assert_allclose(found.log_probs, samples.log_probs, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found.values, samples.values, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("config", [PPOAlgorithmConfig, A2CAlgorithmConfig, ImpalaAlgorithmConfig])
@pytest.mark.parametrize("nets", [(WholeGru, Lstm), (Lstm, DENSE_CRITIC), (DENSE, Gru)])
def test_it_learns_with_a_state_in_policy_critic_or_both(config, nets):
    own = model(*nets)
    trainer = trainer_of(config(n_rollout_steps=6, lr=0.01, bptt_length=3), CueEnv, model=own, n_envs=2)
    before = flat(trainer.policy), flat(trainer.critic)
    for epoch in range(2):
        trainer.update(epoch=epoch, progress=0.0)
    assert all((flat(x) != y).any() for x, y in zip((trainer.policy, trainer.critic), before, strict=True))


@pytest.mark.parametrize("config", [PPOAlgorithmConfig, A2CAlgorithmConfig, ImpalaAlgorithmConfig])
def test_states_are_zero_again_once_the_environments_are_reset(config):
    trainer = trainer_of(config(n_rollout_steps=4), partial(CueEnv, 50), model=model())
    trainer.update(epoch=0, progress=0.0)
    trainer.reset_envs([0, 1])
    rollout = trainer.collector.collect(trainer.policy)
    assert not rollout.steps[0].observations["state"][0].any()
    assert not trainer._memory.of(0, np.zeros(2, int), np.arange(2)).any()


class Named:
    """In one environment: the action that the sign shown in the first step names."""

    needs_noise = False

    def act(self, step_key, observations, **_):
        sign = observations["observation"][0, 0]
        self.action = int(sign > 0) if sign else self.action
        return {"action": np.array([self.action])}


def test_cloning_learns_whole_episodes_from_zeros_on():
    """In each of two episodes one action is right in all steps, and nothing but the first observation tells which."""
    played = [run_episodes(PerEnvVectorEnv([CueEnv]), Named(), [seed], record=True)[0] for seed in range(8)]
    assert len({episode.trajectory.actions[0]["action"][0] for episode in played}) == 2
    config = BCAlgorithmConfig(lr=0.03, lr_schedule="constant", batch_size=12, validation_percentage=25)
    made = parts(CueEnv, model=model(Lstm, Lstm), needs=config.model_needs)
    episodes = {str(i): episode.trajectory for i, episode in enumerate(played)}
    made.demonstrations = demonstrations(episodes, made.env, [], made.policy)
    trainer = config.build(made)
    steps = trainer.training[0]
    assert sorted(steps.sequences.lengths.tolist()) == [3] * 6
    by_row = steps.sequences.rows.T
    shown = steps.observations["observation"][by_row]
    acted = steps.actions["action"][by_row]
    network, state = made.policy.steps[0].networks[0].logits, np.zeros((6, 16), np.float32)
    expected = np.empty((6, 3), np.float32)
    for t in range(3):
        output = network({"observation": shown[:, t], "state": state})
        state, logits = output[:, 2:], torch.tensor(output[:, :2])
        expected[:, t] = torch.log_softmax(logits, 1)[np.arange(6), acted[:, t]]
    np.testing.assert_allclose(trainer._log_probs(0, steps)[by_row], expected, rtol=1e-4, atol=1e-5)
    for _ in range(60):
        metrics = trainer.update(epoch=0, progress=0.0).metrics
    assert metrics["validation/loss"] < 0.1


@pytest.mark.parametrize(("length", "says"), [(None, True), (6, True), (5, False)])
def test_sequences_that_are_longer_than_a_minibatch_are_told_once_with_the_way_out(length, says):
    config = PPOAlgorithmConfig(n_rollout_steps=9, batch_size=5, bptt_length=length)
    trainer = trainer_of(config, CueEnv, model=model())
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for _ in range(2):
            trainer.update(epoch=0, progress=0.0)
    texts = [str(warning.message) for warning in told]
    assert len(texts) == says
    assert all(f"up to {length or 9} steps" in text and "bptt_length" in text for text in texts)


def test_asynchronous_acting_refuses_a_state():
    with pytest.raises(InvalidSpecificationError, match=r"algorithm\.mode: .*take lockstep"):
        trainer_of(ImpalaAlgorithmConfig(mode="asynchronous"), CueEnv, model=model())


@pytest.mark.parametrize("config", [DQNAlgorithmConfig, SACAlgorithmConfig, TD3AlgorithmConfig])
def test_what_learns_from_replay_refuses_a_network_with_a_state_and_says_what_does_not(config):
    world = OneNumberEnv if config is TD3AlgorithmConfig else CueEnv
    with pytest.raises(InvalidSpecificationError, match=r"take ppo, a2c.*ObservationStackWrapper") as caught:
        parts(world, model=model(), needs=config().model_needs)
    assert caught.value.problems[0].path == "model.policy.networks.0"
