"""``maze doctor``: what is here and works, what is not, and what to do about it."""

import argparse
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple

from maze_core.errors import reason_of
from service.cli.parsers import add, shared
from service.cli.printing import plain
from service.cli.remote import print_json, remote
from service.installed import DISTRIBUTION, PACKAGES, extras, version_of

LITTLE_BYTES = 1 << 30
"""Free space below which it is said: a training's checkpoints may need more."""
_NAME_IT = "name it by --database-url or MAZE_DATABASE_URL"


class Found(NamedTuple):
    """One thing that was looked at."""

    name: str
    status: Literal["ok", "note", "wrong"]
    what: str
    way_out: str | None = None


def add_commands(commands: Any) -> None:
    """Add this command to the parser's."""
    database = shared(database_url={"metavar": "URL", "help": "of the service's database, where it is here"})
    add(
        commands, "doctor", _doctor, "say what works here, what does not, and the way out", remote(), database
    )


def _doctor(options: argparse.Namespace) -> int:
    looks = (_versions, _extras, _sqlite, _database, _service)
    failed = False
    for look in looks:
        for found in _each(look, options):
            failed = failed or found.status == "wrong"
            if options.json:
                print_json(found._asdict())
            else:
                mark = {"ok": "✓", "note": "•", "wrong": "✗"}[found.status]
                way_out = f"\n    → {found.way_out}" if found.way_out else ""
                print(f"{mark} {plain(f'{found.name}: {found.what}')}{way_out}", flush=True)
    return 1 if failed else 0


def _each(
    look: Callable[[argparse.Namespace], Iterator[Found]], options: argparse.Namespace
) -> Iterator[Found]:
    """What one look finds; where it fails itself, the others go on."""
    try:
        yield from look(options)
    except Exception as error:
        yield Found(look.__name__.strip("_"), "wrong", f"could not be looked at: {reason_of(error)}")


def _versions(_options: argparse.Namespace) -> Iterator[Found]:
    yield Found("python", "ok", f"{platform.python_version()} at {sys.executable}")
    for package in PACKAGES:
        if (version := version_of(package)) is not None:
            yield Found(package, "ok", version)
        else:
            yield Found(package, "wrong", "is not installed", f"pip install {package}")


def _extras(_options: argparse.Namespace) -> Iterator[Found]:
    """The extras of which a package is missing; those of the people who work on this are theirs."""
    missing = {extra: packages for extra, packages in extras().items() if packages}
    for extra, packages in missing.items():
        install = f"pip install '{DISTRIBUTION}[{extra}]'"
        yield Found(
            f"extra {extra}",
            "note",
            f"{', '.join(packages)} is not installed",
            f"{install}, where it is wanted",
        )
    if not missing:
        yield Found("extras", "ok", "all are installed")


def _sqlite(_options: argparse.Namespace) -> Iterator[Found]:
    from service.store.engine import journal_mode, sqlite_driver

    driver = sqlite_driver()
    if driver is None:
        import importlib

        driver = importlib.import_module(
            "sqlalchemy.dialects.sqlite.pysqlite"
        ).SQLiteDialect_pysqlite.import_dbapi()
    version: tuple[int, ...] = driver.sqlite_version_info
    text = f"{'.'.join(map(str, version))} of {driver.__name__}"
    if journal_mode(version).lower() == "wal":
        yield Found("sqlite", "ok", text)
    else:
        what = f"{text} has a fault in its write-ahead log, so the slower rollback journal is used"
        yield Found("sqlite", "note", what, "pip install pysqlite3, where it has a wheel")


