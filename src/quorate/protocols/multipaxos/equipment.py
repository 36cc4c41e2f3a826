"""What trials test Multi-Paxos with."""

from msgspec.structs import replace

from quorate.protocols.multipaxos.invariants import MultiPaxosInvariants
from quorate.protocols.multipaxos.messages import MultiPaxosConfig
from quorate.protocols.multipaxos.mutants import MUTANTS
from quorate.sim.equipment import Equipment
from quorate.sim.shells import HANGS
from quorate.sim.variants import drawn_choice, in_pieces, leased, spared

SIMULATION = MultiPaxosConfig(
    heartbeat_s=0.1,
    message_entries_max=16,
    message_bytes_max=4096,
    inflight_messages_max=8,
    inflight_bytes_max=16384,
    snapshot_entries=60,
    keep_entries=10,
    chunk_bytes=256,
    hold_bytes_max=16384,
    alpha=24,
)

EQUIPMENT = Equipment(
    simulation=SIMULATION,
    one_by_one=replace(SIMULATION, message_entries_max=1),
    kinds=("gone", "members", "snapshots", "leases", "quorums", "delays", "stops", "transfers", "hang-ups"),
    spared=lambda config, members: spared(config.quorum, members),
    variants={
        "snapshots": in_pieces,
        "leases": leased,
        "quorums": lambda config, rng, nodes: replace(config, quorum=drawn_choice(rng, nodes)),
    },
    takes_snapshots=True,
    invariants=(MultiPaxosInvariants,),
    mutants=(*MUTANTS, *HANGS),
)
