"""The tables of the documentation that are made from the code: rendered, compared with the pages, written.

A table stands between two comments of a page::

    <!-- table: settings -->
    …
    <!-- end of table -->

``python -m tests.docs.tables`` writes them all anew, and the text of ``maze-run --help`` with them.
"""

import argparse
import dataclasses
import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import gymnasium
from pydantic import TypeAdapter

import maze_core
import service.cli
from benchmarks.learning import HEADER, rows
from maze_core.cli import GENERAL_HELP
from maze_core.cli.help_text import help_text
from maze_core.config.command_line import parse_words
from maze_core.config.components import ALIASES, PLACES
from maze_core.config.environments import extra_of, open_kwargs
from maze_core.config.modules import config_groups, config_module
from maze_core.config.plain_values import Limits
from maze_core.config.settings import field_docs
from maze_core.config.targets import resolve_target
from maze_core.models.block_config import BLOCKS
from maze_core.models.config import GaussianArgs
from maze_core.models.supports import SUPPORTS
from maze_core.models.supports import rows as supported
from service.settings import settings_table
from tests.faults import figures
from tools.reference import document

DOCS = Path(__file__).resolve().parents[2] / "docs"
_TABLE = re.compile(r"(<!-- table: (?P<name>[\w-]+) -->\n)(?P<body>.*?)(<!-- end of table -->)", re.DOTALL)


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [f"| {' | '.join(header)} |", "|" + "---|" * len(header)]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join(lines) + "\n"


ALGORITHMS = {
    name: getattr(maze_core, config_module("algorithm", name)["config"]["_target_"].rpartition(".")[2])
    for name in ("ppo", "a2c", "impala", "dqn", "qrdqn", "sac", "sacfd", "td3", "es", "bc")
}


def algorithms() -> str:
    """The settings of all algorithms side by side."""
    each = [settings_of(config) for config in ALGORITHMS.values()]
    rows = []
    for name in dict.fromkeys(name for settings in each for name in settings):
        defaults = [settings[name]["default"] if name in settings else "–" for settings in each]
        entry = next(settings[name] for settings in each if name in settings)
        rows.append([f"`{name}`", *defaults, entry["takes"], entry["meaning"]])
    return markdown(["`algorithm.`", *ALGORITHMS, "takes", "meaning"], rows)


def supports() -> str:
    """What each algorithm learns."""
    found = supported()
    return markdown(["", *SUPPORTS], [[what, *cells.values()] for what, cells in found])


MODEL_SETTINGS = {
    "model.policy.networks.0": maze_core.FlattenConcatPolicyNetConfig,
    "model.critic.networks.0": maze_core.FlattenConcatStateValueNetConfig,
    "model.gaussian": GaussianArgs,
}


def models() -> str:
    """The settings of dense networks and of Gaussian heads."""
    rows = [
        [f"`{place}.{name}`", entry["default"], entry["takes"], entry["meaning"]]
        for place, config in MODEL_SETTINGS.items()
        for name, entry in settings_of(config).items()
    ]
    return markdown(["setting", "default", "takes", "meaning"], rows)


def learning() -> str:
    """What was learnt, as far as it is known."""
    return markdown(HEADER, rows())


def reached() -> str:
    """The figures of reliability."""
    return markdown(figures.HEADER, figures.rows())


def modules() -> str:
    """Every module of every group, with the comment it begins with."""
    rows = [
        [f"`{group}`", f"`{name}`", str(config_module(group, name)["description"])]
        for group, names in config_groups().items()
        for name in names
    ]
    return markdown(["group", "module", "what it is"], rows)


def ceilings() -> str:
    """The largest values that HTTP clients may give."""
    limits = Limits()
    rows = [[f"`{name}`", f"{value:,.0f}"] for name, value in limits.ceilings.items()]
    rows += [["`hidden_units`", f"{limits.hidden_layers} layers of {limits.hidden_width:,}"]]
    return markdown(["setting, wherever it stands", "at most"], rows)


