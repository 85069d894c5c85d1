"""What may be asked, as typed keywords; ``spec: TrainArguments = {…}`` is checked by type checkers, too.

Values are those of JSON. numpy arrays and numbers are taken for lists and numbers, a run for its id.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, TypeAlias, TypedDict
from urllib.parse import quote

import msgspec

from maze_client.answers import Kind, RunFacts, State
from maze_client.errors import MazeClientError

Component: TypeAlias = str | Mapping[str, Any]
"""A configuration module's name, or a dict: with ``_target_``, or of values that change the module's."""


class Resources(TypedDict, total=False):
    """What a run takes of the machine that it is on."""

    cpus: float
    gpus: float
    memory_mib: int


class Labelled(TypedDict, total=False):
    """What every submission may carry."""

    name: str
    labels: Mapping[str, str]
    priority: int
    """Of two waiting runs, the one with the higher number starts first."""
    resources: Resources


class _Composition(Labelled, total=False):
    """The arguments of RunContext that choose and change the configuration."""

    env: Component
    wrappers: Component | Sequence[Mapping[str, Any]]
    model: Component
    policy: Component
    runner: Component
    experiment: str
    configuration: str
    overrides: Mapping[str, Any]
    """Values by dotted key: ``{"env.name": "CartPole-v1"}``."""
    seed: int


class Budgets(TypedDict, total=False):
    """When a training ends: at the first that is reached, which the run's ``reason`` names."""

    n_epochs: int
    max_env_steps: int
    max_wall_s: float
    patience: int
    target_return: float


class Filmed(TypedDict, total=False):
    """What a training films."""

    videos: int
    """Episodes of its policy before anything is learnt, at scheduled checkpoints, and of the best and the last one."""


class _Training(_Composition, Budgets, Filmed, total=False):
    algorithm: Component
    critic: Component


class TrainArguments(_Training, total=False):
    """Of a training."""

    config: Mapping[str, Any]
    """A resolved configuration, as :meth:`Run.config` gives it; what stands beside it replaces its parts."""


class SweepArguments(Labelled, total=False):
    """Of a sweep: a list is several values, and every combination is a run."""

    env: Any
    wrappers: Any
    model: Any
    policy: Any
    runner: Any
    algorithm: Any
    critic: Any
    experiment: str
    configuration: str
    overrides: Mapping[str, Any]
    seed: int | Sequence[int]
    """Several: every set of values is tried with each, and its value is their mean."""
    n_epochs: int | Sequence[int]
    max_env_steps: int | Sequence[int]
    max_wall_s: float | Sequence[float]
    patience: int | Sequence[int]
    target_return: float | Sequence[float]
    config: Mapping[str, Any]
    search: Mapping[str, Any]
    """``space``, ``n_trials``, ``sampler``, ``n_startup_trials``, ``seed``: let a search choose the values."""
    parallel: int
    """How many of its runs may wait or be at work at once."""
    metric: str
    direction: Literal["maximize", "minimize"]
    ask_tell: bool
    """Make no runs: :meth:`Sweep.ask` and :meth:`Sweep.tell`."""


class ForkPolicyArguments(_Training, total=False):
    """Of a training anew with another run's configuration; what is given replaces its parts."""


class ForkArguments(ForkPolicyArguments, total=False):
    """Of the same, from any checkpoint of the run or none."""

    checkpoint: str
    """Begin with this checkpoint's policy; with fresh weights when left out."""


class ContinueArguments(Labelled, Budgets, Filmed, total=False):
    """Of a training that goes on: further epochs, from which checkpoint (``last``), and when to stop sooner."""

    checkpoint: str


class _Acting(TypedDict, total=False):
    run: RunFacts | str
    """The training whose policy acts."""
    checkpoint: str
    """``best`` (the default), ``last``, ``epoch:N`` or a checkpoint's id."""
    n_episodes: int
    max_episode_steps: int
    deterministic: bool
    n_envs: int


