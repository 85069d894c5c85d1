"""What a worker and a run's child say to each other: typed msgpack maps, one per message of a pipe.

The child runs code of environments, so nothing of it is believed: a message that is no map of a known
type with the fields and types below is a :class:`ProtocolError`, and nothing is ever unpickled.
Messages arrive in the order they were sent; the last one of a child is :class:`Result` or :class:`Failure`.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias

import msgspec

from service.domain.run import Continuation, EpisodeInfo, Imported, MetricPoint, NewCheckpoint, RunKind
from service.domain.run import Progress as RunProgress

MAX_EDGES = 1 << 16
MAX_FRAME_BYTES = 1 << 30
"""A longer message is refused: no checkpoint of ours comes near it, and it has to fit in memory twice."""


class ProtocolError(Exception):
    """The other side sent what is no frame."""


class Frame(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="type",
    tag=str.lower,
):
    """Base of all frames; ``type`` is the class name in lower case."""


class Start(Frame, frozen=True):
    """Worker → child, the first frame: what to run."""

    kind: RunKind
    run_id: str
    attempt: int
    tree: dict[str, Any]
    """The resolved configuration."""
    resume: bytes | None = None
    """The checkpoint bundle that a training goes on from."""
    best: bytes | None = None
    """The best checkpoint of earlier attempts at a training that is filmed."""
    agent: bytes | None = None
    """The checkpoint bundle whose policy acts in a rollout or an evaluation, or begins a training, or that is
    imported."""
    compared: tuple[bytes, ...] = ()
    """The checkpoint bundles whose policies are compared, in order."""
    continues: Continuation | None = None
    """Of a training that another run began: how far it goes on."""
    spent_s: float = 0.0
    """Seconds that workers have spent on earlier attempts."""
    episodes: tuple[bytes, ...] = ()
    """The recorded trajectories that a training learns from, or the one that is replayed."""
    arguments: dict[str, Any] = {}
    """What decides no number, as :attr:`Run.arguments`."""


class Cancel(Frame, frozen=True):
    """Worker → child: store a last checkpoint and end."""


class Phase(Frame, frozen=True):
    """What the child does now, as ``Run.phase``."""

    name: str


class Progress(Frame, frozen=True):
    """How far it is."""

    progress: RunProgress


class Metrics(Frame, frozen=True):
    """Metric points since the last such frame."""

    points: tuple[MetricPoint, ...]


class Distributions(Frame, frozen=True):
    """Histograms of an epoch: name → ``low``, ``high`` and ``counts``."""

    epoch: int
    step: int
    values: dict[str, dict[str, Any]]


class Checkpoint(Frame, frozen=True):
    """A checkpoint to store."""

    meta: NewCheckpoint
    bundle: bytes
    edges: Annotated[tuple[int, ...], msgspec.Meta(max_length=MAX_EDGES)] = ()
    """Where to cut the bundle so that its parts are those of others."""
    imported: Imported | None = None
    """Of an import."""


class Episode(Frame, frozen=True):
    """One episode of a rollout, with its trajectory where it was recorded."""

    info: EpisodeInfo
    trajectory: bytes | None = None
    video: bytes | None = None
    thumbnail: bytes | None = None


class Thinned(Frame, frozen=True):
    """Of a training whose films grow many: those of these epochs are not kept."""

    epochs: tuple[int, ...]


class Log(Frame, frozen=True):
    """One line of the run's log."""

    level: str
    message: str


class Usage(Frame, frozen=True):
    """What the child has used so far."""

    max_rss_bytes: int
    """Peak resident memory."""
    cpu_s: float


class Result(Frame, frozen=True):
    """The run ended by itself or was stopped as wished."""

    stop_reason: str
    """``completed``, ``target_reached``, …, or ``cancelled`` when the wish ended it."""
    result: dict[str, Any]


class Failure(Frame, frozen=True, tag="error"):
    """The run raised."""

    code: str
    """Stable name of the kind of error, as :data:`service.worker.child.CODES` gives it."""
    message: str
    traceback: str = ""
    problems: tuple[Mapping[str, Any], ...] = ()
    """The single mistakes of an invalid specification."""


WorkerFrame: TypeAlias = Start | Cancel
Report: TypeAlias = Phase | Progress | Metrics | Distributions | Log
ChildFrame: TypeAlias = Report | Checkpoint | Episode | Thinned | Usage | Result | Failure


def _plain(value: object) -> Any:
    """Numpy scalars and arrays as numbers and lists; anything else has no place in a frame."""
    to_list = getattr(value, "tolist", None)
    if to_list is None:
        raise TypeError(f"a {type(value).__name__} cannot be sent to the worker")
    return to_list()


_encoder = msgspec.msgpack.Encoder(enc_hook=_plain)
_from_worker = msgspec.msgpack.Decoder(WorkerFrame)
_from_child = msgspec.msgpack.Decoder(ChildFrame)


def encode(frame: Frame) -> bytes:
    """The frame as one message; raises TypeError for values that are no plain data."""
    return _encoder.encode(frame)


def decode_from_worker(message: bytes) -> WorkerFrame:
    """Read a worker's message in the child; raises :class:`ProtocolError`."""
    frame: WorkerFrame = _decode(_from_worker, message, "worker")
    return frame


def decode_from_child(message: bytes) -> ChildFrame:
    """Read a child's message in the worker; raises :class:`ProtocolError`."""
    frame: ChildFrame = _decode(_from_child, message, "child")
    return frame


def _decode(decoder: msgspec.msgpack.Decoder[Any], message: bytes, sender: Literal["worker", "child"]) -> Any:
    try:
        return decoder.decode(message)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolError(f"the {sender} sent what is no frame: {error}") from error
