"""Environments of other packages, trained, judged and acted in; ``make test-envs`` prints how each went.

Each is played in a process of its own, because some of them leave settings, threads or windows behind.
"""

import argparse
import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from typing import Any

import gymnasium
import numpy as np

LIMIT_S = 600


@dataclass(frozen=True)
class Play:
    """One environment of a package."""

    package: str
    """Its distribution."""
    env_id: str
    needs: str
    """What it takes to make it trainable, in words."""
    module: str | None = None
    """Imported first, so that it registers its ids."""
    wrap: Callable[[Any], Any] | None = None
    make: Callable[[], Any] | None = None
    """In place of ``gymnasium.make``."""


def _flat_minigrid(env: Any) -> Any:
    return import_module("minigrid.wrappers").FlatObsWrapper(env)


def _linear_reward(env: Any) -> Any:
    return import_module("mo_gymnasium.wrappers").LinearReward(env)


def _crafter() -> Any:
    from maze_core.envs.legacy_gym import LegacyGymAdapter

    return LegacyGymAdapter(import_module("crafter").Env())


def _trading() -> Any:
    import_module("gym_trading_env")
    pandas = import_module("pandas")

    index = pandas.date_range("2024-01-01", periods=300, freq="h")
    close = 100 + np.cumsum(np.random.default_rng(1).normal(size=300))
    table = pandas.DataFrame(
        {"open": close, "high": close, "low": close, "close": close, "volume": 1.0}, index
    )
    table["feature_change"] = table["close"].pct_change().fillna(0.0)
    return gymnasium.make("TradingEnv", df=table, verbose=0)


def _nasim() -> Any:
    env = import_module("nasim").make_benchmark("tiny")
    return gymnasium.wrappers.TransformAction(env, int, env.action_space)


PLAYS = (
    Play("minigrid", "MiniGrid-Empty-5x5-v0", "nothing; the text `mission` is left out"),
    Play("minigrid", "MiniGrid-Empty-6x6-v0", "its FlatObsWrapper, by choice", wrap=_flat_minigrid),
    Play("gymnasium", "LunarLander-v3", "the extra `box2d`"),
    Play("gymnasium", "Ant-v5", "the extra `mujoco`"),
    Play(
        "ale-py",
        "ALE/Breakout-v5",
        "the extra `atari`; `kwargs: {obs_type: ram}` for a dense net, `env=atari` for pictures",
    ),
    Play("highway-env", "highway-v0", "its module imported", module="highway_env"),
    Play("gymnasium-robotics", "PointMaze_UMaze-v3", "its module imported", module="gymnasium_robotics"),
    Play(
        "mo-gymnasium",
        "deep-sea-treasure-v0",
        "a scalar reward: its LinearReward",
        module="mo_gymnasium",
        wrap=_linear_reward,
    ),
    Play("minatar", "MinAtar/Breakout-v1", "the extra `minatar`"),
    Play("flappy-bird-gymnasium", "FlappyBird-v0", "its module imported", module="flappy_bird_gymnasium"),
    Play("gym-anytrading", "stocks-v0", "its module imported", module="gym_anytrading"),
    Play("gym-trading-env", "TradingEnv", "a table of prices", make=_trading),
    Play(
        "tetris-gymnasium", "tetris_gymnasium/Tetris", "its module imported", module="tetris_gymnasium.envs"
    ),
    Play("popgym", "popgym-RepeatPreviousEasy-v0", "its module imported", module="popgym"),
    Play("vizdoom", "VizdoomBasic-v1", "its module imported", module="vizdoom.gymnasium_wrapper"),
    Play(
        "crafter",
        "crafter.Env",
        "the extra `gym`, and `LegacyGymAdapter(crafter.Env())`",
        make=_crafter,
    ),
    Play(
        "nasim",
        "nasim tiny",
        "whole numbers of Python as actions: `TransformAction(env, int, env.action_space)`",
        make=_nasim,
    ),
)


def made(play: Play) -> Any:
    """A new environment of this play."""
    if play.module is not None:
        import_module(play.module)
    if play.make is not None:
        return play.make()
    from maze_core.envs.gym_env import make_gym

    kwargs = {"obs_type": "ram"} if play.env_id.startswith("ALE/") else {}
    env = make_gym(play.env_id, kwargs=kwargs)
    return play.wrap(env) if play.wrap else env


def whole_cycle(play: Play) -> str:
    """Train, judge, act on raw observations in the environment itself; says how it went."""
    from maze_core import RunContext

    overrides = {
        "algorithm.n_epochs": 1,
        "algorithm.epoch_length": 1,
        "algorithm.n_rollout_steps": 8,
        "algorithm.batch_size": 16,
        "algorithm.rollout_evaluator.n_episodes": 1,
        "algorithm.rollout_evaluator.max_episode_steps": 50,
        "runner.n_envs": 2,
    }
    with (
        tempfile.TemporaryDirectory() as directory,
        contextlib.chdir(directory),  # some write files where they are made
        RunContext(env=lambda: made(play), overrides=overrides, seed=1, run_dir=directory, silent=True) as rc,
    ):
        rc.train()
        score = rc.evaluate(n_episodes=1)
        env = rc.env_factory()
        observation = env.reset()
        for _ in range(20):
            observation, _, is_over, _ = env.step(rc.compute_action(observation))
            if is_over:
                observation = env.reset()
        env.close()
    return f"return {score.mean_return:.4g} after one update"


def main() -> int:
    """Play all, or the one that is named; exit code 1 where one fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("only", nargs="?", help="play this one in this process")
    only = parser.parse_args().only
    if only is not None:
        print(whole_cycle(next(play for play in PLAYS if play.env_id == only)))
        return 0
    print("| package | environment | what it needs | tried |\n|---|---|---|---|")
    n_failed = 0
    for play in PLAYS:
        command = [sys.executable, "-W", "ignore", "-m", "tools.environments", play.env_id]
        try:
            ended = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
            is_fine, told = ended.returncode == 0, ended.stdout if ended.returncode == 0 else ended.stderr
        except subprocess.TimeoutExpired:
            is_fine, told = False, f"not done after {LIMIT_S} s"
        last = (told.strip().splitlines() or ["no word"])[-1]
        outcome = last if is_fine else f"FAILED: {last}"
        n_failed += not is_fine
        print(
            f"| {play.package} {version(play.package)} | `{play.env_id}` | {play.needs} | {outcome} |",
            flush=True,
        )
    return int(n_failed > 0)


if __name__ == "__main__":
    sys.exit(main())
