"""maze-run: a run from the command line; the words are the arguments of :class:`RunContext`.

    maze-run -cn conf_train env.name=CartPole-v1 algorithm=ppo model=vector_obs critic=template_state
    maze-run -cn conf_rollout policy=torch_policy policy.run=outputs/… runner.n_episodes=10

Exit codes: 0 done · 1 the run failed · 2 the specification cannot work · 130 stopped by Ctrl-C.
"""

import argparse
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maze_core.config import compose_run, config_groups, config_module
from maze_core.config.command_line import CommandLine, parse_words
from maze_core.config.index import unknown_name
from maze_core.config.nodes import holds_opaque
from maze_core.config.normal_form import Mode
from maze_core.errors import InvalidSpecificationError, MazeError

if TYPE_CHECKING:
    from maze_core.api.run_context import RunContext

EXIT_DONE, EXIT_FAILED, EXIT_INVALID, EXIT_INTERRUPTED = 0, 1, 2, 130

_MODES: dict[str, Mode] = {"conf_train": "train", "conf_rollout": "rollout"}
_USAGE = "maze-run [-cn conf_train|conf_rollout] [-cd DIR] [--cfg job] [group=module …] [a.b=value …]"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line; returns the exit code."""
    try:
        options, words = _options(sys.argv[1:] if argv is None else argv)
        if options.help:
            print(_help(options.config_dir))
            return EXIT_DONE
        return _run(_mode(options.config_name, words), options, words)
    except InvalidSpecificationError as error:
        for problem in error.problems:
            print(f"maze-run: {problem}", file=sys.stderr)
        return EXIT_INVALID
    except MazeError as error:
        print(f"maze-run: {type(error).__name__}: {error}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


def _options(argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    parser = _Parser(prog="maze-run", usage=_USAGE, add_help=False, allow_abbrev=False)
    parser.add_argument("-cn", "--config-name")
    parser.add_argument("-cd", "--config-dir", action="append", default=[])
    parser.add_argument("-c", "--cfg", choices=["job"])
    parser.add_argument("-m", "--multirun", action="store_true")
    parser.add_argument("-h", "--help", action="store_true")
    options, words = parser.parse_known_args(list(argv))
    dashed = [word for word in words if word.startswith("-")]
    if dashed:
        raise InvalidSpecificationError(f"There is no option {dashed[0]!r}. Usage: {_USAGE}")
    if options.multirun:
        raise InvalidSpecificationError("--multirun is not available yet; start one maze-run per run.")
    return options, words


class _Parser(argparse.ArgumentParser):
    """Reports its errors as ours."""

    def error(self, message: str) -> Any:
        """Raise instead of ending the process."""
        raise InvalidSpecificationError(f"{message}. Usage: {_USAGE}")


def _mode(config_name: str | None, words: Sequence[str]) -> Mode:
    """The mode of a root configuration; without one, a rollout policy or runner makes it a rollout."""
    if config_name is None:
        plays = ("policy=", "runner=sequential", "runner=parallel")
        return "rollout" if any(word.startswith(plays) for word in words) else "train"
    name = config_name.removesuffix(".yaml")
    if name not in _MODES:
        raise InvalidSpecificationError([unknown_name("root configuration", name, list(_MODES), path="-cn")])
    return _MODES[name]


def _run(mode: Mode, options: argparse.Namespace, words: Sequence[str]) -> int:
    line = parse_words(words)
    line.arguments["config_dirs"] = options.config_dir
    if mode == "rollout":
        line.arguments.setdefault("policy", "random_policy")
    if options.cfg:
        return _print_config(mode, line)
    return _rollout(line) if mode == "rollout" else _train(line)


def _print_config(mode: Mode, line: CommandLine) -> int:
    import yaml

    config = compose_run(mode, **line.arguments)
    print(f"# config_sha256: {config.config_sha256}")
    print(yaml.safe_dump(config.tree, sort_keys=False, width=110), end="")
    return EXIT_DONE


def _train(line: CommandLine) -> int:
    from maze_core.api.console import ConsoleReporter, training_table

    compose_run(
        "train", **line.arguments
    )  # a rollout's policy or runner is an error here, not another kind of run
    n_epochs = line.arguments.pop("n_epochs", None)
    if n_epochs is not None:
        line.arguments["overrides"] = {**line.arguments.get("overrides", {}), "algorithm.n_epochs": n_epochs}
    with _context(line) as context, ConsoleReporter() as reporter, _interrupts() as interrupts:
        report = context.train(reporter=reporter, cancelled=lambda: bool(interrupts)).to_dict()
    table = training_table(
        report, best=reporter.best, run_dir=context.run_dir, config_sha256=context.config_sha256
    )
    print(table)
    return EXIT_INTERRUPTED if report["stop_reason"] == "cancelled" else EXIT_DONE


def _rollout(line: CommandLine) -> int:
    from maze_core.api.console import ConsoleReporter, rollout_table

    _take_env_of_run(line)
    with _context(line) as context, _interrupts() as interrupts:
        total = context.config["runner"]["n_episodes"]
        with ConsoleReporter(total=total, unit="episode") as reporter:
            report = context.rollout(reporter=reporter, cancelled=lambda: bool(interrupts)).to_dict()
    print(rollout_table(report, config_sha256=context.config_sha256))
    return EXIT_INTERRUPTED if report["stop_reason"] == "cancelled" else EXIT_DONE


def _take_env_of_run(line: CommandLine) -> None:
    """Play in the environment that a policy was trained in, unless another one was asked for."""
    from maze_core.checkpoint import Checkpoint
    from maze_core.rundir import RunDir

    overrides = line.arguments.get("overrides", {})
    run, chosen = overrides.get("policy.run"), overrides.get("policy.checkpoint", "best")
    asked_for = line.arguments.get("env") or any(key.startswith("env.") for key in overrides)
    if run and not asked_for:
        source = Path(str(run))
        file = RunDir(source).checkpoint_path(str(chosen)) if source.is_dir() else source
        env = Checkpoint.read(file).identity["config"]["env"]
        if holds_opaque(env):
            raise InvalidSpecificationError(
                f"{run} was trained in an environment made by a function; name one: env=…"
            )
        line.arguments["env"] = env


def _context(line: CommandLine) -> "RunContext":
    from maze_core.api.run_context import RunContext

    return RunContext(run_dir=line.run_dir, **line.arguments)


@contextmanager
def _interrupts() -> Iterator[list[int]]:
    """Collect Ctrl-C: the first one asks the run to end with a checkpoint, the second one ends it at once."""
    received: list[int] = []

    def note(number: int, frame: object) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(number)

    try:
        before = signal.signal(signal.SIGINT, note)
    except ValueError:  # not in the main thread, which alone gets signals
        yield received
        return
    try:
        yield received
    finally:
        signal.signal(signal.SIGINT, before)


def _help(config_dirs: Sequence[str]) -> str:
    lines = [
        __doc__.strip(),
        "",
        f"Usage: {_USAGE}",
        "",
        "  -cn, --config-name NAME   conf_train trains, conf_rollout plays episodes",
        "  -cd, --config-dir DIR     modules of your own, DIR/<group>/<name>.yaml; may be repeated",
        "  -c,  --cfg job            print the resolved configuration and its digest, run nothing",
        "  seed=N  n_epochs=N  run_dir=DIR",
        "",
        "Groups and their modules:",
    ]
    for group, names in config_groups(config_dirs).items():
        for name in names:
            summary, _, _ = config_module(group, name, config_dirs)["description"].partition(". ")
            lines.append(f"  {group + '=' + name:38} {summary}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