def env_kwargs() -> str:
    """The keyword arguments of environments that HTTP clients may give."""
    ids = [env_id for env_id in gymnasium.registry if extra_of(env_id) is None]
    rows = [[f"`{env_id}`", ", ".join(f"`{key}`" for key in sorted(open_kwargs(env_id)))] for env_id in ids]
    rows = [row for row in rows if row[1]]
    return markdown(["environment", "`env.kwargs`"], rows)


def targets() -> str:
    """The components that a configuration may name, with the other names that lead to them."""
    names: dict[str, list[str]] = {target: [] for target in sorted(PLACES)}
    for alias, target in ALIASES.items():
        names[target].append(f"`{alias}`")
    rows = [[f"`{target}`", "<br>".join(sorted(others))] for target, others in names.items()]
    return markdown(["`_target_`", "also"], rows)


def settings() -> str:
    """The service's settings."""
    return settings_table().replace("``", "`")


def commands() -> str:
    """The commands of ``maze``, with their arguments."""
    rows = []
    for words, text, parser in commands_below(service.cli.parser_of_all(), ()):
        named = [str(action.metavar or action.dest) for action in parser._get_positional_actions()]
        rows.append([f"`{' '.join(['maze', *words, *named])}`", text])
    return markdown(["command", "what it does"], rows)


def commands_below(
    parser: argparse.ArgumentParser, words: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], str, argparse.ArgumentParser]]:
    """Words, help and parser of every command that has none below it."""
    groups = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    for group in groups:
        texts = {choice.dest: str(choice.help) for choice in group._choices_actions}
        for name, sub in group.choices.items():
            below = list(commands_below(sub, (*words, name)))
            yield from below or [((*words, name), texts[name], sub)]


def routes_of_the_service() -> list[tuple[str, str, str]]:
    """Method, path and description of every documented route."""
    return [
        (method.upper(), path, str(operation["description"]))
        for path, operations in document()["paths"].items()
        for method, operation in operations.items()
    ]


def routes() -> str:
    """The routes, each leading to its section."""
    rows = []
    for method, path, description in routes_of_the_service():
        anchor = re.sub(r"[^\w\- ]", "", f"{method} {path}".lower()).replace(" ", "-")
        rows.append([f"[`{method} {path}`](#{anchor})", " ".join(description.partition("\n\n")[0].split())])
    return markdown(["route", "what it does"], rows)


def settings_of(config: type[Any]) -> dict[str, dict[str, str]]:
    """Field → ``default, takes, meaning`` of a config dataclass, nested ones spelled out with dots."""
    schema = TypeAdapter(config).json_schema()
    found: dict[str, dict[str, str]] = {}
    meanings = field_docs(config)
    for field in dataclasses.fields(config):
        node = schema["properties"][field.name]
        nested = _nested(config, field.name)
        if nested is not None:
            found |= {f"{field.name}.{name}": entry for name, entry in settings_of(nested).items()}
            continue
        found[field.name] = {
            "default": f"`{_shown(getattr(config(), field.name))}`",
            "takes": _takes(node),
            "meaning": meanings[field.name].replace("``", "`").replace("|", "\\|"),
        }
    return found


def blocks() -> str:
    """The blocks of networks, with their settings."""
    from maze_core.models.block_network import KINDS

    kinds = {name: (KINDS[name.replace("_", "")], params) for name, params in BLOCKS.items()}
    rows = [[f"`{name}`", meaning_of(kind), arguments_of(params)] for name, (kind, params) in kinds.items()]
    return markdown(["`block_type`", "what it does", "`block_params`"], rows)


def wrappers() -> str:
    """All wrappers, with their settings."""
    return _components_in("maze_core.envs.wrappers.", "wrapper")


def preprocessors() -> str:
    """The steps of pre-processing, with their settings."""
    return _components_in("maze_core.envs.preprocessors.", "`_target_`")


