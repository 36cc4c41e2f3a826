"""Who leads, by what nodes say. Pure."""

from __future__ import annotations

from typing import NamedTuple

from quorate.service.client.membership import Statuses
from quorate.service.requests import Status


class LeaderFound(NamedTuple):
    """A node that leads, by what nodes say, and where clients reach it: None if it is at none of the endpoints."""

    node: int
    term: int
    address: str | None


def leading(statuses: Statuses, faults: int) -> LeaderFound | None:
    """Who leads: in the newest term of which ``faults + 1`` nodes name the same leader; None if there is none such."""
    said: dict[tuple[int, int], int] = {}
    addresses: dict[int, str] = {}
    for address, status in statuses:
        if isinstance(status, Status):
            addresses.setdefault(status.node, address)
            if status.leader is not None:
                named = (status.term, status.leader)
                said[named] = said.get(named, 0) + 1
    believed = [named for named, count in said.items() if count > faults]
    if not believed:
        return None
    term, node = max(believed)
    return LeaderFound(node, term, addresses.get(node))
