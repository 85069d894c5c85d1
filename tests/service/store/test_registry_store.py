"""The registry's contract on both databases, and what becomes of a token's text."""

from pathlib import Path

import pytest

from service.domain.errors import NotFoundError
from service.domain.use_cases import create_token, token_digest, token_id_of
from service.store import SchemaError, Stores
from service.store.registry import opened_registry
from tests.contracts.registry_store import RegistryStoreContract


class TestRegistryStore(RegistryStoreContract):
    pass


def test_a_token_is_shown_once_and_stored_as_a_digest(stores: Stores) -> None:
    assert stores.registry.tokens() == []
    token = create_token(stores.registry, "laptop")
    token_id = token_id_of(token)
    assert token_id is not None
    assert stores.registry.find_token(token_id) == token_digest(token)
    (listed,) = stores.registry.tokens()
    assert (listed["id"], listed["name"]) == (token_id, "laptop")
    assert token.rsplit("_", 1)[1] not in str(listed)


def test_a_revoked_token_is_found_no_more(stores: Stores) -> None:
    token_id = token_id_of(create_token(stores.registry, "laptop"))
    assert token_id is not None
    stores.registry.revoke_token(token_id)
    assert stores.registry.find_token(token_id) is None
    with pytest.raises(NotFoundError, match="maze token list"):
        stores.registry.revoke_token("nope")


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
