"""PBFT in the REGISTRY."""

from msgspec.structs import replace

from quorate.parts.log import configuration
from quorate.protocols.entry import ProtocolEntry
from quorate.protocols.pbft import Pbft, PbftConfig
from quorate.protocols.traits import SIGNED_BYZANTINE, Members

ENTRY = ProtocolEntry(
    name="pbft",
    title="PBFT",
    core=Pbft,
    config=PbftConfig,
    tolerates="lies of any f of 3f + 1 nodes, and crashes of as many",
    traits=replace(SIGNED_BYZANTINE, members=Members(configuration.encode_change, by_admin=True)),
    equipment="quorate.protocols.pbft.equipment",
)
