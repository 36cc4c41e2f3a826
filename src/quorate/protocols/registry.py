"""REGISTRY: the protocols, by name. A new one is a file or a folder, and one line here.

Everything that runs protocols (simulator, cluster, conformance tests) finds them here and knows no other way. A module
is imported when its protocol is first used; its names can be listed without.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from importlib import import_module
from typing import Final

from quorate.protocols.entry import ProtocolEntry

HOMES: Final = {
    "raft": "quorate.protocols.raft.entry",
    "multipaxos": "quorate.protocols.multipaxos.entry",
    "paxos": "quorate.protocols.paxos.entry",
    "pbft": "quorate.protocols.pbft.entry",
    "echo": "quorate.protocols.echo",
    "tendermint": "quorate.protocols.tendermint.entry",
    "vote": "quorate.protocols.vote",
}
"""Name to the module whose ENTRY it is."""


class Registry(MutableMapping[str, ProtocolEntry]):
    """Name to entry. ``homes`` says where the entries are that have not been used yet; others can be added."""

    def __init__(self, homes: Mapping[str, str]) -> None:
        self._homes = dict(homes)
        self._entries: dict[str, ProtocolEntry] = {}

    def __getitem__(self, name: str) -> ProtocolEntry:
        entry = self._entries.get(name)
        if entry is None:
            entry = self._entries[name] = _load(name, self._homes[name])
        return entry

    def __setitem__(self, name: str, entry: ProtocolEntry) -> None:
        self._homes.setdefault(name, "")
        self._entries[name] = entry

    def __delitem__(self, name: str) -> None:
        del self._homes[name]
        self._entries.pop(name, None)

    def __contains__(self, name: object) -> bool:
        return name in self._homes

    def __iter__(self) -> Iterator[str]:
        return iter(self._homes)

    def __len__(self) -> int:
        return len(self._homes)

    def with_apps(self) -> str:
        """Those that drive ABCI apps, as a text has them: ``one or another``."""
        return " or ".join(name for name, entry in self.items() if entry.app_core is not None)


def _load(name: str, home: str) -> ProtocolEntry:
    entry: ProtocolEntry = import_module(home).ENTRY
    assert entry.name == name, f"{home} has the entry of {entry.name}, not of {name}"
    return entry


REGISTRY: Final = Registry(HOMES)
