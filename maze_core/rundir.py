"""The run directory: the only module that knows the file names in it.

config.yaml             the resolved configuration, its digest, seeds, and which parts it only names
checkpoints/best.ckpt   best evaluation · last.ckpt · epoch-00005.ckpt (scheduled; the last three are kept)
checkpoints/chunks/     what they share of a replay, by digest
metrics.jsonl           one line per epoch · metrics.csv, the same as a table, once a call of train is over
report.json             how training ended
distributions.jsonl     one line per epoch: histograms of what wrappers gathered; figures/ their pictures
tensorboard/            event files
videos/                 epoch-00005.mp4 beside each scheduled checkpoint, best.mp4; where they were asked for
sweep.json              of a multirun: what each job chose and how it ended; its jobs' directories are 0, 1, …
rollouts/001            a saved rollout: config.yaml, report.json, trajectories/, videos/
.lock                   who writes, while somebody does
"""

import contextlib
import csv
import fcntl
import io
import itertools
import json
import os
import platform
import re
import shlex
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from maze_core.checkpoint import Checkpoint, chunk_edges
from maze_core.errors import CheckpointError, InvalidSpecificationError
from maze_core.files import cut, drop_chunks, json_safe, write_atomically
from maze_core.metrics import Distribution, Histogram
from maze_core.notices import Notices
from maze_core.types import Tree

KEEP_SCHEDULED = 3
FILES = {
    "report.json": "how training ended: this file",
    "config.yaml": "the resolved configuration with its seeds and digest: it alone gives the same run again",
    "metrics.jsonl": "one line per epoch: epoch, environment steps, and what was measured",
    "metrics.csv": "the same as a table, once a call of train is over",
    "distributions.jsonl": "where wrappers monitor: histograms of observations, actions and rewards, a line per epoch",
    "figures/": "where wrappers draw: pictures, by epoch",
    "checkpoints/best.ckpt": "the best evaluation: what acts, plays and is evaluated",
    "checkpoints/last.ckpt": "the end: where training goes on",
    "checkpoints/epoch-*.ckpt": f"the last {KEEP_SCHEDULED} scheduled ones: training goes on from them bit by bit",
    "checkpoints/chunks/": "of a run with replay: what its checkpoints remember, each part once for all of them",
    "tensorboard/": "the metrics as TensorBoard events",
    "videos/": "where asked for: the policy at each scheduled checkpoint, and the best one at the end",
    "rollouts/": "saved rollouts, one folder each",
}
"""What a run directory holds, told in its report."""
ROLLOUT_FILES = {
    "report.json": "returns and lengths of the episodes: this file",
    "config.yaml": "what was played: environment, wrappers, policy, seeds",
    "trajectories/": "each episode's observations, actions and rewards; maze_core.load_trajectory reads them",
    "videos/": "where asked for: the first episodes",
}
"""What the folder of a rollout holds, told in its report."""
_ROLLOUTS = "rollouts"
_SWEEP = "sweep.json"
_METRICS, _DISTRIBUTIONS = "metrics.jsonl", "distributions.jsonl"
_LOCK = ".lock"
_LOCK_TRIES, _LOCK_PAUSE_S = 20, 0.1
"""How long to wait for a lock: processes of a run that was just killed need a moment to end."""
_EPOCH = re.compile(r"epoch-(\d+)\.ckpt$")


