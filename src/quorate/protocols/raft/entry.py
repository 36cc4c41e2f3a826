"""Raft in the REGISTRY."""

from quorate.protocols.entry import Entry
from quorate.protocols.raft import Raft, RaftConfig

ENTRY = Entry(
    name="raft",
    title="Raft",
    core=Raft,
    config=RaftConfig,
    tolerates="crashes of any f of 2f + 1 nodes",
    equipment="quorate.protocols.raft.equipment",
)
