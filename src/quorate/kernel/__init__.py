"""The kernel: the one interface between a protocol's rules and whatever runs them.

A protocol is a Core that writes verbs into its Env. A Host owns a tree of cores and turns inputs into Turns, which are
plain values. A Shell acts on Turns in the one right order, by way of a Machine (the simulated node, the real one), and
the Barrier holds back what must not leave before it is durable. Pure: standard library and msgspec, no clock, no
chance, no I/O.
"""

from quorate.kernel.app import App, AppEnded, Port, Requester, StateDamaged, StateMark
from quorate.kernel.barrier import Barrier
from quorate.kernel.core import Core
from quorate.kernel.env import Chance, Env, Rng
from quorate.kernel.host import Host
from quorate.kernel.ids import NODE_ID_MAX, ROOT, Key, Name, NodeId, Path, mask_of, nodes_of
from quorate.kernel.inputs import (
    Asked,
    Done,
    Failed,
    Fired,
    Handed,
    HandOver,
    HungUp,
    Input,
    Met,
    Misbehaved,
    Parted,
    Received,
    Stalled,
    Submitted,
    Unmet,
)
from quorate.kernel.parking import ParkingLimits
from quorate.kernel.replay import Began, Known, Settled, Spawned, Started, Stepped, seed_in
from quorate.kernel.roster import Roster
from quorate.kernel.shell import Machine, Shell
from quorate.kernel.standing import Standing
from quorate.kernel.turn import Blame, Job, Meet, Output, Part, Record, RosterChange, Send, Timer, Turn

__all__ = [
    "NODE_ID_MAX",
    "ROOT",
    "App",
    "AppEnded",
    "Asked",
    "Barrier",
    "Began",
    "Blame",
    "Chance",
    "Core",
    "Done",
    "Env",
    "Failed",
    "Fired",
    "HandOver",
    "Handed",
    "Host",
    "HungUp",
    "Input",
    "Job",
    "Key",
    "Known",
    "Machine",
    "Meet",
    "Met",
    "Misbehaved",
    "Name",
    "NodeId",
    "Output",
    "ParkingLimits",
    "Part",
    "Parted",
    "Path",
    "Port",
    "Received",
    "Record",
    "Requester",
    "Rng",
    "Roster",
    "RosterChange",
    "Send",
    "Settled",
    "Shell",
    "Spawned",
    "Stalled",
    "Standing",
    "Started",
    "StateDamaged",
    "StateMark",
    "Stepped",
    "Submitted",
    "Timer",
    "Turn",
    "Unmet",
    "mask_of",
    "nodes_of",
    "seed_in",
]
