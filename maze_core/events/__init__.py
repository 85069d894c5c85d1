"""Declared events of environments: what they are, who hears of them, and the statistics that are made of them."""

from maze_core.events.built_in import BaseEnvEvents, RewardEvents
from maze_core.events.declared import (
    EventRecord,
    define_episode_stats,
    define_epoch_stats,
    define_stats_grouping,
    define_step_stats,
)
from maze_core.events.kpi import EpisodeEventLog, KpiCalculator
from maze_core.events.pubsub import Pubsub, RewardAggregatorInterface, Subscriber
from maze_core.events.service import EnvironmentContext, EventService

__all__ = [
    "BaseEnvEvents",
    "EnvironmentContext",
    "EpisodeEventLog",
    "EventRecord",
    "EventService",
    "KpiCalculator",
    "Pubsub",
    "RewardAggregatorInterface",
    "RewardEvents",
    "Subscriber",
    "define_episode_stats",
    "define_epoch_stats",
    "define_stats_grouping",
    "define_step_stats",
]
