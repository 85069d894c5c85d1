"""What is kept of a session while the service is restarted in good order."""

from collections.abc import Awaitable, Callable

import msgspec

from service.serving.agents import Version
from service.serving.served import ServedAgent
from service.serving.sessions.recorder import EpisodeRecorder
from service.serving.sessions.session import Session, Stepped

_KEPT = (
    *("id", "project", "created_by", "created_at", "source", "selector", "version", "deterministic", "seed"),
    *(
        "ttl_s",
        "run_id",
        "next_seq",
        "episode",
        "n_drawn",
        "state",
        "n_recorded",
        "last",
        "last_digest",
        "sequence",
    ),
)


def snapshot(session: Session) -> bytes:
    """The session and its open episode, for :func:`restored`."""
    kept = {name: getattr(session, name) for name in _KEPT}
    recorder = session.recorder
    if recorder is not None and len(recorder):
        kept["recorded"] = [recorder.first_seq, recorder.dump()]
    return msgspec.msgpack.encode(kept)


async def restored(data: bytes, load: Callable[[str], Awaitable[ServedAgent]], now: float) -> Session:
    """The session of a snapshot.

    Args:
        data: the snapshot.
        load: gives the agent of a checkpoint.
        now: on the clock of the sessions.
    """
    kept = msgspec.msgpack.decode(data)
    recorded = kept.pop("recorded", None)
    kept["version"] = msgspec.convert(kept["version"], Version)
    kept["last"] = msgspec.convert(kept["last"], Stepped | None)
    kept["sequence"] = (sequence := kept.get("sequence")) and tuple(sequence)
    session = Session(**kept, used_at=now)
    if recorded is not None:
        served = await load(session.version.checkpoint)
        session.recorder = EpisodeRecorder(served.agent, recorded[0])
        session.recorder.restore(recorded[1])
    return session
