"""What others feel while one client reads a store of a million keys: all of it in pages, a digest, a refused range.

    PYTHONPATH=src:. python bench/large_reads.py [--keys 1000000] [--value-bytes 40] [--page 1000]

Three processes on this machine. The others are a client that puts and one that gets, every 10 ms each, for as long as
the reader needs; `idle` is the same with nobody beside them.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Awaitable, Callable

from quorate import AsyncClient, TooLarge
from quorate.machines.kv import commands as kv

from bench.ours import cluster

PREFIX, END = b"big/", b"big0"


async def load(endpoints: str, keys: int, value: bytes) -> None:
    """So many keys, in transactions of a hundred."""
    async with AsyncClient(endpoints, timeout_s=120.0) as client:
        room = asyncio.Semaphore(32)

        async def write(first: int) -> None:
            async with room:
                numbers = range(first, min(first + 100, keys))
                await client.txn([], [kv.Put(PREFIX + b"%08d" % number, value) for number in numbers])

        await asyncio.gather(*(write(first) for first in range(0, keys, 100)))


async def beside(endpoints: str, work: Callable[[AsyncClient], Awaitable[str]]) -> tuple[str, float, list[float]]:
    """What the work says, its seconds, and the seconds of each put and get beside it."""
    times: list[float] = []

    async def ask(is_put: bool) -> None:
        async with AsyncClient(endpoints, timeout_s=60.0) as client:
            while True:
                started = time.monotonic()
                await (client.put(b"other", b"x") if is_put else client.get(b"other"))
                times.append(time.monotonic() - started)
                await asyncio.sleep(0.01)

    others = [asyncio.create_task(ask(is_put)) for is_put in (True, False)]
    async with AsyncClient(endpoints, timeout_s=120.0) as client:
        await asyncio.sleep(0.5)
        started = time.monotonic()
        said = await work(client)
        seconds = time.monotonic() - started
    for other in others:
        other.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    return said, seconds, sorted(times)


async def measure(endpoints: str, keys: int, page_keys: int) -> None:
    """One line for each kind of work."""

    async def idle(_: AsyncClient) -> str:
        await asyncio.sleep(5.0)
        return "nothing"

    async def pages(client: AsyncClient) -> str:
        page = await client.range(PREFIX, END, limit=page_keys)
        revision, found = page.revision, len(page.kvs)
        while page.more:
            page = await client.range(page.kvs[-1].key + b"\0", END, limit=page_keys, revision=revision)
            found += len(page.kvs)
        assert found == keys, (found, keys)
        return f"{found} keys"

    async def refused(client: AsyncClient) -> str:
        try:
            await client.range(PREFIX, END, keys_only=True)
        except TooLarge:
            return "TooLarge"
        return "an answer"

    async def digest(client: AsyncClient) -> str:
        result = kv.decode_result(await client.query(kv.encode(kv.Digest())))
        return type(result).__name__

    async def delete(client: AsyncClient) -> str:
        return f"{await client.delete(PREFIX, END, in_pages=True)} keys"

    works = {
        "idle": idle,
        f"in pages of {page_keys}": pages,
        "keys_only at once": refused,
        "digest": digest,
        "delete in pages": delete,
    }
    for name, work in works.items():
        said, seconds, times = await beside(endpoints, work)
        p50, p99 = (1e3 * times[int(len(times) * share)] for share in (0.5, 0.99))
        print(
            f"{name:22} {said:14} {seconds:7.2f} s; others: {len(times):6} requests, "
            f"p50 {p50:6.2f} ms, p99 {p99:6.2f} ms, max {1e3 * times[-1]:7.2f} ms",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--value-bytes", type=int, default=40)
    parser.add_argument("--page", type=int, default=1000)
    args = parser.parse_args()
    with cluster("raft", 3) as quorate:
        started = time.monotonic()
        asyncio.run(load(quorate.endpoints, args.keys, bytes(args.value_bytes)))
        print(f"{args.keys} keys in {time.monotonic() - started:.1f} s", flush=True)
        asyncio.run(measure(quorate.endpoints, args.keys, args.page))


if __name__ == "__main__":
    main()
