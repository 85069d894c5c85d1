"""What a child does with a Start frame: train, try out, roll out, evaluate or compare, by the library alone.

The tree was checked when it was submitted. It is checked again here, before anything is built, because the
database it came from is not the place where trust begins.
"""

import importlib
import os
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from maze_core.config.environments import register_extras
from maze_core.config.trust import check_tree, trust_policy
from maze_core.errors import InvalidSpecificationError
from service.domain.run import RunKind
from service.trust import check_checkpoint
from service.worker import frames
from service.worker.channel import Channel, PipeReporter
from service.worker.child import Rules, StopWish
from service.worker.imports import import_checkpoint

if TYPE_CHECKING:
    from maze_core.agent import Agent
    from maze_core.checkpoint import Checkpoint
    from maze_core.config.schema import RunConfig
    from maze_core.evaluation.comparison import ComparisonReport
    from maze_core.evaluation.evaluate import RolloutReport
    from maze_core.runners.replay import DecisionReport, ReplayReport
    from maze_core.runners.smoke import SmokeReport
    from maze_core.trainers.fit import TrainReport

PATIENCE = 10
"""Niceness of looking at spaces: runs come first."""


def execute(start: frames.Start, channel: Channel, stop: StopWish, rules: Rules) -> frames.Result:
    """Run to the end, or to the wish to stop."""
    from maze_core.config.schema import RunConfig
    from maze_core.runners.smoke import run_smoke

    reporter = PipeReporter(channel)
    reporter.phase("starting")
    for problem in import_env_modules(rules):
        reporter.log("warning", problem)
    if start.kind is RunKind.IMPORT:
        return import_checkpoint(start, reporter, rules)
    check_tree(start.tree, trust_policy(rules.extra_targets, rules.config_dirs))
    report: TrainReport | RolloutReport | SmokeReport | ComparisonReport
    if start.kind is RunKind.TRAIN:
        report = _train(start, _to_train(start, rules), reporter, stop)
    elif start.kind is RunKind.SMOKE:
        report = run_smoke(_to_train(start, rules), reporter=reporter, cancelled=stop)
    elif start.kind is RunKind.COMPARE:
        report = _compare(start, RunConfig.from_tree(start.tree, "rollout"), reporter, stop, rules)
    else:
        agent = None if start.agent is None else _agent(start.agent, rules)
        if start.kind is RunKind.REPLAY:
            return _replay(start, RunConfig.from_tree(start.tree, "rollout"), agent)
        report = _act(start, RunConfig.from_tree(start.tree, "rollout"), agent, reporter, stop)
    return frames.Result(stop_reason=report.stop_reason, result=report.to_dict())


def list_environments(start: frames.Start, channel: Channel, stop: StopWish, rules: Rules) -> frames.Result:
    """The environments that can be built here; with ``spaces_of`` in the tree, the spaces of those instead."""
    from maze_core.envs.catalogue import environments, spaces_of

    reporter = PipeReporter(channel)
    for problem in import_env_modules(rules):
        reporter.log("warning", problem)
    wanted = start.tree.get("spaces_of")
    if wanted is None:
        return frames.Result(stop_reason="completed", result={"environments": environments()})
    os.nice(PATIENCE)
    register_extras()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        spaces = {env_id: spaces_of(env_id) for env_id in wanted}
    return frames.Result(stop_reason="completed", result={"spaces": spaces})


def import_env_modules(rules: Rules) -> list[str]:
    """Import the operator's modules, which register environments; a sentence for each that cannot be."""
    problems = []
    if rules.env_path is not None and rules.env_path not in sys.path:
        sys.path.append(rules.env_path)
    for name in rules.env_modules:
        try:
            importlib.import_module(name)
        except Exception as error:
            problems.append(f"MAZE_ENV_MODULES: {name} cannot be imported: {type(error).__name__}: {error}")
    return problems


