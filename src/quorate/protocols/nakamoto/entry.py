"""Nakamoto in the REGISTRY."""

from quorate.protocols.entry import ProtocolEntry
from quorate.protocols.nakamoto.core import Nakamoto
from quorate.protocols.nakamoto.messages import NakamotoConfig
from quorate.protocols.traits import PROOF_OF_WORK

ENTRY = ProtocolEntry(
    name="nakamoto",
    title="Nakamoto (proof of work)",
    core=Nakamoto,
    config=NakamotoConfig,
    tolerates="lies of nodes with less than half of the hash rate, as long as messages arrive soon, and any crashes",
    traits=PROOF_OF_WORK,
    unserved="its nodes have no miner and no ledger outside of the simulator yet",
    equipment="quorate.protocols.nakamoto.equipment",
)
