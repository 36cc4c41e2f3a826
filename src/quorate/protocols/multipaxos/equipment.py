"""What trials test Multi-Paxos with."""

from msgspec.structs import replace

from quorate.protocols.multipaxos.invariants import MultiPaxosInvariants
from quorate.protocols.multipaxos.messages import MultiPaxosConfig
from quorate.protocols.multipaxos.mutants import MUTANTS
from quorate.sim.equipment import Equipment

SIMULATION = MultiPaxosConfig(
    message_entries_max=16,
    message_bytes_max=4096,
    inflight_messages_max=8,
    inflight_bytes_max=16384,
    snapshot_entries=60,
    keep_entries=10,
    chunk_bytes=256,
    alpha=24,
)

EQUIPMENT = Equipment(
    simulation=SIMULATION,
    one_by_one=replace(SIMULATION, message_entries_max=1),
    spares_nodes=True,
    takes_snapshots=True,
    invariants=(MultiPaxosInvariants,),
    mutants=MUTANTS,
)
