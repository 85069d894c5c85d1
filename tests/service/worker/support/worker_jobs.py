"""Jobs that stand in for training: small, exact, and able to die in every way a run can.

A child imports this module by name from PYTHONPATH. The tree of the run says what the job does.
"""

import ctypes
import os
import sys
import time

from service.domain.run import EpisodeInfo, MetricPoint, NewCheckpoint, Progress
from service.worker import frames
from service.worker.channel import Channel
from service.worker.child import Rules, StopWish


def count(start: frames.Start, channel: Channel, stop: StopWish, rules: Rules) -> frames.Result:
    """Count to ``tree["n"]`` from where the last checkpoint stopped; ``tree["die"]`` says how to end early.

    A checkpoint's bundle is the number it was made at. ``die_at`` and ``die_attempts`` say when to die after
    one, ``die_before`` before which one to die in every attempt.
    """
    if start.tree.get("frozen"):
        channel.send(frames.Phase(name="training"))
        ctypes.PyDLL(None).sleep(1000)  # holds the GIL: no other thread of this process runs any more
    tree, first = start.tree, int(start.resume or b"0")
    channel.send(frames.Phase(name="training"))
    print(f"attempt {start.attempt} from {first}", flush=True)
    for number in range(first + 1, tree["n"] + 1):
        if stop():
            channel.send(checkpoint(number - 1, "continued"))
            return frames.Result(stop_reason="cancelled", result={"count": number - 1})
        time.sleep(tree.get("sleep_s", 0.0))
        channel.put(
            points=[
                MetricPoint(name="count", epoch=number, step=tree.get("step", number), value=float(number))
            ],
            progress=Progress(epoch=number, n_epochs=tree["n"]),
        )
        if number == tree.get("die_before"):
            die(tree["die"], channel)
        channel.send(checkpoint(number, "scheduled"))
        if number >= tree.get("die_at", float("inf")) and start.attempt <= tree.get("die_attempts", 1):
            die(tree["die"], channel)
    return frames.Result(stop_reason="completed", result={"count": tree["n"], "first": first})


def checkpoint(number: int, kind: str) -> frames.Checkpoint:
    meta = NewCheckpoint(
        epoch=number,
        step=number,
        kind=kind,
        metrics={"count": float(number)},
        content_sha256=f"{number:064d}",
        weights_sha256=f"{number:064d}",
        servable=False,
        not_servable_reason="it only counts",
        is_best=False,
        is_last=True,
    )
    return frames.Checkpoint(meta=meta, bundle=str(number).encode())


def die(how: str, channel: Channel) -> None:
    """End this process, or the job, in one of the ways there are."""
    match how:
        case "segfault":
            ctypes.string_at(0)
        case "exit":
            os._exit(7)
        case "memory":
            raise MemoryError("no room")
        case "error":
            raise ValueError("this environment is broken")
        case "garbage":
            channel._connection.send_bytes(b"this is no frame")
            time.sleep(60)
        case _:
            raise AssertionError(how)


def stubborn(start: frames.Start, channel: Channel, stop: StopWish, rules: Rules) -> frames.Result:
    """Never looks whether it should stop; ends by SIGTERM only."""
    channel.send(frames.Phase(name="training"))
    try:
        while True:
            time.sleep(0.05)
    finally:
        print("cleaned up", flush=True)


def deaf(start: frames.Start, channel: Channel, stop: StopWish, rules: Rules) -> frames.Result:
    """Does not even end by SIGTERM."""
    channel.send(frames.Phase(name="training"))
    while True:
        try:
            while True:
                time.sleep(0.05)
        except BaseException:
            continue


def describe(start: frames.Start, channel: Channel, stop: StopWish, rules: Rules) -> frames.Result:
    """What a child can see of the worker, and what it may do."""
    import resource
    from pathlib import Path

    status = Path("/proc/self/status").read_text() if sys.platform == "linux" else ""
    limits = {name: resource.getrlimit(getattr(resource, name))[0] for name in ("RLIMIT_CORE", "RLIMIT_AS")}
    facts = {
        "modules": sorted(sys.modules),
        "environment": dict(os.environ),
        "arguments": sys.argv,
        "main": getattr(sys.modules["__main__"], "__file__", None),
        "directory": os.getcwd(),
        "listing": os.listdir(),
        "session_leader": os.getsid(0) == os.getpid(),
        "umask": os.umask(0o077),
        "limits": limits,
        "status": status,
    }
    return frames.Result(stop_reason="completed", result=facts)


def hungry(start: frames.Start, channel: Channel, stop: StopWish, rules: Rules) -> frames.Result:
    """Ask for more memory than the operator allows."""
    return frames.Result(stop_reason="completed", result={"bytes": len(bytearray(4 * 2**30))})


def run_and_list(start: frames.Start, channel: Channel, stop: StopWish, rules: Rules) -> frames.Result:
    """Do the real job; the result says which modules it had to import."""
    from service.worker.jobs import execute

    before = set(sys.modules)
    result = execute(start, channel, stop, rules)
    return frames.Result(
        stop_reason=result.stop_reason, result={"imported": sorted(set(sys.modules) - before)}
    )


def report_all(start: frames.Start, channel: Channel, stop: StopWish, rules: Rules) -> frames.Result:
    """Report one of everything that a run may."""
    channel.send(frames.Phase(name="training"))
    channel.put(
        points=[MetricPoint(name="count", epoch=1, step=1, value=1.0)], progress=Progress(epoch=1, n_epochs=1)
    )
    channel.send(checkpoint(1, "scheduled"))
    info = EpisodeInfo(
        index=0, seed=1, episode_return=1.0, length=1, terminated=True, truncated=False, has_trajectory=False
    )
    channel.send(frames.Episode(info=info))
    return frames.Result(stop_reason="completed", result={})
