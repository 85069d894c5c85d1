"""``maze import zoo``: experiments made of RL-Zoo3's files, and what of a file cannot be said here."""

import sys
import tempfile
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from maze_core.config import compose_run
from maze_core.config.nodes import TARGET, shown
from maze_core.config.rl_zoo import DEFAULTS, NOTES, Translation, translate
from maze_core.config.words import closest
from maze_core.errors import InvalidSpecificationError


def import_entry(file: Path, env: str, *, algorithm: str | None, into: Path, name: str | None) -> int:
    """Write the experiment of one entry and print what became of it.

    Args:
        file: ``hyperparams/<algorithm>.yml`` of RL-Zoo3.
        env: the entry.
        algorithm: whose settings these are; None takes the file's name.
        into: a directory of modules; the experiment is ``experiment/<name>.yaml`` in it.
        name: of the experiment; None makes one of environment and algorithm.

    Returns:
        The exit code: 2 where something in the entry cannot be said here, which writes nothing.

    Raises:
        ValueError: there is no such file, entry or algorithm, or the experiment is there already.
    """
    entries, algorithm = _entries(file), _algorithm(file, algorithm)
    if env not in entries:
        near = closest(env, entries)
        raise ValueError(f"{file} has no entry {shown(env)}." + (f" Did you mean {near}?" if near else ""))
    found = translate(entries[env], algorithm, env)
    name = name or _name_of(env, algorithm)
    tree = _tree(found, algorithm)
    place = into / "experiment" / f"{name}.yaml"
    if place.exists():
        raise ValueError(f"{place} is there already; remove it, or give another --name")
    if refused := found.refused or _not_composed(tree, imports=True):
        for key, reason in refused.items():
            print(f"maze: {env}: {key}: {reason}", file=sys.stderr)
        return 2
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(_text(tree, f"{algorithm.upper()} on {env} as RL-Zoo3's {file.name} has it."))
    for key, settings in found.said.items():
        print(f"{key}={_short(entries[env][key])} → {_shown(settings) or 'nothing to set'}")
    assumed = [_shown(settings) for settings in found.assumed.values() if settings]
    print(f"by default of Stable-Baselines3 → {', '.join(assumed)}")
    print(f"{place}: maze-run -cd {into} experiment={name}")
    return 0


def count_entries(file: Path, *, algorithm: str | None) -> int:
    """Print which entries of a file can be said here, and of the others why not; nothing it names is imported."""
    entries, algorithm = _entries(file), _algorithm(file, algorithm)
    refused = {}
    for env, entry in entries.items():
        found = translate(entry, algorithm, env)
        if problems := found.refused or _not_composed(_tree(found, algorithm), imports=False):
            refused[env] = problems
    print(f"{file.name}: {len(entries) - len(refused)} of {len(entries)} entries can be said here")
    for env, problems in refused.items():
        print(f"  {env}: {'; '.join(f'{key}: {reason}' for key, reason in problems.items())}")
    return 0


def _entries(file: Path) -> dict[str, dict[str, Any]]:
    try:
        entries = yaml.safe_load(file.read_text())
    except yaml.YAMLError as error:
        raise ValueError(f"{file} is no YAML: {error}") from error
    if not isinstance(entries, dict) or not all(isinstance(entry, dict) for entry in entries.values()):
        raise ValueError(f"{file} is no file of RL-Zoo3's: it has no settings by environment")
    return {str(name): entry for name, entry in entries.items()}


def _algorithm(file: Path, given: str | None) -> str:
    name = (given or file.stem).lower()
    if name not in DEFAULTS:
        known = ", ".join(DEFAULTS)
        raise ValueError(f"{shown(name)} is no algorithm that can be imported; give --algorithm: {known}")
    return name


def _name_of(env: str, algorithm: str) -> str:
    """With the version of the environment, which no shipped experiment has in its name."""
    return f"{env}_{algorithm}".lower().translate(str.maketrans("-/:", "___"))


def _tree(found: Translation, algorithm: str) -> dict[str, Any]:
    return {"defaults": [{"override /algorithm": algorithm}], **found.tree()}


def _text(tree: Mapping[str, Any], description: str) -> str:
    body = yaml.safe_dump(tree, sort_keys=False, default_flow_style=None, width=110)
    return f"# @package _global_\n# {description}\n{body}"


def _not_composed(tree: Mapping[str, Any], *, imports: bool) -> dict[str, str]:
    """What composing the experiment finds wrong with it: key → reason.

    Wrappers of packages that may not be imported, or are not installed, are left out.
    """
    env = tree["env"]
    wrappers = [node for node in env.get("wrappers", ()) if _is_here(node[TARGET], imports=imports)]
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "experiment" / "imported.yaml"
        place.parent.mkdir()
        place.write_text(_text({**tree, "env": {**env, "wrappers": wrappers}}, "Judged."))
        try:
            compose_run("train", experiment="imported", config_dirs=[folder], seed=0)
        except InvalidSpecificationError as error:
            return {problem.path: problem.message for problem in error.problems}
    return {}


def _is_here(name: str, *, imports: bool) -> bool:
    package = str(name).partition(".")[0]
    is_named = package.isidentifier() and package != "gymnasium"
    return not is_named or (imports and find_spec(package) is not None)


def _shown(settings: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{key}={_short(value)}" + (f" ({NOTES[key]})" if key in NOTES else "")
        for key, value in settings.items()
    )


def _short(value: Any) -> str:
    return " ".join(yaml.safe_dump(value, default_flow_style=True, width=1000).split()).removesuffix(" ...")