class RunDir:
    """One run directory; made when it is first written to."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def tensorboard(self) -> Path:
        """Folder of the event files."""
        return self.path / "tensorboard"

    @contextlib.contextmanager
    def writing(self, known: object = None) -> Iterator[None]:
        """Let nobody else write meanwhile; see :func:`sole_writer`.

        Args:
            known: the :attr:`revision` that the caller knows.

        Raises:
            InvalidSpecificationError: somebody writes there, or has written since ``known``.
        """
        with sole_writer(self.path, "run_dir"):
            if known is not None and self.revision != known:
                message = (
                    f"{self.path} was written by somebody else since this context was made; make it anew, to go on "
                    "from there."
                )
                raise InvalidSpecificationError(message, path="run_dir", code="contradiction")
            yield

    def is_free(self) -> bool:
        """Whether there is nothing in it."""
        return not self.path.exists() or _is_empty(self.path)

    @property
    def revision(self) -> object:
        """Changes whenever somebody trains here."""
        names = ("checkpoints/best.ckpt", "checkpoints/last.ckpt", _SWEEP)
        found: list[tuple[int, int]] = []
        for name in names:
            with contextlib.suppress(OSError):  # it is not there, or somebody takes it away just now
                stat = (self.path / name).stat()
                found.append((stat.st_ino, stat.st_mtime_ns))
        return found

    def write_config(
        self, tree: Tree, config_sha256: str, undescribed: Mapping[str, str] | None = None
    ) -> None:
        """Store the resolved configuration; ``undescribed`` names the parts that were live objects, by path."""
        _write_config(self.path, tree, config_sha256, undescribed or {})

    def read_config(self) -> Tree | None:
        """The stored configuration; None when there is none.

        Raises:
            CheckpointError: the file is damaged; the message names it.
        """
        path = self.path / "config.yaml"
        stored = _read(path)
        if stored is None:
            return None
        try:
            record = yaml.safe_load(stored)
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise _damaged_config(path, " ".join(str(error).split())) from error
        config = record.get("config") if isinstance(record, dict) else None
        if config is None and isinstance(record, dict) and "seeding" in record:
            config = record  # alone, as the service gives it
        if not isinstance(config, dict):
            raise _damaged_config(path, "there is no configuration in it")
        return dict(config)

    def append_metrics(self, epoch: int, step: int, values: Mapping[str, float]) -> None:
        """Add one line; the file starts anew before ``epoch`` when a run was resumed earlier than it stopped."""
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / _METRICS).open("a") as file:
            file.write(json.dumps(json_safe({"epoch": epoch, "step": step, **values})) + "\n")

    def append_distributions(self, epoch: int, step: int, values: Mapping[str, Distribution]) -> None:
        """Add one line of histograms, and the pictures."""
        histograms = {name: value.to_dict() for name, value in values.items() if isinstance(value, Histogram)}
        self.path.mkdir(parents=True, exist_ok=True)
        if histograms:
            with (self.path / _DISTRIBUTIONS).open("a") as file:
                file.write(json.dumps({"epoch": epoch, "step": step, **histograms}) + "\n")
        for name, value in values.items():
            if isinstance(value, bytes):
                place = self.path / "figures" / f"epoch-{epoch:05d}" / f"{name.replace('/', '.')}.png"
                place.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(place, value)

    def forget_after(self, epoch: int) -> None:
        """Drop what later epochs left: a run that went back there makes it again.

        Otherwise the next process would go on from a checkpoint that this run has left behind.
        """
        later = [path for number, path in self._scheduled() if number > epoch]
        for name in ("best", "last"):
            path = self.path / "checkpoints" / f"{name}.ckpt"
            if path.exists() and Checkpoint.read(path).identity["counters"]["epoch"] > epoch:
                later.append(path)
        for path in later:
            path.unlink()
            for video in (self.path / "videos").glob(f"{path.stem}*.mp4"):
                video.unlink()
        for name in (_METRICS, _DISTRIBUTIONS):
            if (path := self.path / name).exists():
                kept = [line for line in self._read_lines(name) if line["epoch"] <= epoch]
                write_atomically(path, "".join(json.dumps(line) + "\n" for line in kept).encode())

    def read_metrics(self) -> list[Tree]:
        """The lines of ``metrics.jsonl``: ``epoch``, ``step`` and the values measured there.

        A last line that was torn when the process died is left out; its epoch is measured again.

        Raises:
            CheckpointError: another line is damaged; the message names file and line.
        """
        return self._read_lines(_METRICS)

    def read_distributions(self) -> list[Tree]:
        """The lines of ``distributions.jsonl``: ``epoch``, ``step`` and histograms by name.

        Raises:
            CheckpointError: a line is damaged; as in :meth:`read_metrics`.
        """
        return self._read_lines(_DISTRIBUTIONS)

    def _read_lines(self, name: str) -> list[Tree]:
        path = self.path / name
        lines = (_read(path) or b"").splitlines()
        whole = lines[:-1] if lines and not lines[-1].endswith(b"}") else lines
        return [_measured(line, path, number) for number, line in enumerate(whole, 1)]

    def write_metrics_table(self) -> None:
        """Write ``metrics.csv``: a row for each epoch, a column for each metric that was ever measured."""
        rows, text = self.read_metrics(), io.StringIO()
        writer = csv.DictWriter(
            text, dict.fromkeys(["epoch", "step", *(name for row in rows for name in row)])
        )
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(self.path / "metrics.csv", text.getvalue().encode())

    def write_report(self, report: Tree) -> None:
        """Store how training ended, what the files beside it are, and what to do with them."""
        _write_report(self.path, {**report, "files": FILES, "commands": _commands(self.path)})

    def write_sweep(self, report: Tree) -> None:
        """Store what the jobs of a multirun chose and how they ended."""
        write_atomically(self.path / _SWEEP, (json.dumps(json_safe(report), indent=2) + "\n").encode())

    def read_sweep(self) -> Tree | None:
        """What :meth:`write_sweep` stored; None where there is none.

        Raises:
            CheckpointError: the file is damaged.
        """
        stored = _read(self.path / _SWEEP)
        try:
            record = None if stored is None else json.loads(stored)
        except (ValueError, RecursionError):
            record = ()
        if record is None or isinstance(record, dict):
            return record
        raise CheckpointError(
            f"{self.path / _SWEEP} is damaged: it is no JSON object. Delete it; of a grid nothing is lost, "
            "and a search begins anew in another run_dir."
        )

    def jobs(self) -> list["RunDir"]:
        """The directories of a multirun's jobs, in order."""
        found = [path for path in self.path.glob("*") if path.name.isdecimal() and path.is_dir()]
        return [RunDir(path) for path in sorted(found, key=lambda path: int(path.name))]

    def write_checkpoint(
        self, checkpoint: Checkpoint, *, epoch: int, kind: str, is_best: bool, is_last: bool
    ) -> None:
        """Store a checkpoint under every name it has earned."""
        names = [f"epoch-{epoch:05d}.ckpt"] if kind == "scheduled" else []
        names += ["best.ckpt"] if is_best else []
        names += ["last.ckpt"] if is_last or kind != "best" else []
        self._write(checkpoint, names)
        for _, path in self._scheduled()[:-KEEP_SCHEDULED]:
            path.unlink(missing_ok=True)
        drop_chunks(self.path / "checkpoints")

    def keep(self, *, best: Checkpoint | None, last: Checkpoint | None) -> None:
        """Store what acts and where training goes on, where a run that went back has lost them."""
        for name, checkpoint in (("best.ckpt", best), ("last.ckpt", last)):
            if checkpoint is not None and not (self.path / "checkpoints" / name).exists():
                self._write(checkpoint, [name])

    def _write(self, checkpoint: Checkpoint, names: Sequence[str]) -> None:
        """Store a checkpoint; what it shares with others is stored once."""
        folder, data = self.path / "checkpoints", checkpoint.to_bytes()
        stored = cut(folder, data, chunk_edges(data))
        for name in names:
            write_atomically(folder / name, stored)

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

    def video_paths(self, name: str, n_videos: int) -> list[Path]:
        """Where so many episodes of one policy are filmed."""
        names = [name] if n_videos == 1 else [f"{name}-{number}" for number in range(1, n_videos + 1)]
        return [self.path / "videos" / f"{each}.mp4" for each in names]

    def new_rollout(self) -> "RolloutDir":
        """A new folder below ``rollouts``, with the next number."""
        return RolloutDir(new_run_dir(self.path / _ROLLOUTS).path)

    def _scheduled(self) -> list[tuple[int, Path]]:
        folder = self.path / "checkpoints"
        found = [(_EPOCH.search(path.name), path) for path in folder.glob("epoch-*.ckpt")]
        return sorted((int(match[1]), path) for match, path in found if match)


