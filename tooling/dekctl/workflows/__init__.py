"""The commands that take several steps, as functions that an application can call.

They return values and raise :class:`~dekctl.errors.DekctlError`; they neither print nor exit. Each
takes ``run``, which runs one verb: :func:`~dekctl.walk.run.run_rows` by default, or a function that
passes it a progress callback.
"""
