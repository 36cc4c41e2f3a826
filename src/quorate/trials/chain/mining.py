"""Mining in virtual time: nobody hashes, and whoever mines waits as long as a miner would.

How it works. The job ``Mine`` ends after an exponential time, whose mean is that of the whole network over the node's
share of it. Such a time has no memory, so a new head may cancel the job and begin another without changing anything.
The nonce that it gives is real: on a chain of which every second hash is good enough, two are tried.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from msgspec.structs import replace

from quorate.kernel import Job
from quorate.ledger.sealer.proof_of_work import Mine, Mined, hash_number
from quorate.sim.jobs import Pending, Worker

INTERVAL_S: Final = 1.0
"""Between two blocks of all nodes, on average."""


class Miners:
    """Of ``nodes`` nodes with equal shares. ``now`` gives the time of the world."""

    def __init__(self, nodes: int, interval_s: float = INTERVAL_S) -> None:
        self.found_at: list[tuple[float, int]] = []
        """When each block was found, and by whom."""
        self.now: Callable[[], float] = float
        self._mean_s = interval_s * nodes

    def mine(self, node: Worker, job: Job) -> Pending:
        """A doer of jobs, as the simulator has them."""
        work: Mine = job.work
        target = int.from_bytes(work.target, "big")

        def end() -> Mined:
            draft = replace(work.draft, nonce=node.rng.getrandbits(32))
            while hash_number(draft.id) > target:
                draft = replace(draft, nonce=(draft.nonce + 1) % 2**32)
            self.found_at.append((self.now(), node.id))
            return Mined(draft.nonce, draft.time_s)

        return Pending(end, node.rng.expovariate(1.0 / self._mean_s))
