"""The protocols. ``registry.py`` knows them by name, and imports one when it is first used."""

from quorate.protocols.entry import ProtocolEntry
from quorate.protocols.registry import REGISTRY

__all__ = ["REGISTRY", "ProtocolEntry"]
