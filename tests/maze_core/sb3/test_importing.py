"""Models of Stable-Baselines3 2.9.2 (``make_files.py``) act here as they did there."""

import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

from maze_core import InvalidSpecificationError, RunContext, import_sb3
from maze_core.agent import load_agent
from maze_core.checkpoint import Checkpoint
from maze_core.errors import CheckpointError
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


class _Evil:
    def __reduce__(self):
        return exec, ("raise SystemError('it ran')",)


def test_a_pickle_in_the_place_of_weights_is_not_run(tmp_path):
    import torch

    bytes_of = io.BytesIO()
    torch.save({"action_net.weight": _Evil()}, bytes_of)
    for content in (pickle.dumps(_Evil()), bytes_of.getvalue(), b"nothing"):
        with pytest.raises(InvalidSpecificationError, match="weights cannot be read as tensors"):
            import_sb3(_changed(tmp_path, "a2c", policy=content), "CartPole-v1")


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


def test_statistics_of_other_observations_are_refused():
    with pytest.raises(InvalidSpecificationError, match="statistics are of observations"):
        import_sb3(
            FILES / "a2c.zip", "CartPole-v1", vecnormalize=FILES / "vecnormalize.pkl", allow_pickle=True
        )
