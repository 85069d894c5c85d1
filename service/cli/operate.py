"""``maze serve``, ``worker``, ``db``, ``token`` and ``import``: what whoever runs the service does, at its machine.

Every setting is a ``MAZE_…`` variable as well.
"""

import argparse
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.cli.parsers import add, add_group, shared
from service.cli.printing import plain

if TYPE_CHECKING:
    from service.domain.sharing import Project
    from service.settings import Settings

SETTINGS = ("host", "port", "database_url", "workers", "auth")
"""Options that are settings of the same name."""


_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
LONGEST_S = 3650 * 86_400
QUOTAS = ("max_running", "max_queued", "max_stored_mib")


def add_commands(commands: Any) -> None:
    """Add these commands to the parser's."""
    database = shared(database_url={"metavar": "URL", "help": "sqlite:///data/maze.db or postgresql://…"})
    slots = shared(workers={"type": int, "metavar": "N", "help": "run slots of the worker (cores + 1)"})
    http = shared(
        host={"help": "address to listen on (127.0.0.1)"},
        port={"type": int, "help": "port to listen on (8000); 0 takes a free one"},
        no_auth={
            "dest": "auth",
            "action": "store_const",
            "const": False,
            "help": "ask for no token; loopback only",
        },
    )
    # what ``maze serve`` gives to its own processes
    hidden = {"type": int, "help": argparse.SUPPRESS}
    kept = shared(parent=hidden, fd=hidden, gate=hidden)
    add(commands, "serve", _serve, "run API and worker on an up-to-date database", http, slots, database)
    add(commands, "api", _api, "run the API alone", http, database, kept)
    add(commands, "worker", _worker, "run a worker alone, beside an API elsewhere", slots, database, kept)

    db = add_group(commands, "db", "upgrade, check, back up or restore the database")
    add(db, "upgrade", _db_upgrade, "create the database or bring it up to date", database)
    add(db, "check", _db_check, "verify the database and every checkpoint in it", database)
    backup = add(db, "backup", _db_backup, "write one archive of it all, while the service runs", database)
    backup.add_argument("file", metavar="FILE", type=Path, help="archive to write")
    restore = add(db, "restore", _db_restore, "make a new database of an archive", database)
    restore.add_argument("file", metavar="FILE", type=Path, help="archive to read")

    token = add_group(commands, "token", "create, list or revoke access tokens")
    create = add(token, "create", _token_create, "make a token and show it, this once", database)
    create.add_argument("name", metavar="NAME", nargs="?", default="unnamed", help="whose it is")
    create.add_argument("--scopes", metavar="NAMES", help="what it may do, with commas (admin)")
    create.add_argument("--project", metavar="NAME", default=None, help="whose runs it sees (default)")
    create.add_argument("--expires-in", metavar="TIME", help="how long it is valid, as 12h or 30d (for ever)")
    add(token, "list", _token_list, "list tokens by id and name", database)
    revoke = add(token, "revoke", _token_revoke, "end a token", database)
    revoke.add_argument("id", metavar="ID", help="id of the token, see maze token list")

    projects = add_group(commands, "project", "make projects, set their quotas or list them")
    put = add(projects, "put", _project_put, "make a project or change its quotas", database)
    put.add_argument("name", metavar="NAME", help="the project")
    put.add_argument("--share", type=int, metavar="N", help="of the slots, beside the shares of others (1)")
    for quota in QUOTAS:
        put.add_argument(
            f"--{quota.replace('_', '-')}", type=int, metavar="N", help="at most; -1 is no limit"
        )
    add(projects, "list", _project_list, "list projects and their quotas", database)

    imports = add_group(commands, "import", "make experiments and checkpoints of other libraries' files")
    zoo = add(imports, "zoo", _import_zoo, "make an experiment of an entry of RL-Zoo3's hyperparams/*.yml")
    zoo.add_argument("file", metavar="FILE", type=Path, help="the file; its name is the algorithm's")
    zoo.add_argument("env", metavar="ENV", nargs="?", help="the entry, such as CartPole-v1")
    zoo.add_argument(
        "--algorithm", metavar="NAME", help="whose settings these are, where the file is named otherwise"
    )
    zoo.add_argument(
        "--into", metavar="DIR", type=Path, default=Path(), help="directory of modules (the current one)"
    )
    zoo.add_argument("--name", metavar="NAME", help="of the experiment (environment and algorithm)")
    zoo.add_argument(
        "--count", action="store_true", help="say which entries can be said here, and why others cannot"
    )

    sb3 = add(imports, "sb3", _import_sb3, "make a checkpoint of a model of Stable-Baselines3")
    sb3.add_argument("file", metavar="FILE", type=Path, help="what model.save() wrote, a ZIP file")
    sb3.add_argument(
        "--env", metavar="NAME", help="the environment that it was trained in, such as CartPole-v1"
    )
    sb3.add_argument(
        "--vecnormalize", metavar="FILE", type=Path, help="what VecNormalize.save() wrote, a pickle"
    )
    sb3.add_argument(
        "--allow-pickle", action="store_true", help="you trust that pickle; it is read by known names alone"
    )
    sb3.add_argument("--out", metavar="FILE", type=Path, help="checkpoint to write (FILE with .ckpt)")

    add(commands, "version", _version, "print the installed version")


