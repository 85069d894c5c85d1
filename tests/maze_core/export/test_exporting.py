"""What is exported acts as the checkpoint does, without this library; what does not is not written."""

import importlib.util
import subprocess
import sys
import zipfile
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from maze_core import Checkpoint, InvalidSpecificationError, RunContext, import_sb3
from maze_core.agent import load_agent
from maze_core.envs.gym_env import GymMazeEnv
from maze_core.errors import CheckpointError, NotServableError
from maze_core.export import exporting
from maze_core.export.exporting import export_policy
from tests.maze_core.sb3.toy_spaces import register_toys

FILES = Path(__file__).parents[1] / "sb3/files"
KINDS = {
    "ppo_choices": "ToyChoices-v0",
    "a2c_bits": "ToyBits-v0",
    "ppo_parts": "ToyParts-v0",
    "sac_sde": "ToyParts-v0",
    "td3": "Pendulum-v1",
    "dqn": "CartPole-v1",
}
"""A policy of every kind of action, in environments of every kind of observation."""


@pytest.fixture(autouse=True, scope="module")
def _toys():
    register_toys()


@pytest.fixture(scope="module")
def pole(tmp_path_factory):
    """A trained policy behind normalisation."""
    overrides = {"env.name": "CartPole-v1", "model.policy.networks.0.non_lin": "gelu"}
    folder = tmp_path_factory.mktemp("pole")
    normalizes = {"maze_core.ObservationNormalizationWrapper": {}, "maze_core.ObservationClippingWrapper": {}}
    with RunContext(
        folder, wrappers=normalizes, overrides=overrides, configuration="test", seed=1, silent=True
    ) as rc:
        rc.train(1)
        yield rc


def _batches(checkpoint):
    agent = load_agent(checkpoint)
    (key,) = agent.observation_spaces
    space = agent.observation_spaces[key]
    space.seed(3)
    rows = [space.sample() for _ in range(40)]
    batch = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    batch = {name: x.clip(-5, 5) if x.dtype.kind == "f" else x for name, x in batch.items()}
    return batch, agent.compute_actions(batch)


def _same(given, expected):
    for head, values in expected.items():
        assert given[head].dtype == values.dtype
        np.testing.assert_allclose(given[head], values, rtol=1e-4, atol=1e-5)


def _loader(file: Path, folder: Path):
    """The loader that a bundle carries, imported from there."""
    with zipfile.ZipFile(file) as bundle:
        source = Path(bundle.extract("numpy_policy.py", folder))
    spec = importlib.util.spec_from_file_location("a_copied_loader", source)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.NumpyPolicy.load(file)


def _session(path: Path):
    ort = pytest.importorskip("onnxruntime")
    return ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_policy_acts_elsewhere_on_what_it_never_saw(kind, tmp_path):
    checkpoint = import_sb3(FILES / f"{kind}.zip", KINDS[kind])
    batch, expected = _batches(checkpoint)
    policy = _loader(export_policy(checkpoint, tmp_path / "policy.npz"), tmp_path)
    _same(policy.act_batch(batch), expected)
    session = _session(export_policy(checkpoint, tmp_path / "policy.onnx"))
    names = [each.name for each in session.get_outputs()]
    _same(dict(zip(names, session.run(None, batch), strict=True)), expected)
    alone = {name: x[:1] for name, x in batch.items()}
    _same(dict(zip(names, session.run(None, alone), strict=True)), {h: x[:1] for h, x in expected.items()})


def test_the_whole_stack_is_exported_raw_observation_in_action_out(pole, tmp_path):
    bundle = pole.export(tmp_path / "pole.npz")
    policy = _loader(bundle, tmp_path)
    session = _session(pole.export(tmp_path / "pole.onnx"))
    rng = np.random.default_rng(0)
    seen = rng.uniform(-0.4, 0.4, (50, 4)).astype(np.float32)
    expected = [pole.compute_action(row)["action"] for row in seen]
    assert {policy.act(row) for row in seen} == {0, 1}
    assert [policy.act(row) for row in seen] == expected
    assert session.run(["action"], {"observation": seen})[0].tolist() == expected


def test_the_loader_needs_numpy_alone(pole, tmp_path):
    folder = pole.export(tmp_path / "bundle")
    code = (
        "import sys; from numpy_policy import NumpyPolicy\n"
        "print(NumpyPolicy.load('policy.npz').act([0.0, 0.0, 0.1, 0.5]))\n"
        "sys.exit('maze_core' in sys.modules or 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-S", "-c", f"import sys; sys.path += {sys.path!r}\n{code}"],
                          cwd=folder, capture_output=True, text=True, check=False)  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout) == pole.compute_action([0.0, 0.0, 0.1, 0.5])["action"]


def test_an_observation_of_another_shape_is_refused_by_the_loader(pole, tmp_path):
    policy = _loader(pole.export(tmp_path / "pole.npz"), tmp_path)
    with pytest.raises(ValueError, match=r"should be \[4\]"):
        policy.act([0.0, 0.0, 0.1])
    with pytest.raises(ValueError, match="no actor"):
        policy.act([0.0, 0.0, 0.1, 0.0], actor_id=("other", 0))


