"""The registry's contract on both databases, and what becomes of a token's text."""

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from service.domain.errors import NotFoundError
from service.domain.sharing import Caller, Grant, Scope
from service.domain.use_cases import create_token, token_digest, token_id_of
from service.store import SchemaError, Stores
from service.store.registry import opened_registry
from service.store.tables import access_token
from service.store.types import after_now
from tests.contracts.registry_store import RegistryStoreContract


class TestRegistryStore(RegistryStoreContract):
    pass


def test_a_token_is_shown_once_and_stored_as_a_digest(stores: Stores) -> None:
    assert stores.registry.tokens() == []
    token = create_token(stores.registry, "laptop")
    token_id = token_id_of(token)
    assert token_id is not None
    assert stores.registry.find_token(token_id) == Grant(sha256=token_digest(token), caller=Caller(token_id))
    (listed,) = stores.registry.tokens()
    assert (listed.id, listed.name, listed.scopes) == (token_id, "laptop", ("admin",))
    assert token.rsplit("_", 1)[1] not in str(listed)


def test_a_revoked_token_is_found_no_more(stores: Stores) -> None:
    token_id = token_id_of(create_token(stores.registry, "laptop"))
    assert token_id is not None
    stores.registry.revoke_token(token_id)
    assert stores.registry.find_token(token_id) is None
    with pytest.raises(NotFoundError, match="maze token list"):
        stores.registry.revoke_token("nope")


def test_a_token_grants_what_it_was_made_for_until_it_expires(stores: Stores) -> None:
    grants = Caller(project="walker", scopes=frozenset({Scope.ACT, Scope.RUNS_READ}))
    parent = token_id_of(create_token(stores.registry, "parent"))
    token_id = token_id_of(create_token(stores.registry, "robot", grants, expires_in_s=60, by=parent))
    assert token_id is not None
    found = stores.registry.find_token(token_id)
    assert found is not None
    assert found.caller == Caller(token_id, "walker", grants.scopes)
    assert found.expires_in_s == pytest.approx(60, abs=5)
    stores.registry.note_use(token_id)
    _, listed = stores.registry.tokens()
    assert (listed.project, listed.scopes, listed.created_by) == ("walker", ("act", "runs:read"), parent)
    assert listed.last_used_at is not None


@pytest.mark.parametrize(
    ("change", "left"),
    [
        ({"scopes": ["act", "unheard:of"]}, {Scope.ACT}),
        ({"scopes": None}, set()),
        ({"expires_at": after_now(-0.01)}, None),
    ],
    ids=["a scope of a newer version", "no scopes", "its time is up"],
)
def test_what_a_row_does_not_say_a_token_does_not_grant(
    stores: Stores, change: dict[str, Any], left: set[Scope] | None
) -> None:
    token_id = token_id_of(create_token(stores.registry, "robot"))
    assert token_id is not None
    with stores.database.writing() as connection:
        connection.execute(update(access_token).values(**change))
    found = stores.registry.find_token(token_id)
    assert (None if found is None else found.caller.scopes) == left


def test_the_secret_of_a_token_is_nowhere_in_the_database(sqlite_url: str, tmp_path: Path) -> None:
    with opened_registry(sqlite_url) as registry:
        secret = create_token(registry, "laptop").rsplit("_", 1)[1].encode()
    for file in tmp_path.iterdir():
        assert secret not in file.read_bytes()


def test_a_registry_without_a_database_makes_none(tmp_path: Path) -> None:
    with (
        pytest.raises(SchemaError, match="maze db upgrade"),
        opened_registry(f"sqlite:///{tmp_path}/none.db"),
    ):
        pass
    assert list(tmp_path.iterdir()) == []
