"""Column types give back what was stored, on both databases."""

import math
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Column, Connection, Integer, MetaData, Table, exc, insert, select

from service.store.engine import Database
from service.store.types import (
    CleanText,
    JsonText,
    NanFloat,
    UtcDateTime,
    after_now,
    clean_text,
    now,
    seconds_since,
)

things = Table(
    "things",
    MetaData(),
    Column("id", Integer, primary_key=True),
    Column("at", UtcDateTime),
    Column("number", NanFloat),
    Column("value", JsonText),
    Column("text", CleanText),
    prefixes=["TEMPORARY"],
)


def round_trip(connection: Connection, **columns: object) -> dict[str, object]:
    things.create(connection, checkfirst=True)
    row = connection.execute(insert(things).values(**columns).returning(things)).one()
    return dict(row._mapping)


def test_a_time_comes_back_aware_and_to_the_microsecond(stores_database: Database) -> None:
    given_time = datetime(2026, 3, 29, 1, 59, 59, 123456, tzinfo=timezone(timedelta(hours=2)))
    with stores_database.writing() as connection:
        stored = round_trip(connection, at=given_time)["at"]
    assert stored == given_time
    assert isinstance(stored, datetime)
    assert stored.utcoffset() == timedelta(0)


def test_a_time_without_zone_is_refused(stores_database: Database) -> None:
    with pytest.raises(exc.StatementError, match="no time zone"), stores_database.writing() as connection:
        round_trip(connection, at=datetime(2026, 1, 1))  # noqa: DTZ001


def test_the_databases_clock_is_utc_and_runs_forward(stores_database: Database) -> None:
    before = datetime.now(UTC) - timedelta(seconds=5)
    with stores_database.writing() as connection:
        stored = round_trip(connection, at=now())["at"]
        later = connection.execute(select(now() < after_now(0.25), after_now(-0.25) < now())).one()
        age = connection.execute(select(seconds_since(things.c.at)).select_from(things)).scalar_one()
    assert isinstance(stored, datetime)
    assert before < stored < datetime.now(UTC) + timedelta(seconds=5)
    assert tuple(later) == (True, True)
    assert -0.01 <= age < 60


def test_floats_that_are_not_finite_come_back(stores_database: Database) -> None:
    for number in (math.inf, -math.inf, 0.1, -0.0, 5e-324):
        with stores_database.writing() as connection:
            assert round_trip(connection, number=number)["number"] == number
    with stores_database.writing() as connection:
        stored = round_trip(connection, number=math.nan)["number"]
    assert isinstance(stored, float)
    assert math.isnan(stored)


def test_json_keeps_order_infinities_and_any_text(stores_database: Database) -> None:
    value = {"z": 1, "a": [math.inf, None, True, 0.1], "text": "\x00 \ud800 \U0001f600"}
    with stores_database.writing() as connection:
        stored = round_trip(connection, value=value)["value"]
    assert stored == value
    assert isinstance(stored, dict)
    assert list(stored) == ["z", "a", "text"]


@given(st.text(st.characters(exclude_categories=())))
def test_clean_text_is_encodable_and_leaves_good_text_alone(value: str) -> None:
    cleaned = clean_text(value)
    assert "\x00" not in cleaned.encode().decode()
    assert clean_text(cleaned) == cleaned
    if "\x00" not in value and not any("\ud800" <= letter <= "\udfff" for letter in value):
        assert cleaned == value
