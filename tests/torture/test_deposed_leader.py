"""A leader that was stopped, replaced and woken again must not answer with what it remembers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from quorate.service.client.aio import AsyncClient
from quorate.service.client.errors import NoQuorum, QuorateError

from tests.cluster import LocalCluster, until
from tests.torture.protocols import QUICK
from tests.torture.verify import check_replicas

pytestmark = pytest.mark.torture

ROUNDS = 5
READS = 20


def other_leader(cluster: LocalCluster, deposed: int) -> int | None:
    """Who leads instead, once a majority says so."""
    statuses = cluster.statuses()
    named = [status.leader for status in statuses.values() if status.leader not in (None, deposed)]
    return named[0] if 2 * len(named) > cluster.layout.nodes else None


async def woken(
    cluster: LocalCluster, leader: int, read: Callable[[AsyncClient], Coroutine[Any, Any, Any]]
) -> list[Any]:
    """Answers of a deposed leader to requests that lay in its socket when it woke.

    They are there when it wakes, as soon as the first message of the new leader, or sooner.
    """
    address = cluster.layout.client(leader)
    async with AsyncClient([address], timeout_s=5.0) as client:
        assert (await client.get(b"k")) is not None  # connected, and it led
        cluster.pause(leader)
        await asyncio.to_thread(until, lambda: other_leader(cluster, leader), "another leader")
        others = [cluster.layout.client(node) for node in cluster.ids if node != leader]
        async with AsyncClient(others) as elsewhere:
            await elsewhere.put(b"k", b"new")
        asked = [asyncio.ensure_future(read(client)) for _ in range(READS)]
        await asyncio.sleep(0)  # they go to the socket
        cluster.resume(leader)
        return await asyncio.gather(*asked, return_exceptions=True)


def test_reads_of_a_deposed_leader_are_new_or_refused(tmp_path: Path) -> None:
    with LocalCluster(tmp_path / "cluster", options=QUICK) as cluster, cluster.client() as client:
        new = 0
        for _ in range(ROUNDS):
            client.put(b"k", b"old")
            answers = asyncio.run(woken(cluster, cluster.leader(), lambda client: client.get(b"k")))
            assert len(answers) == READS
            for answer in answers:
                if isinstance(answer, BaseException):
                    assert isinstance(answer, NoQuorum), answer
                else:
                    assert answer is not None
                    assert answer.value == b"new"
                    new += 1
            until(lambda: len(cluster.statuses()) == 3, "all serve")
        assert new
        check_replicas(cluster)


def test_writes_at_a_deposed_leader_are_applied_by_the_new_one_or_not_at_all(tmp_path: Path) -> None:
    with LocalCluster(tmp_path / "cluster", options=QUICK) as cluster, cluster.client() as client:
        client.put(b"k", b"old")
        answers = asyncio.run(woken(cluster, cluster.leader(), lambda client: client.put(b"k", b"late")))
        revisions = [answer for answer in answers if isinstance(answer, int)]
        assert all(isinstance(answer, int | QuorateError) for answer in answers), answers
        assert len(set(revisions)) == len(revisions)
        found = client.get(b"k")
        assert found is not None
        assert found.value == (b"late" if revisions else found.value)
        assert len(revisions) <= found.version - 2 <= READS
        check_replicas(cluster)
