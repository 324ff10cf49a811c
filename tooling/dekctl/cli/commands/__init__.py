"""The commands: one file each, found by :mod:`dekctl.cli.registry`."""
