"""What trials test Nakamoto with."""

from quorate.protocols.nakamoto.chain_equipment import GENESIS
from quorate.protocols.nakamoto.invariants import NakamotoInvariants
from quorate.protocols.nakamoto.messages import NakamotoConfig
from quorate.protocols.nakamoto.mutants import MUTANTS
from quorate.sim.equipment import Equipment, Usual

SIMULATION = NakamotoConfig(genesis=GENESIS, flush_blocks=5, keep_blocks=400, headers_max=16, bodies_max=4)
SPARING = SIMULATION.but(flush_blocks=2, keep_blocks=40, headers_max=2, bodies_max=1)
"""Peers answer in many messages, and all but the newest blocks are with the store."""

EQUIPMENT = Equipment(
    usual=Usual(nodes=16, duration_s=60.0, workload="payments"),
    simulation=SIMULATION,
    one_by_one=SPARING,
    kinds=("gone", "delays", "hang-ups"),
    invariants=(NakamotoInvariants,),
    mutants=MUTANTS,
)
"""A run is longer than others: there is a block each second, and what forks takes several of them to settle."""
