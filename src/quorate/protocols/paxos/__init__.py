"""Paxos: ``roles.py`` has the rules, ``core.py`` joins them in one node, ``messages.py`` says what travels."""

from quorate.protocols.paxos.core import Paxos
from quorate.protocols.paxos.messages import PaxosConfig

__all__ = ["Paxos", "PaxosConfig"]
