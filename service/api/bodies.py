"""What clients may say: bodies of strict JSON, as strict models; RunContext's own arguments, and no way to name a path.

The shape is checked here; names, values and ceilings are checked by ``maze_core.config`` (compose and trust).
"""

import re
from collections.abc import Callable, Collection, Coroutine
from typing import Annotated, Any, Literal

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError
from starlette.concurrency import run_in_threadpool

from service.api.audit import audited
from service.json_values import decode_json, find_unusable
from service.problems import Problem


def _component(value: Any) -> Any:
    if value is None or isinstance(value, str | dict):
        return value
    raise PydanticCustomError("name_or_object", "Give the name of a configuration module, or an object")


def _wrappers(value: Any) -> Any:
    return value if isinstance(value, list) else _component(value)


_COMPONENT_SCHEMA = [{"type": "string"}, {"type": "object"}, {"type": "null"}]

Component = Annotated[Any, AfterValidator(_component), WithJsonSchema({"anyOf": _COMPONENT_SCHEMA})]
"""A configuration module's name, or an object with ``_target_``."""
Wrappers = Annotated[
    Any,
    AfterValidator(_wrappers),
    WithJsonSchema({"anyOf": [*_COMPONENT_SCHEMA, {"type": "array", "items": {"type": "object"}}]}),
]

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def _one_line(text: str) -> str:
    if _CONTROL.search(text):
        raise PydanticCustomError(
            "control_character", "Control characters, such as line breaks, are not allowed"
        )
    return text


OneLine = Annotated[
    str, AfterValidator(_one_line), Field(json_schema_extra={"pattern": r"^[^\x00-\x1f\x7f-\x9f]*$"})
]
"""Text for people that stands in lists and logs."""
Title = Annotated[OneLine, StringConstraints(min_length=1, max_length=200)]
LabelValue = Annotated[OneLine, StringConstraints(max_length=256)]
Word = Annotated[str, StringConstraints(min_length=1, max_length=128)]
_LABEL_KEY = r"^[A-Za-z0-9_.-]{1,64}$"
Labels = Annotated[
    dict[
        Annotated[str, StringConstraints(pattern=_LABEL_KEY)],
        LabelValue,
    ],
    WithJsonSchema(  # pydantic's own says nothing against other keys, and generators know no patternProperties
        {
            "type": "object",
            "propertyNames": {"pattern": _LABEL_KEY},
            "additionalProperties": TypeAdapter(LabelValue).json_schema(),
            "maxProperties": 32,
        }
    ),
]
Selector = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_:.-]{1,64}$")]
"""Which checkpoint of a run."""


def check_labels(labels: Collection[str]) -> None:
    """Refuse a key that no submission could have."""
    for key in labels:
        if not re.fullmatch(_LABEL_KEY, key):
            message = "A label's key has 1 to 64 letters, digits, dots, dashes and underscores."
            raise Problem.at(f"/labels/{key}", "invalid_value", message)


Seed = Annotated[int, Field(ge=0, lt=2**32)]
Priority = Annotated[int, Field(ge=-1000, le=1000)]
Count = Annotated[int, Field(ge=1, le=10_000)]


class In(BaseModel):
    """Base of every body: strict types, no unknown fields, no NaN."""

    model_config = ConfigDict(
        strict=True, extra="forbid", allow_inf_nan=False, frozen=True, use_attribute_docstrings=True
    )

    def given(self, *names: str) -> dict[str, Any]:
        """Those of these fields, of all without names, that the client wrote with a value that is not null."""
        wanted = [name for name in type(self).model_fields if not names or name in names]
        written = [name for name in wanted if name in self.model_fields_set]
        return {name: _given(value) for name in written if (value := getattr(self, name)) is not None}


def _given(value: Any) -> Any:
    if isinstance(value, In):
        return value.given()
    return [_given(item) for item in value] if isinstance(value, list) else value


class Resources(In):
    """What a run takes of the machine that it is on; decides where it runs, and no number of it."""

    cpus: Annotated[float, Field(ge=0, le=1024)] = 1.0
    """Processors. A cluster starts the run where they are free; one machine goes by its slots."""
    gpus: Annotated[float, Field(ge=0, le=64)] = 0.0
    """Graphics processors of a cluster's node; below 1, runs share one."""
    memory_mib: Annotated[int, Field(ge=64, le=2**24)] | None = None
    """Address space of its process; beyond it the run fails, as beyond the operator's limit, which stays."""


