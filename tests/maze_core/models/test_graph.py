"""Programs: the numpy forward against torch, equal bits in every batch, and the JSON form."""

import json
import threading

import msgspec
import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st

from maze_core.errors import CheckpointError
from maze_core.models.activations import ACTIVATIONS
from maze_core.models.builders import flatten_concat, from_template, initial_parameters
from maze_core.models.config import (
    BlockConfig,
    ConcatModelBuilderConfig,
    DenseBlockParams,
    ModalityConfig,
)
from maze_core.models.graph import Concat, GraphNetwork, OneHot, Program
from tests.maze_core.models import autograd

INPUTS = {
    "position": spaces.Box(-1, 1, (2, 3), np.float64),
    "pixel": spaces.Box(0, 255, (2,), np.uint8),
    "room": spaces.Discrete(4, start=-1),
    "keys": spaces.MultiDiscrete([2, 3]),
    "lamps": spaces.MultiBinary(3),
}
SPACE = spaces.Dict(INPUTS)


def network(program: Program, seed: int = 0) -> GraphNetwork:
    rng = np.random.default_rng(seed)
    made = GraphNetwork(program, initial_parameters(program, rng))
    for parameter in made.parameters.values():
        parameter += 0.1 * rng.standard_normal(parameter.shape, np.float32)
    return made


def samples(n: int, seed: int = 0) -> dict[str, np.ndarray]:
    SPACE.seed(seed)
    rows = [SPACE.sample() for _ in range(n)]
    return {name: np.stack([np.asarray(row[name]) for row in rows]) for name in INPUTS}


def dense(*hidden: int, non_lin: str = "tanh") -> DenseBlockParams:
    return DenseBlockParams(hidden_units=hidden, non_lin=non_lin)


def template(feature: int, hidden: int) -> ConcatModelBuilderConfig:
    blocks = [BlockConfig(block_params=dense(width)) for width in (feature, hidden)]
    return ConcatModelBuilderConfig(modality_config=ModalityConfig(feature=blocks[0], hidden=blocks[1]))


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
@pytest.mark.parametrize("n_rows", [1, 8, 13])
def test_numpy_and_torch_agree_on_every_kind_of_observation(activation: str, n_rows: int) -> None:
    made = network(flatten_concat(INPUTS, dense(16, 8, non_lin=activation), 5, 1.0))
    seen = samples(n_rows)
    expected = autograd.output(made, seen)
    np.testing.assert_allclose(made(seen), expected.detach().numpy(), rtol=1e-5, atol=1e-5)


def test_numpy_and_torch_agree_on_a_template() -> None:
    made = network(from_template(INPUTS, template(6, 10), 3, 1.0))
    seen = samples(11)
    expected = autograd.output(made, seen)
    np.testing.assert_allclose(made(seen), expected.detach().numpy(), rtol=1e-5, atol=1e-5)


def test_a_value_that_is_no_category_has_no_indicator() -> None:
    one_hot = OneHot(source="keys", target="x", sizes=(2, 3), starts=(0, 5))
    run = GraphNetwork(Program((one_hot,)), {})
    assert run({"keys": np.array([[1, 5], [0, 7], [2, -1]])}).tolist() == [
        [0, 1, 1, 0, 0],
        [1, 0, 0, 0, 1],
        [0, 0, 0, 0, 0],
    ]


def test_a_template_leaves_out_an_observation_mapped_to_null() -> None:
    settings = ConcatModelBuilderConfig(observation_modality_mapping={"pixel": None, "room": "feature"})
    assert set(from_template(INPUTS, settings, 3, 1.0).inputs) == set(INPUTS) - {"pixel"}


@given(
    width=st.integers(1, 300),
    hidden=st.lists(st.integers(1, 70), min_size=1, max_size=2),
    n_out=st.integers(1, 5),
    rows=st.lists(st.integers(0, 39), min_size=1, max_size=40),
    seed=st.integers(0, 2**16),
)
def test_a_row_has_the_same_bits_in_every_batch_and_at_every_place(
    width: int, hidden: list[int], n_out: int, rows: list[int], seed: int
) -> None:
    box = {"x": spaces.Box(-np.inf, np.inf, (width,), np.float32)}
    run = network(flatten_concat(box, dense(*hidden), n_out, 1.0), seed)
    everything = np.random.default_rng(seed).standard_normal((40, width)).astype(np.float32)
    one_by_one = np.concatenate([run({"x": row[None]}).copy() for row in everything])
    assert run({"x": everything}).tobytes() == one_by_one.tobytes()
    assert run({"x": everything[rows]}).tobytes() == one_by_one[rows].tobytes()


