"""The events that every environment of domain logic has."""

import numpy as np

from maze_core.events.declared import (
    define_episode_stats,
    define_epoch_stats,
    define_stats_grouping,
    define_step_stats,
)


class RewardEvents:
    """What is paid."""

    @define_epoch_stats(np.mean, input_name="total", output_name="mean")
    @define_epoch_stats(np.std, input_name="total", output_name="std")
    @define_epoch_stats(min, input_name="total", output_name="min")
    @define_epoch_stats(max, input_name="total", output_name="max")
    @define_epoch_stats(np.mean, input_name="steps", output_name="mean_step_count")
    @define_epoch_stats(np.median, input_name="steps", output_name="median_step_count")
    @define_epoch_stats(sum, input_name="steps", output_name="total_step_count", cumulative=True)
    @define_epoch_stats(len, input_name="total", output_name="episode_count")
    @define_episode_stats(sum, output_name="total")
    @define_episode_stats(len, output_name="steps")
    @define_step_stats(sum)
    def reward_original(self, value: float) -> None:
        """The environment's own reward of a sub-step, over all actors."""


class BaseEnvEvents:
    """What an environment says of an episode as a whole."""

    @define_epoch_stats(np.mean, output_name="mean")
    @define_epoch_stats(np.std, output_name="std")
    @define_epoch_stats(min, output_name="min")
    @define_epoch_stats(max, output_name="max")
    @define_episode_stats(None)
    @define_step_stats(None, input_name="value")
    @define_stats_grouping("name")
    def kpi(self, name: str, value: float) -> None:
        """A key performance indicator of an episode that ended."""


KPI_LABEL = "BaseEnvEvents/kpi"
