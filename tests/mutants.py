"""Does a test notice? Changes one line of a source file at a time and lists the changes that every test lets pass.

    python -m tests.mutants                                        every file of FILES
    python -m tests.mutants maze_core/trainers/ppo.py --jobs 2     one file

A change that no test notices either shows that a test is missing, or changes nothing: then it stands in
``mutants.txt`` with the reason. Exit code 1: a change survived that is not explained there, or an explanation has
become untrue.

The tests are collected once and run once as they are, while it is noted which statements each of them reaches; then
each change has a fork of that process, in which the code of its function is exchanged, and the tests that reach its
statement run, the quickest first. Files are never written to. All of FILES take about half an hour of one core.

Not tried: what runs at import alone (defaults of settings: their YAML twins hold them), texts, chained comparisons,
arguments given by name, and returning early. An explanation stands for every place in its file that reads alike.
"""

import argparse
import ast
import importlib
import math
import os
import re
import resource
import signal
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from inspect import unwrap
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import psutil
import pytest

ROOT = Path(__file__).parent.parent
EXPLAINED = Path(__file__).with_suffix(".txt")
FILES = (
    "maze_core/objectives/*.py",
    "maze_core/trainers/*.py",
    "maze_core/models/activations.py",
    "maze_core/models/dense.py",
    "maze_core/models/memory.py",
    "maze_core/models/state_noise.py",
    "maze_core/rollout/actors.py",
    "maze_core/rollout/collector.py",
    "maze_core/envs/wrappers/*.py",
)
PATIENCE = 10
"""A change that makes a test compute longer than this many times what it took is noticed too."""
LEAST_PATIENCE_S = 5
IDLE_S = 10
"""So is one with which the processes of a test compute nothing for that long."""
NOT_TRIED = 3
"""Exit code of a fork in which no function has the change."""
TESTS = {
    "maze_core/objectives": ("objectives", "trainers"),
    "maze_core/trainers": ("trainers", "objectives", "runners/test_training.py", "runners/test_sources.py"),
    "maze_core/models": (
        "models/test_dense.py",
        "models/test_state_noise.py",
        "models/test_config.py",
        "trainers",
    ),
    "maze_core/rollout": ("rollout/test_actors.py", "rollout/test_collector.py", "trainers"),
    "maze_core/envs/wrappers": ("envs/wrappers", "envs/test_maze_env.py", "runners/test_training.py"),
}
"""Folder → its tests, below ``tests/maze_core``."""

_OPERATORS: dict[type, tuple[type, ...]] = {
    ast.Lt: (ast.LtE, ast.Gt),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.Lt),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
    ast.Add: (ast.Sub,),
    ast.Sub: (ast.Add,),
    ast.Mult: (ast.Div,),
    ast.Div: (ast.Mult,),
    ast.FloorDiv: (ast.Mult,),
    ast.Mod: (ast.Mult,),
    ast.Pow: (ast.Mult,),
    ast.BitAnd: (ast.BitOr,),
    ast.BitOr: (ast.BitAnd,),
    ast.And: (ast.Or,),
    ast.Or: (ast.And,),
}
_NAMES = {"min": "max", "minimum": "maximum", "any": "all", "zeros": "ones", "mean": "sum", "exp": "log"}
_NAMES |= {new: old for old, new in _NAMES.items() if old != "mean"}
_SYMMETRIC = {"min", "max", "minimum", "maximum", "add", "multiply", "promote_types", "swapaxes"}
_ASIDE = {"strict", "copy"}
"""Arguments of zip and astype that say what is so anyway, or only save work."""
_COPIES = {"copy", "clone", "detach", "abs", "eval"}
_STATEMENTS = (ast.Assign, ast.AugAssign, ast.Expr, ast.Raise, ast.Break, ast.Continue)


def changes(node: ast.AST) -> Iterator[ast.AST]:
    """What may stand in the place of a node."""
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        for other in _OPERATORS.get(type(node.ops[0]), ()):
            yield ast.Compare(node.left, [other()], node.comparators)
    elif isinstance(node, ast.BinOp):
        for other in _OPERATORS.get(type(node.op), ()):
            yield ast.BinOp(node.left, other(), node.right)
    elif isinstance(node, ast.BoolOp):
        yield ast.BoolOp(_OPERATORS[type(node.op)][0](), node.values)
    elif isinstance(node, ast.UnaryOp):
        yield node.operand
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool | int | float):
        yield ast.Constant(not node.value if isinstance(node.value, bool) else node.value + 1)
    elif isinstance(node, ast.IfExp):
        yield ast.IfExp(node.test, node.orelse, node.body)
    elif isinstance(node, ast.Call):
        yield from _changed_calls(node)


