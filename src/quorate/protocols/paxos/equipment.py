"""What trials test Paxos with."""

from quorate.parts.slots import SlotsConfig
from quorate.protocols.paxos.invariants import PaxosInvariants
from quorate.protocols.paxos.messages import PaxosConfig
from quorate.protocols.paxos.mutants import MUTANTS
from quorate.protocols.paxos.replicated import PaxosLogConfig
from quorate.sim.equipment import Equipment

EQUIPMENT = Equipment(
    simulation=PaxosLogConfig(
        slots=SlotsConfig(window=4, message_entries_max=16, message_bytes_max=4096, pending_max=64),
        paxos=PaxosConfig(ask_s=None),
    ),
    spares_nodes=True,
    invariants=(PaxosInvariants,),
    mutants=MUTANTS,
)
