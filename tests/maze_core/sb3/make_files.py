"""Makes the files of this folder with Stable-Baselines3: small models, and what they answer.

Not a test: run it where Stable-Baselines3 is installed, ``python make_files.py``. What a model's file holds beside
settings and weights of its policy is left out, and the ZIP is compressed, to keep it small.
"""

import copy
import io
import json
import sys
import zipfile
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from stable_baselines3 import A2C, DDPG, DQN, PPO, SAC, TD3
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize

sys.path.insert(0, str(Path(__file__).parent))
from toy_spaces import register_toys

FILES = Path(__file__).parent / "files"
KEPT = (
    "policy_class", "policy_kwargs", "observation_space", "action_space", "use_sde", "gamma", "gae_lambda",
    "clip_range", "exploration_rate", "num_timesteps",
)  # fmt: skip
SMALL: dict[str, Any] = {"verbose": 0, "seed": 1}
OFF_POLICY = {**SMALL, "buffer_size": 64}
NET = {"net_arch": [8, 4]}

CASES = {
    "ppo": (PPO, "Pendulum-v1", {**SMALL, "n_steps": 64, "policy_kwargs": {
        "net_arch": {"pi": [8], "vf": [4, 4]}, "activation_fn": torch.nn.ELU, "log_std_init": -0.5}}),
    "ppo_sde": (PPO, "Pendulum-v1", {**SMALL, "n_steps": 64, "use_sde": True, "policy_kwargs": {
        **NET, "use_expln": True}}),
    "ppo_choices": (PPO, "ToyChoices-v0", {**SMALL, "n_steps": 64, "policy_kwargs": NET}),
    "a2c": (A2C, "CartPole-v1", {**SMALL, "policy_kwargs": {"net_arch": []}}),
    "a2c_bits": (A2C, "ToyBits-v0", {**SMALL, "policy_kwargs": NET}),
    "ppo_parts": (PPO, "ToyParts-v0", {**SMALL, "n_steps": 64, "policy_kwargs": NET}),
    "sac": (SAC, "Pendulum-v1", {**OFF_POLICY, "policy_kwargs": NET}),
    "sac_sde": (SAC, "ToyParts-v0", {**OFF_POLICY, "use_sde": True, "policy_kwargs": NET}),
    "td3": (TD3, "Pendulum-v1", {**OFF_POLICY, "policy_kwargs": NET}),
    "ddpg": (DDPG, "Pendulum-v1", {**OFF_POLICY, "policy_kwargs": {**NET, "activation_fn": torch.nn.Tanh}}),
    "dqn": (DQN, "CartPole-v1", {**OFF_POLICY, "policy_kwargs": NET, "exploration_final_eps": 0.1}),
    "ppo_normalized": (PPO, "Pendulum-v1", {**SMALL, "n_steps": 64, "policy_kwargs": NET}),
}  # fmt: skip


def made(name: str) -> dict[str, np.ndarray]:
    kind, env_id, settings = CASES[name]
    env = make_vec_env(env_id, n_envs=2 if kind in (PPO, A2C) else 1, seed=3)
    if name == "ppo_normalized":
        env = VecNormalize(env, clip_obs=1.0, epsilon=1e-4)
    is_dict = isinstance(env.observation_space, gymnasium.spaces.Dict)
    policy = "MultiInputPolicy" if is_dict else "MlpPolicy"
    model = kind(policy, env, **copy.deepcopy(settings))
    model.learn(256)
    drawn = torch.Generator().manual_seed(5)
    with torch.no_grad():  # so that actions differ, and some are clipped
        for name_of, parameter in model.policy.named_parameters():
            if "log_std" not in name_of or parameter.ndim == 2:
                parameter.copy_(torch.randn(parameter.shape, generator=drawn) * 0.7)
    if name == "ppo_normalized":
        env.save(str(FILES / "vecnormalize.pkl"))
    whole = io.BytesIO()
    model.save(whole)
    _write_small(FILES / f"{name}.zip", whole)
    return _answers(name, model, env)


def _answers(name: str, model: Any, env: Any) -> dict[str, np.ndarray]:
    space = env.observation_space
    space.seed(7)
    rows = [space.sample() for _ in range(12)]
    if isinstance(rows[0], dict):
        batch: Any = {key: np.stack([row[key] for row in rows]) for key in rows[0]}
    else:
        batch = np.stack(rows) * (3.0 if space.dtype.kind == "f" else 1)
        batch = batch.astype(space.dtype)
    seen = env.normalize_obs(batch) if name == "ppo_normalized" else batch
    actions, _ = model.predict(seen, deterministic=True)
    parts = batch if isinstance(batch, dict) else {"observation": batch}
    return {f"{name}/seen/{key}": x for key, x in parts.items()} | {f"{name}/done": np.asarray(actions)}


def _write_small(path: Path, whole: io.BytesIO) -> None:
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        data = {key: value for key, value in json.loads(source.read("data")).items() if key in KEPT}
        data["policy_class"] = {key: data["policy_class"][key] for key in (":type:", "__module__")}
        for value in data.values():
            if isinstance(value, dict):
                value.pop(":serialized:", None)
        _put(target, "data", json.dumps(data).encode())
        for name in ("policy.pth", "_stable_baselines3_version"):
            _put(target, name, source.read(name))


def _put(target: zipfile.ZipFile, name: str, content: bytes) -> None:
    target.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)


def main() -> None:
    register_toys()
    FILES.mkdir(exist_ok=True)
    answers: dict[str, np.ndarray] = {}
    for name in CASES:
        answers |= made(name)
    np.savez_compressed(FILES / "answers.npz", **answers)


if __name__ == "__main__":
    main()
