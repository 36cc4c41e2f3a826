"""Payments a second over a replicated log, from wallet to final: `python -m bench.payments`.

Three nodes of `quorate up --ledger` on this machine, with data on disk. Each sender has wallets of its own, signs a
batch of payments, and sends the next one when the last is in a block, which is final then. Every node checks each
signature itself. ``cpu_ms`` is that of the nodes for one payment; ``sender_cpu_ms`` is signing and sending.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from quorate.service.ledger.ledger_client import LedgerClient
from quorate.service.ledger.wallets import Wallet, open_wallet

from bench.ours import BASE_PORTS, COMMAND
from bench.processes import cpu_seconds

AMOUNT = 1_000_000
FUNDED_AT_ONCE = 500


@contextmanager
def ledger(protocol: str, nodes: int) -> Iterator[tuple[list[str], list[int], Path]]:
    """A fresh cluster: endpoints, processes, the wallet that has all the money."""
    environment = {**os.environ, "QUORATE_WALLET_PASSWORD": ""}
    for base in BASE_PORTS:
        with tempfile.TemporaryDirectory() as folder:
            data = Path(folder) / "data"
            command = [*COMMAND, "up", "--ledger", "--json", "--protocol", protocol, "--nodes", str(nodes)]
            command += ["--data", str(data), "--base-port", str(base)]
            with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as up:
                assert up.stdout is not None
                line = up.stdout.readline()
                if line:
                    try:
                        ready = json.loads(line)
                        yield ready["endpoints"], [node["pid"] for node in ready["nodes"]], data / "treasury.wallet"
                    finally:
                        up.terminate()
                    return
    raise RuntimeError("no cluster could be started; try `quorate up --ledger --ephemeral` to see why")


class Sender:
    """Some wallets, which pay each other in turn."""

    def __init__(self, wallets: list[Wallet], chain: bytes, fee: int, batch: int) -> None:
        self._wallets = wallets
        self._chain = chain
        self._fee = fee
        self._batch = batch
        self._paid = 0
        self.final = 0
        self.took_s: list[float] = []

    def _next(self) -> list[bytes]:
        payments = []
        for number in range(self._paid, self._paid + self._batch):
            nonce, place = divmod(number, len(self._wallets))
            to = self._wallets[(place + 1) % len(self._wallets)].address
            payments.append(self._wallets[place].pay(self._chain, nonce, to, 1, self._fee))
        self._paid += self._batch
        return payments

    async def run(self, endpoints: list[str], until_s: float) -> None:
        """One batch after the other."""
        async with LedgerClient(endpoints, timeout_s=30.0) as client:
            while time.perf_counter() < until_s:
                began_s = time.perf_counter()
                made = await client.send(self._next())
                assert not made.skipped, made.skipped[0]
                self.took_s.append(time.perf_counter() - began_s)
                self.final += self._batch


async def fund(endpoints: list[str], treasury: Wallet, wallets: list[Wallet]) -> tuple[bytes, int]:
    """Give all of them money; the chain, and its least fee."""
    async with LedgerClient(endpoints, timeout_s=30.0) as client:
        head = await client.head()
        for at in range(0, len(wallets), FUNDED_AT_ONCE):
            some = enumerate(wallets[at : at + FUNDED_AT_ONCE], at)
            made = await client.send(
                [treasury.pay(head.chain, nonce, wallet.address, AMOUNT, head.fee_min) for nonce, wallet in some]
            )
            assert not made.skipped, made.skipped[0]
        return head.chain, head.fee_min


async def measure(
    endpoints: list[str], pids: list[int], treasury: Path, arguments: argparse.Namespace
) -> dict[str, Any]:
    """With all senders at once."""
    wallets = [Wallet(os.urandom(32)) for _ in range(arguments.accounts)]
    chain, fee = await fund(endpoints, open_wallet(treasury, ""), wallets)
    each = len(wallets) // arguments.senders
    senders = [
        Sender(wallets[at * each : (at + 1) * each], chain, fee, arguments.batch) for at in range(arguments.senders)
    ]
    began_s, nodes_s, own_s = time.perf_counter(), cpu_seconds(pids), time.process_time()
    until_s = began_s + arguments.seconds
    await asyncio.gather(*(sender.run(endpoints, until_s) for sender in senders))
    elapsed_s = time.perf_counter() - began_s
    final = sum(sender.final for sender in senders)
    took_ms = sorted(1000 * took_s for sender in senders for took_s in sender.took_s)
    return {
        "payments_per_s": final / elapsed_s,
        "batch_ms_p50": took_ms[len(took_ms) // 2],
        "batch_ms_p99": took_ms[len(took_ms) * 99 // 100],
        "cpu_ms": 1000 * (cpu_seconds(pids) - nodes_s) / final,
        "sender_cpu_ms": 1000 * (time.process_time() - own_s) / final,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.payments", description=__doc__.splitlines()[0])
    parser.add_argument("--protocol", default="raft")
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--accounts", type=int, default=1000)
    parser.add_argument("--senders", type=int, default=8)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=10.0)
    arguments = parser.parse_args()
    with ledger(arguments.protocol, arguments.nodes) as (endpoints, pids, treasury):
        figures = asyncio.run(measure(endpoints, pids, treasury, arguments))
    print(json.dumps({**vars(arguments), **figures}, indent=2))


if __name__ == "__main__":
    main()
