"""A small environment of domain logic with two sub-steps, events of every kind and an indicator."""

from typing import Any

import numpy as np
from gymnasium import spaces

from maze_core.envs.domain import ActionConversionInterface, CoreEnv, ObservationConversionInterface
from maze_core.envs.maze_env import MazeEnv
from maze_core.events import (
    KpiCalculator,
    RewardAggregatorInterface,
    define_episode_stats,
    define_epoch_stats,
    define_stats_grouping,
    define_step_stats,
)
from maze_core.types import ActorID


class ShopEvents:
    @define_epoch_stats(np.mean, input_name="sum", output_name="mean_price")
    @define_epoch_stats(sum, input_name="sum", output_name="ever", cumulative=True)
    @define_epoch_stats(max, input_name="most", output_name="most", group_by="colour")
    @define_episode_stats(sum, output_name="sum", group_by=())
    @define_episode_stats(max, output_name="most")
    @define_step_stats(sum, input_name="price")
    @define_stats_grouping("colour")
    def sold(self, colour: str, price: float) -> None: ...

    @define_epoch_stats(sum)
    @define_episode_stats(sum)
    @define_step_stats(len)
    def broken(self) -> None: ...


class Prices(RewardAggregatorInterface):
    def get_interfaces(self) -> list[type]:
        return [ShopEvents]

    def summarize_reward(self, maze_state: Any) -> float:
        return sum(event.attributes["price"] for event in self.query_events(ShopEvents.sold))


class Customers(KpiCalculator):
    def calculate_kpis(self, episode_event_log: Any, last_maze_state: Any) -> dict[str, float]:
        sold = episode_event_log.query_events(ShopEvents.sold)
        return {"customers": len(sold), "last_day": sold[-1].env_time if sold else -1}


class Shop(CoreEnv):
    """Sub-step 0 chooses a colour, sub-step 1 its price; a dear thing is sold by chance. Five days are an episode."""

    n_days = 5

    def __init__(self) -> None:
        super().__init__()
        self.events = self.pubsub.create_event_topic(ShopEvents)
        self.reward_aggregator = Prices()
        self.pubsub.register_subscriber(self.reward_aggregator)
        self.rng = np.random.default_rng()
        self.day, self.colour, self.is_closed = 0, None, False

    def seed(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def reset(self) -> tuple[Any, ...]:
        self.day, self.colour = 0, None
        return self.get_maze_state()

    def step(self, maze_action: Any) -> tuple[Any, ...]:
        if self.colour is None:
            self.colour = maze_action
        else:
            if self.rng.random() < 1 / maze_action:
                self.events.sold(self.colour, price=float(maze_action))
            self.colour = None
            self.day += 1
        reward = self.reward_aggregator.summarize_reward(None)
        return self.get_maze_state(), reward, self.day == self.n_days, {"day": self.day}

    def get_maze_state(self) -> tuple[Any, ...]:
        return self.day, self.colour

    def actor_id(self) -> ActorID:
        return ActorID(0 if self.colour is None else 1, 0)

    @property
    def agent_counts_dict(self) -> dict[Any, int]:
        return {0: 1, 1: 1}

    def get_kpi_calculator(self) -> KpiCalculator:
        return Customers()

    def clone_from(self, env: "Shop") -> None:
        self.day, self.colour = env.day, env.colour
        self.rng.bit_generator.state = env.rng.bit_generator.state

    def close(self) -> None:
        self.is_closed = True


class Seen(ObservationConversionInterface):
    def space(self) -> spaces.Dict:
        return spaces.Dict({"day": spaces.Box(0, 1, (1,), np.float32)})

    def maze_to_space(self, maze_state: Any) -> Any:
        return {"day": np.array([maze_state[0] / Shop.n_days], np.float32)}


class Colour(ActionConversionInterface):
    def space(self) -> spaces.Dict:
        return spaces.Dict({"colour": spaces.Discrete(2)})

    def space_to_maze(self, action: Any, maze_state: Any) -> str:
        return ["red", "blue"][action["colour"]]


class Price(ActionConversionInterface):
    def space(self) -> spaces.Dict:
        return spaces.Dict({"price": spaces.Discrete(4, start=1)})

    def space_to_maze(self, action: Any, maze_state: Any) -> int:
        return int(action["price"])


def make_shop(core: CoreEnv | None = None) -> MazeEnv:
    return MazeEnv(
        core_env=core or Shop(),
        action_conversion_dict={0: Colour(), 1: Price()},
        observation_conversion_dict={0: Seen(), 1: Seen()},
    )
