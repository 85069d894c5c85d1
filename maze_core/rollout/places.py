"""Where recorded episodes lie, and what lies there: saved rollouts, run directories, files, data sets of Minari."""

import json
from os import PathLike, fspath
from pathlib import Path

import yaml

from maze_core.rollout.datasets import SUFFIXES, EpisodeSet, RecordedEpisode, read_episodes, write_episodes
from maze_core.rollout.minari_sets import PREFIX, read_minari, write_minari
from maze_core.rollout.recording import RecordingError, episode_files, trajectory_from_bytes
from maze_core.types import Tree


def load_episodes(place: str | PathLike[str]) -> EpisodeSet:
    """The recorded episodes at a place.

    Args:
        place: a ``.parquet``, ``.npz`` or ``.safetensors`` file, the folder of a saved rollout, a run directory, whose
            saved rollouts count together, or ``minari:name-v0``, a data set of Minari on this machine.

    Raises:
        RecordingError: there are none, or they are damaged; the message names the file.
    """
    text = fspath(place)
    if text.startswith(PREFIX):
        return read_minari(text.removeprefix(PREFIX))
    path = Path(text)
    try:
        if path.suffix in SUFFIXES and not path.is_dir():
            return read_episodes(path)
        files = episode_files(path)
        return EpisodeSet(episodes=[_saved(file) for file in files], env=_env_of(files[0]))
    except OSError as error:
        raise RecordingError(f"{path} cannot be read: {error.strerror or error}.") from error


def save_episodes(place: str | PathLike[str], episodes: EpisodeSet) -> None:
    """Write recorded episodes, whole or not at all.

    Args:
        place: a ``.parquet`` or ``.npz`` file, or ``minari:name-v0``.
        episodes: what :func:`load_episodes` or ``rc.recorded(report)`` gave.

    Raises:
        RecordingError: they cannot be said there; nothing is written then.
    """
    text = fspath(place)
    if text.startswith(PREFIX):
        write_minari(text.removeprefix(PREFIX), episodes)
    else:
        write_episodes(Path(text), episodes)


def _saved(file: Path) -> RecordedEpisode:
    try:
        trajectory = trajectory_from_bytes(file.read_bytes())
    except RecordingError as error:
        raise RecordingError(f"{file}: {error}") from error
    return RecordedEpisode(trajectory=trajectory, seed=_seed_of(file))


def _seed_of(file: Path) -> int | None:
    """What the report of its rollout says."""
    report, number = file.parent.parent / "report.json", file.stem.rpartition("-")[2]
    try:
        return int(json.loads(report.read_text())["seeds"][int(number)])
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        return None


def _env_of(file: Path) -> Tree | None:
    """The environment of a saved rollout."""
    try:
        tree = yaml.safe_load((file.parent.parent / "config.yaml").read_text())
        env = tree.get("config", tree)["env"]
    except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError):
        return None
    return env if isinstance(env, dict) else None
