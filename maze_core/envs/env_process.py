"""The process that steps a slice of a :class:`SubprocVectorEnv`: ``python -m maze_core.envs.env_process``.

It is started with two inherited descriptors, a socket and a file of shared memory. It speaks in short
messages; observations and actions lie in the memory. Beside its environments it may have a guest, an object that steps
them by itself and is called by message. It ends when the other side closes the socket, for whatever reason.
"""

import contextlib
import pickle
import sys
import traceback
from multiprocessing.connection import Connection
from typing import Any

import gymnasium
import numpy as np

from maze_core import subprocesses
from maze_core.envs.contract import close_all
from maze_core.envs.core_env import StructuredEnv
from maze_core.envs.per_env import PerEnvVectorEnv
from maze_core.envs.tick_buffers import share
from maze_core.errors import USER_CODE_ERRORS, EnvError, reason_of
from maze_core.notices import Notices
from maze_core.seeding import own_process, seed_process
from maze_core.types import Observation, StepKey

READY, DONE, FAILED, RESULT = b"y", b"d", b"f", b"v"
RESET, STEP, CLOSE, HOST, CALL, VALUES, FORGET = b"r", b"s", b"c", b"h", b"a", b"e", b"g"


def serve(connection: Any, descriptor: int) -> None:
    """Make the environments of the first message, then obey until the socket is closed."""
    first = pickle.loads(connection.recv_bytes())
    sys.path[:] = first["sys_path"]
    made: list[StructuredEnv] = []
    try:
        for spec in map(pickle.loads, first["specs"]):
            gymnasium.registry.setdefault(spec.id, spec)
        factories = pickle.loads(first["factories"])
        notices = Notices(lambda text: None)
        seed_process(first["seed"])
        with notices.active():
            made.extend(factory() for factory in factories)
        one = made[0]
        described = (
            dict(one.observation_spaces),
            dict(one.action_spaces),
            dict(one.agent_counts),
            one.rewards,
        )
        connection.send_bytes(READY + _pickled((*described, tuple(one.event_interfaces))))
        n_envs, first_row = pickle.loads(connection.recv_bytes())
        rows = slice(first_row, first_row + len(made))
        actors = described[2] if one.rewards == "per_actor" else None
        tick, actions = share(descriptor, described[0], described[1], n_envs, rows, actors=actors)
        waiting = iter(made)
        with notices.active():
            envs = PerEnvVectorEnv([lambda: next(waiting)] * len(made), first_row=first_row, tick=tick)
        _send_done(connection, notices, envs)
        guests: list[Any] = []
        while _obey(connection, envs, actions, notices, guests):
            pass
    except USER_CODE_ERRORS as error:
        is_made = getattr(error, "is_made", True)
        connection.send_bytes(FAILED + pickle.dumps((reason_of(error), traceback.format_exc(), is_made)))
    finally:
        failures = close_all(made)  # ours to close, for the batch may not have come to be
        with contextlib.suppress(OSError):  # the other side did not wait
            connection.send_bytes(CLOSE + pickle.dumps(failures))


def _obey(
    connection: Any,
    envs: PerEnvVectorEnv,
    actions: dict[StepKey, Observation],
    notices: Notices,
    guests: list[Any],
) -> bool:
    message = connection.recv_bytes()
    command, argument = message[:1], message[1:]
    if command == CLOSE:
        return False
    try:
        if command == RESET:
            envs.reset(*pickle.loads(argument))
        elif command == FORGET:
            envs.begin_statistics(pickle.loads(argument))
        elif command == HOST:
            with notices.active():
                guests[:] = [pickle.loads(argument)(envs)]
        elif command == CALL:
            method, arguments = pickle.loads(argument)
            result = RESULT + pickle.dumps(getattr(guests[0], method)(*arguments))
        elif command == VALUES:
            result = RESULT + pickle.dumps(envs.episode_values(pickle.loads(argument)))
        else:
            given = zip(actions.items(), argument[: len(actions)], strict=True)
            rows = np.frombuffer(argument[len(actions) :], np.bool_)
            batches = {key: batch for (key, batch), is_given in given if is_given}
            envs.step_rows(batches, rows if rows.size else np.ones(envs.n_envs, np.bool_))
        _send_done(connection, notices, envs)
        if command in (CALL, VALUES):
            connection.send_bytes(result)
    except USER_CODE_ERRORS as error:
        connection.send_bytes(FAILED + pickle.dumps((reason_of(error), traceback.format_exc(), True)))
    return True


def _pickled(described: Any) -> bytes:
    try:
        return pickle.dumps(described)
    except (pickle.PicklingError, AttributeError) as error:
        raise EnvError(
            f"What the environments are cannot be told to another process ({error}): declare event interfaces at the "
            "top level of a module, or use runner=dev."
        ) from error


def _send_done(connection: Any, notices: Notices, envs: PerEnvVectorEnv) -> None:
    """Say that it is done, what is to be said once for all processes, and the statistics of ended episodes."""
    fresh, ended = notices.take_fresh(), envs.take_ended()
    connection.send_bytes(DONE + pickle.dumps((fresh, ended)) if fresh or ended else DONE)


def main() -> None:
    """Serve on the descriptors given as arguments."""
    subprocesses.leave_signals_to_the_other_side()
    connection = Connection(int(sys.argv[1]))
    with own_process(), contextlib.suppress(EOFError, ConnectionError):  # the other side is gone
        serve(connection, int(sys.argv[2]))


if __name__ == "__main__":
    main()
