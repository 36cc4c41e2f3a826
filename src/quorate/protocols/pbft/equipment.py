"""What trials test PBFT with."""

from msgspec.structs import replace

from quorate.protocols.pbft.epoch_invariants import PbftEpochs
from quorate.protocols.pbft.invariants import PbftInvariants
from quorate.protocols.pbft.led import TWINS_CONFIG, led
from quorate.protocols.pbft.liars import LIARS, resign_pbft
from quorate.protocols.pbft.messages import PbftConfig
from quorate.protocols.pbft.mutants import MUTANTS
from quorate.protocols.pbft.transfer_liars import TRANSFER_LIARS
from quorate.protocols.pbft.work_invariants import PbftWork
from quorate.sim.equipment import Equipment, Led

FAR_BEHIND = {"batch_count_max": 2, "checkpoint_batches": 2, "window": 4, "snapshot_batches": 4}
"""Who misses a few batches needs a snapshot, also where liars leave time for few."""

EQUIPMENT = Equipment(
    simulation=PbftConfig(
        batch_count_max=8,
        batch_bytes_max=4096,
        checkpoint_batches=8,
        window=16,
        snapshot_batches=32,
        snapshot_bytes=16384,
        chunk_bytes=256,
        request_timeout_s=1.0,
        view_timeout_s_max=8.0,
        hold_bytes_max=16384,
    ),
    kinds=("gone", "members", "snapshots", "delays", "clients"),
    variants={  # pieces not too small for the largest states: a transfer has to end while its source keeps the snapshot
        "snapshots": lambda config, rng, _: replace(
            config, chunk_bytes=rng.choice((32, 64, 128)), **(FAR_BEHIND if rng.random() < 0.7 else {})
        )
    },
    takes_snapshots=True,
    invariants=(PbftInvariants, PbftEpochs, PbftWork),
    mutants=MUTANTS,
    liars=(*LIARS, *TRANSFER_LIARS),
    resign=resign_pbft,
    twins=Led(led, TWINS_CONFIG),
)
