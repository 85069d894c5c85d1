"""``maze train``, ``maze rollout`` and ``maze evaluate``: what is asked of ``maze-run``, asked of a service.

The words are those of ``maze-run``, read by the same parser, so that the same words are the same run with the same
digest. What an object or a path of this machine would be, a service does not take.
"""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from service.cli.parsers import Mistake, add, seconds
from service.cli.printing import complain, plain
from service.cli.remote import client_of, labels_of, print_columns, print_json, remote, shown, waiting

if TYPE_CHECKING:
    from maze_client import Run

ACTING = ("n_episodes", "max_episode_steps", "deterministic", "n_envs")
"""Settings of a runner that may be said of a trained policy, too, whose configuration is its run's."""


def add_commands(commands: Any) -> None:
    """Add these commands to the parser's."""
    train = add(commands, "train", _train, "submit a training, in the words of maze-run", remote())
    train.add_argument(
        "words", metavar="KEY=VALUE", nargs="*", help="algorithm=ppo env.name=CartPole-v1 seed=1 …"
    )
    train.add_argument("--config", metavar="FILE", help="a resolved configuration, which words change")
    train.add_argument("--smoke", action="store_true", help="only try it out, and say what it would cost")
    train.add_argument(
        "--id", metavar="ID", help="an id of your own, run_…: one run, however often it is sent"
    )
    add_submission(train)
    rollout = add(
        commands,
        "rollout",
        _rollout,
        "submit episodes to play, in the words of maze-run -cn conf_rollout",
        remote(),
    )
    rollout.add_argument(
        "words", metavar="KEY=VALUE", nargs="*", help="policy=random_policy env.name=CartPole-v1 …"
    )
    rollout.add_argument("--run", metavar="ID", help="the training whose policy acts; or name@alias, name:3")
    rollout.add_argument("--checkpoint", metavar="NAME", help="best (the default), last, epoch:N or an id")
    add_submission(rollout)
    evaluate = add(
        commands, "evaluate", _evaluate, "measure the policy of a run over seeded episodes", remote()
    )
    evaluate.add_argument("id", metavar="ID", help="the training whose policy acts; or name@alias, name:3")
    evaluate.add_argument("--checkpoint", metavar="NAME", help="best (the default), last, epoch:N or an id")
    evaluate.add_argument("--n-episodes", metavar="N", type=int, help="episodes to play (20)")
    evaluate.add_argument("--seed", metavar="N", type=int, help="drawn when left out")
    add_submission(evaluate)


def add_submission(parser: argparse.ArgumentParser) -> None:
    """Add what every submission may carry, and whether to wait for its end."""
    parser.add_argument("--name", metavar="TEXT", help="of the run, for people")
    parser.add_argument("--label", metavar="KEY=VALUE", action="append", default=[], help="may be repeated")
    parser.add_argument("--priority", metavar="N", type=int, help="the higher one starts first (0)")
    parser.add_argument(
        "--cpus", metavar="N", type=float, help="processors that it takes of a cluster's node (1)"
    )
    parser.add_argument("--gpus", metavar="N", type=float, help="graphics processors that it takes (0)")
    parser.add_argument("--memory", metavar="MIB", type=int, help="MiB that its process may take")
    parser.add_argument(
        "--wait", action="store_true", help="wait for its end; exit code 1 unless it succeeds"
    )
    parser.add_argument("--timeout", metavar="S", type=seconds, help="seconds to wait at most")


def arguments_of(words: Sequence[str], *, multirun: bool = False, films: bool = False) -> dict[str, Any]:
    """What words of ``maze-run`` say, as a body of the service; of a multirun several values are a list.

    Args:
        words: ``key=value``.
        multirun: several values are allowed.
        films: ``videos=N`` is said to the service.

    Raises:
        InvalidSpecificationError: with every word that cannot be read, or that says what a service does not take.
    """
    from maze_core.config.command_line import parse_words
    from maze_core.config.overrides import REMOVED
    from maze_core.errors import ProblemList

    line, found = parse_words(words, multirun=multirun), ProblemList()
    overrides = line.arguments.get("overrides", {})
    for name, value in (("run_dir", line.run_dir), ("videos", None if films else line.videos or None)):
        if value is not None:
            message = "says where this machine writes, and the run is the service's; leave it out."
            found.add(name, message, code="not_remote")
    for key, value in overrides.items():
        if value is REMOVED:
            found.add(key, f"cannot be taken away over HTTP; write {key}=null or a value.", code="not_remote")
    for key in [*line.arguments, *overrides]:
        if key.partition(".")[0] == "launcher":
            message = "starts processes of this machine; see maze sweep, and its --parallel."
            found.add(key, message, code="not_remote")
    found.raise_if_any()
    given = {name: _plain(value) for name, value in line.arguments.items() if value is not None}
    if line.videos:
        given["videos"] = line.videos
    return given | (
        {"overrides": {key: _plain(value) for key, value in overrides.items()}} if overrides else {}
    )