class RolloutArguments(_Composition, _Acting, total=False):
    """Of episodes to play, with a run's policy or with ``policy`` in an environment."""

    record: bool | Sequence[Literal["trajectory", "video"]]
    """What is kept: ``["trajectory", "video"]``; True, as it is unless it is said, is the trajectory."""
    videos: int
    """How many of the first episodes are filmed."""


class ReplayArguments(Labelled, total=False):
    """Of a recorded episode that is played once more; ``step`` asks for that one action instead."""

    step: int


class EvaluateArguments(Labelled, _Acting, total=False):
    """Of a measurement of a trained policy."""

    policy: str
    """``name@alias`` or ``name:3``, in place of ``run`` and ``checkpoint``."""
    seed: int


class ComparedPolicy(TypedDict, total=False):
    """One of several policies: a run and a checkpoint of it (``best``), or ``policy``."""

    run: RunFacts | str
    checkpoint: str
    policy: str


class PolicyChanges(TypedDict, total=False):
    """What may be changed of a policy."""

    description: str | None
    gate: Mapping[str, Any] | None
    """``{"aliases": ["champion"], "n_episodes": 50, "seed": 1}``, of which all has a default."""


class CompareArguments(Labelled, total=False):
    """Of policies that play the same episodes, in the environment of the first one's run."""

    policies: Sequence[ComparedPolicy]
    n_episodes: int
    seed: int
    max_episode_steps: int
    deterministic: bool
    n_envs: int


class ActingManyArguments(TypedDict, total=False):
    """How a policy acts: for which sub-step and agent, the most likely action or a drawn one, from which checkpoint."""

    actor_id: tuple[str | int, int] | None
    deterministic: bool
    checkpoint: str
    seed: int
    traffic_key: str
    """Where an alias's traffic is split: requests of one key are answered by one version."""
    states: Sequence[str | None] | None
    """What is carried through the episode of each observation; None begins one with all of them."""
    action_masks: Sequence[Any]
    """What may be done with each observation, beside its own mask; None says nothing."""


class ActingArguments(TypedDict, total=False):
    """The same, for one observation."""

    actor_id: tuple[str | int, int] | None
    deterministic: bool
    checkpoint: str
    seed: int
    traffic_key: str
    state: str | None
    """What is carried through the episode: None with its first observation, and then what came with the last action."""
    action_mask: Any
    """What may be done, beside what the observation says of it: 0 and 1, of the one head with a mask, or by head."""


class Told(TypedDict, total=False):
    """What is to be told beside actions."""

    return_: Sequence[Literal["distribution", "log_prob", "value", "mask"]]
    """These of the decision; all of it where it is left out."""
    top_k: int
    """So many ``candidates`` with their scores."""
    timing: bool
    """``timing_us`` in the queue, of the forward and in all, and the ``batch_size`` of the forward."""


class ExplainArguments(ActingArguments, Told, total=False):
    """The same, for what a policy thought."""


class ExplainManyArguments(ActingManyArguments, Told, total=False):
    """The same, of many observations."""


def explaining(how: Mapping[str, Any]) -> dict[str, Any]:
    """Members of a request that asks what a policy thought."""
    members = {"return" if name == "return_" else name: value for name, value in how.items()}
    return members if "return" in members else members | {"explain": True}


class SessionArguments(TypedDict, total=False):
    """Of a session: ``run`` with ``checkpoint``, or ``policy``; and how it acts."""

    run: "RunFacts | str"
    checkpoint: str
    policy: str
    deterministic: bool
    seed: int
    ttl_s: float
    """Seconds without a use after which it ends."""
    record: bool
    """Keep its episodes in a run."""
    name: str
    """Of that run."""
    labels: Mapping[str, str]
    """Of that run."""


class RunFilters(TypedDict, total=False):
    """Which runs are listed, and in which order (``-created_at``, ``best``, ``name``, …)."""

    state: State
    kind: Kind
    name: str
    """A part of the name."""
    sweep: str
    labels: Mapping[str, str]
    created_after: datetime
    """With a time zone, as the next."""
    created_before: datetime
    sort: str


class Together(TypedDict, total=False):
    """What runs have in common that are changed together; at least one of these."""

    ids: Sequence[str]
    state: State
    kind: Kind
    sweep: str
    labels: Mapping[str, str]


