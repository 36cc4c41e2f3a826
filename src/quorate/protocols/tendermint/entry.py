"""Tendermint in the REGISTRY."""

from quorate.protocols.entry import ProtocolEntry
from quorate.protocols.tendermint.app_chain import AppChain
from quorate.protocols.tendermint.core import Tendermint
from quorate.protocols.tendermint.messages import TendermintConfig
from quorate.protocols.traits import SIGNED_BYZANTINE

ENTRY = ProtocolEntry(
    name="tendermint",
    title="Tendermint",
    core=Tendermint,
    config=TendermintConfig,
    tolerates="lies of any f of 3f + 1 nodes, with less than a third of the power, and crashes of as many",
    traits=SIGNED_BYZANTINE,
    app_core=AppChain,
    genesis_option="genesis_s",
    equipment="quorate.protocols.tendermint.equipment",
)
