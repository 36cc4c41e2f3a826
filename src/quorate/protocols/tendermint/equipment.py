"""What trials test Tendermint with."""

from quorate.protocols.tendermint.app_equipment import app_equipment
from quorate.protocols.tendermint.evidence_invariants import EvidenceInvariants
from quorate.protocols.tendermint.evidence_liars import Slandering
from quorate.protocols.tendermint.evidence_mutants import EVIDENCE_MUTANTS
from quorate.protocols.tendermint.invariants import TendermintInvariants
from quorate.protocols.tendermint.liars import LIARS, resign_tendermint
from quorate.protocols.tendermint.messages import TendermintConfig
from quorate.protocols.tendermint.mutants import MUTANTS
from quorate.protocols.tendermint.transfer_invariants import TransferInvariants
from quorate.protocols.tendermint.transfer_liars import TRANSFER_LIARS
from quorate.sim.equipment import Equipment

SIMULATION = TendermintConfig(
    propose_s=0.5,
    prevote_s=0.2,
    precommit_s=0.2,
    further_s=0.1,
    beat_s=0.1,
    batch_count_max=8,
    batch_bytes_max=4096,
    pending_max=256,
    pending_bytes_max=1 << 18,
    snapshot_heights=12,
    snapshot_bytes=1 << 17,
    chunk_bytes=256,
)

EQUIPMENT = Equipment(
    simulation=SIMULATION,
    kinds=("gone", "snapshots", "delays", "clients"),
    variants={
        "snapshots": lambda config, rng, _: config.but(
            chunk_bytes=rng.choice((32, 64, 128)),
            batch_count_max=2,
            snapshot_heights=rng.choice((1, 1, 2, 6)),  # who misses a few heights needs a snapshot, mostly
        )
    },
    takes_snapshots=True,
    invariants=(TendermintInvariants, EvidenceInvariants, TransferInvariants),
    mutants=(*MUTANTS, *EVIDENCE_MUTANTS),
    liars=(*LIARS, *TRANSFER_LIARS, Slandering),
    resign=resign_tendermint,
    with_app=app_equipment(SIMULATION),
)