def _overrides(options: argparse.Namespace) -> dict[str, Any]:
    """The settings that were given as options."""
    given = {name: getattr(options, name, None) for name in SETTINGS}
    return {name: value for name, value in given.items() if value is not None}


def _settings(options: argparse.Namespace) -> "Settings":
    from service.settings import Settings

    return Settings(**_overrides(options))


def _serve(options: argparse.Namespace) -> int:
    from service.process import begin
    from service.serve import serve

    settings = _settings(options)
    begin("maze: serve", log_level=settings.log_level, log_format=settings.log_format)
    return serve(settings, _overrides(options))


def _api(options: argparse.Namespace) -> int:
    import socket

    from service.fast_path import protocol_of
    from service.http_server import Connections, Limits, Protocol, serve_api, within_files
    from service.main import create_app
    from service.process import begin, bind, wait_at
    from service.store import check_revision
    from service.tracing import Traced, tracer_of

    settings = _settings(options)
    begin("maze: api", log_level=settings.log_level, log_format=settings.log_format, parent=options.parent)
    is_given = options.fd is not None
    listener = socket.socket(fileno=options.fd) if is_given else bind(settings.host, settings.port)
    application = create_app(settings)
    wait_at(options.gate)
    check_revision(settings.database_url)
    tracer = tracer_of("maze-api")
    protocol = protocol_of(application, settings) if tracer is None else Protocol
    connections = Connections(within_files(Limits.of(settings)))
    application.watch(connections)
    served = application if tracer is None else Traced(application, tracer)
    return serve_api(served, protocol, listener, connections)


def _worker(options: argparse.Namespace) -> int:
    from service.process import begin, wait_at
    from service.worker.main import serve_worker

    settings = _settings(options)
    begin("maze: worker", log_level=settings.log_level, log_format=settings.log_format, parent=options.parent)
    return serve_worker(settings, before_database=lambda: wait_at(options.gate))


def _db_upgrade(options: argparse.Namespace) -> int:
    from service.store import migrate

    print(f"the database is at revision {migrate(_settings(options).database_url)}")
    return 0


def _db_check(options: argparse.Namespace) -> int:
    from service.store.backup import check

    settings = _settings(options)
    report = check(settings.database_url, blob_dir=settings.blob_dir)
    for problem in report.problems:
        print(plain(problem))
    state = f"{len(report.problems)} problems" if report.problems else "whole"
    print(f"revision {report.revision}, {report.n_blobs} stored bundles: {state}")
    return 1 if report.problems else 0


def _db_backup(options: argparse.Namespace) -> int:
    from service.store.backup import backup

    settings = _settings(options)
    manifest = backup(settings.database_url, options.file, blob_dir=settings.blob_dir)
    print(f"{options.file}: revision {manifest.revision}, {os.path.getsize(options.file):,} bytes")
    return 0


def _db_restore(options: argparse.Namespace) -> int:
    from service.store.backup import restore

    settings = _settings(options)
    manifest = restore(options.file, settings.database_url, blob_dir=settings.blob_dir)
    print(f"restored revision {manifest.revision}; start with: maze serve")
    return 0


def _token_create(options: argparse.Namespace) -> int:
    from service.domain.audit import Change, changing
    from service.domain.sharing import DEFAULT_PROJECT, Caller, Scope
    from service.domain.use_cases import create_token
    from service.store import migrate
    from service.store.registry import opened_registry

    scopes = frozenset(map(Scope, (options.scopes or "admin").split(",")))
    grants = Caller(project=options.project or DEFAULT_PROJECT, scopes=scopes)
    expires_in_s = None if options.expires_in is None else duration_s(options.expires_in)
    url = _settings(options).database_url
    migrate(url)
    change = Change(action="maze token create", subject="/v1/tokens", project=grants.project)
    with opened_registry(url) as registry, changing(change):
        registry.require_project(grants.project)
        print(create_token(registry, options.name, grants, expires_in_s=expires_in_s))
    return 0


