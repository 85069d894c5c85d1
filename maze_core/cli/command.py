"""One command line, from its words to an exit code.

Ctrl-C and SIGTERM, which Slurm, Kubernetes and ``docker stop`` send some time before they kill, are wishes: the first
one asks the run to end with a checkpoint, the second one ends it at once.
"""

import argparse
import json
import shlex
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maze_core.cli import had_enough, help_text
from maze_core.config import RunConfig, compose_run
from maze_core.config.arguments import recorded_arguments
from maze_core.config.command_line import CommandLine, parse_words
from maze_core.config.grid import compose_jobs
from maze_core.config.modules import searched_directories, unknown_name
from maze_core.config.multirun import plan_multirun
from maze_core.config.nodes import part_at
from maze_core.config.schema import BUDGETS, Mode
from maze_core.errors import EnvError, InvalidSpecificationError, JobFailedError, MazeError
from maze_core.types import Tree

if TYPE_CHECKING:
    from maze_core.api.multirun import Multirun
    from maze_core.api.run_context import RunContext

EXIT_DONE, EXIT_FAILED, EXIT_INVALID = 0, 1, 2

_MODES: dict[str, Mode] = {"conf_train": "train", "conf_rollout": "rollout"}


def run(argv: Sequence[str] | None = None) -> int:
    """Run one command line; returns the exit code."""
    try:
        options, words = _options(sys.argv[1:] if argv is None else argv)
        return _run(_mode(options, words), options, words)
    except InvalidSpecificationError as error:
        for problem in error.problems:
            print(f"maze-run: {problem}", file=sys.stderr)
        return EXIT_INVALID
    except MazeError as error:
        print(f"maze-run: {type(error).__name__}: {error}", file=sys.stderr)
        is_made = not isinstance(error, EnvError) or error.is_made
        return EXIT_FAILED if is_made else EXIT_INVALID
    except BrokenPipeError:
        had_enough()
        return EXIT_DONE
    except OSError as error:  # no place to write, or no right to
        print(f"maze-run: {error}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt as error:
        print("maze-run: ended at once; what was stored before is kept.", file=sys.stderr)
        return _exit_code(error.args)


def _options(argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    parser = _Parser(prog="maze-run", usage=help_text.USAGE, add_help=False, allow_abbrev=False)
    parser.add_argument("-cn", "--config-name")
    parser.add_argument("-cd", "--config-dir", action="append", default=[])
    parser.add_argument("--config")
    parser.add_argument("-c", "--cfg", choices=["job", "provenance"])
    parser.add_argument("-m", "--multirun", action="store_true")
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("-h", "--help", action="store_true")
    options, words = parser.parse_known_args(list(argv))
    dashed = [word for word in words if word.startswith("-")]
    if dashed:
        raise InvalidSpecificationError(f"There is no option {dashed[0]!r}. Usage: {help_text.USAGE}")
    return options, words


class _Parser(argparse.ArgumentParser):
    """Reports its errors as ours."""

    def error(self, message: str) -> Any:
        """Raise instead of ending the process."""
        raise InvalidSpecificationError(f"{message}. Usage: {help_text.USAGE}")


def _mode(options: argparse.Namespace, words: Sequence[str]) -> Mode:
    """The mode of a root configuration; without one, a rollout policy or runner makes it a rollout."""
    config_name = options.config_name
    if config_name is None and options.config is not None:
        return "train" if "algorithm" in recorded_arguments(options.config) else "rollout"
    if config_name is None:
        plays = ("policy=", "runner=sequential", "runner=parallel")
        return "rollout" if any(word.startswith(plays) for word in words) else "train"
    name = config_name.removesuffix(".yaml")
    if name not in _MODES:
        raise InvalidSpecificationError([unknown_name("root configuration", name, list(_MODES), path="-cn")])
    return _MODES[name]


def _run(mode: Mode, options: argparse.Namespace, words: Sequence[str]) -> int:
    line = parse_words(words, multirun=options.multirun)
    beside = None if options.config is None else dict(line.arguments)
    if options.config is not None:
        line.arguments = recorded_arguments(options.config, line.arguments)
    line.arguments["config_dirs"] = searched_directories(options.config_dir)
    if mode == "rollout":
        line.arguments.setdefault("policy", "random_policy")
    if options.help:
        print(help_text.help_text(mode, line, is_multirun=options.multirun))
        return EXIT_DONE
    if options.smoke and (options.multirun or options.cfg or mode != "train"):
        message = "tries one training out; leave it out beside --multirun, --cfg and what plays episodes."
        raise InvalidSpecificationError(message, path="--smoke", code="syntax")
    if options.multirun:
        if options.cfg == "provenance":
            message = "tells of one run; leave out --multirun, and give each key one value."
            raise InvalidSpecificationError(message, path="--cfg provenance", code="syntax")
        if options.cfg:
            return _print_configs(mode, line)
        return _train_jobs(line, words, options) if mode == "train" else _play_jobs(line)
    if options.cfg:
        return _print_config(mode, line, beside, is_provenance=options.cfg == "provenance")
    return _train(line, words, options) if mode == "train" else _play(line)


def _print_config(
    mode: Mode, line: CommandLine, beside: Mapping[str, Any] | None, *, is_provenance: bool
) -> int:
    from maze_core.api.stored_run import rollout_config
    from maze_core.rundir import RunDir

    if mode == "rollout":
        run_dir = None if line.run_dir is None else RunDir(Path(line.run_dir).resolve())
        config = rollout_config(run_dir, line.arguments)
    else:
        config = compose_run(mode, **line.arguments)
    print(f"# config_sha256: {config.config_sha256}")
    if is_provenance:
        if beside is not None:
            config.beside_recorded(beside)
        _print_provenance(config)
    else:
        _print_yaml(config.tree)
    return EXIT_DONE


def _print_provenance(config: RunConfig) -> None:
    """A line per value: as a word of the command line, with where it comes from behind it."""
    for path, origin in config.provenance.items():
        value = json.dumps(part_at(config.tree, path))
        print(f"{path}={value}  # {origin.source}" + (f" {origin.name}" if origin.name else ""))


def _train(line: CommandLine, words: Sequence[str], options: argparse.Namespace) -> int:
    from maze_core.api.console import ConsoleReporter, training_table

    # a rollout's policy or runner is an error here, not another kind of run
    compose_run("train", **line.arguments)
    budgets = {f"algorithm.{name}": line.arguments.pop(name, None) for name in BUDGETS}
    if given := {key: value for key, value in budgets.items() if value is not None}:
        line.arguments["overrides"] = {**line.arguments.get("overrides", {}), **given}
    if options.smoke:
        return _smoke(line)
    with _context(line) as context:
        complete = context.report
        if complete is not None:
            _print_complete(context.run_dir)
        with ConsoleReporter() as reporter, _interrupts() as received:
            report = (
                complete
                or context.train(reporter=reporter, cancelled=lambda: bool(received), videos=line.videos)
            ).to_dict()
    table = training_table(report, run_dir=context.run_dir, config_sha256=context.config_sha256)
    print(table)
    if report["stop_reason"] != "cancelled":
        return EXIT_DONE
    assert context.run_dir is not None
    _print_how_to_go_on(words, options, context.run_dir)
    return _exit_code(received)


def _smoke(line: CommandLine) -> int:
    """Try the training out, and print what it would cost."""
    with _context(line) as context, _interrupts() as received:
        report = context.smoke(cancelled=lambda: bool(received))
    _print_yaml(report.to_dict())
    return _exit_code(received) if report.stop_reason == "cancelled" else EXIT_DONE


def _print_complete(run_dir: Path | None) -> None:
    """Say on standard error why nothing is trained."""
    name = str(run_dir)
    print(
        f"This run is complete. To train it further: RunContext.load({name!r}).train(n_epochs=…); to film it: "
        f"maze-run -cn conf_rollout policy=torch_policy policy.run={shlex.quote(name)} videos=1",
        file=sys.stderr,
    )


def _print_how_to_go_on(words: Sequence[str], options: argparse.Namespace, run_dir: Path) -> None:
    """Say on standard error which command goes on with a run that was stopped."""
    flags = [
        *(["-m"] if options.multirun else []),
        *(["-cn", options.config_name] if options.config_name else []),
        *(["--config", options.config] if options.config else []),
    ]
    flags += [word for folder in options.config_dir for word in ("-cd", folder)]
    others = [
        word for word in words if not word.startswith(("run_dir=", "hydra.run.dir=", "hydra.sweep.dir="))
    ]
    command = shlex.join(["maze-run", *flags, *others, f"run_dir={run_dir}"])
    where = "from the last scheduled checkpoint, or from the start where there is none yet"
    print(f"Stopped; what was learnt is stored. Go on, {where}, with:\n  {command}", file=sys.stderr)


def _play(line: CommandLine) -> int:
    from maze_core.api.console import ConsoleReporter, rollout_table

    with _context(line) as context, _interrupts() as received:
        total = context.config["runner"]["n_episodes"]
        with ConsoleReporter(total=total, unit="episode") as reporter:
            report = context.rollout(
                reporter=reporter, cancelled=lambda: bool(received), videos=line.videos, save=True
            )
    print(rollout_table(report, config_sha256=context.config_sha256))
    return _exit_code(received) if report.stop_reason == "cancelled" else EXIT_DONE


def _context(line: CommandLine) -> "RunContext":
    from maze_core.api.run_context import RunContext

    return RunContext(run_dir=line.run_dir, **line.arguments)


def _print_configs(mode: Mode, line: CommandLine) -> int:
    """Print the resolved configuration of every job, one YAML document each; of a search its space."""
    plan = plan_multirun(mode, line.arguments, line.order)
    if plan.search is not None:
        print("# the jobs follow from the search")
        _print_yaml({"sweep": asdict(plan.search)})
        return EXIT_DONE
    jobs = plan.grid.jobs()
    for job, config in zip(jobs, compose_jobs(jobs, mode), strict=True):
        print(f"--- # job {job.number}: {job}\n# config_sha256: {config.config_sha256}")
        _print_yaml(config.tree)
    return EXIT_DONE


def _train_jobs(line: CommandLine, words: Sequence[str], options: argparse.Namespace) -> int:
    """Train all jobs."""
    from maze_core.api.console import JobsConsole, training_jobs_table

    with _multirun("train", line) as multirun, JobsConsole() as console, _interrupts() as received:
        outcomes = multirun.train(reporter=console, cancelled=lambda: bool(received), videos=line.videos)
    report = multirun.report
    print(training_jobs_table(report))
    if received:
        _print_how_to_go_on(words, options, report.run_dir or Path())
        return _exit_code(received)
    return _exit_code_of(outcomes)


def _play_jobs(line: CommandLine) -> int:
    """Play the episodes of all jobs."""
    from maze_core.api.console import JobsConsole, rollout_jobs_table

    console = JobsConsole(unit="episode")
    with _multirun("rollout", line) as multirun, console, _interrupts() as received:
        outcomes = multirun.rollout(
            reporter=console, cancelled=lambda: bool(received), videos=line.videos, save=True
        )
    print(rollout_jobs_table(multirun.report, outcomes))
    return _exit_code(received) if received else _exit_code_of(outcomes)


def _multirun(mode: Mode, line: CommandLine) -> "closing[Multirun]":
    from maze_core.api.multirun import Multirun

    return closing(Multirun(line.arguments, mode=mode, run_dir=line.run_dir, order=line.order))


def _exit_code_of(outcomes: Sequence[object]) -> int:
    return EXIT_FAILED if any(isinstance(outcome, JobFailedError) for outcome in outcomes) else EXIT_DONE


def _print_yaml(tree: Tree) -> None:
    import yaml

    print(yaml.safe_dump(tree, sort_keys=False, width=110), end="")


@contextmanager
def _interrupts() -> Iterator[list[int]]:
    """Collect the signals into a list while this goes on; the second one raises ``KeyboardInterrupt``."""
    received: list[int] = []

    def note(number: int, frame: object) -> None:
        if received:
            raise KeyboardInterrupt(number)
        received.append(number)

    if threading.current_thread() is not threading.main_thread():  # which alone gets signals
        yield received
        return
    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _exit_code(received: Sequence[int]) -> int:
    """128 and the number of the signal, as shells count: 130 after Ctrl-C, 143 after SIGTERM."""
    return 128 + int(received[0] if received else signal.SIGINT)
