"""What no one expects of an answer, or of dekctl itself, must not leave a caller waiting."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from dekctl.errors import KMSError, KMSUnavailableError
from dekctl.kms.aws.retry import RetryPolicy
from support.scripted_endpoint import Reply, ScriptedEndpoint
from support.transports import ANSWER, REQUEST, SECRET, Kind, Make, bad, good

NESTED = b"[" * 100_000
HASTY = RetryPolicy(patience=0.1, first_contact=0.1, base=0.01, longest=0.05)


@pytest.mark.parametrize("status", [200, 400, 500])
def test_an_answer_nested_too_deeply_is_not_kmss(make: Make, kind: Kind, status: int) -> None:
    with ScriptedEndpoint(lambda _: Reply(status, NESTED)) as endpoint:
        transport = make(kind, endpoint.url, policy=HASTY)
        assert bad(transport.call_many("Encrypt", [REQUEST] * 20))


def fail_once(original: Callable[..., Any]) -> Callable[..., Any]:
    """The method, which raises what nobody expects when it is first called."""
    calls: list[None] = []

    def method(*args: Any, **kwargs: Any) -> Any:
        calls.append(None)
        if len(calls) == 1:
            raise RuntimeError(SECRET)
        return original(*args, **kwargs)

    return method


@pytest.mark.parametrize("method", ["_answered", "_send", "_fill", "_collect", "_next_call"])
def test_a_defect_fails_the_calls_in_hand_and_leaves_a_working_transport(
    make: Make, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = pytest.importorskip("dekctl.kms.aws.curl.loop").Loop
    with ScriptedEndpoint(lambda _: Reply(200, ANSWER)) as endpoint:
        transport = make("curl", endpoint.url)
        assert good(transport.call_many("Encrypt", [REQUEST]))
        monkeypatch.setattr(loop, method, fail_once(getattr(loop, method)))
        with pytest.raises(
            KMSUnavailableError, match="failed unexpectedly: RuntimeError"
        ) as caught:
            transport.call_many("Encrypt", [REQUEST] * 20)
        assert SECRET.decode() not in repr(caught.value) + str(caught.value.hint)
        assert caught.value.__cause__ is None
        assert len(good(transport.call_many("Encrypt", [REQUEST] * 20))) == 20


def test_a_thread_that_died_is_replaced(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    loop = pytest.importorskip("dekctl.kms.aws.curl.loop").Loop
    with ScriptedEndpoint(lambda _: Reply(200, ANSWER)) as endpoint:
        transport = make("curl", endpoint.url)
        with monkeypatch.context() as patch:
            patch.setattr(loop, "_has_work", lambda _: False)
            patch.setattr(loop, "_collect", fail_once(loop._collect))
            with pytest.raises(KMSError, match="failed unexpectedly"):
                transport.call_many("Encrypt", [REQUEST])
        assert good(transport.call_many("Encrypt", [REQUEST]))


def test_json_raises_what_this_is_about() -> None:
    with pytest.raises(RecursionError):
        json.loads(NESTED)
