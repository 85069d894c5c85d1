"""Acting: shared memory with the parameters, descriptions with equal bits, noise by row, agents, the env's edge."""

import json

import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st

from maze_core.errors import CheckpointError
from maze_core.models.acting import ActingPolicy, to_env_actions
from maze_core.models.config import (
    CustomModelConfig,
    DistributionRule,
    FlattenConcatPolicyNetConfig,
    GaussianArgs,
    ProbabilisticPolicyComposerConfig,
)
from tests.maze_core.models.autograd import log_probs_and_entropy, output

OBSERVATIONS = {
    "pick": spaces.Dict({"scene": spaces.Box(-1, 1, (5,)), "choice_mask": spaces.MultiBinary(3)}),
    1: spaces.Dict({"scene": spaces.Box(-1, 1, (2, 2)), "room": spaces.Discrete(3)}),
}
ACTIONS = {
    "pick": spaces.Dict({"choice": spaces.Discrete(3, start=1), "arm": spaces.Box(-1, 1, (2,))}),
    1: spaces.Dict(
        {"gears": spaces.MultiDiscrete([2, 3]), "lamps": spaces.MultiBinary(2), "hand": spaces.Box(-1, 1, ())}
    ),
}
AGENTS = {"pick": 3, 1: 1}
KEYS = list(OBSERVATIONS)


def policy(seed: int = 0, *, separate: bool = False) -> ActingPolicy:
    composer = ProbabilisticPolicyComposerConfig(
        networks=[FlattenConcatPolicyNetConfig(hidden_units=(16, 8))],
        substeps_with_separate_agent_nets=["pick"] if separate else [],
    )
    rule = DistributionRule(
        action_head="hand", distribution="diagonal_gaussian", args=GaussianArgs(state_dependent_std=True)
    )
    config = CustomModelConfig(policy=composer, critic=None, distribution_mapper_config=(rule,))
    made = config.build(OBSERVATIONS, ACTIONS, AGENTS, generator_seed=seed).policy
    rng = np.random.default_rng(seed)
    for (
        parameter
    ) in made.parameters.values():  # the initial logits are so small that every action is equally likely
        parameter += 0.3 * rng.standard_normal(parameter.shape, np.float32)
    return made


def samples(key, n: int, seed: int = 0) -> dict[str, np.ndarray]:
    space = OBSERVATIONS[key]
    space.seed(seed)
    rows = [space.sample() for _ in range(n)]
    seen = {name: np.stack([np.asarray(row[name]) for row in rows]) for name in space}
    if "choice_mask" in seen:
        seen["choice_mask"][:, 0] = 1
    return seen


def assert_same_bits(left: dict, right: dict) -> None:
    assert left.keys() == right.keys()
    for head in left:
        assert left[head].dtype == right[head].dtype
        assert left[head].tobytes() == right[head].tobytes()


@pytest.mark.parametrize("separate", [False, True])
@pytest.mark.parametrize("key", KEYS)
def test_actions_lie_in_their_space_but_for_the_bounds_of_numbers(key, separate: bool) -> None:
    acting, seen = policy(separate=separate), samples(key, 30)
    noise = acting.noise(key, np.random.default_rng(0), 30)
    agents = np.arange(30) % AGENTS[key]
    raw = acting.act(key, seen, deterministic=False, noise=noise, agent_id=agents)
    fitted = to_env_actions(raw, ACTIONS[key])
    for row in range(30):
        assert ACTIONS[key].contains({head: np.asarray(values[row]) for head, values in fitted.items()})
    if key == "pick":
        assert np.abs(raw["arm"]).max() > 1
        assert np.all(seen["choice_mask"][np.arange(30), raw["choice"] - 1] == 1)


@pytest.mark.parametrize("separate", [False, True])
@given(rows=st.lists(st.integers(0, 19), min_size=1, max_size=20), key=st.sampled_from(KEYS))
def test_a_row_acts_by_its_own_observation_noise_and_agent_alone(
    separate: bool, rows: list[int], key
) -> None:
    acting, seen = policy(separate=separate), samples(key, 20)
    noise = acting.noise(key, np.random.default_rng(1), 20)
    agents = np.arange(20) % AGENTS[key]
    everything = acting.act(key, seen, deterministic=False, noise=noise, agent_id=agents)
    some = acting.act(
        key,
        {name: values[rows] for name, values in seen.items()},
        deterministic=False,
        noise=noise[rows],
        agent_id=agents[rows],
    )
    assert_same_bits(some, {head: values[rows] for head, values in everything.items()})


