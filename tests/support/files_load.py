"""Users of the files service of ``examples``: they upload, read and replace all the time.

Requests go to a random one of the application's instances, as behind a load balancer, and every
content is compared.
"""

from __future__ import annotations

import contextlib
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from support.services import Answer, Service
from support.waiting import eventually

CONTENDED = b"contended "
"""How the content of files that all users replace begins."""


@dataclass
class Step:
    """What users met between one change of the application and the next."""

    latencies: list[float] = field(default_factory=list)
    """Seconds of each request."""
    reads: Counter[str] = field(default_factory=Counter)
    """Keys read, by where they came from; the old version's are ``old version``."""
    seconds: float = 0.0


@dataclass
class Load:
    """The users, each in a thread of its own, while the ``with`` block lasts."""

    instances: list[Service]
    users: int = 3
    step: str = "before"
    away: bool = False
    """Whether KMS is cut off now: a request that needs a new key may be answered with 503."""
    steps: dict[str, Step] = field(default_factory=dict)
    refused: Counter[str] = field(default_factory=Counter)
    """Requests that were answered with 503 while KMS was away, by method."""
    slowest: float = 0.0
    """Seconds of the slowest of them."""
    failures: list[str] = field(default_factory=list)
    contents: dict[int, bytes] = field(default_factory=dict)
    """Files of one user each, which nobody else replaces."""
    contended: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._busy = threading.Semaphore(self.users)
        self._readers: set[Service] = set()
        self._old_reads: list[str] = []
        self._before: Counter[str] = Counter()
        self._since = time.monotonic()
        self.steps[self.step] = Step()
        self._threads = [
            threading.Thread(target=self._use, args=(n,), name=f"user {n}", daemon=True)
            for n in range(self.users)
        ]

    def __enter__(self) -> Load:
        self.contended += [self.upload(CONTENDED) or 0 for _ in range(3)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self.begin("end")

    def begin(self, step: str) -> None:
        """Name what comes now; what was read until now belongs to the step before."""
        now, reads = time.monotonic(), Counter({"old version": len(self._old_reads)})
        for service in self._readers:
            assert service.keys is not None
            reads.update(service.keys.stats().reads)
        self.steps[self.step].reads += reads - self._before
        self.steps[self.step].seconds += now - self._since
        self._before, self._since = reads, now
        self.steps.setdefault(step, Step())
        self.step = step

    def go_on(self, requests: int) -> None:
        """Wait until so many more requests were answered in this step."""
        latencies = self.steps[self.step].latencies
        goal = len(latencies) + requests
        assert eventually(lambda: len(latencies) >= goal), f"it stands still in {self.step}"
        assert not self.failures, f"{len(self.failures)} failures: {self.failures[:5]}"

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Between two requests of every user."""
        for _ in range(self.users):
            self._busy.acquire()
        try:
            yield
        finally:
            self._busy.release(self.users)

    # -- the requests ----------------------------------------------------------------------------

    def upload(self, content: bytes) -> int | None:
        """Upload a file. Returns its number; None if KMS was away."""
        answer = self._request("POST", "/files/a.txt", content)
        return None if answer is None else int(json.loads(answer.data)["id"])

    def read(self, number: int, instance: Service | None = None) -> bytes | None:
        """The content of a file; reads of keys that are in memory never fail."""
        answer = self._request("GET", f"/files/{number}", instance=instance)
        return None if answer is None else answer.data

    def _request(
        self, method: str, path: str, data: bytes = b"", instance: Service | None = None
    ) -> Answer | None:
        away, step = self.away, self.step
        began = time.monotonic()
        chosen = instance or random.choice(self.instances)  # noqa: S311 - no secret
        answer = chosen.request(method, path, data)
        self.steps[step].latencies.append(time.monotonic() - began)
        if chosen.keys is not None:
            self._readers.add(chosen)
        elif method == "GET" and path != "/files":
            self._old_reads.append(path)
        if answer.status == 200:
            return answer
        # A key that is made needs KMS; one that is read is in the cache of every instance by then.
        if away and answer.status == 503 and method != "GET":
            self.refused[method] += 1
            self.slowest = max(self.slowest, time.monotonic() - began)
        else:
            self.failures.append(f"{step}: {method} {path} -> {answer.status}")
        return None

    def _use(self, user: int) -> None:
        mine: list[int] = []
        turn = 0
        while not self._stop.is_set():
            turn += 1
            with self._busy:
                try:
                    self._one_turn(user, turn, mine)
                except Exception as error:
                    # Whatever it is, a user would have seen it.
                    self.failures.append(f"{self.step}: {type(error).__name__}: {error}")
            self._stop.wait(0.1)  # leaves the processor to the others

    def _one_turn(self, user: int, turn: int, mine: list[int]) -> None:
        content = f"file of {user}, version {turn}".encode()
        match turn % 6:
            case 0 if len(mine) < 20:
                if number := self.upload(content):
                    self.contents[number] = content
                    mine.append(number)
            case 1 if mine:
                number = random.choice(mine)  # noqa: S311 - no secret
                if self._request("PUT", f"/files/{number}", content):
                    self.contents[number] = content
            case 2:
                number = random.choice(self.contended)  # noqa: S311 - no secret
                self._request("PUT", f"/files/{number}", CONTENDED + content)
            case 3:
                number = random.choice(self.contended)  # noqa: S311 - no secret
                self._compare(number, self.read(number), CONTENDED)
            case 4:
                self._request("GET", "/files")
            case _ if mine:
                number = random.choice(mine)  # noqa: S311 - no secret
                self._compare(number, self.read(number), self.contents[number])

    def _compare(self, number: int, found: bytes | None, expected: bytes) -> None:
        if found is None:
            return  # counted as a failure already
        right = found.startswith(CONTENDED) if expected == CONTENDED else found == expected
        if not right:
            self.failures.append(f"{self.step}: file {number} has another content")
