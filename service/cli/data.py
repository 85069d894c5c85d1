"""``maze data``: recorded episodes, from one place and form to another."""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.cli.parsers import add, add_group
from service.cli.remote import Columns, client_of, print_facts, remote

if TYPE_CHECKING:
    from maze_core.rollout.datasets import EpisodeSet

_PLACE = "a .parquet, .npz or .safetensors file, a saved rollout, a run directory, minari:NAME-v0, or a rollout's id"


def add_commands(commands: Any) -> None:
    """Add these commands to the parser's."""
    data = add_group(commands, "data", "look at recorded episodes, and write them in other forms")
    show = add(data, "show", _show, "say what recorded episodes are there", remote())
    show.add_argument("place", metavar="PLACE", help=_PLACE)
    convert = add(
        data, "convert", _convert, "write recorded episodes as Parquet, npz or a data set of Minari", remote()
    )
    convert.add_argument("source", metavar="FROM", help=_PLACE)
    convert.add_argument("target", metavar="TO", help="a .parquet or .npz file, or minari:NAME-v0")


def _show(options: argparse.Namespace) -> int:
    print_facts(_facts(_episodes(options, options.place)), _FACTS, as_json=options.json)
    return 0


def _convert(options: argparse.Namespace) -> int:
    from maze_core.rollout.places import save_episodes

    found = _episodes(options, options.source)
    save_episodes(options.target, found)
    print_facts({"written": options.target, "episodes": len(found.episodes)}, _WRITTEN, as_json=options.json)
    return 0


def _episodes(options: argparse.Namespace, place: str) -> "EpisodeSet":
    """The episodes at a place, with the spaces of their environment."""
    from maze_core.rollout.places import load_episodes
    from maze_core.runners.sources import with_spaces

    if not place.startswith("run_") or Path(place).exists():
        return with_spaces(load_episodes(place))
    with client_of(options) as client, tempfile.TemporaryDirectory() as folder:
        run, seeds = client.run(place), []
        for episode in run.episodes():
            if episode.has_trajectory:
                run.download_trajectory(
                    episode.index, Path(folder) / f"episode-{episode.index:05d}.safetensors"
                )
                seeds.append(episode.seed)
        return with_spaces(load_episodes(folder), env=run.config()["env"], seeds=seeds)


def _facts(found: "EpisodeSet") -> dict[str, Any]:
    recorded = found.trajectories
    first = recorded[0]
    return {
        "episodes": len(recorded),
        "steps": sum(len(each.step_keys) for each in recorded),
        "mean_return": sum(float(each.rewards.sum()) for each in recorded) / len(recorded),
        "environment": (found.env or {}).get("name"),
        "seeds": sum(episode.seed is not None for episode in found.episodes),
        "observations": {str(key): list(seen) for key, seen in first.observations.items()},
        "actions": {str(key): list(done) for key, done in first.actions.items()},
    }


def _member(name: str) -> Callable[[Any], object]:
    return lambda facts: facts[name]


_NAMES = ("episodes", "steps", "mean_return", "environment", "seeds", "observations", "actions")
_FACTS: Columns = {name: _member(name) for name in _NAMES}
_WRITTEN: Columns = {name: _member(name) for name in ("written", "episodes")}
