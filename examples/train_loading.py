"""Train a policy that loads trucks, and compare it with the dispatcher's rule on the same days.

python -m examples.train_loading
"""

from dataclasses import dataclass
from pathlib import Path

from examples.loading import BestFit
from maze_core import RunContext
from maze_core.evaluation.evaluate import mean_interval

CONF = Path(__file__).parent / "conf"


@dataclass(frozen=True)
class Comparison:
    """Both on the same days."""

    policy: float
    """Mean return."""
    rule: float
    better_by: tuple[float, float]
    """95 % confidence interval of the mean difference, day by day."""
    fill: float
    """How full the policy's trucks were."""


def train(
    run_dir: Path | None = None, *, seed: int = 1, n_epochs: int | None = None, n_days: int = 500
) -> Comparison:
    """Train, and play ``n_days`` episodes with the policy and with the rule."""
    with RunContext(
        run_dir=run_dir, config_dirs=[CONF], experiment="loading_ppo", seed=seed, silent=True
    ) as rc:
        rc.train(n_epochs)
        learnt = rc.rollout(n_days, seed=0, record=False).summary
    with RunContext(config_dirs=[CONF], env="loading", policy=BestFit(), silent=True) as rc:
        ruled = rc.rollout(n_days, seed=0, record=False).summary
    better_by = mean_interval([ours - its for ours, its in zip(learnt.returns, ruled.returns, strict=True)])
    assert better_by is not None
    fill = learnt.statistics["BaseEnvEvents/kpi/mean/fill"]
    return Comparison(learnt.mean_return, ruled.mean_return, better_by, fill)


if __name__ == "__main__":
    found = train()
    low, high = found.better_by
    print(
        f"policy {found.policy:.2f}, rule {found.rule:.2f}: better by {low:.2f} to {high:.2f}; {found.fill:.1%} full"
    )
