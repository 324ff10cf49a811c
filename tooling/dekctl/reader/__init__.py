"""For applications: read and issue the data key of a row, with :class:`RowKeys`.

What ``plaintext`` means:

=========== =================================== ========================= ======================
value       reads                               writes                    when
=========== =================================== ========================= ======================
``write``   the wrapped key, else the plaintext both                      old versions run, too
``read``    the wrapped key, else the plaintext the wrapped key           no old version is left
``refuse``  the wrapped key, V2 and V3 only     the wrapped key           all rows are wrapped
=========== =================================== ========================= ======================

Errors, what a web application answers, and whether to try again:

======================== ====== ================================================================
error                    status meaning
======================== ====== ================================================================
``KMSUnavailableError``  503    KMS did not answer in time, or throttles; try again
``DatabaseError``        503    the database refused; try again if its cause says so
``KMSRefusedError``      500    KMS refuses: rights, a disabled KEK; an operator has to act
``RowRejectedError``     500    this row alone: damaged, or wrapped by a KEK that is not ours
``RefusedError``         409    ``issue`` for a row that has a key
``UsageError``           500    a mistake in the program or in the configuration
======================== ====== ================================================================
"""

from dekctl.kms.dek import DEK
from dekctl.reader.cache import KeyCache
from dekctl.reader.columns import KeyColumns, WrappedKeyColumns
from dekctl.reader.issuing import NewKey
from dekctl.reader.keys import RowKeys
from dekctl.reader.patience import KMSCall
from dekctl.reader.stats import Stats

__all__ = [
    "DEK",
    "KMSCall",
    "KeyCache",
    "KeyColumns",
    "NewKey",
    "RowKeys",
    "Stats",
    "WrappedKeyColumns",
]
