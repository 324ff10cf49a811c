"""The control channel: what a test may ask of the stand-in besides KMS."""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from .faults import Fault
from .identity import Grant
from .request import Reply, Request, render
from .service import Service

PATH = "/_standin"
TOKEN_HEADER = "x-standin-token"


class Control:
    """Runs the commands of whoever knows the token."""

    def __init__(self, service: Service, token: str) -> None:
        self._service = service
        self._token = token.encode()
        self._commands: dict[str, Callable[..., Any]] = {
            "set_faults": self._set_faults,
            "set_quota": service.faults.set_quota,
            "set_latency": service.faults.set_latency,
            "put_principal": self._put_principal,
            "access_key": self._access_key,
            "deny": self._deny,
            "clear_denies": self._clear_denies,
            "expire_sessions": service.directory.expire_sessions,
            "destroy_key": self._destroy_key,
            "counters": service.ledger.counters,
            "journal": service.ledger.journal,
            "reset_counters": service.ledger.reset,
        }

    def handle(self, request: Request) -> Reply:
        """Answer one request; one without the token gets the 404 of a path that is not there."""
        given = request.headers.get(TOKEN_HEADER, "").encode()
        if not hmac.compare_digest(given, self._token):
            return Reply(render(404, "", b""))
        try:
            asked = json.loads(request.body)
            result = self._commands[asked["command"]](**asked["arguments"])
        except Exception as error:  # whatever it is, the test must see it
            body = json.dumps({"error": f"{type(error).__name__}: {error}"}).encode()
            return Reply(render(400, "application/json", body))
        return Reply(render(200, "application/json", json.dumps({"result": result}).encode()))

    def _set_faults(self, faults: list[dict[str, Any]], seed: int) -> None:
        self._service.faults.set_rules([Fault.from_json(each) for each in faults], seed)

    def _put_principal(self, name: str, kind: str, grants: list[dict[str, Any]] | None) -> str:
        allowed = None if grants is None else [Grant.from_json(each) for each in grants]
        return self._service.directory.put(name, kind, allowed).arn

    def _access_key(self, name: str) -> dict[str, Any]:
        directory = self._service.directory
        return asdict(directory.access_key(directory.principals[name]))

    def _deny(self, name: str, deny: dict[str, Any]) -> None:
        self._service.directory.principals[name].denied.append(Grant.from_json(deny))

    def _clear_denies(self) -> None:
        for principal in self._service.directory.principals.values():
            principal.denied.clear()

    def _destroy_key(self, key_id: str) -> None:
        self._service.store.destroy(self._service.store.resolve(key_id))
