"""Tally: counts votes as a bit mask and fires once."""

from quorate.parts.quorum import QuorumSystem


class Tally:
    """The nodes that voted one way. A node counts once, however often its vote comes."""

    __slots__ = ("_fired", "_quorum", "nodes")

    def __init__(self, quorum: QuorumSystem) -> None:
        self._quorum = quorum
        self._fired = False
        self.nodes = 0

    def __contains__(self, node: int) -> bool:
        return bool(self.nodes >> node & 1)

    def add(self, node: int) -> bool:
        """Count the node's vote; True only for the vote that completes the quorum."""
        self.nodes |= 1 << node
        if self._fired or not self._quorum.is_quorum(self.nodes):
            return False
        self._fired = True
        return True
