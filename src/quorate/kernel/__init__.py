"""The kernel: the one interface between a protocol's rules and whatever runs them.

A protocol is a Core that writes verbs into its Env. A Host owns a tree of cores and turns inputs into Turns, which are
plain values. Shells (the simulated World, the real Node) act on Turns, and the Barrier holds back what must not leave
before it is durable. Pure: standard library and msgspec, no clock, no chance, no I/O.
"""

from quorate.kernel.app import App, Client, Port
from quorate.kernel.barrier import Barrier
from quorate.kernel.core import Core
from quorate.kernel.env import Env, Rng
from quorate.kernel.host import Host, Stepped
from quorate.kernel.ids import NODE_ID_MAX, ROOT, Key, Name, NodeId, Path, mask_of, nodes_of
from quorate.kernel.inputs import Asked, Done, Failed, Fired, Input, Received, Stalled, Submitted
from quorate.kernel.turn import Blame, Job, Record, Send, Timer, Turn

__all__ = [
    "NODE_ID_MAX",
    "ROOT",
    "App",
    "Asked",
    "Barrier",
    "Blame",
    "Client",
    "Core",
    "Done",
    "Env",
    "Failed",
    "Fired",
    "Host",
    "Input",
    "Job",
    "Key",
    "Name",
    "NodeId",
    "Path",
    "Port",
    "Received",
    "Record",
    "Rng",
    "Send",
    "Stalled",
    "Stepped",
    "Submitted",
    "Timer",
    "Turn",
    "mask_of",
    "nodes_of",
]
