"""What a training takes from elsewhere: recorded episodes to learn from, and the policy that it begins with.

Where it lies is no part of a run's identity; its content is, by a digest that is found when the run is specified and
checked when it is built. A client of the service names runs by their ids, which the service looks up.
"""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, WithJsonSchema

from maze_core.checkpoint import Checkpoint, section
from maze_core.config.nodes import TARGET, is_node, shown
from maze_core.config.schema import RunConfig
from maze_core.config.settings import STRICT, dataclass
from maze_core.config.targets import resolve_target
from maze_core.envs.env_spaces import describe_spaces
from maze_core.envs.wrappers.wrapper import Wrapper
from maze_core.errors import CheckpointError, EnvError, InvalidSpecificationError
from maze_core.models.acting import ActingPolicy, PolicyDescription
from maze_core.rollout.datasets import SUFFIXES, EpisodeSet
from maze_core.rollout.demonstrations import Episodes
from maze_core.rollout.minari_sets import PREFIX
from maze_core.rollout.places import load_episodes
from maze_core.rollout.recording import (
    RecordingError,
    Trajectory,
    episode_files,
    episodes_sha256,
    trajectory_from_bytes,
)
from maze_core.rundir import RunDir
from maze_core.types import Tree

Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


def _episodes(value: Any) -> Any:
    is_list = isinstance(value, list | tuple) and value and all(isinstance(x, Trajectory) for x in value)
    if not (value is None or isinstance(value, str) or is_list):
        raise ValueError(f"takes where episodes were recorded, or a list of Trajectory, not {shown(value)}")
    return value


def _checkpoint(value: Any) -> Any:
    if not (value is None or isinstance(value, str | Checkpoint)):
        raise ValueError(f"takes a run, its directory or a checkpoint file, not {shown(value)}")
    return value


_NAMED = WithJsonSchema({"type": ["string", "null"]})  # what else it may be in Python, no JSON says


@dataclass(frozen=True, kw_only=True, config=STRICT)
class DatasetConfig:
    """Recorded episodes to learn from."""

    run: Annotated[Any, AfterValidator(_episodes), _NAMED] = None
    """Where they were recorded: a file (``.safetensors``, ``.parquet``, ``.npz``), the directory of a saved rollout, a
    run directory, whose saved rollouts count together, or ``minari:name-v0``; in Python also a list of trajectories;
    over HTTP the id of a rollout."""
    sha256: Digest | None = None
    """Digest of the episodes; found when the run is specified, and checked when it begins."""

    def located(self) -> "DatasetConfig":
        """The same with an absolute path and the digest of what lies there.

        Raises:
            InvalidSpecificationError: there are no episodes, or other ones than the digest says.
        """
        if isinstance(self.run, str):
            if not _is_set(self.run):
                found = [hashlib.sha256(data).hexdigest() for _, data in _recorded(self.run)]
                return replace(self, run=str(Path(self.run).resolve()), sha256=self._checked(found))
            found = [episode.content_sha256 for episode in _of_set(self.run).values()]
            is_named = self.run.startswith(PREFIX)
            run = self.run if is_named else str(Path(self.run).resolve())
            return replace(self, run=run, sha256=self._checked(found))
        return replace(self, sha256=self._checked([episode.content_sha256 for episode in self.run or ()]))

    def load(self) -> Episodes:
        """The episodes, by name.

        Raises:
            InvalidSpecificationError: they are not there, are damaged, or are others than the digest says.
        """
        if not isinstance(self.run, str):
            self.located()
            return {f"episode {i}": episode for i, episode in enumerate(self.run)}
        if _is_set(self.run):
            found = _of_set(self.run)
            self._checked([episode.content_sha256 for episode in found.values()])
            return found
        digests, episodes = [], {}
        for file, data in _recorded(self.run):  # once: another may lie there the next time
            digests.append(hashlib.sha256(data).hexdigest())
            try:
                episodes[str(file)] = trajectory_from_bytes(data)
            except RecordingError as error:
                raise _no_episodes(f"{file}: {error}") from error
        self._checked(digests)
        return episodes

    def _checked(self, digests: Sequence[str]) -> str | None:
        return _same(self.sha256, episodes_sha256(digests) if digests else None, "dataset")


@dataclass(frozen=True, kw_only=True, config=STRICT)
class InitialConfig:
    """The trained policy that a training begins with."""

    run: Annotated[Any, AfterValidator(_checkpoint), _NAMED] = None
    """The run, as ``policy.run`` of a rollout names it: a run directory or checkpoint file; over HTTP the id of a run.
    null begins with fresh weights."""
    checkpoint: Annotated[str, Field(min_length=1, max_length=256)] = "best"
    """``best``, ``last``, ``epoch:N`` or the id of a checkpoint."""
    sha256: Digest | None = None
    """Content digest of the checkpoint; found when the run is specified, and checked when it begins."""

    def located(self) -> "InitialConfig":
        """The same with an absolute path and the digest of the checkpoint.

        Raises:
            InvalidSpecificationError: there is no such checkpoint, or another one than the digest says.
        """
        run = str(Path(self.run).resolve()) if isinstance(self.run, str) else self.run
        return replace(self, run=run, sha256=_same(self.sha256, self._read().content_sha256, "initial"))

    def load(self) -> Checkpoint:
        """The checkpoint; see :meth:`located`."""
        found = self._read()
        _same(self.sha256, found.content_sha256, "initial")
        return found

    def _read(self) -> Checkpoint:
        if isinstance(self.run, Checkpoint):
            return self.run
        if self.run is None:
            _same(self.sha256, None, "initial")
        source = Path(self.run)
        try:
            return Checkpoint.read(
                RunDir(source).checkpoint_path(self.checkpoint) if source.is_dir() else source
            )
        except CheckpointError as error:
            raise InvalidSpecificationError(str(error), path="initial.run", code="no_checkpoint") from error


