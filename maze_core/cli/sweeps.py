"""``maze-run --multirun``: several runs from one command line, and a table of them all."""

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from maze_core.cli.command import EXIT_DONE, EXIT_FAILED, print_how_to_go_on
from maze_core.cli.interrupts import exit_code, interrupts
from maze_core.config.command_line import CommandLine
from maze_core.config.multirun import plan_multirun
from maze_core.config.normal_form import Mode
from maze_core.config.sweep import compose_jobs
from maze_core.errors import JobFailedError

if TYPE_CHECKING:
    from maze_core.api.multirun import Multirun


def print_configs(mode: Mode, line: CommandLine) -> int:
    """Print the resolved configuration of every job, one YAML document each; of a search its space."""
    plan = plan_multirun(mode, line.arguments, line.order)
    if plan.search is not None:
        print("# the jobs follow from the search")
        print(yaml.safe_dump({"sweep": asdict(plan.search)}, sort_keys=False, width=110), end="")
        return EXIT_DONE
    jobs = plan.sweep.jobs()
    for job, config in zip(jobs, compose_jobs(jobs, mode), strict=True):
        print(f"--- # job {job.number}: {job}\n# config_sha256: {config.config_sha256}")
        print(yaml.safe_dump(config.tree, sort_keys=False, width=110), end="")
    return EXIT_DONE


def train(line: CommandLine, words: Sequence[str], options: argparse.Namespace) -> int:
    """Train all jobs."""
    from maze_core.api.jobs_console import JobsConsole, training_jobs_table

    multirun = _multirun("train", line)
    try:
        with JobsConsole() as console, interrupts() as received:
            outcomes = multirun.train(reporter=console, cancelled=lambda: bool(received), videos=line.videos)
        report = multirun.report
    finally:
        multirun.close()
    print(training_jobs_table(report))
    if received:
        print_how_to_go_on(words, options, report.run_dir or Path())
        return exit_code(received)
    return EXIT_FAILED if any(isinstance(outcome, JobFailedError) for outcome in outcomes) else EXIT_DONE


def play(line: CommandLine) -> int:
    """Play the episodes of all jobs."""
    from maze_core.api.jobs_console import JobsConsole, rollout_jobs_table

    multirun = _multirun("rollout", line)
    try:
        with JobsConsole(unit="episode") as console, interrupts() as received:
            outcomes = multirun.rollout(
                reporter=console, cancelled=lambda: bool(received), videos=line.videos, save=True
            )
        report = multirun.report
    finally:
        multirun.close()
    print(rollout_jobs_table(report, outcomes))
    if received:
        return exit_code(received)
    return EXIT_FAILED if any(isinstance(outcome, JobFailedError) for outcome in outcomes) else EXIT_DONE


def _multirun(mode: Mode, line: CommandLine) -> "Multirun":
    from maze_core.api.multirun import Multirun

    return Multirun(line.arguments, mode=mode, run_dir=line.run_dir, order=line.order)
