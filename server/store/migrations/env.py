"""Alembic's entry: runs the migrations in the transaction that it is given, so that all of them count or none."""

from alembic import context

context.configure(connection=context.config.attributes["connection"], transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