def duration_s(text: str) -> float:
    """Seconds of ``90s``, ``15m``, ``12h`` or ``30d``; raises ValueError."""
    number, unit = text[:-1], _UNITS.get(text[-1:])
    if unit is None or not number.isdecimal() or not 0 < int(number) * unit <= LONGEST_S:
        raise ValueError(f"{text!r} is no duration; say it as 90s, 15m, 12h or 30d, up to 3650d")
    return float(int(number) * unit)


def _token_list(options: argparse.Namespace) -> int:
    from service.store.registry import opened_registry

    with opened_registry(_settings(options).database_url) as registry:
        tokens = registry.tokens()
    for token in tokens:
        state = f"revoked {token.revoked_at:%Y-%m-%d}" if token.revoked_at else "valid"
        if token.expires_at and not token.revoked_at:
            state = f"until {token.expires_at:%Y-%m-%d %H:%M}"
        grants = f"{token.project}: {' '.join(token.scopes)}"
        print(f"{token.id}  {token.created_at:%Y-%m-%d %H:%M}  {state:<22}  {plain(token.name)}  ({grants})")
    return 0


def _token_revoke(options: argparse.Namespace) -> int:
    from service.domain.audit import Change, changing
    from service.store.registry import opened_registry

    change = Change(action="maze token revoke", subject=f"/v1/tokens/{options.id}")
    with opened_registry(_settings(options).database_url) as registry, changing(change):
        registry.revoke_token(options.id)
    return 0


def _project_put(options: argparse.Namespace) -> int:
    from service.domain.audit import Change, changing
    from service.store import migrate, open_stores

    given = {name: getattr(options, name) for name in ("share", *QUOTAS)}
    settings = _settings(options)
    migrate(settings.database_url)
    stores = open_stores(settings)
    quotas = {
        name: None if value == -1 and name != "share" else value
        for name, value in given.items()
        if value is not None
    }
    change = Change(action="maze project put", subject=f"/v1/projects/{options.name}")
    try:
        with changing(change):
            made, _ = stores.projects.put(checked_project(options.name, quotas), quotas)
    finally:
        stores.close()
    print(_shown_project(made))
    return 0


def _project_list(options: argparse.Namespace) -> int:
    from service.store import open_stores

    stores = open_stores(_settings(options))
    try:
        print("\n".join(map(_shown_project, stores.projects.list())))
    finally:
        stores.close()
    return 0


def _shown_project(project: "Project") -> str:
    limits = {name: getattr(project, name) for name in QUOTAS}
    told = "  ".join(f"{name} {limit}" for name, limit in limits.items() if limit is not None)
    return f"{project.name}  share {project.share}  {told or 'no limits'}"


def checked_project(name: str, quotas: dict[str, Any]) -> str:
    """The name of a project; raises ValueError for what is none, and for quotas that are none."""
    from service.domain.sharing import PROJECT_NAME

    if not re.fullmatch(PROJECT_NAME, name):
        raise ValueError(f"{name!r} is no name of a project: up to 24 lower-case letters, digits and hyphens")
    for quota, value in quotas.items():
        if value is not None and not (quota == "share") <= value < 2**31:
            raise ValueError(f"{quota} {value} is no quota; write a number, or -1 for no limit")
    return name


def _import_zoo(options: argparse.Namespace) -> int:
    from maze_core.cli.zoo import count_entries, import_entry

    if options.count:
        return count_entries(options.file, algorithm=options.algorithm)
    if options.env is None:
        raise ValueError("name the ENV whose entry is imported, or ask for the --count of them")
    return import_entry(
        options.file, options.env, algorithm=options.algorithm, into=options.into, name=options.name
    )


def _import_sb3(options: argparse.Namespace) -> int:
    from maze_core import import_sb3

    checkpoint = import_sb3(
        options.file, options.env, vecnormalize=options.vecnormalize, allow_pickle=options.allow_pickle
    )
    target = options.out or options.file.with_suffix(".ckpt")
    checkpoint.write(target)
    print(f"{target}: acts as {options.file} does, content {checkpoint.content_sha256[:12]}")
    return 0


def _version(_options: argparse.Namespace) -> int:
    from importlib.metadata import version

    print(version("maze-service"))
    return 0


def setting_problem(problem: dict[str, Any]) -> str:
    """A wrong setting, named as it was said."""
    message = str(problem["msg"]).removeprefix("Value error, ")
    if not problem["loc"]:
        return message
    name = str(problem["loc"][0])
    option = "--no-auth" if name == "auth" else f"--{name.replace('_', '-')}"
    said = f"MAZE_{name.upper()}" + (f" or {option}" if name in SETTINGS else "")
    return f"{said}: {message}, not {problem['input']!r}"