def test_a_program_survives_its_json_form() -> None:
    for program in (
        flatten_concat(INPUTS, dense(16, 8), 5, 0.01),
        from_template(INPUTS, template(6, 10), 3, 1.0),
    ):
        assert msgspec.convert(json.loads(json.dumps(msgspec.to_builtins(program))), Program) == program


def test_a_program_whose_operations_do_not_fit_each_other_is_refused() -> None:
    program = flatten_concat({"x": spaces.Box(-1, 1, (3,))}, dense(4), 2, 1.0)
    arrays = network(program).parameters
    read, hidden, out = program.ops
    for ops in (
        (),
        (hidden, out),
        (msgspec.structs.replace(read, width=5), hidden, out),
        (read, msgspec.structs.replace(hidden, activation="os.system"), out),
        (Concat(sources=(), target="input_0"), msgspec.structs.replace(hidden, n_in=0), out),
    ):
        with pytest.raises(CheckpointError):
            GraphNetwork(Program(ops), arrays)


def test_arrays_that_do_not_fit_the_program_are_refused_by_name() -> None:
    made = network(flatten_concat({"x": spaces.Box(-1, 1, (3,))}, dense(4), 2, 1.0))
    arrays = made.parameters
    with pytest.raises(CheckpointError, match="hidden_0_bias should be float32"):
        GraphNetwork(
            made.program, {name: values for name, values in arrays.items() if name != "hidden_0_bias"}
        )
    with pytest.raises(CheckpointError, match=r"output_weight should be float32 \[2, 4\]"):
        GraphNetwork(made.program, arrays | {"output_weight": arrays["output_weight"].T})
    with pytest.raises(CheckpointError, match="found float64"):
        GraphNetwork(made.program, arrays | {"output_bias": arrays["output_bias"].astype(np.float64)})


def test_several_threads_share_a_network_without_mixing_rows() -> None:
    run = network(flatten_concat({"x": spaces.Box(-1, 1, (8,))}, dense(64, 64), 3, 1.0))
    batches = [np.random.default_rng(i).standard_normal((8, 8)).astype(np.float32) for i in range(4)]
    expected = [run({"x": batch}).copy() for batch in batches]
    wrong: list[int] = []

    def work(i: int) -> None:
        same = [np.array_equal(run({"x": batches[i]}), expected[i]) for _ in range(300)]
        wrong.extend([i] * same.count(False))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_more_batch_sizes_than_are_remembered_give_the_same_rows() -> None:
    run = network(flatten_concat({"x": spaces.Box(-1, 1, (3,))}, dense(4), 2, 1.0))
    rows = np.random.default_rng(0).standard_normal((200, 3)).astype(np.float32)
    expected = run({"x": rows}).copy()
    for n in range(1, 201):
        assert np.array_equal(run({"x": rows[:n]}), expected[:n])


@pytest.mark.parametrize("n_out", [1, 3])
def test_members_answer_with_the_bits_that_each_has_alone(n_out: int) -> None:
    program = flatten_concat(INPUTS, dense(5), n_out, 1.0)
    each = [network(program, seed) for seed in range(11)]
    arrays = {f"p.{name}": np.stack([one.parameters[name] for one in each]) for name in each[0].parameters}
    members, rows = GraphNetwork(program, arrays, "p.", n_members=11), samples(11)
    for _ in range(2):  # they are read where they lie
        alone = [
            one({name: x[i : i + 1] for name, x in rows.items()})[0].copy() for i, one in enumerate(each)
        ]
        np.testing.assert_array_equal(members(rows), alone)
        for i, one in enumerate(each):
            for name, parameter in one.parameters.items():
                parameter *= 1.5
                arrays[f"p.{name}"][i] *= 1.5


def test_arrays_of_too_few_members_are_refused() -> None:
    one = network(flatten_concat(INPUTS, dense(), 2, 1.0))
    arrays = {name: parameter[None] for name, parameter in one.parameters.items()}
    with pytest.raises(CheckpointError, match="should be float32 \\[2, 2"):
        GraphNetwork(one.program, arrays, n_members=2)
