"""Models of Stable-Baselines3 2.9.2 (``make_files.py``) act here as they did there."""

import io
import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

from maze_core import InvalidSpecificationError, RunContext, import_sb3
from maze_core.agent import load_agent
from maze_core.checkpoint import Checkpoint
from maze_core.errors import CheckpointError
from maze_core.sb3.files import read_model, read_normalization
from tests.docs.fences import fenced_blocks
from tests.maze_core.sb3.toy_spaces import register_toys

FILES = Path(__file__).parent / "files"
ENVS = {
    "ppo": "Pendulum-v1",
    "ppo_sde": "Pendulum-v1",
    "ppo_choices": "ToyChoices-v0",
    "a2c": "CartPole-v1",
    "a2c_bits": "ToyBits-v0",
    "ppo_parts": "ToyParts-v0",
    "sac": "Pendulum-v1",
    "sac_sde": "ToyParts-v0",
    "td3": "Pendulum-v1",
    "ddpg": "Pendulum-v1",
    "dqn": "CartPole-v1",
    "ppo_normalized": "Pendulum-v1",
}


@pytest.fixture(autouse=True, scope="module")
def _toys():
    register_toys()


@pytest.fixture(scope="module")
def answers():
    with np.load(FILES / "answers.npz") as found:
        return dict(found)


def _imported(name: str) -> Checkpoint:
    more = (
        {"vecnormalize": FILES / "vecnormalize.pkl", "allow_pickle": True} if name == "ppo_normalized" else {}
    )
    return import_sb3(FILES / f"{name}.zip", ENVS[name], **more)


@pytest.mark.parametrize("name", ENVS)
def test_a_model_acts_as_it_did_in_stable_baselines3(name, answers):
    agent = load_agent(Checkpoint.from_bytes(_imported(name).to_bytes()))
    prefix = f"{name}/seen/"
    seen = {key.removeprefix(prefix): x for key, x in answers.items() if key.startswith(prefix)}
    done = answers[f"{name}/done"]
    given = agent.compute_actions(seen)["action"]
    assert len(np.unique(done, axis=0)) > 1, "the file says nothing: all answers are the same"
    if done.dtype.kind == "f":
        np.testing.assert_allclose(given, done, rtol=1e-5, atol=1e-5)
    else:
        np.testing.assert_array_equal(given, done)


def test_an_imported_policy_is_evaluated_and_begins_a_training(tmp_path):
    _imported("a2c").write(tmp_path / "a2c.ckpt")
    with RunContext.load(tmp_path / "a2c.ckpt") as rc:
        before = rc.evaluate(n_episodes=3, seed=1)
        assert before.mean_return > 0
        with pytest.raises(CheckpointError, match="no training goes on"):
            rc.train(1)
    layers = {"model.policy.networks.0.hidden_units": []}
    overrides = {"env.name": "CartPole-v1", "initial.run": str(tmp_path / "a2c.ckpt"), **layers}
    with RunContext(algorithm="a2c", overrides=overrides, configuration="test", seed=1) as rc:
        assert rc.evaluate(n_episodes=3, seed=1).returns == before.returns


def test_a_critic_that_the_file_has_values_states():
    agent = load_agent(_imported("ppo"))
    assert isinstance(agent.explain([1.0, 0.0, 0.0])["value"], float)
    assert load_agent(_imported("sac")).explain([1.0, 0.0, 0.0])["value"] is None


def test_what_explores_explores_as_there():
    """The last ε of DQN, and the log-std of PPO, which was set to -0.5 at the start."""
    epsilon = _imported("dqn").tensors["policy/steps.0.agents.0.epsilon"]
    log_std = _imported("ppo").tensors["policy/steps.0.agents.0.log_std"]
    assert (epsilon == np.float32(0.1)).all()
    np.testing.assert_allclose(log_std, -0.5, atol=0.05)
    assert _imported("ppo_sde").tensors["policy/steps.0.agents.0.log_std"].shape == (4,)


