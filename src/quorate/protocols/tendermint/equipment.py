"""What trials test Tendermint with."""

from quorate.protocols.tendermint.invariants import TendermintInvariants
from quorate.protocols.tendermint.liars import LIARS, resign_tendermint
from quorate.protocols.tendermint.messages import TendermintConfig
from quorate.protocols.tendermint.mutants import MUTANTS
from quorate.sim.equipment import Equipment

EQUIPMENT = Equipment(
    simulation=TendermintConfig(
        propose_s=0.5,
        prevote_s=0.2,
        precommit_s=0.2,
        further_s=0.1,
        batch_count_max=8,
        batch_bytes_max=4096,
        pending_max=256,
        pending_bytes_max=1 << 18,
    ),
    kinds=("gone", "delays", "clients"),
    invariants=(TendermintInvariants,),
    mutants=MUTANTS,
    liars=LIARS,
    resign=resign_tendermint,
)
