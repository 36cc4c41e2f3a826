"""Ballot: Lamport's proposal number, a round and the node that uses it, so that no two nodes ever use the same."""

from typing import TypeAlias

from quorate.kernel import NodeId
from quorate.parts.wire import Natural

Ballot: TypeAlias = tuple[Natural, NodeId]
"""Round, then node; compared in that order."""

NO_BALLOT: Ballot = (0, 0)
"""Below every ballot that is used: rounds begin with 1."""
ROUND_MAX = 2**62 - 1
