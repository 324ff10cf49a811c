"""AWS KMS inside an application: its logs, its forked workers, and how long it waits."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import boto3
import pytest

from dekctl.config import load_config
from dekctl.errors import KMSUnavailableError
from dekctl.kms import AWSKMS, InMemoryKMS, set_kms_provider
from dekctl.kms.aws.retry import RetryPolicy
from dekctl.kms.aws.transport import TransportKind
from dekctl.kms.branch.keys import BranchKeys
from dekctl.kms.branch_key import BranchKey
from dekctl.kms.context import row_context
from dekctl.kms.interface import Unwrapped, UnwrapRequest, Wrapped, WrapRequest
from dekctl.reader import RowKeys
from support.cli import Dekctl
from support.generations import ALIAS, Generations
from support.kms_standin import Fault, KmsStandin
from support.secrets import assert_hidden
from support.waiting import PATIENCE_SECONDS, eventually

CONTEXT = {"dekctl:table": "files", "dekctl:pk": "7"}


@pytest.fixture(params=["boto3", "curl"])
def transport(request: pytest.FixtureRequest) -> TransportKind:
    if request.param == "curl":
        pytest.importorskip("pycurl")
    kind: TransportKind = request.param
    return kind


@pytest.fixture
def provider(
    environ: dict[str, str], kms_standin: KmsStandin, transport: TransportKind
) -> Iterator[AWSKMS]:
    made = AWSKMS(kms_standin.create_key(), transport=transport, concurrency=2)
    yield made
    made.close()


def test_an_application_that_logs_everything_logs_no_key(
    provider: AWSKMS, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    dek = os.urandom(32)
    assert provider.unwrap(provider.wrap(dek, CONTEXT), CONTEXT) == dek
    issued, wrapped = provider.generate(32, CONTEXT)
    assert provider.unwrap(wrapped.blob, CONTEXT) == issued.plaintext
    request = {"KeyId": provider.key_id, "Plaintext": dek}
    provider.call(
        "Decrypt", {"CiphertextBlob": provider.call("Encrypt", request)["CiphertextBlob"]}
    )
    assert_hidden(caplog.text, [dek, issued.plaintext], "the log")

    caplog.clear()
    boto3.client("kms").list_keys()
    assert "Response body" in caplog.text, "the application's own calls are logged as before"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows does not fork")
def test_a_worker_that_is_forked_after_a_call_makes_calls_of_its_own(provider: AWSKMS) -> None:
    dek = os.urandom(32)
    wrapped = provider.wrap(dek, CONTEXT)
    for _ in range(3):  # all connections of the parent are open
        provider.unwrap(wrapped, CONTEXT)
    provider._transport_lock.acquire()  # as another thread of the parent may hold it
    child = os.fork()
    if child == 0:  # no exception may lead it back into pytest
        try:
            same = provider.unwrap(wrapped, CONTEXT) == dek
            os._exit(0 if same else 1)
        except BaseException:
            os._exit(2)
    provider._transport_lock.release()
    assert ended(child) == 0
    assert provider.unwrap(wrapped, CONTEXT) == dek, "the parent goes on with its own connections"


def ended(child: int) -> int | str:
    """The exit code of a child, or that it hung and was killed."""
    statuses: list[int] = []

    def gone() -> bool:
        done, status = os.waitpid(child, os.WNOHANG)
        statuses.append(status)
        return bool(done)

    if eventually(gone, seconds=60):
        return os.waitstatus_to_exitcode(statuses[-1])
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "hung"


def test_an_application_is_told_of_an_outage_within_seconds(
    environ: dict[str, str], kms_standin: KmsStandin
) -> None:
    kek = kms_standin.create_key()
    provider = set_kms_provider("aws", key_id=kek)
    wrapped = provider.wrap(bytes(32))
    hasty = AWSKMS(kek, retry=RetryPolicy(patience=0.1, first_contact=0.1))
    assert hasty.unwrap(wrapped) == bytes(32)  # connected, and everything imported
    kms_standin.set_faults(Fault("ThrottlingException", probability=1.0), seed=1)
    began = time.monotonic()
    with pytest.raises(KMSUnavailableError):
        provider.unwrap(wrapped)
    assert time.monotonic() - began < 60, "it waited as long as a run does"
    provider.close()

    began = time.monotonic()
    with pytest.raises(KMSUnavailableError):
        hasty.unwrap(wrapped)
    assert time.monotonic() - began < 5, "it was as patient as the other one"
    hasty.close()


def test_a_branch_key_in_memory_opens_rows_while_another_one_is_waited_for() -> None:
    class SlowStock(dict[str, BranchKey]):
        slow = threading.Event()

        def add(self, key: BranchKey) -> None:
            self[key.branch_id] = key

        def get(self, branch_ids: Any) -> Any:  # type: ignore[override]  # the store's, not dict's
            if self.slow.is_set():
                asked.set()
                assert answered.wait(PATIENCE_SECONDS)
            return {i: self[i] for i in branch_ids}

    asked, answered = threading.Event(), threading.Event()
    stock: Any = SlowStock()
    kms = InMemoryKMS()
    wrapper = BranchKeys(kms, stock, rows_per_key={"t": 1})
    requests = []
    for number in (1, 2):
        context = row_context("t", (number,))
        [row] = wrapper.wrap_many([WrapRequest(bytes(32), context)])
        assert isinstance(row, Wrapped)
        requests.append(UnwrapRequest(row.blob, row.kek_id, context))
    reader = BranchKeys(kms, stock)
    reader.unwrap_many(requests[:1])
    stock.slow.set()
    with ThreadPoolExecutor(2) as pool:
        waiting = pool.submit(reader.unwrap_many, requests[1:])
        assert asked.wait(PATIENCE_SECONDS)
        [opened] = pool.submit(reader.unwrap_many, requests[:1]).result(
            timeout=PATIENCE_SECONDS / 2
        )
        answered.set()
        [other] = waiting.result(timeout=PATIENCE_SECONDS)
    assert isinstance(opened, Unwrapped)
    assert isinstance(other, Unwrapped)


def test_rows_that_name_an_alias_or_no_kek_are_read_after_the_alias_has_moved(
    environ: dict[str, str], generations: Generations, dekctl: Dekctl
) -> None:
    dek = os.urandom(32)
    seed = AWSKMS(ALIAS)
    row = {"id": 1, "wrapped_key": seed.wrap(dek), "wrapped_key_version": "V1"}
    seed.close()
    generations.roll()
    lines = [f'{name} = "{value}"' for name, value in generations.env.items()]
    dekctl.configure("[env.test]\n" + "\n".join(lines) + "\n")
    known = list(generations.arns.values())
    for keys in (
        RowKeys.from_config(load_config(dekctl.folder / "dekctl.toml")),
        RowKeys(set_kms_provider("aws", key_id=ALIAS, known_keks=known)),
    ):
        for kek in (ALIAS, None):
            assert keys.read({**row, "kek_id": kek}) == dek
        keys.provider.close()