class RunChanges(TypedDict, total=False):
    """What may be changed of a run; None takes it away, what is not given stays."""

    name: str | None
    labels: Mapping[str, str | None]
    notes: str | None
    priority: int


def _listed(array: Any) -> Any:
    return array.tolist()


def _leaf(array: Any) -> Any:
    """An array as its bytes, little-endian in C order; others as lists."""
    dtype: Any = getattr(array, "dtype", None)
    kind = getattr(dtype, "kind", "") if hasattr(array, "tobytes") and array.shape else ""
    if not kind or kind not in "biuf" or dtype.itemsize > 8 or dtype.newbyteorder("<") != dtype:
        return array.tolist()
    return {"data": array.tobytes(), "dtype": dtype.name, "shape": list(array.shape)}


def plain(value: Any, where: str = "", array: Callable[[Any], Any] = _listed) -> Any:
    """A value as JSON has it; ``array`` says what arrays and numbers of NumPy are.

    Raises:
        MazeClientError: it is an object of Python's, which does not travel.
    """
    if isinstance(value, RunFacts):
        return value.id
    if hasattr(value, "tolist"):  # numpy's, and torch's
        return array(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item, f"{where}.{key}".lstrip("."), array) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, f"{where}.{index}".lstrip("."), array) for index, item in enumerate(value)]
    if value is None or isinstance(value, str | bool | int | float):
        return value
    way_out = "give the name of a module, or a dict with _target_"
    raise MazeClientError(f"{where}: {type(value).__name__} objects do not travel over HTTP; {way_out}.")


def packed(body: Mapping[str, Any]) -> tuple[bytes, str]:
    """A request that acts, and its media type: where it holds arrays msgpack, in which they are bytes, else JSON."""
    arrays: list[Any] = []

    def leaf(array: Any) -> Any:
        found = _leaf(array)
        arrays.extend([found] if isinstance(found, dict) else [])
        return found

    value = plain(body, array=leaf)
    if arrays:
        return msgspec.msgpack.encode(value), "application/msgpack"
    return encoded(value), "application/json"


def encoded(body: Any) -> bytes:
    """A body as JSON.

    Raises:
        MazeClientError: it is more than JSON can say.
    """
    value = plain(body)
    try:
        return json.dumps(value, allow_nan=False, separators=(",", ":")).encode()
    except ValueError as error:
        raise MazeClientError(
            f"{_endless(value)} is no number that JSON can say; send finite ones."
        ) from error


def _endless(value: Any, where: str = "") -> str:
    """The first number of a value that is not finite, with its place."""
    if isinstance(value, float) and not math.isfinite(value):
        return f"{where.lstrip('.')}: {value}"
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return next(filter(None, (_endless(item, f"{where}.{key}") for key, item in items)), "")


def at(root: str, *parts: str | int) -> str:
    """The path of a thing: every part is one name, whatever stands in it.

    Raises:
        MazeClientError: a part is empty, or would name something else: servers read ``%2F`` as ``/``.
    """
    for text in map(str, parts):
        if text in ("", ".", "..") or "/" in text or not text.isprintable():
            raise MazeClientError(
                f"{text!r} names nothing under {root}; give one id or name, without slashes."
            )
    return "/".join([root, *(quote(str(part), safe="") for part in parts)])


def query(filters: Mapping[str, Any]) -> dict[str, Any]:
    """Filters as query parameters."""
    given = {name: value for name, value in filters.items() if value is not None and name != "labels"}
    labels = [f"{key}={value}" for key, value in (filters.get("labels") or {}).items()]
    times = {name: _time(name, value) for name, value in given.items() if isinstance(value, datetime)}
    return given | times | ({"label": labels} if labels else {})


def _time(name: str, value: datetime) -> str:
    if value.tzinfo is None:
        way_out = "say which: .astimezone() for this computer's, or datetime(…, tzinfo=UTC)"
        raise MazeClientError(f"{name}: {value} has no time zone; {way_out}.")
    return value.isoformat()
