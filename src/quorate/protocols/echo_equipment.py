"""What trials test Echo with. It has no checker of its inner state: its first node's log is the truth, and no other
node decides, so that agreement of the logs says all there is."""

from msgspec.structs import replace

from quorate.protocols.echo import EchoConfig
from quorate.sim.equipment import Equipment

SIMULATION = EchoConfig(message_entries_max=3, message_bytes_max=120, pending_max=8)

EQUIPMENT = Equipment(
    simulation=SIMULATION,
    one_by_one=replace(SIMULATION, message_entries_max=2),  # one a trip takes minutes on slow links
    kinds=("delays",),  # it cannot do without its first node
)
