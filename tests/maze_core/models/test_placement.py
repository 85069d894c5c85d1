"""On another device is a mirror of the module. What stands for a GPU here is a second copy on the CPU."""

from typing import Any

import numpy as np
import pytest
import torch

from maze_core import RunContext
from maze_core.errors import InvalidSpecificationError
from maze_core.models import placement
from maze_core.trainers.dqn_config import DQNAlgorithmConfig
from maze_core.trainers.ppo_config import PPOAlgorithmConfig
from maze_core.trainers.sac_config import SACAlgorithmConfig
from tests.maze_core.api.test_pictures import Bright, settings_of
from tests.maze_core.trainers.small_worlds import BoundedEnv, PictureEnv, flat, parts, twin_of
from tests.maze_core.trainers.test_golden import of_pictures

NO_GPU = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
OFF_POLICY = {"n_warmup_steps": 4, "batch_size": 8}


@pytest.fixture
def second_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "other_device", lambda device: "cpu")


@NO_GPU
def test_auto_is_the_cpu_where_torch_sees_no_gpu_and_cuda_is_refused_with_the_way_out() -> None:
    assert placement.other_device("auto") is None
    with (
        RunContext(
            env=Bright,
            model="flatten_concat",
            overrides=settings_of("ppo") | {"algorithm.device": "cuda"},
            silent=True,
        ) as context,
        pytest.raises(InvalidSpecificationError, match=r"algorithm\.device.*take auto or cpu"),
    ):
        context.train(1)


def test_dense_networks_stay_where_they_are_and_say_so() -> None:
    overrides = {"algorithm.device": "cuda", "algorithm.n_rollout_steps": 8, "algorithm.epoch_length": 1}
    with (
        RunContext(overrides=overrides, silent=True) as context,
        pytest.warns(UserWarning, match=r"device=cuda changes nothing"),
    ):
        context.train(1)


def trained(config: Any, device: str, world: Any, model: Any) -> tuple[Any, Any]:
    """Parts and trainer after three updates."""
    made = parts(world, model=model, needs=config.model_needs)
    if model is None:
        for step in made.policy.steps.values():
            step.networks[0].logits = twin_of(step.networks[0].logits)
        made.critic.networks = tuple(map(twin_of, made.critic.networks))
    placement.place((made.policy, made.critic), device)
    trainer = config.build(made)
    trainer.reset_envs([0, 1])
    for _ in range(3):
        trainer.update(epoch=0, progress=0.0)
    return made, trainer


@pytest.mark.usefixtures("second_copy")
@pytest.mark.parametrize(
    ("config", "world", "model"),
    [
        (PPOAlgorithmConfig(n_rollout_steps=12, batch_size=10), PictureEnv, of_pictures("ppo")),
        (DQNAlgorithmConfig(**OFF_POLICY, n_rollout_steps=4), PictureEnv, of_pictures("dqn")),
        (SACAlgorithmConfig(**OFF_POLICY, n_rollout_steps=4), BoundedEnv, None),
    ],
    ids=["ppo", "dqn", "sac"],
)
def test_a_mirror_learns_what_the_module_itself_learns_and_the_parameters_stay_with_the_host(
    config: Any, world: Any, model: Any
) -> None:
    (here, _), (there, trainer) = (trained(config, device, world, model) for device in ("cpu", "cuda"))
    logits = there.policy.steps[0].networks[0].logits
    assert logits._mirror is not None
    assert here.policy.steps[0].networks[0].logits._mirror is None
    np.testing.assert_allclose(flat(there.policy), flat(here.policy), rtol=1e-5, atol=1e-6)
    before = logits.module
    own, mirrored = (next(x.parameters()) for x in (before, logits._mirror.module))
    assert own.data_ptr() != mirrored.data_ptr()
    assert all(isinstance(x, np.ndarray | torch.Tensor) for x in trainer.state_dict()[1].values())


@pytest.mark.usefixtures("second_copy")
def test_a_run_on_another_device_leaves_a_checkpoint_that_acts_on_the_cpu(tmp_path: Any) -> None:
    found = []
    for device in ("cpu", "cuda"):
        overrides = settings_of("ppo") | {"algorithm.device": device}
        with RunContext(
            tmp_path / device, env=Bright, model="flatten_concat", overrides=overrides, seed=1, silent=True
        ) as context:
            context.train(1)
            returns = context.evaluate(3).returns
            env = context.env_factory()
            found.append((returns, context.compute_action(env.reset(seed=3))))
    assert found[0] == found[1]