@pytest.mark.parametrize("key", KEYS)
def test_rows_that_wait_for_another_substep_disturb_nothing(key) -> None:
    """Their observations are left-overs, and their agent may be one that this sub-step does not have."""
    acting, seen = policy(separate=True), samples(key, 6)
    noise = acting.noise(key, np.random.default_rng(1), 6)
    agents = np.zeros(6, np.int64)
    expected = acting.act(key, seen, deterministic=False, noise=noise, agent_id=agents)
    for values in seen.values():
        values[3:] = 0 if values.dtype.kind == "f" else 77
    agents[3:] = [5, -1, 77]
    found = acting.act(key, seen, deterministic=False, noise=noise, agent_id=agents)
    assert_same_bits(
        {head: values[:3] for head, values in found.items()},
        {head: values[:3] for head, values in expected.items()},
    )


@pytest.mark.parametrize("key", KEYS)
def test_noise_by_row_is_noise_at_once(key) -> None:
    acting = policy()
    at_once = acting.noise(key, np.random.default_rng(5), 6)
    rng = np.random.default_rng(5)
    by_row = np.concatenate([acting.noise(key, rng, 1) for _ in range(6)])
    assert np.array_equal(at_once, by_row)
    assert at_once.shape == (6, {"pick": 3, 1: 5}[key])


def test_deterministic_actions_need_no_noise_and_ignore_it() -> None:
    acting, seen = policy(), samples("pick", 4)
    modes = acting.act("pick", seen, deterministic=True, noise=None)
    assert_same_bits(acting.act("pick", seen, deterministic=True, noise=np.zeros((4, 3))), modes)
    with pytest.raises(ValueError, match="needs noise"):
        acting.act("pick", seen, deterministic=False, noise=None)


def test_updates_in_place_are_seen_at_once() -> None:
    made = policy()
    acting, seen = made, samples("pick", 4)
    before = acting.act("pick", seen, deterministic=True, noise=None)
    for parameter in made.parameters.values():
        parameter *= -1.5
    after = acting.act("pick", seen, deterministic=True, noise=None)
    assert not np.array_equal(before["arm"], after["arm"])


@pytest.mark.parametrize("key", KEYS)
def test_a_policy_that_has_acted_acts_by_the_parameters_that_it_is_bound_to(key) -> None:
    made, seen = policy(separate=True), samples(key, 4)
    before = made.act(key, seen, deterministic=True, noise=None)
    moved = {f"there/{name}": array.copy() for name, array in made.parameters.items()}
    made.bind(moved, "there/")
    assert_same_bits(made.act(key, seen, deterministic=True, noise=None), before)
    for array in moved.values():
        array *= -2.0
    after = made.act(key, seen, deterministic=True, noise=None)
    assert not all(np.array_equal(before[head], after[head]) for head in before)
    with pytest.raises(CheckpointError, match=r"hidden_0_weight should be float32 .*found nothing"):
        made.bind({name: array for name, array in moved.items() if not name.endswith("_weight")}, "there/")


def test_actions_are_the_callers_to_keep() -> None:
    acting = policy()
    first = acting.act("pick", samples("pick", 8, seed=1), deterministic=True, noise=None)
    kept = {head: values.copy() for head, values in first.items()}
    acting.act("pick", samples("pick", 8, seed=2), deterministic=True, noise=None)
    assert_same_bits(first, kept)


@pytest.mark.parametrize("separate", [False, True])
def test_what_is_sampled_has_the_log_probability_that_torch_gives(separate: bool) -> None:
    """exp(log p) of a discrete action is how often it is sampled, agent by agent."""
    made = policy(separate=separate)
    n = 6000
    one = samples("pick", 3)
    one["choice_mask"][:] = [[1, 0, 1], [1, 1, 1], [1, 1, 0]]
    seen = {name: values.repeat(n, 0) for name, values in one.items()}
    agents = np.arange(3).repeat(n)
    acting = made
    noise = acting.noise("pick", np.random.default_rng(0), 3 * n)
    drawn = acting.act("pick", seen, deterministic=False, noise=noise, agent_id=agents)
    frequencies = np.stack([np.bincount(part - 1, minlength=3) / n for part in drawn["choice"].reshape(3, n)])
    for choice in (1, 2, 3):
        log_prob, _ = log_probs_and_entropy(
            made, "pick", one, {"choice": np.full(3, choice), "arm": np.zeros((3, 2))}, np.arange(3)
        )
        arm_alone = _log_density_of_zero_arm(made, one, separate=separate)
        np.testing.assert_allclose(
            (log_prob - arm_alone).exp().detach(), frequencies[:, choice - 1], atol=0.03
        )


