"""``python -m tests.faults.guards [NAME…]``: take each guard out of a copy of the program, and see its test fail.

A guard is a line without which everything still works as long as nothing goes wrong. It is taken out by replacing text
in a copy of the repository, where the tests that stand for it then run: they must fail.
"""

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LEFT_OUT = shutil.ignore_patterns(
    ".git", ".venv*", "node_modules", "site", "__pycache__", ".*_cache", ".hypothesis"
)


@dataclass(frozen=True, kw_only=True)
class Guard:
    """A line and what holds it."""

    file: str
    line: str
    """What stands there, once."""
    instead: str
    tests: tuple[str, ...]
    """Of which each must pass with it and fail without it; as pytest is given them."""


GUARDS = {
    "fence": Guard(
        file="service/store/run_rows.py",
        line="run.c.epoch_token == lease.epoch_token",
        instead="run.c.epoch_token == run.c.epoch_token",
        tests=("tests/service/store/test_run_store.py -k 'test_a_stale_worker_writes_nothing and sqlite'",),
    ),
    "BEGIN IMMEDIATE": Guard(
        file="service/store/engine.py",
        line='"BEGIN IMMEDIATE"',
        instead='"BEGIN"',
        tests=("tests/service/store/test_processes.py::test_read_modify_write_loses_no_update",),
    ),
    "fsync": Guard(
        file="maze_core/files.py",
        line="            os.fsync(file.fileno())\n",
        instead="",
        tests=("tests/faults/test_failing_writes.py::test_what_is_renamed_was_flushed_to_the_disk_before",),
    ),
    "fsync of the directory": Guard(
        file="maze_core/files.py",
        line="    sync_directory(path.parent)\n",
        instead="",
        tests=("tests/faults/test_failing_writes.py::test_what_is_renamed_was_flushed_to_the_disk_before",),
    ),
    "synchronous=FULL": Guard(
        file="service/store/engine.py",
        line='"synchronous=FULL"',
        instead='"synchronous=OFF"',
        tests=("tests/faults/test_failing_writes.py::test_a_commit_is_flushed_to_the_disk",),
    ),
    "digest": Guard(
        file="service/store/blobs.py",
        line="if hashlib.sha256(data).hexdigest() != sha256:",
        instead="if False:",
        tests=(
            "tests/faults/test_failing_writes.py::test_a_checkpoint_whose_file_was_changed_is_never_given_out",
        ),
    ),
    "scope": Guard(
        file="service/api/dependencies.py",
        line="if needed is not None and not caller.may(needed):",
        instead="if False:",
        tests=("tests/service/api/test_scopes.py::test_a_scope_opens_its_own_operations_alone",),
    ),
    "scope of acting": Guard(
        file="service/serving/hot_route.py",
        line="if not caller.may(Right.ACT):",
        instead="if False:",
        tests=("tests/service/api/test_scopes.py::test_a_scope_opens_its_own_operations_alone",),
    ),
    "project of a token": Guard(
        file="service/security.py",
        line="if project != caller.project and not caller.may(Right.ADMIN):",
        instead="if False:",
        tests=("tests/service/test_security_tokens.py -k test_only_an_admin_chooses_another_one",),
    ),
    "project of what is named": Guard(
        file="service/domain/projects.py",
        line="if not self._projects.owns(self._project, kind, given[parameter]):",
        instead="if False:",
        tests=(
            "tests/service/api/test_projects.py::test_every_operation_answers_of_anothers_as_of_nothing",
            "tests/service/api/test_projects.py::test_a_run_begins_with_nothing_of_another_project",
        ),
    ),
    "project of what is listed": Guard(
        file="service/store/types.py",
        line="return () if project is None else (table.c.project == project,)",
        instead="return ()",
        tests=("tests/service/api/test_projects.py::test_lists_counts_searches_and_feeds_show_nothing",),
    ),
    "project of what acts": Guard(
        file="service/serving/hot_route.py",
        line="return key_of(caller.project, source)",
        instead="return source",
        tests=("tests/service/api/test_projects.py::test_a_warm_agent_acts_for_its_own_project_alone",),
    ),
    "project of a session": Guard(
        file="service/serving/sessions.py",
        line="return session if session is not None and session.project == project else None",
        instead="return session",
        tests=("tests/service/api/test_projects.py::test_a_session_of_another_project_has_no_websocket",),
    ),
}


def fails_without(name: str, folder: Path) -> dict[str, bool]:
    """Test → whether it passes in a copy of the program, and fails in one without this guard."""
    guard = GUARDS[name]
    copy = folder / "copy"
    shutil.copytree(ROOT, copy, ignore=LEFT_OUT)
    try:
        path = copy / guard.file
        text = path.read_text(encoding="utf-8")
        assert text.count(guard.line) == 1, f"{guard.file} has {guard.line!r} {text.count(guard.line)} times"
        assert all(passes(test, copy) for test in guard.tests), "fails with the guard, too"
        path.write_text(text.replace(guard.line, guard.instead), encoding="utf-8")
        return {test: not passes(test, copy) for test in guard.tests}
    finally:
        shutil.rmtree(copy)


def passes(test: str, root: Path) -> bool:
    """Whether a test passes in a copy of the repository, which is imported before what is installed."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-x",
        "-p",
        "no:cacheprovider",
        "-m",
        "",
        *shlex.split(test),
    ]
    ran = subprocess.run(
        command,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode in (0, 1), ran.stdout[-3000:] + ran.stderr[-3000:]
    return ran.returncode == 0


def main(*names: str) -> int:
    """Print what fails without each guard; 1 when a guard could go and no test would tell."""
    missed = 0
    for name in names or GUARDS:
        with tempfile.TemporaryDirectory(prefix="maze-guards-") as folder:
            for test, fails in fails_without(name, Path(folder)).items():
                sys.stdout.write(f"{name}: {'noticed' if fails else 'NOT NOTICED'} by {test}\n")
                missed += not fails
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
