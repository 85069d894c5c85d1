"""An open session, the steps that come to it, and their answers.

A session with random actions has one stream: the noise of its n-th action follows from its seed and n alone.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NamedTuple, TypeAlias

import msgspec

from maze_core.types import JSON
from service.domain.sessions import MAX_REWARD, SequenceConflictError, SessionEnd
from service.serving.agents import Version
from service.serving.batching import Job, Reply
from service.serving.forms import JSON as JSON_FORM
from service.serving.forms import MSGPACK, Form
from service.serving.request import ActionRequest, PackedActionRequest
from service.serving.served import ServedAgent
from service.serving.sessions.recorder import EpisodeRecorder
from service.serving.traffic import Counts, Lane, Role

if TYPE_CHECKING:
    from service.serving.sessions.steps import PendingStep

READ_ON_LOOP_BYTES = 65_536
"""Longer observations are checked in a thread."""
_SHORT_BYTES = 256
_encode = msgspec.json.Encoder().encode


def check_reward(reward: float) -> None:
    """Pass a number whose like can be summed up; raises :class:`ValueError`."""
    if not abs(reward) <= MAX_REWARD:
        raise ValueError(f"Expected a reward between -{MAX_REWARD:g} and {MAX_REWARD:g}")


class StepRequest(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """One step."""

    form: ClassVar[Form] = JSON_FORM
    """In which it came."""
    seq: Annotated[int, msgspec.Meta(ge=0, lt=2**53)]
    """Its number in the episode, from 0."""
    observation: msgspec.Raw
    """As the environment gives it."""
    reward: float | None = None
    """What came of the action before."""
    terminated: bool = False
    """The observation is the episode's last, at which it ended by itself ..."""
    truncated: bool = False
    """... or was cut; no action is needed."""
    actor_id: tuple[int | str, Annotated[int, msgspec.Meta(ge=0)]] | None = None
    """``[step_key, agent_id]``; None is the environment's first actor."""

    def __post_init__(self) -> None:
        """What msgspec makes of this error is a problem."""
        if self.reward is not None:
            check_reward(self.reward)

    @property
    def is_end(self) -> bool:
        """No action follows."""
        return self.terminated or self.truncated

    def digest(self) -> bytes:
        """Equal for steps of equal content; that of a short one is the content."""
        is_plain = self.reward is None and self.actor_id is None and not self.is_end
        rest = (
            b"" if is_plain else repr((self.reward, self.terminated, self.truncated, self.actor_id)).encode()
        )
        if memoryview(self.observation).nbytes <= _SHORT_BYTES:
            return bytes(self.observation) + rest
        digest = blake2b(self.observation, digest_size=16)
        digest.update(rest)
        return digest.digest()

    @property
    def is_long(self) -> bool:
        """To be checked in a thread."""
        return memoryview(self.observation).nbytes > READ_ON_LOOP_BYTES

    def job(self, session: "Session", served: ServedAgent, reply: Reply) -> Job:
        """The step with its observation checked; raises as :meth:`ServedAgent.job`."""
        state: Any = session.state if served.has_state else msgspec.UNSET
        kind = ActionRequest if self.form is JSON_FORM else PackedActionRequest
        action = kind(
            observation=self.observation,
            deterministic=session.deterministic,
            seed=session.noise_seed(),
            actor_id=self.actor_id,
            state=state,
        )
        return served.job(action, reply)


class PackedStepRequest(StepRequest):
    """The same in msgpack."""

    form = MSGPACK


class EpisodeEnd(msgspec.Struct, frozen=True):
    """An episode that was played to its end, or cut."""

    episode: int
    length: int
    """Steps."""
    recorded: int | None = None
    """Its index among the episodes of the session's run; None where it is not recorded."""


class Stepped(msgspec.Struct, frozen=True):
    """The answer to a step."""

    action: JSON
    """None at the end of an episode."""
    seq: int
    next_seq: int
    version: Version
    """What has acted."""
    ended: EpisodeEnd | None = None

    def body(self) -> bytes:
        """It as JSON."""
        ended = b"" if self.ended is None else b',"ended":' + _encode(self.ended)
        given = _encode(self.action), self.seq, self.next_seq, ended, self.version.tail
        return b'{"action":%b,"seq":%d,"next_seq":%d%b%b' % given

    def members(self) -> dict[str, Any]:
        """The same as :meth:`body`."""
        ended = {} if self.ended is None else {"ended": self.ended}
        numbers = {"seq": self.seq, "next_seq": self.next_seq}
        return {"action": self.action, **numbers, **ended, **self.version.members()}


Answer: TypeAlias = "Stepped | asyncio.Future[Stepped]"
"""Of a step: at once, or when it is there."""


class Share(NamedTuple):
    """What a session is of the traffic of an alias."""

    lane: Lane
    role: Role

    @property
    def counts(self) -> Counts:
        """Of its version."""
        return self.lane.counts[self.role]


@dataclass(kw_only=True, eq=False)
class Session:
    """An open session; used from one event loop."""

    id: str
    project: str
    created_by: str | None
    created_at: datetime
    source: str
    """Id of the run, or the name of the policy, that is asked for again when a version is chosen anew ..."""
    selector: str
    """... and which checkpoint of it."""
    version: Version
    """What acts, whatever an alias names later."""
    deterministic: bool
    seed: int
    ttl_s: float
    run_id: str | None
    """That it records to."""
    next_seq: int = 0
    episode: int = 0
    """Episodes before this one."""
    n_drawn: int = 0
    """Actions drawn since the seed was set."""
    state: str | None = None
    n_recorded: int = 0
    used_at: float = 0.0
    """On the clock of :class:`~service.serving.sessions.registry.Sessions`."""
    last: Stepped | None = None
    last_digest: bytes = b""
    pending: "PendingStep | None" = None
    sequence: Sequence[Any] | None = None
    """What :meth:`~service.serving.sessions.registry.Sessions.in_sequence` finds it by."""
    share: Share | None = None
    """Where the alias's traffic was split when the version was chosen."""
    recorder: EpisodeRecorder | None = None
    is_resetting: bool = False
    storing: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while an episode is stored."""
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held by who steps without numbers, in the order in which they came."""
    listeners: "set[Callable[[SessionEnd | None], None]]" = field(default_factory=set)
    """Told when it ends, and with None when the service does."""

    @property
    def expires_at(self) -> datetime:
        """When it ends unless it is used; on the clock of the wall, right after a use."""
        return datetime.now(UTC) + timedelta(seconds=self.ttl_s)

    def noise_seed(self) -> int | None:
        """Of the next action."""
        if self.deterministic:
            return None
        digest = blake2b(b"%d/%d" % (self.seed, self.n_drawn), digest_size=8).digest()
        return int.from_bytes(digest) >> 1

    def begin_episode(self) -> None:
        """Carry nothing on."""
        self.episode += 1
        self.next_seq, self.state, self.recorder = 0, None, None

    def conflict(self, seq: int | None) -> SequenceConflictError:
        """What is told where a step cannot be taken; ``seq`` is its number, None where another one is under way."""
        what = "a step is under way" if seq is None else f"step {seq} is not the next one, {self.next_seq}"
        message = (
            f"{what}, of session {self.id}; only the last step is answered again, and with the same content"
        )
        last_seq = None if self.last is None else self.last.seq
        return SequenceConflictError(message, expected=self.next_seq, last_seq=last_seq)
