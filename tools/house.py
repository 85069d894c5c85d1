"""How large the house is and how far one value walks through it: ``python -m tools.house``.

Sizes and imports come from the sources alone; the two walks are counted while they happen, warm.
"""

import ast
import asyncio
import json
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("maze_core", "service", "maze_client")
SMALL = 60
"""Lines below which a file with a single importer has to say what idea it is."""


def sources() -> dict[str, Path]:
    """Module name → file."""
    files = [file for package in PACKAGES for file in (ROOT / package).rglob("*.py")]
    return {".".join(_parts(file)): file for file in sorted(files)}


def _parts(file: Path) -> tuple[str, ...]:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" else parts


def imports(modules: Mapping[str, Path]) -> dict[str, set[str]]:
    """Module → the modules of the house that it imports, at its top or inside a function; not for types alone."""
    graph: dict[str, set[str]] = {}
    for name, file in modules.items():
        package = name if file.stem == "__init__" else name.rpartition(".")[0]
        found = set()
        for node in _run(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                base = ".".join(package.split(".")[: len(package.split(".")) - node.level + 1])
                source = ".".join(filter(None, [base if node.level else "", node.module]))
                inside = {f"{source}.{alias.name}" for alias in node.names}
                found |= inside & modules.keys() or {source}
        graph[name] = (found & modules.keys()) - {name}
    return graph


def _run(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node but those below ``if TYPE_CHECKING``."""
    for node in ast.iter_child_nodes(tree):
        if not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)):
            yield node
            yield from _run(node)


def circles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """Groups of modules that import each other."""
    reach: dict[str, set[str]] = {}
    for start in graph:
        seen: set[str] = set()
        open_ends = [start]
        while open_ends:
            new = graph[open_ends.pop()] - seen
            seen |= new
            open_ends += new
        reach[start] = seen
    groups = {tuple(sorted({a, *(b for b in reach[a] if a in reach[b])})) for a in graph if a in reach[a]}
    return sorted(map(list, groups))


_INSIDE = tuple(f"{ROOT / package}/" for package in PACKAGES)


class Walk:
    """Counts calls of the house's functions and the files they stand in, in every thread."""

    def __init__(self) -> None:
        """Listen to threads that begin from now on."""
        self.calls: Counter[str] = Counter()
        self.is_on = False
        threading.setprofile(self._count)
        sys.setprofile(self._count)

    def _count(self, frame: FrameType, event: str, _: object) -> None:
        if event == "call" and self.is_on and frame.f_code.co_filename.startswith(_INSIDE):
            self.calls[frame.f_code.co_filename] += 1

    @contextmanager
    def counted(self, title: str) -> Iterator[None]:
        """Count while this is open, and print the result with the files that have most of it."""
        self.calls.clear()
        self.is_on = True
        try:
            yield
        finally:
            self.is_on = False
        most = ", ".join(f"{Path(file).name} {count}" for file, count in self.calls.most_common(8))
        print(f"{title}: {len(self.calls)} files, {sum(self.calls.values()):,} calls ({most})")


async def submitted(app: Any, body: Mapping[str, Any]) -> int:
    """The status of ``POST /v1/train``."""
    sent: list[dict[str, Any]] = []
    text = json.dumps(body).encode()
    messages = iter([{"type": "http.request", "body": text, "more_body": False}])

    async def receive() -> dict[str, Any]:
        return next(messages, {"type": "http.disconnect"})

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    headers = {"host": "localhost", "content-type": "application/json", "content-length": str(len(text))}
    await app(
        {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": "/v1/train",
            "raw_path": b"/v1/train",
            "query_string": b"",
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
            "client": ("127.0.0.1", 1),
            "server": ("localhost", 80),
            "state": {},
        },
        receive,
        send,
    )
    return int(sent[0]["status"])


def walk_from_http(walk: Walk, folder: Path) -> None:
    """``algorithm.lr`` from an HTTP body to a row."""
    from service.main import create_app
    from service.settings import Settings
    from service.store import open_stores

    url = f"sqlite:///{folder / 'maze.db'}"
    command = [sys.executable, "-m", "service.cli", "db", "upgrade"]
    subprocess.run(command, check=True, env={"MAZE_DATABASE_URL": url}, cwd=ROOT, capture_output=True)
    settings = Settings(database_url=url, auth=False)
    stores = open_stores(settings)
    app = create_app(settings, stores)
    body = {"overrides": {"algorithm.lr": 0.002}, "seed": 1}

    async def twice() -> None:
        assert await submitted(app, body) == 202
        with walk.counted("algorithm.lr from HTTP to a row"):
            await submitted(app, {**body, "overrides": {"algorithm.lr": 0.003}})

    asyncio.run(twice())
    stores.close()


def walk_to_agent(walk: Walk, folder: Path) -> None:
    """``load_agent`` of a stored checkpoint, as a serving process does it."""
    from maze_core import RunContext, load_agent
    from maze_core.checkpoint import Checkpoint
    from maze_core.config.trust import trust_policy
    from maze_core.rundir import RunDir
    from service.trust import check_checkpoint

    with RunContext(
        configuration="test", wrappers="vector_obs", run_dir=folder / "run", silent=True, seed=1
    ) as rc:
        rc.train(n_epochs=1)
    file = RunDir(folder / "run").checkpoint_path("best")
    for title in ("cold", "warm"):
        with walk.counted(f"a stored checkpoint to an agent, {title}"):
            checkpoint = Checkpoint.read(file)
            check_checkpoint(checkpoint, trust_policy())
            load_agent(checkpoint)


def main() -> None:
    """Print it all."""
    modules = sources()
    graph = imports(modules)
    lines = {name: len(file.read_text(encoding="utf-8").splitlines()) for name, file in modules.items()}
    rooms: dict[str, list[int]] = {}
    for name, count in lines.items():
        rooms.setdefault(".".join(name.split(".")[:2]), []).append(count)
    print(f"{sum(lines.values()):,} lines in {len(lines)} files")
    for room, counts in sorted(rooms.items(), key=lambda item: -sum(item[1])):
        print(f"  {sum(counts):6,} lines {len(counts):3} files  {room}")
    found = circles(graph)
    print(f"{len(found)} circles")
    for circle in found:
        print("  " + " ↔ ".join(circle))
    importers = {name: [other for other in graph if name in graph[other]] for name in modules}
    alone = [name for name in modules if len(importers[name]) == 1 and lines[name] < SMALL]
    print(f"{len(alone)} files below {SMALL} lines with one importer")
    for name in alone:
        print(f"  {lines[name]:3} {name} ← {importers[name][0]}")
    if "--no-walks" not in sys.argv:
        walk = Walk()
        with tempfile.TemporaryDirectory() as folder:
            walk_from_http(walk, Path(folder))
            walk_to_agent(walk, Path(folder))


if __name__ == "__main__":
    main()
