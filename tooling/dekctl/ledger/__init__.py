"""The ledger beside the application's table: runs and quarantine; no truth about any row."""

from dekctl.ledger.heartbeat import Heartbeat
from dekctl.ledger.ledger import Ledger
from dekctl.ledger.run import Run, RunState
from dekctl.ledger.tables import parse_result, parse_time, tables

__all__ = ["Heartbeat", "Ledger", "Run", "RunState", "parse_result", "parse_time", "tables"]