@pytest.mark.parametrize("format", ["npz", "onnx"])
def test_what_acts_otherwise_is_not_written(pole, tmp_path, monkeypatch, format):
    def shifted(stack):
        (dense, *_) = [op for op in stack.ops if op["op"] == "dense"]
        stack.arrays[dense["weight"]] = -stack.arrays[dense["weight"]]
        return stack

    monkeypatch.setattr(
        exporting, "stacks_of", lambda agent, of=exporting.stacks_of: [*map(shifted, of(agent))]
    )
    with pytest.raises(CheckpointError, match="acts otherwise"):
        pole.export(tmp_path / f"pole.{format}")
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_expressed_is_named(tmp_path):
    stack = {"maze_core.ObservationStackWrapper": {}}
    context = RunContext(wrappers=stack, configuration="test", seed=1, silent=True)
    with context as rc, pytest.raises(NotServableError):
        rc.export(tmp_path / "pole.onnx")
    for name in ("policy.pt", "policy.onnx.zip"):
        with pytest.raises(InvalidSpecificationError, match=r"\.onnx"):
            export_policy(import_sb3(FILES / "a2c.zip", "CartPole-v1"), tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_has_every_actor_and_an_onnx_file_the_one_that_is_named(tmp_path):
    from tests.maze_core.envs.structured_env import make_boxes

    with RunContext(env=make_boxes, configuration="test", seed=1, silent=True) as rc:
        policy = _loader(rc.export(tmp_path / "all.npz"), tmp_path)
        env = rc.env_factory()
        seen, actor = env.reset(seed=1), env.actor_id()
        with pytest.raises(InvalidSpecificationError, match="name it"):
            rc.export(tmp_path / "one.onnx")
        session = _session(rc.export(tmp_path / "one.onnx", actor_id=actor))
        expected = rc.compute_action(seen, actor_id=actor)
        given = policy.act_batch({name: np.asarray(x)[None] for name, x in seen.items()}, tuple(actor))
        assert {head: x[0].tolist() for head, x in given.items()} == {
            head: np.asarray(x).tolist() for head, x in expected.items()
        }
        assert {each.name for each in session.get_outputs()} == set(expected)
        env.close()


STACKS = {
    "beta": ({}, {"env.name": "ToyParts-v0", "model.distribution_mapper_config": [
        {"action_space": "Box", "distribution": "beta"}]}),
    "discretized": ({"maze_core.DiscretizeActionsWrapper": {"num_bins": [3, 4]}}, {"env.name": "ToyParts-v0"}),
    "split": ({"maze_core.SplitActionsWrapper": {"split_config": {"action": {"b": [1], "a": [0]}}}},
              {"env.name": "ToyParts-v0"}),
    "pictures": ({"maze_core.PreProcessingWrapper": {"pre_processor_mapping": [
        {"_target_": "maze_core.Rgb2GrayPreProcessor", "observation": "observation"},
        {"_target_": "maze_core.ResizeImgPreProcessor", "observation": "observation-rgb2gray", "target_size": [5, 7]},
        {"_target_": "maze_core.UnSqueezePreProcessor", "observation": "observation-rgb2gray-resize_img"},
        {"_target_": "maze_core.TransposePreProcessor", "axes": [1, 2, 0],
         "observation": "observation-rgb2gray-resize_img-unsqueeze"},
        {"_target_": "maze_core.FlattenPreProcessor",
         "observation": "observation-rgb2gray-resize_img-unsqueeze-transpose"}]},
        "maze_core.ObservationNormalizationWrapper": {"axis": None}}, {"env.name": "ToyColours-v0"}),
    "indicators": ({"maze_core.PreProcessingWrapper": {"pre_processor_mapping": [
        {"_target_": "maze_core.OneHotPreProcessor", "observation": "observation", "keep_original": True}]}},
        {"env.name": "ToyBits-v0"}),
}  # fmt: skip


@pytest.mark.parametrize("kind", STACKS)
def test_what_stands_around_the_network_is_exported_too(kind, tmp_path):
    wrappers, overrides = STACKS[kind]
    with RunContext(wrappers=wrappers, overrides=overrides, configuration="test", seed=1, silent=True) as rc:
        rc.train(1)
        rc.save(tmp_path / "policy.ckpt")
        batch, expected = _batches(Checkpoint.read(tmp_path / "policy.ckpt"))
        _same(_loader(rc.export(tmp_path / "policy.npz"), tmp_path).act_batch(batch), expected)
        session = _session(rc.export(tmp_path / "policy.onnx"))
        _same(dict(zip(expected, session.run(list(expected), batch), strict=True)), expected)


@pytest.mark.slow
def test_convolutions_are_exported_with_any_number_of_rows(tmp_path):
    from tests.maze_core.export.networks import Pixels

    overrides = {"env.name": "ToyPixels-v0", "model.policy.networks": [Pixels]}
    with RunContext(overrides=overrides, configuration="test", seed=1, silent=True) as rc:
        session = _session(rc.export(tmp_path / "pixels.onnx"))
        rows = np.random.default_rng(0).integers(0, 256, (5, 36, 36, 1), np.uint8)
        expected = [rc.compute_action(row)["action"] for row in rows]
        assert session.run(["action"], {"observation": rows})[0].tolist() == expected
        with pytest.raises(NotServableError, match="ONNX"):
            rc.export(tmp_path / "pixels.npz")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["own", "vector_obs_rnn"])
