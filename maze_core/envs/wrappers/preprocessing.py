"""Observations in another form, step by step: grey, smaller, flat, as indicators."""

from typing import Annotated, Any

from gymnasium import spaces
from pydantic import BeforeValidator

from maze_core.config.nodes import shown
from maze_core.config.settings import Components, dataclass
from maze_core.envs.preprocessors import (
    FlattenPreProcessor,
    OneHotPreProcessor,
    PreProcessor,
    ResizeImgPreProcessor,
    Rgb2GrayPreProcessor,
    TransposePreProcessor,
    UnSqueezePreProcessor,
)
from maze_core.envs.wrappers.wrapper import STRICT, Spaces, States, Wrapper
from maze_core.errors import EnvError
from maze_core.types import Observation, StepKey


def _is_one(value: Any) -> Any:
    if not isinstance(value, PreProcessor):
        raise ValueError(
            f"{shown(value)} is no pre-processor: give {{'_target_': 'maze_core.Rgb2GrayPreProcessor', "
            "'observation': …}, or an object of a subclass of PreProcessor"
        )
    return value


_Entry = Annotated[
    Any,
    BeforeValidator(_is_one),
    Components(
        FlattenPreProcessor,
        OneHotPreProcessor,
        ResizeImgPreProcessor,
        Rgb2GrayPreProcessor,
        TransposePreProcessor,
        UnSqueezePreProcessor,
    ),
]


@dataclass(kw_only=True, eq=False, config=STRICT)
class PreProcessingWrapper(Wrapper):
    """Pre-process observations in order; what comes out is called ``<observation>-<tag>`` and can be read by the next.

    Tags are ``flatten``, ``one_hot``, ``resize_img``, ``rgb2gray``, ``transpose`` and ``unsqueeze``.
    """

    pre_processor_mapping: list[_Entry]
    """The steps, each with the observation that it reads; every sub-step that shows it is pre-processed."""

    def __post_init__(self) -> None:
        self._at: dict[StepKey, list[PreProcessor]] = {}

    def bind(self, observation_spaces: Spaces, action_spaces: Spaces) -> tuple[Spaces, Spaces]:
        """Find where each observation is shown, and change its spaces."""
        leaves = {key: dict(space.spaces) for key, space in observation_spaces.items()}
        self._at = {key: [] for key in leaves}
        for processor in self.pre_processor_mapping:
            name = processor.observation
            shown_at = [key for key, found in leaves.items() if name in found]
            if not shown_at:
                known = sorted({name for found in leaves.values() for name in found})
                raise EnvError(
                    f"{type(processor).__name__} reads {name!r}, which is not observed here: {known}."
                )
            for key in shown_at:
                found = leaves[key]
                processed = processor.processed_space(found[name])
                if not processor.keep_original:
                    del found[name]
                found[f"{name}-{processor.tag}"] = processed
                self._at[key].append(processor)
        return {key: spaces.Dict(list(found.items())) for key, found in leaves.items()}, action_spaces

    def observation(
        self, step_key: StepKey, observations: Observation, state: States
    ) -> tuple[Observation, States]:
        """One step after the other."""
        shown = dict(observations)
        for processor in self._at[step_key]:
            name = processor.observation
            values = shown[name] if processor.keep_original else shown.pop(name)
            shown[f"{name}-{processor.tag}"] = processor.process(values)
        return shown, state
