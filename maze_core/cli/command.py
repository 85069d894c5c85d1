"""One command line, from its words to an exit code."""

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maze_core.cli import help_text
from maze_core.cli.interrupts import exit_code, interrupts
from maze_core.config import compose_run
from maze_core.config.arguments import recorded_arguments
from maze_core.config.command_line import CommandLine, parse_words
from maze_core.config.index import unknown_name
from maze_core.config.normal_form import Mode
from maze_core.errors import EnvError, InvalidSpecificationError, MazeError

if TYPE_CHECKING:
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
    except BrokenPipeError:  # the reader of our output had enough, as ``| head`` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_DONE
    except OSError as error:  # no place to write, or no right to
        print(f"maze-run: {error}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt as error:
        print("maze-run: ended at once; what was stored before is kept.", file=sys.stderr)
        return exit_code(error.args)


def _options(argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    parser = _Parser(prog="maze-run", usage=help_text.USAGE, add_help=False, allow_abbrev=False)
    parser.add_argument("-cn", "--config-name")
    parser.add_argument("-cd", "--config-dir", action="append", default=[])
    parser.add_argument("--config")
    parser.add_argument("-c", "--cfg", choices=["job"])
    parser.add_argument("-m", "--multirun", action="store_true")
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
    if options.config is not None:
        line.arguments = recorded_arguments(options.config, line.arguments)
    line.arguments["config_dirs"] = options.config_dir
    if mode == "rollout":
        line.arguments.setdefault("policy", "random_policy")
    if options.help:
        print(help_text.help_text(mode, line, is_multirun=options.multirun))
        return EXIT_DONE
    if options.multirun:
        from maze_core.cli import sweeps

        if options.cfg:
            return sweeps.print_configs(mode, line)
        return sweeps.train(line, words, options) if mode == "train" else sweeps.play(line)
    if options.cfg:
        return _print_config(mode, line)
    return _train(line, words, options) if mode == "train" else _play(line)


def _print_config(mode: Mode, line: CommandLine) -> int:
    import yaml

    from maze_core.api.specification import rollout_config
    from maze_core.rundir import RunDir

    if mode == "rollout":
        run_dir = None if line.run_dir is None else RunDir(Path(line.run_dir).resolve())
        given = {**dict.fromkeys(("env", "wrappers", "overrides")), **line.arguments}
        config = rollout_config(run_dir, given)
    else:
        config = compose_run(mode, **line.arguments)
    print(f"# config_sha256: {config.config_sha256}")
    print(yaml.safe_dump(config.tree, sort_keys=False, width=110), end="")
    return EXIT_DONE


def _train(line: CommandLine, words: Sequence[str], options: argparse.Namespace) -> int:
    from maze_core.api.console import ConsoleReporter, training_table

    # a rollout's policy or runner is an error here, not another kind of run
    compose_run("train", **line.arguments)
    n_epochs = line.arguments.pop("n_epochs", None)
    if n_epochs is not None:
        line.arguments["overrides"] = {**line.arguments.get("overrides", {}), "algorithm.n_epochs": n_epochs}
    with _context(line) as context:
        complete = context.report
        if complete is not None:
            print_complete(context.run_dir)
        with ConsoleReporter() as reporter, interrupts() as received:
            report = (
                complete
                or context.train(reporter=reporter, cancelled=lambda: bool(received), videos=line.videos)
            ).to_dict()
    table = training_table(report, run_dir=context.run_dir, config_sha256=context.config_sha256)
    print(table)
    if report["stop_reason"] != "cancelled":
        return EXIT_DONE
    assert context.run_dir is not None
    print_how_to_go_on(words, options, context.run_dir)
    return exit_code(received)


def print_complete(run_dir: Path | None) -> None:
    """Say on standard error why nothing is trained."""
    name = str(run_dir)
    print(
        f"This run is complete. To train it further: RunContext.load({name!r}).train(n_epochs=…); to film it: "
        f"maze-run -cn conf_rollout policy=torch_policy policy.run={shlex.quote(name)} videos=1",
        file=sys.stderr,
    )


def print_how_to_go_on(words: Sequence[str], options: argparse.Namespace, run_dir: Path) -> None:
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

    with _context(line) as context, interrupts() as received:
        total = context.config["runner"]["n_episodes"]
        with ConsoleReporter(total=total, unit="episode") as reporter:
            report = context.rollout(
                reporter=reporter, cancelled=lambda: bool(received), videos=line.videos, save=True
            )
    print(rollout_table(report, config_sha256=context.config_sha256))
    return exit_code(received) if report.stop_reason == "cancelled" else EXIT_DONE


def _context(line: CommandLine) -> "RunContext":
    from maze_core.api.run_context import RunContext

    return RunContext(run_dir=line.run_dir, **line.arguments)
