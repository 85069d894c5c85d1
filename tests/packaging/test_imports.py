"""What importing the project brings along, what its sources never call, and that dependencies are declared.

A module that must stay free of torch is imported in an interpreter of its own; everything else is read from
the syntax trees of the sources.
"""

import ast
import functools
import importlib
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import maze_core
from tests.packaging.sources import ROOT, Use, all_calls, all_imports, calls, imports, parsed, public_imports

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LIBRARY_AND_SERVICE = ("maze_core", "service")
PACKAGES = (*LIBRARY_AND_SERVICE, "maze_client")
SHIPPED = (*PACKAGES, "alembic", "benchmarks", "examples")

TORCH_FREE_FAMILIES = PACKAGES
"""Packages of which every module stays free of torch."""
NEED_TORCH = {
    "maze_core.models.module_network": "networks that are torch modules",
    "maze_core.models.block_network": "those that settings describe",
}
NEED_TORCH_BELOW = "maze_core.models.blocks"
"""Parts of torch networks."""
NOT_TO_IMPORT = {
    "service.worker.warm": "what makes a process the forkserver; tests of the worker look into its children",
}

FORBIDDEN_MODULES = {
    "sqlite3": "closing a second library's handle on a database file drops the locks of the first one",
    "pickle": "reading it runs code",
    "cPickle": "reading it runs code",
    "cloudpickle": "reading it runs code",
    "dill": "reading it runs code",
    "joblib": "reading it runs code",
    "marshal": "reading it can crash the interpreter",
    "shelve": "it is pickle",
}
_OWN_CHILD = "between a process and the children it started itself, over a socket that nobody else holds"
ALLOWED_IMPORTS = {
    ("maze_core/envs/subproc.py", "pickle"): _OWN_CHILD,
    ("maze_core/envs/env_process.py", "pickle"): _OWN_CHILD,
    (
        "maze_core/sb3/files.py",
        "pickle",
    ): "an unpickler of arrays and records by exact names, at a word of the user's",
}
"""(path, module) → why this one is safe."""
FORBIDDEN_CALLS = {
    "eval": "runs text",
    "exec": "runs text",
    "torch.load": "it is pickle",
    "torch.save": "it is pickle",
    "yaml.load": "builds any object; yaml.safe_load reads",
    "yaml.load_all": "builds any object",
    "yaml.unsafe_load": "builds any object",
    "yaml.full_load": "builds objects",
    "hydra.utils.instantiate": "calls what the configuration names; maze_core.config.instantiate checks it",
    "hydra.utils.call": "calls what the configuration names",
    "hydra.utils.get_object": "imports what the configuration names",
    "os.system": "runs a shell",
    "os.popen": "runs a shell",
}

ALLOWED_CALLS = {
    ("maze_core/sb3/files.py", "torch.load"): "with weights_only, which reads tensors alone; never over HTTP",
}
"""(path, call) → why this one is safe."""

USED_BY_OTHERS = {
    "uvloop": "uvicorn's event loop where it is installed",
    "httptools": "uvicorn's parser where it is installed",
    "pygame": "gymnasium's classic-control environments",
}
"""Declared dependencies that no source imports by name."""
OPTIONAL = {
    "gym": "maze_core/envs/legacy_gym.py",
    "optuna": "maze_core/runners/optuna_search.py",
    "imageio_ffmpeg": "maze_core/envs/video.py",
    "pettingzoo": "maze_core/envs/pettingzoo_env.py",
    "pyarrow": "maze_core/rollout/datasets.py service/api/tables.py",
    "minari": "maze_core/rollout/minari_sets.py",
    "mlflow": "maze_core/runners/trackers.py",
    "onnx": "maze_core/export/onnx_graph.py",
    "onnxruntime": "maze_core/export/exporting.py",
    "PIL": "maze_core/envs/wrappers/export_gif.py",
    "opentelemetry": "service/tracing.py",
    "ray": "service/executors/ray.py",
}
"""Module of an extra → the one source that imports it, or the few."""
EXTRA = {
    "imageio_ffmpeg": "video",
    "pyarrow": "parquet",
    "onnxruntime": "onnx",
    "PIL": "gif",
    "opentelemetry": "otel",
}
"""Module → its extra, where that has another name."""
COMES_WITH = {"pydantic-core": "pydantic", "mlflow": "mlflow-skinny"}
"""Distributions that another one always brings, and whose names it documents as its own interface."""