def _changed_calls(node: ast.Call) -> Iterator[ast.AST]:
    function = node.func
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    if (
        len(node.args) > 1
        and name not in _SYMMETRIC
        and not any(isinstance(argument, ast.Starred) for argument in node.args)
    ):
        *first, a, b = node.args
        yield ast.Call(function, [*first, b, a], node.keywords)
    if name in _NAMES and isinstance(function, ast.Attribute):
        yield ast.Call(ast.Attribute(function.value, _NAMES[name], function.ctx), node.args, node.keywords)
    elif name in _NAMES:
        yield ast.Call(ast.Name(_NAMES[name], ast.Load()), node.args, node.keywords)
    if name in _COPIES and not node.args and isinstance(function, ast.Attribute):
        yield function.value


class Mutant:
    """A source file with one change."""

    def __init__(self, path: str, statement: ast.stmt, node: Any, text: str) -> None:
        self.path, self.statement = path, (path, statement.lineno)
        self.tests = tuple(
            f"tests/maze_core/{name}"
            for folder, names in TESTS.items()
            if path.startswith(folder)
            for name in names
        )
        lines = (ROOT / path).read_bytes().splitlines(keepends=True)
        before = b"".join(lines[: node.lineno - 1]) + lines[node.lineno - 1][: node.col_offset]
        after = lines[node.end_lineno - 1][node.end_col_offset :] + b"".join(lines[node.end_lineno :])
        self.source = before + text.encode() + after
        self.line = node.lineno
        is_gone = isinstance(node, ast.stmt)
        first = (lines if is_gone else self.source.splitlines())[node.lineno - 1].decode().strip()
        more = "" if node.end_lineno == node.lineno else " …"
        self.name = f"{path}: {'without ' * is_gone}{first}{more}"


def mutants(path: str) -> list[Mutant]:
    """All changes of one file, within its functions."""
    tree = ast.parse((ROOT / path).read_bytes())
    found: dict[bytes, Mutant] = {}
    for function in _outermost(tree):
        for statement, node in (pair for part in function.body for pair in _running(part, part)):
            texts = [(node, text) for text in _texts(node)]
            if isinstance(node, ast.If | ast.While):
                texts.append((node.test, f"not ({ast.unparse(node.test)})"))
            found |= {m.source: m for m in (Mutant(path, statement, *text) for text in texts)}
    return [mutant for source, mutant in found.items() if _changes(tree, source)]


def _outermost(parent: ast.Module | ast.ClassDef) -> Iterator[ast.FunctionDef]:
    """Functions and methods; those inside of others belong to them."""
    for node in parent.body:
        if isinstance(node, ast.FunctionDef):
            yield node
        elif isinstance(node, ast.ClassDef):
            yield from _outermost(node)


def _changes(tree: ast.Module, source: bytes) -> bool:
    """Whether a source can be compiled and says something else than the tree; equal arguments may change places."""
    try:
        return ast.dump(ast.parse(source)) != ast.dump(tree)
    except SyntaxError:
        return False


def _running(node: ast.AST, statement: ast.stmt) -> Iterator[tuple[ast.stmt, Any]]:
    """A node and those below it, without annotations and docstrings, each with its statement."""
    if isinstance(node, ast.keyword) and node.arg in _ASIDE:
        return
    if isinstance(node, ast.arguments) or (
        isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    ):
        return
    statement = node if isinstance(node, ast.stmt) else statement
    yield statement, node
    is_reshape = isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "reshape"
    for name, value in ast.iter_fields(node):
        if name not in ("annotation", "returns", "decorator_list"):
            for child in value if isinstance(value, list) else [value]:
                if is_reshape and isinstance(child, ast.UnaryOp):  # numpy takes any negative size alike
                    yield statement, child
                elif isinstance(child, ast.AST):
                    yield from _running(child, statement)


def _texts(node: ast.AST) -> Iterator[str]:
    if isinstance(node, _STATEMENTS):
        # the code that takes the place of another needs its cell too
        yield "__class__" if "super()" in ast.unparse(node) else "pass"
    for other in changes(node):
        yield f"({ast.unparse(ast.fix_missing_locations(other))})"


