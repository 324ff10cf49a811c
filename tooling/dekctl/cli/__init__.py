"""The command line. Commands parse and print; everything else is done below."""

from dekctl.cli.main import main

__all__ = ["main"]
