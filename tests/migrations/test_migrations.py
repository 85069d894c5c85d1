"""Migrations lead from nothing to the tables of the code and back, whoever runs them and whenever they die."""

import os
import re
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import Script, ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import CheckConstraint, Column, Connection, Text, inspect, text
from sqlalchemy.exc import IntegrityError

from alembic import command
from service.domain.audit import Change
from service.domain.policies import Gate, MoveKind
from service.domain.run import MetricPoint, RunKind
from service.domain.sessions import NewSession
from service.domain.sharing import ANYBODY, Caller, Scope
from service.store import SchemaError, check_revision, migrate, open_stores
from service.store.blobs import Blobs
from service.store.checkpoints import SqlCheckpointStore
from service.store.engine import opened
from service.store.migrations import config, downgrade, head_revision, locked_connection, migrations_dir
from service.store.tables import metadata
from tests.contracts.builders import new_checkpoint, new_episode, new_run, new_sweep, start
from tests.contracts.upload_store import begin


def tables(url: str) -> set[str]:
    with opened(url) as database, database.reading() as connection:
        return set(inspect(connection).get_table_names())


def all_scripts() -> list[Script]:
    return list(ScriptDirectory(str(migrations_dir())).walk_revisions())


def quoted(sql: str) -> set[str]:
    """The literals of a CHECK, which each database spells in its own way."""
    return set(re.findall(r"'(\w+)'", sql))


def set_revision(url: str, revision: str) -> None:
    with opened(url) as database, database.writing() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :revision"), {"revision": revision})


def test_upgraded_tables_are_those_of_the_code(database_url: str) -> None:
    """What `alembic check` says: autogenerate would find nothing to do."""
    with locked_connection(database_url) as connection:
        command.check(config(connection))


def test_the_check_would_notice_a_difference(sqlite_url: str) -> None:
    with opened(sqlite_url) as database, database.writing() as connection:
        connection.execute(text("ALTER TABLE run ADD COLUMN surplus TEXT"))
    with locked_connection(sqlite_url) as connection, pytest.raises(CommandError, match="surplus"):
        command.check(config(connection))


def test_constraints_are_those_of_the_code(database_url: str) -> None:
    """Autogenerate compares no CHECK constraints, so this does."""
    with opened(database_url) as database, database.reading() as connection:
        inspector = inspect(connection)
        for table in metadata.sorted_tables:
            checks = [item for item in table.constraints if isinstance(item, CheckConstraint)]
            expected = {str(check.name): quoted(str(check.sqltext)) for check in checks}
            found = {
                str(check["name"]): quoted(check["sqltext"])
                for check in inspector.get_check_constraints(table.name)
            }
            assert found == expected, table.name


def test_down_and_up_again_leaves_nothing_behind(database_url: str) -> None:
    downgrade(database_url, "base")
    assert tables(database_url) == {"alembic_version"}
    migrate(database_url)
    assert tables(database_url) == {"alembic_version", *metadata.tables}
    assert check_revision(database_url) == head_revision()


def test_migrating_twice_keeps_the_data(database_url: str) -> None:
    stores = open_stores(database_url)
    run, _ = start(stores)
    stores.close()
    migrate(database_url)
    stores = open_stores(database_url)
    assert stores.runs.get(run.id) == run
    stores.close()


def filled(url: str) -> None:
    """At least one row in every table."""
    stores = open_stores(url)
    _, lease = start(stores, labels={"team": "a"})
    points = [MetricPoint(name="loss", epoch=1, step=1, value=float("nan"))]
    points += [MetricPoint(name="loss", epoch=epoch, step=1, value=epoch % 7) for epoch in range(2, 300)]
    stores.runs.report(lease, phase="training", metrics=points, logs=[("info", "x")])
    stores.checkpoints.put(lease, new_checkpoint(1, is_best=True, is_last=True), b"bundle")
    stores.checkpoints.put(lease, new_checkpoint(2), b"in two parts", (4,))
    stores.episodes.add(lease, new_episode(0), b"trajectory")
    stores.registry.publish_environments("w", [{"id": "A-v0", "is_available": True}])
    stores.registry.beat_worker("w", {})
    stores.registry.add_token("t", "d" * 64, "name", ANYBODY)
    stores.runs.create(new_run(), ("key", "digest"))
    stores.webhooks.test(stores.webhooks.create("https://a.example", ["run.failed"], "whsec_x").id)
    stores.uploads.put_part(begin(stores).id, 0, b"part")
    [kept, *_] = stores.checkpoints.list(lease.run_id).data
    stores.policies.create("walker", gate=Gate(n_episodes=30))
    stores.policies.add_version("walker", kept.id)
    stores.policies.move("walker", "champion", 1, kind=MoveKind.SET, revision=None)
    stores.runs.create(new_run(config={"compared": [{"sha256": "a" * 64, "checkpoint": kept.id}]}))
    stores.sweeps.create(new_sweep())
    new = NewSession(id="s", project="default", checkpoint_id=kept.id, run_id=None, created_by=None)
    stores.sessions.add(new)
    caller = Caller("t", "default", ANYBODY)
    stores.registry.add_ticket("e" * 64, caller, "/v1/runs/r/events", expires_in_s=60.0)
    stores.audit.refuse(Change(action="create_token", subject="/v1/tokens"))
    stores.close()