class RolloutDir:
    """The folder of one rollout; made when it is first written to."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Let nobody else write meanwhile; on an error nothing is left of the folder.

        Raises:
            InvalidSpecificationError: somebody writes there, or it holds something.
        """
        try:
            with sole_writer(self.path, "save"):
                self.refuse_content()
                try:
                    yield
                except BaseException:
                    self.remove()
                    raise
        except BaseException:
            self.remove_if_empty()
            raise

    def refuse_content(self) -> None:
        """Make sure that nothing would be overwritten.

        Raises:
            InvalidSpecificationError: the folder holds something, or cannot be made.
        """
        with _named(self.path, "save"):
            self.path.mkdir(parents=True, exist_ok=True)
            is_free = _is_empty(self.path)
        if not is_free:
            message = f"{self.path} is not empty; a rollout is saved into a folder of its own."
            raise InvalidSpecificationError(message, path="save", code="contradiction")

    def video_paths(self, n_videos: int) -> list[Path]:
        """Where the first episodes are filmed."""
        return [self.path / "videos" / f"episode-{index:05d}.mp4" for index in range(n_videos)]

    def write(self, tree: Tree, config_sha256: str, undescribed: Mapping[str, str], report: Tree) -> None:
        """Store what was played and how it went."""
        _write_config(self.path, tree, config_sha256, undescribed)
        _write_report(self.path, {**report, "files": ROLLOUT_FILES})

    def write_trajectory(self, index: int, data: bytes) -> None:
        """Store the recorded episode of this number, from 0."""
        write_atomically(self.path / "trajectories" / f"episode-{index:05d}.safetensors", data)

    def remove(self) -> None:
        """Take the folder away with all that a rollout writes into it, and ``rollouts`` where it was the first."""
        for folder in (self.path / "videos", self.path / "trajectories"):
            shutil.rmtree(folder, ignore_errors=True)
        for name in ("config.yaml", "report.json", _LOCK):
            (self.path / name).unlink(missing_ok=True)
        self.remove_if_empty()

    def remove_if_empty(self) -> None:
        """Take the folder away where nothing lies in it, and ``rollouts`` where it was the first."""
        folders = [self.path, self.path.parent] if self.path.parent.name == _ROLLOUTS else [self.path]
        for folder in folders:
            with contextlib.suppress(OSError):  # it is not there, or holds something
                folder.rmdir()


