"""Exactly once, across kills: each command of a client that retries takes effect once, or not at all.

Every call puts a key of its own, so the version of each key must be 1: a command applied twice would have made it 2.
What a client's error says of the outcome is held against what is there: acknowledged keys are there, failed ones are
not, unknown ones may be. In the long run values are so large that journals are replaced by checkpoints, too.
"""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path

import pytest

from quorate.machines.kv.commands import KeyValue
from quorate.service.client.aio import AsyncClient
from quorate.service.client.errors import NoQuorum, OutcomeUnknown, Unreachable

from tests.cluster import LocalCluster, until
from tests.torture.nemesis import KILLS, PAUSES, Nemesis
from tests.torture.protocols import COMPACTING, PROTOCOLS, cluster_of, in_tiers
from tests.torture.traffic import PROGRESS_TIMEOUT_S, TIMEOUTS_S, Background, known_to
from tests.torture.verify import check_replicas

pytestmark = pytest.mark.torture

CLIENTS = 3
PUTS_AT_ONCE = 8
PAGE_KEYS = 500


class Puts:
    """Clients that put one new key after the other, several at once, so that a fault hits many on their way."""

    def __init__(self, cluster: LocalCluster, pause_s: float, value_bytes: int) -> None:
        self.cluster = cluster
        self.pause_s = pause_s
        self.value_bytes = value_bytes
        self.acknowledged_keys: set[bytes] = set()
        self.failed: set[bytes] = set()
        self.unknown: set[bytes] = set()
        self.background = Background(self._run)

    @property
    def acknowledged(self) -> int:
        return len(self.acknowledged_keys)

    def progress(self, operations: int = 20) -> None:
        """As Traffic's."""
        self.background.check()
        wanted = self.acknowledged + operations
        until(lambda: self.acknowledged >= wanted, f"{operations} more puts answered", PROGRESS_TIMEOUT_S)

    async def _run(self, ending: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(CLIENTS):
                group.create_task(self._client(number, ending))

    async def _client(self, number: int, ending: asyncio.Event) -> None:
        numbers = itertools.count()
        async with (
            AsyncClient(known_to(number, self.cluster), timeout_s=TIMEOUTS_S[number]) as client,
            asyncio.TaskGroup() as group,
        ):
            for _ in range(PUTS_AT_ONCE):
                group.create_task(self._put(client, number, numbers, ending))

    async def _put(
        self, client: AsyncClient, number: int, numbers: itertools.count[int], ending: asyncio.Event
    ) -> None:
        while not ending.is_set():
            key = b"%d/%08d" % (number, next(numbers))
            try:
                await client.put(key, key * (self.value_bytes // len(key)))
                self.acknowledged_keys.add(key)
            except (Unreachable, NoQuorum):
                self.failed.add(key)
            except OutcomeUnknown:
                self.unknown.add(key)
            await asyncio.sleep(self.pause_s)


def found_in(cluster: LocalCluster) -> dict[bytes, KeyValue]:
    """All keys there are; read in pages, without their values."""
    found: dict[bytes, KeyValue] = {}
    with cluster.client(timeout_s=PROGRESS_TIMEOUT_S) as client:
        start = b"\0"
        while True:
            page = client.range(start, b"\0", limit=PAGE_KEYS, keys_only=True)
            found.update((kv.key, kv) for kv in page.kvs)
            if not page.more:
                return found
            start = page.kvs[-1].key + b"\0"


def exactly_once(protocol: str, folder: Path, seed: int, kills: int, pause_s: float, value_bytes: int) -> None:
    with cluster_of(protocol, folder) as cluster:
        puts = Puts(cluster, pause_s, value_bytes)
        with puts.background:
            puts.progress()
            nemesis = Nemesis(cluster, puts, seed)
            nemesis.run(KILLS | PAUSES, kills=kills)
            puts.background.finish()
        check_replicas(cluster)
        found = found_in(cluster)
        checkpoints = sum(cluster.log(node).count("journal: checkpoint of") for node in cluster.ids)
        print(
            f"{protocol}, seed {seed}: {nemesis.kills} kills, {nemesis.pauses} pauses {dict(nemesis.done)}; "
            f"{puts.acknowledged} acknowledged, {len(puts.unknown)} unknown, {len(puts.failed)} failed; "
            f"{len(found)} keys; {checkpoints} journal checkpoints"
        )
    assert not puts.acknowledged_keys - set(found), "acknowledged and lost"
    assert not puts.failed & set(found), "failed for certain, and yet there"
    assert puts.acknowledged <= len(found) <= puts.acknowledged + len(puts.unknown)
    assert all(kv.version == 1 and kv.create_revision == kv.mod_revision for kv in found.values())


@pytest.mark.timeout(150)
@pytest.mark.parametrize("protocol", in_tiers(PROTOCOLS, fast=("raft",)))
def test_each_put_takes_effect_once(protocol: str, tmp_path: Path) -> None:
    exactly_once(protocol, tmp_path, seed=4, kills=4, pause_s=0.05, value_bytes=1 << 10)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_each_put_takes_effect_once_over_many_kills(protocol: str, tmp_path: Path) -> None:
    # What never compacts its log has it in memory, and refuses what its budget has no room for.
    value_bytes = (64 if protocol in COMPACTING else 8) << 10
    kills = 30 if protocol == "raft" else 12
    exactly_once(protocol, tmp_path, seed=5, kills=kills, pause_s=0.02, value_bytes=value_bytes)
