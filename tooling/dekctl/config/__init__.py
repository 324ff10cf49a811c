"""Configuration: ``dekctl.toml`` and the Terraform outputs, as typed values."""

from dekctl.config.file import load_config
from dekctl.config.model import (
    Config,
    Encoding,
    EnvConfig,
    KekBy,
    PlaintextUse,
    TableConfig,
    Wrapping,
)

__all__ = [
    "Config",
    "Encoding",
    "EnvConfig",
    "KekBy",
    "PlaintextUse",
    "TableConfig",
    "Wrapping",
    "load_config",
]
