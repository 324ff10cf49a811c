"""Alembic's entry: runs the steps on the connection that dekctl hands over.

Not for ``alembic upgrade`` by hand: the table, the columns and what was found in the database come
from :class:`dekctl.schema.plan.SchemaPlan`, which that module puts into the attributes.
"""

from alembic import context

attributes = context.config.attributes
plan = attributes["plan"]
options = {"version_table": plan.version_table, "version_table_schema": plan.ledger_schema}

if context.is_offline_mode():
    context.configure(
        dialect_name=plan.table.database.dialect.name,
        literal_binds=True,
        output_buffer=attributes["output"],
        **options,
    )
    with context.begin_transaction():
        context.run_migrations(plan=plan)
else:
    context.configure(connection=attributes["connection"], **options)
    # dekctl opened the transaction and ends it.
    context.run_migrations(plan=plan)