class Labelled(In):
    """What every submission may carry."""

    name: Title | None = None
    """For people; need not be unique."""
    labels: Labels = Field(default_factory=dict, max_length=32)
    """To find runs again: ``GET /v1/runs?label=team=a``."""
    priority: Priority = 0
    """Of two waiting runs, the one with the higher number starts first."""
    resources: Resources | None = None
    """What the run takes of its machine; those of the run that it follows from when left out."""


class Submitted(Labelled):
    """What every run that begins anew may carry."""

    seed: Seed | None = None
    """Makes the run repeatable; drawn, recorded and echoed when left out."""


class Composition(In):
    """The arguments of RunContext that choose and change the configuration."""

    env: Component = None
    """Environment: a module of ``/v1/config/groups/env``, or an object with ``_target_``."""
    wrappers: Wrappers = None
    """Wrappers around the environment: a module, ``{class: arguments}``, or a list."""
    model: Component = None
    """The networks: a module, or an object."""
    policy: Component = None
    """Of the model when training; who acts, in a rollout."""
    runner: Component = None
    """How environments are run; changes no number."""
    experiment: Word | None = None
    """A module of ``/v1/config/groups/experiment``."""
    configuration: Word | None = None
    """A preset of ``/v1/config/groups/configuration``."""
    overrides: dict[str, Any] = Field(default_factory=dict, max_length=256)
    """Values by dotted key: ``{"env.name": "CartPole-v1", "algorithm.gamma": 0.99}``."""


COMPOSITION = tuple(Composition.model_fields)


class Budgets(In):
    """When a training ends: at the first that is reached, which the run's ``reason`` names."""

    n_epochs: Annotated[int, Field(ge=0)] | None = None
    """How many epochs to train, 0 without a limit; the configuration's own number when left out: ``completed``."""
    max_env_steps: Annotated[int, Field(ge=1)] | None = None
    """End after the epoch in which training has taken so many environment steps altogether: ``budget_env_steps``."""
    max_wall_s: Annotated[float, Field(gt=0)] | None = None
    """End after the epoch in which workers have spent so many seconds on the run: ``budget_wall_clock``."""
    patience: Annotated[int, Field(ge=1)] | None = None
    """End after so many evaluations in a row without a better one: ``patience``."""
    target_return: float | None = None
    """End when an evaluation reaches this mean return: ``target_reached``."""


class Filmed(In):
    """What a training films of its policy."""

    videos: Annotated[int, Field(ge=0, le=10)] | None = None
    """Film so many episodes before anything is learnt, at scheduled checkpoints (of many, 16 or fewer over the whole
    training are kept), and of the best and the last policy; 0 when left out. Changes no number."""


class TrainRequest(Composition, Submitted, Budgets, Filmed):
    """Train a policy."""

    algorithm: Component = None
    """The algorithm: ``ppo``, ``a2c``, or an object."""
    critic: Component = None
    """The model's critic: a module, or an object."""
    config: dict[str, Any] | None = None
    """A resolved configuration, as `GET /v1/runs/{id}/config` gives it; fields beside it replace its parts."""


class ForkPolicyRequest(Composition, Submitted, Budgets, Filmed):
    """Train anew with the configuration of a run; what is given here takes the place of its parts."""

    algorithm: Component = None
    """The algorithm: ``ppo``, ``a2c``, or an object."""
    critic: Component = None
    """The model's critic: a module, or an object."""


class ForkRequest(ForkPolicyRequest):
    """As of a policy that is named, with any checkpoint of the run, or none."""

    checkpoint: Selector | None = None
    """Begin with the policy of this checkpoint of the run; with fresh weights when left out."""


class RetryRequest(Labelled):
    """Try a run again; its name and labels where none are given."""


class ContinueRequest(Labelled, Budgets, Filmed):
    """Train on from a checkpoint of a run that has ended; its name and labels where none are given."""

    n_epochs: Annotated[int, Field(ge=1, le=1_000_000_000)] | None = None
    """Further epochs; what is left of the configured number, or that number again, when left out."""
    checkpoint: Selector = "last"
    """``last`` (the default), ``best``, ``epoch:N`` or a checkpoint id."""


