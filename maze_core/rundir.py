"""The run directory: the only module that knows the file names in it.

config.yaml             the resolved configuration, its digest, seeds, and which parts it only names
checkpoints/best.ckpt   best evaluation · last.ckpt · epoch-00005.ckpt (scheduled; the last three are kept)
metrics.jsonl           one line per epoch
report.json             how training ended
tensorboard/            event files
"""

import contextlib
import itertools
import json
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from maze_core.checkpoint import Checkpoint, write_atomically
from maze_core.errors import CheckpointError
from maze_core.types import Tree

KEEP_SCHEDULED = 3
FILES = {
    "report.json": "how training ended: this file",
    "config.yaml": "the resolved configuration with its seeds and digest: it alone gives the same run again",
    "metrics.jsonl": "one line per epoch: epoch, environment steps, and what was measured",
    "checkpoints/best.ckpt": "the best evaluation: what acts, plays and is evaluated",
    "checkpoints/last.ckpt": "the end: where training goes on",
    "checkpoints/epoch-*.ckpt": f"the last {KEEP_SCHEDULED} scheduled ones: training goes on from them bit by bit",
    "tensorboard/": "the metrics as TensorBoard events",
}
"""What a run directory holds, told in its report."""
_EPOCH = re.compile(r"epoch-(\d+)\.ckpt$")


class RunDir:
    """One run directory; made when it is first written to."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def tensorboard(self) -> Path:
        """Folder of the event files."""
        return self.path / "tensorboard"

    def write_config(
        self, tree: Tree, config_sha256: str, undescribed: Mapping[str, str] | None = None
    ) -> None:
        """Store the resolved configuration; ``undescribed`` names the parts that were live objects, by path."""
        record = {"config_sha256": config_sha256, "undescribed": dict(undescribed or {}), "config": tree}
        text = yaml.safe_dump(record, sort_keys=False, width=110)
        write_atomically(self.path / "config.yaml", text.encode())

    def read_config(self) -> Tree | None:
        """The stored configuration; None when there is none."""
        path = self.path / "config.yaml"
        if not path.exists():
            return None
        return dict(yaml.safe_load(path.read_text())["config"])

    def append_metrics(self, epoch: int, step: int, values: Mapping[str, float]) -> None:
        """Add one line; the file starts anew before ``epoch`` when a run was resumed earlier than it stopped."""
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(json_safe({"epoch": epoch, "step": step, **values})) + "\n")

    def forget_metrics_after(self, epoch: int) -> None:
        """Drop the lines of epochs after ``epoch``; a resumed run writes them again."""
        path = self.path / "metrics.jsonl"
        if path.exists():
            kept = [line for line in self.read_metrics() if line["epoch"] <= epoch]
            write_atomically(path, "".join(json.dumps(line) + "\n" for line in kept).encode())

    def read_metrics(self) -> list[Tree]:
        """The lines of ``metrics.jsonl``: ``epoch``, ``step`` and the values measured there.

        A last line that was torn when the process died is left out; its epoch is measured again.
        """
        path = self.path / "metrics.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        whole = lines[:-1] if lines and not lines[-1].endswith("}") else lines
        return [json.loads(line) for line in whole]

    def write_report(self, report: Tree) -> None:
        """Store how training ended, what the files beside it are, and what to do with them."""
        about = {"files": FILES, "commands": _commands(self.path)}
        text = json.dumps(json_safe({**report, **about}), indent=2) + "\n"
        write_atomically(self.path / "report.json", text.encode())

    def write_checkpoint(
        self, checkpoint: Checkpoint, *, epoch: int, kind: str, is_best: bool, is_last: bool
    ) -> Path:
        """Store a checkpoint under every name it has earned; returns the first."""
        data, written = checkpoint.to_bytes(), []
        names = [f"epoch-{epoch:05d}.ckpt"] if kind == "scheduled" else []
        names += ["best.ckpt"] if is_best else []
        names += ["last.ckpt"] if is_last or kind != "best" else []
        for name in names:
            path = self.path / "checkpoints" / name
            write_atomically(path, data)
            written.append(path)
        for _, path in self._scheduled()[:-KEEP_SCHEDULED]:
            path.unlink(missing_ok=True)
        return written[0]

    def checkpoint_path(self, selector: str = "best") -> Path:
        """The file of ``best``, ``last``, ``scheduled`` (the last one) or ``epoch:N``.

        Raises:
            CheckpointError: the directory has no such checkpoint; the message says what it has.
        """
        scheduled = self._scheduled()
        known = {name: self.path / "checkpoints" / f"{name}.ckpt" for name in ("best", "last")}
        known |= {f"epoch:{epoch}": path for epoch, path in scheduled}
        if scheduled:
            known["scheduled"] = scheduled[-1][1]
        path = known.get(selector)
        if path is not None and path.exists():
            return path
        has = ", ".join(name for name, file in known.items() if file.exists())
        raise CheckpointError(f"{self.path} has no checkpoint {selector!r}; it has {has or 'none'}.")

    def _scheduled(self) -> list[tuple[int, Path]]:
        folder = self.path / "checkpoints"
        found = [(_EPOCH.search(path.name), path) for path in folder.glob("epoch-*.ckpt")]
        return sorted((int(match[1]), path) for match, path in found if match)


def new_run_dir(parent: Path, name: str) -> RunDir:
    """A new folder of this name, or with a number behind it where another run has just taken the name."""
    parent.mkdir(parents=True, exist_ok=True)
    for attempt in itertools.count(1):
        path = parent / (name if attempt == 1 else f"{name}-{attempt}")
        with contextlib.suppress(FileExistsError):
            path.mkdir()
            return RunDir(path)
    raise AssertionError("unreachable")


def _commands(path: Path) -> dict[str, str]:
    """What to do with a run directory."""
    name = shlex.quote(str(path))
    return {
        "play": f"maze-run -cn conf_rollout policy=torch_policy policy.run={name}",
        "evaluate": f"RunContext.load({str(path)!r}).evaluate()",
        "train further": f"RunContext.load({str(path)!r}).train(n_epochs=10)",
        "see the curves": f"tensorboard --logdir {name}",
    }


def json_safe(value: Any) -> Any:
    """The value with numbers that are not finite as the strings JSON readers of this project expect."""
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return "NaN" if value != value else ("Infinity" if value > 0 else "-Infinity")
    if isinstance(value, Mapping):
        return {key: json_safe(item) for key, item in value.items()}
    return [json_safe(item) for item in value] if isinstance(value, list | tuple) else value
