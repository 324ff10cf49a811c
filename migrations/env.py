"""Alembic's entry for both lineages: runs the steps on the connection that dekctl hands over.

Not for ``alembic upgrade`` by hand: which lineage, and what its steps have to know about the
database, comes from :mod:`dekctl.db.lineage` by way of the attributes.
"""

from alembic import context

attributes = context.config.attributes
lineage, plan = attributes["lineage"], attributes["plan"]
options = {"version_table": lineage.version_table, "version_table_schema": lineage.schema}

if context.is_offline_mode():
    context.configure(
        dialect_name=attributes["dialect"],
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
