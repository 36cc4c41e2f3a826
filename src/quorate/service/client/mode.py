"""Mode: how a cluster is to be spoken to, found out from greetings without taking a liar's word for it. Pure.

How it works. Each node says in its Welcome how many nodes its cluster has and how many of them may lie, or that it
bears crashes alone. With at most f liars among those asked, what f + 1 of them say is true. A client that was not told
an f assumes the most that so many addresses can bear, (n - 1) / 3: of up to three the first that answers is believed,
of four two must agree. Whoever gives fewer addresses than the cluster has nodes, and trusts no single one of them, says
what f is.
"""

from __future__ import annotations

from collections.abc import Sequence

from quorate.runtime.handshake import Bears
from quorate.service.client.errors import Refused


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
