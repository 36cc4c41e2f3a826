"""The checkers of a protocol's inner state, by the name that its REGISTRY entry gives."""

from collections.abc import Callable

from quorate.sim.checkers.base import Checker
from quorate.sim.checkers.paxos import MultiPaxosInvariants, PaxosInvariants
from quorate.sim.checkers.pbft import PbftInvariants
from quorate.sim.checkers.raft import RaftInvariants

INVARIANTS: dict[str, Callable[[], Checker]] = {
    "raft": RaftInvariants,
    "paxos": PaxosInvariants,
    "multipaxos": MultiPaxosInvariants,
    "pbft": PbftInvariants,
}


def invariants(name: str) -> list[Checker]:
    """Fresh checkers; none for the empty name. Raises KeyError for one that is not known."""
    return [INVARIANTS[name]()] if name else []