def _plain(value: Any) -> Any:
    from maze_core.config.grid import Choices

    return list(value.values) if isinstance(value, Choices) else value


def _train(options: argparse.Namespace) -> int:
    given = {**arguments_of(options.words, films=True), **labelled(options)}
    if options.config is not None:
        from maze_core.config.arguments import read_recorded

        given["config"] = read_recorded(options.config)
    if options.smoke and options.id is not None:
        raise Mistake("--smoke has no --id: give one of them")
    with client_of(options) as client:
        if options.id is not None:
            run = client.put(options.id, "train", **given)
        else:
            run = (client.smoke if options.smoke else client.train)(**given)
        return submitted(run, options)


def _rollout(options: argparse.Namespace) -> int:
    given = {**arguments_of(options.words, films=True), **labelled(options)}
    overrides = given.pop("overrides", {})
    given |= {name: overrides.pop(f"runner.{name}") for name in ACTING if f"runner.{name}" in overrides}
    if overrides:
        given["overrides"] = overrides
    if options.run is not None:
        given |= named_policy(options.run)
    elif "policy" not in given:
        given["policy"] = "random_policy"  # as maze-run does
    if options.checkpoint is not None:
        given["checkpoint"] = options.checkpoint
    with client_of(options) as client:
        return submitted(client.rollout(**given), options)


def _evaluate(options: argparse.Namespace) -> int:
    names = ("checkpoint", "n_episodes", "seed")
    given: Any = {name: value for name in names if (value := getattr(options, name)) is not None}
    given |= named_policy(options.id)
    with client_of(options) as client:
        return submitted(client.evaluate(**given, **labelled(options)), options)


def named_policy(name: str) -> dict[str, str]:
    """Who acts, as a body says it: a run by its id, or a registered policy."""
    return {"run" if name.startswith("run_") else "policy": name}


def labelled(options: argparse.Namespace) -> Any:
    """What every submission may carry."""
    resources = {"cpus": options.cpus, "gpus": options.gpus, "memory_mib": options.memory}
    given = {
        "name": options.name,
        "labels": labels_of(options.label) or None,
        "priority": options.priority,
        "resources": {name: value for name, value in resources.items() if value is not None} or None,
    }
    return {name: value for name, value in given.items() if value is not None}


def submitted(run: "Run", options: argparse.Namespace) -> int:
    """Tell of a run that was submitted, or of its end where that was asked for; the exit code."""
    if options.wait:
        return ended(run, options, tells_id=True)
    if options.json:
        print_json(run)
    else:
        print(f"{run.id} {run.state}, config {run.config_sha256}")
    return 0


def ended(run: "Run", options: argparse.Namespace, *, tells_id: bool = False) -> int:
    """Wait for a run's end and tell of it, and of its id at once; the exit code is 0 only where it has succeeded."""
    with waiting(f"maze runs wait {run.id}"):
        if tells_id and not options.json:
            print(run.id, flush=True)
        run.wait(options.timeout, check=False)
    if options.json:
        print_json(run)
    else:
        _tell_of_the_end(run)
    return 0 if run.state == "succeeded" else 1


def _tell_of_the_end(run: "Run") -> None:
    found = {name: value for name, value in (run.result or {}).items() if not isinstance(value, dict | list)}
    if run.best is not None:
        found[run.best.metric] = run.best.value
    print(plain(f"{run.id} {run.state}" + (f" ({run.reason})" if run.reason else "")))
    if run.error is not None:
        complain(f"{run.error.code}: {run.error.message}; see maze logs {run.id}")
    if found:
        print_columns([[name, shown(value)] for name, value in found.items()])