def test_a_network_with_memory_is_exported_with_its_state_in_and_out(kind, tmp_path):
    from tests.maze_core.export.networks import Remembers

    given: dict = {"model": kind, "critic": "template_state"}
    if kind == "own":
        given = {"overrides": {"model.policy.networks": [Remembers]}}
    with RunContext(configuration="test", seed=1, silent=True, **given) as rc:
        session = _session(rc.export(tmp_path / "memory.onnx"))
        width = session.get_inputs()[-1].shape[1]
        rows = np.random.default_rng(0).uniform(-0.4, 0.4, (12, 4)).astype(np.float32)
        state, carried = np.zeros((1, width), np.float32), rc.initial_state()
        for row in rows:
            expected, carried = rc.compute_action(row, state=carried)
            action, state = session.run(["action", "next_state"], {"observation": row[None], "state": state})
            assert action.tolist() == [expected["action"]]
        assert state.any()


@pytest.mark.slow
def test_the_template_for_pictures_is_exported(tmp_path):
    overrides = {"env.name": "ToyPixels-v0"}
    with RunContext(
        model="pixel_obs",
        critic="template_state",
        overrides=overrides,
        configuration="test",
        seed=1,
        silent=True,
    ) as rc:
        session = _session(rc.export(tmp_path / "pixels.onnx"))
        rows = np.random.default_rng(0).integers(0, 256, (5, 36, 36, 1), np.uint8)
        expected = [rc.compute_action(row)["action"] for row in rows]
        assert session.run(["action"], {"observation": rows})[0].tolist() == expected


READS = {
    "discrete": spaces.Discrete(5, start=2),
    "dict": spaces.Dict({"many": spaces.MultiDiscrete([3, 4], start=[1, 0]), "x": spaces.Box(-1, 1, (2,))}),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", READS)
def test_blocks_that_read_categories_are_exported_with_any_number_of_rows(kind, tmp_path):
    space = READS[kind]
    names = list(space) if isinstance(space, spaces.Dict) else ["observation"]
    blocks = [
        {
            "in_keys": name,
            "out_keys": f"y_{name}",
            "block_type": "dense",
            "block_params": {"hidden_units": [4]},
        }
        for name in names
    ]
    network = {
        "_target_": "maze_core.BlockNetConfig",
        "blocks": blocks,
        "latent": [f"y_{name}" for name in names],
    }
    with RunContext(
        env=lambda: GymMazeEnv(Shows(space)),
        policy={"networks": [network]},
        configuration="test",
        silent=True,
    ) as rc:
        session = _session(rc.export(tmp_path / "policy.onnx"))
        space.seed(0)
        drawn = [space.sample() for _ in range(5)]
        expected = [rc.compute_action(each)["action"] for each in drawn]
    rows = [each if isinstance(each, dict) else {"observation": each} for each in drawn]
    batch = {
        each.name: np.stack([row[each.name] for row in rows]).astype(_TYPES[each.type])
        for each in session.get_inputs()
    }
    assert session.run(["action"], batch)[0].tolist() == expected


_TYPES = {"tensor(int64)": np.int64, "tensor(float)": np.float32}


class Shows(gym.Env):
    action_space = spaces.Discrete(3)

    def __init__(self, space: spaces.Space) -> None:
        self.observation_space = space

    def reset(self, *, seed=None, options=None):
        return self.observation_space.sample(), {}

    def step(self, action):
        return self.observation_space.sample(), 0.0, True, False, {}


def test_what_onnxruntime_cannot_compute_is_not_served(tmp_path, monkeypatch):
    ort = pytest.importorskip("onnxruntime")

    class Breaks(ort.InferenceSession):
        def run(self, *_):
            raise RuntimeError("no such reshape")

    monkeypatch.setattr(ort, "InferenceSession", Breaks)
    with (
        RunContext(configuration="test", silent=True) as rc,
        pytest.raises(NotServableError, match="no such reshape"),
    ):
        rc.export(tmp_path / "policy.onnx")


def test_the_command_line_exports_run_directories_and_checkpoint_files(pole, tmp_path, monkeypatch, capsys):
    from service.cli import main

    monkeypatch.chdir(tmp_path)
    assert main(["export", str(pole.run_dir), "--format", "numpy"]) == 0
    assert main(["export", str(pole.run_dir / "checkpoints/best.ckpt"), "--out", "b.onnx"]) == 0
    assert Path("policy.npz").exists()
    assert Path("b.onnx").exists()
    assert (
        Checkpoint.read(pole.run_dir / "checkpoints/best.ckpt").content_sha256[:12] in capsys.readouterr().out
    )
    assert main(["export", str(pole.run_dir)]) == 2
    assert main(["export", "nothing.ckpt", "--format", "onnx"]) == 1
