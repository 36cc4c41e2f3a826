"""PBFT: ``core.py`` says what it is and where the parts are, ``messages.py`` what travels and what is durable."""

from quorate.protocols.pbft.core import Pbft
from quorate.protocols.pbft.messages import PbftConfig

__all__ = ["Pbft", "PbftConfig"]