@pytest.mark.parametrize("family", TORCH_FREE_FAMILIES)
def test_no_module_of_these_packages_brings_torch(family: str) -> None:
    names = [
        name
        for name in _modules(family)
        if name not in {**NEED_TORCH, **NOT_TO_IMPORT} and not f"{name}.".startswith(f"{NEED_TORCH_BELOW}.")
    ]
    assert names
    lines = [f"import {name}; assert 'torch' not in sys.modules, {name!r}" for name in names]
    _python("import sys; " + "; ".join(lines))


def test_the_public_names_are_there_without_torch() -> None:
    assert _loaded_by("from maze_core import *; RunContext; load_agent; GymMazeEnv", ["torch"]) == []


def test_the_exceptions_to_torch_free_modules_still_exist() -> None:
    modules = {name for family in TORCH_FREE_FAMILIES for name in _modules(family)}
    assert {*NEED_TORCH, *NOT_TO_IMPORT} <= modules


DENSE_RUN = """
import sys
from maze_core import RunContext
small = {"algorithm.n_epochs": 1, "algorithm.epoch_length": 1, "algorithm.n_rollout_steps": 16}
for algorithm in ("a2c", "ppo"):
    folder = FOLDER + "/" + algorithm
    with RunContext(run_dir=folder, algorithm=algorithm, overrides=small, silent=True) as rc:
        rc.train()
        rc.evaluate(1)
        rc.compute_action([0.1, 0.2, 0.3, 0.4])
    with RunContext.load(folder) as rc:
        rc.train(1)
        rc.rollout(n_episodes=1)
    assert 'torch' not in sys.modules, algorithm
"""
COMMAND = """
import sys
from maze_core.cli import main
assert main(["algorithm.n_epochs=1", "algorithm.epoch_length=1", "run_dir=" + FOLDER]) == 0
assert main(["-cn", "conf_rollout", "policy=torch_policy", "policy.run=" + FOLDER, "runner.n_episodes=1"]) == 0
assert 'torch' not in sys.modules
"""


def test_who_trains_plays_and_goes_on_with_dense_nets_never_imports_torch(tmp_path: Path) -> None:
    _python(f"FOLDER = {str(tmp_path)!r}{DENSE_RUN}")


def test_command_lines_of_dense_nets_never_import_torch(tmp_path: Path) -> None:
    _python(f"FOLDER = {str(tmp_path)!r}{COMMAND}")


def test_opening_the_database_never_loads_the_standard_sqlite3(tmp_path: Path) -> None:
    pytest.importorskip("pysqlite3", reason="no wheel of pysqlite3 here; SQLAlchemy takes Python's")
    url = f"sqlite:///{tmp_path / 'maze.db'}"
    work = (
        "from service.store import migrate, open_stores; "
        f"migrate({url!r}); stores = open_stores({url!r}); stores.runs.statistics(); stores.close()"
    )
    assert _loaded_by(work, ["sqlite3", "_sqlite3"]) == []


@pytest.mark.parametrize("name", FORBIDDEN_MODULES)
def test_no_source_imports_what_is_unsafe(name: str) -> None:
    uses = (use for use in all_imports(*SHIPPED) if _top(use) == name)
    found = [use for use in uses if (use.path, name) not in ALLOWED_IMPORTS]
    assert not found, f"{FORBIDDEN_MODULES[name]}: {_shown(found)}"


def test_no_test_loads_a_second_sqlite() -> None:
    found = [use for use in all_imports("tests") if _top(use) == "sqlite3"]
    assert not found, f"{FORBIDDEN_MODULES['sqlite3']}: {_shown(found)}"


def test_the_allowed_imports_are_still_made() -> None:
    made = {(use.path, _top(use)) for use in all_imports(*SHIPPED)}
    assert set(ALLOWED_IMPORTS) <= made


@pytest.mark.parametrize("name", FORBIDDEN_CALLS)
def test_no_source_calls_what_is_unsafe(name: str) -> None:
    uses = [use for use in all_calls(*SHIPPED) if use.name == name]
    found = [use for use in uses if (use.path, name) not in ALLOWED_CALLS]
    assert not found, f"{FORBIDDEN_CALLS[name]}: {_shown(found)}"


