"""examples/limiter: three uvicorn workers, one limit."""

from __future__ import annotations

import http.client
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.cluster import until
from tests.examples.programs import EXAMPLES, PATIENCE_S, nodes, program
from tests.ports import free_ports

for package in ("fastapi", "uvicorn"):
    pytest.importorskip(package, reason=f"examples/limiter needs {package}")

WORKERS, REQUESTS, LIMIT = 3, 300, 100


class Caller:
    """A connection that is kept open, and so leads to one worker."""

    def __init__(self, port: int) -> None:
        self._http = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
        self._http.connect()
        self._http.auto_open = 0  # an error rather than another connection, which might lead to another worker
        self.worker = json.loads(self.get("/worker")[1])["worker"]

    def get(self, path: str, **headers: str) -> tuple[int, bytes]:
        """Status and body."""
        self._http.request("GET", path, headers=headers)
        answer = self._http.getresponse()
        return answer.status, answer.read()

    def statuses(self, key: str, count: int) -> list[int]:
        """Of so many requests of a key, one after another."""
        return [self.get("/", **{"X-API-Key": key})[0] for _ in range(count)]

    def close(self) -> None:
        """Hang up."""
        self._http.close()


def caller_of_each_worker(port: int) -> list[Caller]:
    """Connections to all workers, as soon as all of them are there."""
    found: dict[int, Caller] = {}

    def all_there() -> bool:
        try:
            caller = Caller(port)
        except OSError:
            return False  # not even one worker listens yet
        if found.setdefault(caller.worker, caller) is not caller:
            caller.close()
        return len(found) == WORKERS

    until(all_there, f"{WORKERS} workers that answer", PATIENCE_S)
    return list(found.values())


def test_of_300_requests_to_three_workers_exactly_100_pass(tmp_path: Path) -> None:
    port = free_ports(1)[0]
    command = ["-m", "uvicorn", "--app-dir", str(EXAMPLES / "limiter"), "app:app", "--workers", f"{WORKERS}"]
    options = [f"--port={port}", f"--timeout-keep-alive={PATIENCE_S:.0f}"]
    with (
        nodes("limiter.limits:ApiLimiter", tmp_path) as endpoints,
        program(*command, *options, log=tmp_path / "app.log", ENDPOINTS=endpoints),
    ):
        callers = caller_of_each_worker(port)
        with ThreadPoolExecutor(WORKERS) as threads:
            shares = list(threads.map(lambda caller: caller.statuses("ann", REQUESTS // WORKERS), callers))
        statuses = sorted(status for share in shares for status in share)
        assert statuses == [200] * LIMIT + [429] * (REQUESTS - LIMIT)
        assert [caller.statuses("bob", 1) for caller in callers] == [[200]] * WORKERS, "each key has its own limit"
        assert callers[0].get("/")[0] == 422, "no key, no limit to count for"