def apply(path: str, source: bytes | ast.Module) -> list[tuple[FunctionType, CodeType]]:
    """Exchange the code of the functions that differ; returns them and the code they had."""
    module = importlib.import_module(path.removesuffix(".py").replace("/", "."))
    new = _codes(compile(source, str(ROOT / path), "exec"))
    functions = [(function, function.__code__) for function in _functions(vars(module), module.__name__)]
    changed = [(f, code) for f, code in functions if new.get(code.co_qualname, code) != code]
    for function, code in changed:
        function.__code__ = new[code.co_qualname]
    for member in vars(module).values():
        if hasattr(member, "cache_clear"):  # what it remembers is of the code before
            member.cache_clear()
    return changed


def _codes(code: CodeType) -> dict[str, CodeType]:
    """Qualified name → code, of a module's functions and methods."""
    found: dict[str, CodeType] = {}
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            found |= {inner.co_qualname: inner, **_codes(inner)}
    return found


def _functions(members: Mapping[str, Any], module: str) -> Iterator[FunctionType]:
    for member in members.values():
        for value in (member, *(getattr(member, name, None) for name in ("fget", "func", "__func__"))):
            function = unwrap(value) if callable(value) else value
            if isinstance(function, FunctionType) and function.__module__ == module:
                yield function
        if isinstance(member, type) and member.__module__ == module:
            yield from _functions(vars(member), module)


class _Marked(ast.NodeTransformer):
    """Before every statement of a function it is noted that it is reached."""

    def __init__(self, path: str) -> None:
        self._path = path

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        if not isinstance(node, ast.Module | ast.ClassDef):
            for name in ("body", "orelse", "finalbody"):
                block = getattr(node, name, None)
                if isinstance(block, list):
                    setattr(node, name, [part for statement in block for part in self._marked(statement)])
        return node

    def _marked(self, statement: ast.stmt) -> list[ast.stmt]:
        mark = ast.parse(f"__reached__.add({(self._path, statement.lineno)})").body
        return [ast.copy_location(mark[0], statement), statement]


@contextmanager
def noted(paths: Iterable[str]) -> Iterator[set[tuple[str, int]]]:
    """The statements of these files that are reached meanwhile, as file and line."""
    reached: set[tuple[str, int]] = set()
    had: list[tuple[FunctionType, CodeType]] = []
    for path in paths:
        module = importlib.import_module(path.removesuffix(".py").replace("/", "."))
        vars(module)["__reached__"] = reached
        tree = _Marked(path).visit(ast.parse((ROOT / path).read_bytes()))
        had += apply(path, ast.fix_missing_locations(tree))
    try:
        yield reached
    finally:
        for function, code in had:
            function.__code__ = code


class Loop:
    """Runs the tests as they are, then once for each mutant, as a plugin of pytest."""

    def __init__(self, todo: list[Mutant], jobs: int) -> None:
        self.todo, self.jobs = todo, jobs
        self.survivors: list[str] = []
        self.passed_unchanged = False
        self._took: dict[str, float] = {}

    def pytest_configure(self) -> None:
        """Properties have the same examples with every change, and nobody waits for a smaller one."""
        from hypothesis import Phase, settings  # not earlier: pytest rewrites it

        had = settings.get_profile("maze")
        settings.register_profile("mutants", had, derandomize=True, phases=(Phase.explicit, Phase.generate))
        settings.load_profile("mutants")

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        reached: dict[str, set[tuple[str, int]]] = {}
        with noted({mutant.path for mutant in self.todo}) as now:
            for item in session.items:
                begun = time.process_time()
                now.clear()
                _run(item)
                reached[item.nodeid] = set(now)
                self._took[item.nodeid] = time.process_time() - begun
        self.passed_unchanged = not session.testsfailed
        if self.passed_unchanged:
            statements = {mutant.statement for mutant in self.todo}
            session.items = [item for item in session.items if statements & reached[item.nodeid]]
            session.items.sort(key=lambda item: self._took[item.nodeid])
            print(f"{len(session.items)} tests, {len(self.todo)} changes", flush=True)
            self._try_all(session, reached)
            # a fork without a change must pass to the end too, or the others may have failed for another reason
            self.passed_unchanged = os.waitpid(self._start(None, session, session.items), 0)[1] == 0
        return True

    def _try_all(self, session: pytest.Session, reached: Mapping[str, set[tuple[str, int]]]) -> None:
        running: dict[int, tuple[Mutant, _Watch]] = {}
        queue = iter(self.todo)
        while True:
            while len(running) < self.jobs and (mutant := next(queue, None)) is not None:
                mine = [item for item in session.items if item.nodeid.startswith(mutant.tests)]
                items = [item for item in mine if mutant.statement in reached[item.nodeid]]
                child = self._start(mutant, session, items)
                running[child] = mutant, _Watch(child)
            if not running:
                return
            time.sleep(0.02)
            for child, (mutant, watch) in list(running.items()):
                ended, status = os.waitpid(child, os.WNOHANG)
                if not ended and watch.hangs():
                    os.killpg(child, signal.SIGKILL)
                    ended, status = os.waitpid(child, 0)
                if ended:
                    del running[child]
                    if os.waitstatus_to_exitcode(status) in (0, NOT_TRIED):
                        how = "survived" if status == 0 else "could not be tried"
                        self.survivors.append(f"{how}, line {mutant.line}: {mutant.name}")
                        print("", self.survivors[-1], sep="\n", flush=True)

    def _start(self, mutant: Mutant | None, session: pytest.Session, items: Sequence[pytest.Item]) -> int:
        """Run tests on a mutant in a fork; returns the process, which ends with 0 when all of them pass."""
        child = os.fork()
        if child:
            return child
        os.setpgid(0, 0)
        session.config.pluginmanager.unregister(name="terminalreporter")
        code = NOT_TRIED
        try:
            if mutant is None or apply(mutant.path, mutant.source):
                for item in items:
                    _limit_cpu(LEAST_PATIENCE_S + PATIENCE * self._took[item.nodeid])
                    _run(item)
                    if session.testsfailed:
                        break
                code = int(bool(session.testsfailed))
        finally:
            os._exit(code)


