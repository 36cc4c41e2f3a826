"""Multi-Paxos in the REGISTRY."""

from quorate.parts.log import configuration
from quorate.protocols.entry import ProtocolEntry
from quorate.protocols.multipaxos import MultiPaxos, MultiPaxosConfig
from quorate.protocols.traits import Members, Traits

ENTRY = ProtocolEntry(
    name="multipaxos",
    title="Multi-Paxos",
    core=MultiPaxos,
    config=MultiPaxosConfig,
    tolerates="crashes of any f of 2f + 1 nodes",
    traits=Traits(members=Members(configuration.encode_change)),
    equipment="quorate.protocols.multipaxos.equipment",
)
