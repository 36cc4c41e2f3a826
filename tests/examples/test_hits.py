"""examples/hits: three gunicorn workers, forked after the import, count in one place; one of them is killed."""

from __future__ import annotations

import http.client
import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.cluster import until
from tests.examples.programs import EXAMPLES, PATIENCE_S, nodes, program
from tests.ports import free_ports

for package in ("flask", "gunicorn"):
    pytest.importorskip(package, reason=f"examples/hits needs {package}")

WORKERS, VISITS = 3, 60


def ask(port: int, method: str, page: str) -> dict[str, int]:
    """One request over a connection of its own, which any worker may answer. Raises OSError if nobody listens."""
    line = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    try:
        line.request(method, f"/{page}")
        answer = line.getresponse()
        text = answer.read()
        assert answer.status == 200, text
        found: dict[str, int] = json.loads(text)
        return found
    finally:
        line.close()


def workers(port: int, others_than: frozenset[int] = frozenset()) -> frozenset[int]:
    """The process ids of all workers, as soon as so many answer, none of them among ``others_than``."""
    found: set[int] = set()

    def all_there() -> bool:
        try:
            found.add(ask(port, "GET", "front")["worker"])
        except OSError:
            return False
        return len(found - others_than) == WORKERS

    until(all_there, f"{WORKERS} workers that answer", PATIENCE_S)
    return frozenset(found - others_than)


def visits(port: int, count: int) -> list[dict[str, int]]:
    """The answers to so many visits of the front page, some at the same time."""
    with ThreadPoolExecutor(2 * WORKERS) as threads:
        return list(threads.map(lambda _: ask(port, "POST", "front"), range(count)))


@pytest.mark.parametrize("options", [[], ["--preload"]], ids=["", "preload"])
def test_forked_workers_count_in_one_place(options: list[str], tmp_path: Path) -> None:
    port = free_ports(1)[0]
    command = ["-m", "gunicorn", "--chdir", str(EXAMPLES / "hits"), "app:app", f"--workers={WORKERS}", *options]
    settings = [f"--bind=127.0.0.1:{port}", "--worker-tmp-dir", str(tmp_path)]
    with (
        nodes("hits.hits:Hits", tmp_path) as endpoints,
        program(*command, *settings, log=tmp_path / "app.log", ENDPOINTS=endpoints),
    ):
        before = workers(port)
        answers = visits(port, VISITS)
        assert sorted(answer["hits"] for answer in answers) == list(range(1, VISITS + 1))

        killed = min(before)
        os.kill(killed, signal.SIGKILL)
        after = workers(port, frozenset({killed}))
        assert after - before, "gunicorn started another"
        answers = visits(port, VISITS)
        assert sorted(answer["hits"] for answer in answers) == list(range(VISITS + 1, 2 * VISITS + 1))
        assert {ask(port, "GET", "front")["hits"] for _ in range(WORKERS)} == {2 * VISITS}
        assert ask(port, "GET", "back")["hits"] == 0
