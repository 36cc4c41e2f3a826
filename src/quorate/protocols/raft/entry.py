"""Raft in the REGISTRY."""

from quorate.parts.log import configuration
from quorate.protocols.entry import ProtocolEntry
from quorate.protocols.raft import Raft, RaftConfig
from quorate.protocols.traits import Members, Traits

ENTRY = ProtocolEntry(
    name="raft",
    title="Raft",
    core=Raft,
    config=RaftConfig,
    tolerates="crashes of any f of 2f + 1 nodes",
    traits=Traits(members=Members(configuration.encode_change, may_be_witnesses=True)),
    equipment="quorate.protocols.raft.equipment",
)