def test_the_allowed_calls_are_still_made_with_what_makes_them_safe() -> None:
    made = {(use.path, use.name) for use in all_calls(*SHIPPED)}
    assert set(ALLOWED_CALLS) <= made
    assert "weights_only=True" in (ROOT / "maze_core/sb3/files.py").read_text()


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("import yaml\nyaml.load(f)\n", "yaml.load"),
        ("from yaml import load as read\nread(f)\n", "yaml.load"),
        ("def f():\n    import torch as t\n    return t.load(x)\n", "torch.load"),
        ("from hydra.utils import instantiate\ninstantiate(c)\n", "hydra.utils.instantiate"),
        ("eval('1')\n", "eval"),
    ],
)
def test_a_call_is_found_under_its_full_name(source: str, name: str) -> None:
    assert name in FORBIDDEN_CALLS
    assert [use.name for use in calls("x.py", ast.parse(source))] == [name]


@pytest.mark.parametrize(
    "source",
    [
        "import sqlite3\n",
        "from sqlite3 import dbapi2\n",
        "import importlib\nimportlib.import_module('sqlite3')\n",
    ],
)
def test_an_import_is_found_however_it_is_written(source: str) -> None:
    assert "sqlite3" in [_top(use) for use in imports("x.py", ast.parse(source))]


def test_the_public_names_of_the_library_are_importable_and_sorted() -> None:
    assert maze_core.__all__ == sorted(maze_core.__all__)
    for name in maze_core.__all__:
        assert getattr(maze_core, name).__name__ == name


def test_the_public_names_are_the_same_for_type_checkers() -> None:
    tree = parsed("maze_core/__init__.py")
    assert sorted(public_imports(tree)) == maze_core.__all__
    for name, module in public_imports(tree).items():
        assert getattr(importlib.import_module(module), name) is getattr(maze_core, name)


def test_a_name_that_is_not_public_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="RunContxt"):
        getattr(maze_core, "RunContxt")  # noqa: B009


def test_every_third_party_import_is_a_declared_dependency() -> None:
    known = _declared(PROJECT["dependencies"]) | {
        name
        for module in OPTIONAL
        for name in _declared(PROJECT["optional-dependencies"].get(EXTRA.get(module, module), []))
    }
    missing = [
        use
        for use in all_imports(*PACKAGES, "alembic")
        if (distributions := _distributions(_top(use))) and not distributions & known
    ]
    assert not missing, f"add to [project.dependencies]: {_shown(missing)}"


@pytest.mark.parametrize("module", OPTIONAL)
def test_an_optional_dependency_is_imported_by_its_one_module_alone(module: str) -> None:
    users = {use.path for use in all_imports(*LIBRARY_AND_SERVICE) if _top(use) == module}
    assert users == set(OPTIONAL[module].split())


def test_an_optional_dependency_is_imported_when_it_is_used_and_not_before() -> None:
    paths = [path for several in OPTIONAL.values() for path in several.split()]
    users = ", ".join(path.removesuffix(".py").replace("/", ".") for path in paths)
    assert _loaded_by(f"import {users}", list(OPTIONAL)) == []


def test_every_declared_dependency_is_used() -> None:
    sources = (*PACKAGES, "alembic")
    used = {name for use in all_imports(*sources) for name in _distributions(_top(use))}
    unused = _declared(PROJECT["dependencies"]) - used - set(USED_BY_OTHERS)
    assert not unused, f"nothing imports {sorted(unused)}"


def _python(code: str) -> str:
    """Run code in an interpreter of its own; what it printed."""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def _loaded_by(code: str, names: list[str]) -> list[str]:
    """Which of these modules are loaded after this code, in an interpreter of its own."""
    return _python(f"import sys; {code}; print(*(n for n in {names!r} if n in sys.modules))").split()


def _modules(package: str) -> list[str]:
    """Dotted names of a package and everything in it."""
    folder = ROOT / package.replace(".", "/")
    files = sorted(folder.rglob("*.py"))
    names = [".".join(file.relative_to(ROOT).with_suffix("").parts) for file in files]
    return [name.removesuffix(".__init__") for name in names]


def _top(use: Use) -> str:
    return use.name.partition(".")[0]


def _distributions(module: str) -> set[str]:
    """Normalised names of the distributions that bring a module; none for ours and the standard library's."""
    if module in sys.stdlib_module_names or module in PACKAGES:
        return set()
    names = (_normal(name) for name in _packages().get(module, [module]))
    return {COMES_WITH.get(name, name) for name in names}


@functools.cache
def _packages() -> Mapping[str, list[str]]:
    return importlib.metadata.packages_distributions()


def _declared(requirements: list[str]) -> set[str]:
    return {_normal(Requirement(line).name) for line in requirements}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _shown(uses: list[Use]) -> str:
    return ", ".join(map(str, uses))
