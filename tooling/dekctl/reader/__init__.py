"""For applications: read and issue the data key of a row."""

from dekctl.kms.dek import DEK
from dekctl.reader.cache import KeyCache
from dekctl.reader.issuing import NewKey
from dekctl.reader.keys import RowKeys
from dekctl.reader.patience import KMSCall
from dekctl.reader.stats import Stats

__all__ = ["DEK", "KMSCall", "KeyCache", "NewKey", "RowKeys", "Stats"]
