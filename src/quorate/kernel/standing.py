"""Standing: where a core stands, by its own account. For status pages, and for whoever aims faults at leaders."""

from typing import Final

import msgspec

LEADER: Final = "leader"
FOLLOWER: Final = "follower"
LEARNER: Final = "learner"
"""One that does not vote."""
WITNESS: Final = "witness"
"""One that votes and keeps no state."""


class Standing(msgspec.Struct, frozen=True, gc=False):
    """One core at one moment. It is what a node believes, which may be out of date."""

    role: str = ""
    """In its protocol's own word, such as ``candidate``; empty: the protocol has no roles."""
    leader: int | None = None
    """The node that leads, or that values are best submitted at; None: nobody is known to."""
    term: int = 0
    """Of the leader: what its paper counts, be it a term, a view or a ballot's round. 0: it counts nothing."""
    commit_index: int | None = None
    """Up to where the log is known to be committed, from 1 on; None: the core does not say."""
    note: str = ""
    """What else an operator should know of it now, in words that follow the node's name, such as "fetches a snapshot";
    empty: nothing."""

    @property
    def was_elected(self) -> bool:
        """Whether this node leads by an election; not one whose turn it simply is."""
        return self.role == LEADER and self.term > 0
