"""Paxos: ``roles.py`` has the rules, ``core.py`` joins them in one node, ``messages.py`` says what travels.

``replicated.py`` makes a log of it, one instance a slot.
"""

from quorate.protocols.paxos.core import Paxos
from quorate.protocols.paxos.messages import PaxosConfig
from quorate.protocols.paxos.replicated import PaxosLog, PaxosLogConfig

__all__ = ["Paxos", "PaxosConfig", "PaxosLog", "PaxosLogConfig"]
