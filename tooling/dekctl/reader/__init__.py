"""For applications: read and issue the key of a row."""

from dekctl.reader.keys import RowKeys

__all__ = ["RowKeys"]
