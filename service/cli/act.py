"""``maze act``: what a trained policy does."""

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

from service.cli.parsers import Mistake, add
from service.cli.remote import client_of, remote

_END = object()
"""In the place of an empty line."""


def add_commands(commands: Any) -> None:
    """Add this command to the parser's."""
    act = add(commands, "act", _act, "print the action of a trained policy for an observation", remote())
    act.add_argument("id", metavar="ID", help="of the training; or a policy, name@alias or name:3")
    act.add_argument(
        "observation",
        metavar="OBSERVATION",
        nargs="?",
        default="-",
        help="JSON in the environment's own form, '[0.1, 0, -0.2, 0]'; - reads one per line from standard input, an "
        "episode whose state is carried; an empty line begins the next one",
    )
    act.add_argument(
        "--state",
        metavar="STATE",
        help="what a policy with a state carries: null with the first observation of an episode, then that of the last "
        "answer; prints an object of action and state",
    )
    act.add_argument("--checkpoint", metavar="NAME", help="best (the default), last, epoch:N or an id")
    act.add_argument(
        "--sample", action="store_true", help="draw the action instead of taking the most likely one"
    )
    act.add_argument("--seed", metavar="N", type=int, help="of the draw")
    act.add_argument(
        "--return",
        dest="return_",
        metavar="NAME",
        action="append",
        choices=("distribution", "log_prob", "value", "mask"),
        help="print an object of the action and of the decision distribution, log_prob, value or mask; repeatable",
    )
    act.add_argument(
        "--top-k", metavar="N", type=int, help="likewise, with so many candidates and their scores"
    )
    act.add_argument("--timing", action="store_true", help="likewise, with microseconds")


def _act(options: argparse.Namespace) -> int:
    how: Any = {
        name: value for name in ("checkpoint", "seed") if (value := getattr(options, name)) is not None
    }
    told = {name: value for name in ("return_", "top_k", "timing") if (value := getattr(options, name))}
    observations: Iterable[Any] = _observations(options.observation)
    if options.observation != "-":
        observations = list(observations)  # said wrongly or not, before anybody is asked
    with client_of(options) as client:
        is_run = options.id.startswith("run_")
        whose: Any = client.run(options.id) if is_run else client.policies
        act: Any = whose.explain_action if told else whose.compute_action
        if told:
            act = partial(act, **{"return_": [], **told})
        if not is_run:
            act = partial(act, options.id)
        if options.observation == "-" or options.state is not None:
            how["state"] = None if options.state in (None, "null") else options.state
        for observation in observations:
            if observation is _END:
                how["state"] = None
                continue
            action = act(observation, deterministic=not options.sample, **how)
            if "state" in how:
                action, how["state"] = (action, action["state"]) if told else action
            if options.state is not None and not told:
                action = {"action": action, "state": how["state"]}
            print(json.dumps(action), flush=True)
    return 0


def _observations(given: str) -> Iterator[Any]:
    """The observations: the one that was given, or one for each line that comes, and the ends of episodes."""
    for number, text in enumerate(sys.stdin if given == "-" else [given], 1):
        if not text.strip():
            yield _END
        else:
            try:
                yield json.loads(text)
            except (ValueError, RecursionError) as error:
                where = f"line {number}" if given == "-" else "OBSERVATION"
                raise Mistake(
                    f"{where} is no JSON ({error}): write a list such as '[0.1, 0, -0.2, 0]'"
                ) from None
