"""Raft in the REGISTRY."""

from quorate.protocols.entry import ProtocolEntry
from quorate.protocols.raft import Raft, RaftConfig

ENTRY = ProtocolEntry(
    name="raft",
    title="Raft",
    core=Raft,
    config=RaftConfig,
    tolerates="crashes of any f of 2f + 1 nodes",
    equipment="quorate.protocols.raft.equipment",
)
