"""Multi-Paxos: ``core.py`` joins the roles, each of which has a file of its own."""

from quorate.protocols.multipaxos.core import MultiPaxos
from quorate.protocols.multipaxos.messages import MultiPaxosConfig

__all__ = ["MultiPaxos", "MultiPaxosConfig"]
