"""A KMS stand-in for each file, a key in it, and boto3's client."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from support.kms_standin import KmsStandin


@pytest.fixture(scope="module")
def shared() -> Iterator[KmsStandin]:
    with KmsStandin.start() as running:
        yield running


@pytest.fixture
def standin(shared: KmsStandin) -> Iterator[KmsStandin]:
    shared.reset_counters()
    yield shared
    shared.clear_faults()


@pytest.fixture
def kek(standin: KmsStandin) -> str:
    arn = standin.create_key()
    standin.reset_counters()
    return arn


@pytest.fixture
def kms(standin: KmsStandin) -> Any:
    return standin.kms()