def _to_train(start: frames.Start, rules: Rules) -> "RunConfig":
    from maze_core.config.schema import RunConfig
    from maze_core.rollout.recording import trajectory_from_bytes

    objects: dict[str, object] = {}  # in place of the ids of runs, which only the service looks up
    if start.episodes:
        objects["dataset.run"] = list(map(trajectory_from_bytes, start.episodes))
    if start.agent is not None:
        objects["initial.run"] = _checkpoint(start.agent, rules)
    return replace(RunConfig.from_tree(start.tree, "train"), objects=objects)


def _train(start: frames.Start, config: "RunConfig", reporter: PipeReporter, stop: StopWish) -> "TrainReport":
    from maze_core.checkpoint import Checkpoint
    from maze_core.runners.training import Further, run_training
    from service.worker.films import RunFilms

    resume = None if start.resume is None else Checkpoint.from_bytes(start.resume)
    further = None
    if (there := start.continues) is not None:
        further = Further(first_epoch=there.first_epoch, until_epoch=there.until_epoch, limits=there.limits)
    films = None
    if n_videos := start.arguments.get("videos", 0):
        films = RunFilms(
            config,
            n_videos,
            reporter,
            stop,
            first_epoch=0 if there is None else there.first_epoch,
            best=None if start.best is None else Checkpoint.from_bytes(start.best),
        )
    return run_training(
        config,
        reporter=reporter,
        cancelled=stop,
        resume=resume,
        further=further,
        spent_s=start.spent_s,
        films=films,
    )


def _checkpoint(bundle: bytes, rules: Rules) -> "Checkpoint":
    """One whose configuration names nothing that may not be imported here."""
    from maze_core.checkpoint import Checkpoint

    checkpoint = Checkpoint.from_bytes(bundle)
    check_checkpoint(checkpoint, trust_policy(rules.extra_targets, rules.config_dirs))
    return checkpoint


def _agent(bundle: bytes, rules: Rules) -> "Agent":
    from maze_core.agent import load_agent

    return load_agent(_checkpoint(bundle, rules))


def _act(
    start: frames.Start, config: "RunConfig", agent: "Agent | None", reporter: PipeReporter, stop: StopWish
) -> "RolloutReport":
    from maze_core.envs.video import check_videos
    from maze_core.runners.evaluation import run_rollout
    from service.worker.films import MAX_VIDEO_STEPS

    if start.kind is RunKind.EVALUATE and agent is None:
        raise InvalidSpecificationError("an evaluation needs a run whose policy is judged")
    if n_videos := start.arguments.get("videos", 0):
        check_videos(config.build("env").rendered().make)
        reporter.videos = [Path(f"episode-{index:05d}.mp4").absolute() for index in range(n_videos)]
    return run_rollout(
        config,
        agent=agent,
        reporter=reporter,
        cancelled=stop,
        videos=reporter.videos,
        video_steps=MAX_VIDEO_STEPS,
    )


def _replay(start: frames.Start, config: "RunConfig", agent: "Agent | None") -> frames.Result:
    """The recorded episode once more, or one of its decisions."""
    from maze_core.rollout.recording import trajectory_from_bytes
    from maze_core.runners.evaluation import policy_agent
    from maze_core.runners.replay import replay_decision, replay_episode

    trajectory = trajectory_from_bytes(start.episodes[0])
    seed, step = start.arguments["seed"], start.arguments.get("step")
    report: ReplayReport | DecisionReport
    if step is None:
        report = replay_episode(config, trajectory, seed, agent)
    else:
        report = replay_decision(config, agent or policy_agent(config), trajectory, seed, step)
    return frames.Result(stop_reason="completed", result=report.to_dict())


def _compare(
    start: frames.Start, config: "RunConfig", reporter: PipeReporter, stop: StopWish, rules: Rules
) -> "ComparisonReport":
    from maze_core.runners.comparison import run_comparison

    agents = [_agent(bundle, rules) for bundle in start.compared]
    return run_comparison(config, agents, reporter=reporter, cancelled=stop)
