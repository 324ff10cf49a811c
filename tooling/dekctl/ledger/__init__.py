"""The ledger beside the application's table: runs, and rows set aside; no truth about any row."""

from dekctl.ledger.heartbeat import Heartbeat
from dekctl.ledger.ledger import Ledger, Run
from dekctl.ledger.tables import tables

__all__ = ["Heartbeat", "Ledger", "Run", "tables"]
