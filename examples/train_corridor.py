"""Train on an environment of one's own, with configuration modules of one's own: seconds on one core.

python -m examples.train_corridor
"""

from pathlib import Path

import examples.corridor  # noqa: F401  (registers Corridor-v0)
from maze_core import RunContext

CONF = Path(__file__).parent / "conf"


def train(run_dir: Path | None = None, seed: int = 1) -> float:
    """Train and evaluate; returns the mean return over 10 episodes."""
    with RunContext(run_dir=run_dir, config_dirs=[CONF], experiment="corridor_brief", seed=seed) as rc:
        report = rc.train()
        print(f"{report.stop_reason} after {report.counters.env_steps} steps; written to {rc.run_dir}")
        score = rc.evaluate(n_episodes=10)
        print(
            f"mean return {score.mean_return:.2f}; in the middle it walks {rc.compute_action([0.0])['action']}"
        )
        return score.mean_return


if __name__ == "__main__":
    train()