def rows(url: str) -> dict[str, list[dict[str, object]]]:
    """What every table holds, as the database gives it."""
    with opened(url) as database, database.reading() as connection:
        return {
            name: [
                dict(row)
                for row in connection.execute(text(f"SELECT * FROM {name} ORDER BY 1, 2")).mappings()
            ]
            for name in sorted(inspect(connection).get_table_names())
            if name != "alembic_version"
        }


RENAMED = {"cancel_reason": "stop_wish"}
"""Column, in older revisions → today."""
REPUBLISHED = {"environment", "env_id"}
"""What every worker publishes anew at its start; a migration may forget it."""


KEYED_ANEW = {"event_counter": "id", "project": "quotas"}
"""Table → its column, in older revisions, whose place others have taken."""


def shared(
    now: dict[str, list[dict[str, object]]], then: dict[str, list[dict[str, object]]]
) -> dict[str, list[dict[str, object]]]:
    """The rows now, in the tables and columns of then whose meaning is the same."""

    def of(name: str, row: dict[str, object]) -> dict[str, object]:
        columns = then[name][0].keys() - {KEYED_ANEW.get(name)}
        return {column: row[column] if column in row else row[RENAMED[column]] for column in columns}

    return {name: [of(name, row) for row in now[name]] for name in then.keys() - REPUBLISHED}


@pytest.mark.parametrize("revision", [script.revision for script in reversed(all_scripts()[1:])])
def test_every_row_outlives_the_way_down_and_up(database_url: str, revision: str) -> None:
    filled(database_url)
    before = rows(database_url)
    assert set(before) == set(metadata.tables)
    assert all(before.values())
    downgrade(database_url, revision)
    older = rows(database_url)
    migrate(database_url)
    newest = rows(database_url)
    in_parts = {row["sha256"] for row in before["blob_part"]}
    assert older["blob_chunk"] == newest["blob_chunk"]
    if "blob_part" not in older:  # put together again on the way down
        assert not newest.pop("blob_part")
        for now in (older, newest):
            now["blob_chunk"] = [row for row in now["blob_chunk"] if row["sha256"] not in in_parts]
    for name in older.keys() - REPUBLISHED:
        then = shared(older, older)[name]
        assert shared(before, older)[name] == then, name
        assert shared(newest, older)[name] == then, name
        assert len(newest[name]) == len(before[name]), name


def test_events_stay_their_projects_on_the_way_down_and_up(database_url: str) -> None:
    stores = open_stores(database_url)
    stores.projects.put("other", {})
    for project in ("default", "default", "other"):
        stores.runs.create(new_run(project=project))
    stores.close()
    downgrade(database_url, "0019")
    migrate(database_url)
    stores = open_stores(database_url)
    made, _ = stores.runs.create(new_run(project="other"))
    first, second = stores.runs.feed(project="other")
    assert first.position < second.position
    assert second.run_id == made.id
    assert len(stores.runs.feed(project="default")) == 2
    stores.close()


def test_the_way_down_gives_no_token_more_than_it_had(database_url: str) -> None:
    limited = Caller(scopes=frozenset({Scope.ACT}))
    stores = open_stores(database_url)
    stores.registry.add_token("free", "d" * 64, "may do everything", ANYBODY)
    stores.registry.add_token("bound", "d" * 64, "may act", limited)
    stores.registry.add_token("brief", "d" * 64, "for a minute", ANYBODY, expires_in_s=60.0)
    stores.close()
    downgrade(database_url, "0017")
    migrate(database_url)
    stores = open_stores(database_url)
    valid = [token for token in ("free", "bound", "brief") if stores.registry.find_token(token)]
    assert valid == ["free"]
    stores.close()


