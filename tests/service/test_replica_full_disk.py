"""The Replica when its machine's working storage has no space, and when answers to reads are many."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from quorate.parts.log.replicated import ReadReady
from quorate.service.replica import BATCH_MAX
from quorate.service.requests import Code, Failure, OpenSession, Query, Result

from tests.service.replicas import Bench, put


class Disk:
    """Makes a machine's commits fail while ``error`` is set."""

    def __init__(self, bench: Bench) -> None:
        self.error: OSError | None = None
        self._commit = bench.machine.commit
        bench.machine.commit = self._try  # type: ignore[method-assign]

    def _try(self) -> None:
        if self.error is not None:
            raise self.error
        self._commit()


@pytest.fixture
def bench() -> Bench:
    """A replica with one session, 1, whose batch is open."""
    made = Bench()
    made.commit(OpenSession(99))
    return made


@pytest.mark.parametrize("is_serializable", [True, False])
def test_a_full_disk_refuses_a_read_and_keeps_the_batch(bench: Bench, is_serializable: bool) -> None:
    disk = Disk(bench)
    disk.error = OSError(errno.ENOSPC, "no space")
    bench.commit(put(1, 1))
    bench.request("ann", Query(5, b"q", is_serializable))
    if not is_serializable:
        bench.replica.output(ReadReady((0,)))
    [(client, answer)] = bench.settle()
    assert (client, answer.id, answer.code) == ("ann", 5, Code.STORAGE)
    assert isinstance(answer, Failure)
    assert "no space" in answer.why
    disk.error = None
    bench.request("ann", Query(6, b"q", True))
    assert bench.settle() == [("ann", Result(6, b"1 stored for q"))]


def test_a_batch_that_is_large_waits_for_space(bench: Bench) -> None:
    disk = Disk(bench)
    disk.error = OSError(errno.EDQUOT, "no quota")
    bench.commit(*(put(1, serial, answered_below=serial) for serial in range(1, 2 * BATCH_MAX)))
    bench.settle()
    assert bench.machine.stored == 0
    disk.error = None
    bench.settle()
    assert bench.machine.stored == 2 * BATCH_MAX - 1


def test_a_disk_that_fails_is_not_taken_for_a_full_one(bench: Bench) -> None:
    Disk(bench).error = OSError(errno.EIO, "broken")
    bench.request("ann", Query(5, b"q", True))
    with pytest.raises(OSError, match="broken"):
        bench.replica.settle()


def test_each_answer_to_a_read_leaves_before_the_next_is_made(bench: Bench) -> None:
    """So the shell can bound what waits for a client that asks much and reads nothing."""
    steps: list[Any] = []
    ask, reply = bench.machine.query, bench.port.reply

    def asked(query: bytes) -> bytes:
        steps.append(query)
        return ask(query)

    def replied(client: Any, response: Any) -> None:
        steps.append(client)
        reply(client, response)

    bench.machine.query, bench.port.reply = asked, replied  # type: ignore[method-assign]
    bench.request("ann", Query(1, b"q1", True))
    bench.request("bob", Query(2, b"q2"))
    bench.request("eve", Query(3, b"q3", True))
    bench.replica.output(ReadReady((0,)))
    bench.settle()
    assert steps == [b"q1", "ann", b"q3", "eve", b"q2", "bob"]
