"""Membership: which changes of members a node passes on to the log. The others it refuses, and says why.

How it works. A Reconfigure carries a configuration (``parts/configuration.py``), in an administrator's signed request
where nodes may lie. What can be told without the log is told here, from the node's configuration, which is the same on
every node. The core has the last word.
"""

from __future__ import annotations

import msgspec

from quorate.parts import configuration
from quorate.parts import requests as signed
from quorate.parts.configuration import Voters
from quorate.service.config import NodeConfig


class Membership:
    """The rules of one cluster."""

    def __init__(self, config: NodeConfig) -> None:
        self._entry = config.entry
        self._nodes = tuple(sorted(config.nodes))
        self._options = self._entry.config() if config.options is None else config.options
        self._admins: tuple[bytes, ...] = getattr(self._options, "admins", ())
        self.all = Voters(self._nodes)
        """Who votes where that never changes."""

    def why_not(self, entry: bytes) -> str | None:
        """Why this is not to be submitted; None where it is."""
        name = self._entry.name
        if self._entry.change is None:
            return f"{name} has no membership change yet: its members are all the nodes of the configuration"
        value: bytes | None = entry
        if self._entry.byzantine:
            request = signed.decode(entry)
            value = request.commands[0] if request is not None and len(request.commands) == 1 else None
            if request is not None and request.client not in self._admins:
                where = f"admins in [{name}] of the nodes' configuration"
                return f"this key is no administrator's: {where} names {len(self._admins) or 'none'}"
        change = None if value is None else configuration.decode(value)
        return "this is no change of members" if change is None else self._why_not_these(change.members)

    def _why_not_these(self, members: tuple[int, ...]) -> str | None:
        if strangers := sorted(set(members) - set(self._nodes)):
            return f"there is no node {_list(strangers)}: the nodes of this cluster are {_list(self._nodes)}"
        # Clients go on believing f + 1 equal answers, with the f that all nodes together bear.
        faults = self._entry.faults(len(self._nodes)) if self._entry.byzantine else 0
        if len(members) < (fewest := 3 * faults + 1):
            return f"{len(members)} members are too few: clients expect {faults} that lie, which takes {fewest} or more"
        try:
            msgspec.structs.replace(self._options, members=members)
        except ValueError as error:
            return str(error)
        return None


def _list(nodes: tuple[int, ...] | list[int]) -> str:
    return ", ".join(map(str, nodes))
