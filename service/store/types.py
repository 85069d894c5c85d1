"""Column types and database clocks that SQLite and PostgreSQL agree on.

SQLite drops time zones, turns NaN into NULL and has no clock type; PostgreSQL refuses NUL characters in text.
Each type below hides one of these.
"""

import importlib
import json
import math
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, DateTime, Dialect, Double, String, Table, Text
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator


class UtcDateTime(TypeDecorator[datetime]):
    """An aware time in UTC; in SQLite ``YYYY-MM-DD HH:MM:SS.ffffff``, which sorts as the time does."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse naive times, which would be read as another moment."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value} has no time zone; use datetime.now(UTC)")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Give the time zone back."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class NanFloat(TypeDecorator[float]):
    """A float that may be NaN; NULL stands for it, in both databases. Infinities are stored as they are."""

    impl = Double
    cache_ok = True

    def process_bind_param(self, value: float | None, dialect: Dialect) -> float | None:
        """NaN becomes NULL."""
        return None if value is None or math.isnan(value) else float(value)

    def process_result_value(self, value: float | None, dialect: Dialect) -> float:
        """NULL becomes NaN."""
        return math.nan if value is None else value


class JsonText(TypeDecorator[Any]):
    """A JSON value as text: keeps the order of keys and, in Python's spelling, NaN and infinities."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        """None is NULL, not the text ``null``."""
        return None if value is None else json.dumps(value, separators=(",", ":"))

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        """The value that was stored."""
        return None if value is None else json.loads(value)


class CleanString(TypeDecorator[str]):
    """Short text of unknown origin, as ids are: NUL and lone surrogates, which a database refuses, become U+FFFD.

    So a hostile id is simply not found.
    """

    impl = String
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """The text as every database takes it."""
        return None if value is None else clean_text(value)


class CleanText(CleanString):
    """:class:`CleanString` of any length."""

    impl = Text
    cache_ok = True


def clean_text(value: str) -> str:
    """``value`` without characters that a database refuses."""
    return value.replace("\x00", "\ufffd").encode("utf-8", "surrogatepass").decode("utf-8", "replace")


def in_project(table: Table, project: str | None) -> tuple[ColumnElement[bool], ...]:
    """The conditions of what a project has; None is everybody's."""
    return () if project is None else (table.c.project == project,)


def upsert(connection: Connection) -> Any:
    """The dialect's ``insert`` with ``on_conflict_…``; both databases spell it alike, SQLAlchemy does not."""
    return importlib.import_module(f"sqlalchemy.dialects.{connection.dialect.name}").insert


class now(FunctionElement[datetime]):
    """The database's clock, in UTC."""

    type = UtcDateTime()
    inherit_cache = True


class after_now(FunctionElement[datetime]):
    """The database's clock plus so many seconds: ``after_now(30.0)``."""

    type = UtcDateTime()
    inherit_cache = True


class seconds_since(FunctionElement[float]):
    """Seconds on the database's clock since a time."""

    type = Double()
    inherit_cache = True


# strftime and julianday: unixepoch('subsec') is NULL before SQLite 3.42. 000 makes milliseconds microseconds.
_SQLITE_FORMAT = "'%Y-%m-%d %H:%M:%f000', 'now'"


@compiles(now, "sqlite")
def _(_element: now, _compiler: SQLCompiler, **_kw: Any) -> str:
    return f"strftime({_SQLITE_FORMAT})"


@compiles(now, "postgresql")
def _(_element: now, _compiler: SQLCompiler, **_kw: Any) -> str:
    return "statement_timestamp()"  # now() is the transaction's start, before it waited for a lock


@compiles(after_now, "sqlite")
def _(element: after_now, compiler: SQLCompiler, **kw: Any) -> str:
    seconds = compiler.process(element.clauses, **kw)
    return f"strftime({_SQLITE_FORMAT}, printf('%.3f seconds', {seconds}))"


@compiles(after_now, "postgresql")
def _(element: after_now, compiler: SQLCompiler, **kw: Any) -> str:
    seconds = compiler.process(element.clauses, **kw)
    return f"statement_timestamp() + make_interval(secs => {seconds})"


@compiles(seconds_since, "sqlite")
def _(element: seconds_since, compiler: SQLCompiler, **kw: Any) -> str:
    return f"((julianday('now') - julianday({compiler.process(element.clauses, **kw)})) * 86400.0)"


@compiles(seconds_since, "postgresql")
def _(element: seconds_since, compiler: SQLCompiler, **kw: Any) -> str:
    moment = compiler.process(element.clauses, **kw)
    return f"extract(epoch from statement_timestamp() - {moment})::double precision"