def _log_density_of_zero_arm(made: ActingPolicy, seen: dict, *, separate: bool) -> torch.Tensor:
    rows = []
    for i in range(3):
        agent = made.steps["pick"].networks[i if separate else 0]
        one = {name: values[i : i + 1] for name, values in seen.items()}
        mean = output(agent.logits, one)[:, :2]  # heads stand in alphabetical order: arm, choice
        rows.append(
            torch.distributions.Normal(mean, torch.from_numpy(agent.parameter).exp())
            .log_prob(torch.zeros(1, 2))
            .sum(1)
        )
    return torch.cat(rows)


@pytest.mark.parametrize("separate", [False, True])
def test_a_description_gives_the_same_bits(separate: bool) -> None:
    made = policy(separate=separate)
    state = made.state_dict()
    assert list(state) == list(made.parameters)
    restored = ActingPolicy.from_description(
        json.loads(json.dumps(made.describe())), {**state, "optimizer": np.zeros(3)}
    )
    assert not restored.needs_torch
    for key in KEYS:
        seen, rng = samples(key, 11), np.random.default_rng(3)
        noise = restored.noise(key, rng, 11)
        agents = np.arange(11) % AGENTS[key]
        left = restored.act(key, seen, deterministic=False, noise=noise, agent_id=agents)
        right = made.act(key, seen, deterministic=False, noise=noise, agent_id=agents)
        assert_same_bits(left, right)


def test_a_damaged_description_is_refused() -> None:
    tree, arrays = policy().describe(), policy().parameters
    step = tree["steps"][0]
    head, (network,) = step["heads"][0], step["networks"]
    read = network["program"][0]
    heads = [{}, {**head, "kind": "os.system"}, {**head, "surplus": 1}, {"kind": "categorical"}]
    programs = [{**read, "op": "exec"}, {"op": "flatten"}, {**read, "surplus": 1}, {**read, "width": "8"}]
    for damaged in (
        *({**tree, "steps": [{**step, "heads": [wrong]}]} for wrong in heads),
        *({**tree, "steps": [{**step, "networks": [{**network, "program": [wrong]}]}]} for wrong in programs),
        {},
        {**tree, "format": 99},
        {**tree, "kind": "module"},
        {**tree, "steps": [{**step, "heads": step["heads"][:1]}]},
        {**tree, "steps": [{**step, "networks": []}]},
        {**tree, "steps": [{"step_key": "pick"}]},
        {**tree, "steps": [{**step, "networks": [{"prefix": "steps.0.agents.0.", "program": None}]}]},
    ):
        with pytest.raises(CheckpointError):
            ActingPolicy.from_description(damaged, arrays)
    without = {name: values for name, values in arrays.items() if not name.endswith("log_std")}
    with pytest.raises(CheckpointError):
        ActingPolicy.from_description(tree, without)


def test_the_edge_clips_rounds_and_casts_but_leaves_the_sample_alone() -> None:
    space = spaces.Dict(
        {
            "arm": spaces.Box(np.float32([-1, -np.inf]), np.float32([1, np.inf])),
            "level": spaces.Box(0, 10, (1,), np.uint8),
            "door": spaces.Discrete(3),
            "lamps": spaces.MultiBinary(2),
        }
    )
    raw = {
        "arm": np.array([[2.5, 9.0], [-3.0, -9.0]], np.float32),
        "level": np.array([[10.7], [2.5]], np.float32),
        "door": np.array([2, 0]),
        "lamps": np.array([[1, 0], [1, 1]], np.int8),
    }
    fitted = to_env_actions(raw, space)
    assert fitted["arm"].tolist() == [[1.0, 9.0], [-1.0, -9.0]]
    assert fitted["level"].tolist() == [[10], [2]]
    assert all(fitted[head].dtype == space[head].dtype for head in space)
    assert raw["arm"][0, 0] == 2.5


def test_the_edge_takes_a_single_action_too() -> None:
    space = spaces.Dict({"arm": spaces.Box(-1, 1, (2,))})
    assert to_env_actions({"arm": np.array([3.0, 0.5])}, space)["arm"].tolist() == [1.0, 0.5]
