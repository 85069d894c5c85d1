"""What ``maze-run --help`` shows: options, groups and modules, and the fields of the chosen configuration."""

import json
import re
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from maze_core.config import compose_run, config_groups, config_module
from maze_core.config.command_line import CommandLine
from maze_core.config.grid import compose_jobs
from maze_core.config.multirun import LOCAL_LAUNCHER, plan_multirun
from maze_core.config.nodes import TARGET, is_node, join
from maze_core.config.schema import Mode
from maze_core.config.settings import field_docs
from maze_core.config.targets import field_types, only_type, resolve_target
from maze_core.types import Tree

USAGE = (
    "maze-run [-m] [-cn conf_train|conf_rollout] [-cd DIR] [--config FILE] [--cfg job|provenance] [--smoke] "
    "[group=module …] [a.b=value …]"
)
_INTRODUCTION = """\
maze-run: a run from the command line; the words are the arguments of RunContext.

    maze-run -cn conf_train env.name=CartPole-v1 algorithm=ppo model=vector_obs critic=template_state
    maze-run -cn conf_rollout policy=torch_policy policy.run=outputs/… runner.n_episodes=10
    maze-run --multirun algorithm=ppo,a2c algorithm.lr=0.001,0.0003 launcher.n_jobs=2

Modules of the current folder can be named: env.name=my_module:MyEnv-v0.

Exit codes: 0 done · 1 the run, or a job of a multirun, failed · 2 the specification cannot work, or the environment
cannot be made · 130 stopped by Ctrl-C · 143 stopped by SIGTERM."""
_OPTIONS = """\
  -cn, --config-name NAME   conf_train trains, conf_rollout plays episodes
  -cd, --config-dir DIR     modules of your own, DIR/<group>/<name>.yaml; may be repeated
  -m,  --multirun           a=1,2 b=x,y: every combination is a job, launcher.n_jobs at a time
       --config FILE        a resolved configuration, as --cfg job prints it or config.yaml has it; words change it
  -c,  --cfg job            print the resolved configuration and its digest, run nothing
       --cfg provenance     print every value and where it comes from, run nothing
       --smoke              only try the training out, in seconds, and print what it would cost
  -h,  --help               this text; with the settings of what the other words choose
  seed=N  run_dir=DIR (also hydra.run.dir=DIR; goes on with a run that is there)
  n_epochs=N  max_env_steps=N  max_wall_s=SECONDS  patience=N  target_return=R   when to stop: the first that comes
  videos=N                  film N episodes, of a training at every scheduled checkpoint
  a.b=value sets, +a.b=value and ++a.b=value too, ~a.b takes away; +experiment=NAME"""
_SENTENCE_END = re.compile(r"(?<!et al)\. ")
_WIDTH = 110
_INDENT = " " * 6


def help_text(mode: Mode, line: CommandLine, *, is_multirun: bool) -> str:
    """The whole text.

    Raises:
        InvalidSpecificationError: the other words of the command line choose nothing that works.
    """
    parts = [
        _INTRODUCTION,
        "",
        f"Usage: {USAGE}",
        "",
        _OPTIONS,
        "",
        "Groups and their modules:",
    ]
    dirs = line.arguments["config_dirs"]
    for group, names in config_groups(dirs).items():
        for name in names:
            summary = _SENTENCE_END.split(config_module(group, name, dirs)["description"])[0]
            parts.append(f"  {group + '=' + name:38} {summary}")
    tree = _chosen_tree(mode, line, is_multirun=is_multirun)
    if line.arguments.get("seed") is None:  # those that are not given are drawn anew by each run
        given = line.arguments.get("overrides", {})
        tree["seeding"] = {name: given.get(f"seeding.{name}") for name in tree["seeding"]}
    parts += ["", "Settings of this choice, with their values now:"]
    for path, value in tree.items():
        parts += _settings(path, value)
    return "\n".join(parts)


def _chosen_tree(mode: Mode, line: CommandLine, *, is_multirun: bool) -> Tree:
    if not is_multirun:
        return dict(compose_run(mode, **line.arguments).tree)
    plan = plan_multirun(mode, line.arguments, line.order)
    job = next(iter(plan.grid.jobs()))
    return {
        **compose_jobs([job], mode)[0].tree,
        "launcher": {TARGET: LOCAL_LAUNCHER, "n_jobs": plan.launcher.n_jobs},
    }


def _settings(path: str, value: Any, cls: type | None = None) -> Iterator[str]:
    """A line per setting below ``path``, with its meaning where a config dataclass tells it."""
    if isinstance(value, list):
        for index, child in enumerate(value):
            yield from _settings(join(path, index), child)
        return
    if not isinstance(value, Mapping):
        return
    if is_node(value):
        found = resolve_target(str(value[TARGET]))
        cls = found if isinstance(found, type) else None
        yield f"  {path}: {str(value[TARGET]).rpartition('.')[2]}"
    types = field_types(cls) if cls is not None and hasattr(cls, "__dataclass_fields__") else {}
    docs = field_docs(cls) if cls else {}
    for name, child in value.items():
        if name == TARGET:
            continue
        here = join(path, name)
        declared = only_type(types.get(name))
        is_nested = bool(child) and (isinstance(child, Mapping) or _is_list_of_nodes(child))
        yield f"    {here}:" if is_nested else f"    {here}={json.dumps(child)}"
        if docs.get(name):
            text = docs[name].replace("``", "")
            yield textwrap.fill(text, _WIDTH, initial_indent=_INDENT, subsequent_indent=_INDENT)
        if is_nested:
            yield from _settings(here, child, declared if isinstance(declared, type) else None)


def _is_list_of_nodes(value: object) -> bool:
    return isinstance(value, list) and any(map(is_node, value))
