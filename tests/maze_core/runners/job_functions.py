"""What the job processes of the tests run; imports nothing that is slow."""

import os
import threading


def double(argument, channel):
    """Tell one event, then the result."""
    channel.event(["half done", argument["number"]])
    return {"doubled": argument["number"] * 2, "pid": os.getpid(), "threads": os.environ["OMP_NUM_THREADS"]}


def fail(argument, channel):
    """Fail with an error of the job's own."""
    raise ValueError(f"no {argument['what']} today")


def die(argument, channel):
    """End the process without a word."""
    os._exit(7)


def wait_for_cancel(argument, channel):
    """Run until asked to end."""
    channel.event("waiting")
    pause = threading.Event()
    while not channel.cancelled():
        pause.wait(0.01)
    return "asked to end"


def known_envs(argument, channel):
    """Ids of environments that are registered here."""
    import gymnasium

    return [name for name in argument["ids"] if name in gymnasium.registry]