class _Watch:
    """Looks every few seconds at what a process and its children compute."""

    def __init__(self, process: int) -> None:
        self._process = psutil.Process(process)
        self._next, self._computed_s = time.monotonic() + IDLE_S, -math.inf

    def hangs(self) -> bool:
        """Whether they computed next to nothing from one look to the next."""
        if time.monotonic() < self._next:
            return False
        before, self._computed_s, self._next = self._computed_s, 0.0, time.monotonic() + IDLE_S
        for process in (self._process, *self._process.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                self._computed_s += sum(process.cpu_times()[:2])
        return abs(self._computed_s - before) < IDLE_S / 100


def _limit_cpu(limit_s: float) -> None:
    """End this process when it computes longer than that from now on; other load on the machine does not count."""
    limit = int(time.process_time() + limit_s) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))


def _run(item: pytest.Item) -> None:
    item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)


def explanations() -> dict[str, str]:
    """Changed line → why it changes nothing."""
    entries = [line for line in EXPLAINED.read_text().splitlines() if line and not line.startswith("#")]
    return dict(entry.split("  ## ") for entry in entries)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="*", help="sources, from the root of the repository; none takes all")
    parser.add_argument("--jobs", type=int, default=1, help="mutants at a time")
    parser.add_argument(
        "--like", default="", help="only changes that have this regular expression in their name"
    )
    parser.add_argument("--all", action="store_true", help="try those that are explained too")
    given = parser.parse_args()
    os.nice(10)
    paths = given.files or [str(p.relative_to(ROOT)) for glob in FILES for p in sorted(ROOT.glob(glob))]
    explained = explanations()
    todo = [mutant for path in paths for mutant in mutants(path)]
    names = {mutant.name for mutant in todo}
    problems = [
        f"explained, but there is no such change any more: {name}"
        for name in explained
        if name.split(":")[0] in paths and name not in names
    ]
    todo = [mutant for mutant in todo if re.search(given.like, mutant.name)]
    if not given.all:
        n_changes = len(todo)
        todo = [mutant for mutant in todo if mutant.name not in explained]
        print(f"{n_changes - len(todo)} of {n_changes} changes are explained and not tried")
    if todo:
        loop = Loop(todo, given.jobs)
        options = ["-q", "-n", "0", "-m", "not slow", "-p", "no:cacheprovider"]
        pytest.main([*options, *sorted({name for mutant in todo for name in mutant.tests})], plugins=[loop])
        if not loop.passed_unchanged:
            problems.append("the tests fail without a change")
        problems += [found for found in loop.survivors if found.partition(": ")[2] not in explained]
    print("\n".join([*problems, f"{len(problems)} of {len(todo)} to explain or to kill"]))
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