@pytest.mark.parametrize(
    ("name", "env", "reason"),
    [
        ("a2c", "ToyPixels-v0", "shows images"),
        ("a2c", "Pendulum-v1", "Box"),
        ("ppo", "MountainCarContinuous-v0", "low"),
        ("ppo_parts", "Pendulum-v1", "Dict"),
        ("a2c", None, "name the environment"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_reason(name, env, reason):
    with pytest.raises(InvalidSpecificationError, match=reason):
        import_sb3(FILES / f"{name}.zip", env)


def _changed(folder: Path, name: str, **members: bytes) -> Path:
    path = folder / "model.zip"
    with zipfile.ZipFile(FILES / f"{name}.zip") as source, zipfile.ZipFile(path, "w") as target:
        for info in source.infolist():
            content = members.get(info.filename.partition(".")[0], source.read(info))
            target.writestr(info.filename, content)
    return path


def _is_refused(read) -> bool:
    """Whether it is refused, which is the one way in which it may fail."""
    try:
        read()
    except InvalidSpecificationError:
        return True
    return False


class _Evil:
    def __reduce__(self):
        return exec, ("raise SystemError('it ran')",)


def test_a_pickle_in_the_place_of_weights_is_not_run(tmp_path):
    import torch

    bytes_of = io.BytesIO()
    torch.save({"action_net.weight": _Evil()}, bytes_of)
    for content in (pickle.dumps(_Evil()), bytes_of.getvalue(), b"nothing"):
        with pytest.raises(InvalidSpecificationError, match="weights cannot be read as tensors") as told:
            import_sb3(_changed(tmp_path, "a2c", policy=content), "CartPole-v1")
        assert "weights_only" not in str(told.value)
        assert told.value.__suppress_context__, "torch's advice is shown below ours"


def test_damaged_files_are_refused_by_name(tmp_path):
    (tmp_path / "no.zip").write_bytes(b"PK no zip")
    with pytest.raises(InvalidSpecificationError, match=r"no\.zip"):
        import_sb3(tmp_path / "no.zip", "CartPole-v1")
    with pytest.raises(InvalidSpecificationError, match="damaged"):
        import_sb3(_changed(tmp_path, "a2c", data=b"{"), "CartPole-v1")
    other = (FILES / "a2c.zip").read_bytes()
    (tmp_path / "cut.zip").write_bytes(other[: len(other) // 2])
    with pytest.raises(InvalidSpecificationError, match=r"cut\.zip"):
        import_sb3(tmp_path / "cut.zip", "CartPole-v1")


def test_what_is_no_file_is_refused_by_name(tmp_path):
    for path in (tmp_path / "none.zip", tmp_path):
        with pytest.raises(InvalidSpecificationError, match=f"{path.name}: (there is no|it is a folder)"):
            import_sb3(path, "CartPole-v1")


@pytest.mark.parametrize("packing", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
def test_any_damage_of_a_zip_is_told_as_damage(packing, tmp_path):
    """Whatever its reader stumbles over: checksums, deflate, sizes, versions, flags."""
    path, rng = tmp_path / "model.zip", np.random.default_rng(1)
    with zipfile.ZipFile(FILES / "a2c.zip") as source, zipfile.ZipFile(path, "w", packing) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    whole, n_refused = path.read_bytes(), 0
    for _ in range(150):
        changed = np.frombuffer(whole, np.uint8).copy()
        changed[rng.integers(0, len(changed), 8)] = rng.integers(0, 256, 8)
        path.write_bytes(changed.tobytes())
        n_refused += _is_refused(lambda: read_model(path))
    assert n_refused > 100


def test_a_tensor_with_more_numbers_than_are_stored_is_refused(tmp_path):
    import torch

    weights = io.BytesIO()
    torch.save({"action_net.bias": torch.zeros(1).expand(1000)}, weights)
    with pytest.raises(
        InvalidSpecificationError, match=r"'action_net\.bias' has more numbers than are stored"
    ):
        import_sb3(_changed(tmp_path, "a2c", policy=weights.getvalue()), "CartPole-v1")


@pytest.mark.parametrize(
    ("name", "value"),
    [("gamma", 5.0), ("gamma", -1), ("gamma", True), ("gamma", np.nan), ("gamma", "x"), ("use_sde", "no")],
)
def test_a_setting_out_of_its_range_is_named(name, value, tmp_path):
    with pytest.raises(InvalidSpecificationError, match=f"its {name} is"):
        import_sb3(_with_settings(tmp_path, **{name: value}), "CartPole-v1")


def test_a_network_that_makes_features_is_refused(tmp_path):
    import torch

    weights = io.BytesIO()
    torch.save({"pi_features_extractor.cnn.0.weight": torch.zeros(1)}, weights)
    with pytest.raises(InvalidSpecificationError, match="CnnPolicy"):
        import_sb3(_changed(tmp_path, "a2c", policy=weights.getvalue()), "CartPole-v1")


def test_settings_that_cannot_be_said_are_named(tmp_path):
    with zipfile.ZipFile(FILES / "a2c.zip") as file:
        data = file.read("data").replace(b'"net_arch": []', b'"squash_output": true')
    with pytest.raises(InvalidSpecificationError, match="squash_output"):
        import_sb3(_changed(tmp_path, "a2c", data=data), "CartPole-v1")


def test_the_pickle_of_vecnormalize_needs_a_word_and_runs_nothing(tmp_path):
    model, stats = FILES / "ppo_normalized.zip", FILES / "vecnormalize.pkl"
    with pytest.raises(InvalidSpecificationError, match="allow_pickle"):
        import_sb3(model, "Pendulum-v1", vecnormalize=stats)
    evil = tmp_path / "evil.pkl"
    for content in (pickle.dumps(_Evil()), stats.read_bytes()[:-20], pickle.dumps({"obs_rms": 1}), b""):
        evil.write_bytes(content)
        with pytest.raises(InvalidSpecificationError, match=r"evil\.pkl"):
            import_sb3(model, "Pendulum-v1", vecnormalize=evil, allow_pickle=True)


def _with_settings(folder: Path, **settings) -> Path:
    with zipfile.ZipFile(FILES / "a2c.zip") as file:
        given = json.loads(file.read("data"))
    return _changed(folder, "a2c", data=json.dumps({**given, **settings}).encode())


def test_a_network_without_bends_is_known(tmp_path):
    identity = {"net_arch": [], "activation_fn": "<class 'torch.nn.modules.linear.Identity'>"}
    import_sb3(_with_settings(tmp_path, policy_kwargs=identity), "CartPole-v1")
    strange = {**identity, "activation_fn": "<class 'torch.nn.modules.linear.Linear'>"}
    with pytest.raises(InvalidSpecificationError, match="its activation is"):
        import_sb3(_with_settings(tmp_path, policy_kwargs=strange), "CartPole-v1")


def test_a_dict_of_one_observation_of_the_usual_name_is_a_dict(tmp_path):
    parts = "{'observation': Box(-1.0, 1.0, (4,), float32)}"
    space = {":type:": "<class 'gymnasium.spaces.dict.Dict'>", "spaces": parts}
    path = _with_settings(tmp_path, observation_space=space)
    agent = load_agent(import_sb3(path, "ToyNamed-v0"))
    seen = np.eye(4, dtype=np.float32)
    bare = load_agent(_imported("a2c")).compute_actions({"observation": seen})
    np.testing.assert_array_equal(agent.compute_actions({"observation": seen})["action"], bare["action"])
    with pytest.raises(InvalidSpecificationError, match="name the environment"):
        import_sb3(path, "CartPole-v1")
    with pytest.raises(InvalidSpecificationError, match="name the environment"):
        import_sb3(FILES / "a2c.zip", "ToyNamed-v0")


def test_the_documented_lines_run(tmp_path, monkeypatch, capsys):
    page = Path(__file__).parents[3] / "docs" / "migration" / "from_sb3.md"
    (block,) = (b for b in fenced_blocks(page, "python") if "import_sb3(" in b.code)
    (tmp_path / "pole.zip").write_bytes((FILES / "a2c.zip").read_bytes())
    monkeypatch.chdir(tmp_path)
    exec(compile(block.code, str(block), "exec"), {})
    assert float(capsys.readouterr().out.splitlines()[-1]) > 0
    assert load_agent("pole.ckpt").servable


def _normalization(tmp_path, content: bytes):
    path = tmp_path / "stats.pkl"
    path.write_bytes(content)
    return read_normalization(path)


def _statistics(array: bytes) -> bytes:
    """A VecNormalize by hand: ``array``, opcodes of a pickle, is its mean and its variance."""
    module = b"cstable_baselines3.common.%s\n)\x81"
    rms = module % b"running_mean_std\nRunningMeanStd" + b"}(X\4\0\0\0mean" + array
    rms += b"X\3\0\0\0var" + array + b"ub"
    state = b"}(X\7\0\0\0obs_rms" + rms + b"X\7\0\0\0epsilonG?\x84z\xe1G\xae\x14{"
    state += b"X\x08\0\0\0clip_obsG@\x24\0\0\0\0\0\0ub."
    return b"\x80\4" + module % b"vec_env.vec_normalize\nVecNormalize" + state


def _array(code=b"f8", order=b"<", shape=b"K\2\x85", data=b"C\x10" + bytes(16), more=b"NNNJ\xff\xff\xff\xff"):
    dtype = (
        b"cnumpy\ndtype\nU" + bytes([len(code)]) + code + b"\x89\x88\x87R(K\3U" + bytes([len(order)]) + order
    )
    dtype += more + b"J\xff\xff\xff\xffK\0tb"
    made = b"cnumpy._core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85C\1b\x87R(K\1"
    return made + shape + dtype + b"\x89" + data + b"tb"


def test_statistics_by_hand_are_read_in_every_plain_dtype(tmp_path):
    for code, order, data in (
        (b"f8", b"<", np.arange(2.0)),
        (b"f4", b">", np.arange(2, dtype=">f4")),
        (b"i2", b"<", np.arange(2, dtype="<i2")),
        (b"b1", b"|", np.arange(2, dtype="?")),
    ):
        content = data.tobytes()
        array = _array(code, order, data=b"C" + bytes([len(content)]) + content)
        mean, var = _normalization(tmp_path, _statistics(array)).moments["observation"]
        assert mean.tolist() == var.tolist() == [0.0, 1.0]


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"data": b"C\x0f" + bytes(15)}, "15 bytes with the shape"),
        ({"data": b"C\x11" + bytes(17)}, "17 bytes with the shape"),
        ({"shape": b"K\3\x85"}, "16 bytes with the shape"),
        ({"shape": b"J\xfe\xff\xff\xff\x85"}, "without a shape"),
        ({"code": b"V8"}, "no numbers"),
        ({"code": b"O8"}, "no numbers"),
        ({"code": b"M8"}, "no numbers"),
        ({"code": b"S8"}, "no numbers"),
        ({"code": b"c8"}, "no numbers"),
        ({"code": b"f16"}, "no numbers"),
        ({"code": b"f8,f8"}, "no numbers"),
        ({"order": b"x"}, "no numbers"),
        ({"more": b"K\1NNJ\xff\xff\xff\xff"}, "no numbers"),
        ({"data": b"]K\1a"}, "an array of list"),
    ],
)
def test_an_array_that_is_not_plain_numbers_of_its_length_is_never_made(changed, reason, tmp_path):
    with pytest.raises(InvalidSpecificationError, match=f"stats.pkl: .*{reason}"):
        _normalization(tmp_path, _statistics(_array(**changed)))


@pytest.mark.parametrize(
    "name",
    [
        b"numpy\ndtype",
        b"numpy\nndarray",
        b"numpy._core.multiarray\nscalar",
        b"collections\nOrderedDict",
        b"_codecs\nencode",
        b"gymnasium.spaces.box\nBox",
    ],
)
def test_a_file_changes_nothing_of_what_reads_it(name, tmp_path):
    """BUILD on what a name stands for: by attributes, and by the fields of its dict."""
    named = b"\x80\2c" + name + b"\n"
    for state in (b"N}X\4\0\0\0kindK\1s\x86", b"}X\4\0\0\0kindK\1s"):
        with pytest.raises(InvalidSpecificationError, match=r"sets kind of|positional arg|item assignment"):
            _normalization(tmp_path, named + state + b"b.")
    assert _normalization(tmp_path, (FILES / "vecnormalize.pkl").read_bytes()) is not None
    with pytest.raises(InvalidSpecificationError, match="more objects than"):
        _normalization(tmp_path, b"\x80\2Nr\xff\xff\0\0.")


def test_any_damage_of_a_vecnormalize_is_told_as_damage(tmp_path):
    rng, whole = np.random.default_rng(2), np.fromfile(FILES / "vecnormalize.pkl", np.uint8)
    n_refused = 0
    for _ in range(300):
        changed = whole.copy()
        changed[rng.integers(0, len(whole), 3)] = rng.integers(0, 256, 3)
        content = changed.tobytes()
        n_refused += _is_refused(lambda content=content: _normalization(tmp_path, content))
    assert n_refused > 150


def test_statistics_of_other_observations_are_refused():
    with pytest.raises(InvalidSpecificationError, match="statistics are of observations"):
        import_sb3(
            FILES / "a2c.zip", "CartPole-v1", vecnormalize=FILES / "vecnormalize.pkl", allow_pickle=True
        )
