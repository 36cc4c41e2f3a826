"""Transactions by broadcast_tx_sync over keep-alive connections, and what came of them, read from the blocks.

A transaction is ``key=value`` of the kvstore, with its number and the time it was sent in the key. A block counts from
when a node first says that it has it, which is asked every 20 ms. The same for every system.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from base64 import b64decode, b64encode
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any, Final

from bench.processes import cpu_seconds

POLL_S: Final = 0.02
DRAIN_S: Final = 6.0
"""What was accepted may come into a block after the last was sent."""
REFUSED_S: Final = 0.02
"""A client whose transaction finds no room waits so long."""
LENGTH: Final = re.compile(rb"(?i)content-length: *(\d+)")


class Client:
    """One connection to one node's RPC."""

    async def open(self, port: int) -> Client:
        """Raises OSError."""
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 27)
        return self

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        """The answer, with its result or error."""
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
        head = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        self._writer.write(head % len(body) + body)
        found = LENGTH.search(await self._reader.readuntil(b"\r\n\r\n"))
        answer: dict[str, Any] = json.loads(
            await (self._reader.readexactly(int(found[1])) if found else self._chunks())
        )
        return answer

    async def _chunks(self) -> bytes:
        parts = []
        while size := int(await self._reader.readline(), 16):
            parts.append((await self._reader.readexactly(size + 2))[:-2])
        await self._reader.readline()
        return b"".join(parts)

    async def height(self) -> int:
        """The last block."""
        return int((await self.call("status"))["result"]["sync_info"]["latest_block_height"])


class Load:
    """``clients`` connections, spread over the nodes; ``rate`` a second of all together, or as fast as answers come."""

    def __init__(self, ports: Sequence[int], pids: Sequence[int], clients: int, size: int, rate: float | None) -> None:
        self._ports, self._pids = ports, pids
        self._clients, self._size, self._rate = clients, size, rate
        self._serial: Iterator[int] = count()
        self._refused: Counter[str] = Counter()
        self._first_seen: dict[int, float] = {}
        self._accepted = 0

    async def run(self, seconds: float) -> dict[str, Any]:
        """For so long. Raises OSError, RuntimeError."""
        clients = [await Client().open(self._ports[number % len(self._ports)]) for number in range(self._clients)]
        base = await clients[0].height()
        cpu, began = cpu_seconds(self._pids), time.time()
        watching = asyncio.create_task(self._watch(base, began + seconds + DRAIN_S))
        await asyncio.gather(*(self._send(client, number, began, seconds) for number, client in enumerate(clients)))
        ended = time.time()
        await watching
        spent_s = cpu_seconds(self._pids) - cpu
        return await self._report(ended, ended - began, spent_s)

    async def _send(self, client: Client, number: int, began: float, seconds: float) -> None:
        following = began + (number / self._rate if self._rate else 0)
        while (now := time.time()) < began + seconds:
            if self._rate:
                await asyncio.sleep(max(0.0, following - now))
                following += self._clients / self._rate
            tx = f"{next(self._serial)}.{time.time():.6f}=".ljust(self._size, "x").encode()
            answer = await client.call("broadcast_tx_sync", tx=b64encode(tx).decode())
            if "error" in answer:
                self._refused[str(answer["error"].get("data"))[:40]] += 1
                await asyncio.sleep(REFUSED_S)
            else:
                self._accepted += answer["result"]["code"] == 0

    async def _watch(self, base: int, until: float) -> None:
        client = await Client().open(self._ports[1])
        while time.time() < until:
            height = await client.height()
            for fresh in range(base + 1, height + 1):
                self._first_seen[fresh] = time.time()
            base = max(base, height)
            await asyncio.sleep(POLL_S)

    async def _report(self, ended: float, lasted_s: float, spent_s: float) -> dict[str, Any]:
        reader = await Client().open(self._ports[0])
        within = decided = 0
        waited: list[float] = []
        for height, seen in sorted(self._first_seen.items()):
            block = (await reader.call("block", height=str(height)))["result"]["block"]
            txs = [b64decode(tx).partition(b"=")[0] for tx in block["data"]["txs"] or ()]
            decided += len(txs)
            within += len(txs) if seen <= ended else 0
            waited += [seen - float(tx.partition(b".")[2]) for tx in txs]
        if not decided:
            raise RuntimeError("no transaction came into a block: the figures would mean nothing")
        waited.sort()
        return {
            "tx_per_s": within / lasted_s,
            "latency_ms_p50": waited[len(waited) // 2] * 1000,
            "latency_ms_p99": waited[len(waited) * 99 // 100] * 1000,
            "cpu_ms_per_tx": spent_s / decided * 1000,
            "blocks": len(self._first_seen),
            "accepted": self._accepted,
            "decided": decided,
            "refused": dict(self._refused),
        }
