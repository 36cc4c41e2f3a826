"""What trials test Paxos with."""

from msgspec.structs import replace

from quorate.parts.slots import SlotsConfig
from quorate.protocols.paxos.invariants import PaxosInvariants
from quorate.protocols.paxos.messages import PaxosConfig
from quorate.protocols.paxos.mutants import MUTANTS
from quorate.protocols.paxos.replicated import PaxosLogConfig
from quorate.sim.equipment import Equipment
from quorate.sim.variants import drawn_choice, spared

EQUIPMENT = Equipment(
    simulation=PaxosLogConfig(
        slots=SlotsConfig(window=4, message_entries_max=16, message_bytes_max=4096, pending_max=64),
        paxos=PaxosConfig(ask_s=None),
    ),
    kinds=("gone", "quorums", "delays"),
    spared=lambda config, members: spared(config.paxos.quorum, members),
    variants={
        "quorums": lambda config, rng, nodes: replace(
            config, paxos=replace(config.paxos, quorum=drawn_choice(rng, nodes))
        )
    },
    invariants=(PaxosInvariants,),
    mutants=MUTANTS,
)