def _components_in(place: str, title: str) -> str:
    found = {name: resolve_target(name) for name in sorted(PLACES) if PLACES[name].startswith(place)}
    rows = [[f"`{name}`", meaning_of(kind), arguments_of(kind)] for name, kind in found.items()]
    return markdown([title, "what it does", "settings"], rows)


def meaning_of(kind: Any) -> str:
    """The first paragraph of a docstring."""
    text = inspect.getdoc(kind).partition("\n\n")[0]
    return " ".join(text.split()).replace("``", "`").replace("|", "\\|")


def arguments_of(settings: type[Any]) -> str:
    """The fields of settings, with their defaults."""
    told = []
    for field in dataclasses.fields(settings):
        has_default = field.default is not dataclasses.MISSING
        is_needed = not has_default and field.default_factory is dataclasses.MISSING
        value = field.default if has_default or is_needed else field.default_factory()
        told.append(f"`{field.name}`" if is_needed else f"`{field.name}={_shown(value)}`")
    return ", ".join(told)


TABLES: Mapping[str, tuple[str, Callable[[], str]]] = {
    "learning": ("learning.md", learning),
    "figures": ("reliability.md", reached),
    "settings": ("operations.md", settings),
    "commands": ("operations.md", commands),
    "routes": ("api.md", routes),
    "algorithms": ("configuration.md", algorithms),
    "supports": ("algorithms.md", supports),
    "models": ("configuration.md", models),
    "modules": ("configuration.md", modules),
    "blocks": ("how_to/perception.md", blocks),
    "wrappers": ("wrappers.md", wrappers),
    "preprocessors": ("wrappers.md", preprocessors),
    "targets": ("configuration.md", targets),
    "ceilings": ("configuration.md", ceilings),
    "env-kwargs": ("configuration.md", env_kwargs),
}
"""Name → page below ``docs`` and what makes it."""


def tables_of(page: Path) -> dict[str, str]:
    """The tables that a page holds now, by name."""
    return {match["name"]: match["body"] for match in _TABLE.finditer(page.read_text(encoding="utf-8"))}


def write(page: Path, made: Mapping[str, str]) -> None:
    """Put tables into a page."""
    text = page.read_text(encoding="utf-8")
    page.write_text(
        _TABLE.sub(lambda match: match[1] + made[match["name"]] + match[4], text), encoding="utf-8"
    )


def _nested(config: type[Any], name: str) -> type[Any] | None:
    """The config dataclass that a field holds."""
    value = getattr(config(), name)
    return type(value) if dataclasses.is_dataclass(value) else None


def _takes(node: Mapping[str, Any]) -> str:
    """Type and range of a JSON schema in words."""
    if "anyOf" in node:
        return " or ".join(_takes(choice) for choice in node["anyOf"])
    if "const" in node or "enum" in node:
        return ", ".join(f"`{value}`" for value in node.get("enum", [node.get("const")]))
    words = {"integer": "whole number", "number": "number", "boolean": "`true`, `false`", "null": "`null`"}
    kind = words.get(node["type"], node["type"])
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    bounds = [f"{sign} {node[key]:g}" for key, sign in signs.items() if key in node]
    return " ".join([kind, ", ".join(bounds)]).strip()


def _shown(value: Any) -> str:
    return (
        {None: "null", True: "true", False: "false"}.get(value, str(value)) if _is_word(value) else f"{value}"
    )


def _is_word(value: Any) -> bool:
    return value is None or isinstance(value, bool)


def main() -> None:
    """Write every table."""
    for page in sorted(DOCS.rglob("*.md")):
        held = tables_of(page)
        if held:
            write(page, {name: TABLES[name][1]() for name in held})
    GENERAL_HELP.write_text(general_help(), encoding="utf-8")


def general_help() -> str:
    """What ``maze-run --help`` shows, composed."""
    line = parse_words([], multirun=False)
    line.arguments["config_dirs"] = ()
    return help_text("train", line, is_multirun=False) + "\n"


if __name__ == "__main__":
    main()
