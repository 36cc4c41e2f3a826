"""Mode: how a cluster is to be spoken to, found out from greetings without taking a liar's word for it.

How it works. Each node says in its Welcome how many nodes its cluster has and how many of them may lie, or that it
bears crashes alone. With at most f liars among those asked, what f + 1 of them say is true. A client that was not told
an f assumes the most that so many addresses can bear, (n - 1) / 3: of up to three the first that answers is believed,
of four two must agree. Whoever gives fewer addresses than the cluster has nodes, and trusts no single one of them, says
what f is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from quorate.runtime.handshake import Bears
from quorate.service.client.errors import Refused, Unreachable
from quorate.service.client.link import dial

AGAIN_S: Final = 0.05
AGAIN_S_MAX: Final = 1.0


def believed_from(addresses: Sequence[str], faults: int | None) -> int:
    """How many nodes must say the same. Raises ValueError for a number of faults that such addresses cannot bear."""
    if faults is None:
        return (len(addresses) - 1) // 3 + 1
    if not 0 <= faults < len(addresses):
        raise ValueError(
            f"with {faults} lying nodes {faults + 1} others must agree, and there are {len(addresses)} endpoints: "
            "give the address of every node"
        )
    return faults + 1


def faults_of(bears: Bears | None, faults: int | None, addresses: Sequence[str]) -> int:
    """How many liars to outvote, given what is believed of the cluster and what was asked for. Raises Refused."""
    if bears is None:
        raise Refused(f"these nodes bear crashes alone, and no answer of theirs outvotes {faults} liars")
    wanted = bears.liars if faults is None else faults
    if wanted >= len(addresses):
        raise Refused(
            f"this cluster bears {bears.liars} lying nodes, so that {wanted + 1} must say the same, and there are "
            f"{len(addresses)} endpoints: give the address of every node, or say how many faults you expect of these"
        )
    return wanted


class Greetings:
    """Asks all addresses again and again until enough of them say the same. ``why``: what is in the way."""

    def __init__(self, addresses: Sequence[str], needed: int, timeout_s: float) -> None:
        self._addresses = addresses
        self._needed = needed
        self._timeout_s = timeout_s
        self._said: dict[str, Bears | None] = {}
        self.why = ""

    async def agreed(self) -> Bears | None:
        """What the cluster bears, by so many nodes; None: crashes alone. Waits for as long as it takes."""
        asking = [asyncio.ensure_future(self._ask(address)) for address in self._addresses]
        try:
            for answered in asyncio.as_completed(asking):
                bears = await answered
                if sum(other == bears for other in self._said.values()) >= self._needed:
                    return bears
            self.why = f"the nodes do not agree on how many liars they bear: {self._said}"
            await asyncio.Event().wait()  # somebody must mend that
            raise AssertionError
        finally:
            for task in asking:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)

    async def _ask(self, address: str) -> Bears | None:
        delay_s = AGAIN_S
        while True:
            try:
                link, _ = await dial(address, lambda _: None, self._timeout_s)
            except Unreachable as error:
                self.why = f"{len(self._said)} nodes have answered, {self._needed} must; {error}"
                await asyncio.sleep(delay_s)
                delay_s = min(2 * delay_s, AGAIN_S_MAX)
                continue
            self._said[address] = link.bears
            link.close("has heard what it asked for")
            return link.bears
