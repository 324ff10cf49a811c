"""Alembic's ``op``, imported when a step runs: most commands run none, and it is slow to import."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from alembic.op import *  # noqa: F403 - all that it has
else:

    def __getattr__(name: str) -> Any:
        from alembic import op  # noqa: PLC0415 - see above

        return getattr(op, name)
