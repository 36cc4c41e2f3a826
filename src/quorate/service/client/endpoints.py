"""Endpoints: the addresses a client knows, which node each was found to be, and where to turn next. Pure."""

from collections.abc import Iterable

from quorate.runtime.address import parse_address

DEFAULT_ENDPOINTS = ("127.0.0.1:7401", "127.0.0.1:7402", "127.0.0.1:7403")
"""What ``quorate up`` serves."""


class Endpoints:
    """The list, in the order given; it is never empty."""

    def __init__(self, addresses: str | Iterable[str]) -> None:
        parts = addresses.split(",") if isinstance(addresses, str) else list(addresses)
        self.addresses = tuple(dict.fromkeys(part.strip() for part in parts if part.strip()))
        if not self.addresses:
            raise ValueError("no endpoints: give host:port of at least one node")
        for address in self.addresses:
            parse_address(address)
        self._nodes: dict[str, int] = {}
        self._failed: set[str] = set()
        self._leader: int | None = None
        self._position = 0

    @property
    def position(self) -> int:
        """The place of the current address."""
        return self._position

    @property
    def current(self) -> str:
        """Where to connect."""
        return self.addresses[self._position]

    def found(self, node: int) -> None:
        """The current address turned out to be this node."""
        self._nodes[self.current] = node
        self._failed.discard(self.current)

    def failed(self) -> None:
        """The current address could not be reached, or is no use now: try the one after it."""
        self._failed.add(self.current)
        self.next()

    def next(self) -> None:
        """Try the one after the current."""
        self._position = (self._position + 1) % len(self.addresses)

    def prefer(self, leader: int | None) -> bool:
        """Turn to the node that leads; True if that is another address than the current.

        Where its address is not known yet, turn to the next of which nothing is known. Never turn to one that failed
        since this leader was first heard of: that would leave, again and again, a follower that passes requests on.
        """
        if leader is None:
            return False
        if leader != self._leader:
            self._leader = leader
            self._failed.clear()
        if self._nodes.get(self.current) == leader:
            return False
        count = len(self.addresses)
        others = [(self._position + step) % count for step in range(1, count)]
        nodes = {at: self._nodes.get(self.addresses[at]) for at in others if self.addresses[at] not in self._failed}
        for wanted in (leader, None):
            for position, node in nodes.items():
                if node == wanted:
                    self._position = position
                    return True
        return False