def new_run_dir(parent: Path, name: str | None = None) -> RunDir:
    """A new folder of this name, or with a number behind it where another run has just taken the name.

    Without a name it is the next number: ``001``, ``002``, …
    """
    for attempt in itertools.count(1):
        path = parent / (f"{attempt:03d}" if name is None else name if attempt == 1 else f"{name}-{attempt}")
        with _named(parent, "run_dir"), contextlib.suppress(FileExistsError):
            path.mkdir(parents=True)
            return RunDir(path)
    raise AssertionError("unreachable")


@contextlib.contextmanager
def sole_writer(folder: Path, argument: str) -> Iterator[None]:
    """Let no other process, and nobody else in this one, write into a folder meanwhile.

    The lock is the operating system's, so that a process that is killed leaves none. A file system without locks is
    warned of.

    Args:
        folder: made where it is not there.
        argument: what gave it, for the error.

    Raises:
        InvalidSpecificationError: somebody writes there, whom the message names, or nobody can.
    """
    with _named(folder, argument):
        descriptor = _locked(folder / _LOCK, argument)
    try:
        yield
    finally:
        (folder / _LOCK).unlink(missing_ok=True)
        os.close(descriptor)


def _locked(path: Path, argument: str) -> int:
    """The descriptor of a lock file that this process holds."""
    owner = ""
    for _ in range(_LOCK_TRIES):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except FileNotFoundError:  # its last owner took the folder away meanwhile
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(descriptor, 1000).decode(errors="replace") or owner
            os.close(descriptor)
            time.sleep(_LOCK_PAUSE_S)
            continue
        except OSError as error:
            text = (
                f"{path.parent} cannot be locked ({error.strerror}): see to it that nobody else writes there."
            )
            Notices.current().say("lock", text)
            return descriptor
        if _is_at(path, descriptor):
            since = datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
            os.truncate(descriptor, 0)
            os.write(descriptor, f"process {os.getpid()} on {platform.node()}, since {since}".encode())
            return descriptor
        os.close(descriptor)  # its last owner took the file away meanwhile
    message = (
        f"{path.parent} is being written by {owner or 'somebody else'}. Wait until that has ended, or take "
        "another folder."
    )
    raise InvalidSpecificationError(message, path=argument, code="in_use")


