"""One client reads a large store as fast as it can, and others do not feel it: no election, and quick answers."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from quorate.machines.kv import commands as kv
from quorate.service.client.aio import AsyncClient
from quorate.service.client.errors import TooLarge

from tests.cluster import LocalCluster

pytestmark = pytest.mark.torture

PAGE_KEYS = 1000
RANGE = (b"big/", b"big0")
PATIENT = "[raft]\nelection_timeout_s_min = 2.0"
"""By default followers wait for 0.6 s, and a machine that is busy with other things can hold a leader up for that."""
FELT_S = 1.0
FELT_SHARE = 0.1
"""Of the read's own time, on a machine where that takes long."""
"""Less than a large read takes at one go, and far more than others wait: ``bench/large_reads.py`` measures that."""


async def load(client: AsyncClient, keys: int) -> None:
    async def write(first: int) -> None:
        async with room:
            await client.txn([], [kv.Put(b"big/%08d" % number, bytes(40)) for number in range(first, first + 100)])

    room = asyncio.Semaphore(32)
    await asyncio.gather(*(write(first) for first in range(0, keys, 100)))


async def read(client: AsyncClient, keys: int) -> None:
    """All of it in pages of one revision; then at once, which is refused; then its digest."""
    page = await client.range(*RANGE, limit=PAGE_KEYS)
    revision, found = page.revision, len(page.kvs)
    while page.more:
        page = await client.range(page.kvs[-1].key + b"\0", RANGE[1], limit=PAGE_KEYS, revision=revision)
        found += len(page.kvs)
    assert found == keys
    for keys_only in (False, True):
        with pytest.raises(TooLarge):
            await client.range(*RANGE, keys_only=keys_only)
    assert isinstance(kv.decode_result(await client.query(kv.encode(kv.Digest()))), kv.DigestResult)


async def others(client: AsyncClient, times: list[float]) -> None:
    """A put and a get, again and again; the seconds that each took."""
    while True:
        for call in (partial(client.put, b"other", b"x"), partial(client.get, b"other")):
            started = time.monotonic()
            await call()
            times.append(time.monotonic() - started)
        await asyncio.sleep(0.01)


async def read_beside_others(cluster: LocalCluster, keys: int) -> tuple[float, list[float]]:
    """The seconds that the read took, and each operation of another client meanwhile, in order."""
    endpoints = cluster.endpoints
    async with AsyncClient(endpoints, timeout_s=60.0) as reader, AsyncClient(endpoints, timeout_s=60.0) as client:
        await load(reader, keys)
        times: list[float] = []
        task = asyncio.create_task(others(client, times))
        began = time.monotonic()
        try:
            await read(reader, keys)
            took = time.monotonic() - began
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        return took, sorted(times)


@pytest.mark.slow
@pytest.mark.parametrize("keys", [100_000, 1_000_000], ids=["100,000", "a million"])
def test_others_do_not_feel_a_large_read(tmp_path: Path, keys: int) -> None:
    with LocalCluster(tmp_path / "cluster", options=PATIENT) as cluster:
        terms = {status.term for status in cluster.statuses().values()}
        took, times = asyncio.run(read_beside_others(cluster, keys))
        assert len(times) > 50
        assert times[int(len(times) * 0.99)] < max(FELT_S, FELT_SHARE * took)
        assert {status.term for status in cluster.statuses().values()} == terms
