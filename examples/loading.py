"""Loading trucks: a planning task made of domain logic, conversions, events and indicators.

Parcels of different sizes come along a belt, of which the first few can be reached. In every step one of them is picked
(sub-step ``pick``) and put into a truck (sub-step ``load``). A truck leaves when a parcel is put into it that does not
fit any more, which is allowed where it fits nowhere. Leaving with room to spare is what costs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from gymnasium import spaces
from pydantic import Field

from maze_core import (
    ActionConversionInterface,
    ActorID,
    CoreEnv,
    KpiCalculator,
    MazeEnv,
    ObservationConversionInterface,
    RewardAggregatorInterface,
)
from maze_core.events import (
    EpisodeEventLog,
    EventService,
    define_episode_stats,
    define_epoch_stats,
    define_step_stats,
)
from maze_core.types import Action, Array, Observation

PICK, LOAD = "pick", "load"
Hundred = Annotated[int, Field(ge=1, le=100)]


class YardEvents:
    """What happens in the yard."""

    @define_epoch_stats(np.mean, output_name="mean_size")
    @define_episode_stats(np.mean)
    @define_step_stats(None, input_name="size")
    def parcel_loaded(self, size: int, dock: int) -> None:
        """A parcel was put into the truck at a dock."""

    @define_epoch_stats(np.mean, input_name="count", output_name="per_episode")
    @define_epoch_stats(sum, input_name="count", output_name="so_far", cumulative=True)
    @define_episode_stats(sum, output_name="count")
    @define_step_stats(len)
    def truck_sent(self, load: int, capacity: int) -> None:
        """A truck left."""


@dataclass
class Yard:
    """The state."""

    loads: list[int]
    """What each truck at the docks has in it."""
    belt: list[int]
    """Sizes of the parcels that are still to come; the first few can be reached."""
    picked: int | None = None
    """Place on the belt of the parcel that was picked and not yet loaded."""


class LoadingCore(CoreEnv):
    """The domain logic. An action is a place on the belt, or a dock."""

    def __init__(
        self, n_parcels: int, n_docks: int, n_reached: int, capacity: int, sizes: Sequence[int]
    ) -> None:
        super().__init__()
        self.n_parcels, self.n_docks, self.n_reached = n_parcels, n_docks, n_reached
        self.capacity, self.sizes = capacity, sizes
        self.events = self.pubsub.create_event_topic(YardEvents)
        self.reward_aggregator = RoomLost()
        self.pubsub.register_subscriber(self.reward_aggregator)
        self.yard = Yard([], [])

    def seed(self, seed: int) -> None:
        """Start the random stream anew."""
        self._rng = np.random.default_rng(seed)

    def reset(self) -> Yard:
        """Empty trucks, and a new belt."""
        self.yard = Yard([0] * self.n_docks, self._rng.choice(self.sizes, self.n_parcels).tolist())
        return self.yard

    def step(self, maze_action: int) -> tuple[Yard, float, bool, bool, dict[str, Any]]:
        """Pick a parcel, or load the one that was picked."""
        yard = self.yard
        if yard.picked is None:
            yard.picked = maze_action
        else:
            self._load(yard.belt.pop(yard.picked), maze_action)
            yard.picked = None
            if not yard.belt:
                for load in filter(None, yard.loads):
                    self.events.truck_sent(load, self.capacity)
        return yard, self.reward_aggregator.summarize_reward(yard), not yard.belt, False, {}

    def _load(self, size: int, dock: int) -> None:
        if self.yard.loads[dock] + size > self.capacity:
            self.events.truck_sent(self.yard.loads[dock], self.capacity)
            self.yard.loads[dock] = 0
        self.yard.loads[dock] += size
        self.events.parcel_loaded(size, dock)

    def get_maze_state(self) -> Yard:
        """The yard now."""
        return self.yard

    def actor_id(self) -> ActorID:
        """Picks and loads take turns."""
        return ActorID(PICK if self.yard.picked is None else LOAD, 0)

    @property
    def agent_counts_dict(self) -> dict[int | str, int]:
        """One agent does both."""
        return {PICK: 1, LOAD: 1}

    def get_kpi_calculator(self) -> "Fill":
        """How full the trucks were."""
        return Fill()

    def get_renderer(self) -> "YardRenderer":
        """Draws the yard."""
        return YardRenderer(self.capacity, self.n_reached)


class RoomLost(RewardAggregatorInterface):
    """Every truck costs the share of it that leaves empty."""

    def get_interfaces(self) -> list[type]:
        """What it hears of."""
        return [YardEvents]

    def summarize_reward(self, maze_state: Yard) -> float:
        """Of the trucks that left in this sub-step."""
        sent = [event.attributes for event in self.query_events(YardEvents.truck_sent)]
        return -sum(1 - truck["load"] / truck["capacity"] for truck in sent)


class Fill(KpiCalculator):
    """How many trucks there were, and how full."""

    def calculate_kpis(self, episode_event_log: EpisodeEventLog, last_maze_state: Yard) -> dict[str, float]:
        """Of all trucks of the episode."""
        sent = [event.attributes for event in episode_event_log.query_events(YardEvents.truck_sent)]
        room = sum(truck["capacity"] for truck in sent)
        return {"trucks": len(sent), "fill": sum(truck["load"] for truck in sent) / room if room else 1.0}


class Seen(ObservationConversionInterface):
    """Sizes that can be reached and room in the trucks, each as an indicator; and what may be done."""

    def __init__(self, core: LoadingCore, step: str) -> None:
        self.core, self.step = core, step
        self._one_of = np.eye(core.capacity + 1, dtype=np.float32)

    def space(self) -> spaces.Dict:
        """The masks are named after the actions: ``place_mask``, ``dock_mask``."""

        def shares(*shape: int) -> spaces.Box:
            return spaces.Box(0, 1, shape, np.float32)

        core, n = self.core, self.core.capacity + 1
        seen = {"reached": shares(core.n_reached, n), "room": shares(core.n_docks, n), "left": shares(1)}
        if self.step == PICK:
            return spaces.Dict(seen | {"place_mask": shares(core.n_reached)})
        return spaces.Dict(seen | {"room_then": shares(core.n_docks, n), "dock_mask": shares(core.n_docks)})

    def maze_to_space(self, maze_state: Yard) -> Observation:
        """What is seen of the yard."""
        core, yard = self.core, maze_state
        sizes = np.zeros(core.n_reached, np.int64)
        in_reach = [size for i, size in enumerate(yard.belt[: core.n_reached]) if i != yard.picked]
        sizes[: len(in_reach)] = in_reach
        room = core.capacity - np.array(yard.loads)
        seen = {
            "reached": self._one_of[sizes],
            "room": self._one_of[room],
            "left": np.array([len(yard.belt) / core.n_parcels], np.float32),
        }
        if yard.picked is None:
            return seen | {"place_mask": (sizes > 0).astype(np.float32)}
        then = room - yard.belt[yard.picked]
        fits = then >= 0
        return seen | {
            "room_then": self._one_of[np.maximum(then, 0)] * fits[:, None],
            "dock_mask": (fits if fits.any() else ~fits).astype(np.float32),
        }


class Choice(ActionConversionInterface):
    """One of the places on the belt, or of the docks."""

    def __init__(self, name: str, n: int) -> None:
        self.name, self.n = name, n

    def space(self) -> spaces.Dict:
        """A number."""
        return spaces.Dict({self.name: spaces.Discrete(self.n)})

    def space_to_maze(self, action: Action, maze_state: Yard) -> int:
        """The number itself."""
        return int(action[self.name])


class YardRenderer:
    """Trucks as bars that fill from below, and the parcels in reach beside them."""

    def __init__(self, capacity: int, n_reached: int) -> None:
        self.capacity, self.n_reached = capacity, n_reached

    def render(self, maze_state: Yard, maze_action: Any, events: EventService) -> Array:
        """A picture ``[height, width, 3]``."""
        parcels = (maze_state.belt + [0] * self.n_reached)[: self.n_reached]
        bars = [(load, (52, 101, 164)) for load in maze_state.loads]
        bars += [
            (size, (204, 102, 0) if i == maze_state.picked else (150, 150, 150))
            for i, size in enumerate(parcels)
        ]
        height = 16 * self.capacity
        picture = np.full((height + 16, 40 * len(bars) + 16, 3), 255, np.uint8)
        for i, (size, colour) in enumerate(bars):
            left = 16 + 40 * i
            picture[8:-8, left : left + 24] = 235
            picture[8 + height - 16 * size : 8 + height, left : left + 24] = colour
        return picture


class LoadingEnv(MazeEnv):
    """The environment: the core, and what a policy sees and does in its two sub-steps."""

    def __init__(
        self,
        n_parcels: Annotated[int, Field(ge=1, le=1000)] = 24,
        n_docks: Hundred = 2,
        n_reached: Hundred = 3,
        capacity: Hundred = 8,
        sizes: Annotated[Sequence[Hundred], Field(min_length=1, max_length=100)] = (2, 3, 4, 5),
    ) -> None:
        """Make a yard.

        Args:
            n_parcels: parcels of an episode.
            n_docks: trucks that are loaded at a time.
            n_reached: parcels from the front of the belt that can be picked.
            capacity: of each truck.
            sizes: of parcels, each as likely.
        """
        core = LoadingCore(n_parcels, n_docks, n_reached, capacity, sizes)
        super().__init__(
            core_env=core,
            action_conversion_dict={PICK: Choice("place", n_reached), LOAD: Choice("dock", n_docks)},
            observation_conversion_dict={PICK: Seen(core, PICK), LOAD: Seen(core, LOAD)},
        )


class BestFit:
    """What a dispatcher does: the largest parcel that fits somewhere, where it leaves the least room."""

    def act(self, step_key: str, observations: Observation, **_: Any) -> Action:
        """For a batch of yards."""
        room = observations["room"].argmax(axis=-1)
        if step_key == PICK:
            sizes = observations["reached"].argmax(axis=-1)
            fits = sizes <= room.max(axis=1, keepdims=True)
            return {"place": np.where(sizes > 0, sizes + 100 * fits, -1).argmax(axis=1)}
        fits_nowhere = observations["room_then"].sum(axis=(1, 2)) == 0
        left = np.where(fits_nowhere[:, None], room, observations["room_then"].argmax(axis=-1))
        return {"dock": np.where(observations["dock_mask"] > 0, left, 100).argmin(axis=1)}
