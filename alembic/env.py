"""Alembic's environment: hands over the service's tables and a connection that is inside a transaction.

``maze db upgrade`` passes its connection; the plain ``alembic`` command makes one from MAZE_DATABASE_URL.
"""

from sqlalchemy import Connection

from alembic import context
from service.settings import Settings
from service.store.migrations import locked_connection
from service.store.tables import metadata


def run(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=metadata,
        render_as_batch=True,
        transactional_ddl=True,
        compare_type=True,
    )
    context.run_migrations()


if context.is_offline_mode():
    raise SystemExit("migrations need a database; set MAZE_DATABASE_URL and leave out --sql")

given = context.config.attributes.get("connection")
if given is not None:
    run(given)
else:
    with locked_connection(Settings().database_url) as connection:
        run(connection)
