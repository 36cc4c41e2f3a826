"""What trials test Raft with."""

from msgspec.structs import replace

from quorate.protocols.raft.invariants import RaftInvariants
from quorate.protocols.raft.messages import RaftConfig
from quorate.protocols.raft.mutants import MUTANTS
from quorate.sim.equipment import Equipment
from quorate.sim.shells import HANGS
from quorate.sim.variants import in_pieces, leased

SIMULATION = RaftConfig(
    heartbeat_s=0.1,
    message_entries_max=16,
    message_bytes_max=4096,
    inflight_messages_max=8,
    inflight_bytes_max=16384,
    snapshot_entries=60,
    keep_entries=10,
    chunk_bytes=256,
    hold_bytes_max=16384,
)

EQUIPMENT = Equipment(
    simulation=SIMULATION,
    one_by_one=replace(SIMULATION, message_entries_max=1),
    kinds=("gone", "members", "snapshots", "leases", "delays", "stops", "transfers", "hang-ups"),
    variants={"snapshots": in_pieces, "leases": leased},
    takes_snapshots=True,
    invariants=(RaftInvariants,),
    mutants=(*MUTANTS, *HANGS),
)
