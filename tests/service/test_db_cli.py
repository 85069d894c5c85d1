"""What `maze db` and `maze token` do."""

from pathlib import Path

import pytest
from sqlalchemy import text, update

from service import db_cli
from service.domain.errors import NotFoundError
from service.domain.use_cases import token_digest, token_id_of
from service.store import Stores
from service.store.tables import blob_chunk
from tests.contracts.builders import new_checkpoint, start


def test_upgrade_makes_a_database_and_is_a_no_op_afterwards(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/data/maze.db"
    assert db_cli.upgrade(url) == db_cli.upgrade(url)
    assert db_cli.check(url).problems == []


def test_check_reads_every_blob(stores: Stores, database_url: str) -> None:
    _, lease = start(stores)
    stores.checkpoints.put(lease, new_checkpoint(1), b"one")
    damaged = stores.checkpoints.put(lease, new_checkpoint(2), b"two")
    assert db_cli.check(database_url).n_blobs == 2
    assert db_cli.check(database_url).problems == []
    with stores.database.writing() as connection:
        connection.execute(update(blob_chunk).where(blob_chunk.c.data == b"two").values(data=b"2"))
    (problem,) = db_cli.check(database_url).problems
    assert "damaged" in problem
    with pytest.raises(NotFoundError):
        stores.checkpoints.read(damaged.id)


def test_check_finds_a_row_that_names_nothing(sqlite_stores: Stores, sqlite_url: str) -> None:
    orphan = text("INSERT INTO run_label (run_id, key, value) VALUES ('run_gone', 'k', 'v')")
    connection = sqlite_stores.database.unpooled()
    connection.executescript(f"PRAGMA query_only=OFF; PRAGMA foreign_keys=OFF; {orphan};")
    assert db_cli.check(sqlite_url).problems == ["a row of run_label names a row of run that is not there"]


def test_a_token_is_shown_once_and_stored_as_a_digest(database_url: str, stores: Stores) -> None:
    assert not db_cli.has_tokens(database_url)
    token = db_cli.create_token(database_url, "laptop")
    token_id = token_id_of(token)
    assert token_id is not None
    assert stores.registry.find_token(token_id) == token_digest(token)
    assert db_cli.has_tokens(database_url)
    (listed,) = db_cli.tokens(database_url)
    assert (listed["id"], listed["name"]) == (token_id, "laptop")
    assert token.rsplit("_", 1)[1] not in str(listed)


def test_a_revoked_token_is_found_no_more(database_url: str, stores: Stores) -> None:
    token_id = token_id_of(db_cli.create_token(database_url, "laptop"))
    assert token_id is not None
    db_cli.revoke_token(database_url, token_id)
    assert stores.registry.find_token(token_id) is None
    with pytest.raises(NotFoundError, match="maze token list"):
        db_cli.revoke_token(database_url, "nope")


def test_the_secret_of_a_token_is_nowhere_in_the_database(sqlite_url: str, tmp_path: Path) -> None:
    secret = db_cli.create_token(sqlite_url, "laptop").rsplit("_", 1)[1].encode()
    for file in tmp_path.iterdir():
        assert secret not in file.read_bytes()
