"""Environment steps per second of the whole training loop, against Stable-Baselines3 at the same hyper-parameters.

PPO on CartPole-v1: 8 environments × 128 steps, two hidden layers of 64 tanh units each, 4 passes of
minibatches of 256, one thread, no evaluation in between. The two take turns in one process, round by round, so
that other load on the machine meets both; the ratio of medians is what counts, the rates are for orientation.

    python -m benchmarks.train_throughput [--rounds 5] [--updates 30]
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from benchmarks.report import write_report
from maze_core.threads import one_thread

N_ENVS, N_STEPS, BATCH_SIZE, PASSES, LR = 8, 128, 256, 4, 2.5e-4
HIDDEN = [64, 64]
Advance = Callable[[int], int]
"""Number of updates → environment steps taken."""


def ours() -> Advance:
    """PPO of maze_core, as ``RunContext`` builds it."""
    from maze_core.config import compose_run
    from maze_core.runners.build import build_world

    config = compose_run(
        "train",
        algorithm="ppo",
        model="flatten_concat",
        overrides={
            "env.name": "CartPole-v1",
            "model.policy.networks": [_network("PolicyNet")],
            "model.critic.networks": [_network("StateValueNet")],
            "runner.n_envs": N_ENVS,
            "algorithm.n_rollout_steps": N_STEPS,
            "algorithm.batch_size": BATCH_SIZE,
            "algorithm.n_optimization_epochs": PASSES,
            "algorithm.lr": LR,
            "algorithm.lr_schedule": "constant",
        },
        seed=1,
    )
    world = build_world(config)
    world.trainer.reset_envs(range(N_ENVS))

    def advance(n_updates: int) -> int:
        return sum(world.trainer.update(epoch=0, progress=0.0).env_steps for _ in range(n_updates))

    return advance


def _network(kind: str) -> dict[str, object]:
    target = f"maze_core.models.config.FlattenConcat{kind}Config"
    return {"_target_": target, "hidden_units": HIDDEN, "non_lin": "tanh"}


def stable_baselines3() -> Advance:
    """PPO of Stable-Baselines3 on its DummyVecEnv, the faster of its two for CartPole."""
    from stable_baselines3 import PPO
    from stable_baselines3.common.env_util import make_vec_env

    model = PPO(
        "MlpPolicy",
        make_vec_env("CartPole-v1", n_envs=N_ENVS, seed=1),
        n_steps=N_STEPS,
        batch_size=BATCH_SIZE,
        n_epochs=PASSES,
        learning_rate=LR,
        policy_kwargs={"net_arch": {"pi": HIDDEN, "vf": HIDDEN}, "activation_fn": torch.nn.Tanh},
        device="cpu",
        seed=1,
    )

    def advance(n_updates: int) -> int:
        before = model.num_timesteps
        steps = n_updates * N_ENVS * N_STEPS
        model.learn(steps, reset_num_timesteps=before == 0, log_interval=1_000_000)
        return int(model.num_timesteps - before) if before else steps

    return advance


def measure(advance: Advance, n_updates: int) -> tuple[float, float]:
    """Environment steps per second of wall time, and per second of CPU time of this process."""
    wall, cpu = time.perf_counter(), time.process_time()
    steps = advance(n_updates)
    return steps / (time.perf_counter() - wall), steps / (time.process_time() - cpu)


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=5, help="alternating rounds after one to warm up")
    parser.add_argument("--updates", type=int, default=30, help="PPO updates per round")
    arguments = parser.parse_args()
    with one_thread():  # as training does
        contenders = {"maze_core": ours(), "stable-baselines3": stable_baselines3()}
        for advance in contenders.values():
            advance(3)
        rates: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
        for _ in range(arguments.rounds):
            for name, advance in contenders.items():
                rates[name].append(measure(advance, arguments.updates))
    write_report("train_throughput", _rows(rates))


def _rows(rates: dict[str, list[tuple[float, float]]]) -> list[dict[str, object]]:
    peer = rates["stable-baselines3"]
    rows: list[dict[str, object]] = []
    for name, pairs in rates.items():
        wall, cpu = (statistics.median(column) for column in zip(*pairs, strict=True))
        peer_wall, peer_cpu = (statistics.median(column) for column in zip(*peer, strict=True))
        rows.append(
            {
                "trainer": name,
                "steps_per_s": round(wall),
                "steps_per_cpu_s": round(cpu),
                "ratio_wall": round(wall / peer_wall, 2),
                "ratio_cpu": round(cpu / peer_cpu, 2),
            }
        )
    return rows


if __name__ == "__main__":
    main()