def test_what_is_of_another_project_forbids_the_way_down(database_url: str) -> None:
    stores = open_stores(database_url)
    stores.projects.put("other", {})
    run, _ = stores.runs.create(new_run(project="other"))
    with pytest.raises(RuntimeError, match="project other has some of run"):
        downgrade(database_url, "0017")
    assert stores.runs.get(run.id) == run
    stores.close()


def test_a_bundle_in_parts_is_put_together_on_the_way_down(database_url: str) -> None:
    bundle = bytes(range(256)) * 9_000  # more than one chunk of more than one part
    stores = open_stores(database_url)
    _, lease = start(stores)
    info = stores.checkpoints.put(lease, new_checkpoint(1), bundle, (10, 1_100_000, 1_100_005))
    stores.close()
    downgrade(database_url, "0004")
    migrate(database_url)
    stores = open_stores(database_url)
    assert stores.checkpoints.read(info.id) == bundle
    stores.close()


def test_a_bundle_whose_parts_are_files_forbids_the_way_down(sqlite_url: str, tmp_path: Path) -> None:
    with opened(sqlite_url) as database:
        _, lease = start(stores := open_stores(sqlite_url))
        stores.close()
        store = SqlCheckpointStore(database, Blobs(tmp_path / "blobs", inline_bytes=5))
        info = store.put(lease, new_checkpoint(1), b"0123456789", (4,))
        with pytest.raises(RuntimeError, match="in parts, in files"):
            downgrade(sqlite_url, "0004")
        assert store.read(info.id) == b"0123456789"


def remade(connection: Connection) -> None:
    """What a migration does that changes a column of tables to which others refer."""
    operations = Operations(MigrationContext.configure(connection))
    for name in ("run", "blob", "checkpoint"):
        with operations.batch_alter_table(name, recreate="always") as table:
            table.add_column(Column("later", Text))


def test_tables_that_others_refer_to_can_be_made_anew(sqlite_url: str) -> None:
    filled(sqlite_url)
    before = rows(sqlite_url)
    with locked_connection(sqlite_url) as connection:
        remade(connection)
    after = rows(sqlite_url)
    assert {"later"} <= set(after["run"][0])
    assert shared(after, before) == {name: before[name] for name in before.keys() - REPUBLISHED}
    with opened(sqlite_url) as database, database.writing() as connection:
        assert connection.execute(text("PRAGMA foreign_key_check")).all() == []
        with pytest.raises(IntegrityError):  # foreign keys are enforced again
            connection.execute(text("DELETE FROM run"))


def test_a_migration_that_loses_a_row_that_others_refer_to_changes_nothing(sqlite_url: str) -> None:
    filled(sqlite_url)
    before = rows(sqlite_url)

    def lose_runs() -> None:
        with locked_connection(sqlite_url) as connection:
            connection.execute(text("DELETE FROM run"))
            connection.execute(text("UPDATE alembic_version SET version_num = '0001'"))

    with pytest.raises(SchemaError, match="the schema was not changed"):
        lose_runs()
    assert rows(sqlite_url) == before
    assert check_revision(sqlite_url) == head_revision()


def test_an_empty_file_beside_the_journal_of_a_lost_database_is_not_taken_for_a_new_one(
    tmp_path: Path,
) -> None:
    (tmp_path / "maze.db").touch()
    (tmp_path / "maze.db-wal").write_bytes(b"committed")
    with pytest.raises(SchemaError, match=r"maze\.db-wal of it"):
        migrate(f"sqlite:///{tmp_path}/maze.db")
    assert (tmp_path / "maze.db-wal").read_bytes() == b"committed"


@pytest.mark.parametrize("journal", ["-wal", "-journal"])
def test_a_database_without_its_file_is_not_made_anew(tmp_path: Path, journal: str) -> None:
    """SQLite deletes the journal of an empty file, and with it what was committed to it."""
    left = tmp_path / f"maze.db{journal}"
    left.write_bytes(b"committed rows")
    with pytest.raises(SchemaError, match=rf"but maze\.db{journal} of it"):
        migrate(f"sqlite:///{tmp_path}/maze.db")
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [b"committed rows"]


