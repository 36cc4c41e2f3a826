"""Roster: whom a node knows. One object a Host, which its Envs look at, so that ``env.peers`` is live.

A *closed* roster has members, itself among them, whose numbers all members agree on. A core meets and parts from them
as its protocol decides; what a member that has left still sends is dropped, what a stranger sends is blamed.
An *open* roster has links to strangers. They come and go; a number is a link's, is valid in this process alone and is
used again. This node itself is number 0 and no peer. Misbehaviour is reported to the cores, which keep scores.

A subtree by inputs has a roster of its own, which follows the Host's but for the time of a replay (``replay.py``).
"""

from collections.abc import Iterable

from quorate.kernel.turn import Meet, Part, RosterChange

SELF = 0
"""This node's own number in an open roster."""


class Roster:
    """``peers`` are the nodes that can be sent to, ascending; ``others`` are these without this node itself.

    ``members`` are the same as a set. ``incarnation``: as ``Env.incarnation``.
    """

    __slots__ = ("_meets", "_parts", "incarnation", "is_open", "members", "node", "others", "peers")

    def __init__(self, node: int, peers: Iterable[int], *, is_open: bool = False, incarnation: bytes = b"") -> None:
        self.node = node
        self.incarnation = incarnation
        self.is_open = is_open
        self._meets: dict[int, Meet] = {}
        self._parts: dict[int, Part] = {}
        self.replace(peers)

    def add(self, node: int) -> None:
        """A link is there."""
        self.replace((*self.peers, node))

    def remove(self, node: int) -> None:
        """A link is gone."""
        self.replace(peer for peer in self.peers if peer != node)

    def replace(self, peers: Iterable[int]) -> None:
        """Know these and no others."""
        self.members = frozenset(peers)
        self.peers = tuple(sorted(self.members))
        self.others = tuple(peer for peer in self.peers if peer != self.node)

    def change(self, change: RosterChange) -> None:
        """What a core decides about a closed roster."""
        if isinstance(change, Meet):
            assert change.node is not None, f"{change} has no number: members of a closed roster have one"
            self._meets[change.node] = change
            self._parts.pop(change.node, None)
            self.add(change.node)
        else:
            assert change.node != self.node, "a node does not part from itself"
            self._parts[change.node] = change
            self._meets.pop(change.node, None)
            self.remove(change.node)

    def has_left(self, node: int) -> bool:
        """Whether a core parted from this node; what it still says is late, not wrong."""
        return node in self._parts

    def changes(self) -> tuple[RosterChange, ...]:
        """All that differs from the roster as it was given, for the shell of a node that has recovered."""
        return (*self._parts.values(), *self._meets.values())