def _is_at(path: Path, descriptor: int) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    return False


@contextlib.contextmanager
def _named(folder: Path, argument: str) -> Iterator[None]:
    """Say of a folder that cannot be written which argument gave it.

    Raises:
        InvalidSpecificationError: in place of an ``OSError``.
    """
    try:
        yield
    except OSError as error:
        message = f"{folder} cannot be written: {error.strerror}. Take another folder."
        raise InvalidSpecificationError(message, path=argument) from error


def _is_empty(folder: Path) -> bool:
    """Whether it holds nothing, or only what a process that was killed there left: a lock, a file half written."""
    return all(file.name.startswith(".") for file in folder.iterdir())


def _write_config(folder: Path, tree: Tree, config_sha256: str, undescribed: Mapping[str, str]) -> None:
    record = {"config_sha256": config_sha256, "undescribed": dict(undescribed), "config": tree}
    text = yaml.safe_dump(record, sort_keys=False, width=110)
    write_atomically(folder / "config.yaml", text.encode())


def _write_report(folder: Path, report: Tree) -> None:
    text = json.dumps(json_safe(report), indent=2) + "\n"
    write_atomically(folder / "report.json", text.encode())


def _read(path: Path) -> bytes | None:
    """What a file holds; None where there is none."""
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}.") from error


def _damaged_config(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(
        f"{path} is damaged: {reason}. Delete it; checkpoints have the configuration too, and a run without a "
        "checkpoint starts anew."
    )


def _measured(line: bytes, path: Path, number: int) -> Tree:
    """One line of metrics or distributions."""
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):
        values = None
    is_whole = isinstance(values, dict) and all(type(values.get(name)) is int for name in ("epoch", "step"))
    if not is_whole or not all(_is_number(value) or _is_histogram(value) for value in values.values()):
        raise CheckpointError(
            f"{path}, line {number}, is damaged: it is no object with epoch, step and numbers. Delete the line, or the "
            "whole file: training goes on from the checkpoints and needs neither."
        )
    return dict(values)


def _is_histogram(value: Any) -> bool:
    if not isinstance(value, dict) or set(value) != {"low", "high", "counts"}:
        return False
    numbers = [
        value["low"],
        value["high"],
        *(value["counts"] if isinstance(value["counts"], list) else [None]),
    ]
    return all(_is_number(number) for number in numbers)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) or value in ("NaN", "Infinity", "-Infinity")


def _commands(path: Path) -> dict[str, str]:
    """What to do with a run directory."""
    name = shlex.quote(str(path))
    return {
        "play": f"maze-run -cn conf_rollout policy=torch_policy policy.run={name}",
        "evaluate": f"RunContext.load({str(path)!r}).evaluate()",
        "train further": f"RunContext.load({str(path)!r}).train(n_epochs=10)",
        "see the curves": f"pip install tensorboard && tensorboard --logdir {name}",
    }
