"""Runs, checkpoints, episodes and grants in SQLite or PostgreSQL: SQLAlchemy lives here and nowhere else."""

from service.store.migrations import SchemaError, check_revision, migrate
from service.store.stores import Stores, open_stores

__all__ = ["SchemaError", "Stores", "check_revision", "migrate", "open_stores"]
