"""Paxos in the REGISTRY: a log of one instance a slot."""

from quorate.protocols.entry import ProtocolEntry
from quorate.protocols.paxos import PaxosLog, PaxosLogConfig

ENTRY = ProtocolEntry(
    name="paxos",
    title="Paxos (one instance a slot)",
    core=PaxosLog,
    config=PaxosLogConfig,
    tolerates="crashes of any f of 2f + 1 nodes",
    equipment="quorate.protocols.paxos.equipment",
)
