"""Raft: see ``core.py`` for the rules, ``messages.py`` for what travels and what is durable."""

from quorate.protocols.raft.core import Raft
from quorate.protocols.raft.messages import RaftConfig

__all__ = ["Raft", "RaftConfig"]
