"""Reliable links for protocols in epochs whose papers assume them, over links that lose, double and reorder.

How it works. A core owns an Outbox and spawns its children through it. Their plain ``send`` and ``broadcast`` become
Letters, numbered within the epoch, which the Outbox keeps until every node has left the epoch. Once a beat each node
tells each other the epoch it is in and the numbers it has; what is missing of all that left before a beat that was
answered is sent again. Nothing is sent for epochs that the receiver cannot take yet. A node that needs what is no
longer kept is reported: it must fetch what was decided. See ``outbox.py`` for lives, restarts and limits.
"""

from quorate.parts.reliable.messages import EpochBeat, Letter, Life, ReliableConfig, letter_type
from quorate.parts.reliable.outbox import BEAT, EpochEnv, Outbox

__all__ = ["BEAT", "EpochBeat", "EpochEnv", "Letter", "Life", "Outbox", "ReliableConfig", "letter_type"]
