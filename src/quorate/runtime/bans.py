"""Bans: keys, hosts and addresses that get no link for a while. Time is an argument."""

from __future__ import annotations

import heapq
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from typing import Final, NamedTuple

from quorate.runtime.address import literal

BANS_MAX: Final = 4096
WHY_CHARACTERS_MAX: Final = 200
NETWORK_BITS: Final = 64
"""Of an IPv6 address: whoever has one address has the rest of these, so they count as one host."""


class Ban(NamedTuple):
    """Until when, and what for."""

    until: float
    why: str


class Bans:
    """What is banned: a key (bytes), a host (as ``host_of`` spells it) or an address (host, port)."""

    def __init__(self, count_max: int = BANS_MAX) -> None:
        self._count_max = count_max
        self._bans: dict[bytes | str | tuple[str, int], Ban] = {}

    def add(self, whom: bytes | str | tuple[str, int], until: float, why: str) -> None:
        """Ban until a time. A ban that lasts longer stays. Of too many, those that end first are given up."""
        old = self._bans.get(whom)
        if old is not None and old.until >= until:
            return
        self._bans[whom] = Ban(until, why[:WHY_CHARACTERS_MAX])
        if len(self._bans) > self._count_max:
            spare = self._count_max // 8 + 1  # some at once, so that not each new one costs a search
            for whom in heapq.nsmallest(spare, self._bans, key=lambda each: self._bans[each].until):
                del self._bans[whom]

    def why_not(self, whom: bytes | str | tuple[str, int], now: float) -> str | None:
        """Why nobody talks to them now, and for how long; None if they are not banned."""
        ban = self._bans.get(whom)
        if ban is None:
            return None
        if ban.until <= now:
            del self._bans[whom]
            return None
        return f"banned for another {ban.until - now:.0f} s: {ban.why}"

    def __len__(self) -> int:
        return len(self._bans)


def host_of(address: str) -> str:
    """What counts as one host: an IPv4 address, or the network of an IPv6 address; a name is itself."""
    found = literal(address)
    if isinstance(found, IPv6Address):
        found = found.ipv4_mapped or found
    if isinstance(found, IPv6Address):
        return str(IPv6Network((int(found) >> NETWORK_BITS << NETWORK_BITS, NETWORK_BITS)))
    return str(found) if isinstance(found, IPv4Address) else address