def test_a_new_file_is_its_owners_alone(tmp_path: Path) -> None:
    migrate(f"sqlite:///{tmp_path}/data/maze.db")
    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700
    for file in (tmp_path / "data").iterdir():
        assert file.stat().st_mode & 0o777 == 0o600, file


def test_threads_that_migrate_at_once_make_one_schema(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/maze.db"
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(migrate, [url] * 4))
    assert check_revision(url) == head_revision()


def test_processes_that_migrate_at_once_make_one_schema(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/maze.db"
    code = f"from service.store import migrate; print('ready', flush=True); input(); migrate({url!r})"
    command_line = [sys.executable, "-c", code]
    pipe = subprocess.PIPE
    processes = [subprocess.Popen(command_line, stdin=pipe, stdout=pipe, text=True) for _ in range(3)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        process.communicate()
    assert [process.returncode for process in processes] == [0] * 3
    assert check_revision(url) == head_revision()


def test_a_missing_database_names_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match="maze db upgrade"):
        open_stores(f"sqlite:///{tmp_path}/none.db")
    assert list(tmp_path.iterdir()) == []


def test_an_older_schema_names_the_command_that_upgrades_it(database_url: str) -> None:
    downgrade(database_url, "base")
    with pytest.raises(
        SchemaError, match=f"revision none, this version needs {head_revision()}.*maze db upgrade"
    ):
        open_stores(database_url)


def test_a_newer_schema_is_refused_and_left_alone(database_url: str) -> None:
    set_revision(database_url, "9999")
    for act in (open_stores, check_revision, migrate):
        with pytest.raises(SchemaError, match=r"revision 9999.*pip install --upgrade maze-service"):
            act(database_url)
    assert tables(database_url) == {"alembic_version", *metadata.tables}


@pytest.mark.parametrize("nth", [1, 12])
def test_a_migration_that_is_killed_leaves_all_or_nothing(tmp_path: Path, nth: int) -> None:
    """The process dies at the n-th table it makes."""
    url = f"sqlite:///{tmp_path}/maze.db"
    code = f"""
import os, signal
from sqlalchemy import Engine, event
from service.store import migrate
made = []
@event.listens_for(Engine, "after_cursor_execute")
def die(connection, cursor, statement, *rest):
    if statement.lstrip().startswith("CREATE"):
        made.append(statement)
        if len(made) == {nth}:
            os.kill(os.getpid(), signal.SIGKILL)
migrate({url!r})
"""
    died = subprocess.run([sys.executable, "-c", code], check=False)
    assert died.returncode == -signal.SIGKILL
    assert tables(url) == set()
    migrate(url)
    assert check_revision(url) == head_revision()


def test_the_alembic_command_line_works_on_a_checkout(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/maze.db"
    migrate(url)
    subprocess.run(
        [sys.executable, "-m", "alembic", "check"],
        check=True,
        cwd=migrations_dir().parent,
        env={**os.environ, "MAZE_DATABASE_URL": url},
        capture_output=True,
    )


def test_every_migration_can_be_undone() -> None:
    for script in migrations_dir().joinpath("versions").glob("*.py"):
        source = script.read_text()
        assert re.search(r"def downgrade\(\) -> None:\n(    #.*\n)*    (op\.|_\w+\()", source), script.name
        assert "service.store" not in source, f"{script.name}: a migration outlives the tables it imports"


def test_the_migrations_folder_is_no_package() -> None:
    """An ``__init__.py`` would shadow the library of the same name."""
    assert not (migrations_dir() / "__init__.py").exists()


def test_a_comparison_is_forgotten_on_the_way_down_and_other_kinds_of_runs_stay(database_url: str) -> None:
    filled(database_url)
    stores = open_stores(database_url)
    start(stores, kind=RunKind.COMPARE, labels={"team": "b"})
    stores.close()
    before = rows(database_url)["run"]
    downgrade(database_url, "0008")
    with opened(database_url) as database, database.writing() as connection:
        kinds = connection.execute(text("SELECT kind FROM run")).scalars().all()
        assert sorted(kinds) == sorted(str(row["kind"]) for row in before if row["kind"] != "compare")
        with pytest.raises(IntegrityError):
            connection.execute(text("UPDATE run SET kind = 'compare'"))
    migrate(database_url)
    stores = open_stores(database_url)
    start(stores, kind=RunKind.COMPARE)
    stores.close()
