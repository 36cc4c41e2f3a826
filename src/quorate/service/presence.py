"""Presence: whether enough other nodes serve, so that this one may throw a damaged memory away.

What ails one node may ail all of them: a release that does not fit, a folder that somebody deleted everywhere. A
cluster of which most nodes have forgotten at once is lost, where it might have been mended by hand. So a node forgets
only if a majority of all nodes besides it has its state and a vote that counts, by their own words. A node whose damage
is not found yet has not loaded its state, and one that has forgotten is a learner.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Final

from quorate.service.client.errors import QuorateError
from quorate.service.client.link import ask_node
from quorate.service.config import NodeConfig
from quorate.service.requests import DECODE_ERRORS, AskStatus, Status, decode_response, encode

WAIT_S: Final = 30.0
"""The others may be starting as well."""
ANSWER_S: Final = 1.0
AGAIN_S: Final = 0.3
VOTES: Final = ("leader", "follower")


def why_not_forget(config: NodeConfig) -> str:
    """Why a node of this configuration must keep its memory, however damaged; empty: it need not. Blocks for WAIT_S."""
    others = [place.client for node, place in config.nodes.items() if node != config.node]
    wanted = len(config.nodes) // 2 + 1
    found = asyncio.run(_wait_for(others, wanted, config.cluster))
    if found >= wanted:
        return ""
    return f"{found} of the other nodes serve, and {wanted} must: start it again when they do"


async def _wait_for(addresses: Sequence[str], wanted: int, cluster: str) -> int:
    ends = time.monotonic() + WAIT_S
    while True:
        found = sum(await asyncio.gather(*(_serves(address, cluster) for address in addresses)))
        if found >= wanted or time.monotonic() >= ends:
            return found
        await asyncio.sleep(AGAIN_S)


async def _serves(address: str, cluster: str) -> bool:
    try:
        status = decode_response(await ask_node(address, encode(AskStatus(0)), ANSWER_S, cluster))
    except (QuorateError, *DECODE_ERRORS):
        return False
    return isinstance(status, Status) and status.role in VOTES and status.applied_index > 0 and status.stalled is None