class ComposeRequest(TrainRequest):
    """Resolve a configuration without running it."""

    mode: Literal["train", "rollout"] = "train"


class DiffSide(ComposeRequest):
    """A configuration: that of a run, as it would be submitted, or of a run with changes."""

    run: Word | None = None
    """Id of a run; what stands beside it replaces its parts."""


class DiffRequest(In):
    """Compare two configurations."""

    left: DiffSide
    """What is compared."""
    right: DiffSide
    """What it is compared with."""


PolicyName = Annotated[str, StringConstraints(min_length=1, max_length=140)]
"""``name@alias`` or ``name:3``."""


class NamesPolicy(In):
    """Whose policy acts."""

    run: Word | None = None
    """Id of the training run whose policy acts, through its whole trained stack."""
    checkpoint: Selector | None = None
    """Of the run: ``best`` (the default), ``last``, ``epoch:N`` or a checkpoint id."""
    policy: PolicyName | None = None
    """In place of both: a policy by its name, ``name@alias`` or ``name:3``."""


class Acting(In):
    """How episodes are played."""

    max_episode_steps: Annotated[int, Field(ge=0)] | None = None
    """Cut episodes after so many steps; null takes the limit of the run's own evaluation, 0 never cuts."""
    deterministic: bool = True
    """Take the most likely action rather than a drawn one."""
    n_envs: Annotated[int, Field(ge=1)] | None = None
    """How many environments are played side by side; changes no episode."""


class RolloutRequest(Composition, Submitted, Acting):
    """Play episodes with a trained policy (``run``), or with ``policy`` in an environment."""

    run: Word | None = None
    """Id of the training run whose policy acts, through its whole trained stack."""
    checkpoint: Selector | None = None
    """``best`` (the default), ``last``, ``epoch:N`` or a checkpoint id."""
    policy: Component = None
    """A trained policy as ``name@alias`` or ``name:3``, in place of ``run``; or one that needs no training."""
    n_episodes: Count | None = None
    """How many episodes are played."""
    record: bool | Annotated[list[Literal["trajectory", "video"]], Field(max_length=2)] = True
    """What is kept of each episode, as ``["trajectory", "video"]``; true is its trajectory (observations, actions and
    rewards), false is nothing."""
    videos: Annotated[int, Field(ge=0)] | None = None
    """How many of the first episodes are filmed; all of them with ``video`` in ``record`` when left out."""


class EvaluateRequest(NamesPolicy, Submitted, Acting):
    """Measure a trained policy: mean return with its confidence interval over seeded episodes."""

    n_episodes: Count = 20
    """How many episodes are played."""


_DECODE_ON_LOOP_BYTES = 65_536
"""Longer bodies are decoded in a thread."""


class StrictRoute(APIRoute):
    """A route whose body is strict JSON; it is kept in the scope, so that problems can point into it.

    Where the answer depends on Accept, it says so to caches.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's handler, given our request."""
        handle = audited(self, super().get_route_handler())
        if any(field.alias == "accept" for field in self.dependant.header_params):
            return _varying(handle)
        if self.body_field is None:  # what else comes is refused as unread
            return handle

        async def handle_strictly(request: Request) -> Response:
            strict = _StrictRequest(request.scope, request.receive)
            if body := await strict.body():
                is_long = len(body) > _DECODE_ON_LOOP_BYTES
                value = await run_in_threadpool(_decode, body) if is_long else _decode(body)
                request.scope["maze.body"] = value
            return await handle(strict)

        return handle_strictly


def _varying(
    handle: Callable[[Request], Coroutine[Any, Any, Response]],
) -> Callable[[Request], Coroutine[Any, Any, Response]]:
    async def handle_varying(request: Request) -> Response:
        response = await handle(request)
        response.headers.add_vary_header("Accept")
        return response

    return handle_varying


class _StrictRequest(Request):
    async def json(self) -> Any:
        """The decoded body."""
        return self.scope["maze.body"]


def _decode(body: bytes) -> Any:
    value = decode_json(body)
    if unusable := find_unusable(value):
        raise Problem.at(unusable.pointer, "unusable_value", unusable.message)
    return value