def _database(options: argparse.Namespace) -> Iterator[Found]:
    from pydantic import ValidationError
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    from service.cli.operate import setting_problem
    from service.domain.errors import ServiceError, StoreUnavailableError
    from service.settings import Settings
    from service.store import SchemaError, check_revision
    from service.store.engine import sqlite_path

    given = {} if options.database_url is None else {"database_url": options.database_url}
    try:
        settings = Settings(**given)
        url = make_url(settings.database_url)
    except ValidationError as error:
        for problem in error.errors(include_url=False):
            yield Found("settings", "wrong", setting_problem(dict(problem)), "set it rightly, or unset it")
        return
    except ArgumentError:
        what = "the database's URL is none: sqlite:///data/maze.db or postgresql://…"
        yield Found("database", "wrong", what, _NAME_IT)
        return
    shown, path = url.render_as_string(hide_password=True), sqlite_path(url)
    if path is not None and not path.exists():
        way_out = f"maze serve makes it; or {_NAME_IT}"
        yield Found("database", "note", f"{shown} is not there yet", way_out)
    else:
        try:
            check_revision(settings.database_url)
            yield Found("database", "ok", f"{shown} is reached and up to date")
        except SchemaError as error:  # its words have the command
            yield Found("database", "wrong", str(error), "do so with the service stopped")
        except StoreUnavailableError as error:
            where = "see that it can be read, restore a backup of it" if path else "start it"
            yield Found("database", "wrong", str(error), f"{where}, or {_NAME_IT}")
        except (ServiceError, ValueError) as error:
            yield Found("database", "wrong", str(error), _NAME_IT)
    if path is not None:
        place = next(folder for folder in path.absolute().parents if folder.is_dir())
        free = shutil.disk_usage(place).free
        is_little = free < LITTLE_BYTES
        way_out = "make room, or let MAZE_KEEP_DAYS, MAZE_KEEP_RUNS or MAZE_KEEP_MIB do so"
        status: Any = "wrong" if is_little else "ok"
        yield Found("disk", status, f"{free / 1e9:,.1f} GB free at {place}", way_out if is_little else None)


def _service(options: argparse.Namespace) -> Iterator[Found]:
    from maze_client import Client, ConnectionFailed, MazeClientError, ProblemError, UnauthorizedError
    from maze_client.client import DEFAULT_URL

    url = options.url or os.environ.get("MAZE_URL") or DEFAULT_URL
    with Client(options.url, options.token, max_retries=0, timeout=10) as client:
        try:
            health = client.health()
        except ConnectionFailed as error:
            yield Found(
                "service", "wrong", str(error), "start it with maze serve, or name it by --url or MAZE_URL"
            )
            return
        except Exception as error:  # other servers answer in many ways
            if isinstance(error, ProblemError) and "code" in error.body:
                yield Found("service", "wrong", f"{url}: {error}", "see its log")
            else:
                said = f": {error}" if isinstance(error, MazeClientError) else ""
                yield Found(
                    "service", "wrong", f"{url} is no Maze service{said}", "name it by --url or MAZE_URL"
                )
            return
        yield Found(
            "service",
            "ok" if health.is_ready else "wrong",
            f"{url} answers" + ("" if health.is_ready else ", and is not ready"),
        )
        for name, check in health.checks.items():
            yield _checked(name, check)
        has_token = bool(options.token or os.environ.get("MAZE_TOKEN"))
        try:
            next(client.runs(), None)
            yield Found("token", "ok", "is taken" if has_token else "none is asked for")
        except UnauthorizedError as error:
            what = "is not taken" if has_token else "is asked for, and there is none"
            make_one = "maze token create NAME beside the service, then export MAZE_TOKEN=maze_…"
            yield Found("token", "wrong", f"{what}: {error.detail}", make_one)


def _checked(name: str, check: Any) -> Found:
    """What the service says of a part of itself."""
    status: Any = {"ok": "ok", "warning": "wrong"}.get(str(check.get("status")), "wrong")
    facts = {key: value for key, value in check.items() if key not in ("status", "detail")}
    what = str(
        check.get("detail") or " ".join(f"{key} {value}" for key, value in facts.items()) or check["status"]
    )
    way_out = {
        "workers": "maze worker --database-url …, or maze serve, which starts one",
        "migrations": "stop it, maze db upgrade, start it",
        "database": "see its log",
        "environments": "see the worker's log, and MAZE_ENV_MODULES",
    }
    return Found(f"service: {name}", status, what, None if status == "ok" else way_out.get(name))