def with_spaces(
    found: EpisodeSet, *, env: Tree | None = None, seeds: Sequence[int | None] | None = None
) -> EpisodeSet:
    """Episodes with the spaces of their environment, which is made to ask it where they are not known.

    Args:
        found: the episodes.
        env: how their environment is configured; None takes what they say themselves.
        seeds: what each was reset with, where they do not say it.
    """
    episodes = found.episodes
    if seeds is not None:
        episodes = [replace(each, seed=seed) for each, seed in zip(episodes, seeds, strict=True)]
    env, spaces = env or found.env, found.spaces
    if spaces is None and env is not None:
        try:
            with closing(RunConfig(mode="train", tree={"env": env}).build("env").vector(1)) as made:
                spaces = describe_spaces(made)
        except (EnvError, InvalidSpecificationError):  # it is not here; what needs the spaces will say so
            spaces = None
    return replace(found, episodes=episodes, env=env, spaces=spaces)


def _is_set(place: str) -> bool:
    """Whether a place is one file of several episodes, or a data set of Minari."""
    return place.startswith(PREFIX) or Path(place).suffix in SUFFIXES


def _of_set(place: str) -> Episodes:
    """The episodes of a file or a data set, by name."""
    try:
        found = load_episodes(place).trajectories
    except RecordingError as error:
        raise _no_episodes(str(error)) from error
    return {f"{place}, episode {i}": episode for i, episode in enumerate(found)}


def _recorded(place: str) -> Iterator[tuple[Path, bytes]]:
    """The files of the episodes at a place, in order, and what they hold."""
    try:
        for file in episode_files(Path(place).resolve()):
            yield file, file.read_bytes()
    except (RecordingError, OSError) as error:
        raise _no_episodes(str(error)) from error


def _no_episodes(message: str) -> InvalidSpecificationError:
    return InvalidSpecificationError(message, path="dataset.run", code="dataset")


def _same(expected: str | None, found: str | None, part: str) -> str | None:
    """The digest, where it is the one that is expected."""
    if expected not in (None, found):
        is_there = "is no longer what it was when the run was specified" if found else "has to be named again"
        message = f"What the run began with {is_there} (sha256 {expected[:12]}…)."
        raise InvalidSpecificationError(message, path=f"{part}.run", code="other_content")
    return found


def begin_with(
    checkpoint: Checkpoint, nodes: Sequence[Tree], wrappers: Sequence[Wrapper], policy: ActingPolicy
) -> None:
    """Give a policy the weights of a trained one, and the wrappers that change what it sees their statistics.

    Args:
        checkpoint: the trained one.
        nodes: how the wrappers are configured, in order.
        wrappers: bound to the environment; changed.
        policy: changed.

    Raises:
        InvalidSpecificationError: it saw through other wrappers, or has other heads or other networks.
    """
    theirs = _acting(RunConfig.from_tree(checkpoint.identity["config"]).tree["wrappers"])
    ours = _acting(nodes)
    if [node for _, node in theirs] != [node for _, node in ours]:
        there, here = ([str(node.get(TARGET)) for _, node in part] for part in (theirs, ours))
        raise _unfit(f"It was trained behind {there} and this run has {here}, or their settings differ")
    heads = [
        {head.name: type(head).__name__ for step in steps for head in step.heads}
        for steps in (PolicyDescription.read(checkpoint.identity["acting"]).steps, policy.steps.values())
    ]
    if heads[0] != heads[1]:
        raise _unfit(f"It acts by {heads[0]} and this algorithm by {heads[1]}")
    try:
        policy.load_state_dict(section(checkpoint.tensors, "policy"))
    except CheckpointError as error:
        raise _unfit(str(error).rstrip(".")) from error
    for (there_at, _), (here_at, _) in zip(theirs, ours, strict=True):
        wrappers[here_at].load_state_dict(section(checkpoint.tensors, f"wrappers/{there_at}"))


def _acting(nodes: Sequence[Tree]) -> list[tuple[int, Tree]]:
    """Place and node of the wrappers that change what a policy sees or does."""
    found = []
    for place, node in enumerate(nodes):
        kind = resolve_target(node[TARGET]) if is_node(node) else Wrapper
        overridden = getattr(kind, "overridden", frozenset({"observation"}))
        if not is_node(node) or not overridden.isdisjoint({"observation", "action"}):
            found.append((place, node))
    return found


def _unfit(message: str) -> InvalidSpecificationError:
    way_out = "train with the wrappers, the model and a distribution of that run."
    return InvalidSpecificationError(f"{message}: {way_out}", path="initial.run", code="other_policy")
