"""What trials test Raft with."""

from quorate.protocols.raft.invariants import RaftInvariants
from quorate.protocols.raft.messages import RaftConfig
from quorate.protocols.raft.mutants import MUTANTS
from quorate.sim.equipment import Equipment

EQUIPMENT = Equipment(
    simulation=RaftConfig(
        message_entries_max=16,
        message_bytes_max=4096,
        inflight_messages_max=8,
        inflight_bytes_max=16384,
        snapshot_entries=60,
        keep_entries=10,
        chunk_bytes=256,
    ),
    invariants=(RaftInvariants,),
    mutants=MUTANTS,
)
